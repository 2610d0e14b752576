//! The directory that a session is bound to, and the project that it lies in.
//!
//! The main type is [`Binding`]. A directory in a git work tree belongs to that project, every other one to
//! the project `global`.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};

use super::store::Session;

/// The name of a directory, which must exist, as a process in it sees it: without links. On Windows it is taken as it is
/// given, since names that are resolved there have a prefix (`\\?\`) that no agent shows.
pub(super) fn resolved(directory: &Path) -> io::Result<PathBuf> {
    if cfg!(windows) {
        directory.metadata()?;
        std::path::absolute(directory)
    } else {
        directory.canonicalize()
    }
}

/// What opencode writes into a session about the directory that it is used in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) directory: String,
    pub(super) root: String,
    pub(super) project: String,
    path: String,
}

impl Binding {
    /// The binding of a directory.
    pub(super) fn of(directory: &Path) -> Self {
        let tree = directory
            .ancestors()
            .find(|ancestor| ancestor.join(".git").exists());
        let project = match tree {
            Some(tree) => {
                let digest = Sha256::digest(tree.to_string_lossy().as_bytes());
                digest
                    .iter()
                    .take(20)
                    .map(|byte| format!("{byte:02x}"))
                    .collect()
            }
            None => "global".to_owned(),
        };
        let root = tree.map_or_else(|| PathBuf::from("/"), Path::to_owned);
        let path = directory.strip_prefix(&root).unwrap_or(directory);
        Self {
            directory: directory.to_string_lossy().into_owned(),
            root: root.to_string_lossy().into_owned(),
            project,
            path: path.to_string_lossy().into_owned(),
        }
    }

    /// Binds a session.
    pub(super) fn apply(&self, session: &mut Session) -> serde_json::Result<()> {
        session.set("projectID", &json!(self.project))?;
        session.set("directory", &json!(self.directory))?;
        session.set("path", &json!(self.path))
    }
}
