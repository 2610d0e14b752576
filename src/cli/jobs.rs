//! `handover jobs`: what this machine has sent, as it was last seen. No host is asked.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use comfy_table::{Table, presets};
use serde::Serialize;

use super::args::JobsArgs;
use super::render::{data_line, json_line, say};
use super::{CliError, exit, parse};
use crate::handoff::Client;
use crate::job::{JobKind, JobRecord, Mode, State, now_ms};
use crate::session::SessionId;

#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    state: State,
    host: &'a str,
    session: Option<&'a str>,
    kind: JobKind,
    title: Option<&'a str>,
    prompt: Option<&'a str>,
    mode: Mode,
    created: String,
    collected: bool,
    directory: Option<&'a str>,
    agent: Option<&'a str>,
    model: Option<&'a str>,
    error: Option<&'a str>,
}

pub(crate) async fn run(client: &Client, args: &JobsArgs) -> Result<u8, CliError> {
    let session: Option<SessionId> = args.session.as_deref().map(parse).transpose()?;
    let jobs: Vec<JobRecord> = client
        .jobs()
        .await?
        .into_iter()
        .filter(|job| args.all || job.state.is_live() || job.is_uncollected())
        .filter(|job| {
            session
                .as_ref()
                .is_none_or(|session| job.session.as_ref() == Some(session))
        })
        .collect();
    if args.json {
        json_line(&jobs.iter().map(row).collect::<Vec<_>>());
        return Ok(exit::DONE);
    }
    if jobs.is_empty() {
        say(if args.all {
            "no jobs"
        } else {
            "no live jobs and no results to collect; the others: handover jobs --all"
        });
        return Ok(exit::DONE);
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["JOB", "STATE", "HOST", "SESSION", "MODE", "AGE"]);
    for job in &jobs {
        table.add_row([
            job.id.to_string(),
            if job.is_uncollected() {
                format!("{}, not collected", job.state)
            } else {
                job.state.to_string()
            },
            job.host.to_string(),
            job.session
                .as_ref()
                .map_or_else(|| "-".to_owned(), ToString::to_string),
            job.mode.to_string(),
            age(job.created_ms()),
        ]);
    }
    data_line(&table.trim_fmt());
    say("the states are as last seen: 'handover collect JOB' looks at the host");
    Ok(exit::DONE)
}

fn row(job: &JobRecord) -> Row<'_> {
    Row {
        id: job.id.as_str(),
        state: job.state,
        host: job.host.as_str(),
        session: job.session.as_ref().map(SessionId::as_str),
        kind: job.kind,
        title: job.title.as_deref(),
        prompt: job.prompt.as_deref(),
        mode: job.mode,
        created: timestamp(job.created_ms()),
        collected: job.collected_ms.is_some(),
        directory: job.directory.as_deref(),
        agent: job.agent.as_deref(),
        model: job.model.as_deref(),
        error: job.error.as_deref(),
    }
}

fn timestamp(ms: u64) -> String {
    let time: SystemTime = UNIX_EPOCH + Duration::from_millis(ms);
    humantime::format_rfc3339_millis(time).to_string()
}

fn age(created_ms: u64) -> String {
    let seconds = now_ms().saturating_sub(created_ms) / 1000;
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}
