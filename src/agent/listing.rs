//! Which jobs a host has directories of.
//!
//! The main type is [`JobListing`]. Names are what the host says: whoever uses one checks it first.

use super::{AgentError, ScriptCall};
use crate::ssh::RemotePath;

const LIST_SCRIPT: &str = concat!(
    include_str!("scripts/frame.sh"),
    include_str!("scripts/list.sh")
);

/// The job directories of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobListing {
    /// Their names, control characters replaced.
    pub names: Vec<String>,
    /// There are more than are listed; these are the newest.
    pub more: bool,
}

impl JobListing {
    /// Builds the call; `jobs` is the directory of them all.
    ///
    /// # Errors
    /// [`AgentError::Parameter`] for an overlong path.
    pub fn call(jobs: &RemotePath) -> Result<ScriptCall, AgentError> {
        ScriptCall::new(LIST_SCRIPT, &[("the directory of the jobs", jobs.as_str())])
    }

    /// Reads the answer; empty where there is no such directory.
    ///
    /// # Errors
    /// Those of [`ScriptCall::answer`].
    pub fn parse(call: &ScriptCall, stdout: &[u8]) -> Result<Self, AgentError> {
        let answer = call.answer(stdout)?;
        Ok(Self {
            names: answer.texts("job").collect(),
            more: answer.text("more").is_some(),
        })
    }
}
