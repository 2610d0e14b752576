//! What both kinds of hosts file parse to: values that know where they stand.
//!
//! The main type is [`Node`]. Only as many levels as a hosts file has are kept, so nothing here
//! recurses further than that.

/// Levels of tables in a hosts file: the file, `hosts`, one host.
pub(super) const LEVELS: usize = 3;

/// A value, and the byte offset where it begins.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) value: Value,
}

/// A table's key, the byte offset where it begins, and its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: usize,
    pub(super) node: Node,
}

#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    /// `None`: a number that is no integer, or beyond 64 bits.
    Number(Option<i64>),
    Bool(bool),
    /// No key occurs twice.
    Table(Vec<Entry>),
    Null,
    /// A type that no key takes, or a table below the last level; its name with an article.
    Other(&'static str),
}

impl Value {
    /// The type's name with its article.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Number(_) => "a number",
            Self::Bool(_) => "a boolean",
            Self::Table(_) => "a table",
            Self::Null => "null",
            Self::Other(kind) => kind,
        }
    }
}
