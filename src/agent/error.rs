//! What can go wrong with the agent and with the scripts that drive it.
//!
//! The main type is [`AgentError`].

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::script::tail;

/// An error of the agent's driver.
///
/// Texts that come from a program or a host are bounded and hold no control characters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The host's shell did not run the script: restricted or refused logins and forced commands end here.
    #[error("the host's shell did not run our script, it said: {said:?}")]
    NoAnswer {
        /// The end of what came instead.
        said: String,
    },
    /// The script's answer began and did not end.
    #[error("the host's answer was cut")]
    AnswerCut,
    /// The script's answer is longer than any true one.
    #[error("the host's answer is longer than {limit} bytes")]
    AnswerTooLong {
        /// The bound in bytes.
        limit: usize,
    },
    /// A field of an answer is missing or is not what it must be.
    #[error("the host's answer has no usable {field:?}")]
    AnswerField {
        /// The field's name.
        field: String,
    },
    /// A value cannot be a parameter, for a control character, its length or its form.
    #[error("{what} {value:?} cannot be used: {reason}")]
    Parameter {
        /// What the value is.
        what: &'static str,
        /// The value, shortened.
        value: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// A file of a job's remote directory cannot be read as what it must be.
    #[error("the job's file {name:?} is damaged: {reason}")]
    Record {
        /// The file's name in the job's directory.
        name: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The job was written by a newer version.
    #[error("the job's file {name:?} has protocol {found}, and this version knows {known}")]
    Newer {
        /// The file's name in the job's directory.
        name: &'static str,
        /// The version found.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// What is in the job's directory cannot be seen just now, which says nothing of the job: a file system that is not
    /// mounted, or a directory that cannot be entered.
    #[error("the job's directory on the host cannot be seen just now: {reason}")]
    JobAway {
        /// Why.
        reason: &'static str,
    },
    /// The host still exports the result for somebody else, or for an earlier question whose answer was lost.
    #[error("the host is still exporting the result")]
    ExportBusy,
    /// The local program was not found.
    #[error("opencode was not found on this machine")]
    LocalMissing {
        /// Why.
        #[source]
        source: which::Error,
    },
    /// The configured local program is not there.
    #[error("there is no opencode at {}", path.display())]
    LocalNotThere {
        /// Where it should be.
        path: PathBuf,
    },
    /// The local program could not be started.
    #[error("cannot start {}", program.display())]
    LocalStart {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The directory that the local program is to run in is missing.
    #[error("the directory {} is not there", path.display())]
    LocalDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// The local program ended with an error.
    #[error("opencode {command} failed ({status}){}", after_colon(said))]
    LocalFailed {
        /// The subcommand.
        command: &'static str,
        /// Its exit status, for a person.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// The local program took too long and was ended.
    #[error("opencode {command} did not end within {} s", limit.as_secs())]
    LocalTimeout {
        /// The subcommand.
        command: &'static str,
        /// The deadline.
        limit: Duration,
    },
    /// The local program answered something that cannot be read.
    #[error("opencode {command} gave an answer that cannot be read")]
    LocalAnswer {
        /// The subcommand.
        command: &'static str,
        /// Why.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// The local program ended without saying that it imported the session.
    #[error(
        "opencode import did not confirm the session {session}{}",
        after_colon(said)
    )]
    ImportUnconfirmed {
        /// The session's id.
        session: String,
        /// The end of what it said.
        said: String,
    },
    /// An argument holds characters that a Windows command script would act upon.
    #[error("{argument:?} cannot be passed to {}: it is a command script", program.display())]
    UnsafeArgument {
        /// The argument.
        argument: String,
        /// The program.
        program: PathBuf,
    },
    /// A Windows command script cannot work in this directory, a network path most often.
    #[error("{} is a command script, which cannot work in {}", program.display(), path.display())]
    UnsafeDirectory {
        /// The directory.
        path: PathBuf,
        /// The program.
        program: PathBuf,
    },
    /// A local file could not be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What a program said, where it said something.
fn after_colon(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!(": {said}")
    }
}

impl AgentError {
    /// Adds what the command wrote to its error output, where a shell that refuses often says why; only
    /// [`NoAnswer`](Self::NoAnswer) that holds no text yet takes it.
    #[must_use]
    pub fn with_stderr(self, stderr: &[u8]) -> Self {
        match self {
            Self::NoAnswer { said } if said.is_empty() => Self::NoAnswer {
                said: tail(stderr, 300),
            },
            other => other,
        }
    }
}
