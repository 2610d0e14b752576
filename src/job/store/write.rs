//! What is written into the store: whoever writes finds out what others have noted meanwhile.

use rusqlite::{ErrorCode, Transaction, params};

use super::{Store, StoreError, now_i64};
use crate::job::{JobId, JobRecord};

impl Store {
    /// Records a new job, and by that takes its session, unless the job has ended already.
    ///
    /// Dropping the future does not keep it from being recorded.
    ///
    /// # Errors
    /// [`StoreError::SessionBusy`] when the session has a live job, or a database error.
    pub async fn insert(&self, record: &JobRecord) -> Result<(), StoreError> {
        self.add(record, false).await
    }

    /// Records a job that was found on its host, as [`insert`](Self::insert) does; with `announced` its end is no news.
    ///
    /// Dropping the future does not keep it from being recorded.
    ///
    /// # Errors
    /// As [`Store::insert`].
    pub async fn adopt(&self, record: &JobRecord, announced: bool) -> Result<(), StoreError> {
        self.add(record, announced).await
    }

    async fn add(&self, record: &JobRecord, announced: bool) -> Result<(), StoreError> {
        let record = record.clone();
        self.call(move |store, connection| {
            let transaction = store.begin(connection)?;
            let added = transaction.execute(
                "INSERT INTO jobs (id, session, live, updated_ms, record, announced) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    record.id.as_str(),
                    record.session_key(),
                    record.state.is_live(),
                    now_i64(),
                    store.encode(&record)?,
                    announced
                ],
            );
            match added {
                Ok(_) => store.commit(transaction),
                Err(error) => Err(store.refusal(&transaction, &record, error)),
            }
        })
        .await
    }

    /// Writes a job's record, and makes it what it is by then: what another process has noted meanwhile is merged in,
    /// and a job that has ended meanwhile stays so.
    ///
    /// Dropping the future does not keep it from being written.
    ///
    /// # Errors
    /// [`StoreError::NoSuchJob`] when it is not there, [`StoreError::SessionBusy`] when the job would come to
    /// life beside another of its session, or a database error.
    pub async fn update(&self, record: &mut JobRecord) -> Result<(), StoreError> {
        let ours = record.clone();
        *record = self
            .change(&record.id, move |stored| *stored = ours.merged_with(stored))
            .await?;
        Ok(())
    }

    /// Changes a job's record as it is now, in one transaction, and gives it as it is then.
    ///
    /// Dropping the future does not keep it from being changed.
    ///
    /// # Errors
    /// As [`Store::update`].
    pub async fn amend(
        &self,
        job: &JobId,
        change: impl FnOnce(&mut JobRecord) + Send + 'static,
    ) -> Result<JobRecord, StoreError> {
        self.change(job, change).await
    }

    async fn change(
        &self,
        job: &JobId,
        change: impl FnOnce(&mut JobRecord) + Send + 'static,
    ) -> Result<JobRecord, StoreError> {
        let job = job.clone();
        self.call(move |store, connection| {
            let no_such_job = || StoreError::NoSuchJob {
                text: job.to_string(),
            };
            let transaction = store.begin(connection)?;
            let query = "SELECT rowid, id, record FROM jobs WHERE id = ?1";
            let row = store
                .row(&transaction, query, [job.as_str()])?
                .ok_or_else(no_such_job)?;
            let Some(mut record) = store.decode(&row)? else {
                store.set_row_aside(&transaction, row.rowid)?;
                store.commit(transaction)?;
                return Err(no_such_job());
            };
            change(&mut record);
            let changed = transaction.execute(
                "UPDATE jobs SET session = ?2, live = ?3, updated_ms = ?4, record = ?5 WHERE rowid = ?1",
                params![
                    row.rowid,
                    record.session_key(),
                    record.state.is_live(),
                    now_i64(),
                    store.encode(&record)?
                ],
            );
            match changed {
                Ok(_) => store.commit(transaction).map(|()| record),
                Err(error) => Err(store.refusal(&transaction, &record, error)),
            }
        })
        .await
    }

    /// Removes a job's record; one that is not there is no error.
    ///
    /// Dropping the future does not keep it from being removed.
    ///
    /// # Errors
    /// A database error.
    pub async fn remove(&self, job: &JobId) -> Result<(), StoreError> {
        let job = job.clone();
        self.call(move |store, connection| {
            connection
                .execute("DELETE FROM jobs WHERE id = ?1", [job.as_str()])
                .map(|_| ())
                .map_err(|error| store.database(error))
        })
        .await
    }

    /// Why the database does not take a record: a live job that has its session, where there is one.
    fn refusal(
        &self,
        transaction: &Transaction<'_>,
        record: &JobRecord,
        error: rusqlite::Error,
    ) -> StoreError {
        if error.sqlite_error_code() != Some(ErrorCode::ConstraintViolation) {
            return self.database(error);
        }
        let holder: rusqlite::Result<String> = transaction.query_row(
            "SELECT id FROM jobs WHERE session = ?1 AND live AND id <> ?2",
            [record.session_key(), record.id.as_str()],
            |row| row.get(0),
        );
        match (holder.map(|text| text.parse()), record.session.clone()) {
            (Ok(Ok(job)), Some(session)) => StoreError::SessionBusy { session, job },
            _ => self.database(error),
        }
    }
}
