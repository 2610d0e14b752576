//! The driver for opencode: finds it, asks a host about it, and holds the scripts that run it there.
//!
//! On this machine [`LocalAgent`] runs the program. On a host nothing but `/bin/sh` is needed: a [`ScriptCall`] is one
//! exec whose command line is always [`EXEC_COMMAND`] and whose script and parameters go in over its standard input;
//! [`ScriptCall::answer`] finds the framed answer in whatever the login shell printed around it. [`ProbeRequest`]
//! makes the first such call and [`Probe`] is its answer; [`JobSpec`] makes the files of a job; [`JobCall`] launches
//! the runner, asks for its status and removes it; [`Started`], [`Phase`] and [`Exit`] are what the runner writes.
//!
//! The invariants: no value is ever interpolated into a script or a command line, everything read from a host is
//! bounded, and this module speaks no SSH: the layers above carry the bytes.

mod call;
mod continuation;
mod delivery;
mod error;
mod files;
mod identity;
mod launch;
mod listing;
mod local;
mod probe;
mod process;
mod record;
mod script;
mod status;
mod stream;
mod survivor;

#[cfg(all(test, unix))]
mod kill_tests;
#[cfg(all(test, unix))]
mod runner_tests;
#[cfg(all(test, unix))]
mod script_tests;
#[cfg(all(test, unix))]
mod stub;

pub use call::{Burial, CheckCleanup, JobCall, KillAnswer, KillReason, Models, RemoveAnswer};
pub use continuation::{Place, continuation, moved_output};
pub use delivery::Delivery;
pub use error::AgentError;
pub use files::{
    JobFile, JobKind, JobLimits, JobRecord, JobSpec, JobTerms, Mode, names, runner_script,
};
pub use identity::LocalIdentity;
pub use launch::LaunchAnswer;
pub use listing::JobListing;
pub use local::{LocalAgent, SessionEntry};
pub use probe::{Clock, JobDirectory, Probe, ProbeFor, ProbeRequest, WorkDirectory};
pub use record::{Exit, ExitReason, Phase, Started};
pub use script::{Answer, EXEC_COMMAND, Nonce, ScriptCall};
pub use status::{Alive, Claim, JobStatus};
pub use stream::EventParser;
pub use survivor::Survivor;
