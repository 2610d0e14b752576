//! `handover logs`: what a job's agent prints.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::args::{Form, LogsArgs};
use super::render::{agent_words, data_line, json_line};
use super::text::printable;
use super::{CliError, exit, model};
use crate::agent::EventParser;
use crate::events::AgentEvent;
use crate::handoff::{Client, Job, Log, LogReader};

/// How much of the log's end a model gets, in bytes.
const TAIL: u64 = 64 << 10;
/// How many events of it.
const TAIL_EVENTS: usize = 40;
/// How long a text in it may be, in bytes.
const TAIL_TEXT: usize = 2 << 10;

/// The end of a job's events, as a model gets it.
#[derive(Serialize)]
struct Tail<'a> {
    job: &'a str,
    state: crate::job::State,
    events: Vec<AgentEvent>,
}

pub(crate) async fn run(client: &Client, args: &LogsArgs) -> Result<u8, CliError> {
    let job = client.all_jobs().get(&args.job).await?;
    let log = if args.stderr {
        Log::Stderr
    } else {
        Log::Events
    };
    let form = Form::of(args.json, args.for_model);
    if form == Form::Model {
        return tail(&job).await;
    }
    let mut reader = job.logs(log, args.follow)?;
    let printed = if args.raw {
        raw(&mut reader).await
    } else if args.stderr {
        lines(&mut reader).await
    } else {
        events(&mut reader, form).await
    };
    reader.close();
    printed?;
    Ok(exit::DONE)
}

/// The bytes as they are; on a terminal with what could steer it escaped.
async fn raw(reader: &mut LogReader) -> Result<(), CliError> {
    if io::stdout().is_terminal() {
        return lines(reader).await;
    }
    while let Some(bytes) = reader.next().await? {
        let mut stdout = io::stdout().lock();
        // A reader that went away wants no more.
        if stdout
            .write_all(&bytes)
            .and_then(|()| stdout.flush())
            .is_err()
        {
            break;
        }
    }
    Ok(())
}

async fn lines(reader: &mut LogReader) -> Result<(), CliError> {
    let mut rest = Vec::new();
    while let Some(bytes) = reader.next().await? {
        rest.extend_from_slice(&bytes);
        if let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') {
            let after = rest.split_off(end + 1);
            data_line(printable(String::from_utf8_lossy(&rest).trim_end_matches('\n')).as_ref());
            rest = after;
        }
    }
    if !rest.is_empty() {
        data_line(printable(&String::from_utf8_lossy(&rest)).as_ref());
    }
    Ok(())
}

async fn events(reader: &mut LogReader, form: Form) -> Result<(), CliError> {
    let mut parser = EventParser::new();
    while let Some(bytes) = reader.next().await? {
        for event in parser.push(&bytes) {
            show(&event, form);
        }
    }
    if let Some(event) = parser.finish() {
        show(&event, form);
    }
    Ok(())
}

fn show(event: &AgentEvent, form: Form) {
    if form == Form::Json {
        json_line(event);
    } else if let Some(words) = agent_words(event) {
        data_line(&words);
    }
}

async fn tail(job: &Job) -> Result<u8, CliError> {
    let mut reader = job.logs(Log::Events, false)?.tail(TAIL).await?;
    let mut parser = EventParser::new();
    let mut events = Vec::new();
    while let Some(bytes) = reader.next().await? {
        events.extend(parser.push(&bytes));
    }
    events.extend(parser.finish());
    reader.close();
    let mut events: Vec<AgentEvent> = events.iter().filter_map(model::agent_event).collect();
    events.drain(..events.len().saturating_sub(TAIL_EVENTS));
    for event in &mut events {
        if let AgentEvent::Text { text } = event {
            text.truncate(text.floor_char_boundary(TAIL_TEXT));
        }
    }
    json_line(&Tail {
        job: job.id().as_str(),
        state: job.record().state,
        events,
    });
    Ok(exit::DONE)
}
