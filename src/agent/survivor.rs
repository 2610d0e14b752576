//! Whether a host lets a process live on after its account has logged out.

use super::{AgentError, ScriptCall};

const SURVIVOR_SCRIPT: &str = concat!(
    include_str!("scripts/frame.sh"),
    include_str!("scripts/identity.sh"),
    include_str!("scripts/survivor.sh")
);

/// A detached process that was left behind on a host; it ends by itself after a minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    pid: u32,
    start: String,
}

impl Survivor {
    /// Builds the call that leaves a process behind.
    ///
    /// # Errors
    /// None in practice: there are no parameters to refuse.
    pub fn leave() -> Result<ScriptCall, AgentError> {
        ScriptCall::new(SURVIVOR_SCRIPT, &[("verb", "leave")])
    }

    /// Reads the answer to [`leave`](Self::leave).
    ///
    /// # Errors
    /// Those of [`ScriptCall::answer`], and [`AgentError::AnswerField`].
    pub fn parse(call: &ScriptCall, stdout: &[u8]) -> Result<Self, AgentError> {
        let answer = call.answer(stdout)?;
        let pid = answer.number("pid").and_then(|pid| u32::try_from(pid).ok());
        Ok(Self {
            pid: pid.ok_or_else(|| AgentError::AnswerField {
                field: "pid".to_owned(),
            })?,
            start: answer.required("start")?,
        })
    }

    /// Builds the call that looks whether it lives, and ends it.
    ///
    /// # Errors
    /// [`AgentError::Parameter`] when the host gave a start time that is no line of text.
    pub fn look(&self) -> Result<ScriptCall, AgentError> {
        let pid = self.pid.to_string();
        ScriptCall::new(
            SURVIVOR_SCRIPT,
            &[
                ("verb", "look"),
                ("process id", &pid),
                ("start time", &self.start),
            ],
        )
    }

    /// Reads the answer to [`look`](Self::look).
    ///
    /// # Errors
    /// Those of [`ScriptCall::answer`], and [`AgentError::AnswerField`].
    pub fn parse_look(call: &ScriptCall, stdout: &[u8]) -> Result<bool, AgentError> {
        Ok(call.answer(stdout)?.required("lives")? == "yes")
    }
}
