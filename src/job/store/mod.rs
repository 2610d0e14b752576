//! The local store of job records: one SQLite file, shared by every process of the user.
//!
//! The main type is [`Store`]. Three invariants: at most one live job a session (kept by the database itself, whatever
//! processes race); every change is one short transaction; and what cannot be read is kept beside what can, and never
//! in its way.
//!
//! Its calls run on a thread for blocking work: one whose future is dropped is carried out all the same.

mod announced;
mod error;
mod lost;
mod read;
mod rows;
mod schema;
mod set_aside;
mod write;

#[cfg(test)]
pub(super) mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

pub use error::StoreError;

use super::now_ms;
use crate::private_fs;
use error::database_error;

/// How long a transaction waits for another process that holds the store.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a store that another process makes at the same time is tried.
const OPEN_ATTEMPTS: u32 = 5;
/// The time between these attempts.
const OPEN_PAUSE: Duration = Duration::from_millis(20);

/// The store. Cheap to clone; clones share one database connection.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
    // A plain mutex: it is only ever held on a blocking thread, for one short transaction.
    connection: Arc<Mutex<Connection>>,
    /// The jobs whose damaged records this process has found.
    damaged: Arc<Mutex<Vec<String>>>,
}

impl Store {
    /// Opens the store at `path`, making it (0600) and its directory (0700) where they are missing.
    ///
    /// # Errors
    /// [`StoreError::Create`], [`StoreError::Newer`], [`StoreError::Damaged`], [`StoreError::Busy`] or
    /// [`StoreError::Database`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let create = |source| StoreError::Create {
            path: path.to_owned(),
            source,
        };
        if let Some(directory) = path.parent() {
            private_fs::create_dir_all(directory).map_err(create)?;
        }
        private_fs::open_append(path).map_err(create)?;
        let database = |source| database_error(path, source);
        let mut connection = Connection::open(path).map_err(database)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(database)?;
        let since = Instant::now();
        let mut attempts = 1;
        while let Err(error) = schema::prepare(path, &mut connection) {
            // Another process that made the same new store just now leaves nothing to do for the next attempt.
            let passing = matches!(error, StoreError::Database { .. } | StoreError::Busy { .. });
            if !passing || attempts == OPEN_ATTEMPTS || since.elapsed() >= BUSY_TIMEOUT {
                return Err(error);
            }
            attempts += 1;
            std::thread::sleep(OPEN_PAUSE);
        }
        Ok(Self {
            path: path.to_owned(),
            connection: Arc::new(Mutex::new(connection)),
            damaged: Arc::default(),
        })
    }

    /// The connection. A panic in a transaction rolls it back, so the one behind a poisoned lock is sound.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let joined = tokio::task::spawn_blocking(move || {
            let mut connection = store.connection();
            work(&store, &mut connection)
        })
        .await;
        match joined {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(self.damaged(error)),
            },
        }
    }

    fn database(&self, source: rusqlite::Error) -> StoreError {
        database_error(&self.path, source)
    }

    fn damaged(&self, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
        StoreError::Damaged {
            path: self.path.clone(),
            source: Box::new(source),
        }
    }
}

fn now_i64() -> i64 {
    i64::try_from(now_ms()).unwrap_or(i64::MAX)
}
