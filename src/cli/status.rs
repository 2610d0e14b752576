//! `handover status`: one job, as its host shows it now.

use super::CliError;
use super::args::{Form, StatusArgs};
use super::exit;
use super::job_view::{JobView, ago, kind_word, seconds, state_words, timestamp};
use super::render::{data_line, json_line};
use super::text::{one_line, printable};
use crate::handoff::Client;
use crate::job::JobRecord;

pub(crate) async fn run(client: &Client, args: &StatusArgs) -> Result<u8, CliError> {
    let mut job = client.all_jobs().get(&args.job).await?;
    let record = job.look().await?;
    let form = Form::of(args.json, args.for_model);
    if form == Form::Person {
        person(record);
    } else {
        json_line(&JobView::new(record, form));
    }
    Ok(exit::DONE)
}

fn person(job: &JobRecord) {
    let line = |name: &str, value: &str| data_line(&format!("{name:<10} {}", printable(value)));
    line("job", job.id.as_str());
    line("state", &state_words(job));
    line("kind", &format!("{}, {}", kind_word(job.kind), job.mode));
    line("host", job.host.as_str());
    if let Some(session) = &job.session {
        line("session", session.as_str());
    }
    if let Some(parent) = &job.parent {
        line("asked by", parent.as_str());
    }
    for (name, value) in [
        ("title", &job.title),
        ("prompt", &job.prompt),
        ("directory", &job.directory),
        ("agent", &job.agent),
        ("model", &job.model),
    ] {
        if let Some(value) = value {
            line(name, value);
        }
    }
    for entry in &job.history {
        line(entry.state.name(), &timestamp(entry.at_ms));
    }
    line("duration", &seconds(job.duration_ms()));
    if let Some(heard) = job.usage.last_event_ms {
        line("last event", &format!("{} ago", ago(heard)));
    }
    let usage = &job.usage;
    line(
        "used",
        &format!(
            "{}{} tool calls, {} tokens in, {} out, ${:.4}",
            if usage.partial { "at least " } else { "" },
            usage.tool_calls,
            usage.tokens.input,
            usage.tokens.output,
            usage.cost
        ),
    );
    if let Some(code) = job.exit_code {
        line("exit", &format!("status {code}"));
    }
    if let Some(signal) = job.signal {
        line("exit", &format!("signal {signal}"));
    }
    if job.undelivered > 0 {
        line(
            "unread",
            &format!("{} follow-up messages that nobody read", job.undelivered),
        );
    }
    if let Some(notice) = &job.notice {
        line("notice", notice);
    }
    if let Some(error) = &job.error {
        line("error", error);
    }
    if let Some(result) = &job.result {
        line("result", &one_line(result, 200));
    }
}
