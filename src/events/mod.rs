//! What happens during a handoff, as typed events.
//!
//! The main type is [`Event`]: every reporter (the terminal, NDJSON, a program that embeds the crate)
//! consumes the same stream. A leaf: events hold plain values and know no other module.

use serde::{Deserialize, Serialize};

/// A stage of a handoff, in the order in which they happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// The session is exported on this machine.
    Export,
    /// The connection is made: TCP, host key, authentication.
    Connect,
    /// The host is asked what it is and what it has.
    Probe,
    /// The session and the parameters are sent.
    Send,
    /// The runner is started.
    Launch,
    /// The session is imported on the host.
    RemoteImport,
    /// The agent runs on the host.
    Run,
    /// The session is exported on the host.
    RemoteExport,
    /// The result is downloaded and checked.
    Fetch,
    /// The result is imported on this machine and read back.
    Import,
    /// The remote files are removed.
    Cleanup,
}

/// Token counts as the agent reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tokens {
    /// Tokens read by the model.
    pub input: u64,
    /// Tokens written by the model.
    pub output: u64,
    /// Tokens spent on reasoning.
    pub reasoning: u64,
    /// Tokens read from the provider's cache.
    pub cache_read: u64,
    /// Tokens written to the provider's cache.
    pub cache_write: u64,
}

impl std::ops::Add for Tokens {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            reasoning: self.reasoning.saturating_add(other.reasoning),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
        }
    }
}

/// One thing that the agent on the host did, as its event stream tells it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum AgentEvent {
    /// A text of the agent, whole.
    Text {
        /// The text.
        text: String,
    },
    /// A reasoning text of the agent, whole.
    Reasoning {
        /// The text.
        text: String,
    },
    /// A tool call that has ended.
    ToolUse {
        /// The tool's name.
        tool: String,
        /// `completed` or `error`, as the agent reports it.
        status: String,
        /// The agent's title of the call; may be empty.
        title: String,
        /// The same for calls of the same tool with the same input, within one version of this program.
        #[serde(skip)]
        fingerprint: u64,
    },
    /// One model call has ended.
    StepFinish {
        /// Why it ended: `stop`, `tool-calls`, ...
        reason: String,
        /// Cost in US dollars.
        cost: f64,
        /// Tokens used.
        tokens: Tokens,
    },
    /// The agent reported an error.
    Error {
        /// Its message.
        message: String,
    },
}

/// One thing that happened.
///
/// Serialises as one flat JSON object with an `event` key; the form is public API of `--json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A job was recorded; nothing has been written on the host yet.
    Job {
        /// The job's id.
        job: String,
        /// The host's name.
        host: String,
        /// The session's id; null for a spawned job, whose session is made on the host.
        session: Option<String>,
    },
    /// A step began.
    Step {
        /// Which.
        step: Step,
        /// A few words for a person.
        detail: String,
    },
    /// Bytes moved in a step.
    Progress {
        /// In which step.
        step: Step,
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The agent on the host did something.
    Agent {
        /// What; its own `event` key is nested under `agent`.
        agent: AgentEvent,
    },
    /// Something that does not stop the handoff and that a person should know.
    Warning {
        /// For a person.
        message: String,
    },
    /// The link is down; the job goes on, and a new connection is tried.
    Unreachable {
        /// How many attempts have failed since the link went down.
        attempt: u32,
        /// Milliseconds until the next one.
        retry_in_ms: u64,
        /// Why, for a person.
        reason: String,
    },
    /// The link is up again.
    Reconnected,
}
