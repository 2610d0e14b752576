//! The agent's event stream (`opencode run --format json`), read as it grows.
//!
//! The main type is [`EventParser`]. The invariant: it takes any bytes, cut anywhere, and holds one line at most; a
//! line that is no event is passed over, for notices and warnings stand between the events.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::events::{AgentEvent, Tokens};
use crate::session::SessionId;

/// Bytes of one line; a longer one (a tool's output can be huge) is passed over and counted.
const LINE_LIMIT: usize = 8 << 20;

/// Reads an event stream piece by piece.
#[derive(Debug, Default)]
pub struct EventParser {
    line: Vec<u8>,
    skipping: bool,
    skipped: u64,
    position: u64,
    pending: u64,
    session: Option<SessionId>,
    timestamp: Option<u64>,
}

impl EventParser {
    /// At the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// In the middle of a stream, at the beginning of a line: where [`position`](Self::position) of another one was.
    #[must_use]
    pub fn starting_at(position: u64) -> Self {
        Self {
            position,
            ..Self::default()
        }
    }

    /// Takes the next bytes and gives the events whose lines they end.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        let mut pieces = bytes.split_inclusive(|byte| *byte == b'\n');
        for piece in &mut pieces {
            self.pending += piece.len() as u64;
            let ended = piece.ends_with(b"\n");
            if !self.skipping && self.line.len() + piece.len() > LINE_LIMIT {
                self.skipping = true;
                self.skipped += 1;
                self.line = Vec::new();
            }
            if !self.skipping {
                self.line.extend_from_slice(piece);
            }
            if ended {
                let read = parse_line(&self.line);
                events.extend(self.take(read));
                self.line.clear();
                self.skipping = false;
                self.position += std::mem::take(&mut self.pending);
            }
        }
        events
    }

    /// The stream has ended: a last line without its line break is read.
    pub fn finish(&mut self) -> Option<AgentEvent> {
        self.position += std::mem::take(&mut self.pending);
        self.skipping = false;
        let read = parse_line(&std::mem::take(&mut self.line));
        self.take(read)
    }

    fn take(&mut self, line: Option<Line>) -> Option<AgentEvent> {
        let line = line?;
        if self.session.is_none() {
            self.session = line.session.as_deref().and_then(|id| id.parse().ok());
        }
        self.timestamp = line.timestamp.or(self.timestamp);
        event(line)
    }

    /// When the newest event was made, in milliseconds since 1970 by the clock of its machine.
    #[must_use]
    pub fn timestamp(&self) -> Option<u64> {
        self.timestamp
    }

    /// The session that the events are of, once one has come.
    #[must_use]
    pub fn session(&self) -> Option<&SessionId> {
        self.session.as_ref()
    }

    /// Bytes of the lines that have been read whole: where another parser can go on.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Lines that were passed over because they are too long.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, rename = "sessionID")]
    session: Option<String>,
    #[serde(default)]
    timestamp: Option<u64>,
    #[serde(default)]
    part: Option<Part>,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Part {
    text: Option<String>,
    tool: Option<String>,
    state: Option<ToolState>,
    reason: Option<String>,
    cost: Option<f64>,
    tokens: Option<PartTokens>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ToolState {
    status: Option<String>,
    title: Option<String>,
    input: Option<Box<RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PartTokens {
    input: f64,
    output: f64,
    reasoning: f64,
    cache: Cache,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Cache {
    read: f64,
    write: f64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Failure {
    Text(String),
    Full {
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        message: Option<String>,
        #[serde(default)]
        data: Option<FailureData>,
    },
    Other(IgnoredAny),
}

#[derive(Deserialize)]
struct FailureData {
    #[serde(default)]
    message: Option<String>,
}

fn parse_line(line: &[u8]) -> Option<Line> {
    let line = line.trim_ascii();
    if !line.starts_with(b"{") {
        return None;
    }
    let text = String::from_utf8_lossy(line);
    serde_json::from_str(&text)
        .or_else(|_| serde_json::from_str(&replace_lone_surrogates(&text)))
        .ok()
}

/// The first eight bytes of a digest of both.
fn fingerprint(tool: &str, input: &str) -> u64 {
    let digest = Sha256::new()
        .chain_update(tool)
        .chain_update([0])
        .chain_update(input)
        .finalize();
    digest
        .iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn event(line: Line) -> Option<AgentEvent> {
    let part = line.part.unwrap_or_default();
    match line.kind.as_str() {
        "text" => Some(AgentEvent::Text { text: part.text? }),
        "reasoning" => Some(AgentEvent::Reasoning { text: part.text? }),
        "tool_use" => {
            let state = part.state.unwrap_or_default();
            let tool = part.tool?;
            Some(AgentEvent::ToolUse {
                fingerprint: fingerprint(&tool, state.input.as_deref().map_or("", RawValue::get)),
                tool,
                status: state.status.unwrap_or_default(),
                title: state.title.unwrap_or_default(),
            })
        }
        "step_finish" => {
            let tokens = part.tokens.unwrap_or_default();
            Some(AgentEvent::StepFinish {
                reason: part.reason.unwrap_or_default(),
                cost: part.cost.unwrap_or_default(),
                tokens: Tokens {
                    input: count(tokens.input),
                    output: count(tokens.output),
                    reasoning: count(tokens.reasoning),
                    cache_read: count(tokens.cache.read),
                    cache_write: count(tokens.cache.write),
                },
            })
        }
        "error" => {
            let message = match line.error {
                Some(Failure::Text(text)) => Some(text),
                Some(Failure::Full {
                    name,
                    message,
                    data,
                }) => data.and_then(|data| data.message).or(message).or(name),
                Some(Failure::Other(_)) | None => part.text,
            };
            Some(AgentEvent::Error {
                message: message.unwrap_or_else(|| "the agent did not say which".to_owned()),
            })
        }
        _ => None,
    }
}

/// Tokens are whole and not negative; anything else counts as what is nearest.
fn count(number: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, which is meant"
    )]
    let whole = number as u64;
    whole
}

/// Half an emoji, written `\ud83d`, is in real streams and in no valid text: replaced, for events are only shown.
fn replace_lone_surrogates(text: &str) -> String {
    let mut fixed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        fixed.push_str(before);
        let length = match (surrogate(escape), escape.get(6..).map(surrogate)) {
            (Some(true), Some(Some(false))) => {
                fixed.push_str(escape.get(..12).unwrap_or_default());
                12
            }
            (Some(_), _) => {
                fixed.push_str("\\ufffd");
                6
            }
            (None, _) => {
                let length = 1 + escape.chars().nth(1).map_or(0, char::len_utf8);
                fixed.push_str(escape.get(..length).unwrap_or_default());
                length
            }
        };
        rest = escape.get(length..).unwrap_or_default();
    }
    fixed.push_str(rest);
    fixed
}

/// Whether the text starts with an escaped surrogate, and whether that is the first half of a pair.
fn surrogate(text: &str) -> Option<bool> {
    let unit = u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()?;
    match unit {
        0xd800..=0xdbff => Some(true),
        0xdc00..=0xdfff => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = concat!(
        "sqlite-migration:done\n",
        r#"{"type":"step_start","timestamp":1,"sessionID":"ses_1","part":{"type":"step-start"}}"#,
        "\n",
        r#"{"type":"tool_use","part":{"tool":"bash","state":{"status":"completed","input":{"command":"ls"},"output":"x","title":"List"}}}"#,
        "\n{broken\n",
        r#"{"type":"text","part":{"text":"Fertig. ü \ud83d\ude00 \ud83d"}}"#,
        "\n",
        r#"{"type":"step_finish","part":{"reason":"stop","cost":0.5,"tokens":{"input":1,"output":2,"reasoning":3,"cache":{"read":4,"write":5}}}}"#,
        "\n",
        r#"{"type":"error","error":{"name":"APIError","data":{"message":"no key"}}}"#,
    );

    fn expected() -> Vec<AgentEvent> {
        vec![
            AgentEvent::ToolUse {
                tool: "bash".into(),
                status: "completed".into(),
                title: "List".into(),
                fingerprint: fingerprint("bash", r#"{"command":"ls"}"#),
            },
            AgentEvent::Text {
                text: "Fertig. ü 😀 \u{fffd}".into(),
            },
            AgentEvent::StepFinish {
                reason: "stop".into(),
                cost: 0.5,
                tokens: Tokens {
                    input: 1,
                    output: 2,
                    reasoning: 3,
                    cache_read: 4,
                    cache_write: 5,
                },
            },
            AgentEvent::Error {
                message: "no key".into(),
            },
        ]
    }

    #[test]
    fn the_session_is_known_from_the_first_event_on() {
        let mut parser = EventParser::new();
        parser.push(&STREAM.as_bytes()[..30]);
        assert_eq!(parser.session(), None);
        parser.push(&STREAM.as_bytes()[30..]);
        assert_eq!(parser.session().map(SessionId::as_str), Some("ses_1"));
    }

    #[test]
    fn the_same_call_is_told_from_another_one() {
        let call = |tool: &str, command: &str| {
            let line = format!(
                r#"{{"type":"tool_use","part":{{"tool":"{tool}","state":{{"input":{{"command":"{command}"}}}}}}}}{}"#,
                "\n"
            );
            match EventParser::new().push(line.as_bytes()).pop() {
                Some(AgentEvent::ToolUse { fingerprint, .. }) => fingerprint,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(call("bash", "ls"), call("bash", "ls"));
        assert_ne!(call("bash", "ls"), call("bash", "ls "));
        assert_ne!(call("bash", "ls"), call("sh", "ls"));
    }

    #[test]
    fn an_overlong_line_is_passed_over_and_the_next_one_is_read() {
        let mut parser = EventParser::new();
        for _ in 0..9 {
            assert!(parser.push(&vec![b'x'; 1 << 20]).is_empty());
        }
        assert_eq!(parser.skipped(), 1);
        let events = parser.push(b"\n{\"type\":\"text\",\"part\":{\"text\":\"a\"}}\n");
        assert_eq!(events, [AgentEvent::Text { text: "a".into() }]);
        assert_eq!(parser.position(), (9 << 20) + 37);
    }

    #[test]
    fn bytes_that_are_no_utf8_do_no_harm() {
        let mut parser = EventParser::new();
        assert!(parser.push(b"\xff\xfe\n").is_empty());
        let events = parser.push(b"{\"type\":\"text\",\"part\":{\"text\":\"a\xff\"}}\n");
        assert_eq!(
            events,
            [AgentEvent::Text {
                text: "a\u{fffd}".into()
            }]
        );
    }

    proptest! {
        #[test]
        fn the_same_events_come_wherever_the_bytes_are_cut(cuts in proptest::collection::vec(0..STREAM.len(), 0..12)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            cuts.push(STREAM.len());
            let mut parser = EventParser::new();
            let mut events = Vec::new();
            let mut from = 0;
            for cut in cuts {
                events.extend(parser.push(&STREAM.as_bytes()[from..cut]));
                from = cut;
            }
            events.extend(parser.finish());
            prop_assert_eq!(events, expected());
            prop_assert_eq!(parser.position(), STREAM.len() as u64);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "(\\\\u?[dD89abcdefé\"]{0,5}){0,9}") {
            let mut parser = EventParser::new();
            parser.push(&bytes);
            parser.push(format!("{{{text}\n").as_bytes());
            parser.finish();
        }
    }
}
