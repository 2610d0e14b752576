//! `handover prune`: remove what ended jobs have left.

use comfy_table::{Table, presets};
use serde::Serialize;

use super::args::PruneArgs;
use super::exit::{self, ErrorDocument};
use super::render::{data_line, json_line, person_error, say};
use super::{CliError, parse};
use crate::handoff::{Client, Failure, PruneDone, PruneReport, Pruned};
use crate::hosts::HostName;

#[derive(Serialize)]
struct Document<'a> {
    jobs: &'a [Pruned],
    unreached: Vec<HostDocument>,
}

#[derive(Serialize)]
struct HostDocument {
    host: String,
    #[serde(flatten)]
    error: ErrorDocument,
}

/// The exit code is 0 when every host that was needed was reached, else that of the first one that was not.
pub(crate) async fn run(client: &Client, args: &PruneArgs) -> Result<u8, CliError> {
    let hosts: Vec<HostName> = args
        .forget_host
        .iter()
        .map(|name| parse(name))
        .collect::<Result<_, _>>()?;
    let jobs = client.jobs().await?;
    if let Some(host) = hosts
        .iter()
        .find(|host| jobs.iter().all(|job| job.host != **host))
    {
        return Err(CliError::Usage(format!(
            "--forget-host {host}: there is no record of a job on a host of that name"
        )));
    }
    let report = client
        .prune()
        .older_than(args.older_than)
        .dry_run(args.dry_run)
        .force(args.force)
        .forget_hosts(hosts)
        .run()
        .await?;
    let code = report
        .unreached
        .first()
        .map_or(exit::DONE, |(_, error)| exit::describe(error).code);
    if args.json {
        let unreached = report
            .unreached
            .into_iter()
            .map(|(host, error)| HostDocument {
                host: host.to_string(),
                error: exit::error_document(&Failure::from(error)),
            });
        json_line(&Document {
            jobs: &report.jobs,
            unreached: unreached.collect(),
        });
    } else {
        person(report);
    }
    Ok(code)
}

fn person(report: PruneReport) {
    if report.jobs.is_empty() {
        say("no ended jobs that are old enough");
        return;
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["JOB", "HOST", "STATE", ""]);
    for job in &report.jobs {
        table.add_row([
            job.job.to_string(),
            job.host.to_string(),
            job.state.to_string(),
            words(job.done).to_owned(),
        ]);
    }
    data_line(&table.trim_fmt());
    if report
        .jobs
        .iter()
        .any(|job| job.done == PruneDone::KeptResult)
    {
        say("'handover collect JOB' brings a result back; --force throws it away");
    }
    for (host, error) in report.unreached {
        say(&format!(
            "{host}: its jobs stay; where it is gone for good: handover prune --forget-host {host}"
        ));
        person_error(&Failure::from(error));
    }
}

fn words(done: PruneDone) -> &'static str {
    match done {
        PruneDone::Removed => "removed",
        PruneDone::Forgotten => "removed here; what is on its host stays",
        PruneDone::WouldRemove => "would be removed",
        PruneDone::KeptResult => "kept: its result was not collected",
        PruneDone::KeptBusy => "kept: somebody is at work on it",
        PruneDone::KeptHost => "kept: not removed from its host",
    }
}
