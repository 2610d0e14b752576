//! `handover watch`: a table of jobs that keeps up with them.

use std::collections::BTreeMap;

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::{Form, WatchArgs};
use super::job_view::{JobView, ago, seconds, state_words};
use super::render::{Renderer, data_line, json_line, say};
use super::text::one_line;
use super::wait::TICK;
use super::{CliError, exit};
use crate::handoff::{Client, Failure};
use crate::job::{JobId, JobRecord};

pub(crate) async fn run(client: &Client, args: &WatchArgs) -> Result<u8, CliError> {
    let form = Form::of(args.json, false);
    let jobs = client.all_jobs();
    let mut records = Vec::new();
    for job in &args.jobs {
        records.push(jobs.get(job).await?.record().clone());
    }
    if args.jobs.is_empty() {
        records = jobs.list().await?;
        records.retain(|record| record.state.is_live());
    }
    if records.is_empty() {
        if form == Form::Person {
            say("no live jobs; the others: handover jobs --all");
        }
        return Ok(exit::DONE);
    }
    let mut shown: BTreeMap<JobId, JobRecord> = records
        .iter()
        .map(|record| (record.id.clone(), record.clone()))
        .collect();
    let mut watch = jobs.watch(records);
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
    if let Ok(style) = ProgressStyle::with_template("{msg}") {
        bar.set_style(style);
    }
    let live = form == Form::Person && !bar.is_hidden();
    let mut code = exit::DONE;
    loop {
        if live {
            bar.set_message(table(shown.values().rev()));
            bar.tick();
        }
        let update = tokio::select! {
            update = watch.next() => update,
            () = tokio::time::sleep(TICK), if live => continue,
        };
        let Some(update) = update else { break };
        let over = update.is_last();
        if let Some(error) = update.error {
            let failure = Failure {
                job: Some(update.record.id.clone()),
                ..error.into()
            };
            bar.suspend(|| Renderer::new(form).failure(&failure));
            code = exit::describe(&failure.error).code;
        } else if form == Form::Person {
            if !live {
                data_line(&row(&update.record).join("  "));
            }
        } else {
            json_line(&JobView::new(&update.record, form));
        }
        shown.insert(update.record.id.clone(), update.record);
        if over {
            client.announce().await;
        }
    }
    if live {
        bar.finish_with_message(table(shown.values().rev()));
    }
    Ok(code)
}

const HEADER: [&str; 8] = [
    "JOB", "STATE", "HOST", "AGE", "LAST", "TOKENS", "COST", "WHAT",
];

fn row(job: &JobRecord) -> [String; 8] {
    let usage = &job.usage;
    let what = job.title.as_ref().or(job.prompt.as_ref());
    [
        job.id.to_string(),
        state_words(job),
        job.host.to_string(),
        seconds(job.duration_ms()),
        usage.last_event_ms.map_or_else(|| "-".to_owned(), ago),
        (usage.tokens.input + usage.tokens.output).to_string(),
        format!("${:.4}", usage.cost),
        what.map_or_else(String::new, |text| one_line(text, 30)),
    ]
}

fn table<'a>(jobs: impl Iterator<Item = &'a JobRecord>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(HEADER);
    for job in jobs {
        table.add_row(row(job));
    }
    table.trim_fmt()
}
