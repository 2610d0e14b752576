//! What goes wrong with hosts, and where.
//!
//! The main type is [`HostsError`]. Its messages hold names and local paths, never an address.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::Serialize;

use super::address::InvalidAddress;
use super::name::{HostName, InvalidHostName};
use super::ssh_config::SshConfigError;
use super::value::InvalidValue;

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The file.
    #[serde(serialize_with = "super::file::path_as_text")]
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}:{}:{}",
            self.path.display(),
            self.line,
            self.column
        )
    }
}

/// Something in a file that has no effect, and that its author should know of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Where.
    #[serde(flatten)]
    pub at: Position,
    /// What, for a person.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.at, self.message)
    }
}

/// The reason why hosts could not be read, or a host not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostsError {
    /// A file is not what it should be.
    #[error("{at}: {message}")]
    Parse {
        /// Where.
        at: Position,
        /// What the parser says; holds nothing of the file's values.
        message: String,
    },
    /// A key has no meaning.
    #[error("{at}: unknown key {key:?}; the keys are {}", known.join(", "))]
    UnknownKey {
        /// Where.
        at: Position,
        /// The key.
        key: String,
        /// The keys that have a meaning in this place.
        known: &'static [&'static str],
    },
    /// A host's name is refused.
    #[error("{at}: invalid host name")]
    InvalidName {
        /// Where.
        at: Position,
        /// Why.
        source: InvalidHostName,
    },
    /// A host's address or user is refused.
    #[error("{at}: invalid address of host {host}")]
    InvalidAddress {
        /// The host.
        host: HostName,
        /// Where.
        at: Position,
        /// Why.
        source: InvalidAddress,
    },
    /// The value of a host's key is refused.
    #[error("{at}: invalid {key} of host {host}")]
    InvalidValue {
        /// The host.
        host: HostName,
        /// The key.
        key: &'static str,
        /// Where.
        at: Position,
        /// Why.
        source: InvalidValue,
    },
    /// A file is there and cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is larger than any hosts file.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound in bytes.
        limit: u64,
    },
    /// The ssh_config, or what it says of the host.
    #[error(transparent)]
    SshConfig(#[from] SshConfigError),
    /// No host has this name.
    #[error("there is no host {name:?}; {}", list(known))]
    UnknownHost {
        /// The name as it was given, which may be anything.
        name: String,
        /// The names that there are, in order.
        known: Vec<HostName>,
    },
    /// The host runs an operating system that is not supported yet.
    #[error("host {host} runs Windows, which is not supported yet as a host")]
    NotYet {
        /// The host.
        host: HostName,
    },
    /// The home directory is unknown.
    #[error("the home directory is unknown: neither the environment nor the system names it")]
    NoHome,
    /// The working directory is unknown.
    #[error("the working directory is unknown")]
    NoWorkingDirectory(#[source] io::Error),
}

fn list(known: &[HostName]) -> String {
    if known.is_empty() {
        return "none is configured".to_owned();
    }
    let names: Vec<&str> = known.iter().map(HostName::as_str).collect();
    format!("configured: {}", names.join(", "))
}
