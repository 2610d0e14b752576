//! Records that were lost with a damaged store or row: the jobs are still on their hosts, and this is which of those
//! were searched for them since.
//!
//! In the table `searches` the empty name says that something was lost; every other row is a host that was searched
//! after that.

use rusqlite::Connection;

use super::{Store, StoreError};
use crate::hosts::HostName;

/// Notes that records were lost: every host is to be searched for its jobs.
pub(super) fn note(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("DELETE FROM searches; INSERT INTO searches (host) VALUES ('');")
}

impl Store {
    /// Those of these hosts that were not searched since records were lost; none where nothing was lost.
    ///
    /// Cancel safe: it only reads.
    ///
    /// # Errors
    /// A database error.
    pub(crate) async fn unsearched(
        &self,
        hosts: Vec<HostName>,
    ) -> Result<Vec<HostName>, StoreError> {
        self.call(move |store, connection| {
            let searched = searched(connection).map_err(|error| store.database(error))?;
            Ok(match searched {
                Some(searched) => {
                    let is_open =
                        |host: &HostName| !searched.iter().any(|name| name == host.as_str());
                    hosts.into_iter().filter(is_open).collect()
                }
                None => Vec::new(),
            })
        })
        .await
    }

    /// Notes that a host was searched; once each of `all` was, nothing is to be looked for any more.
    ///
    /// Dropping the future does not keep it from being noted.
    ///
    /// # Errors
    /// A database error.
    pub(crate) async fn was_searched(
        &self,
        host: HostName,
        all: Vec<HostName>,
    ) -> Result<(), StoreError> {
        self.call(move |store, connection| {
            let transaction = store.begin(connection)?;
            let noted = note_searched(&transaction, &host, &all);
            noted.map_err(|error| store.database(error))?;
            store.commit(transaction)
        })
        .await
    }
}

fn note_searched(
    connection: &Connection,
    host: &HostName,
    all: &[HostName],
) -> rusqlite::Result<()> {
    let Some(mut names) = searched(connection)? else {
        return Ok(());
    };
    connection.execute(
        "INSERT OR IGNORE INTO searches (host) VALUES (?1)",
        [host.as_str()],
    )?;
    names.push(host.to_string());
    if all
        .iter()
        .all(|host| names.iter().any(|name| name == host.as_str()))
    {
        connection.execute("DELETE FROM searches", [])?;
    }
    Ok(())
}

/// The hosts that were searched since records were lost; `None` where nothing was lost.
fn searched(connection: &Connection) -> rusqlite::Result<Option<Vec<String>>> {
    let mut statement = connection.prepare("SELECT host FROM searches")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    let names: Vec<String> = rows.collect::<Result<_, _>>()?;
    Ok(names.iter().any(String::is_empty).then_some(names))
}
