//! What a handoff came to.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::events::Tokens;
use crate::hosts::HostName;
use crate::job::{JobId, JobKind, Mode};
use crate::session::SessionId;

/// How a handoff left this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ending {
    /// The session is back, with everything that happened.
    Completed,
    /// One-way: the agent runs on the host.
    Running,
    /// The job goes on, and nobody here waits for it any more.
    Detached,
    /// The job was closed before it was launched; the session is free.
    Closed,
}

/// The result of a handoff or of a collection.
///
/// Serialises as the last line of `--json`; the form is public API.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Outcome {
    /// How it ended.
    #[serde(rename = "outcome")]
    pub ending: Ending,
    /// The job.
    pub job: JobId,
    /// The host's name.
    pub host: HostName,
    /// Whether a session was handed over or made there.
    pub kind: JobKind,
    /// The session; of a spawned job, once it is known.
    pub session: Option<SessionId>,
    /// One-way or round trip.
    pub mode: Mode,
    /// What the agent did, once the session is back.
    #[serde(flatten)]
    pub trip: Option<Trip>,
    /// Milliseconds from the job's record to this outcome.
    pub duration_ms: u64,
}

/// What the agent did on the host, read from what came back.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct Trip {
    /// The agent's last text.
    pub text: Option<String>,
    /// Messages that are new in the local session.
    pub new_messages: usize,
    /// Tool calls in them.
    pub tool_calls: u64,
    /// Tool calls by the tool's name.
    pub tools: BTreeMap<String, u64>,
    /// Tokens used by them.
    pub tokens: Tokens,
    /// Their cost in US dollars, as the agent reports it.
    pub cost: f64,
    /// The agent's exit status where it was not 0; the messages came back all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_exit: Option<i32>,
}
