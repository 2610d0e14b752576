//! `handover send`: hand a session over.

use std::io::{BufRead as _, Read};
use std::path::Path;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::args::{Form, SendArgs};
use super::render::Renderer;
use super::{CliError, parse, trip};
use crate::agent::Mode;
use crate::handoff::Client;

/// The longest message that is taken, in bytes.
const MESSAGE_LIMIT: u64 = 1 << 20;

/// The longest call that is taken, in bytes: the message as JSON may escape every one of its bytes.
const CALL_LIMIT: u64 = 8 * MESSAGE_LIMIT;

/// The tool call that asks for a handoff, as its tool passes it on.
#[derive(Deserialize)]
struct ToolCall {
    id: Option<String>,
    arguments: serde_json::Map<String, serde_json::Value>,
}

pub(crate) async fn run(client: &Client, args: &SendArgs) -> Result<u8, CliError> {
    let mode = if args.round_trip {
        Mode::RoundTrip
    } else {
        Mode::OneWay
    };
    if args.tool_call {
        // The user's ssh_config was not written for a model to choose from.
        client.hosts().defined(&args.host)?;
    }
    let mut handoff = client
        .handoff(&args.host)?
        .mode(mode)
        .forget(args.waiting.forget)
        .merge(args.waiting.merge)
        .inactivity(args.watchdogs.inactivity, args.watchdogs.kill_on_stall)
        .loop_limit(args.watchdogs.loop_limit, args.watchdogs.kill_on_loop);
    if let Some(text) = &args.session {
        handoff = handoff.session(parse(text)?);
    }
    if let Some(directory) = &args.dir {
        handoff = handoff.directory(parse(directory)?);
    }
    if args.tool_call {
        let call = tool_call()?;
        if let Some(message) = call.arguments.get("message").and_then(|text| text.as_str()) {
            handoff = handoff.message(message);
        }
        if let Some(text) = &args.session {
            // The call is the session's own: what it starts is its own job.
            handoff = handoff.parent(parse(text)?);
        }
        handoff = handoff.call(call.id, call.arguments);
    } else if let Some(message) = message(args)? {
        handoff = handoff.message(message);
    }
    if let Some(agent) = &args.agent {
        handoff = handoff.agent(parse(agent)?);
    }
    if let Some(model) = &args.model {
        handoff = handoff.model(parse(model)?);
    }
    if let Some(limit) = args.watchdogs.max_time {
        handoff = handoff.max_time(limit);
    }
    let renderer = Renderer::new(args.waiting.form());
    let running = handoff.start();
    if args.tool_call {
        detach_at_end_of_input(running.detacher());
    }
    Ok(trip::follow(running, &renderer, args.waiting.timeout).await?)
}

/// Reads the call, one line of standard input.
fn tool_call() -> Result<ToolCall, CliError> {
    let unreadable =
        |reason: String| CliError::Usage(format!("the call on standard input: {reason}"));
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .take(CALL_LIMIT)
        .read_line(&mut line)
        .map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_str(&line).map_err(|error| unreadable(error.to_string()))
}

/// Whoever runs this may end at any time: what it leaves behind is a closed input, on every system.
fn detach_at_end_of_input(detacher: CancellationToken) {
    std::thread::spawn(move || {
        if let Err(error) = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()) {
            tracing::debug!(%error, "standard input");
        }
        detacher.cancel();
    });
}

fn message(args: &SendArgs) -> Result<Option<String>, CliError> {
    match &args.message_file {
        // A model did not choose the path, and is not to see it.
        Some(path) if args.waiting.form() == Form::Model => {
            read_message(path, "the message file").map(Some)
        }
        Some(path) => read_message(path, &format!("the message file {}", path.display())).map(Some),
        None => Ok(args.message.clone()),
    }
}

/// A message that is given as an argument; '-' is standard input.
///
/// # Errors
/// A usage error when it cannot be read, is too large, or says nothing.
pub(super) fn told(text: &str) -> Result<String, CliError> {
    let message = if text == "-" {
        read_message(Path::new("-"), "standard input")?
    } else {
        text.to_owned()
    };
    if message.trim().is_empty() {
        return Err(CliError::Usage("the message is empty".to_owned()));
    }
    Ok(message)
}

fn read_message(path: &Path, what: &str) -> Result<String, CliError> {
    let unreadable = |reason: String| CliError::Usage(format!("{what}: {reason}"));
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(MESSAGE_LIMIT + 1)
            .read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(MESSAGE_LIMIT + 1).read_to_string(&mut text))
    };
    let size = read.map_err(|error| unreadable(error.to_string()))?;
    if size as u64 > MESSAGE_LIMIT {
        return Err(unreadable(format!(
            "it is larger than {MESSAGE_LIMIT} bytes"
        )));
    }
    Ok(text)
}
