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
use crate::events::{AgentEvent, Event, Step};
use crate::job::{
    Attributes, Bounds, Evidence, JobId, JobRecord, PhaseSeen, Store, Usage, end_evidence,
    evidence, now_ms,
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
/// A read that brought less has reached the log's end as it was then: a host gives at least so much at once.
const WHOLE_READ: usize = 32 << 10;
/// The most that is read of what an ended job's log holds besides, in bytes.
const REST_LIMIT: u64 = 64 << 20;
/// After how many bytes of a log that is read up what was counted is kept.
const KEPT_EVERY: u64 = 2 << 20;
/// The most that is read of `phase` and `exit`, in bytes.
const SMALL_FILE: u64 = 64 << 10;

/// Where a watch stands: kept over a lost link, so that nothing is missed and nothing is told twice.
pub(crate) struct Watch {
    store: Store,
    directory: RemotePath,
    reporter: Reporter,
    job: JobId,
    /// The watcher holds the job's lock, and keeps a runner that does not start from ever starting.
    pub(crate) buries: bool,
    buried: bool,
    /// What the record is to say of what was seen.
    pub(crate) seen: Seen,
    noted: Option<Seen>,
    bounds: Bounds,
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
    phase: Option<PhaseSeen>,
    pub(crate) notice: Option<String>,
}

fn loop_words(tool: &str, times: u32) -> String {
    format!("the agent called {tool} with the same input {times} times in a row")
}

fn stall_words(phase: Option<PhaseSeen>, bounds: &Bounds) -> String {
    let bound = humantime::format_duration(Duration::from_millis(bounds.inactivity_ms));
    match phase.map(|seen| seen.phase) {
        Some(Phase::Importing) => format!("the import has not ended within {bound}"),
        Some(Phase::Exporting) => format!("the export has not ended within {bound}"),
        _ => format!("the agent said nothing for {bound}"),
    }
}

/// Why a job of which no claim is found counts as lost. `there` says whether it has a directory.
pub(crate) fn unclaimed_words(there: bool) -> &'static str {
    if there {
        "nothing in its directory on the host shows a launch"
    } else {
        "its directory on the host is gone"
    }
}

impl Seen {
    fn of(record: &JobRecord) -> Self {
        Self {
            session: record.session.clone(),
            usage: record.usage.clone(),
            attributes: record.attributes,
            phase: record.phase,
            notice: record.notice.clone(),
        }
    }

    /// Puts it into a record that may know more already: somebody else may watch the job too, or have seen its end.
    pub(crate) fn note_in(self, record: &mut JobRecord) {
        record.session = record.session.take().or(self.session);
        record.notice = record.notice.take().or(self.notice);
        record.phase = match (record.phase, self.phase) {
            (Some(known), Some(seen)) => Some(known.with(seen)),
            (known, seen) => known.or(seen),
        };
        if record.state.is_live() {
            record.attributes = self.attributes;
        }
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
    /// From the beginning of the event log, every event told. What the record has counted is not counted again.
    pub(crate) fn new(
        store: &Store,
        directory: &RemotePath,
        reporter: &Reporter,
        record: &JobRecord,
    ) -> Self {
        Self {
            offset: 0,
            stream: EventParser::new(),
            ..Self::resumed(store, directory, reporter, record)
        }
    }

    /// From where the record's counting ended.
    pub(crate) fn resumed(
        store: &Store,
        directory: &RemotePath,
        reporter: &Reporter,
        record: &JobRecord,
    ) -> Self {
        Self {
            store: store.clone(),
            directory: directory.clone(),
            reporter: reporter.clone(),
            job: record.id.clone(),
            buries: false,
            buried: false,
            seen: Seen::of(record),
            noted: None,
            bounds: record.bounds,
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

    /// Judges the job's oddities by what a look has shown, and writes down what is new since the last time.
    pub(crate) async fn note(
        &mut self,
        live: &Live,
        evidence: Evidence,
    ) -> Result<(), HandoffError> {
        let before = self.seen.attributes;
        let found = before.judge(
            &self.bounds,
            evidence,
            self.seen.phase,
            &self.seen.usage,
            now_ms(),
        );
        self.intervene(live, before, found).await?;
        self.seen.attributes = found;
        self.tell_circles();
        if self.noted.as_ref() == Some(&self.seen) {
            return Ok(());
        }
        self.keep().await
    }

    async fn keep(&mut self) -> Result<(), HandoffError> {
        let seen = self.seen.clone();
        self.store
            .amend(&self.job, |record| seen.note_in(record))
            .await?;
        self.noted = Some(self.seen.clone());
        Ok(())
    }

    /// The host was not reached, and the record says so: whatever is seen next is written over that.
    pub(crate) fn lost(&mut self, attributes: Attributes) {
        self.seen.attributes = attributes;
        self.noted = None;
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
            // The end of an import or an export would cost what it is there to keep.
            let silent_agent = self
                .seen
                .phase
                .is_some_and(|seen| seen.phase == Phase::Running);
            (
                stall_words(self.seen.phase, &self.bounds),
                KillReason::Stalled,
                self.bounds.kill_on_stall && silent_agent,
            )
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
        let mut known = None;
        loop {
            let live = link.live().await?;
            let dial = link.dials();
            let was_away = known.is_some_and(|known| known != dial);
            let looked = async {
                // What was said while the host was away was not said just now.
                if was_away && self.offset_ms.is_none() {
                    self.ask_clock(&live).await?;
                }
                let watched = self.look(&live, until_running).await?;
                self.note(&live, shown(watched.as_ref())).await?;
                Ok(watched)
            };
            match looked.await {
                Ok(Some(watched)) => return Ok(watched),
                Ok(None) => {
                    known = Some(dial);
                    tokio::time::sleep(self.interval(until_running)).await;
                }
                Err(error) => {
                    known = known.or(Some(dial));
                    link.recover(error).await?;
                }
            }
        }
    }

    async fn ask_clock(&mut self, live: &Live) -> Result<(), HandoffError> {
        if let Some(status) = remote::status(live, &self.directory).await? {
            self.set_clock(status.clock_ms);
        }
        Ok(())
    }

    /// Whether the runner was seen in a phase.
    pub(crate) fn has_begun(&self) -> bool {
        self.phase.is_some()
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
        let grown = !bytes.is_empty();
        self.take_events(&bytes).await;
        let mut behind = bytes.len() >= WHOLE_READ;
        // All of the agent's events come before the export, and what is judged is the newest that there is.
        while behind || phase == Some(Phase::Exporting) || ended {
            let read = self.read_events(live).await?;
            behind = read >= WHOLE_READ;
            if read == 0 {
                break;
            }
        }
        if phase == Some(Phase::Exporting) {
            self.enter(phase).await;
        }
        if ended {
            self.seen.usage.partial = false;
            if let Some(agent) = self.finish() {
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

    /// Reads what there is of the event log; of a job that has ended, to its last byte. Nothing is told.
    pub(crate) async fn catch_up(&mut self, live: &Live, ended: bool) -> Result<(), HandoffError> {
        let mut kept = self.offset;
        while self.read_events(live).await? > 0 {
            // A long log may take more than one look: the next one goes on from here.
            if self.offset - kept >= KEPT_EVERY {
                kept = self.offset;
                self.keep().await?;
            }
        }
        if ended {
            self.seen.usage.partial = false;
            self.finish();
        }
        Ok(())
    }

    /// Notes a phase that the host has told of, with nobody to be told.
    pub(crate) fn found_in(&mut self, phase: Option<Phase>) {
        self.phase = phase;
        if let Some(phase) = phase {
            self.seen.phase = Some(PhaseSeen::after(self.seen.phase, phase, now_ms()));
        }
    }

    /// Counts what nobody has watched of an ended job's events, up to [`REST_LIMIT`]; where there is more, the numbers
    /// are marked as what they are. Nothing is told, and nothing stored.
    pub(crate) async fn count_rest(&mut self, live: &Live) -> Result<(), HandoffError> {
        let limit = self.offset.saturating_add(REST_LIMIT);
        let mut more = true;
        while more && self.offset < limit {
            more = self.read_events(live).await? > 0;
        }
        self.seen.usage.partial = more && !self.fetch_events(live).await?.is_empty();
        self.finish();
        self.tell_circles();
        Ok(())
    }

    /// Counts a last line without its line break, unless it was counted before.
    fn finish(&mut self) -> Option<AgentEvent> {
        let counted = self.offset <= self.seen.usage.position;
        let agent = self.stream.finish()?;
        if !counted {
            self.seen.usage.take(&agent);
            self.seen.usage.position = self.stream.position();
        }
        Some(agent)
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
            Evidence::NeverStarted if self.buries && !self.buried => {
                self.buried = remote::bury(live, &self.directory).await?;
                return Ok(None);
            }
            Evidence::NeverStarted => "it was claimed and never started",
            Evidence::Tombstone => "it was closed before it was launched",
            Evidence::Unclaimed => unclaimed_words(status.is_some()),
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
        self.found_in(phase);
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

    /// How many bytes have come.
    async fn read_events(&mut self, live: &Live) -> Result<usize, HandoffError> {
        let bytes = self.fetch_events(live).await?;
        self.take_events(&bytes).await;
        Ok(bytes.len())
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

    /// Tells what was fetched, and counts what of it the record has not.
    async fn take_events(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let counted = self.seen.usage.position.saturating_sub(self.offset);
        let counted = usize::try_from(counted).map_or(bytes.len(), |count| count.min(bytes.len()));
        let (old, new) = bytes.split_at(counted);
        self.offset += bytes.len() as u64;
        self.silent_since = Instant::now();
        for agent in self.stream.push(old) {
            self.reporter.tell(Event::Agent { agent }).await;
        }
        if !new.is_empty() {
            for agent in self.stream.push(new) {
                self.seen.usage.take(&agent);
                self.reporter.tell(Event::Agent { agent }).await;
            }
            let now = now_ms();
            let made = self.stream.timestamp().zip(self.offset_ms);
            self.seen.usage.position = self.stream.position();
            self.seen.usage.last_event_ms = Some(made.map_or(now, |(made, offset)| {
                made.saturating_add_signed(-offset).min(now)
            }));
        }
        if self.seen.session.is_none() {
            self.seen.session = self.stream.session().cloned();
        }
    }
}

/// What a look has shown of a job that was taken for one at work.
pub(crate) fn shown(watched: Option<&Watched>) -> Evidence {
    match watched {
        Some(Watched::Ended(exit)) => end_evidence(exit),
        Some(Watched::Vanished(evidence, _)) => *evidence,
        Some(Watched::AgentRuns) | None => Evidence::Alive,
    }
}
