//! Collecting a job: derive what became of it from what is there, and go on from that.

use std::time::{Duration, Instant};

use super::failpoint::{FailPoint, reach};
use super::follow::{Follow, end_words};
use super::link::{Link, Live};
use super::lock::JobLock;
use super::request::{CollectBuilder, Homecoming};
use super::running::Reporter;
use super::watch::{Watch, unclaimed_words};
use super::{Client, Ending, Failure, HandoffError, Outcome, local_files, manual, remote, steer};
use crate::agent::{Claim, Exit, ExitReason, JobStatus, KillReason, Phase, ProbeFor, ProbeRequest};
use crate::events::{Event, Step};
use crate::hosts::{Host, HostPath};
use crate::job::{Evidence, JobRecord, State, evidence, now_ms};
use crate::ssh::RemotePath;

/// How long a claimed job may take to start before it counts as one that never did.
pub(super) const START_GRACE: Duration = Duration::from_secs(15);
/// The time between looks at a claimed job that has not started.
const START_INTERVAL: Duration = Duration::from_millis(500);
/// How long a lost host is tried again while a job is settled in passing.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn collect(
    request: CollectBuilder,
    reporter: Reporter,
) -> Result<Outcome, Failure> {
    let client = request.client.clone();
    let mut record = client
        .store()
        .find(&request.job)
        .await
        .map_err(HandoffError::from)?;
    let job = record.id.clone();
    let refused = |error: HandoffError| Failure {
        job: Some(job.clone()),
        ..Failure::from(error)
    };
    let Some(lock) = JobLock::take(client.places(), &job).map_err(refused)? else {
        return Err(refused(HandoffError::JobBusy { job: job.clone() }));
    };
    // As it is now that nobody else writes it.
    record = client
        .store()
        .find(job.as_str())
        .await
        .map_err(|error| refused(error.into()))?;
    if record.cleaned_ms.is_some() {
        lock.retire();
        return Err(refused(HandoffError::AlreadyCollected { job: job.clone() }));
    }
    reporter
        .tell(Event::Job {
            job: record.id.to_string(),
            host: record.host.to_string(),
            session: record.session.as_ref().map(ToString::to_string),
        })
        .await;
    let host = client.host(record.host.as_str())?;
    let mut link = Link::to_job(&client, &host, &record, reporter.clone())?;
    link.mark(client.store(), &record);
    let mut homecoming = request.homecoming;
    homecoming.forget |= record.forget;
    let mut collection = Collection {
        client: &client,
        reporter: &reporter,
        host: &host,
        record: &mut record,
        since: Instant::now(),
    };
    let result = collection.run(&mut link, homecoming).await;
    link.close();
    if record.cleaned_ms.is_some() {
        lock.retire();
    }
    result.map_err(|error| Failure {
        manual: manual::steps(&record, client.places(), &error),
        job: Some(job),
        error,
    })
}

/// Notes the end of a job that has ended on its host, so that its session is free again; a job that lives, or
/// that has a result to come, stays as it is. A host that cannot be reached changes nothing.
pub(crate) async fn settle_if_ended(
    client: &Client,
    mut holder: JobRecord,
    reporter: &Reporter,
) -> Result<(), HandoffError> {
    // Whoever follows the job writes its record; and it has ended here when it has.
    let Some(_lock) = JobLock::take(client.places(), &holder.id)? else {
        return Ok(());
    };
    holder = client.store().find(holder.id.as_str()).await?;
    let Some(remote) = holder.remote.clone().filter(|_| holder.state.is_live()) else {
        return Ok(());
    };
    let Ok(host) = client.host(holder.host.as_str()) else {
        return Ok(());
    };
    let mut link = Link::to_job(client, &host, &holder, reporter.clone())?;
    link.patience = Some(SETTLE_PATIENCE);
    let looked = async {
        let status = remote::status(&link.live().await?, &remote.job_directory).await?;
        // How it ended is not known before its events are counted.
        if status.as_ref().is_some_and(|status| status.exit.is_some()) {
            count_over(client, &mut link, &remote.job_directory, &mut holder).await?;
        }
        Ok::<_, HandoffError>(status)
    };
    let status = looked.await;
    link.close();
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            reporter
                .warn(format!(
                    "job {} holds the session, and its host does not answer: {error}",
                    holder.id
                ))
                .await;
            return Ok(());
        }
    };
    let exit = status.as_ref().and_then(|status| status.exit.as_ref());
    let changed = match (exit, evidence(status.as_ref(), false)) {
        (Some(exit), _) => holder.end(exit, end_words(exit)),
        // Its agent may live on: whoever collects or kills it ends that first.
        (None, Evidence::Died) => return Ok(()),
        (None, evidence) => holder.note(evidence),
    };
    if changed {
        client.store().update(&mut holder).await?;
    }
    Ok(())
}

/// A job's directory on its host.
pub(super) struct Place {
    pub(super) directory: RemotePath,
    /// It was made just now, to close a job that never got one.
    made_now: bool,
}

/// A job whose lock is held, and what it takes to find out what became of it.
pub(super) struct Collection<'a> {
    pub(super) client: &'a Client,
    pub(super) reporter: &'a Reporter,
    pub(super) host: &'a Host,
    pub(super) record: &'a mut JobRecord,
    /// From when on a claim without a start is waited for.
    pub(super) since: Instant,
}

/// What a job turned out to be. The record says so by then, in the store too.
pub(super) enum Settled {
    /// It was never launched; it is closed now, and what was sent is gone.
    Closed,
    /// Its runner has ended.
    Ended(Exit),
    /// Its runner lives, or is not ours to judge.
    Live {
        /// The host's clock just now, in milliseconds since 1970.
        clock_ms: Option<u64>,
    },
    /// It is over, and there is nothing to bring back.
    Gone(HandoffError),
    /// The caller has detached.
    Detached,
}

impl Collection<'_> {
    /// Where the job is on its host. A sender that died before it noted that may or may not have had the
    /// directory made: it is made now, so that a slow one finds it taken.
    pub(super) async fn locate(&self, link: &mut Link) -> Result<Place, HandoffError> {
        if let Some(remote) = &self.record.remote {
            return Ok(Place {
                directory: remote.job_directory.clone(),
                made_now: false,
            });
        }
        let question = ProbeRequest {
            purpose: ProbeFor::Job(self.record.id.as_str()),
            state_dir: self.host.state_dir.as_ref().map(HostPath::as_str),
            opencode: self.host.opencode.as_ref().map(HostPath::as_str),
            work_dir: None,
        };
        loop {
            let live = link.live().await?;
            self.reporter.step(Step::Probe, "").await;
            match remote::probe(&live.connection, &question).await {
                Ok((probe, _)) => {
                    let directory = probe.state.join("jobs").join(self.record.id.as_str());
                    return match probe.directory {
                        Some(Ok(made)) => Ok(Place {
                            directory,
                            made_now: made.is_new,
                        }),
                        _ => Ok(Place {
                            directory,
                            made_now: false,
                        }),
                    };
                }
                Err(error) => link.recover(error).await?,
            }
        }
    }

    async fn run(
        &mut self,
        link: &mut Link,
        homecoming: Homecoming,
    ) -> Result<Outcome, HandoffError> {
        let detach = self.reporter.detach.clone();
        let located = tokio::select! {
            biased;
            () = detach.cancelled() => None,
            place = self.locate(link) => Some(place?),
        };
        let Some(place) = located else {
            return Ok(self.detached());
        };
        if self.record.is_brought_home() {
            let mut follow = self.follow(&place, homecoming);
            follow.clean_up(link).await;
            return Ok(follow.outcome(Ending::Completed, None));
        }
        match self.settle(link, &place).await? {
            Settled::Closed => {
                let follow = self.follow(&place, Homecoming::default());
                Ok(follow.outcome(Ending::Closed, None))
            }
            Settled::Ended(exit) => ended(self.follow(&place, homecoming), link, exit).await,
            Settled::Live { clock_ms } => {
                let mut follow = self.follow(&place, homecoming);
                follow.clock_ms = clock_ms;
                follow.see_through(link, true).await
            }
            Settled::Gone(error) => Err(error),
            Settled::Detached => Ok(self.detached()),
        }
    }

    /// Derives what became of the job from what is there, and notes it; a job that was never launched is closed.
    pub(super) async fn settle(
        &mut self,
        link: &mut Link,
        place: &Place,
    ) -> Result<Settled, HandoffError> {
        let detach = self.reporter.detach.clone();
        let (mut ended, mut burying) = (false, None);
        let mut seen_dead = false;
        loop {
            let looked = tokio::select! {
                biased;
                () = detach.cancelled() => None,
                status = self.look(link, &place.directory) => Some(status?),
            };
            let Some(status) = looked else {
                return Ok(Settled::Detached);
            };
            let evidence = evidence(status.as_ref(), self.since.elapsed() > START_GRACE);
            match evidence {
                Evidence::Unclaimed | Evidence::Tombstone => {
                    if self.record.was_launched() && status.is_none() {
                        let reason = unclaimed_words(false);
                        let gone = self.gone(reason, Evidence::Unclaimed).await?;
                        return Ok(Settled::Gone(gone));
                    }
                    if self.close(link, place).await? {
                        return Ok(Settled::Closed);
                    }
                }
                Evidence::ClaimedOnly => tokio::time::sleep(START_INTERVAL).await,
                // Once it is buried the next look finds the tombstone; a runner that was faster is seen as alive, in a
                // moment. One that takes its time may still start: its session stays taken.
                Evidence::NeverStarted => {
                    let since = *burying.get_or_insert_with(Instant::now);
                    let live = link.live().await?;
                    match remote::bury(&live, &place.directory).await {
                        Ok(true) => reach(FailPoint::Buried),
                        Ok(false) if since.elapsed() > START_GRACE => {
                            let (job, host) = (self.record.id.clone(), self.record.host.clone());
                            return Err(HandoffError::NeverStarted { job, host });
                        }
                        Ok(false) => tokio::time::sleep(START_INTERVAL).await,
                        Err(error) => link.recover(error).await?,
                    }
                }
                Evidence::Rebooted => {
                    let gone = self.gone("the host was restarted", evidence).await?;
                    return Ok(Settled::Gone(gone));
                }
                // What the runner left is ended before the session is free. The job's script does that whenever it
                // is looked at, unless it is of an older version.
                Evidence::Died if !seen_dead => {
                    // Its guard may be about to show itself.
                    seen_dead = true;
                    tokio::time::sleep(START_INTERVAL).await;
                }
                Evidence::Died if !ended => {
                    let live = link.live().await?;
                    match steer::end(&live, &place.directory, KillReason::Asked).await {
                        Ok(_) => ended = true,
                        Err(error) => link.recover(error).await?,
                    }
                }
                Evidence::Died => {
                    let reason = "the runner is gone and left no result";
                    return Ok(Settled::Gone(self.gone(reason, evidence).await?));
                }
                Evidence::Ended { .. } | Evidence::Killed { .. } => {
                    let Some(exit) = status.and_then(|status| status.exit) else {
                        continue;
                    };
                    self.note_end(link, place, &exit).await?;
                    return Ok(Settled::Ended(exit));
                }
                _ => {
                    self.note(evidence).await?;
                    return Ok(Settled::Live {
                        clock_ms: status.map(|status| status.clock_ms),
                    });
                }
            }
        }
    }

    /// The caller has detached; what there is on the host stays as it is.
    fn detached(&self) -> Outcome {
        Outcome {
            ending: Ending::Detached,
            job: self.record.id.clone(),
            host: self.record.host.clone(),
            kind: self.record.kind,
            session: self.record.session.clone(),
            mode: self.record.mode,
            trip: None,
            duration_ms: now_ms().saturating_sub(self.record.created_ms()),
        }
    }

    fn follow(&mut self, place: &Place, homecoming: Homecoming) -> Follow<'_> {
        Follow {
            client: self.client,
            reporter: self.reporter,
            record: self.record,
            directory: place.directory.clone(),
            homecoming,
            clock_ms: None,
        }
    }

    pub(super) async fn look(
        &self,
        link: &mut Link,
        directory: &RemotePath,
    ) -> Result<Option<JobStatus>, HandoffError> {
        loop {
            let live = link.live().await?;
            match remote::status(&live, directory).await {
                Ok(status) => return Ok(status),
                Err(error) => link.recover(error).await?,
            }
        }
    }

    /// Notes what follows from the evidence.
    pub(super) async fn note(&mut self, evidence: Evidence) -> Result<(), HandoffError> {
        // What a look of another process has noted meanwhile stays.
        if self.record.clone().note(evidence) {
            let amended = self.client.store().amend(&self.record.id, move |record| {
                record.note(evidence);
            });
            *self.record = amended.await?;
        }
        Ok(())
    }

    /// Notes an end, and why it was none that was wished for.
    pub(super) async fn note_end(
        &mut self,
        link: &mut Link,
        place: &Place,
        exit: &Exit,
    ) -> Result<(), HandoffError> {
        self.count_rest(link, place).await?;
        // What an ended job's record says of its end stays; collecting must not blot out why it was looked at.
        if self.record.state.is_live() && self.record.end(exit, end_words(exit)) {
            self.client.store().update(self.record).await?;
        }
        Ok(())
    }

    /// Counts in the record what nobody has watched of the events of a job that has ended just now, or of which a part
    /// alone was counted then.
    async fn count_rest(&mut self, link: &mut Link, place: &Place) -> Result<(), HandoffError> {
        let ended = self.record.state.is_ended();
        if ended && !self.record.usage.partial {
            return Ok(());
        }
        count_over(self.client, link, &place.directory, self.record).await?;
        if ended {
            self.client.store().update(self.record).await?;
        }
        Ok(())
    }

    /// Closes a job that was never launched; false when it turns out that it was.
    async fn close(&mut self, link: &mut Link, place: &Place) -> Result<bool, HandoffError> {
        let claim = loop {
            let live = link.live().await?;
            match remote::settle(&live, &place.directory).await {
                Ok(claim) => break claim,
                Err(error) => link.recover(error).await?,
            }
        };
        if claim != Claim::Tombstone {
            return Ok(false);
        }
        reach(FailPoint::Settled);
        if self.record.state.is_live() {
            self.enter(State::Killed).await?;
        }
        reach(FailPoint::CloseNoted);
        // A directory that was made just now stays, with its tombstone: a slow sender must still find it.
        if !place.made_now {
            let live = link.live().await?;
            if !remote::clean(&live.connection, &place.directory).await? {
                self.reporter
                    .warn("what was sent is still on the host")
                    .await;
            }
        }
        reach(FailPoint::CloseCleaned);
        local_files::remove_all(self.client.places(), &self.record.id)?;
        self.record.cleaned_ms = Some(now_ms());
        self.client.store().update(self.record).await?;
        Ok(true)
    }

    pub(super) async fn gone(
        &mut self,
        reason: &'static str,
        evidence: Evidence,
    ) -> Result<HandoffError, HandoffError> {
        self.record.note(evidence);
        let state = self.record.state;
        let (job, host) = (self.record.id.clone(), self.record.host.clone());
        let error = HandoffError::Vanished {
            job,
            host,
            state,
            reason,
        };
        self.record.error = Some(error.to_string());
        self.client.store().update(self.record).await?;
        Ok(error)
    }

    async fn enter(&mut self, state: State) -> Result<(), HandoffError> {
        self.record.enter(state);
        Ok(self.client.store().update(self.record).await?)
    }
}

/// Counts in the record what nobody has watched of an ended job's events.
pub(super) async fn count_rest(
    client: &Client,
    live: &Live,
    directory: &RemotePath,
    record: &mut JobRecord,
) -> Result<(), HandoffError> {
    let mut watch = Watch::resumed(client.store(), directory, &Reporter::unheard(), record);
    watch.count_rest(live).await?;
    watch.seen.note_in(record);
    Ok(())
}

/// [`count_rest`] over a link that may be lost.
pub(super) async fn count_over(
    client: &Client,
    link: &mut Link,
    directory: &RemotePath,
    record: &mut JobRecord,
) -> Result<(), HandoffError> {
    loop {
        let live = link.live().await?;
        match count_rest(client, &live, directory, record).await {
            Ok(()) => return Ok(()),
            Err(error) => link.recover(error).await?,
        }
    }
}

/// Brings back what an ended job left. A result that could not be exported is asked for once more.
async fn ended(
    mut follow: Follow<'_>,
    link: &mut Link,
    exit: Exit,
) -> Result<Outcome, HandoffError> {
    if exit.has_result() {
        return follow.bring_back(link, &exit).await;
    }
    // Whatever cut it, a signal to the runner too: the agent's work was done by then. An agent that failed without a
    // result has made no session.
    let failed = matches!(
        exit.reason,
        ExitReason::AgentFailed | ExitReason::AgentSignalled
    );
    if exit.phase == Phase::Exporting && !failed {
        follow.reporter.step(Step::RemoteExport, "once more").await;
        let detach = follow.reporter.detach.clone();
        let again = tokio::select! {
            biased;
            () = detach.cancelled() => return Ok(follow.outcome(Ending::Detached, None)),
            again = export_again(link, &follow.directory) => again?,
        };
        if let Some(exit) = again.filter(Exit::has_result) {
            reach(FailPoint::ExportedAgain);
            return follow.bring_back(link, &exit).await;
        }
    }
    Err(follow.remote_failure(link, &exit).await)
}

async fn export_again(
    link: &mut Link,
    directory: &RemotePath,
) -> Result<Option<Exit>, HandoffError> {
    loop {
        let live = link.live().await?;
        match remote::export_again(&live, directory).await {
            Ok(again) => return Ok(again),
            Err(error) => link.recover(error).await?,
        }
    }
}
