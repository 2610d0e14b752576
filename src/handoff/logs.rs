//! Reading what a job's agent prints, from any byte on, over links that come and go.
//!
//! The main type is [`LogReader`]. The invariant: bytes come in their order, none twice and none left out, however
//! often the connection is lost.

use std::time::Duration;

use super::link::{Link, Live};
use super::running::Reporter;
use super::{Client, HandoffError, remote};
use crate::agent::names;
use crate::job::{JobId, JobRecord};
use crate::ssh::{RemotePath, SshError};

/// The time between looks at a log that is followed.
const INTERVAL: Duration = Duration::from_millis(300);
/// The most that one look reads, in bytes.
const CHUNK: u64 = 256 << 10;
/// After so many looks without anything new it is asked whether the runner lives.
const SILENT_LOOKS: u32 = 60;

/// Which of a job's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Log {
    /// The agent's events: NDJSON as `opencode run --format json` prints it.
    #[default]
    Events,
    /// The agent's error output, and what the runner says.
    Stderr,
}

impl Log {
    fn name(self) -> &'static str {
        match self {
            Self::Events => names::EVENTS,
            Self::Stderr => names::STDERR,
        }
    }
}

/// One of a job's logs, read from a byte on.
pub struct LogReader {
    link: Link,
    directory: RemotePath,
    path: RemotePath,
    job: JobId,
    follow: bool,
    offset: u64,
    silent: u32,
    /// The job has ended: what is read from here on is the rest.
    ended: bool,
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LogReader")
            .field("job", &self.job)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

impl LogReader {
    pub(crate) fn new(
        client: &Client,
        record: &JobRecord,
        log: Log,
        follow: bool,
    ) -> Result<Self, HandoffError> {
        let Some(remote) = record
            .remote
            .clone()
            .filter(|_| record.cleaned_ms.is_none())
        else {
            return Err(HandoffError::NoLog {
                job: record.id.clone(),
            });
        };
        let host = client.host(record.host.as_str())?;
        let mut link = Link::to_job(client, &host, record, Reporter::unheard())?;
        if follow {
            link.patience = None;
        }
        Ok(Self {
            link,
            path: remote.job_directory.join(log.name()),
            directory: remote.job_directory,
            job: record.id.clone(),
            follow,
            offset: 0,
            silent: 0,
            ended: false,
        })
    }

    /// Begins at this byte.
    #[must_use]
    pub fn from(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// Begins so many bytes before what is the end now.
    ///
    /// Safe to cancel; the reader is gone then.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn tail(mut self, bytes: u64) -> Result<Self, HandoffError> {
        loop {
            let live = self.link.live().await?;
            let size = async { Ok(live.files().await?.size(&self.path).await?) };
            match size.await {
                Ok(size) => {
                    self.offset = size.unwrap_or_default().saturating_sub(bytes);
                    return Ok(self);
                }
                Err(error) => self.link.recover(error).await?,
            }
        }
    }

    /// The byte that comes next.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Waits for the next bytes; `None` at the end: that of the log as it is now or, when it is followed, that of the
    /// job.
    ///
    /// Cancel safe: bytes are either returned or still to come.
    ///
    /// # Errors
    /// Those of the connection, unless the log is followed and the link may come back; [`HandoffError::NoLog`] when
    /// the job's directory is gone.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, HandoffError> {
        loop {
            let live = self.link.live().await?;
            match self.read(&live).await {
                Ok(bytes) if !bytes.is_empty() => {
                    self.offset += bytes.len() as u64;
                    self.silent = 0;
                    return Ok(Some(bytes));
                }
                Ok(_) if self.ended || !self.follow => return Ok(None),
                Ok(_) => match self.has_ended(&live).await {
                    // What was written before the end is read once more.
                    Ok(true) => self.ended = true,
                    Ok(false) => {
                        self.silent += 1;
                        tokio::time::sleep(INTERVAL).await;
                    }
                    Err(error) => self.link.recover(error).await?,
                },
                Err(error) => self.link.recover(error).await?,
            }
        }
    }

    /// Lets go of the connection.
    pub fn close(mut self) {
        self.link.close();
    }

    async fn read(&self, live: &Live) -> Result<Vec<u8>, HandoffError> {
        let files = live.files().await?;
        match files.read_from(&self.path, self.offset, CHUNK).await {
            Ok(bytes) => Ok(bytes),
            Err(SshError::NotFound { .. }) => {
                // Not written yet, or gone with its directory.
                let job = self.directory.join(names::JOB);
                match files.size(&job).await? {
                    Some(_) => Ok(Vec::new()),
                    None => Err(HandoffError::NoLog {
                        job: self.job.clone(),
                    }),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn has_ended(&self, live: &Live) -> Result<bool, HandoffError> {
        let files = live.files().await?;
        if files
            .size(&self.directory.join(names::EXIT))
            .await?
            .is_some()
        {
            return Ok(true);
        }
        if self.silent % SILENT_LOOKS != SILENT_LOOKS - 1 {
            return Ok(false);
        }
        let status = remote::status(live, &self.directory).await?;
        use crate::job::Evidence;
        Ok(!matches!(
            crate::job::evidence(status.as_ref(), true),
            Evidence::Alive | Evidence::OtherMachine | Evidence::ClaimedOnly
        ))
    }
}
