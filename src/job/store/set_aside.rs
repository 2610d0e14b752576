//! What happens to a damaged store: it is set aside, and a new one is made.
//!
//! The main function is [`Store::open_or_set_aside`]. The invariant: what was there is renamed and never overwritten,
//! and of several processes that find it damaged one does that.

use std::path::{Path, PathBuf};

use super::error::database_error;
use super::{Store, StoreError, lost, now_ms};
use crate::private_fs;

impl Store {
    /// As [`open`](Self::open), but a damaged store is renamed beside itself (`NAME.damaged-TIME`), never overwritten,
    /// and a new one is made. The path is where the damaged one is now.
    ///
    /// # Errors
    /// As for [`open`](Self::open); [`StoreError::Damaged`] when it could not be renamed.
    pub fn open_or_set_aside(path: &Path) -> Result<(Self, Option<PathBuf>), StoreError> {
        match Self::open_sound(path) {
            Err(StoreError::Damaged { .. }) => {}
            other => return Ok((other?, None)),
        }
        let create = |source| StoreError::Create {
            path: path.to_owned(),
            source,
        };
        // Of several processes that find it damaged, one sets it aside, and the others find the new one.
        let lock = private_fs::open_append(&beside(path, ".lock")).map_err(create)?;
        lock.lock().map_err(create)?;
        let damage = match Self::open_sound(path) {
            Err(damage @ StoreError::Damaged { .. }) => damage,
            other => return Ok((other?, None)),
        };
        let mut time = now_ms();
        while beside(path, &format!(".damaged-{time}")).exists() {
            time += 1;
        }
        let aside = beside(path, &format!(".damaged-{time}"));
        // The log first: one without its database would be taken for the new one's.
        for part in ["-wal", "-shm", ""] {
            match private_fs::rename(&beside(path, part), &beside(&aside, part)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(%error, "the damaged store cannot be set aside");
                    return Err(damage);
                }
                _ => {}
            }
        }
        tracing::warn!(path = %aside.display(), "the damaged store was set aside");
        let store = Self::open_sound(path)?;
        lost::note(&store.connection()).map_err(|error| database_error(path, error))?;
        Ok((store, Some(aside)))
    }

    /// Opens the store and looks whether every page of it is whole; it is small.
    fn open_sound(path: &Path) -> Result<Self, StoreError> {
        let store = Self::open(path)?;
        let found: String = store
            .connection()
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|error| database_error(path, error))?;
        if found != "ok" {
            return Err(store.damaged(std::io::Error::other(found)));
        }
        Ok(store)
    }
}

/// The path with this at the end of its name.
fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(more);
    PathBuf::from(name)
}
