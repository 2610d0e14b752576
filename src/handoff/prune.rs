//! Removing what ended jobs have left: their directories on the hosts, their files and records here.
//!
//! The main type is [`PruneBuilder`]. The invariants: a result that was not collected stays unless it is asked for with
//! force, and a record goes only after what it names on its host is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::failpoint::{FailPoint, reach};
use super::link::Link;
use super::lock::JobLock;
use super::running::Reporter;
use super::{Client, HandoffError, local_files, remote};
use crate::agent::{AgentError, RemoveAnswer};
use crate::hosts::{Host, HostName};
use crate::job::{JobId, JobRecord, State, now_ms};
use crate::ssh::RemotePath;

/// How old an ended job must be where nothing else is said.
const AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// For how long a host that was lost on the way is tried again.
const PATIENCE: Duration = Duration::from_secs(20);

/// A pruning to be: made by [`Client::prune`], carried out by [`PruneBuilder::run`].
#[derive(Debug, Clone)]
#[must_use = "a pruning does nothing until it is run"]
pub struct PruneBuilder {
    client: Client,
    older_than: Duration,
    dry_run: bool,
    force: bool,
    forgotten: Vec<HostName>,
}

/// What became of the ended jobs.
#[derive(Debug)]
#[non_exhaustive]
pub struct PruneReport {
    /// The jobs that were old enough, newest first.
    pub jobs: Vec<Pruned>,
    /// The hosts that were not reached, and why; their jobs are as they were.
    pub unreached: Vec<(HostName, HandoffError)>,
}

/// What became of one ended job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Pruned {
    /// The job.
    pub job: JobId,
    /// The host's name.
    pub host: HostName,
    /// What the job was.
    pub state: State,
    /// What was done.
    pub done: PruneDone,
}

/// What was done with an ended job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PruneDone {
    /// It is gone, here and on its host.
    Removed,
    /// Its record and its files here are gone; what it has left on its host stays there.
    Forgotten,
    /// It would be removed.
    WouldRemove,
    /// It stays: its result was not collected.
    KeptResult,
    /// It stays: another process is at work on it, or its runner lives.
    KeptBusy,
    /// It stays: its host was not reached, or could not remove it.
    KeptHost,
}

impl PruneBuilder {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            older_than: AGE,
            dry_run: false,
            force: false,
            forgotten: Vec::new(),
        }
    }

    /// Only jobs that ended longer ago than this (7 days where it is not said).
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = age;
        self
    }

    /// Says what would be done, and does nothing; no host is asked.
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Takes results that were not collected, too, and directories of jobs that other machines have sent.
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Prunes the jobs of these hosts alone, and asks none of them: they are gone, or configured no more. What the jobs
    /// have left there stays. With [`force`](Self::force) a job goes too that was alive when its host was last seen.
    pub fn forget_hosts(mut self, hosts: impl IntoIterator<Item = HostName>) -> Self {
        self.forgotten.extend(hosts);
        self
    }

    /// Prunes. Dropping the future leaves jobs that are not removed yet.
    ///
    /// # Errors
    /// [`HandoffError::Store`]. What a host met is in the report.
    pub async fn run(self) -> Result<PruneReport, HandoffError> {
        let age_ms = u64::try_from(self.older_than.as_millis()).unwrap_or(u64::MAX);
        let before = now_ms().saturating_sub(age_ms);
        let mut by_host: BTreeMap<HostName, Vec<JobRecord>> = BTreeMap::new();
        for record in self.client.store().list().await? {
            let ended = record.history.last().map_or(0, |last| last.at_ms);
            let ended = ended.max(record.collected_ms.unwrap_or(0));
            // What is back and not tidied up is for 'sync' and 'collect' first; here it goes with the rest.
            let asked_for = self.forgotten.is_empty() || self.forgotten.contains(&record.host);
            let over = record.state.is_ended() || self.gives_up(&record);
            if asked_for && over && ended <= before {
                by_host.entry(record.host.clone()).or_default().push(record);
            }
        }
        let work = by_host
            .into_iter()
            .map(|(name, records)| self.on_host(name, records));
        let mut report = PruneReport {
            jobs: Vec::new(),
            unreached: Vec::new(),
        };
        for (name, jobs, error) in futures::future::join_all(work).await {
            report.jobs.extend(jobs);
            match error {
                Some(HandoffError::Store(error)) => return Err(error.into()),
                Some(error) => report.unreached.push((name, error)),
                None => {}
            }
        }
        report.jobs.sort_by(|one, two| two.job.cmp(&one.job));
        Ok(report)
    }

    async fn on_host(
        &self,
        name: HostName,
        records: Vec<JobRecord>,
    ) -> (HostName, Vec<Pruned>, Option<HandoffError>) {
        let mut jobs = Vec::new();
        let mut stopped = None;
        let mut away = None;
        let mut link = None;
        let host = self.client.host(name.as_str());
        for record in records {
            let (job, state) = (record.id.clone(), record.state);
            // Once the host has failed, only what needs it not is done.
            let reachable = match (&host, &stopped) {
                (Ok(host), None) => Some(host),
                _ => None,
            };
            let done = match self.one(reachable, &mut link, record).await {
                Ok(done) => done,
                // It says nothing of the next job.
                Err(error @ HandoffError::Agent(AgentError::JobAway { .. })) => {
                    away.get_or_insert(error);
                    PruneDone::KeptHost
                }
                Err(error) => {
                    stopped.get_or_insert(error);
                    PruneDone::KeptHost
                }
            };
            jobs.push(Pruned {
                job,
                host: name.clone(),
                state,
                done,
            });
        }
        if let Some(mut link) = link {
            link.close();
        }
        let needed = jobs.iter().any(|job| job.done == PruneDone::KeptHost);
        let error = stopped.or(away);
        let error = error.or_else(|| host.err().filter(|_| needed));
        (name, jobs, error)
    }

    /// Whether a job is taken for over that was alive when its host was last seen.
    fn gives_up(&self, record: &JobRecord) -> bool {
        self.force && self.forgotten.contains(&record.host)
    }

    async fn one(
        &self,
        host: Option<&Host>,
        link: &mut Option<Link>,
        mut record: JobRecord,
    ) -> Result<PruneDone, HandoffError> {
        let Some(lock) = JobLock::take(self.client.places(), &record.id)? else {
            return Ok(PruneDone::KeptBusy);
        };
        record = self.client.store().find(record.id.as_str()).await?;
        if record.state.is_live() && !self.gives_up(&record) {
            return Ok(PruneDone::KeptBusy);
        }
        if record.is_uncollected() && !self.force {
            return Ok(PruneDone::KeptResult);
        }
        if self.dry_run {
            return Ok(PruneDone::WouldRemove);
        }
        let forgotten = self.forgotten.contains(&record.host);
        // What another machine has sent is that machine's to remove.
        let is_there =
            record.cleaned_ms.is_none() && (record.sender.is_none() || self.force) && !forgotten;
        if let Some(places) = record.remote.clone().filter(|_| is_there) {
            let Some(host) = host else {
                return Ok(PruneDone::KeptHost);
            };
            let link = match link {
                Some(link) => link,
                None => link.insert(Link::to_job(
                    &self.client,
                    host,
                    &record,
                    Reporter::unheard(),
                )?),
            };
            link.patience = Some(PATIENCE);
            if record.state == State::Lost
                && !self.force
                && has_result(link, &places.job_directory).await?
            {
                return Ok(PruneDone::KeptResult);
            }
            let removed = loop {
                let live = link.live().await?;
                match remote::remove(&live, &places.job_directory).await {
                    Ok(removed) => break removed,
                    Err(error) => link.recover(error).await?,
                }
            };
            match removed {
                RemoveAnswer::Removed => {}
                RemoveAnswer::Alive => return Ok(PruneDone::KeptBusy),
                RemoveAnswer::Failed(reason) => {
                    tracing::warn!(job = %record.id, %reason, "its directory on the host stays");
                    return Ok(PruneDone::KeptHost);
                }
            }
        }
        reach(FailPoint::PrunedThere);
        local_files::remove_all(self.client.places(), &record.id)?;
        reach(FailPoint::PrunedHere);
        self.client.store().remove(&record.id).await?;
        lock.retire();
        Ok(match forgotten {
            true => PruneDone::Forgotten,
            false => PruneDone::Removed,
        })
    }
}

/// Whether a result is there after all, of a job that was taken for lost.
async fn has_result(link: &mut Link, directory: &RemotePath) -> Result<bool, HandoffError> {
    loop {
        let live = link.live().await?;
        match remote::status(&live, directory).await {
            Ok(status) => return Ok(status.is_some_and(|status| status.result_size.is_some())),
            Err(error) => link.recover(error).await?,
        }
    }
}
