//! Ends a message that was exported while it was still going on, as opencode itself would have ended it.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::{Value, json};

use super::edit::Edits;
use super::error::{DocumentError, shown};
use super::ids;
use super::message::{Message, Part, Role};

/// The name of the tool that hands a session over.
const TOOL: &str = "remote_login";

/// Whether a tool's name is that of the tool that hands a session over: `remote_login` itself, or behind the name of a
/// plugin or MCP server that ends with one of `_`, `.`, `-`, `/`, `:` (`handover_remote_login`,
/// `mcp__handover__remote_login`, `handover.remote_login`).
pub(super) fn is_handoff_tool(name: &str) -> bool {
    name.strip_suffix(TOOL)
        .is_some_and(|prefix| prefix.is_empty() || prefix.ends_with(['_', '.', '-', '/', ':']))
}

/// How far an unfinished call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallState {
    /// The model still writes the call: its arguments are not in the document.
    Pending,
    /// The tool runs.
    Running,
}

/// The unfinished call that asks for a handoff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningCall {
    /// The message that the call is in.
    pub message_id: String,
    /// The call, as the model's provider names it.
    pub call_id: String,
    /// The tool's name as the document has it, with its prefix.
    pub tool: String,
    /// How far the call is.
    pub state: CallState,
}

/// An unfinished tool call in a message.
pub(super) struct OpenCall<'a> {
    tool: Cow<'a, str>,
    call_id: Cow<'a, str>,
    state: CallState,
    span: Range<usize>,
    input: Option<Range<usize>>,
    metadata: Option<Range<usize>>,
    start_ms: Option<i64>,
}

impl OpenCall<'_> {
    fn public(&self, message: &Message<'_>) -> RunningCall {
        RunningCall {
            message_id: message.id.clone().into_owned(),
            call_id: self.call_id.clone().into_owned(),
            tool: shown(&self.tool),
            state: self.state,
        }
    }
}

/// The unfinished calls of a message, in its order.
pub(super) fn open_calls<'a>(message: &Message<'a>) -> Result<Vec<OpenCall<'a>>, DocumentError> {
    let raw = &message.raw;
    let mut calls = Vec::new();
    for part in message.parts.iter().filter(|part| part.kind == "tool") {
        let not = |expected| DocumentError::NotAnExport {
            offset: raw.place(&part.span),
            expected,
        };
        let state = raw.fields(part.state.clone(), ["status", "input", "metadata", "time"])?;
        let state = state.ok_or(not("a tool call's state"))?;
        let status = raw
            .text(state.value("status"))
            .ok_or(not("a tool call's status"))?;
        let kind = match status.as_ref() {
            "pending" => CallState::Pending,
            "running" => CallState::Running,
            _ => continue,
        };
        let time = raw.fields(state.value("time"), ["start"])?;
        calls.push(OpenCall {
            tool: raw.text(part.tool.clone()).ok_or(not("a tool's name"))?,
            call_id: raw.text(part.call.clone()).unwrap_or_default(),
            state: kind,
            input: state
                .value("input")
                .filter(|span| raw.slice(span.clone()).starts_with(b"{")),
            metadata: state
                .value("metadata")
                .filter(|span| raw.slice(span.clone()).starts_with(b"{")),
            start_ms: raw.integer(time.and_then(|time| time.value("start"))),
            span: state.span,
        });
    }
    Ok(calls)
}

/// The call among `calls` that asks for this handoff: the one with the id `wanted`, else the first.
fn handoff_call<'c, 'a>(
    calls: &'c [OpenCall<'a>],
    wanted: Option<&str>,
) -> Option<&'c OpenCall<'a>> {
    let mut fitting = calls.iter().filter(|call| is_handoff_tool(&call.tool));
    let first = fitting.clone().next();
    fitting
        .find(|call| wanted == Some(&*call.call_id))
        .or(first)
}

/// The unfinished handoff call of a message.
pub(super) fn running_call(message: &Message<'_>) -> Result<Option<RunningCall>, DocumentError> {
    let calls = open_calls(message)?;
    Ok(handoff_call(&calls, None).map(|call| call.public(message)))
}

/// What the handoff call of a message ends with.
pub(super) struct Answer<'a> {
    pub(super) output: &'a str,
    pub(super) arguments: Option<&'a Value>,
    pub(super) call_id: Option<&'a str>,
}

/// How a message is ended.
pub(super) struct Ending<'a> {
    /// For the handoff call; without it, that call is ended like any other.
    pub(super) answer: Option<Answer<'a>>,
    /// The error that the other unfinished calls get.
    pub(super) interrupted: &'static str,
    pub(super) now_ms: i64,
}

/// What [`settle`] did.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// The handoff call that was answered.
    pub(super) answered: Option<RunningCall>,
    /// Whether the message had not ended.
    pub(super) unfinished: bool,
}

/// Ends an assistant message that has not ended; others are left alone.
pub(super) fn settle(
    message: &Message<'_>,
    ending: &Ending<'_>,
    edits: &mut Edits,
) -> Result<Settled, DocumentError> {
    if message.role != Role::Assistant {
        return Ok(Settled::default());
    }
    let raw = &message.raw;
    let calls = open_calls(message)?;
    let time = raw.fields(message.info.value("time"), ["created", "completed"])?;
    let completed = time
        .as_ref()
        .is_some_and(|time| time.get("completed").is_some());
    if calls.is_empty() && message.ended()? {
        return Ok(Settled::default());
    }
    let answer = ending.answer.as_ref();
    let chosen = answer.and_then(|answer| handoff_call(&calls, answer.call_id));
    for call in &calls {
        let state = match (answer, chosen) {
            (Some(answer), Some(chosen)) if std::ptr::eq(chosen, call) => {
                completed_state(message, call, answer, ending)
            }
            _ => error_state(message, call, ending),
        };
        edits.replace(call.span.clone(), state);
    }
    finish_step(message, edits);
    let has_call = message.parts.iter().any(|part| part.kind == "tool");
    if message.info.get("finish").is_none() && !message.failed() {
        let reason = if has_call { "tool-calls" } else { "stop" };
        // The fields before are there: an id and a role at least.
        edits.insert(message.info.end, format!(r#","finish":"{reason}""#));
    }
    match &time {
        Some(time) if !completed => {
            let created = raw.integer(time.value("created")).unwrap_or(ending.now_ms);
            let comma = if time.empty { "" } else { "," };
            edits.insert(
                time.end,
                format!(r#"{comma}"completed":{}"#, ending.now_ms.max(created)),
            );
        }
        _ => {}
    }
    Ok(Settled {
        answered: chosen.map(|call| call.public(message)),
        unfinished: true,
    })
}

fn input<'a>(message: &Message<'a>, call: &OpenCall<'_>) -> Cow<'a, str> {
    call.input.clone().map_or(Cow::Borrowed("{}"), |span| {
        String::from_utf8_lossy(message.raw.slice(span))
    })
}

fn times(call: &OpenCall<'_>, now_ms: i64) -> String {
    let start = call.start_ms.unwrap_or(now_ms);
    json!({ "start": start, "end": now_ms.max(start) }).to_string()
}

fn completed_state(
    message: &Message<'_>,
    call: &OpenCall<'_>,
    answer: &Answer<'_>,
    ending: &Ending<'_>,
) -> String {
    let input = answer.arguments.map_or_else(
        || input(message, call),
        |arguments| Cow::Owned(arguments.to_string()),
    );
    let output = Value::from(answer.output);
    let time = times(call, ending.now_ms);
    format!(
        r#"{{"status":"completed","input":{input},"output":{output},"title":"{TOOL}","metadata":{{}},"time":{time}}}"#
    )
}

fn error_state(message: &Message<'_>, call: &OpenCall<'_>, ending: &Ending<'_>) -> String {
    let input = input(message, call);
    let error = Value::from(ending.interrupted);
    let time = times(call, ending.now_ms);
    // What a tool had reported so far is worth as much as its error.
    let metadata = call.metadata.clone().map_or_else(String::new, |span| {
        format!(
            r#""metadata":{},"#,
            String::from_utf8_lossy(message.raw.slice(span))
        )
    });
    format!(r#"{{"status":"error","input":{input},"error":{error},{metadata}"time":{time}}}"#)
}

/// Adds the `step-finish` part that the last step lacks; its cost and tokens are those of the message so far.
fn finish_step(message: &Message<'_>, edits: &mut Edits) {
    let last = |kind: &str| message.parts.iter().rposition(|part| part.kind == kind);
    let begun = last("step-start").or_else(|| last("tool"));
    if begun.is_none() || last("step-finish") > begun {
        return;
    }
    let raw = &message.raw;
    let copy = |name: &str, otherwise: &str| {
        message.info.value(name).map_or_else(
            || otherwise.to_owned(),
            |span| String::from_utf8_lossy(raw.slice(span)).into_owned(),
        )
    };
    let tokens = copy(
        "tokens",
        r#"{"input":0,"output":0,"reasoning":0,"cache":{"read":0,"write":0}}"#,
    );
    let cost = copy("cost", "0");
    let id = ids::part_after(
        &message.id,
        message.parts.iter().filter_map(|part| part.id.as_deref()),
    );
    let reason = if last("tool").is_some() {
        "tool-calls"
    } else {
        "stop"
    };
    let (session, owner) = (Value::from(&*message.session), Value::from(&*message.id));
    let step = format!(
        r#"{{"type":"step-finish","reason":"{reason}","tokens":{tokens},"cost":{cost},"id":"{id}","sessionID":{session},"messageID":{owner}}}"#
    );
    match message.parts.iter().rfind(|part| !part.stays()) {
        Some(Part { span, .. }) => edits.insert(span.end, format!(",{step}")),
        None => edits.insert(message.parts_end, step),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handoff_tool_is_known_by_its_name_behind_any_prefix() {
        for yes in [
            "remote_login",
            "handover_remote_login",
            "mcp__x__remote_login",
            "x.remote_login",
            "a-remote_login",
            "x/remote_login",
        ] {
            assert!(is_handoff_tool(yes), "{yes}");
        }
        for no in [
            "",
            "bash",
            "xremote_login",
            "remote_login_status",
            "Remote_Login",
            "remote-login",
        ] {
            assert!(!is_handoff_tool(no), "{no}");
        }
    }
}
