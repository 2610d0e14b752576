//! What is kept of a job on this machine.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{
    Attributes, Bounds, Evidence, JobId, JobKind, Mode, PhaseSeen, State, Usage, end_evidence,
};
use crate::agent::{Exit, JobTerms};
use crate::hosts::HostName;
use crate::session::SessionId;
use crate::ssh::RemotePath;

/// The version of the record's form; a record with a newer one is refused, never rewritten.
pub const RECORD_VERSION: u32 = 2;

/// Why a job counts as failed whose agent ended well and has done nothing.
const NO_ANSWER: &str = "the agent ended without an answer";

/// The longest prompt preview, in characters.
const PREVIEW_LIMIT: usize = 160;

/// A job's record: an index entry of the remote job directory, which is the truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// [`RECORD_VERSION`] of the program that wrote it.
    pub version: u32,
    /// The job.
    pub id: JobId,
    /// Where it runs.
    pub host: HostName,
    /// Whether a session was handed over or made there.
    #[serde(default)]
    pub kind: JobKind,
    /// The session: the one that was handed over, or the one that a spawned job has made, once that is known.
    pub session: Option<SessionId>,
    /// The session whose agent asked for the job, if one did.
    #[serde(default)]
    pub parent: Option<SessionId>,
    /// The title asked for.
    #[serde(default)]
    pub title: Option<String>,
    /// The beginning of what the agent was told, on one line.
    #[serde(default)]
    pub prompt: Option<String>,
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
    /// The agent's exit code, once it has ended by itself.
    #[serde(default)]
    pub exit_code: Option<u8>,
    /// The signal that ended the agent, where one did.
    #[serde(default)]
    pub signal: Option<u8>,
    /// The beginning of the agent's last text, once the job has ended.
    #[serde(default)]
    pub result: Option<String>,
    /// Follow-up messages that nobody read.
    #[serde(default)]
    pub undelivered: u32,
    /// The session that a spawned job made was imported on this machine.
    #[serde(default)]
    pub imported: bool,
    /// What was counted of its events.
    #[serde(default)]
    pub usage: Usage,
    /// What is tolerated of it.
    #[serde(default)]
    pub bounds: Bounds,
    /// What is odd about it, as last seen.
    #[serde(default)]
    pub attributes: Attributes,
    /// The phase in which its runner was last seen.
    #[serde(default)]
    pub phase: Option<PhaseSeen>,
    /// What it left was fetched, and held nothing new of the agent.
    #[serde(default)]
    pub nothing_new: bool,
    /// What a reader of its result must know first: that the agent went round in circles, or was ended for something.
    #[serde(default)]
    pub notice: Option<String>,
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
    /// A new job, [`State::Preparing`] from now on.
    #[must_use]
    pub fn new(
        kind: JobKind,
        host: HostName,
        session: Option<SessionId>,
        mode: Mode,
        local_directory: PathBuf,
    ) -> Self {
        Self {
            version: RECORD_VERSION,
            id: JobId::generate(),
            host,
            kind,
            session,
            parent: None,
            title: None,
            prompt: None,
            mode,
            state: State::Preparing,
            directory: None,
            agent: None,
            model: None,
            local_directory,
            forget: false,
            remote: None,
            sent: None,
            history: vec![Transition {
                state: State::Preparing,
                at_ms: now_ms(),
            }],
            error: None,
            collected_ms: None,
            cleaned_ms: None,
            exit_code: None,
            signal: None,
            result: None,
            undelivered: 0,
            imported: false,
            usage: Usage::default(),
            bounds: Bounds::default(),
            attributes: Attributes::default(),
            phase: None,
            nothing_new: false,
            notice: None,
            sender: None,
        }
    }

    /// The beginning of a message on one line, for [`JobRecord::prompt`]; nothing of a blank one.
    #[must_use]
    pub fn preview(message: &str) -> Option<String> {
        let mut words = message.split_whitespace();
        let mut preview = words.next()?.to_owned();
        for word in words {
            if preview.len() > 4 * PREVIEW_LIMIT {
                break;
            }
            preview.push(' ');
            preview.push_str(word);
        }
        if let Some((cut, _)) = preview.char_indices().nth(PREVIEW_LIMIT) {
            preview.truncate(cut);
            preview.push('…');
        }
        Some(preview)
    }

    /// What at most one live job can hold: the session that moved, or the job itself where it makes its own. What that
    /// one is called comes from the host, which has no say in what may be handed over here.
    #[must_use]
    pub fn session_key(&self) -> &str {
        match &self.session {
            Some(session) if self.kind == JobKind::Handoff => session.as_str(),
            _ => self.id.as_str(),
        }
    }

    /// When the job entered the state in which it is, in milliseconds since 1970.
    #[must_use]
    pub fn entered_ms(&self) -> u64 {
        self.history.last().map_or(0, |last| last.at_ms)
    }

    /// Milliseconds from its record to its end, or to now.
    #[must_use]
    pub fn duration_ms(&self) -> u64 {
        let end = if self.state.is_live() {
            now_ms()
        } else {
            // What follows the first end (a collection that turns it into another) is no work of the job.
            self.history
                .iter()
                .find(|entry| !entry.state.is_live())
                .map_or_else(now_ms, |end| end.at_ms)
        };
        end.saturating_sub(self.created_ms())
    }

    /// Notes that the job's runner has ended as this says: its numbers, what nobody read, and why it ended, where that
    /// needs a word; what was odd about the running job is over. True when that changed the state or what was odd.
    ///
    /// The job's events must have been counted before: an agent of whom nothing was heard has failed, however well it
    /// ended, unless there is more of its log than was read ([`Usage::partial`]).
    pub fn end(&mut self, exit: &Exit, reason: Option<String>) -> bool {
        self.note_exit(exit);
        let (evidence, reason) = match end_evidence(exit) {
            Evidence::Ended {
                success: true,
                result,
            } if !self.usage.partial && !self.usage.shows_answer() => {
                let evidence = Evidence::Ended {
                    success: false,
                    result,
                };
                (evidence, reason.or_else(|| Some(NO_ANSWER.to_owned())))
            }
            evidence => (evidence, reason),
        };
        if reason.is_some() {
            self.error = reason;
        }
        self.note(evidence)
    }

    fn note_exit(&mut self, exit: &Exit) {
        self.signal = exit.signal();
        self.exit_code = exit.code.filter(|_| self.signal.is_none());
        self.undelivered = exit.undelivered;
        self.result.clone_from(&self.usage.last_text);
    }

    /// What goes to the host for whoever takes the job over.
    #[must_use]
    pub fn terms(&self) -> JobTerms {
        JobTerms {
            inactivity_ms: Some(self.bounds.inactivity_ms),
            loop_limit: Some(self.bounds.loop_limit),
            kill_on_stall: self.bounds.kill_on_stall,
            kill_on_loop: self.bounds.kill_on_loop,
            forget: self.forget,
            prompt: self.prompt.clone(),
        }
    }

    /// Takes over what was found on the host; [`terms`](Self::terms) wrote it.
    pub fn set_terms(&mut self, terms: &JobTerms) {
        let default = Bounds::default();
        self.bounds = Bounds {
            inactivity_ms: terms.inactivity_ms.unwrap_or(default.inactivity_ms),
            loop_limit: terms.loop_limit.unwrap_or(default.loop_limit),
            kill_on_stall: terms.kill_on_stall,
            kill_on_loop: terms.kill_on_loop,
        };
        self.forget = terms.forget;
        self.prompt = terms.prompt.as_deref().and_then(Self::preview);
    }

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

    /// Whether the job ended before its host was given anything: there is nothing to ask it for.
    #[must_use]
    pub fn ended_unsent(&self) -> bool {
        self.remote.is_none() && !self.state.is_live() && !self.was_launched()
    }

    /// Whether nothing of the job is needed on its host any more: its session is on this machine. What a spawned job
    /// has made can be looked at any number of times, until it is imported.
    #[must_use]
    pub fn is_brought_home(&self) -> bool {
        self.collected_ms.is_some() && (self.kind == JobKind::Handoff || self.imported)
    }

    /// Whether a result of the ended job may still be on its host.
    #[must_use]
    pub fn is_uncollected(&self) -> bool {
        let ended = matches!(
            self.state,
            State::Completed | State::Failed | State::Killed | State::Unknown
        );
        ended
            && !self.nothing_new
            && self.collected_ms.is_none()
            && self.cleaned_ms.is_none()
            && self.remote.is_some()
            && self.was_launched()
    }

    /// Moves the job to where the evidence says that it is; true when that changed the record.
    ///
    /// A launch that nobody here saw is noted on the way: a job that ended since then has run. Whoever has evidence has
    /// reached the host, and only what runs is watched.
    pub fn note(&mut self, evidence: Evidence) -> bool {
        let (noted, odd) = (self.history.len(), self.attributes);
        let state = self.state.judge(self.mode, evidence);
        if self.state.is_live() && evidence.shows_launch() && !self.was_launched() {
            self.enter(State::Running);
        }
        self.enter(state);
        if self.state == State::Running {
            self.attributes.unreachable = None;
        } else {
            self.attributes = Attributes::default();
        }
        self.history.len() != noted || self.attributes != odd
    }

    /// Notes that the host did not answer; of a job that has ended meanwhile nothing is odd.
    pub fn note_unreachable(&mut self) {
        if self.state.is_live() {
            self.attributes = self.attributes.not_reached(now_ms());
        }
    }

    /// Moves the job into a state and notes when; what was odd about it before is over. Entering the present state again
    /// changes nothing.
    pub fn enter(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            self.attributes = Attributes::default();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_the_first_version_is_read() {
        let old = r#"{"version":1,"id":"j0mi5w3k2q-7f3k9a","host":"box","session":"ses_1","mode":"round-trip",
            "state":"running","directory":null,"agent":"build","model":null,"local_directory":"/home/ada/p",
            "forget":false,"remote":{"job_directory":"/s/jobs/x","work_directory":"/w","opencode":"/o"},
            "sent":{"bytes":3,"sha256":"ab"},"history":[{"state":"preparing","at_ms":5},{"state":"running","at_ms":7}],
            "error":null,"collected_ms":null}"#;
        let record: JobRecord = serde_json::from_str(old).unwrap();
        assert_eq!(record.session_key(), "ses_1");
        assert_eq!(record.kind, JobKind::Handoff);
        assert_eq!(record.bounds, Bounds::default());
        assert_eq!((record.created_ms(), record.entered_ms()), (5, 7));
        let again: JobRecord =
            serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(again, record);
    }

    #[test]
    fn a_preview_is_one_short_line() {
        assert_eq!(
            JobRecord::preview(" Fix\n\tthe   tests "),
            Some("Fix the tests".to_owned())
        );
        assert_eq!(JobRecord::preview(" \n"), None);
        let long = JobRecord::preview(&"ü ".repeat(100_000)).unwrap();
        assert_eq!(long.chars().count(), PREVIEW_LIMIT + 1);
        assert_eq!(
            JobRecord::preview(&"x".repeat(1000))
                .unwrap()
                .chars()
                .count(),
            PREVIEW_LIMIT + 1
        );
    }

    fn spawned() -> JobRecord {
        JobRecord::new(
            JobKind::Spawn,
            "box".parse().unwrap(),
            None,
            Mode::OneWay,
            PathBuf::from("/p"),
        )
    }

    fn exit(reason: &str) -> Exit {
        let text = format!(
            "protocol=1\nphase=exporting\nreason={reason}\ncode=0\nsize=2\nsha256={}\nundelivered=0\nleft=0\n\
             ended_ms=5\nend=1\n",
            "ab".repeat(32)
        );
        Exit::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_odd_ends_with_what_it_was_said_of() {
        let odd = Attributes {
            stalled: Some(1),
            unreachable: Some(2),
            ..Attributes::default()
        };
        let in_state = |mode: Mode, states: &[State]| {
            let mut record = JobRecord { mode, ..spawned() };
            for state in states {
                record.enter(*state);
            }
            JobRecord {
                attributes: odd,
                ..record
            }
        };
        let ended = Evidence::Ended {
            success: true,
            result: true,
        };
        let mut record = in_state(Mode::RoundTrip, &[State::Running]);
        assert!(record.note(Evidence::Alive), "it was reached");
        assert_eq!(record.attributes.names(), ["stalled"]);
        assert!(!record.note(Evidence::Alive));
        assert!(record.note(ended));
        assert_eq!(record.state, State::Returning);
        assert_eq!(record.attributes, Attributes::default());
        // Also what an earlier look has left on one that had ended on its host already.
        let mut record = in_state(Mode::RoundTrip, &[State::Running, State::Returning]);
        assert!(record.note(ended));
        assert_eq!(record.attributes, Attributes::default());
        let mut record = in_state(Mode::OneWay, &[State::Running, State::Killed]);
        record.attributes = Attributes::default();
        record.note_unreachable();
        assert_eq!(record.attributes, Attributes::default());
        let mut record = in_state(Mode::OneWay, &[State::Running]);
        record.enter(State::Failed);
        assert_eq!(record.attributes, Attributes::default());
    }

    #[test]
    fn an_agent_of_whom_nothing_was_heard_has_failed_however_well_it_ended() {
        for mode in [Mode::OneWay, Mode::RoundTrip] {
            let mut record = JobRecord { mode, ..spawned() };
            assert!(record.end(&exit("completed"), None));
            assert_eq!(record.state, State::Failed);
            assert_eq!(record.error.as_deref(), Some(NO_ANSWER));
            let mut record = JobRecord { mode, ..spawned() };
            record.usage.tool_calls = 1;
            record.end(&exit("completed"), None);
            assert_ne!(record.state, State::Failed);
            assert_eq!(record.error, None);
            // What was not read may hold the answer.
            let mut record = JobRecord { mode, ..spawned() };
            record.usage.partial = true;
            record.end(&exit("completed"), None);
            assert_ne!(record.state, State::Failed);
            assert_eq!(record.error, None);
            let mut record = JobRecord { mode, ..spawned() };
            record.end(&exit("killed"), Some("it was killed".to_owned()));
            assert_eq!(record.state, State::Killed);
            assert_eq!(record.error.as_deref(), Some("it was killed"));
        }
    }

    #[test]
    fn a_spawned_job_holds_itself() {
        let (first, mut second) = (spawned(), spawned());
        assert_ne!(first.session_key(), second.session_key());
        second.session = Some("ses_1".parse().unwrap());
        assert_eq!(second.session_key(), second.id.as_str());
    }
}
