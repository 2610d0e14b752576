//! The jobs of this machine, for a program that embeds the crate: list them, look at them, watch and steer one.
//!
//! The main types are [`Jobs`] and [`Job`]; both are cheap to make and hold no connection.

use super::glance::{Glance, glance};
use super::observe::{JobUpdate, JobsWatch, look_once};
use super::say::say;
use super::{
    Client, CollectBuilder, HandoffError, JobEvents, KillBuilder, Log, LogReader, SyncReport,
};
use crate::hosts::HostName;
use crate::job::{JobId, JobRecord};
use crate::session::SessionId;

/// The jobs that this machine has sent.
#[derive(Debug, Clone)]
pub struct Jobs {
    client: Client,
}

/// One job, as its record was when it was asked for.
#[derive(Debug, Clone)]
pub struct Job {
    client: Client,
    record: JobRecord,
}

impl Client {
    /// The jobs that this machine has sent, and what can be done with them.
    #[must_use]
    pub fn all_jobs(&self) -> Jobs {
        Jobs {
            client: self.clone(),
        }
    }
}

impl Jobs {
    /// The records, newest first, as they were last seen; no host is asked. Safe to cancel.
    ///
    /// # Errors
    /// [`HandoffError::Store`].
    pub async fn list(&self) -> Result<Vec<JobRecord>, HandoffError> {
        self.client.jobs().await
    }

    /// A job: its id, the beginning of one, or `-` for the newest. Safe to cancel.
    ///
    /// # Errors
    /// [`HandoffError::Store`] when there is none, or more than one.
    pub async fn get(&self, job: &str) -> Result<Job, HandoffError> {
        Ok(Job {
            client: self.client.clone(),
            record: self.client.store().find(job).await?,
        })
    }

    /// Watches jobs until each has ended: a stream of records as they change, one connection a host.
    ///
    /// Must be called in a tokio runtime. Dropping what it gives ends the watching and nothing else.
    #[must_use]
    pub fn watch(&self, jobs: Vec<JobRecord>) -> JobsWatch {
        JobsWatch::start(&self.client, jobs)
    }

    /// Finds out what became of the unfinished jobs of these hosts (none named: of all), and closes those that were
    /// never launched. See [`Client::sync`].
    ///
    /// Dropping the future leaves jobs that were not looked at as they were.
    ///
    /// # Errors
    /// As [`Client::sync`].
    pub async fn sync(&self, hosts: &[HostName]) -> Result<SyncReport, HandoffError> {
        self.client.sync(hosts).await
    }

    /// Looks quickly at those of these jobs that have not ended: one connection a host, hosts side by side, each for
    /// three seconds at most, and nobody is asked for a password. A host that does not answer is an attribute of its
    /// jobs; what it or its configuration meets is in the answer.
    ///
    /// Safe to cancel: what was found until then is recorded.
    pub async fn look(&self, jobs: Vec<JobRecord>) -> Glance {
        glance(&self.client, jobs).await
    }
}

impl Job {
    /// The job's id.
    #[must_use]
    pub fn id(&self) -> &JobId {
        &self.record.id
    }

    /// The record, as it was last seen.
    #[must_use]
    pub fn record(&self) -> &JobRecord {
        &self.record
    }

    /// Looks at the host once, and gives the record as it is then. A host that does not answer is an attribute of it.
    ///
    /// Safe to cancel.
    ///
    /// # Errors
    /// [`HandoffError::Store`], and what the host's configuration or login meets.
    pub async fn look(&mut self) -> Result<&JobRecord, HandoffError> {
        self.record = look_once(&self.client, self.record.clone()).await?;
        Ok(&self.record)
    }

    /// What the agent printed so far and, with `follow`, what it prints until the job has ended.
    ///
    /// # Errors
    /// [`HandoffError::NoLog`] when there is none.
    pub fn logs(&self, log: Log, follow: bool) -> Result<LogReader, HandoffError> {
        LogReader::new(&self.client, &self.record, log, follow)
    }

    /// The agent's events from the first one on, until the job has ended.
    ///
    /// # Errors
    /// As [`Job::logs`].
    pub fn events(&self) -> Result<JobEvents, HandoffError> {
        Ok(JobEvents::new(self.logs(Log::Events, true)?))
    }

    /// Waits until the job has ended, and gives its record then.
    ///
    /// Safe to cancel: the job does not depend on it.
    ///
    /// # Errors
    /// What makes the host impossible to ask; a link that is down is waited for.
    pub async fn wait(&self) -> Result<JobRecord, HandoffError> {
        let mut watch = JobsWatch::start(&self.client, vec![self.record.clone()]);
        while let Some(update) = watch.next().await {
            let last = update.is_last();
            let JobUpdate { record, error } = update;
            if let Some(error) = error {
                return Err(error);
            }
            if last {
                return Ok(record);
            }
        }
        Err(HandoffError::Aborted)
    }

    /// Begins its collection.
    pub fn collect(&self) -> CollectBuilder {
        self.client.collect(self.record.id.to_string())
    }

    /// Begins its end: the agent and everything that it has started.
    pub fn kill(&self) -> KillBuilder {
        self.client.kill(self.record.id.to_string())
    }

    /// Gives the running agent a message, which it reads after its present turn.
    ///
    /// Not to be cancelled: whether the message was taken would be unknown.
    ///
    /// # Errors
    /// [`HandoffError::NotLaunched`], [`HandoffError::InboxClosed`] when the agent takes nothing any more, and those of the connection: then the
    /// message may have been taken.
    pub async fn say(&self, message: &str) -> Result<(), HandoffError> {
        say(&self.client, &self.record, message).await
    }

    /// Refuses a session that did not start this job.
    ///
    /// # Errors
    /// [`HandoffError::NotOwnJob`].
    pub fn require_parent(&self, parent: &SessionId) -> Result<(), HandoffError> {
        require_parent(&self.record, parent)
    }
}

/// Refuses a session that did not start the job.
pub(crate) fn require_parent(record: &JobRecord, parent: &SessionId) -> Result<(), HandoffError> {
    if record.parent.as_ref() == Some(parent) {
        return Ok(());
    }
    Err(HandoffError::NotOwnJob {
        job: record.id.clone(),
    })
}
