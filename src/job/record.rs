//! What is kept of a job on this machine.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Evidence, JobId, Mode, State};
use crate::hosts::HostName;
use crate::session::SessionId;
use crate::ssh::RemotePath;

/// The version of the record's form; a record with a newer one is refused, never rewritten.
pub const RECORD_VERSION: u32 = 1;

/// A job's record: an index entry of the remote job directory, which is the truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// [`RECORD_VERSION`] of the program that wrote it.
    pub version: u32,
    /// The job.
    pub id: JobId,
    /// Where it runs.
    pub host: HostName,
    /// The session that was handed over.
    pub session: SessionId,
    /// Whether the session comes back by itself.
    pub mode: Mode,
    /// Where the job is in its life.
    pub state: State,
    /// The work directory as it was asked for; `None` is the host's home.
    pub directory: Option<String>,
    /// The agent asked for.
    pub agent: Option<String>,
    /// The model asked for, `provider/model`.
    pub model: Option<String>,
    /// The session's own directory on this machine.
    pub local_directory: PathBuf,
    /// The host's session is deleted after it came back.
    pub forget: bool,
    /// Where things are on the host; known once the probe has answered.
    pub remote: Option<RemotePlaces>,
    /// What was sent; known before the first byte of it leaves.
    pub sent: Option<SentDocument>,
    /// When the job entered each of its states, in order.
    pub history: Vec<Transition>,
    /// Why the job ended as it did, where that needs a word.
    pub error: Option<String>,
    /// When the result was imported on this machine, in milliseconds since 1970.
    pub collected_ms: Option<u64>,
    /// When the job's files on the host were removed after that, in milliseconds since 1970.
    #[serde(default)]
    pub cleaned_ms: Option<u64>,
    /// The name of the machine that sent the job, where it was not this one: its files on the host are that machine's.
    #[serde(default)]
    pub sender: Option<String>,
}

/// Where a job's things are on its host, resolved once by the probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemotePlaces {
    /// The job directory.
    pub job_directory: RemotePath,
    /// The agent's work directory.
    pub work_directory: RemotePath,
    /// The agent's program.
    pub opencode: RemotePath,
    /// Files travel over an exec channel: SFTP shows another file system there than the shell.
    #[serde(default)]
    pub files_by_exec: bool,
}

/// The document as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentDocument {
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// A state and when it was entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// The state.
    pub state: State,
    /// Milliseconds since 1970, by this machine's clock.
    pub at_ms: u64,
}

impl JobRecord {
    /// When the job was recorded, in milliseconds since 1970.
    #[must_use]
    pub fn created_ms(&self) -> u64 {
        self.history.first().map_or(0, |first| first.at_ms)
    }

    /// Whether the runner was ever seen to start, so that a missing job directory means that it was lost.
    #[must_use]
    pub fn was_launched(&self) -> bool {
        self.history.iter().any(|entry| entry.state.shows_launch())
    }

    /// Whether a result of the ended job may still be on its host.
    #[must_use]
    pub fn is_uncollected(&self) -> bool {
        let ended = matches!(self.state, State::Completed | State::Failed | State::Killed);
        ended
            && self.collected_ms.is_none()
            && self.cleaned_ms.is_none()
            && self.remote.is_some()
            && self.was_launched()
    }

    /// Moves the job to where the evidence says that it is; true when that changed the record.
    ///
    /// A launch that nobody here saw is noted on the way: a job that ended since then has run.
    pub fn note(&mut self, evidence: Evidence) -> bool {
        let noted = self.history.len();
        let state = self.state.judge(self.mode, evidence);
        if self.state.is_live() && evidence.shows_launch() && !self.was_launched() {
            self.enter(State::Running);
        }
        self.enter(state);
        self.history.len() != noted
    }

    /// Moves the job into a state and notes when; entering the present state again changes nothing.
    pub fn enter(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            self.history.push(Transition {
                state,
                at_ms: now_ms(),
            });
        }
    }
}

/// The present time in milliseconds since 1970, by this machine's clock.
#[must_use]
pub fn now_ms() -> u64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
