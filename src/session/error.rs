//! What can be wrong with a document.

use std::io;

use super::SessionId;

/// The reason why a document was refused, or could not be read or written.
///
/// Offsets are bytes from the beginning of the document that was read. No variant carries a message's content; texts
/// that come from the document (ids, keys) are cut to 80 characters and rendered escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The document ends before it is complete: it was cut on its way, or is still being written.
    #[error("the document is cut: it ends at byte {offset} before it is complete")]
    Cut {
        /// Where it ends.
        offset: u64,
    },
    /// The document is not JSON (RFC 8259).
    #[error("not JSON at byte {offset}: {expected} expected")]
    Syntax {
        /// Where the first byte that does not fit is.
        offset: u64,
        /// What would have fitted.
        expected: &'static str,
    },
    /// Something other than white space follows the complete document.
    #[error("something follows the end of the document at byte {offset}")]
    Trailing {
        /// Where it begins.
        offset: u64,
    },
    /// The document is JSON but has not the form of a session export.
    #[error("not a session export at byte {offset}: {expected} expected")]
    NotAnExport {
        /// Where the value that does not fit begins.
        offset: u64,
        /// What an export has there.
        expected: &'static str,
    },
    /// The document exceeds one of the [`Limits`](super::Limits).
    #[error("the document exceeds the limit of {limit} {what} at byte {offset}")]
    Limit {
        /// What is limited, with its unit.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// Where it is exceeded.
        offset: u64,
    },
    /// An object whose fields are looked at has two fields of one name: readers disagree on which of them counts.
    #[error("the key {key:?} appears twice in one object at byte {offset}")]
    DuplicateKey {
        /// The name.
        key: String,
        /// Where the second one begins.
        offset: u64,
    },
    /// Two messages have the same id.
    #[error("the message id {id:?} appears twice")]
    DuplicateMessage {
        /// The id.
        id: String,
    },
    /// Two parts have the same id.
    #[error("the part id {id:?} appears twice")]
    DuplicatePart {
        /// The id.
        id: String,
    },
    /// An id has not the form that opencode gives it.
    #[error("{id:?} at byte {offset} is not a {kind} id")]
    BadId {
        /// Which kind of id was expected: `session`, `message` or `part`.
        kind: &'static str,
        /// What is there.
        id: String,
        /// Where its object begins.
        offset: u64,
    },
    /// Something in the document belongs to another session.
    #[error(
        "the document has something of session {found:?} at byte {offset}, where only {expected} belongs"
    )]
    WrongSession {
        /// The session that the document must be of.
        expected: SessionId,
        /// What is there.
        found: String,
        /// Where its object begins.
        offset: u64,
    },
    /// A part names another message than the one that it is in.
    #[error("a part of message {message} at byte {offset} claims to be of {found:?}")]
    WrongMessage {
        /// The message that the part is in.
        message: String,
        /// What the part names.
        found: String,
        /// Where the part begins.
        offset: u64,
    },
    /// A message is neither from the user nor from the assistant.
    #[error("the message at byte {offset} has the role {role:?}")]
    BadRole {
        /// The role.
        role: String,
        /// Where the message begins.
        offset: u64,
    },
    /// The document is another one than that which was inspected.
    #[error("the document changed after it was inspected")]
    Changed,
    /// A model was asked for that is not written `provider/model`.
    #[error("{model:?} is not a model: 'provider/model'")]
    BadModel {
        /// What was asked for.
        model: String,
    },
    /// The document cannot be read.
    #[error("the document cannot be read")]
    Read {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The patched document cannot be written.
    #[error("the patched document cannot be written")]
    Write {
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The short form of a text of the document, for an error.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
