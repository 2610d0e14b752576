//! `handover wait`: until jobs have ended.

use std::collections::BTreeSet;
use std::time::Duration;

use super::args::{Form, WaitJobsArgs};
use super::job_view::{JobView, seconds, state_words};
use super::render::{Renderer, data_line, json_line, say};
use super::text::one_line;
use super::{CliError, exit};
use crate::handoff::{Client, Failure, JobUpdate};
use crate::job::{JobRecord, State};

pub(crate) async fn run(client: &Client, args: &WaitJobsArgs) -> Result<u8, CliError> {
    let form = Form::of(args.json, args.for_model);
    let jobs = client.all_jobs();
    let mut records: Vec<JobRecord> = Vec::new();
    for job in &args.jobs {
        let record = jobs.get(job).await?.record().clone();
        if records.iter().all(|other| other.id != record.id) {
            records.push(record);
        }
    }
    let mut missing: BTreeSet<_> = records.iter().map(|record| record.id.clone()).collect();
    let mut watch = jobs.watch(records);
    let mut code = exit::DONE;
    let deadline = async {
        match args.timeout {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(deadline);
    loop {
        let update = tokio::select! {
            update = watch.next() => update,
            () = &mut deadline => {
                if form == Form::Person {
                    say("the time is over; the jobs go on");
                }
                return Ok(exit::DETACHED);
            }
        };
        let Some(update) = update else {
            return Ok(code);
        };
        if !update.is_last() {
            continue;
        }
        missing.remove(&update.record.id);
        code = code.max(ended(update, form));
        client.announce().await;
        if args.any || missing.is_empty() {
            return Ok(code);
        }
    }
}

/// Tells of a job that has ended; gives the exit code that it alone would have.
fn ended(update: JobUpdate, form: Form) -> u8 {
    let JobUpdate { record, error, .. } = update;
    if let Some(error) = error {
        let failure = Failure {
            job: Some(record.id.clone()),
            ..error.into()
        };
        Renderer::new(form).failure(&failure);
        return exit::describe(&failure.error).code;
    }
    if form == Form::Person {
        let cause = record.error.as_ref();
        data_line(&format!(
            "{} {} after {}{}",
            record.id,
            state_words(&record),
            seconds(record.duration_ms()),
            cause.map_or_else(String::new, |cause| format!(": {}", one_line(cause, 200)))
        ));
    } else {
        json_line(&JobView::new(&record, form));
    }
    match record.state {
        State::Completed | State::Returning => exit::DONE,
        _ => exit::JOB_FAILED,
    }
}

/// The time between redraws of what only the clock changes.
pub(crate) const TICK: Duration = Duration::from_secs(1);
