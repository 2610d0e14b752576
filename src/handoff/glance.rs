//! A quick look at many jobs: what became of those that have not ended, within a time that a list can wait.
//!
//! The main function is [`Jobs::look`](super::Jobs::look). The invariants: one connection a host, hosts side by side,
//! none longer than [`BOUND`]; nobody is asked anything; and what a host that is not reached is doing is not guessed.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use super::link::Link;
use super::observe::{is_away, is_over, look_over, not_reached};
use super::running::Reporter;
use super::{Client, HandoffError};
use crate::hosts::HostName;
use crate::job::{JobId, JobRecord};
use crate::ssh::{Pool, SshError};

/// How long a host may take to be reached and to answer for all of its jobs.
const BOUND: Duration = Duration::from_secs(3);
/// How many jobs of a host are looked at side by side.
const AT_ONCE: usize = 4;

/// What a quick look found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Glance {
    /// The jobs that were asked for, in that order, as they are now; those of a host in `unreached` as they were last
    /// seen, as far as it did not answer.
    pub jobs: Vec<JobRecord>,
    /// The hosts that were not reached, or did not answer for all of their jobs in time, and why.
    pub unreached: Vec<(HostName, HandoffError)>,
}

pub(super) async fn glance(client: &Client, mut jobs: Vec<JobRecord>) -> Glance {
    let mut by_host: BTreeMap<HostName, Vec<JobRecord>> = BTreeMap::new();
    for job in &jobs {
        // Of what was not sent yet the host knows nothing; what is over stays as it is.
        if !is_over(job) && job.remote.is_some() {
            by_host
                .entry(job.host.clone())
                .or_default()
                .push(job.clone());
        }
    }
    let pool = unasking(client);
    let looks = by_host
        .into_iter()
        .map(|(host, jobs)| on_host(client, &pool, host, jobs));
    let mut seen: HashMap<JobId, JobRecord> = HashMap::new();
    let mut unreached = Vec::new();
    for (host, found, error) in futures::future::join_all(looks).await {
        seen.extend(found.into_iter().map(|job| (job.id.clone(), job)));
        unreached.extend(error.map(|error| (host, error)));
    }
    for job in &mut jobs {
        if let Some(now) = seen.remove(&job.id) {
            *job = now;
        }
    }
    Glance { jobs, unreached }
}

/// The client's connections, or such on whose way nobody is asked for a password: a list does not wait for that.
fn unasking(client: &Client) -> Pool {
    let options = client.connect_options();
    if !options.has_prompt() {
        return client.pool().clone();
    }
    Pool::new(options.clone().no_prompt())
}

async fn on_host(
    client: &Client,
    pool: &Pool,
    host: HostName,
    jobs: Vec<JobRecord>,
) -> (HostName, Vec<JobRecord>, Option<HandoffError>) {
    let (mut seen, mut reached) = (Vec::new(), false);
    let work = look(client, pool, &host, &jobs, (&mut seen, &mut reached));
    let looked = timeout_at(Instant::now() + BOUND, work).await;
    let error = looked.unwrap_or_else(|_| {
        Err(HandoffError::Ssh(SshError::TimedOut {
            host: host.clone(),
            what: "a quick look at its jobs",
            after: BOUND,
        }))
    });
    let error = error.err();
    // One that was reached and is slow is not away.
    if !reached && error.as_ref().is_some_and(is_away) {
        for job in &jobs {
            match not_reached(client, &job.id).await {
                Ok(job) => seen.push(job),
                Err(error) => return (host, seen, Some(error)),
            }
        }
    }
    (host, seen, error)
}

/// Puts what it finds into `seen` as it comes, and notes when the host is reached; gives the first error.
async fn look(
    client: &Client,
    pool: &Pool,
    host: &HostName,
    jobs: &[JobRecord],
    (seen, reached): (&mut Vec<JobRecord>, &mut bool),
) -> Result<(), HandoffError> {
    let target = client.target(&client.host(host.as_str())?)?;
    let mut link = Link::new(target, pool.clone(), Reporter::unheard());
    let by_exec = |job: &JobRecord| job.remote.as_ref().is_some_and(|place| place.files_by_exec);
    if jobs.iter().any(by_exec) {
        link.use_exec_files();
    }
    let live = link.live().await?;
    *reached = true;
    let looks = jobs.iter().map(|job| look_over(client, &live, job.clone()));
    let mut looks = futures::stream::iter(looks).buffer_unordered(AT_ONCE);
    let mut first = Ok(());
    while let Some(looked) = looks.next().await {
        match looked {
            Ok(job) => seen.push(job),
            Err(error) => first = first.and(Err(error)),
        }
    }
    first
}
