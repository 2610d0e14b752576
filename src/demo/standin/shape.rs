//! The shapes of messages and parts, as opencode 1.18.33 makes them.

use serde_json::value::RawValue;
use serde_json::{Map, Value, json, value};

/// The tokens that every step of the stand-in agent uses.
pub(super) fn tokens(input: u64, output: u64) -> Value {
    json!({"total": input + output, "input": input, "output": output, "reasoning": 0,
           "cache": {"write": 0, "read": 0}})
}

/// Tokens of a step that has not ended.
pub(super) fn no_tokens() -> Value {
    json!({"input": 0, "output": 0, "reasoning": 0, "cache": {"read": 0, "write": 0}})
}

/// `PROVIDER/MODEL` in its two halves.
pub(super) fn model_halves(model: &str) -> (&str, &str) {
    model.split_once('/').unwrap_or(("standin", model))
}

/// The `info` of a user message.
pub(super) fn user(id: &str, session: &str, created: u64, agent: &str, model: &str) -> Value {
    let (provider, model) = model_halves(model);
    json!({"role": "user", "time": {"created": created}, "agent": agent,
           "model": {"providerID": provider, "modelID": model}, "summary": {"diffs": []},
           "id": id, "sessionID": session})
}

/// Where an assistant message comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) session: &'a str,
    pub(super) parent: &'a str,
    pub(super) agent: &'a str,
    pub(super) model: &'a str,
    pub(super) directory: &'a str,
    pub(super) root: &'a str,
}

/// The `info` of an assistant message that has not ended.
pub(super) fn assistant(id: &str, created: u64, origin: Origin<'_>) -> Value {
    let (provider, model) = model_halves(origin.model);
    json!({"parentID": origin.parent, "role": "assistant", "mode": origin.agent, "agent": origin.agent,
           "path": {"cwd": origin.directory, "root": origin.root}, "cost": 0, "tokens": no_tokens(),
           "modelID": model, "providerID": provider, "time": {"created": created},
           "id": id, "sessionID": origin.session})
}

/// Ends an assistant message.
pub(super) fn finish(info: &mut Value, reason: &str, completed: u64, cost: f64) {
    info["finish"] = json!(reason);
    info["time"]["completed"] = json!(completed);
    info["tokens"] = tokens(10, 5);
    info["cost"] = json!(cost);
}

/// Gives a part its place: `id`, `messageID`, `sessionID`.
pub(super) fn place(mut part: Value, id: &str, message: &str, session: &str) -> Value {
    part["id"] = json!(id);
    part["messageID"] = json!(message);
    part["sessionID"] = json!(session);
    part
}

/// The bytes that a value of a session's `info` gets in a document: indented to its place there.
pub(super) fn value_bytes(value: &Value) -> serde_json::Result<Box<RawValue>> {
    indented(value, "\n    ")
}

/// The bytes that a message's `info` gets in a document: indented to its place there.
pub(super) fn info_bytes(info: &Value) -> serde_json::Result<Box<RawValue>> {
    indented(info, "\n      ")
}

/// The bytes that a part gets in a document: indented to its place there.
pub(super) fn part_bytes(part: &Value) -> serde_json::Result<Box<RawValue>> {
    indented(part, "\n        ")
}

/// Line ends within the pretty form are all outside of strings, where they are escaped.
fn indented(value: &Value, line: &str) -> serde_json::Result<Box<RawValue>> {
    let text = serde_json::to_string_pretty(value)?.replace('\n', line);
    value::RawValue::from_string(halved(text))
}

/// Stands in a text for half of a surrogate pair, which no Rust string can hold.
pub(super) const HALF: char = '\u{e000}';

/// JSON text in which every [`HALF`] has become the escape of half a surrogate pair.
pub(super) fn halved(json: String) -> String {
    if json.contains(HALF) {
        json.replace(HALF, "\\ud83d")
    } else {
        json
    }
}

/// The `info` of a new session without messages.
pub(super) fn session(
    id: &str,
    title: &str,
    agent: &str,
    model: &str,
    created: u64,
) -> Map<String, Value> {
    let (provider, model) = model_halves(model);
    let info = json!({"id": id, "slug": "steady-lantern", "projectID": "global", "directory": "/", "path": "",
        "title": title, "agent": agent,
        "model": {"id": model, "providerID": provider, "variant": "default"}, "version": "1.18.33",
        "summary": {"additions": 0, "deletions": 0, "files": 0}, "cost": 0, "tokens": no_tokens(),
        "time": {"created": created, "updated": created}});
    match info {
        Value::Object(info) => info,
        _ => Map::new(),
    }
}
