//! The document on its way back: what is new in it, checked, as a document that can be imported.

use std::collections::HashSet;
use std::io::{Read, Write};

use super::SessionId;
use super::edit::Edits;
use super::error::{DocumentError, shown};
use super::ids::Kind;
use super::inspect::Inspection;
use super::limits::Limits;
use super::message::{Message, Role, SessionInfo};
use super::outgoing::set;
use super::scan::{Visitor, walk};
use super::settle::{self, Ending};
use super::summary::TripSummary;

/// What a document that comes back is held against.
#[derive(Debug, Clone, Copy)]
pub struct Returning<'a> {
    /// The session that the document must be of.
    pub session: &'a SessionId,
    /// The ids of the messages that were sent.
    pub sent_ids: &'a HashSet<String>,
    /// What a fresh export of the local session holds.
    pub local: &'a Inspection,
    /// Now, in milliseconds since 1970: when a call ends that the remote run left unfinished.
    pub now_ms: i64,
    /// How large the document may be.
    pub limits: Limits,
}

/// What came back.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Returned {
    /// The ids of the messages that were not in what was sent, in the document's order.
    pub new_message_ids: Vec<String>,
    /// How many of them are the assistant's. None means that the agent did nothing.
    pub assistant_messages: usize,
    /// How many of them sort before a message that was sent. opencode orders by id, so these appear in the middle of
    /// what was there: the other machine's clock was behind, or the ids have begun again (they do every 2.2 years).
    pub out_of_order: usize,
    /// How many messages that were sent are not in the document.
    pub absent: usize,
    /// How many new messages had not ended and were ended.
    pub settled: usize,
    /// What was done on the other machine.
    pub summary: TripSummary,
    /// The size of what was written.
    pub bytes: u64,
}

/// Writes the document to import: the messages that were not sent, under the local session's `info`.
///
/// The written document is `{"info":…,"messages":[…]}` with the local `info` byte for byte, so that directory, project,
/// title, agent and model stay the local ones; other keys of the remote document are not taken over. In a new message,
/// `patch` parts and `snapshot` fields are left out, lists of file differences are emptied, and a user's message gets `agent` and `model` of the last local
/// user message, so that the next local turn runs as before; all other bytes are as they came. A message that the
/// remote run left unfinished is ended, its calls as errors: a message that was imported unfinished never ends.
///
/// Before anything is taken, it is checked: the session in the `info`, in every message and in every part of a new
/// message; the form of ids; that none appears twice; that no looked-at object has a key twice; that roles are known.
///
/// # Errors
/// Any [`DocumentError`]. After an error, what was written must be thrown away.
pub fn prepare_returning<R: Read, W: Write>(
    reader: R,
    writer: W,
    returning: &Returning<'_>,
) -> Result<Returned, DocumentError> {
    let newest = returning.sent_ids.iter().max().map(String::as_str);
    let mut sieve = Sieve {
        writer,
        returning,
        newest,
        seen: HashSet::new(),
        parts: HashSet::new(),
        sent_seen: 0,
        returned: Returned::default(),
    };
    sieve.write(b"{\"info\":")?;
    sieve.write(returning.local.raw_info().as_bytes())?;
    sieve.write(b",\"messages\":[")?;
    walk(reader, &returning.limits, &mut sieve)?;
    sieve.write(b"]}\n")?;
    sieve
        .writer
        .flush()
        .map_err(|source| DocumentError::Write { source })?;
    let mut returned = sieve.returned;
    returned.absent = returning.sent_ids.len().saturating_sub(sieve.sent_seen);
    Ok(returned)
}

struct Sieve<'a, W> {
    writer: W,
    returning: &'a Returning<'a>,
    /// The sent id that sorts last.
    newest: Option<&'a str>,
    seen: HashSet<String>,
    parts: HashSet<String>,
    sent_seen: usize,
    returned: Returned,
}

impl<W: Write> Sieve<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), DocumentError> {
        self.returned.bytes += bytes.len() as u64;
        self.writer
            .write_all(bytes)
            .map_err(|source| DocumentError::Write { source })
    }

    fn of_session(&self, found: &str, offset: u64) -> Result<(), DocumentError> {
        if found == self.returning.session.as_str() {
            return Ok(());
        }
        Err(DocumentError::WrongSession {
            expected: self.returning.session.clone(),
            found: shown(found),
            offset,
        })
    }

    fn check_parts(&mut self, message: &Message<'_>) -> Result<(), DocumentError> {
        let raw = &message.raw;
        for part in &message.parts {
            let offset = raw.place(&part.span);
            let not = |expected| DocumentError::NotAnExport { offset, expected };
            let id = part.id.as_deref().ok_or(not("a part id"))?;
            Kind::Part.check(id, offset)?;
            let session = raw
                .text(part.session.clone())
                .ok_or(not("a part's session id"))?;
            self.of_session(&session, offset)?;
            let owner = raw
                .text(part.message.clone())
                .ok_or(not("a part's message id"))?;
            if owner != message.id {
                let (message, found) = (message.id.clone().into_owned(), shown(&owner));
                return Err(DocumentError::WrongMessage {
                    message,
                    found,
                    offset,
                });
            }
            if self.parts.len() >= self.returning.limits.parts {
                let limit = self.returning.limits.parts as u64;
                return Err(DocumentError::Limit {
                    what: "parts in the new messages",
                    limit,
                    offset,
                });
            }
            if !self.parts.insert(id.to_owned()) {
                return Err(DocumentError::DuplicatePart { id: shown(id) });
            }
        }
        Ok(())
    }

    fn take(&mut self, message: &Message<'_>) -> Result<(), DocumentError> {
        self.check_parts(message)?;
        let mut edits = Edits::default();
        message.cut_local(&mut edits)?;
        match message.role {
            Role::User => {
                let local = self.returning.local;
                for (name, value) in [
                    ("agent", local.raw_user_agent()),
                    ("model", local.raw_user_model()),
                ] {
                    if let Some(value) = value {
                        set(
                            &mut edits,
                            message.info.value(name),
                            message.info.end,
                            name,
                            value,
                        );
                    }
                }
            }
            Role::Assistant => {
                let ending = Ending {
                    answer: None,
                    interrupted: "interrupted before the session came back",
                    now_ms: self.returning.now_ms,
                };
                let settled = settle::settle(message, &ending, &mut edits)?;
                self.returned.settled += usize::from(settled.unfinished);
                self.returned.assistant_messages += 1;
                self.returned.summary.add(message)?;
            }
        }
        if self.newest.is_some_and(|newest| &*message.id < newest) {
            self.returned.out_of_order += 1;
        }
        let mut patched = Vec::with_capacity(message.raw.bytes.len());
        edits
            .apply(message.raw.bytes, &mut patched)
            .map_err(|source| DocumentError::Write { source })?;
        if !self.returned.new_message_ids.is_empty() {
            self.write(b",\n")?;
        }
        self.write(&patched)?;
        self.returned
            .new_message_ids
            .push(message.id.clone().into_owned());
        Ok(())
    }
}

impl<W: Write> Visitor for Sieve<'_, W> {
    fn info(&mut self, info: &SessionInfo<'_>) -> Result<(), DocumentError> {
        self.of_session(&info.id, info.raw.offset)
    }

    fn message(&mut self, message: &Message<'_>) -> Result<(), DocumentError> {
        let offset = message.raw.offset;
        Kind::Message.check(&message.id, offset)?;
        self.of_session(&message.session, offset)?;
        if !self.seen.insert(message.id.clone().into_owned()) {
            return Err(DocumentError::DuplicateMessage {
                id: shown(&message.id),
            });
        }
        if self.returning.sent_ids.contains(&*message.id) {
            self.sent_seen += 1;
            return Ok(());
        }
        self.take(message)
    }
}
