//! `handover sync`: reconcile the unfinished jobs with their hosts.

use comfy_table::{Table, presets};
use serde::Serialize;

use super::args::SyncArgs;
use super::exit::{self, ErrorDocument};
use super::render::{data_line, json_line, person_error, say};
use super::{CliError, parse};
use crate::handoff::{Client, Failure, HandoffError, HostSync, JobSync, SyncReport};
use crate::hosts::HostName;
use crate::job::State;

#[derive(Serialize)]
struct Document {
    hosts: Vec<HostDocument>,
}

#[derive(Serialize)]
struct HostDocument {
    host: String,
    reached: bool,
    jobs: Vec<JobDocument>,
    /// Those that were found again, where records had been lost.
    found: Vec<String>,
    #[serde(flatten)]
    error: Option<ErrorDocument>,
}

#[derive(Serialize)]
struct JobDocument {
    job: String,
    session: Option<String>,
    before: State,
    state: State,
    followed: bool,
    to_collect: bool,
    #[serde(flatten)]
    error: Option<ErrorDocument>,
}

/// The exit code is 0 when every host was reached, else that of the first one that was not.
pub(crate) async fn run(client: &Client, args: &SyncArgs) -> Result<u8, CliError> {
    let hosts: Vec<HostName> = args
        .hosts
        .iter()
        .map(|text| parse(text))
        .collect::<Result<_, _>>()?;
    let report = client.sync(&hosts).await?;
    let code = report
        .hosts
        .iter()
        .find_map(|host| host.error.as_ref())
        .map_or(exit::DONE, |error| exit::describe(error).code);
    if args.json {
        let hosts = report.hosts.into_iter().map(host_document).collect();
        json_line(&Document { hosts });
    } else {
        person(report);
    }
    Ok(code)
}

fn failure(error: HandoffError) -> Failure {
    error.into()
}

fn host_document(host: HostSync) -> HostDocument {
    let document = |error| exit::error_document(&failure(error));
    HostDocument {
        host: host.host.to_string(),
        reached: host.error.is_none(),
        jobs: host.jobs.into_iter().map(job_document).collect(),
        found: host.found.iter().map(ToString::to_string).collect(),
        error: host.error.map(document),
    }
}

fn job_document(job: JobSync) -> JobDocument {
    JobDocument {
        job: job.job.to_string(),
        session: job.session.map(|session| session.to_string()),
        before: job.before,
        state: job.state,
        followed: job.followed,
        to_collect: job.to_collect,
        error: job.error.map(|error| exit::error_document(&failure(error))),
    }
}

fn person(report: SyncReport) {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["JOB", "HOST", "WAS", "IS", ""]);
    let mut errors = Vec::new();
    let mut count = 0;
    let mut found = 0;
    for host in report.hosts {
        for job in &host.found {
            found += 1;
            say(&format!("{}: found again: {job}", host.host));
        }
        for job in host.jobs {
            count += 1;
            let note = if job.followed {
                "followed by another process"
            } else if job.to_collect {
                "to be collected"
            } else {
                ""
            };
            table.add_row([
                job.job.to_string(),
                host.host.to_string(),
                job.before.to_string(),
                job.state.to_string(),
                note.to_owned(),
            ]);
            errors.extend(job.error);
        }
        if host.error.is_some() {
            errors.extend(host.error);
            say(&format!("{}: its other jobs are as they were", host.host));
        }
    }
    if count > 0 {
        data_line(&table.trim_fmt());
    } else if errors.is_empty() && found == 0 {
        say("no unfinished jobs");
    }
    for error in errors {
        person_error(&failure(error));
    }
}
