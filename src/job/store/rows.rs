//! Rows as they are: most are records; one that is none is kept in a table of its own, out of the way of the others.

use std::sync::PoisonError;

use rusqlite::{
    Connection, OptionalExtension as _, Params, Transaction, TransactionBehavior, params,
};

use super::{Store, StoreError, lost, now_i64};
use crate::job::{JobRecord, RECORD_VERSION};

/// What is read of a row; queries name these columns in this order.
pub(super) struct Row {
    pub(super) rowid: i64,
    id: Vec<u8>,
    record: Vec<u8>,
}

impl Row {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        // As bytes: damaged text need not be text.
        let bytes = |index| Ok::<_, rusqlite::Error>(row.get_ref(index)?.as_bytes()?.to_vec());
        Ok(Self {
            rowid: row.get(0)?,
            id: bytes(1)?,
            record: bytes(2)?,
        })
    }

    /// The job's id, as far as it is text; for a person.
    fn name(&self) -> String {
        String::from_utf8_lossy(&self.id).into_owned()
    }
}

impl Store {
    /// Whether other jobs' records were found damaged by this process, and which; each is told once.
    #[must_use]
    pub fn take_damaged(&self) -> Vec<String> {
        std::mem::take(&mut *self.damaged.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The records of these rows (`rowid, id, record`); a row that is none is set aside, and told of.
    pub(super) fn records(
        &self,
        connection: &mut Connection,
        query: &str,
        arguments: impl Params,
    ) -> Result<Vec<JobRecord>, StoreError> {
        let rows: Vec<Row> = {
            let mut statement = connection.prepare(query).map_err(|e| self.database(e))?;
            let rows = statement
                .query_map(arguments, Row::read)
                .map_err(|e| self.database(e))?;
            rows.collect::<Result<_, _>>()
                .map_err(|e| self.database(e))?
        };
        let mut records = Vec::new();
        let mut damaged = Vec::new();
        for row in rows {
            match self.decode(&row)? {
                Some(record) => records.push(record),
                None => damaged.push(row.rowid),
            }
        }
        if !damaged.is_empty() {
            let transaction = self.begin(connection)?;
            for rowid in damaged {
                self.set_row_aside(&transaction, rowid)?;
            }
            self.commit(transaction)?;
        }
        Ok(records)
    }

    /// One row as it is in a transaction.
    pub(super) fn row(
        &self,
        transaction: &Transaction<'_>,
        query: &str,
        arguments: impl Params,
    ) -> Result<Option<Row>, StoreError> {
        transaction
            .query_row(query, arguments, Row::read)
            .optional()
            .map_err(|error| self.database(error))
    }

    /// Puts a damaged row out of the way, unless it is whole by now.
    pub(super) fn set_row_aside(
        &self,
        transaction: &Transaction<'_>,
        rowid: i64,
    ) -> Result<(), StoreError> {
        let query = "SELECT rowid, id, record FROM jobs WHERE rowid = ?1";
        let Some(row) = self.row(transaction, query, [rowid])? else {
            return Ok(());
        };
        if self.decode(&row)?.is_some() {
            return Ok(());
        }
        let database = |error| self.database(error);
        transaction
            .execute(
                "INSERT INTO damaged_jobs (id, session, live, updated_ms, announced, record, found_ms)
                 SELECT id, session, live, updated_ms, announced, record, ?2 FROM jobs WHERE rowid = ?1",
                params![rowid, now_i64()],
            )
            .map_err(database)?;
        transaction
            .execute("DELETE FROM jobs WHERE rowid = ?1", [rowid])
            .map_err(database)?;
        lost::note(transaction).map_err(database)?;
        tracing::warn!(job = %row.name(), "a damaged record was set aside");
        self.damaged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(row.name());
        Ok(())
    }

    pub(super) fn begin<'c>(
        &self,
        connection: &'c mut Connection,
    ) -> Result<Transaction<'c>, StoreError> {
        connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| self.database(error))
    }

    pub(super) fn commit(&self, transaction: Transaction<'_>) -> Result<(), StoreError> {
        transaction.commit().map_err(|error| self.database(error))
    }

    pub(super) fn encode(&self, record: &JobRecord) -> Result<String, StoreError> {
        serde_json::to_string(record).map_err(|error| self.damaged(error))
    }

    /// The record of a row; `None` when it is damaged.
    ///
    /// # Errors
    /// [`StoreError::Newer`] for a record of a newer version, which is whole to that one.
    pub(super) fn decode(&self, row: &Row) -> Result<Option<JobRecord>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Ok(head) = serde_json::from_slice::<Versioned>(&row.record) else {
            return Ok(None);
        };
        if head.version > RECORD_VERSION {
            return Err(StoreError::Newer {
                path: self.path.clone(),
            });
        }
        let record: Option<JobRecord> = serde_json::from_slice(&row.record).ok();
        Ok(record.filter(|record| record.id.as_str().as_bytes() == row.id))
    }
}
