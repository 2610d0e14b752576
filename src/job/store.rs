//! The local store of job records: one SQLite file, shared by every process of the user.
//!
//! The main type is [`Store`]. Two invariants: at most one live job a session (kept by the database itself,
//! whatever processes race), and every change is one short transaction.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, params};
use rusqlite_migration::{M, Migrations};

use super::{JobId, JobRecord, RECORD_VERSION, now_ms};
use crate::private_fs;
use crate::session::SessionId;

/// How long a transaction waits for another process that holds the store.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a store that another process makes at the same time is tried.
const OPEN_ATTEMPTS: u32 = 5;
/// The time between these attempts.
const OPEN_PAUSE: Duration = Duration::from_millis(20);

const MIGRATIONS: &[M<'static>] = &[
    M::up(
        "CREATE TABLE jobs (
        id TEXT PRIMARY KEY,
        session TEXT NOT NULL,
        live INTEGER NOT NULL,
        updated_ms INTEGER NOT NULL,
        record TEXT NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX one_live_job_a_session ON jobs (session) WHERE live;",
    ),
    // What had ended before ends could be announced is not announced.
    M::up(
        "ALTER TABLE jobs ADD COLUMN announced INTEGER NOT NULL DEFAULT 0;
    UPDATE jobs SET announced = 1 WHERE NOT live;",
    ),
];

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

/// The store. Cheap to clone; clones share one database connection.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) path: PathBuf,
    // A plain mutex: it is only ever held on a blocking thread, for one short transaction.
    pub(super) connection: Arc<Mutex<Connection>>,
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
        while let Err(error) = prepare(path, &mut connection) {
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
        })
    }

    /// Records a new job, and by that takes its session, unless the job has ended already.
    ///
    /// # Errors
    /// [`StoreError::SessionBusy`] when the session has a live job, or a database error.
    pub async fn insert(&self, record: &JobRecord) -> Result<(), StoreError> {
        let record = record.clone();
        self.call(move |store, connection| {
            let database = |source| database_error(&store.path, source);
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(database)?;
            let holder = live_job(&transaction, record.session_key()).map_err(database)?;
            if let (Some(text), Some(session)) =
                (holder.filter(|_| record.state.is_live()), record.session.clone())
            {
                let job = text.parse().map_err(|error| store.damaged(error))?;
                return Err(StoreError::SessionBusy { session, job });
            }
            transaction
                .execute(
                    "INSERT INTO jobs (id, session, live, updated_ms, record) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![
                        record.id.as_str(),
                        record.session_key(),
                        record.state.is_live(),
                        now_i64(),
                        store.encode(&record)?
                    ],
                )
                .map_err(database)?;
            transaction.commit().map_err(database)
        })
        .await
    }

    /// Replaces a job's record.
    ///
    /// # Errors
    /// [`StoreError::NoSuchJob`] when it is not there, [`StoreError::SessionBusy`] when the job would come to
    /// life beside another of its session, or a database error.
    pub async fn update(&self, record: &JobRecord) -> Result<(), StoreError> {
        let record = record.clone();
        self.call(move |store, connection| {
            let changed = connection.execute(
                "UPDATE jobs SET session = ?2, live = ?3, updated_ms = ?4, record = ?5 WHERE id = ?1",
                params![
                    record.id.as_str(),
                    record.session_key(),
                    record.state.is_live(),
                    now_i64(),
                    store.encode(&record)?
                ],
            );
            match changed {
                Ok(0) => Err(StoreError::NoSuchJob { text: record.id.to_string() }),
                Ok(_) => Ok(()),
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                    let holder = live_job(connection, record.session_key()).map_err(|error| database_error(&store.path, error))?;
                    match (holder.map(|text| text.parse()), record.session.clone()) {
                        (Some(Ok(job)), Some(session)) => Err(StoreError::SessionBusy { session, job }),
                        _ => Err(database_error(&store.path, error)),
                    }
                }
                Err(error) => Err(database_error(&store.path, error)),
            }
        })
        .await
    }

    /// Removes a job's record; one that is not there is no error.
    ///
    /// # Errors
    /// A database error.
    pub async fn remove(&self, job: &JobId) -> Result<(), StoreError> {
        let job = job.clone();
        self.call(move |store, connection| {
            connection
                .execute("DELETE FROM jobs WHERE id = ?1", [job.as_str()])
                .map(|_| ())
                .map_err(|error| database_error(&store.path, error))
        })
        .await
    }

    /// Changes a job's record as it is now, in one transaction, and gives it as it is then.
    ///
    /// # Errors
    /// As [`Store::update`].
    pub async fn amend(
        &self,
        job: &JobId,
        change: impl FnOnce(&mut JobRecord) + Send + 'static,
    ) -> Result<JobRecord, StoreError> {
        let job = job.clone();
        self.call(move |store, connection| {
            let database = |source| database_error(&store.path, source);
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(database)?;
            let text: Option<String> = transaction
                .query_row(
                    "SELECT record FROM jobs WHERE id = ?1",
                    [job.as_str()],
                    |row| row.get(0),
                )
                .optional()
                .map_err(database)?;
            let Some(text) = text else {
                return Err(StoreError::NoSuchJob {
                    text: job.to_string(),
                });
            };
            let mut record = store.decode(&text)?;
            change(&mut record);
            transaction
                .execute(
                    "UPDATE jobs SET session = ?2, live = ?3, updated_ms = ?4, record = ?5 WHERE id = ?1",
                    params![
                        job.as_str(),
                        record.session_key(),
                        record.state.is_live(),
                        now_i64(),
                        store.encode(&record)?
                    ],
                )
                .map_err(database)?;
            transaction.commit().map_err(database)?;
            Ok(record)
        })
        .await
    }

    /// Takes the announcement of every job that is over and was not announced: each is given once, whoever asks.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn claim_announcements(
        &self,
        is_over: impl Fn(&JobRecord) -> bool + Send + 'static,
    ) -> Result<Vec<JobRecord>, StoreError> {
        self.call(move |store, connection| {
            let database = |source| database_error(&store.path, source);
            let mut open = connection
                .prepare("SELECT record FROM jobs WHERE NOT announced ORDER BY id")
                .map_err(database)?;
            let rows = open
                .query_map([], |row| row.get::<_, String>(0))
                .map_err(database)?;
            let mut claimed = Vec::new();
            for row in rows {
                let record = store.decode(&row.map_err(database)?)?;
                if is_over(&record) {
                    claimed.push(record);
                }
            }
            let mut mine = Vec::new();
            for record in claimed {
                let changed = connection
                    .execute(
                        "UPDATE jobs SET announced = 1 WHERE id = ?1 AND NOT announced",
                        [record.id.as_str()],
                    )
                    .map_err(database)?;
                if changed == 1 {
                    mine.push(record);
                }
            }
            Ok(mine)
        })
        .await
    }

    /// Every record, newest first.
    ///
    /// # Errors
    /// A database error, or [`StoreError::Newer`] for a record of a newer version.
    pub async fn list(&self) -> Result<Vec<JobRecord>, StoreError> {
        self.select("SELECT record FROM jobs ORDER BY id DESC", String::new())
            .await
    }

    /// The live job of a session, if there is one.
    ///
    /// # Errors
    /// A database error.
    pub async fn live(&self, session: &SessionId) -> Result<Option<JobRecord>, StoreError> {
        let found = self
            .select(
                "SELECT record FROM jobs WHERE session = ?1 AND live",
                session.to_string(),
            )
            .await?;
        Ok(found.into_iter().next())
    }

    /// The job whose identifier is `text` or, where just one does, begins with it; `-` is the newest.
    ///
    /// # Errors
    /// [`StoreError::NoSuchJob`], [`StoreError::NoJobs`], [`StoreError::Ambiguous`] or a database error.
    pub async fn find(&self, text: &str) -> Result<JobRecord, StoreError> {
        let no_such_job = || StoreError::NoSuchJob {
            text: text.to_owned(),
        };
        if text == "-" {
            let newest = self
                .select(
                    "SELECT record FROM jobs ORDER BY id DESC LIMIT 1",
                    String::new(),
                )
                .await?;
            return newest.into_iter().next().ok_or(StoreError::NoJobs);
        }
        let plain = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase() || byte == b'-';
        if text.is_empty() || !text.bytes().all(plain) {
            return Err(no_such_job());
        }
        let mut found = self
            .select(
                "SELECT record FROM jobs WHERE substr(id, 1, length(?1)) = ?1 ORDER BY id LIMIT 2",
                text.to_owned(),
            )
            .await?;
        match (found.pop(), found.pop()) {
            (Some(record), None) => Ok(record),
            (Some(second), Some(first)) => [first, second]
                .into_iter()
                .find(|record| record.id.as_str() == text)
                .ok_or_else(|| StoreError::Ambiguous {
                    text: text.to_owned(),
                }),
            _ => Err(no_such_job()),
        }
    }

    async fn select(
        &self,
        query: &'static str,
        argument: String,
    ) -> Result<Vec<JobRecord>, StoreError> {
        self.call(move |store, connection| {
            let database = |source| database_error(&store.path, source);
            let mut statement = connection.prepare(query).map_err(database)?;
            let arguments = if statement.parameter_count() == 0 {
                Vec::new()
            } else {
                vec![argument]
            };
            let rows = statement
                .query_map(rusqlite::params_from_iter(arguments), |row| {
                    row.get::<_, String>(0)
                })
                .map_err(database)?;
            rows.map(|row| store.decode(&row.map_err(database)?))
                .collect()
        })
        .await
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let joined = tokio::task::spawn_blocking(move || {
            // A panic in a transaction rolls it back, so the connection behind a poisoned lock is sound.
            let mut connection = store
                .connection
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
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

    fn encode(&self, record: &JobRecord) -> Result<String, StoreError> {
        serde_json::to_string(record).map_err(|error| self.damaged(error))
    }

    fn decode(&self, text: &str) -> Result<JobRecord, StoreError> {
        #[derive(serde::Deserialize)]
        struct Versioned {
            version: u32,
        }
        let head: Versioned = serde_json::from_str(text).map_err(|error| self.damaged(error))?;
        if head.version > RECORD_VERSION {
            return Err(StoreError::Newer {
                path: self.path.clone(),
            });
        }
        serde_json::from_str(text).map_err(|error| self.damaged(error))
    }

    pub(super) fn damaged(
        &self,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> StoreError {
        StoreError::Damaged {
            path: self.path.clone(),
            source: Box::new(source),
        }
    }
}

fn live_job(connection: &Connection, session: &str) -> rusqlite::Result<Option<String>> {
    connection
        .query_row(
            "SELECT id FROM jobs WHERE session = ?1 AND live",
            [session],
            |row| row.get(0),
        )
        .optional()
}

fn now_i64() -> i64 {
    i64::try_from(now_ms()).unwrap_or(i64::MAX)
}

/// Sets the database up, and brings its tables to the newest version.
fn prepare(path: &Path, connection: &mut Connection) -> Result<(), StoreError> {
    let database = |source| database_error(path, source);
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .map_err(database)?;
    connection
        .pragma_update(None, "synchronous", "FULL")
        .map_err(database)?;
    Migrations::from_slice(MIGRATIONS)
        .to_latest(connection)
        .map_err(|error| match error {
            rusqlite_migration::Error::MigrationDefinition(
                rusqlite_migration::MigrationDefinitionError::DatabaseTooFarAhead,
            ) => StoreError::Newer {
                path: path.to_owned(),
            },
            rusqlite_migration::Error::RusqliteError { err, .. } => database_error(path, err),
            other => StoreError::Damaged {
                path: path.to_owned(),
                source: Box::new(other),
            },
        })
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::job::{JobKind, Mode, State};

    pub(in crate::job) fn record(session: &str) -> JobRecord {
        JobRecord::new(
            JobKind::Handoff,
            "box".parse().unwrap(),
            Some(session.parse().unwrap()),
            Mode::RoundTrip,
            PathBuf::from("/home/ada/project"),
        )
    }

    fn open(directory: &tempfile::TempDir) -> Store {
        Store::open(&directory.path().join("state/jobs.db")).unwrap()
    }

    #[test]
    fn a_new_store_can_be_opened_by_several_at_once() {
        for _ in 0..10 {
            let directory = tempfile::tempdir().unwrap();
            std::thread::scope(|scope| {
                for _ in 0..6 {
                    scope.spawn(|| open(&directory));
                }
            });
        }
    }

    #[tokio::test]
    async fn a_session_has_at_most_one_live_job() {
        let directory = tempfile::tempdir().unwrap();
        let (here, elsewhere) = (open(&directory), open(&directory));
        let mut first = record("ses_1");
        here.insert(&first).await.unwrap();
        let refused = elsewhere.insert(&record("ses_1")).await.unwrap_err();
        assert!(matches!(refused, StoreError::SessionBusy { job, .. } if job == first.id));
        elsewhere.insert(&record("ses_2")).await.unwrap();
        first.enter(State::Completed);
        here.update(&first).await.unwrap();
        let second = record("ses_1");
        elsewhere.insert(&second).await.unwrap();
        assert_eq!(
            here.live(second.session.as_ref().unwrap()).await.unwrap(),
            Some(second)
        );
        first.enter(State::Running);
        assert!(matches!(
            here.update(&first).await,
            Err(StoreError::SessionBusy { .. })
        ));
    }

    #[tokio::test]
    async fn of_many_that_ask_at_once_one_gets_the_session() {
        let directory = tempfile::tempdir().unwrap();
        let stores: Vec<Store> = (0..8).map(|_| open(&directory)).collect();
        let attempts = stores
            .iter()
            .map(|store| async move { store.insert(&record("ses_1")).await.is_ok() });
        let won = futures::future::join_all(attempts).await;
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
    }

    #[tokio::test]
    async fn an_end_is_given_to_one_of_those_who_ask() {
        let directory = tempfile::tempdir().unwrap();
        let stores: Vec<Store> = (0..6).map(|_| open(&directory)).collect();
        let mut first = record("ses_1");
        stores[0].insert(&first).await.unwrap();
        stores[0].insert(&record("ses_2")).await.unwrap();
        let claim = |store: Store| async move {
            let claimed = store.claim_announcements(|job| !job.state.is_live()).await;
            claimed.unwrap()
        };
        assert_eq!(claim(stores[0].clone()).await, []);
        first.enter(State::Completed);
        stores[0].update(&first).await.unwrap();
        let asked = futures::future::join_all(stores.iter().cloned().map(claim)).await;
        assert_eq!(asked.concat(), [first.clone()]);
        // What is written after that does not bring it back.
        first.error = Some("later".to_owned());
        stores[1].update(&first).await.unwrap();
        assert_eq!(claim(open(&directory)).await, []);
    }

    #[tokio::test]
    async fn a_record_is_changed_as_it_is_whoever_changed_it_before() {
        let directory = tempfile::tempdir().unwrap();
        let job = record("ses_1");
        open(&directory).insert(&job).await.unwrap();
        let changes = (0..8).map(|_| {
            let (store, id) = (open(&directory), job.id.clone());
            async move { store.amend(&id, |job| job.undelivered += 1).await.unwrap() }
        });
        futures::future::join_all(changes).await;
        let now = open(&directory).find(job.id.as_str()).await.unwrap();
        assert_eq!(now.undelivered, 8);
    }

    #[tokio::test]
    async fn a_job_is_found_by_the_beginning_of_its_id() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory);
        assert!(matches!(store.find("-").await, Err(StoreError::NoJobs)));
        let (first, second) = (record("ses_1"), record("ses_2"));
        store.insert(&first).await.unwrap();
        store.insert(&second).await.unwrap();
        assert_eq!(store.find(first.id.as_str()).await.unwrap(), first);
        assert_eq!(
            store.find("-").await.unwrap().id,
            first.id.clone().max(second.id.clone())
        );
        assert!(matches!(
            store.find("j").await,
            Err(StoreError::Ambiguous { .. })
        ));
        for nothing in ["", "jzzzz", "%", "j' OR 1=1", "J0"] {
            assert!(
                matches!(store.find(nothing).await, Err(StoreError::NoSuchJob { .. })),
                "{nothing:?}"
            );
        }
        assert_eq!(store.list().await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_newer_store_or_record_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory);
        let mut future = record("ses_1");
        future.version = RECORD_VERSION + 1;
        store.insert(&future).await.unwrap();
        assert!(matches!(store.list().await, Err(StoreError::Newer { .. })));
        let path = directory.path().join("state/jobs.db");
        Connection::open(&path)
            .unwrap()
            .pragma_update(None, "user_version", 99)
            .unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Newer { .. })));
    }

    #[test]
    fn a_file_that_is_no_database_is_refused_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jobs.db");
        let text = "this is not a database at all. ".repeat(100);
        std::fs::write(&path, &text).unwrap();
        assert!(matches!(
            Store::open(&path),
            Err(StoreError::Damaged { .. })
        ));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_store_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory);
        store.insert(&record("ses_1")).await.unwrap();
        for entry in std::fs::read_dir(directory.path().join("state")).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(
                std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600,
                "{}",
                path.display()
            );
        }
    }
}
