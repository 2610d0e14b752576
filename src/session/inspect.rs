//! Reads a whole export and tells what it holds.

use std::collections::HashSet;
use std::io::Read;

use super::SessionId;
use super::error::{DocumentError, shown};
use super::ids::Kind;
use super::limits::Limits;
use super::message::{Message, Raw, Role, SessionInfo};
use super::scan::{Visitor, walk};
use super::settle::{self, RunningCall};

/// What an export holds, after it was read and checked to its end.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Inspection {
    /// The session.
    pub session: SessionId,
    /// The directory that the session is bound to, on the machine that exported it.
    pub directory: String,
    /// The session's title.
    pub title: String,
    /// The agent: the session's own, else (opencode before 1.15) that of the last user message.
    pub agent: Option<String>,
    /// The model as `provider/model`: the session's own, else that of the last user message.
    pub model: Option<String>,
    /// The version of opencode that made the session.
    pub version: Option<String>,
    /// The ids of the messages, in the document's order.
    pub message_ids: Vec<String>,
    /// The ids of those of them that are from the user.
    pub user_message_ids: Vec<String>,
    /// When the newest message was made, in milliseconds since 1970 by the clock of the machine that made it.
    pub newest_created_ms: Option<i64>,
    /// The size of the document.
    pub bytes: u64,
    /// The unfinished call of the last assistant message that asks for a handoff.
    pub running_call: Option<RunningCall>,
    /// Whether the last assistant message has not ended.
    pub unfinished: bool,
    /// The message from which on the user has undone the conversation, without having gone on since. opencode deletes
    /// that message and all after it at the next prompt: what a handoff brings back would be deleted too.
    pub reverted_to: Option<String>,
    /// Which message is the last assistant message.
    pub(super) last_assistant: Option<usize>,
    /// The session's `info` as it is in the document.
    pub(super) info: Json,
    /// The value of `agent` of the last user message, as it is in the document.
    pub(super) user_agent: Option<Json>,
    /// The value of `model` of the last user message, as it is in the document.
    pub(super) user_model: Option<Json>,
}

/// A stretch of the document. It holds what was said in the session, so that `Debug` shows its size alone.
#[derive(Clone)]
pub(super) struct Json(String);

impl std::fmt::Debug for Json {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "<{} bytes>", self.0.len())
    }
}

impl Inspection {
    /// The id of the last assistant message, when it has not ended.
    #[must_use]
    pub fn unfinished_message(&self) -> Option<&str> {
        let last = self.last_assistant.filter(|_| self.unfinished)?;
        self.message_ids.get(last).map(String::as_str)
    }

    /// The session's `info` object, byte for byte.
    #[must_use]
    pub fn raw_info(&self) -> &str {
        &self.info.0
    }

    /// The value of `agent` of the last user message, byte for byte (JSON, not text).
    #[must_use]
    pub fn raw_user_agent(&self) -> Option<&str> {
        self.user_agent.as_ref().map(|json| json.0.as_str())
    }

    /// The value of `model` of the last user message, byte for byte (JSON).
    #[must_use]
    pub fn raw_user_model(&self) -> Option<&str> {
        self.user_model.as_ref().map(|json| json.0.as_str())
    }
}

/// Reads an export to its end and tells what it holds.
///
/// Reads synchronously; one message is in memory at a time.
///
/// # Errors
/// Any [`DocumentError`] but those about writing: the document is cut, no JSON, no export, beyond `limits`, has a key,
/// message id or session id that must not be there, or cannot be read.
pub fn inspect<R: Read>(reader: R, limits: &Limits) -> Result<Inspection, DocumentError> {
    let mut inspector = Inspector::default();
    let bytes = walk(reader, limits, &mut inspector)?;
    inspector.finish(bytes)
}

#[derive(Default)]
struct Inspector {
    found: Option<Inspection>,
    session: Option<String>,
    ids: Vec<String>,
    user_ids: Vec<String>,
    known: HashSet<String>,
    newest: Option<i64>,
    last_assistant: Option<usize>,
    running: Option<RunningCall>,
    unfinished: bool,
    user: Option<LastUser>,
    /// A message's session id that differs from the first one's, and where.
    stranger: Option<(String, u64)>,
}

struct LastUser {
    agent: Option<Json>,
    model: Option<Json>,
    agent_name: Option<String>,
    model_name: Option<String>,
}

impl Visitor for Inspector {
    fn info(&mut self, info: &SessionInfo<'_>) -> Result<(), DocumentError> {
        let raw = &info.raw;
        let text = |name| {
            raw.text(info.fields.value(name))
                .map(std::borrow::Cow::into_owned)
        };
        let revert = raw.fields(info.fields.value("revert"), ["messageID"])?;
        self.found = Some(Inspection {
            session: session_id(&info.id, raw.offset)?,
            directory: text("directory").unwrap_or_default(),
            title: text("title").unwrap_or_default(),
            agent: text("agent"),
            model: model_name(raw, info.fields.value("model"), "id")?,
            version: text("version"),
            message_ids: Vec::new(),
            user_message_ids: Vec::new(),
            newest_created_ms: None,
            bytes: 0,
            running_call: None,
            unfinished: false,
            reverted_to: revert
                .and_then(|fields| raw.text(fields.value("messageID")))
                .map(|id| shown(&id)),
            last_assistant: None,
            info: Json(String::from_utf8_lossy(raw.bytes).into_owned()),
            user_agent: None,
            user_model: None,
        });
        Ok(())
    }

    fn message(&mut self, message: &Message<'_>) -> Result<(), DocumentError> {
        let raw = &message.raw;
        Kind::Message.check(&message.id, raw.offset)?;
        let first = self
            .session
            .get_or_insert_with(|| message.session.clone().into_owned());
        if *first != message.session && self.stranger.is_none() {
            self.stranger = Some((message.session.clone().into_owned(), raw.offset));
        }
        if !self.known.insert(message.id.clone().into_owned()) {
            return Err(DocumentError::DuplicateMessage {
                id: shown(&message.id),
            });
        }
        self.newest = self.newest.max(message.created_ms()?);
        match message.role {
            Role::User => {
                self.user_ids.push(message.id.clone().into_owned());
                let field = |name| {
                    message
                        .info
                        .value(name)
                        .map(|span| Json(String::from_utf8_lossy(raw.slice(span)).into_owned()))
                };
                self.user = Some(LastUser {
                    agent: field("agent"),
                    model: field("model"),
                    agent_name: raw
                        .text(message.info.value("agent"))
                        .map(std::borrow::Cow::into_owned),
                    model_name: model_name(raw, message.info.value("model"), "modelID")?,
                });
            }
            Role::Assistant => {
                self.last_assistant = Some(self.ids.len());
                let calls = settle::open_calls(message)?;
                self.unfinished = !calls.is_empty() || !message.ended()?;
                self.running = settle::running_call(message)?;
            }
        }
        self.ids.push(message.id.clone().into_owned());
        Ok(())
    }
}

impl Inspector {
    fn finish(self, bytes: u64) -> Result<Inspection, DocumentError> {
        let mut found = self.found.ok_or(DocumentError::NotAnExport {
            offset: bytes,
            expected: "the session's info",
        })?;
        let first = self
            .session
            .filter(|first| first != found.session.as_str())
            .map(|first| (first, 0));
        if let Some((other, offset)) = first.or(self.stranger) {
            return Err(DocumentError::WrongSession {
                expected: found.session,
                found: shown(&other),
                offset,
            });
        }
        found.message_ids = self.ids;
        found.user_message_ids = self.user_ids;
        found.newest_created_ms = self.newest;
        found.bytes = bytes;
        found.running_call = self.running;
        found.unfinished = self.unfinished;
        found.last_assistant = self.last_assistant;
        if let Some(user) = self.user {
            found.user_agent = user.agent;
            found.user_model = user.model;
            found.agent = found.agent.or(user.agent_name);
            found.model = found.model.or(user.model_name);
        }
        Ok(found)
    }
}

/// The session id in `text`, when it has the form of one.
pub(super) fn session_id(text: &str, offset: u64) -> Result<SessionId, DocumentError> {
    text.parse().map_err(|_| DocumentError::BadId {
        kind: "session",
        id: shown(text),
        offset,
    })
}

/// The `provider/model` of a model object, whose model is under the key `id` in a session and `modelID` in a message.
pub(super) fn model_name(
    raw: &Raw<'_>,
    span: Option<std::ops::Range<usize>>,
    id: &'static str,
) -> Result<Option<String>, DocumentError> {
    let Some(fields) = raw.fields(span, ["providerID", id])? else {
        return Ok(None);
    };
    let (provider, model) = (
        raw.text(fields.value("providerID")),
        raw.text(fields.value(id)),
    );
    Ok(provider
        .zip(model)
        .map(|(provider, model)| format!("{provider}/{model}")))
}
