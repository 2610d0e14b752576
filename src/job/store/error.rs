//! Why the store could not be read or written.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::job::JobId;
use crate::session::SessionId;

/// Why the store could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory or the file could not be made.
    #[error("cannot create the job store {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Another process held the store for longer than the waiting time.
    #[error("the job store {} is held by another process", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// A newer version of this program wrote the store or the record; it is left as it is.
    #[error("the job store {} was written by a newer version of handover", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a database, or it is damaged; it is left as it is.
    #[error("the job store {} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database answered with another error, a full disk for example.
    #[error("the job store {} cannot be used", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: rusqlite::Error,
    },
    /// The session already has a live job.
    #[error("session {session} already has a live job, {job}")]
    SessionBusy {
        /// The session.
        session: SessionId,
        /// Its live job.
        job: JobId,
    },
    /// No job has this identifier or this beginning of one.
    #[error("there is no job {text:?}")]
    NoSuchJob {
        /// What was asked for.
        text: String,
    },
    /// The newest job was asked for, and there is none.
    #[error("no job has been started from here yet")]
    NoJobs,
    /// More than one job begins with this.
    #[error("more than one job begins with {text:?}")]
    Ambiguous {
        /// What was asked for.
        text: String,
    },
}

pub(super) fn database_error(path: &Path, source: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path },
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => StoreError::Damaged {
            path,
            source: Box::new(source),
        },
        _ => StoreError::Database { path, source },
    }
}
