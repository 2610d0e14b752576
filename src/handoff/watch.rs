//! Following a launched job: what its event log has grown by, and whether it has ended.
//!
//! Over the one connection, by reading files: no process and no connection per look. Only when nothing has
//! come for a while does one command ask whether the runner is alive.

use std::time::{Duration, Instant};

use super::HandoffError;
use super::failpoint::{FailPoint, reach};
use super::link::{Link, Live};
use super::remote;
use super::running::Reporter;
use crate::agent::{EventParser, Exit, Mode, Phase, names};
use crate::events::{Event, Step};
use crate::job::{Evidence, State, evidence};
use crate::ssh::{RemotePath, SshError};

/// The time between looks while somebody waits for the agent to start.
const STARTING_INTERVAL: Duration = Duration::from_millis(50);
/// The time between looks while events come.
const BUSY_INTERVAL: Duration = Duration::from_millis(200);
/// The time between looks when nothing has come for a while.
const QUIET_INTERVAL: Duration = Duration::from_millis(1000);
/// After this time without an event it is asked whether the runner is alive, and again each time it passes.
const SILENCE: Duration = Duration::from_secs(20);
/// The most that one look reads of the event log, in bytes.
const CHUNK: u64 = 1 << 20;
/// The most that is read of `phase` and `exit`, in bytes.
const SMALL_FILE: u64 = 64 << 10;

/// Where a watch stands: kept over a lost link, so that nothing is missed and nothing is told twice.
pub(crate) struct Watch<'a> {
    directory: &'a RemotePath,
    reporter: &'a Reporter,
    state: State,
    mode: Mode,
    offset: u64,
    stream: EventParser,
    phase: Option<Phase>,
    silent_since: Instant,
}

/// Why a watch ended.
pub(crate) enum Watched {
    /// The runner has ended, as its `exit` file says.
    Ended(Exit),
    /// The agent runs; asked for by a one-way handoff.
    AgentRuns,
    /// The runner is gone, or not ours to judge; the record's new state and why.
    Vanished(State, &'static str),
}

impl<'a> Watch<'a> {
    /// `state` and `mode` are the record's: what becomes of the job if its runner turns out to be gone.
    pub(crate) fn new(
        directory: &'a RemotePath,
        reporter: &'a Reporter,
        state: State,
        mode: Mode,
    ) -> Self {
        Self {
            directory,
            reporter,
            state,
            mode,
            offset: 0,
            stream: EventParser::new(),
            phase: None,
            silent_since: Instant::now(),
        }
    }

    /// Looks until the job has ended or, with `until_running`, until the agent runs.
    ///
    /// Cancel safe: nothing on the host depends on the watcher.
    pub(crate) async fn run(
        &mut self,
        link: &mut Link,
        until_running: bool,
    ) -> Result<Watched, HandoffError> {
        loop {
            let live = link.live().await?;
            match self.look(&live, until_running).await {
                Ok(Some(watched)) => return Ok(watched),
                Ok(None) => tokio::time::sleep(self.interval(until_running)).await,
                Err(error) => link.recover(error).await?,
            }
        }
    }

    fn interval(&self, until_running: bool) -> Duration {
        if until_running && self.silent_since.elapsed() < QUIET_INTERVAL {
            STARTING_INTERVAL
        } else if self.silent_since.elapsed() < 2 * QUIET_INTERVAL {
            BUSY_INTERVAL
        } else {
            QUIET_INTERVAL
        }
    }

    async fn look(
        &mut self,
        live: &Live,
        until_running: bool,
    ) -> Result<Option<Watched>, HandoffError> {
        let files = live.files().await?;
        let exit_path = self.directory.join(names::EXIT);
        // Side by side: a look takes as long as its slowest question. What the log got after the answers is
        // read below, when one of them says that this is all there will be.
        let (size, phase, bytes) = futures::try_join!(
            async { Ok(files.size(&exit_path).await?) },
            self.read_phase(live),
            self.fetch_events(live),
        )?;
        let ended = size.is_some();
        if phase < Some(Phase::Exporting) {
            self.enter(phase).await;
        }
        if phase == Some(Phase::Exporting) && self.phase < Some(Phase::Running) {
            // A short run was over between two looks; its events still belong to it.
            self.enter(Some(Phase::Running)).await;
        }
        let mut grown = self.take_events(&bytes).await;
        if phase == Some(Phase::Exporting) {
            // All of the agent's events come before the export.
            while self.read_events(live).await? {
                grown = true;
            }
            self.enter(phase).await;
        }
        if ended {
            while self.read_events(live).await? {}
            if let Some(agent) = self.stream.finish() {
                self.reporter.tell(Event::Agent { agent }).await;
            }
            let bytes = files.read(&exit_path, SMALL_FILE).await?;
            reach(FailPoint::SeenEnded);
            return Ok(Some(Watched::Ended(Exit::parse(&bytes)?)));
        }
        if until_running && matches!(self.phase, Some(Phase::Running | Phase::Exporting)) {
            return Ok(Some(Watched::AgentRuns));
        }
        reach(FailPoint::Looked);
        if !grown && self.silent_since.elapsed() >= SILENCE {
            self.silent_since = Instant::now();
            return self.judge_silence(live).await;
        }
        Ok(None)
    }

    async fn judge_silence(&self, live: &Live) -> Result<Option<Watched>, HandoffError> {
        let status = remote::status(live, self.directory).await?;
        let evidence = evidence(status.as_ref(), true);
        let reason = match evidence {
            // The next look reads it.
            Evidence::Ended { .. } => return Ok(None),
            Evidence::Rebooted => "the host was restarted",
            Evidence::Died => "the runner is gone and left no result",
            Evidence::NeverStarted => "it was claimed and never started",
            Evidence::Tombstone => "it was closed before it was launched",
            Evidence::Unclaimed => "its directory on the host is gone",
            _ => return Ok(None),
        };
        Ok(Some(Watched::Vanished(
            self.state.judge(self.mode, evidence),
            reason,
        )))
    }

    async fn read_phase(&self, live: &Live) -> Result<Option<Phase>, HandoffError> {
        if self.phase == Some(Phase::Exporting) {
            return Ok(self.phase);
        }
        let path = self.directory.join(names::PHASE);
        let bytes = match live.files().await?.read(&path, SMALL_FILE).await {
            Ok(bytes) => bytes,
            Err(SshError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Phase::parse(&bytes)?))
    }

    async fn enter(&mut self, phase: Option<Phase>) {
        if self.phase == phase {
            return;
        }
        self.phase = phase;
        self.silent_since = Instant::now();
        let step = match phase {
            None => return,
            Some(Phase::Importing) => Step::RemoteImport,
            Some(Phase::Running) => Step::Run,
            Some(Phase::Exporting) => Step::RemoteExport,
        };
        self.reporter.step(step, "").await;
        if phase == Some(Phase::Running) {
            reach(FailPoint::SeenRunning);
        }
    }

    async fn read_events(&mut self, live: &Live) -> Result<bool, HandoffError> {
        let bytes = self.fetch_events(live).await?;
        Ok(self.take_events(&bytes).await)
    }

    /// What the event log has got since the last look.
    async fn fetch_events(&self, live: &Live) -> Result<Vec<u8>, HandoffError> {
        let path = self.directory.join(names::EVENTS);
        let files = live.files().await?;
        match files.read_from(&path, self.offset, CHUNK).await {
            Ok(bytes) => Ok(bytes),
            Err(SshError::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells what was fetched; false when it is nothing.
    async fn take_events(&mut self, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            return false;
        }
        self.offset += bytes.len() as u64;
        self.silent_since = Instant::now();
        for agent in self.stream.push(bytes) {
            self.reporter.tell(Event::Agent { agent }).await;
        }
        true
    }
}
