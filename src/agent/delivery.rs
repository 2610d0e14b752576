//! The call that gives a follow-up message to a running agent.

use super::{AgentError, JobCall, ScriptCall};

impl JobCall<'_> {
    /// Moves a message that was written to [`names::message`](super::names::message) into the inbox; read by
    /// [`Delivery::parse`]. To be repeated freely with the same name: a message is taken once.
    ///
    /// # Errors
    /// As for [`launch`](Self::launch).
    pub fn say(&self, name: &str) -> Result<ScriptCall, AgentError> {
        self.verb("say", name)
    }
}

/// The answer to [`JobCall::say`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The agent reads it after its present turn, or has read it.
    Taken,
    /// The agent takes nothing any more; the message is gone, and nobody will read it.
    Closed,
    /// The job was not launched: there is no agent, and the message is gone.
    Unlaunched,
    /// The job's directory is not there, or not its script.
    Gone,
    /// There is no such message, and there was none.
    Missing,
}

impl Delivery {
    /// Reads the answer.
    ///
    /// # Errors
    /// Those of [`ScriptCall::answer`], and [`AgentError::AnswerField`].
    pub fn parse(call: &ScriptCall, stdout: &[u8]) -> Result<Self, AgentError> {
        let answer = call.answer(stdout)?;
        if answer.text("missing").is_some() {
            return Ok(Self::Gone);
        }
        match answer.required("say")?.as_str() {
            "taken" => Ok(Self::Taken),
            "closed" => Ok(Self::Closed),
            "unlaunched" => Ok(Self::Unlaunched),
            "missing" => Ok(Self::Missing),
            _ => Err(AgentError::AnswerField {
                field: "say".to_owned(),
            }),
        }
    }
}
