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
use super::steer;
use crate::agent::{EventParser, Exit, KillReason, Phase, names};
use crate::events::{Event, Step};
use crate::job::{
    Attributes, Bounds, Evidence, JobId, JobRecord, State, Store, Usage, evidence, now_ms,
};
use crate::session::SessionId;
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
/// The most that is read of what an ended job's log holds besides, in bytes.
const REST_LIMIT: u64 = 64 << 20;
/// The most that is read of `phase` and `exit`, in bytes.
const SMALL_FILE: u64 = 64 << 10;

/// Where a watch stands: kept over a lost link, so that nothing is missed and nothing is told twice.
pub(crate) struct Watch {
    store: Store,
    directory: RemotePath,
    reporter: Reporter,
    job: JobId,
    live: bool,
    /// The watcher holds the job's lock, and keeps a runner that does not start from ever starting.
    pub(crate) buries: bool,
    buried: bool,
    /// What the record is to say of what was seen.
    pub(crate) seen: Seen,
    noted: Option<Seen>,
    bounds: Bounds,
    /// When the agent began to run, by this machine's clock, as far as that is known.
    running_since_ms: u64,
    /// The host's clock less this machine's, in milliseconds.
    offset_ms: Option<i64>,
    offset: u64,
    stream: EventParser,
    phase: Option<Phase>,
    silent_since: Instant,
}

/// What a watch has found out about a job besides its end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) session: Option<SessionId>,
    pub(crate) usage: Usage,
    pub(crate) attributes: Attributes,
    pub(crate) notice: Option<String>,
}

fn loop_words(tool: &str, times: u32) -> String {
    format!("the agent called {tool} with the same input {times} times in a row")
}

impl Seen {
    fn of(record: &JobRecord) -> Self {
        Self {
            session: record.session.clone(),
            usage: record.usage.clone(),
            attributes: record.attributes,
            notice: record.notice.clone(),
        }
    }

    /// Puts it into a record that may know more already: somebody else may watch the job too.
    pub(crate) fn note_in(self, record: &mut JobRecord) {
        record.session = record.session.take().or(self.session);
        record.notice = record.notice.take().or(self.notice);
        record.attributes = self.attributes;
        if self.usage.position >= record.usage.position {
            record.usage = self.usage;
        }
    }
}

/// Why a watch ended.
pub(crate) enum Watched {
    /// The runner has ended, as its `exit` file says.
    Ended(Exit),
    /// The agent runs; asked for by a one-way handoff.
    AgentRuns,
    /// The runner is gone, or not ours to judge; what shows it, and in words.
    Vanished(Evidence, &'static str),
}

impl Watch {
    /// From the beginning of the event log, every event told.
    pub(crate) fn new(
        store: &Store,
        directory: &RemotePath,
        reporter: &Reporter,
        record: &JobRecord,
    ) -> Self {
        let anew = JobRecord {
            usage: Usage::default(),
            ..record.clone()
        };
        Self::resumed(store, directory, reporter, &anew)
    }

    /// From where the record's counting ended.
    pub(crate) fn resumed(
        store: &Store,
        directory: &RemotePath,
        reporter: &Reporter,
        record: &JobRecord,
    ) -> Self {
        let running = record
            .history
            .iter()
            .find(|entry| entry.state == State::Running);
        Self {
            store: store.clone(),
            directory: directory.clone(),
            reporter: reporter.clone(),
            job: record.id.clone(),
            live: record.state.is_live(),
            buries: false,
            buried: false,
            seen: Seen::of(record),
            noted: None,
            bounds: record.bounds,
            running_since_ms: running.map_or_else(now_ms, |entry| entry.at_ms),
            offset_ms: None,
            offset: record.usage.position,
            stream: EventParser::starting_at(record.usage.position),
            phase: None,
            silent_since: Instant::now(),
        }
    }

    /// The host's clock as an answer showed it just now.
    pub(crate) fn set_clock(&mut self, host_ms: u64) {
        let host_ms = i64::try_from(host_ms).unwrap_or(i64::MAX);
        self.offset_ms = Some(host_ms.saturating_sub(remote::clock_ms()));
    }

    /// Judges the job's oddities, and writes down what is new since the last time.
    pub(crate) async fn note(&mut self, live: &Live, state: State) -> Result<(), HandoffError> {
        let quiet_since = self
            .seen
            .usage
            .last_event_ms
            .unwrap_or(0)
            .max(self.running_since_ms);
        let before = self.seen.attributes;
        let found = before.judge(&self.bounds, state, &self.seen.usage, quiet_since, now_ms());
        self.intervene(live, before, found).await?;
        self.seen.attributes = found;
        self.tell_circles();
        if self.noted.as_ref() == Some(&self.seen) {
            return Ok(());
        }
        let seen = self.seen.clone();
        self.store
            .amend(&self.job, |record| seen.note_in(record))
            .await?;
        self.noted = Some(self.seen.clone());
        Ok(())
    }

    /// A loop is told in the result whoever watched, and when: also one that the agent got out of by itself.
    fn tell_circles(&mut self) {
        let run = self.seen.usage.longest_run;
        if self.seen.notice.is_none() && run >= self.bounds.loop_limit.max(2) {
            let tool = self.seen.usage.longest_tool.as_deref().unwrap_or_default();
            self.seen.notice = Some(loop_words(tool, run));
        }
    }

    /// Tells of a watchdog that has found something, and ends the job where that was asked for.
    async fn intervene(
        &mut self,
        live: &Live,
        before: Attributes,
        now: Attributes,
    ) -> Result<(), HandoffError> {
        let (words, cause, end) = if now.looping.is_some() && before.looping.is_none() {
            let tool = self.seen.usage.last_tool.clone().unwrap_or_default();
            let words = loop_words(&tool, self.seen.usage.repeats);
            (words, KillReason::Looping, self.bounds.kill_on_loop)
        } else if now.stalled.is_some() && before.stalled.is_none() {
            let bound = Duration::from_millis(self.bounds.inactivity_ms);
            let words = format!(
                "the agent said nothing for {}",
                humantime::format_duration(bound)
            );
            (words, KillReason::Stalled, self.bounds.kill_on_stall)
        } else {
            return Ok(());
        };
        if end && steer::end(live, &self.directory, cause).await? {
            self.seen.notice = Some(format!("{words}, and was ended"));
        } else if cause == KillReason::Looping {
            self.seen.notice = Some(words.clone());
        }
        self.reporter.warn(words).await;
        Ok(())
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
            let looked = async {
                let watched = self.look(&live, until_running).await?;
                self.note(&live, self.state_now()).await?;
                Ok(watched)
            };
            match looked.await {
                Ok(Some(watched)) => return Ok(watched),
                Ok(None) => tokio::time::sleep(self.interval(until_running)).await,
                Err(error) => link.recover(error).await?,
            }
        }
    }

    /// What the job is in, as far as the phase tells.
    pub(crate) fn state_now(&self) -> State {
        match self.phase {
            Some(Phase::Running) if self.live => State::Running,
            _ => State::Returning,
        }
    }

    pub(crate) fn interval(&self, until_running: bool) -> Duration {
        if until_running && self.silent_since.elapsed() < QUIET_INTERVAL {
            STARTING_INTERVAL
        } else if self.silent_since.elapsed() < 2 * QUIET_INTERVAL {
            BUSY_INTERVAL
        } else {
            QUIET_INTERVAL
        }
    }

    pub(crate) async fn look(
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
                self.seen.usage.take(&agent);
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

    /// Reads what there is of the event log.
    pub(crate) async fn catch_up(&mut self, live: &Live) -> Result<(), HandoffError> {
        while self.read_events(live).await? {}
        Ok(())
    }

    /// Counts what nobody has watched of an ended job's events, up to [`REST_LIMIT`]; where there is more, the numbers
    /// are marked as what they are. Nothing is told, and nothing stored.
    pub(crate) async fn count_rest(&mut self, live: &Live) -> Result<(), HandoffError> {
        let limit = self.offset.saturating_add(REST_LIMIT);
        let mut more = true;
        while more && self.offset < limit {
            more = self.read_events(live).await?;
        }
        self.seen.usage.partial |= more && !self.fetch_events(live).await?.is_empty();
        if let Some(agent) = self.stream.finish() {
            self.seen.usage.take(&agent);
        }
        self.tell_circles();
        Ok(())
    }

    async fn judge_silence(&mut self, live: &Live) -> Result<Option<Watched>, HandoffError> {
        let status = remote::status(live, &self.directory).await?;
        if let Some(status) = &status {
            self.set_clock(status.clock_ms);
        }
        let evidence = evidence(status.as_ref(), true);
        let reason = match evidence {
            // The next look reads it.
            Evidence::Ended { .. } => return Ok(None),
            Evidence::Rebooted => "the host was restarted",
            Evidence::Died => "the runner is gone and left no result",
            // As long as it is not buried it may still start.
            Evidence::NeverStarted if !self.buries => return Ok(None),
            Evidence::NeverStarted if !self.buried => {
                remote::bury(live, &self.directory).await?;
                self.buried = true;
                return Ok(None);
            }
            Evidence::NeverStarted => "it was claimed and never started",
            Evidence::Tombstone => "it was closed before it was launched",
            Evidence::Unclaimed => "its directory on the host is gone",
            _ => return Ok(None),
        };
        Ok(Some(Watched::Vanished(evidence, reason)))
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
            self.seen.usage.take(&agent);
            self.reporter.tell(Event::Agent { agent }).await;
        }
        let now = now_ms();
        let made = self.stream.timestamp().zip(self.offset_ms);
        self.seen.usage.position = self.stream.position();
        self.seen.usage.last_event_ms = Some(made.map_or(now, |(made, offset)| {
            made.saturating_add_signed(-offset).min(now)
        }));
        if self.seen.session.is_none() {
            self.seen.session = self.stream.session().cloned();
        }
        true
    }
}
