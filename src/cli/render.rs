//! What a person or a program sees of a handoff at work: events, results, errors.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::args::Form;
use super::text::{one_line, printable};
use super::{exit, model};
use crate::events::{AgentEvent, Event, Step};
use crate::handoff::{Ending, Failure, Outcome, Trip};
use crate::job::Mode;
use crate::session::SessionId;

/// Where events and results go.
#[derive(Debug)]
pub(crate) enum Renderer {
    /// NDJSON on stdout.
    Json,
    /// NDJSON on stdout, with nothing in it that a model may not see; the log has the rest.
    Model,
    /// Lines and, on a terminal, a progress bar on stderr; results on stdout.
    Person(ProgressBar),
}

#[derive(Serialize)]
struct ResultLine<'a> {
    event: &'static str,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

impl Renderer {
    pub(crate) fn new(form: Form) -> Self {
        match form {
            Form::Json => return Self::Json,
            Form::Model => return Self::Model,
            Form::Person => {}
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::default_spinner());
        if io::stderr().is_terminal() {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        Self::Person(bar)
    }

    pub(crate) fn event(&self, event: &Event) {
        match self {
            Self::Json => json_line(event),
            Self::Model => {
                if let Some(event) = model::event(event) {
                    json_line(&event);
                }
            }
            Self::Person(bar) => person_event(bar, event),
        }
    }

    pub(crate) fn outcome(&self, outcome: &Outcome) {
        match self {
            Self::Json | Self::Model => json_line(&ResultLine {
                event: "result",
                outcome,
            }),
            Self::Person(bar) => {
                bar.finish_and_clear();
                person_outcome(outcome);
            }
        }
    }

    pub(crate) fn failure(&self, failure: &Failure) {
        if let Self::Person(bar) = self {
            bar.finish_and_clear();
        }
        match self {
            Self::Json => {
                json_line(&exit::error_document(failure));
                person_details(failure);
                person_manual(failure);
            }
            Self::Model => json_line(&model::error_document(failure)),
            Self::Person(_) => {
                person_error(failure);
                person_manual(failure);
            }
        }
    }
}

/// Prints an error for a person: the message, its causes, the hint.
pub(crate) fn person_error(failure: &Failure) {
    let described = exit::describe(&failure.error);
    say(&format!("error: {}", printable(&failure.error.to_string())));
    let mut cause = std::error::Error::source(&failure.error);
    while let Some(error) = cause {
        say(&format!("  because: {}", printable(&error.to_string())));
        cause = error.source();
    }
    person_details(failure);
    if let Some(hint) = described.hint {
        say(&format!("hint: {}", printable(&hint)));
    }
}

fn person_details(failure: &Failure) {
    for detail in exit::details(&failure.error) {
        say(&format!("  {}", printable(&detail)));
    }
}

/// The way out by hand.
fn person_manual(failure: &Failure) {
    for line in &failure.manual {
        say(&printable(line));
    }
}

/// Writes a line of talk to stderr. A closed stderr has nobody to tell.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes a line of data to stdout. A reader that went away (`| head`) is no error of ours.
pub(crate) fn data_line(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Writes a piece of data to stdout as it is.
pub(crate) fn data_text(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = write!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// Writes one JSON document on one line of stdout.
pub(crate) fn json_line<T: Serialize>(value: &T) {
    match serde_json::to_string(value) {
        Ok(text) => data_line(&text),
        Err(error) => say(&format!(
            "error: the answer cannot be written as JSON: {error}"
        )),
    }
}

fn person_event(bar: &ProgressBar, event: &Event) {
    let line = |text: String| {
        if bar.is_hidden() {
            say(&text)
        } else {
            bar.println(text)
        }
    };
    match event {
        Event::Job { job, host, session } => {
            line(match session {
                Some(session) => format!("job {job}: session {session} to {host}"),
                None => format!("job {job}: a new session on {host}"),
            });
        }
        Event::Step { step, detail } => {
            let words = step_words(*step);
            let text = if detail.is_empty() {
                words.to_owned()
            } else {
                format!("{words}: {}", printable(detail))
            };
            line(format!("· {text}"));
            bar.set_style(ProgressStyle::default_spinner());
            bar.set_message(text);
        }
        Event::Progress { done, total, .. } => {
            if let Ok(style) =
                ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec}")
            {
                bar.set_style(style);
            }
            bar.set_length(*total);
            bar.set_position(*done);
        }
        Event::Agent { agent } => {
            if let Some(text) = agent_words(agent) {
                line(text);
            }
        }
        Event::Warning { message } => line(format!("warning: {}", printable(message))),
        Event::Unreachable {
            attempt,
            retry_in_ms,
            reason,
        } => line(format!(
            "link down ({}); attempt {attempt}, next in {:.1} s; the job goes on",
            printable(reason),
            Duration::from_millis(*retry_in_ms).as_secs_f64()
        )),
        Event::Reconnected => line("link up again".to_owned()),
    }
}

fn step_words(step: Step) -> &'static str {
    match step {
        Step::Export => "exporting the session",
        Step::Connect => "connecting",
        Step::Probe => "looking at the host",
        Step::Send => "sending",
        Step::Launch => "launching",
        Step::RemoteImport => "importing on the host",
        Step::Run => "the agent runs",
        Step::RemoteExport => "exporting on the host",
        Step::Fetch => "fetching the result",
        Step::Import => "importing the result",
        Step::Cleanup => "cleaning up",
    }
}

pub(crate) fn agent_words(event: &AgentEvent) -> Option<String> {
    match event {
        AgentEvent::Text { text } => Some(format!(
            "  agent: {}",
            printable(text.trim_end()).replace('\n', "\n         ")
        )),
        AgentEvent::Reasoning { .. } => None,
        AgentEvent::ToolUse {
            tool,
            status,
            title,
            ..
        } => Some(format!(
            "  tool:  {} {} [{}]",
            printable(tool),
            one_line(title, 100),
            printable(status)
        )),
        AgentEvent::StepFinish { cost, tokens, .. } => Some(format!(
            "  step:  {} tokens in, {} out, ${cost:.4}",
            tokens.input, tokens.output
        )),
        AgentEvent::Error { message } => Some(format!("  agent error: {}", printable(message))),
    }
}

fn person_outcome(outcome: &Outcome) {
    let (job, host) = (&outcome.job, &outcome.host);
    match outcome.ending {
        Ending::Completed => say(&format!("session {} is back from {host}", session(outcome))),
        Ending::Running => {
            say(&format!("the agent runs on {host} as job {job}"));
            say(&format!("  how far it is:   handover status {job}"));
            say(&format!("  what it says:    handover logs -f {job}"));
            say(&format!("  bring it back:   handover collect {job}"));
        }
        Ending::Detached => {
            say(&format!("detached; job {job} goes on on {host}"));
            say(&format!("  bring it back:   handover collect {job}"));
        }
        Ending::Closed => say(&format!(
            "job {job} was never launched and is closed now; session {} is free: hand it over again with 'handover send {host}{}'",
            session(outcome),
            if outcome.mode == Mode::RoundTrip {
                " --round-trip"
            } else {
                ""
            }
        )),
    }
    if let Some(trip) = &outcome.trip {
        person_trip(trip, outcome.duration_ms);
    }
}

fn session(outcome: &Outcome) -> &str {
    outcome.session.as_ref().map_or("?", SessionId::as_str)
}

fn person_trip(trip: &Trip, duration_ms: u64) {
    let tools: Vec<String> = trip
        .tools
        .iter()
        .map(|(tool, count)| format!("{} ×{count}", printable(tool)))
        .collect();
    say(&format!(
        "{} new messages, {} tool calls{}, {} tokens in, {} out, ${:.4}, {}",
        trip.new_messages,
        trip.tool_calls,
        if tools.is_empty() {
            String::new()
        } else {
            format!(" ({})", tools.join(", "))
        },
        trip.tokens.input,
        trip.tokens.output,
        trip.cost,
        humantime::format_duration(Duration::from_secs(duration_ms / 1000))
    ));
    if let Some(code) = trip.agent_exit {
        say(&format!("warning: the agent ended with status {code}"));
    }
    if let Some(text) = &trip.text {
        data_line(&printable(text));
    }
}
