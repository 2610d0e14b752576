//! The result of a job that made its own session: told, and on demand brought here whole.
//!
//! The invariant: the job's files on the host stay until the session was imported here and read back.

use std::collections::HashSet;
use std::path::PathBuf;

use super::bring_back::{BringBack, blocking, compare, export, open, sift, trip};
use super::failpoint::{FailPoint, reach};
use super::follow::Follow;
use super::link::Link;
use super::running::Reporter;
use super::watch::Watch;
use super::{Ending, HandoffError, Outcome, local_files};
use crate::agent::Exit;
use crate::events::Step;
use crate::job::now_ms;
use crate::session::{Limits, Returned, SessionId, inspect};

/// The session as it can be imported here.
struct Whole {
    session: SessionId,
    document: PathBuf,
    returned: Returned,
    newest_created_ms: Option<i64>,
}

impl Follow<'_> {
    /// Tells what a spawned job came to; imports its session where that was asked for.
    pub(super) async fn take_spawned(
        &mut self,
        link: &mut Link,
        exit: &Exit,
    ) -> Result<Outcome, HandoffError> {
        let detach = self.reporter.detach.clone();
        let fetched = tokio::select! {
            biased;
            () = detach.cancelled() => None,
            fetched = self.fetch_spawned(link, exit) => Some(fetched?),
        };
        let Some(whole) = fetched else {
            return Ok(self.outcome(Ending::Detached, None));
        };
        self.record.session = Some(whole.session.clone());
        if whole.returned.assistant_messages == 0 {
            self.record.nothing_new = true;
            return Err(self.nothing_new(link, exit).await?);
        }
        if self.homecoming.import {
            self.import_spawned(&whole).await?;
            self.record.imported = true;
        }
        let trip = self.introduced(trip(whole.returned, exit));
        self.record.collected_ms = Some(now_ms());
        self.record.forget = self.homecoming.forget;
        self.enter_answered(exit).await?;
        reach(FailPoint::Collected);
        if self.homecoming.import {
            link.patience = Some(super::follow::TIDY_PATIENCE);
            self.clean_up(link).await;
        } else if let Err(error) = local_files::remove_all(self.client.places(), &self.record.id) {
            self.reporter.warn(error.to_string()).await;
        }
        Ok(self.outcome(Ending::Completed, Some(trip)))
    }

    /// Downloads the session and checks it; counts what nobody has watched of its events.
    async fn fetch_spawned(&mut self, link: &mut Link, exit: &Exit) -> Result<Whole, HandoffError> {
        let mut watch = Watch::resumed(
            self.client.store(),
            &self.directory,
            &Reporter::unheard(),
            self.record,
        );
        watch.run(link, false).await?;
        watch.seen.note_in(self.record);
        BringBack {
            client: self.client,
            reporter: self.reporter,
            record: self.record,
            homecoming: self.homecoming,
            directory: &self.directory,
        }
        .fetch(link, exit)
        .await?;
        let workspace = local_files::make(self.client.places(), &self.record.id)?;
        let back = workspace.join(local_files::BACK);
        let document = workspace.join(local_files::IMPORT);
        let known = self.record.session.clone();
        blocking(move || {
            let found = inspect(open(&back)?, &Limits::default())?;
            let session = found.session.clone();
            if let Some(asked) = known.filter(|known| *known != session) {
                let got = session;
                return Err(HandoffError::WrongSession { asked, got });
            }
            let returned = sift(&back, &document, &session, &HashSet::new(), &found)?;
            Ok(Whole {
                session,
                document,
                returned,
                newest_created_ms: found.newest_created_ms,
            })
        })
        .await
    }

    /// Imports the session into the current directory, and reads it back.
    async fn import_spawned(&self, whole: &Whole) -> Result<(), HandoffError> {
        let back = BringBack {
            client: self.client,
            reporter: self.reporter,
            record: self.record,
            homecoming: self.homecoming,
            directory: &self.directory,
        };
        self.reporter
            .step(Step::Import, whole.session.as_str())
            .await;
        reach(FailPoint::Prepared);
        back.wait_for_clock(whole.newest_created_ms).await?;
        let agent = self.client.local_agent()?;
        let places = self.client.places();
        agent
            .import(&whole.document, &whole.session, &places.project_dir)
            .await?;
        reach(FailPoint::Imported);
        let after = local_files::make(places, &self.record.id)?.join(local_files::AFTER);
        export(&agent, &whole.session, &after).await?;
        reach(FailPoint::After);
        let expected = whole.returned.new_message_ids.clone();
        let imported = whole.document.clone();
        let difference = blocking(move || compare(None, &imported, &after, &expected)).await?;
        if difference.missing > 0 {
            return Err(HandoffError::NotVerified {
                session: whole.session.clone(),
                missing: difference.missing,
                lost: 0,
            });
        }
        reach(FailPoint::Compared);
        Ok(())
    }
}
