//! Ending a job before its time.
//!
//! The main type is [`KillBuilder`]. The invariant: the runner is spared, so that what the agent had done is exported
//! and can be collected; whoever holds the job's lock writes its record, and this process only when that is itself.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::collect::{Collection, Place, START_GRACE, Settled, count_over};
use super::failpoint::{FailPoint, reach};
use super::follow::end_words;
use super::link::Link;
use super::lock::JobLock;
use super::running::Reporter;
use super::{Client, Failure, HandoffError, remote};
use crate::agent::{Claim, Exit, KillAnswer, KillReason};
use crate::hosts::HostName;
use crate::job::{Evidence, JobId, JobRecord, State, evidence};
use crate::session::SessionId;

/// The grace period where none is named.
const GRACE: Duration = Duration::from_secs(5);
/// For how long after the grace period an end is waited for: the agent's export takes its time.
const PATIENCE: Duration = Duration::from_secs(120);
/// The time between looks at a job that has been asked to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);
/// For how long a lost host is tried again.
const LINK_PATIENCE: Duration = Duration::from_secs(30);
/// For how long a process that follows the job may take to note its end.
const FOLLOWER: Duration = Duration::from_secs(5);

/// The end of a job to be: made by [`Client::kill`], carried out by [`KillBuilder::run`].
#[derive(Debug, Clone)]
#[must_use = "a kill does nothing until it is run"]
pub struct KillBuilder {
    client: Client,
    job: String,
    grace: Duration,
    reason: KillReason,
}

/// How a kill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KillEnding {
    /// The agent and its family are gone.
    Killed,
    /// The job had ended before.
    AlreadyEnded,
    /// The job was never launched, and never will be; its session is free.
    Closed,
}

/// What a kill came to.
///
/// Serialises as the answer of `--json`; the form is public API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Killed {
    /// How it ended.
    #[serde(rename = "outcome")]
    pub ending: KillEnding,
    /// The job.
    pub job: JobId,
    /// The host's name.
    pub host: HostName,
    /// The session; a job that makes its own has none before it runs.
    pub session: Option<SessionId>,
    /// What the job is now.
    pub state: State,
    /// What the agent had done is on the host, to be collected.
    pub result: bool,
    /// Processes of the agent that could not be ended: 0 but for what the kernel will not end.
    pub left: u32,
}

impl KillBuilder {
    pub(crate) fn new(client: Client, job: String) -> Self {
        Self {
            client,
            job,
            grace: GRACE,
            reason: KillReason::default(),
        }
    }

    /// How long the agent may take to end by itself (5 seconds where it is not said, an hour at most).
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace.min(KillReason::LONGEST_GRACE);
        self
    }

    /// Why; the result tells it.
    pub fn reason(mut self, reason: KillReason) -> Self {
        self.reason = reason;
        self
    }

    /// Ends the job and waits until nothing of its agent is there. To be repeated freely: a job that has ended says so.
    ///
    /// Dropping the future leaves a job that may have been asked to end; what becomes of it is found by the next look.
    ///
    /// # Errors
    /// [`HandoffError::NotEnded`] when it has been asked to end and has not in time; the errors of reaching the host,
    /// of the store, and [`HandoffError::Vanished`] where there was nothing to end any more.
    pub async fn run(self) -> Result<Killed, Failure> {
        let store = self.client.store();
        let record = store.find(&self.job).await.map_err(HandoffError::from)?;
        let job = record.id.clone();
        self.end(record).await.map_err(|error| Failure {
            job: Some(job),
            ..Failure::from(error)
        })
    }

    async fn end(&self, mut record: JobRecord) -> Result<Killed, HandoffError> {
        let mut lock = JobLock::take(self.client.places(), &record.id)?;
        record = self.client.store().find(record.id.as_str()).await?;
        if matches!(record.state, State::Completed | State::Killed) || record.cleaned_ms.is_some() {
            let result = record.is_uncollected();
            return Ok(told(&record, KillEnding::AlreadyEnded, result, 0));
        }
        if record.ended_unsent() {
            if let Some(lock) = lock {
                lock.retire();
            }
            return Ok(told(&record, KillEnding::Closed, false, 0));
        }
        let host = self.client.host(record.host.as_str())?;
        let reporter = Reporter::unheard();
        let mut link = Link::to_job(&self.client, &host, &record, reporter.clone())?;
        link.patience = Some(LINK_PATIENCE);
        let mut collection = Collection {
            client: &self.client,
            reporter: &reporter,
            host: &host,
            record: &mut record,
            since: Instant::now(),
        };
        let (ending, exit) = self
            .at_host(&mut collection, &mut link, lock.is_some())
            .await?;
        reach(FailPoint::KillEnded);
        if lock.is_none() {
            // Whoever follows the job sees its end, and notes it.
            let since = Instant::now();
            while lock.is_none() && since.elapsed() < FOLLOWER {
                tokio::time::sleep(LOOK_INTERVAL).await;
                lock = JobLock::take(self.client.places(), &record.id)?;
            }
            record = self.client.store().find(record.id.as_str()).await?;
        }
        if let Some(exit) = &exit {
            if record.state.is_live()
                && let Some(places) = record.remote.clone()
            {
                count_over(&self.client, &mut link, &places.job_directory, &mut record).await?;
            }
            if record.state.is_live() && record.end(exit, end_words(exit)) && lock.is_some() {
                self.client.store().update(&mut record).await?;
            }
        } else if ending == KillEnding::Closed {
            record.state = State::Killed;
        }
        link.close();
        if let Some(lock) = lock.filter(|_| ending == KillEnding::Closed) {
            lock.retire();
        }
        let result = exit.as_ref().is_some_and(Exit::has_result);
        let left = exit.map_or(0, |exit| exit.left);
        Ok(told(&record, ending, result, left))
    }

    /// Asks the host, and waits for the end.
    async fn at_host(
        &self,
        collection: &mut Collection<'_>,
        link: &mut Link,
        ours: bool,
    ) -> Result<(KillEnding, Option<Exit>), HandoffError> {
        let place = collection.locate(link).await?;
        let deadline = Instant::now() + self.grace + PATIENCE;
        let mut asked = false;
        loop {
            match self.ask(link, &place).await? {
                KillAnswer::Ended(exit) => {
                    let here = asked || collection.record.state.is_live();
                    let ending = if here && exit.reason.is_kill() {
                        KillEnding::Killed
                    } else {
                        KillEnding::AlreadyEnded
                    };
                    return Ok((ending, Some(exit)));
                }
                KillAnswer::Asked => {
                    asked = true;
                    reach(FailPoint::KillAsked);
                    let waited = self.wait(collection, link, &place, ours, deadline);
                    match waited.await? {
                        // Its launch died before its runner's first word: nobody there hears what is asked.
                        Some(Evidence::NeverStarted) if close(collection, link, &place).await? => {
                            return Ok((KillEnding::Closed, None));
                        }
                        Some(_) => continue,
                        None => {}
                    }
                }
                KillAnswer::NeverLaunched | KillAnswer::Missing if ours => {
                    if close(collection, link, &place).await? {
                        return Ok((KillEnding::Closed, None));
                    }
                    continue;
                }
                KillAnswer::NeverLaunched => return Ok((KillEnding::Closed, None)),
                KillAnswer::Missing => {
                    let live = link.live().await?;
                    match remote::settle(&live, &place.directory).await {
                        Ok(Claim::Tombstone) => return Ok((KillEnding::Closed, None)),
                        Ok(_) => {}
                        Err(error) => link.recover(error).await?,
                    }
                }
                KillAnswer::Rebooted => {
                    let reason = "the host was restarted";
                    return Err(match ours {
                        true => collection.gone(reason, Evidence::Rebooted).await?,
                        false => HandoffError::Vanished {
                            job: collection.record.id.clone(),
                            host: collection.record.host.clone(),
                            state: State::Lost,
                            reason,
                        },
                    });
                }
                _ => {
                    return Err(HandoffError::StateDirectory {
                        host: collection.record.host.clone(),
                        directory: place.directory.to_string(),
                        reason: "the request could not be written there".to_owned(),
                    });
                }
            }
            if Instant::now() >= deadline {
                return Err(HandoffError::NotEnded {
                    job: collection.record.id.clone(),
                    host: collection.record.host.clone(),
                });
            }
        }
    }

    async fn ask(&self, link: &mut Link, place: &Place) -> Result<KillAnswer, HandoffError> {
        loop {
            let live = link.live().await?;
            match remote::kill(&live, &place.directory, self.reason, self.grace).await {
                Ok(answer) => return Ok(answer),
                Err(error) => link.recover(error).await?,
            }
        }
    }

    /// Waits until there is something to ask again for: an end, or a runner that is gone; with the job's lock (`ours`)
    /// also one that has not started in its time. Nothing after the deadline.
    async fn wait(
        &self,
        collection: &Collection<'_>,
        link: &mut Link,
        place: &Place,
        ours: bool,
        deadline: Instant,
    ) -> Result<Option<Evidence>, HandoffError> {
        while Instant::now() < deadline {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let status = collection.look(link, &place.directory).await?;
            let grace_over = ours && collection.since.elapsed() > START_GRACE;
            match evidence(status.as_ref(), grace_over) {
                Evidence::Alive | Evidence::OtherMachine | Evidence::ClaimedOnly => {}
                evidence => return Ok(Some(evidence)),
            }
        }
        Ok(None)
    }
}

/// Closes a job that was not launched, or never started; false where it turns out to run all the same.
async fn close(
    collection: &mut Collection<'_>,
    link: &mut Link,
    place: &Place,
) -> Result<bool, HandoffError> {
    match collection.settle(link, place).await? {
        Settled::Closed => Ok(true),
        Settled::Gone(error) => Err(error),
        _ => Ok(false),
    }
}

fn told(record: &JobRecord, ending: KillEnding, result: bool, left: u32) -> Killed {
    Killed {
        ending,
        job: record.id.clone(),
        host: record.host.clone(),
        session: record.session.clone(),
        state: record.state,
        result,
        left,
    }
}
