//! Holds exports against each other, message by message.

use std::collections::HashSet;
use std::io::Read;

use sha2::{Digest, Sha256};

use super::error::{DocumentError, shown};
use super::limits::Limits;
use super::message::{Message, SessionInfo};
use super::scan::{Visitor, walk};

/// The SHA-256 of the bytes of each message, with the message's id, in the document's order.
///
/// Exports of one session by one opencode version have equal bytes for a message that has not changed.
///
/// # Errors
/// Any [`DocumentError`] but those about writing.
pub fn digests<R: Read>(
    reader: R,
    limits: &Limits,
) -> Result<Vec<(String, [u8; 32])>, DocumentError> {
    let mut digester = Digester::default();
    walk(reader, limits, &mut digester)?;
    Ok(digester.found)
}

/// The ids of the parts of some messages, each with its message's id, in the document's order.
///
/// An import is not transactional: a message that is there may lack parts of its own.
///
/// # Errors
/// Any [`DocumentError`] but those about writing.
pub fn part_ids<R: Read>(
    reader: R,
    messages: &HashSet<String>,
    limits: &Limits,
) -> Result<Vec<(String, String)>, DocumentError> {
    let mut parts = Parts {
        messages,
        found: Vec::new(),
    };
    walk(reader, limits, &mut parts)?;
    Ok(parts.found)
}

struct Parts<'a> {
    messages: &'a HashSet<String>,
    found: Vec<(String, String)>,
}

impl Visitor for Parts<'_> {
    fn info(&mut self, _info: &SessionInfo<'_>) -> Result<(), DocumentError> {
        Ok(())
    }

    fn message(&mut self, message: &Message<'_>) -> Result<(), DocumentError> {
        if self.messages.contains(message.id.as_ref()) {
            let ids = message.parts.iter().filter_map(|part| part.id.as_deref());
            self.found
                .extend(ids.map(|id| (message.id.clone().into_owned(), id.to_owned())));
        }
        Ok(())
    }
}

#[derive(Default)]
struct Digester {
    found: Vec<(String, [u8; 32])>,
    known: HashSet<String>,
}

impl Visitor for Digester {
    fn info(&mut self, _info: &SessionInfo<'_>) -> Result<(), DocumentError> {
        Ok(())
    }

    fn message(&mut self, message: &Message<'_>) -> Result<(), DocumentError> {
        if !self.known.insert(message.id.clone().into_owned()) {
            return Err(DocumentError::DuplicateMessage {
                id: shown(&message.id),
            });
        }
        self.found.push((
            message.id.clone().into_owned(),
            Sha256::digest(message.raw.bytes).into(),
        ));
        Ok(())
    }
}
