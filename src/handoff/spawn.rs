//! A fresh session on a host: no session moves, so nothing is exported, patched or imported.
//!
//! The main type is [`SpawnBuilder`]. The invariants are those of a handoff: a record exists before the first remote
//! byte, and the agent is started at most once.

use std::time::Duration;

use super::failpoint::{FailPoint, reach};
use super::prepare::probe;
use super::request::Spawn;
use super::send::Sending;
use super::{HandoffBuilder, HandoffError, Running};
use crate::hosts::{AgentName, HostPath, ModelId};
use crate::job::RemotePlaces;
use crate::session::SessionId;
use crate::ssh::RemotePath;

/// The longest title, in characters.
const TITLE_LIMIT: usize = 200;

/// A spawned job to be: made by [`Client::spawn`](super::Client::spawn), started by [`SpawnBuilder::start`].
#[derive(Debug, Clone)]
#[must_use = "a spawned job does nothing until it is started"]
pub struct SpawnBuilder {
    request: HandoffBuilder,
    spawn: Spawn,
}

impl SpawnBuilder {
    pub(crate) fn new(request: HandoffBuilder, prompt: String) -> Self {
        Self {
            request,
            spawn: Spawn {
                prompt,
                title: None,
            },
        }
    }

    /// The session's title; of a longer one the first 200 characters, line breaks as blanks. Without it the agent
    /// makes one.
    pub fn title(mut self, title: &str) -> Self {
        let line: String = title
            .chars()
            .map(|character| {
                if character.is_control() {
                    ' '
                } else {
                    character
                }
            })
            .take(TITLE_LIMIT)
            .collect();
        self.spawn.title = Some(line.trim().to_owned()).filter(|title| !title.is_empty());
        self
    }

    /// The agent's work directory on the host, as for a handoff.
    pub fn directory(mut self, directory: HostPath) -> Self {
        self.request = self.request.directory(directory);
        self
    }

    /// The agent to use; without it the host's configured one, else the agent's default.
    pub fn agent(mut self, agent: AgentName) -> Self {
        self.request = self.request.agent(agent);
        self
    }

    /// The model to use, `provider/model`; without it the host's configured one, else the agent's default.
    pub fn model(mut self, model: ModelId) -> Self {
        self.request = self.request.model(model);
        self
    }

    /// The session whose agent asks for this.
    pub fn parent(mut self, parent: SessionId) -> Self {
        self.request = self.request.parent(parent);
        self
    }

    /// As [`HandoffBuilder::max_time`].
    pub fn max_time(mut self, limit: Duration) -> Self {
        self.request = self.request.max_time(limit);
        self
    }

    /// As [`HandoffBuilder::inactivity`].
    pub fn inactivity(mut self, bound: Option<Duration>, kill: bool) -> Self {
        self.request = self.request.inactivity(bound, kill);
        self
    }

    /// As [`HandoffBuilder::loop_limit`].
    pub fn loop_limit(mut self, limit: Option<u32>, kill: bool) -> Self {
        self.request = self.request.loop_limit(limit, kill);
        self
    }

    /// Starts the job on the current tokio runtime; its outcome is there once the agent runs.
    ///
    /// # Panics
    /// When called outside a tokio runtime.
    pub fn start(mut self) -> Running {
        self.request.spawn = Some(self.spawn);
        self.request.start()
    }
}

impl Sending {
    /// Everything before the launch of a job that makes its own session.
    pub(super) async fn prepare_spawn(
        &mut self,
        spawn: &Spawn,
    ) -> Result<RemotePath, HandoffError> {
        let (probe, skew) = probe(
            &mut self.link,
            &self.request,
            &self.record,
            &mut self.directory,
            &self.reporter,
        )
        .await?;
        let opencode = self.require_ready(&probe, skew, 0, 0).await?;
        let directory = self.job_directory(&probe)?;
        self.record.remote = Some(RemotePlaces {
            job_directory: directory.clone(),
            work_directory: probe.work_dir.clone(),
            opencode,
            files_by_exec: false,
        });
        self.request.client.store().update(&mut self.record).await?;
        reach(FailPoint::Placed);
        self.upload(&directory, None, &spawn.prompt).await?;
        reach(FailPoint::Uploaded);
        Ok(directory)
    }
}
