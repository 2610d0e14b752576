//! Why the plugin could not be installed or removed.

use std::io;
use std::path::PathBuf;

/// The reason why the plugin could not be installed or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginError {
    /// Something else is where the plugin belongs.
    #[error("{} is not handover's plugin, and is left as it is", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file, or its directory, cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file cannot be removed.
    #[error("cannot remove {}", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Where this program is, is not known.
    #[error("the place of this program is not known")]
    Program(#[source] io::Error),
    /// This program's path is no Unicode, and a script cannot name it.
    #[error("the path of this program is not Unicode: {}", path.display())]
    ProgramPath {
        /// The path.
        path: PathBuf,
    },
}
