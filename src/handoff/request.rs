//! What is asked for: a handoff, or the collection of a job.

use std::path::PathBuf;
use std::time::Duration;

use super::{Client, Running, collect, send};
use crate::agent::Mode;
use crate::hosts::{AgentName, Host, HostPath, ModelId};
use crate::session::SessionId;

/// A handoff to be: made by [`Client::handoff`], started by [`HandoffBuilder::start`].
#[derive(Debug, Clone)]
#[must_use = "a handoff does nothing until it is started"]
pub struct HandoffBuilder {
    pub(crate) client: Client,
    pub(crate) host: Host,
    pub(crate) session: Option<SessionId>,
    pub(crate) from_directory: PathBuf,
    pub(crate) mode: Mode,
    pub(crate) directory: Option<HostPath>,
    pub(crate) message: Option<String>,
    pub(crate) agent: Option<AgentName>,
    pub(crate) model: Option<ModelId>,
    pub(crate) call: Call,
    pub(crate) homecoming: Homecoming,
    pub(crate) spawn: Option<Spawn>,
    pub(crate) parent: Option<SessionId>,
    pub(crate) watchdogs: Watchdogs,
}

/// A session that is made on the host.
#[derive(Debug, Clone)]
pub(crate) struct Spawn {
    pub(crate) prompt: String,
    pub(crate) title: Option<String>,
}

/// What is asked for beyond the watchdogs' defaults.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Watchdogs {
    pub(crate) inactivity: Option<Duration>,
    pub(crate) loop_limit: Option<u32>,
    pub(crate) kill_on_stall: bool,
    pub(crate) kill_on_loop: bool,
}

/// The tool call that asks for the handoff.
#[derive(Debug, Clone, Default)]
pub(crate) struct Call {
    pub(crate) id: Option<String>,
    pub(crate) arguments: Option<serde_json::Map<String, serde_json::Value>>,
}

/// How a session comes home.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Homecoming {
    pub(crate) forget: bool,
    pub(crate) merge: bool,
    /// The session of a spawned job is imported here.
    pub(crate) import: bool,
}

impl HandoffBuilder {
    pub(crate) fn new(client: Client, host: Host, from_directory: PathBuf) -> Self {
        Self {
            client,
            host,
            session: None,
            from_directory,
            mode: Mode::OneWay,
            directory: None,
            message: None,
            agent: None,
            model: None,
            call: Call::default(),
            homecoming: Homecoming::default(),
            spawn: None,
            parent: None,
            watchdogs: Watchdogs::default(),
        }
    }

    /// The session to hand over; without it the newest one of the current directory.
    pub fn session(mut self, session: SessionId) -> Self {
        self.session = Some(session);
        self
    }

    /// The directory whose newest session is meant where none is named; without it the current one.
    pub fn from_directory(mut self, directory: PathBuf) -> Self {
        self.from_directory = directory;
        self
    }

    /// One-way (the default) or round trip.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// The agent's work directory on the host, made when it is missing; `~` is the home there. Without it
    /// the host's configured one, else the home.
    pub fn directory(mut self, directory: HostPath) -> Self {
        self.directory = Some(directory);
        self
    }

    /// What the agent is told besides finishing its task; carried verbatim.
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// The agent to use on the host; without it the host's configured one, else the session's.
    pub fn agent(mut self, agent: AgentName) -> Self {
        self.agent = Some(agent);
        self
    }

    /// The model to use on the host, `provider/model`; without it the host's configured one, else the
    /// session's.
    pub fn model(mut self, model: ModelId) -> Self {
        self.model = Some(model);
        self
    }

    /// The tool call that asks for this handoff: its id, and its true arguments, which an export taken in the
    /// first instants of a call does not have.
    pub fn call(
        mut self,
        id: Option<String>,
        arguments: serde_json::Map<String, serde_json::Value>,
    ) -> Self {
        self.call = Call {
            id,
            arguments: Some(arguments),
        };
        self
    }

    /// Deletes the session from the host's agent after its return.
    pub fn forget(mut self, forget: bool) -> Self {
        self.homecoming.forget = forget;
        self
    }

    /// Brings the session back even when it got new messages here meanwhile: both sides' messages stay.
    pub fn merge(mut self, merge: bool) -> Self {
        self.homecoming.merge = merge;
        self
    }

    /// The session whose agent asks for this; its own jobs are all that it may end.
    pub fn parent(mut self, parent: SessionId) -> Self {
        self.parent = Some(parent);
        self
    }

    /// For how long the agent may say nothing before the job counts as stalled; without it the host's configured
    /// time, else ten minutes. With `kill`, whoever watches the job then ends it.
    pub fn inactivity(mut self, bound: Option<Duration>, kill: bool) -> Self {
        self.watchdogs.inactivity = bound;
        self.watchdogs.kill_on_stall = kill;
        self
    }

    /// How many times in a row the same tool may be called with the same input before the job counts as looping;
    /// without it 12. With `kill`, whoever watches the job then ends it.
    pub fn loop_limit(mut self, limit: Option<u32>, kill: bool) -> Self {
        self.watchdogs.loop_limit = limit;
        self.watchdogs.kill_on_loop = kill;
        self
    }

    /// Starts the handoff on the current tokio runtime.
    ///
    /// # Panics
    /// When called outside a tokio runtime.
    pub fn start(self) -> Running {
        Running::start(move |reporter| send::send(self, reporter))
    }
}

/// The collection of a job: made by [`Client::collect`], started by [`CollectBuilder::start`].
#[derive(Debug, Clone)]
#[must_use = "a collection does nothing until it is started"]
pub struct CollectBuilder {
    pub(crate) client: Client,
    pub(crate) job: String,
    pub(crate) homecoming: Homecoming,
}

impl CollectBuilder {
    pub(crate) fn new(client: Client, job: String) -> Self {
        Self {
            client,
            job,
            homecoming: Homecoming::default(),
        }
    }

    /// Deletes the session from the host's agent after its return.
    pub fn forget(mut self, forget: bool) -> Self {
        self.homecoming.forget = forget;
        self
    }

    /// Brings the session back even when it got new messages here meanwhile: both sides' messages stay.
    pub fn merge(mut self, merge: bool) -> Self {
        self.homecoming.merge = merge;
        self
    }

    /// Imports the session that a spawned job made, whole, into the current directory; without it its result is told
    /// and the session stays on the host. A session that was handed over is imported always.
    pub fn import(mut self, import: bool) -> Self {
        self.homecoming.import = import;
        self
    }

    /// Starts the collection on the current tokio runtime.
    ///
    /// # Panics
    /// When called outside a tokio runtime.
    pub fn start(self) -> Running {
        Running::start(move |reporter| collect::collect(self, reporter))
    }
}
