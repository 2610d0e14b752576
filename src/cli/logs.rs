//! `handover logs`: what a job's agent prints.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::args::{Form, LogsArgs};
use super::render::{agent_words, data_line, data_text, json_line};
use super::text::printable;
use super::{CliError, exit, model};
use crate::agent::EventParser;
use crate::events::AgentEvent;
use crate::handoff::{Client, Job, Log, LogReader};

/// The most of a line that is held back until its end comes, in bytes.
const LINE_LIMIT: usize = 64 << 10;
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
    let mut lines = Lines::default();
    while let Some(bytes) = reader.next().await? {
        data_text(&printable(&lines.push(&bytes)));
    }
    data_text(&printable(&lines.finish()));
    Ok(())
}

/// Text as it comes, in whole lines; one that does not end comes in pieces, so that it is held by nobody.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    /// A piece of a line was given.
    within: bool,
}

impl Lines {
    /// What can be shown now.
    fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let end = match self.rest.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => last + 1,
            None if self.rest.len() >= LINE_LIMIT => whole_characters(&self.rest),
            None => 0,
        };
        let after = self.rest.split_off(end);
        let ready = std::mem::replace(&mut self.rest, after);
        if let Some(last) = ready.last() {
            self.within = *last != b'\n';
        }
        String::from_utf8_lossy(&ready).into_owned()
    }

    /// The rest, with the line break that it lacks.
    fn finish(self) -> String {
        let mut rest = String::from_utf8_lossy(&self.rest).into_owned();
        if self.within || !rest.is_empty() {
            rest.push('\n');
        }
        rest
    }
}

/// How many of these bytes there are up to a character whose end may still come.
fn whole_characters(bytes: &[u8]) -> usize {
    let cut = bytes.utf8_chunks().last();
    bytes.len() - cut.map_or(0, |last| last.invalid().len())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_whole() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"one\ntw"), "one\n");
        assert_eq!(lines.push(b"o\n\nthree"), "two\n\n");
        assert_eq!(lines.finish(), "three\n");
        assert_eq!(Lines::default().finish(), "");
    }

    #[test]
    fn a_line_without_an_end_is_not_held() {
        let mut lines = Lines::default();
        let chunk = "\u{fc}".repeat(25_001);
        let mut shown = String::new();
        // Each chunk ends in the middle of a character.
        let (mut whole, bytes) = (String::new(), chunk.as_bytes());
        for _ in 0..400 {
            let (first, second) = bytes.split_at(bytes.len() - 1);
            for part in [first, second] {
                shown.push_str(&lines.push(part));
                assert!(lines.rest.len() <= LINE_LIMIT + bytes.len());
            }
            whole.push_str(&chunk);
        }
        shown.push_str(&lines.finish());
        assert_eq!(shown.trim_end_matches('\n'), whole);
        assert_eq!(shown.len(), whole.len() + 1);
        // What is no text at all goes on, too.
        let mut lines = Lines::default();
        for _ in 0..20 {
            lines.push(&[0xff; 10_000]);
            assert!(lines.rest.len() <= LINE_LIMIT + 10_000);
        }
    }
}
