//! The calls that are made to a job's own script, and the small ones beside it.

use std::time::Duration;

use super::{AgentError, Answer, Exit, Nonce, ScriptCall};
use crate::ssh::RemotePath;

const JOB_SCRIPT: &str = include_str!("scripts/job.sh");
const MODELS_SCRIPT: &str = concat!(
    include_str!("scripts/frame.sh"),
    include_str!("scripts/login_env.sh"),
    include_str!("scripts/models.sh")
);
const CLEAN_SCRIPT: &str = concat!(
    include_str!("scripts/frame.sh"),
    include_str!("scripts/removal.sh"),
    include_str!("scripts/clean.sh")
);

/// Makes the calls to the script in one job's directory.
#[derive(Debug, Clone)]
pub struct JobCall<'a> {
    directory: &'a RemotePath,
}

impl<'a> JobCall<'a> {
    /// For the job whose directory this is.
    #[must_use]
    pub fn new(directory: &'a RemotePath) -> Self {
        Self { directory }
    }

    pub(super) fn verb(&self, verb: &str, argument: &str) -> Result<ScriptCall, AgentError> {
        let directory = self.directory.as_str();
        ScriptCall::new(
            JOB_SCRIPT,
            &[
                ("the job's directory", directory),
                ("verb", verb),
                ("argument", argument),
            ],
        )
    }

    /// Launches the runner and waits for its start, about 10 s at most; read by
    /// [`LaunchAnswer`](super::LaunchAnswer). To be repeated only with the same nonce.
    ///
    /// # Errors
    /// [`AgentError::Parameter`] for an overlong directory; so for every call here.
    pub fn launch(&self, nonce: &Nonce) -> Result<ScriptCall, AgentError> {
        self.verb("launch", nonce.as_str())
    }

    /// Asks what is there; read by [`JobStatus`](super::JobStatus). Changes nothing, but where nobody looks after the
    /// agent of a dead runner any more: that is ended then and exported, by a process that outlives the call.
    ///
    /// # Errors
    /// As for [`launch`](Self::launch).
    pub fn status(&self) -> Result<ScriptCall, AgentError> {
        self.verb("status", "")
    }

    /// Takes the claim of a job that was never launched, for ever; read by
    /// [`Claim::parse_settled`](super::Claim::parse_settled).
    ///
    /// # Errors
    /// As for [`launch`](Self::launch).
    pub fn settle(&self) -> Result<ScriptCall, AgentError> {
        self.verb("settle", "")
    }

    /// Keeps the runner of a job that was claimed and has not started from ever starting; read by [`Burial::parse`]. To
    /// be repeated freely.
    ///
    /// # Errors
    /// As for [`launch`](Self::launch).
    pub fn bury(&self) -> Result<ScriptCall, AgentError> {
        self.verb("bury", "")
    }

    /// Asks for the end of a job: of the agent's family, never of the runner, which exports what there is. Where the
    /// runner is gone, the call itself ends the family and exports. Read by [`KillAnswer::parse`]; to be repeated
    /// freely.
    ///
    /// # Errors
    /// As for [`launch`](Self::launch).
    pub fn kill(&self, why: KillReason, grace: Duration) -> Result<ScriptCall, AgentError> {
        let grace = grace.as_secs().min(KillReason::LONGEST_GRACE.as_secs());
        self.verb("kill", &format!("{} {grace}", why.word()))
    }

    /// For how long an export may give nothing before it is given up: a true one has begun to write long before.
    pub const EXPORT_SILENCE: Duration = Duration::from_secs(140);

    /// Exports again for an ended job that has no result; read by [`parse_export`](Self::parse_export). To be repeated
    /// freely: it waits a minute for another one that is under way. Where nothing comes from the agent for `silence`
    /// (whole seconds), its export is ended.
    ///
    /// # Errors
    /// As for [`launch`](Self::launch).
    pub fn export(&self, silence: Duration) -> Result<ScriptCall, AgentError> {
        self.verb("export", &silence.as_secs().to_string())
    }

    /// Deletes the session from the host's agent; read by [`parse_forget`](Self::parse_forget).
    ///
    /// # Errors
    /// As for [`launch`](Self::launch).
    pub fn forget(&self) -> Result<ScriptCall, AgentError> {
        self.verb("forget", "")
    }

    /// Removes the job's directory, unless its runner lives; read by [`RemoveAnswer::parse`].
    ///
    /// # Errors
    /// As for [`launch`](Self::launch).
    pub fn remove(&self) -> Result<ScriptCall, AgentError> {
        self.verb("remove", "")
    }

    /// Reads the answer to [`export`](Self::export): the new end, or `None` when there is still no result.
    ///
    /// # Errors
    /// Those of [`ScriptCall::answer`] and [`Exit::parse`], and [`AgentError::ExportBusy`].
    pub fn parse_export(call: &ScriptCall, stdout: &[u8]) -> Result<Option<Exit>, AgentError> {
        let answer = call.answer(stdout)?;
        match answer.text("export").as_deref() {
            Some("done") => answer
                .file("exit")
                .map(|content| Exit::parse(&content))
                .transpose(),
            Some("busy") => Err(AgentError::ExportBusy),
            _ => Ok(None),
        }
    }

    /// Reads the answer to [`forget`](Self::forget): nothing, or why it failed. A job whose directory is gone has been
    /// tidied up before, and nothing could ask its agent any more.
    ///
    /// # Errors
    /// Those of [`ScriptCall::answer`].
    pub fn parse_forget(
        call: &ScriptCall,
        stdout: &[u8],
    ) -> Result<Result<(), String>, AgentError> {
        let answer = call.answer(stdout)?;
        if answer.text("missing").is_some() {
            return Ok(Ok(()));
        }
        Ok(done(&answer, "forget"))
    }
}

fn done(answer: &Answer, key: &str) -> Result<(), String> {
    match answer.text(key).as_deref() {
        Some("done") => Ok(()),
        other => Err(answer
            .text("what")
            .or_else(|| other.map(str::to_owned))
            .unwrap_or_default()),
    }
}

/// The answer to [`JobCall::remove`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoveAnswer {
    /// The directory is gone, or was not there.
    Removed,
    /// The runner lives, or may live on another machine.
    Alive,
    /// It could not be removed, and why.
    Failed(String),
}

impl RemoveAnswer {
    /// Reads the answer.
    ///
    /// # Errors
    /// Those of [`ScriptCall::answer`].
    pub fn parse(call: &ScriptCall, stdout: &[u8]) -> Result<Self, AgentError> {
        let answer = call.answer(stdout)?;
        if answer.text("missing").is_some() {
            return Ok(Self::Removed);
        }
        if answer.text("remove").as_deref() == Some("alive") {
            return Ok(Self::Alive);
        }
        Ok(done(&answer, "remove").map_or_else(Self::Failed, |()| Self::Removed))
    }
}

/// The answer to [`JobCall::bury`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Burial {
    /// The runner has not started, and never will.
    Buried,
    /// The runner was faster: it has started, or is about to.
    Started,
    /// Nothing could be written there: it may still start.
    Unwritable,
    /// The job's script is of an older version, which knows no burial: a tombstone in the claim has to do.
    Unknown,
    /// The job's directory is not there, or not its script.
    Missing,
}

impl Burial {
    /// Reads the answer.
    ///
    /// # Errors
    /// Those of [`ScriptCall::answer`], and [`AgentError::AnswerField`].
    pub fn parse(call: &ScriptCall, stdout: &[u8]) -> Result<Self, AgentError> {
        let answer = call.answer(stdout)?;
        if answer.text("missing").is_some() {
            return Ok(Self::Missing);
        }
        if answer.text("refused").is_some() {
            return Ok(Self::Unknown);
        }
        match answer.required("bury")?.as_str() {
            "done" => Ok(Self::Buried),
            "started" => Ok(Self::Started),
            "unwritable" => Ok(Self::Unwritable),
            _ => Err(AgentError::AnswerField {
                field: "bury".to_owned(),
            }),
        }
    }
}

/// Why a job is ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum KillReason {
    /// Somebody asked for it.
    #[default]
    Asked,
    /// Nothing came from the agent for too long.
    Stalled,
    /// The agent went in circles.
    Looping,
}

impl KillReason {
    /// The longest grace period that the runner takes.
    pub const LONGEST_GRACE: Duration = Duration::from_secs(3600);

    fn word(self) -> &'static str {
        match self {
            Self::Asked => "killed",
            Self::Stalled => "stalled",
            Self::Looping => "looping",
        }
    }
}

/// The answer to [`JobCall::kill`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KillAnswer {
    /// The runner has been asked and will end the agent.
    Asked,
    /// The job has ended: before the call, or by it.
    Ended(Exit),
    /// It was never launched, and never will be.
    NeverLaunched,
    /// The host has booted since: there is nothing to end.
    Rebooted,
    /// The job's directory is not there, or not its script.
    Missing,
    /// Nothing could be written there: nobody was asked.
    Unwritable,
}

impl KillAnswer {
    /// Reads the answer.
    ///
    /// # Errors
    /// Those of [`ScriptCall::answer`] and [`Exit::parse`], and [`AgentError::AnswerField`].
    pub fn parse(call: &ScriptCall, stdout: &[u8]) -> Result<Self, AgentError> {
        let answer = call.answer(stdout)?;
        if answer.text("missing").is_some() {
            return Ok(Self::Missing);
        }
        match answer.required("kill")?.as_str() {
            "asked" => Ok(Self::Asked),
            "ended" => Ok(Self::Ended(Exit::parse(
                &answer.file("exit").unwrap_or_default(),
            )?)),
            "never" => Ok(Self::NeverLaunched),
            "reboot" => Ok(Self::Rebooted),
            "unwritable" => Ok(Self::Unwritable),
            _ => Err(AgentError::AnswerField {
                field: "kill".to_owned(),
            }),
        }
    }
}

/// The models that a host's agent knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Models {
    /// Each as `PROVIDER/MODEL`.
    pub names: Vec<String>,
}

impl Models {
    /// Builds the call: `opencode models` in the login environment; `directory` is the one that the check's probe made.
    ///
    /// # Errors
    /// [`AgentError::Parameter`] for an overlong path.
    pub fn call(opencode: &RemotePath, directory: &RemotePath) -> Result<ScriptCall, AgentError> {
        let parameters = [
            ("the path of opencode", opencode.as_str()),
            ("the check's directory", directory.as_str()),
        ];
        ScriptCall::new(MODELS_SCRIPT, &parameters)
    }

    /// Reads the answer; an empty list when the agent failed.
    ///
    /// # Errors
    /// Those of [`ScriptCall::answer`].
    pub fn parse(call: &ScriptCall, stdout: &[u8]) -> Result<Self, AgentError> {
        Ok(Self {
            names: call.answer(stdout)?.texts("model").collect(),
        })
    }
}

/// Removes the directory that a check's probe made.
#[derive(Debug)]
pub struct CheckCleanup;

impl CheckCleanup {
    /// Builds the call; anything but a check's directory is left alone by the script.
    ///
    /// # Errors
    /// [`AgentError::Parameter`] for an overlong path.
    pub fn call(directory: &RemotePath) -> Result<ScriptCall, AgentError> {
        ScriptCall::new(
            CLEAN_SCRIPT,
            &[("the check's directory", directory.as_str())],
        )
    }

    /// Reads the answer: whether it is gone.
    ///
    /// # Errors
    /// Those of [`ScriptCall::answer`].
    pub fn parse(call: &ScriptCall, stdout: &[u8]) -> Result<bool, AgentError> {
        Ok(call.answer(stdout)?.text("removed").is_some())
    }
}
