//! What is read of the store.

use super::{Store, StoreError};
use crate::job::JobRecord;
use crate::session::SessionId;

impl Store {
    /// Every record, newest first.
    ///
    /// Cancel safe: a damaged record that it finds is set aside all the same.
    ///
    /// # Errors
    /// A database error, or [`StoreError::Newer`] for a record of a newer version.
    pub async fn list(&self) -> Result<Vec<JobRecord>, StoreError> {
        self.select("SELECT rowid, id, record FROM jobs ORDER BY id DESC", None)
            .await
    }

    /// The live job of a session, if there is one.
    ///
    /// Cancel safe, as [`Store::list`].
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn live(&self, session: &SessionId) -> Result<Option<JobRecord>, StoreError> {
        let found = self
            .select(
                "SELECT rowid, id, record FROM jobs WHERE session = ?1 AND live",
                Some(session.to_string()),
            )
            .await?;
        Ok(found.into_iter().next())
    }

    /// The job whose identifier is `text` or, where just one does, begins with it; `-` is the newest.
    ///
    /// Cancel safe, as [`Store::list`].
    ///
    /// # Errors
    /// [`StoreError::NoSuchJob`], [`StoreError::NoJobs`], [`StoreError::Ambiguous`], or as [`Store::list`].
    pub async fn find(&self, text: &str) -> Result<JobRecord, StoreError> {
        let no_such_job = || StoreError::NoSuchJob {
            text: text.to_owned(),
        };
        if text == "-" {
            // Not the newest row alone: that one may be damaged.
            let newest = self.list().await?;
            return newest.into_iter().next().ok_or(StoreError::NoJobs);
        }
        let plain = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase() || byte == b'-';
        if text.is_empty() || !text.bytes().all(plain) {
            return Err(no_such_job());
        }
        let mut found = self
            .select(
                "SELECT rowid, id, record FROM jobs WHERE substr(id, 1, length(?1)) = ?1 ORDER BY id LIMIT 2",
                Some(text.to_owned()),
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
        argument: Option<String>,
    ) -> Result<Vec<JobRecord>, StoreError> {
        self.call(move |store, connection| {
            store.records(connection, query, rusqlite::params_from_iter(argument))
        })
        .await
    }
}
