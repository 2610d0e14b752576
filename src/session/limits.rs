//! How large a document may be.

/// The bounds within which a document is read; whatever exceeds one is refused as
/// [`DocumentError::Limit`](super::DocumentError::Limit).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of the whole document.
    pub document: u64,
    /// Bytes of one message, or of any other value at the document's top. This much is held in memory.
    pub message: usize,
    /// Messages in the document. Their ids are held in memory.
    pub messages: usize,
    /// Parts in one message, and parts in all the messages that come back.
    pub parts: usize,
    /// Levels of arrays and objects within one message. The reader is recursive: 512 levels need less than 256 KiB of
    /// stack.
    pub depth: usize,
}

/// Fields in one object whose fields are looked at: the top, a message, an `info`, a part, a tool's state.
pub(super) const MAX_FIELDS: usize = 1_024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            document: 4 << 30,
            message: 256 << 20,
            messages: 250_000,
            parts: 1_000_000,
            depth: 512,
        }
    }
}

impl Limits {
    /// The default bounds with another one for the size of the whole document, in bytes.
    #[must_use]
    pub fn with_document(bytes: u64) -> Self {
        Self {
            document: bytes,
            ..Self::default()
        }
    }
}
