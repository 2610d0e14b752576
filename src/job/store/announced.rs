//! Which ends were announced.

use super::{Store, StoreError};
use crate::job::JobRecord;

impl Store {
    /// Takes the announcement of every job that is over and was not announced: each is given once, whoever asks.
    ///
    /// Not to be cancelled: what was taken by then stays taken, and nobody announces it.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn claim_announcements(
        &self,
        is_over: impl Fn(&JobRecord) -> bool + Send + 'static,
    ) -> Result<Vec<JobRecord>, StoreError> {
        self.call(move |store, connection| {
            let query = "SELECT rowid, id, record FROM jobs WHERE NOT announced ORDER BY id";
            let mut mine = Vec::new();
            for record in store.records(connection, query, [])? {
                if !is_over(&record) {
                    continue;
                }
                let claim = "UPDATE jobs SET announced = 1 WHERE id = ?1 AND NOT announced";
                let changed = connection
                    .execute(claim, [record.id.as_str()])
                    .map_err(|error| store.database(error))?;
                if changed == 1 {
                    mine.push(record);
                }
            }
            Ok(mine)
        })
        .await
    }
}
