//! Reconciling the unfinished jobs with their hosts: one connection a host, hosts side by side.
//!
//! The main function is [`Client::sync`](super::Client::sync). The invariants: a host that is not reached changes no
//! state, and a job that another process follows is that process' own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::collect::{Collection, Settled};
use super::discover::{HostDiscovery, search_for_lost};
use super::follow::Follow;
use super::link::Link;
use super::lock::JobLock;
use super::observe::{is_away, not_reached};
use super::request::Homecoming;
use super::running::Reporter;
use super::{Client, HandoffError};
use crate::hosts::{Host, HostName};
use crate::job::{JobId, JobRecord, State};
use crate::session::SessionId;

/// For how long a host that was lost on the way is tried again.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a reconciliation found.
#[derive(Debug)]
#[non_exhaustive]
pub struct SyncReport {
    /// One a host, by name.
    pub hosts: Vec<HostSync>,
}

/// What was found on one host.
#[derive(Debug)]
#[non_exhaustive]
pub struct HostSync {
    /// The host's name.
    pub host: HostName,
    /// Why it was not reached, or not to the end; the jobs that are not listed are as they were.
    pub error: Option<HandoffError>,
    /// Its unfinished jobs, newest first.
    pub jobs: Vec<JobSync>,
    /// The jobs that were found again, where records had been lost.
    pub found: Vec<JobId>,
}

/// What became of one job.
#[derive(Debug)]
#[non_exhaustive]
pub struct JobSync {
    /// The job.
    pub job: JobId,
    /// Its session; a job that makes its own has none before it runs.
    pub session: Option<SessionId>,
    /// The state on record until now.
    pub before: State,
    /// The state on record now.
    pub state: State,
    /// Another process on this machine follows it, and was left alone.
    pub followed: bool,
    /// A result is on the host, to be collected.
    pub to_collect: bool,
    /// Why it ended as it did, or why it could not be looked at.
    pub error: Option<HandoffError>,
}

pub(super) async fn sync(client: &Client, hosts: &[HostName]) -> Result<SyncReport, HandoffError> {
    let mut by_host: BTreeMap<HostName, Vec<JobRecord>> = BTreeMap::new();
    for name in hosts {
        client.host(name.as_str())?;
        by_host.insert(name.clone(), Vec::new());
    }
    let mut searched: BTreeMap<HostName, HostDiscovery> = BTreeMap::new();
    for host in search_for_lost(client, hosts).await? {
        if host.error.is_some() || !host.adopted.is_empty() {
            by_host.entry(host.host.clone()).or_default();
        }
        searched.insert(host.host.clone(), host);
    }
    for record in client.store().list().await? {
        if !is_unfinished(&record) || !(hosts.is_empty() || hosts.contains(&record.host)) {
            continue;
        }
        by_host.entry(record.host.clone()).or_default().push(record);
    }
    let work = by_host
        .into_iter()
        .map(|(name, records)| sync_host(client, name, records));
    let mut hosts = futures::future::join_all(work).await;
    for host in &mut hosts {
        if let Some(searched) = searched.remove(&host.host) {
            host.found = searched.adopted.into_iter().map(|job| job.id).collect();
            host.error = host.error.take().or(searched.error);
        }
    }
    Ok(SyncReport { hosts })
}

/// Live; or back, or never launched, and not tidied up.
fn is_unfinished(record: &JobRecord) -> bool {
    let left_there = record.is_brought_home() || record.remote.is_some() && !record.was_launched();
    record.state.is_live() || left_there && record.cleaned_ms.is_none()
}

async fn sync_host(client: &Client, name: HostName, records: Vec<JobRecord>) -> HostSync {
    let mut report = HostSync {
        host: name.clone(),
        error: None,
        jobs: Vec::new(),
        found: Vec::new(),
    };
    let host = match client.host(name.as_str()) {
        Ok(host) => host,
        Err(error) => {
            report.error = Some(error);
            return report;
        }
    };
    let reporter = Reporter::unheard();
    let mut link: Option<Link> = None;
    // A claim without a start is waited for once, not once a job.
    let since = Instant::now();
    let mut records = records.into_iter();
    while let Some(record) = records.next() {
        let job = record.id.clone();
        match sync_job(client, &host, &reporter, &mut link, since, record).await {
            Ok(job) => report.jobs.push(job),
            Err(error) => {
                if is_away(&error) {
                    let rest = records.by_ref().map(|record| record.id);
                    for job in std::iter::once(job).chain(rest) {
                        if let Err(error) = not_reached(client, &job).await {
                            tracing::warn!(%error, %job, "that its host is away is not recorded");
                        }
                    }
                }
                report.error = Some(error);
                break;
            }
        }
    }
    if let Some(mut link) = link {
        link.close();
    }
    report
}

/// The error is the host's: it ends the work there. A job's own is in its report.
async fn sync_job(
    client: &Client,
    host: &Host,
    reporter: &Reporter,
    link: &mut Option<Link>,
    since: Instant,
    record: JobRecord,
) -> Result<JobSync, HandoffError> {
    let mut report = JobSync {
        job: record.id.clone(),
        session: record.session.clone(),
        before: record.state,
        state: record.state,
        followed: false,
        to_collect: false,
        error: None,
    };
    let Some(lock) = JobLock::take(client.places(), &record.id)? else {
        report.followed = true;
        return Ok(report);
    };
    // As it is now that nobody else writes it.
    let mut record = client.store().find(record.id.as_str()).await?;
    report.state = record.state;
    if !is_unfinished(&record) {
        return Ok(report);
    }
    let link = match link {
        Some(link) => link,
        None => {
            let made = Link::to_job(client, host, &record, reporter.clone())?;
            link.insert(made)
        }
    };
    link.patience = Some(PATIENCE);
    if record
        .remote
        .as_ref()
        .is_some_and(|remote| remote.files_by_exec)
        && !link.uses_exec_files()
    {
        link.use_exec_files();
    }
    let mut collection = Collection {
        client,
        reporter,
        host,
        record: &mut record,
        since,
    };
    let settled = settle(&mut collection, link).await;
    report.state = record.state;
    report.to_collect = record.is_uncollected() || record.state == State::Returning;
    if record.cleaned_ms.is_some() {
        lock.retire();
    }
    match settled {
        Ok(error) => report.error = error,
        Err(error) if is_of_the_host(&error) => return Err(error),
        Err(error) => report.error = Some(error),
    }
    Ok(report)
}

async fn settle(
    collection: &mut Collection<'_>,
    link: &mut Link,
) -> Result<Option<HandoffError>, HandoffError> {
    let place = collection.locate(link).await?;
    if collection.record.is_brought_home() {
        let mut follow = Follow {
            client: collection.client,
            reporter: collection.reporter,
            directory: place.directory.clone(),
            homecoming: Homecoming {
                forget: collection.record.forget,
                ..Homecoming::default()
            },
            clock_ms: None,
            record: collection.record,
        };
        follow.clean_up(link).await;
        return Ok(None);
    }
    Ok(match collection.settle(link, &place).await? {
        Settled::Gone(error) => Some(error),
        _ => None,
    })
}

/// Whether the next job there would meet the same.
fn is_of_the_host(error: &HandoffError) -> bool {
    use crate::ssh::SshError;
    match error {
        HandoffError::Ssh(error) => !matches!(
            error,
            SshError::NotFound { .. }
                | SshError::AlreadyExists { .. }
                | SshError::PermissionDenied { .. }
                | SshError::TooLarge { .. }
                | SshError::Remote { .. }
                | SshError::Local { .. }
        ),
        HandoffError::Unreachable { .. } | HandoffError::Store(_) => true,
        _ => false,
    }
}
