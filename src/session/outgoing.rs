//! The document on its way out: the calling message ended, agent and model set, what names local snapshots left out.

use std::fmt::Write as _;
use std::io::{self, Read, Write};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::SessionId;
use super::edit::Edits;
use super::error::DocumentError;
use super::inspect::{Inspection, model_name};
use super::limits::Limits;
use super::message::{Message, SessionInfo};
use super::scan::{Visitor, walk};
use super::settle::{self, Answer, Ending, RunningCall};

/// How a session is made ready to be sent.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// What the handoff call answers: the text that tells the remote model where it now is.
    pub output: String,
    /// The true arguments of the handoff call, an object. Without them, those in the document (none, when it is pending).
    pub arguments: Option<Value>,
    /// Which call to answer, when several of the last assistant message ask for a handoff; else the first of them.
    pub call_id: Option<String>,
    /// The agent that the session is to have, where it goes.
    pub agent: Option<String>,
    /// The model that the session is to have, as `provider/model`.
    pub model: Option<String>,
    /// Now, in milliseconds since 1970: when the interrupted calls end.
    pub now_ms: i64,
}

/// What was written for sending.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// The session.
    pub session: SessionId,
    /// The ids of all messages, in the document's order.
    pub message_ids: Vec<String>,
    /// When the newest message was made, in milliseconds since 1970.
    pub newest_created_ms: Option<i64>,
    /// The size of what was written.
    pub bytes: u64,
    /// The SHA-256 of what was written, in lower-case hexadecimal digits.
    pub sha256: String,
    /// The handoff call that was answered.
    pub call: Option<RunningCall>,
    /// Whether the last assistant message had not ended and was ended.
    pub settled: bool,
}

/// Writes the document as it is to be sent.
///
/// `inspection` is what [`inspect`](super::inspect()) said of this very document. The last assistant message, if it has
/// not ended, is ended: its handoff call with [`Outgoing::output`], its other calls as errors. `patch` parts and
/// `snapshot` fields are left out, lists of file differences (`summary.diffs`) are emptied. All other bytes are written as they are read.
///
/// # Errors
/// Any [`DocumentError`], [`Changed`](DocumentError::Changed) when `inspection` is of another document and
/// [`BadModel`](DocumentError::BadModel) among them. After an error, what was written must be thrown away.
pub fn prepare_outgoing<R: Read, W: Write>(
    reader: R,
    writer: W,
    inspection: &Inspection,
    outgoing: &Outgoing,
    limits: &Limits,
) -> Result<Sent, DocumentError> {
    let model = match &outgoing.model {
        Some(model) => match model.split_once('/') {
            Some((provider, id)) if !provider.is_empty() && !id.is_empty() => {
                Some((model.as_str(), provider, id))
            }
            _ => {
                return Err(DocumentError::BadModel {
                    model: model.clone(),
                });
            }
        },
        None => None,
    };
    let writer = Tally {
        inner: writer,
        hasher: Sha256::new(),
        bytes: 0,
    };
    let mut patcher = Patcher {
        writer,
        inspection,
        outgoing,
        model,
        index: 0,
        call: None,
        settled: false,
    };
    walk(reader, limits, &mut patcher)?;
    let Patcher {
        mut writer,
        index,
        call,
        settled,
        ..
    } = patcher;
    if index != inspection.message_ids.len() {
        return Err(DocumentError::Changed);
    }
    writer
        .flush()
        .map_err(|source| DocumentError::Write { source })?;
    Ok(Sent {
        session: inspection.session.clone(),
        message_ids: inspection.message_ids.clone(),
        newest_created_ms: inspection.newest_created_ms,
        bytes: writer.bytes,
        sha256: hexadecimal(&writer.hasher.finalize()),
        call,
        settled,
    })
}

/// The digits of a digest.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

struct Patcher<'a, W> {
    writer: Tally<W>,
    inspection: &'a Inspection,
    outgoing: &'a Outgoing,
    /// The whole, the provider, the model.
    model: Option<(&'a str, &'a str, &'a str)>,
    index: usize,
    call: Option<RunningCall>,
    settled: bool,
}

impl<W: Write> Visitor for Patcher<'_, W> {
    fn between(&mut self, bytes: &[u8]) -> Result<(), DocumentError> {
        self.writer
            .write_all(bytes)
            .map_err(|source| DocumentError::Write { source })
    }

    fn info(&mut self, info: &SessionInfo<'_>) -> Result<(), DocumentError> {
        if info.id != self.inspection.session.as_str() {
            return Err(DocumentError::Changed);
        }
        let (raw, fields) = (&info.raw, &info.fields);
        let mut edits = Edits::default();
        if let Some(agent) = self.outgoing.agent.as_deref()
            && raw.text(fields.value("agent")).as_deref() != Some(agent)
        {
            set(
                &mut edits,
                fields.value("agent"),
                fields.end,
                "agent",
                &Value::from(agent).to_string(),
            );
        }
        if let Some((whole, provider, id)) = self.model
            && model_name(raw, fields.value("model"), "id")?.as_deref() != Some(whole)
        {
            let model = json!({ "id": id, "providerID": provider }).to_string();
            set(
                &mut edits,
                fields.value("model"),
                fields.end,
                "model",
                &model,
            );
        }
        if let Some(field) = fields.get("snapshot") {
            edits.cut(field.cut.clone());
        }
        raw.empty_diffs(fields.value("summary"), &mut edits)?;
        let revert = raw.fields(fields.value("revert"), ["snapshot"])?;
        if let Some(field) = revert.as_ref().and_then(|revert| revert.get("snapshot")) {
            edits.cut(field.cut.clone());
        }
        edits
            .apply(raw.bytes, &mut self.writer)
            .map_err(|source| DocumentError::Write { source })
    }

    fn message(&mut self, message: &Message<'_>) -> Result<(), DocumentError> {
        if self
            .inspection
            .message_ids
            .get(self.index)
            .map(String::as_str)
            != Some(&*message.id)
        {
            return Err(DocumentError::Changed);
        }
        let mut edits = Edits::default();
        message.cut_local(&mut edits)?;
        if self.inspection.last_assistant == Some(self.index) {
            let answer = Answer {
                output: &self.outgoing.output,
                arguments: self.outgoing.arguments.as_ref(),
                call_id: self.outgoing.call_id.as_deref(),
            };
            let ending = Ending {
                answer: Some(answer),
                interrupted: "interrupted by the handoff",
                now_ms: self.outgoing.now_ms,
            };
            let settled = settle::settle(message, &ending, &mut edits)?;
            self.call = settled.answered;
            self.settled = settled.unfinished;
        }
        self.index += 1;
        edits
            .apply(message.raw.bytes, &mut self.writer)
            .map_err(|source| DocumentError::Write { source })
    }
}

/// Sets the field `name` of an object that has other fields, the last of which ends at `end`.
pub(super) fn set(
    edits: &mut Edits,
    present: Option<std::ops::Range<usize>>,
    end: usize,
    name: &str,
    value: &str,
) {
    match present {
        Some(span) => edits.replace(span, value),
        None => edits.insert(end, format!(",\"{name}\":{value}")),
    }
}

/// A writer that counts and digests.
struct Tally<W> {
    inner: W,
    hasher: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Tally<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
