//! What a launch answered.

use super::{AgentError, ScriptCall, Started};

/// The answer to [`JobCall::launch`](super::JobCall::launch).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaunchAnswer {
    /// The runner runs, or has run: this call started it, or an earlier one with the same nonce did.
    Started(Started),
    /// A file is missing or not whole; nothing was launched.
    Incomplete {
        /// The file's name in the job's directory.
        file: String,
    },
    /// Nothing could be written there; nothing was launched.
    Unwritable,
    /// Another launch holds the claim.
    Taken,
    /// The job was settled as never launched; it never will be.
    Tombstone,
    /// The host has as many live jobs as it may have; this one is closed.
    Full {
        /// How many others there are.
        count: u64,
    },
    /// The claim is held and the runner has not said that it started.
    Unknown,
    /// The job's directory is not there.
    Missing,
}

impl LaunchAnswer {
    /// Reads the answer to a launch.
    ///
    /// # Errors
    /// Those of [`ScriptCall::answer`] and of [`Started::parse`]; after any of them the launch may have happened, and
    /// only the job's directory tells.
    pub fn parse(call: &ScriptCall, stdout: &[u8]) -> Result<Self, AgentError> {
        let answer = call.answer(stdout)?;
        if answer.text("missing").is_some() {
            return Ok(Self::Missing);
        }
        match answer.required("launch")?.as_str() {
            "started" => Ok(Self::Started(Started::parse(
                &answer.file("started").unwrap_or_default(),
            )?)),
            "incomplete" => Ok(Self::Incomplete {
                file: answer.text("what").unwrap_or_default(),
            }),
            "unwritable" => Ok(Self::Unwritable),
            "taken" => Ok(Self::Taken),
            "tombstone" => Ok(Self::Tombstone),
            "full" => Ok(Self::Full {
                count: answer.number("count").unwrap_or_default(),
            }),
            "unknown" => Ok(Self::Unknown),
            _ => Err(AgentError::AnswerField {
                field: "launch".to_owned(),
            }),
        }
    }
}
