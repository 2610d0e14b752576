//! Finding jobs on the hosts that this machine has no record of: sent from elsewhere, or the store was lost.
//!
//! The main function is [`Client::discover`](super::Client::discover). The invariants: what a host says is checked
//! before it becomes a record; nothing on the host is changed; and a job that was never launched is not adopted, for
//! its client may still be at work.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use super::collect::count_over;
use super::failpoint::{FailPoint, reach};
use super::follow::end_words;
use super::link::{Link, Live};
use super::lock::JobLock;
use super::observe::is_over;
use super::running::Reporter;
use super::{Client, HandoffError, local_files, remote};
use crate::agent::{self, JobStatus, ProbeFor, ProbeRequest, names};
use crate::hosts::{Host, HostName, HostPath};
use crate::job::{JobId, JobRecord, RemotePlaces, State, StoreError, Transition, evidence, now_ms};
use crate::ssh::{RemotePath, SshError};

/// For how long a host that was lost on the way is tried again.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most that is read of a `job.json`, in bytes.
const JOB_FILE: u64 = 64 << 10;

/// What was found on the hosts.
#[derive(Debug)]
#[non_exhaustive]
pub struct Discovery {
    /// One a host, by name.
    pub hosts: Vec<HostDiscovery>,
}

/// What was found on one host.
#[derive(Debug)]
#[non_exhaustive]
pub struct HostDiscovery {
    /// The host's name.
    pub host: HostName,
    /// Why it was not reached, or not to the end.
    pub error: Option<HandoffError>,
    /// The jobs that have a record now.
    pub adopted: Vec<JobRecord>,
    /// How many had one before.
    pub known: usize,
    /// Directories that were left alone, and why.
    pub refused: Vec<Refused>,
    /// The host has more directories than were looked at, which were the newest.
    pub more: bool,
}

/// A job directory that did not become a record.
#[derive(Debug)]
#[non_exhaustive]
pub struct Refused {
    /// Its name, as the host says it; for a person.
    pub name: String,
    /// Why, in a few words.
    pub reason: String,
}

/// The hosts on which jobs can be.
fn supported(client: &Client) -> Vec<HostName> {
    let hosts = client.hosts().iter();
    let supported = hosts.filter(|host| host.require_supported().is_ok());
    supported.map(|host| host.name.clone()).collect()
}

/// Looks for the jobs of lost records, on those of these hosts (none named: of all) that were not searched since.
pub(super) async fn search_for_lost(
    client: &Client,
    hosts: &[HostName],
) -> Result<Vec<HostDiscovery>, HandoffError> {
    let mut all = supported(client);
    all.retain(|host| hosts.is_empty() || hosts.contains(host));
    let open = client.store().unsearched(all).await?;
    if open.is_empty() {
        return Ok(Vec::new());
    }
    Ok(discover(client, &open).await?.hosts)
}

pub(super) async fn discover(
    client: &Client,
    hosts: &[HostName],
) -> Result<Discovery, HandoffError> {
    let all = supported(client);
    let hosts = if hosts.is_empty() {
        all.clone()
    } else {
        hosts.to_vec()
    };
    let mut known: HashSet<JobId> = HashSet::new();
    known.extend(client.store().list().await?.into_iter().map(|job| job.id));
    let mut work = Vec::new();
    for name in hosts {
        let host = client.host(name.as_str())?;
        work.push(on_host(client, host, &known));
    }
    let found = futures::future::join_all(work).await;
    for host in &found {
        if host.error.is_none() {
            let name = host.host.clone();
            client.store().was_searched(name, all.clone()).await?;
        }
    }
    Ok(Discovery { hosts: found })
}

async fn on_host(client: &Client, host: Host, known: &HashSet<JobId>) -> HostDiscovery {
    let mut found = HostDiscovery {
        host: host.name.clone(),
        error: None,
        adopted: Vec::new(),
        known: 0,
        refused: Vec::new(),
        more: false,
    };
    if let Err(error) = look(client, &host, known, &mut found).await {
        found.error = Some(error);
    }
    found
}

async fn look(
    client: &Client,
    host: &Host,
    known: &HashSet<JobId>,
    found: &mut HostDiscovery,
) -> Result<(), HandoffError> {
    let mut link = Link::new(
        client.target(host)?,
        client.pool().clone(),
        Reporter::unheard(),
    );
    link.launched = true;
    link.patience = Some(PATIENCE);
    let result = look_over(client, host, &mut link, known, found).await;
    link.close();
    result
}

async fn look_over(
    client: &Client,
    host: &Host,
    link: &mut Link,
    known: &HashSet<JobId>,
    found: &mut HostDiscovery,
) -> Result<(), HandoffError> {
    let question = ProbeRequest {
        purpose: ProbeFor::Nothing,
        state_dir: host.state_dir.as_ref().map(HostPath::as_str),
        opencode: host.opencode.as_ref().map(HostPath::as_str),
        work_dir: None,
    };
    let (jobs, listing) = loop {
        let live = link.live().await?;
        let asked = async {
            let (probe, _) = remote::probe(&live.connection, &question).await?;
            let jobs = probe.state.join("jobs");
            let listing = remote::list(&live, &jobs).await?;
            Ok((jobs, listing))
        };
        match asked.await {
            Ok(listed) => break listed,
            Err(error) => link.recover(error).await?,
        }
    };
    found.more = listing.more;
    for name in listing.names {
        let Ok(id) = name.parse::<JobId>() else {
            found.refuse(name, "its name is not a job id");
            continue;
        };
        if known.contains(&id) {
            found.known += 1;
            continue;
        }
        let directory = jobs.join(id.as_str());
        let seen = loop {
            let live = link.live().await?;
            match read(&live, &directory).await {
                Ok(seen) => break seen,
                // The shell has just listed it: SFTP shows another tree.
                Err(HandoffError::Ssh(SshError::NotFound { .. })) if !link.uses_exec_files() => {
                    link.use_exec_files();
                }
                Err(HandoffError::Ssh(error @ SshError::NotFound { .. })) => {
                    break Err(error.to_string());
                }
                Err(error) => link.recover(error).await?,
            }
        };
        match seen {
            Ok((job, status)) => adopt(client, link, id, directory, job, &status, found).await?,
            Err(reason) => found.refuse(name, reason),
        }
    }
    Ok(())
}

/// What a directory holds; the inner error says why it is none of ours.
async fn read(
    live: &Live,
    directory: &RemotePath,
) -> Result<Result<(agent::JobRecord, JobStatus), String>, HandoffError> {
    let path = directory.join(names::JOB);
    let content = match live.files().await?.read(&path, JOB_FILE).await {
        Ok(content) => content,
        Err(error) if is_of_the_file(&error) => return Ok(Err(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    let job = match agent::JobRecord::parse(&content) {
        Ok(job) => job,
        Err(error) => return Ok(Err(error.to_string())),
    };
    match remote::status(live, directory).await {
        Ok(Some(status)) => Ok(Ok((job, status))),
        Ok(None) => Ok(Err("its script is not there".to_owned())),
        Err(HandoffError::Agent(error)) => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Whether a file of the job is odd, and the next job's may be as they should.
fn is_of_the_file(error: &SshError) -> bool {
    matches!(
        error,
        SshError::PermissionDenied { .. } | SshError::TooLarge { .. } | SshError::Remote { .. }
    )
}

async fn adopt(
    client: &Client,
    link: &mut Link,
    id: JobId,
    directory: RemotePath,
    job: agent::JobRecord,
    status: &JobStatus,
    found: &mut HostDiscovery,
) -> Result<(), HandoffError> {
    let name = id.to_string();
    if job.job != name {
        found.refuse(name, "its job.json is another job's");
        return Ok(());
    }
    let state = State::Launching.judge(job.mode, evidence(Some(status), false));
    // A claim without a start is as good as none here: its client may be waiting for it.
    if matches!(state, State::Launching) || status.started.is_none() {
        found.refuse(name, "it was not launched, or its client is at work");
        return Ok(());
    }
    let Some(_lock) = JobLock::take(client.places(), &id)? else {
        found.refuse(name, "a process on this machine is at work on it");
        return Ok(());
    };
    let ours = local_files::knows_sent(client.places(), &id)
        || job.client.is_some() && job.client == local_files::known_client_id(client.places())?;
    let mut record = JobRecord {
        id,
        title: job.title,
        parent: job.parent,
        directory: Some(job.directory.to_string()),
        agent: job.agent,
        model: job.model,
        remote: Some(RemotePlaces {
            job_directory: directory,
            work_directory: job.directory,
            opencode: job.opencode,
            files_by_exec: link.uses_exec_files(),
        }),
        history: vec![Transition {
            state: State::Preparing,
            at_ms: job.created_ms.min(now_ms()),
        }],
        sender: (!ours).then_some(job.sender),
        ..JobRecord::new(
            job.kind,
            found.host.clone(),
            job.session,
            job.mode,
            PathBuf::new(),
        )
    };
    record.set_terms(&job.terms);
    record.enter(State::Running);
    match &status.exit {
        Some(exit) => {
            if let Some(places) = record.remote.clone() {
                match count_over(client, link, &places.job_directory, &mut record).await {
                    Err(HandoffError::Ssh(error)) if is_of_the_file(&error) => {
                        found.refuse(name, error.to_string());
                        return Ok(());
                    }
                    counted => counted?,
                }
            }
            record.end(exit, end_words(exit));
        }
        None => record.enter(state),
    }
    // What had ended before it was found here is no news, and may have been announced.
    match client.store().adopt(&record, is_over(&record)).await {
        Ok(()) => {
            reach(FailPoint::Adopted);
            found.adopted.push(record);
        }
        Err(StoreError::SessionBusy { job, .. }) => {
            found.refuse(name, format!("its session has a live job already, {job}"));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

impl HostDiscovery {
    fn refuse(&mut self, name: String, reason: impl Into<String>) {
        self.refused.push(Refused {
            name,
            reason: reason.into(),
        });
    }
}
