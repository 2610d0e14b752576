//! The tables of the store, and how an older store gets them.

use std::path::Path;

use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

use super::error::{StoreError, database_error};

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
    // Damaged rows keep what they held, whatever that is. A spawned job holds itself alone: what it says its session is
    // comes from its host.
    M::up(
        "CREATE TABLE damaged_jobs (id, session, live, updated_ms, announced, record, found_ms INTEGER);
    CREATE TABLE searches (host TEXT PRIMARY KEY) STRICT;
    UPDATE jobs SET session = id
        WHERE CASE WHEN json_valid(record) THEN json_extract(record, '$.kind') = 'spawn' ELSE 0 END;",
    ),
];

/// Sets the database up, and brings its tables to the newest version.
pub(super) fn prepare(path: &Path, connection: &mut Connection) -> Result<(), StoreError> {
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
