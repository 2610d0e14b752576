//! Looking at jobs from here: what they are in, what they have used, what is odd about them.
//!
//! The main type is [`JobsWatch`], a stream of records as they change; one connection a host, hosts side by side. The
//! invariant: a look changes nothing on the host, but for a watchdog that was asked to end the job, and for what a dead
//! runner left, which the job's script then ends; and what a host that cannot be reached is doing is not guessed.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::failpoint::{FailPoint, reach};
use super::follow::end_words;
use super::link::{Link, Live, is_passing};
use super::lock::JobLock;
use super::running::Reporter;
use super::watch::{Watch, Watched, shown, unclaimed_words};
use super::{Client, HandoffError, remote};
use crate::agent::{AgentError, Exit};
use crate::job::{Evidence, JobId, JobRecord, State, evidence};

/// The time between attempts at a host that cannot be reached: it grows to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// The time between looks at the store for a job that another process is about to launch.
const PREPARING_INTERVAL: Duration = Duration::from_millis(500);
/// Updates that wait for a slow reader before the watching waits too.
const UPDATES: usize = 64;

/// What was seen of a job.
#[derive(Debug)]
#[non_exhaustive]
pub struct JobUpdate {
    /// The record as it is now.
    pub record: JobRecord,
    /// Why this job is not watched any further: its host cannot be asked at all, or nobody launches it any more
    /// ([`HandoffError::NeverStarted`]).
    pub error: Option<HandoffError>,
}

impl JobUpdate {
    /// Whether there will be no other one for this job: it has ended, or cannot be watched.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.error.is_some() || is_over(&self.record)
    }
}

/// Whether the agent's work is done: nothing more happens on the host by itself.
pub(crate) fn is_over(record: &JobRecord) -> bool {
    !record.state.is_live() || record.state == State::Returning
}

/// Several jobs, watched until each has ended: a [`Stream`] of what was seen. Dropping it ends the watching, and nothing
/// else.
#[derive(Debug)]
pub struct JobsWatch {
    updates: mpsc::Receiver<JobUpdate>,
    first: VecDeque<JobUpdate>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl JobsWatch {
    pub(crate) fn start(client: &Client, records: Vec<JobRecord>) -> Self {
        let (tell, updates) = mpsc::channel(UPDATES);
        let mut first = VecDeque::new();
        let mut hosts: BTreeMap<_, Vec<JobRecord>> = BTreeMap::new();
        for record in records {
            if is_over(&record) {
                first.push_back(JobUpdate {
                    record,
                    error: None,
                });
            } else {
                hosts.entry(record.host.clone()).or_default().push(record);
            }
        }
        let tasks = hosts
            .into_values()
            .map(|jobs| {
                let task = watch_host(client.clone(), jobs, tell.clone());
                AbortOnDropHandle::new(tokio::spawn(task))
            })
            .collect();
        Self {
            updates,
            first,
            _tasks: tasks,
        }
    }

    /// Waits for the next change; `None` once every job has ended or cannot be watched.
    ///
    /// Cancel safe: an update is either returned or still to come.
    pub async fn next(&mut self) -> Option<JobUpdate> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<JobUpdate>> {
        match self.first.pop_front() {
            Some(update) => Poll::Ready(Some(update)),
            None => self.updates.poll_recv(context),
        }
    }
}

impl Stream for JobsWatch {
    type Item = JobUpdate;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<JobUpdate>> {
        self.poll(context)
    }
}

/// One job that is looked at.
struct Observed {
    record: JobRecord,
    watch: Option<Watch>,
    told: bool,
    /// The last look has found that nothing was started, of a job that has not been seen to start.
    unstarted: bool,
}

impl Observed {
    /// A job that was not looked at yet.
    fn new(record: JobRecord) -> Self {
        Self {
            record,
            watch: None,
            told: false,
            unstarted: false,
        }
    }

    /// Looks once; what was found is in the record, here and in the store.
    async fn look(&mut self, client: &Client, live: &Live) -> Result<(), HandoffError> {
        if self.record.remote.is_none() {
            return self.reload(client).await;
        }
        self.unstarted = false;
        match &mut self.watch {
            None => self.first_look(client, live).await?,
            Some(watch) => {
                let watched = watch.look(live, false).await?;
                watch.note(live, shown(watched.as_ref())).await?;
                let has_begun = watch.has_begun();
                self.take(client, watched, has_begun).await?;
            }
        }
        if self.unstarted {
            return self.require_sender(client).await;
        }
        Ok(())
    }

    async fn take(
        &mut self,
        client: &Client,
        watched: Option<Watched>,
        has_begun: bool,
    ) -> Result<(), HandoffError> {
        match watched {
            Some(Watched::Ended(exit)) => self.ended(client, &exit).await,
            Some(Watched::Vanished(Evidence::Unclaimed | Evidence::NeverStarted, _))
                if self.has_not_run() =>
            {
                self.unstarted = true;
                Ok(())
            }
            // As long as it is not buried it may still start.
            Some(Watched::Vanished(Evidence::NeverStarted, _)) => Ok(()),
            Some(Watched::Vanished(evidence, reason)) => {
                tracing::info!(job = %self.record.id, reason, "the job is over");
                self.change(client, evidence, Some(reason)).await
            }
            Some(Watched::AgentRuns) | None if has_begun => {
                self.change(client, Evidence::Alive, None).await
            }
            Some(Watched::AgentRuns) | None => {
                self.change(client, Evidence::OtherMachine, None).await
            }
        }
    }

    fn has_not_run(&self) -> bool {
        matches!(self.record.state, State::Preparing | State::Launching)
    }

    /// Asks the host's script, which also tells the time there; then reads what there is of the log.
    async fn first_look(&mut self, client: &Client, live: &Live) -> Result<(), HandoffError> {
        let Some(place) = self.record.remote.clone() else {
            return Ok(());
        };
        let directory = place.job_directory;
        let status = remote::status(live, &directory).await?;
        // A claim without a start stays one: whoever only looks cannot keep the runner from starting yet.
        let evidence = evidence(status.as_ref(), false);
        let state = self.record.state.judge(self.record.mode, evidence);
        let mut watch = Watch::resumed(
            client.store(),
            &directory,
            &Reporter::unheard(),
            &self.record,
        );
        if let Some(status) = &status {
            watch.set_clock(status.clock_ms);
            watch.found_in(status.phase);
        }
        let reason = match evidence {
            Evidence::Rebooted => Some("the host was restarted"),
            Evidence::Died => Some("the runner is gone and left no result"),
            Evidence::Unclaimed if state == State::Lost => Some(unclaimed_words(status.is_some())),
            _ => None,
        };
        let ended = status.as_ref().is_some_and(|status| status.exit.is_some());
        watch.catch_up(live, ended).await?;
        watch.note(live, evidence).await?;
        self.watch = Some(watch);
        self.unstarted = evidence == Evidence::Unclaimed && self.has_not_run();
        match status.and_then(|status| status.exit) {
            Some(exit) => self.ended(client, &exit).await,
            None => self.change(client, evidence, reason).await,
        }
    }

    async fn ended(&mut self, client: &Client, exit: &Exit) -> Result<(), HandoffError> {
        let exit = exit.clone();
        self.record = client
            .store()
            .amend(&self.record.id, move |record| {
                if record.state.is_live() {
                    record.end(&exit, end_words(&exit));
                }
            })
            .await?;
        reach(FailPoint::FoundNoted);
        Ok(())
    }

    /// Notes a state that was found; a job that somebody else has ended meanwhile stays so.
    async fn change(
        &mut self,
        client: &Client,
        evidence: Evidence,
        reason: Option<&'static str>,
    ) -> Result<(), HandoffError> {
        let seen = self.watch.as_ref().map(|watch| watch.seen.clone());
        if self.record.state.judge(self.record.mode, evidence) == self.record.state {
            if let Some(seen) = seen {
                seen.note_in(&mut self.record);
            }
            return Ok(());
        }
        self.record = client
            .store()
            .amend(&self.record.id, move |record| {
                if record.state.is_live() {
                    record.note(evidence);
                    record.error = reason.map(str::to_owned).or_else(|| record.error.take());
                }
            })
            .await?;
        Ok(())
    }

    /// A job that is recorded and has no place on its host yet: whoever launches it writes that down.
    async fn reload(&mut self, client: &Client) -> Result<(), HandoffError> {
        self.record = client.store().find(self.record.id.as_str()).await?;
        if self.record.remote.is_some() || is_over(&self.record) {
            return Ok(());
        }
        self.require_sender(client).await
    }

    /// Refuses to wait for a job that has not run and whose sender is gone: nobody launches it any more.
    async fn require_sender(&mut self, client: &Client) -> Result<(), HandoffError> {
        let Some(_lock) = JobLock::take(client.places(), &self.record.id)? else {
            return Ok(());
        };
        // As its sender has left it.
        self.record = client.store().find(self.record.id.as_str()).await?;
        if self.has_not_run() {
            return Err(HandoffError::NeverStarted {
                job: self.record.id.clone(),
                host: self.record.host.clone(),
            });
        }
        Ok(())
    }

    async fn not_reached(&mut self, client: &Client) -> Result<(), HandoffError> {
        self.record = not_reached(client, &self.record.id).await?;
        if let Some(watch) = &mut self.watch {
            watch.lost(self.record.attributes);
        }
        Ok(())
    }
}

/// Notes that the host does not answer, but of a job that another process follows: that one may have reached it. Gives
/// the record as it is now.
pub(crate) async fn not_reached(client: &Client, job: &JobId) -> Result<JobRecord, HandoffError> {
    let record = match JobLock::take(client.places(), job)? {
        Some(_lock) => {
            let store = client.store();
            store.amend(job, JobRecord::note_unreachable).await?
        }
        None => client.store().find(job.as_str()).await?,
    };
    Ok(record)
}

/// Looks at one job once. A host that does not answer is an attribute of the record and no error.
pub(crate) async fn look_once(
    client: &Client,
    record: JobRecord,
) -> Result<JobRecord, HandoffError> {
    let mut observed = Observed::new(record);
    if is_over(&observed.record) || observed.record.remote.is_none() {
        return Ok(observed.record);
    }
    let mut link = link_to(client, &[&observed.record])?;
    let looked = async {
        let live = link.live().await?;
        observed.first_look(client, &live).await
    };
    let result = looked.await;
    link.close();
    match result {
        Err(error) if is_away(&error) => {
            tracing::info!(%error, "the host was not reached");
            observed.not_reached(client).await?;
        }
        other => other?,
    }
    Ok(observed.record)
}

/// Looks at one job once, over a connection that is there.
pub(crate) async fn look_over(
    client: &Client,
    live: &Live,
    record: JobRecord,
) -> Result<JobRecord, HandoffError> {
    let mut observed = Observed::new(record);
    observed.first_look(client, live).await?;
    Ok(observed.record)
}

fn link_to(client: &Client, records: &[&JobRecord]) -> Result<Link, HandoffError> {
    let Some(first) = records.first() else {
        return Err(HandoffError::Aborted);
    };
    let host = client.host(first.host.as_str())?;
    let mut link = Link::to_job(client, &host, first, Reporter::unheard())?;
    let by_exec = |record: &&JobRecord| {
        record
            .remote
            .as_ref()
            .is_some_and(|remote| remote.files_by_exec)
    };
    if records.iter().any(by_exec) {
        link.use_exec_files();
    }
    // One attempt at a time: what to do about a failure is for the caller.
    link.patience = Some(Duration::ZERO);
    Ok(link)
}

/// Whether the host may answer the next time.
pub(crate) fn is_away(error: &HandoffError) -> bool {
    match error {
        HandoffError::Unreachable { .. } => true,
        HandoffError::Ssh(error) => is_passing(error),
        HandoffError::Agent(AgentError::JobAway { .. }) => true,
        _ => false,
    }
}

async fn watch_host(client: Client, jobs: Vec<JobRecord>, tell: mpsc::Sender<JobUpdate>) {
    let mut link = match link_to(&client, &jobs.iter().collect::<Vec<_>>()) {
        Ok(link) => link,
        Err(error) => return give_up(jobs, error, &tell).await,
    };
    let mut observed: Vec<Observed> = jobs.into_iter().map(Observed::new).collect();
    let mut pause = RETRY.0;
    while !observed.is_empty() {
        let live = match link.live().await {
            Ok(live) => live,
            Err(error) if is_away(&error) => {
                tracing::info!(%error, "the host was not reached");
                let mut rest = Vec::new();
                for mut job in observed {
                    let before = job.record.clone();
                    if let Err(error) = job.not_reached(&client).await {
                        tracing::warn!(%error, "the store");
                    }
                    let changed = before.state != job.record.state
                        || before.attributes != job.record.attributes;
                    if (changed || !job.told) && !update(&mut job, None, &tell).await {
                        return;
                    }
                    // Another process may have found its end.
                    if !is_over(&job.record) {
                        rest.push(job);
                    }
                }
                observed = rest;
                if observed.is_empty() {
                    break;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
                continue;
            }
            Err(error) => {
                let records = observed.into_iter().map(|job| job.record).collect();
                return give_up(records, error, &tell).await;
            }
        };
        let mut rest = Vec::new();
        let mut interval = RETRY.1;
        let mut jobs = observed.into_iter();
        while let Some(mut job) = jobs.next() {
            let before = job.record.clone();
            let (error, lost) = match job.look(&client, &live).await {
                Ok(()) => {
                    // A connection alone is nothing yet.
                    pause = RETRY.0;
                    (None, false)
                }
                Err(error) => match link.recover(error).await {
                    Ok(()) => (None, true),
                    // What cannot be seen there may be seen again.
                    Err(error @ HandoffError::Agent(AgentError::JobAway { .. })) => {
                        tracing::info!(%error, job = %job.record.id, "it was not seen");
                        (job.not_reached(&client).await.err(), false)
                    }
                    Err(error) => (Some(error), false),
                },
            };
            if let Some(watch) = &job.watch {
                interval = interval.min(watch.interval(false));
            } else {
                interval = interval.min(PREPARING_INTERVAL);
            }
            let over = error.is_some() || is_over(&job.record);
            if (over || before != job.record || !job.told) && !update(&mut job, error, &tell).await
            {
                return;
            }
            if !over {
                rest.push(job);
            }
            if lost {
                // The others would meet the same, and each would count as another loss.
                rest.extend(jobs.by_ref());
                interval = Duration::ZERO;
            }
        }
        observed = rest;
        if !observed.is_empty() {
            tokio::time::sleep(interval).await;
        }
    }
    link.close();
}

/// Tells of a job; false when nobody listens any more.
async fn update(
    job: &mut Observed,
    error: Option<HandoffError>,
    tell: &mpsc::Sender<JobUpdate>,
) -> bool {
    job.told = true;
    let record = job.record.clone();
    tell.send(JobUpdate { record, error }).await.is_ok()
}

/// Tells of jobs of a host that cannot be asked. The error goes with the first; the others get one of their own.
async fn give_up(jobs: Vec<JobRecord>, error: HandoffError, tell: &mpsc::Sender<JobUpdate>) {
    let mut error = Some(error);
    for record in jobs {
        let own = error.take().unwrap_or_else(|| HandoffError::NotWatched {
            job: record.id.clone(),
            host: record.host.clone(),
        });
        let sent = tell.send(JobUpdate {
            record,
            error: Some(own),
        });
        if sent.await.is_err() {
            return;
        }
    }
}
