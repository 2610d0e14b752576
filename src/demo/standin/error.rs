//! Why the stand-in agent could not do what it was asked.

use std::io;
use std::path::PathBuf;

/// The reason why a command of the stand-in agent failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StandinError {
    /// There is neither `XDG_DATA_HOME` nor a home directory.
    #[error("no home directory is known")]
    NoHome,
    /// The arguments make no command.
    #[error("this is no command of the stand-in agent")]
    Usage,
    /// No session has this id.
    #[error("session not found: {id}")]
    NoSession {
        /// What was asked for.
        id: String,
    },
    /// A file could not be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is no export document.
    #[error("{} is no session", path.display())]
    Document {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Standard input or output failed.
    #[error("cannot use the standard streams")]
    Stream(#[source] io::Error),
    /// A setting asks for this failure.
    #[error("failing, as the settings ask")]
    Asked,
}

impl StandinError {
    /// Gives an I/O error its path.
    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// Gives a JSON error the file or the session that it is about.
    pub(super) fn document(path: impl Into<PathBuf>) -> impl FnOnce(serde_json::Error) -> Self {
        let path = path.into();
        move |source| Self::Document { path, source }
    }
}
