//! Bringing a session back: download, check, import, read back.
//!
//! Safe to repeat at any point: the import is a union, and nothing on the host is touched here.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::failpoint::{FailPoint, reach};
use super::link::Link;
use super::request::Homecoming;
use super::running::Reporter;
use super::{Client, HandoffError, Trip, clock, local_files, remote};
use crate::agent::{Exit, LocalAgent, names};
use crate::events::{Event, Step, Tokens};
use crate::job::JobRecord;
use crate::private_fs;
use crate::session::{
    DocumentError, Inspection, Limits, Returned, Returning, SessionId, digests, inspect, part_ids,
    prepare_returning,
};
use crate::ssh::{RemotePath, SshError};

/// An ended job whose result is brought back.
pub(crate) struct BringBack<'a> {
    pub(crate) client: &'a Client,
    pub(crate) reporter: &'a Reporter,
    pub(crate) record: &'a JobRecord,
    pub(crate) directory: &'a RemotePath,
    pub(crate) homecoming: Homecoming,
}

/// The result as it is going to be imported.
struct Prepared {
    returned: Returned,
    document: PathBuf,
    newest_created_ms: Option<i64>,
    /// The session's own directory here.
    directory: PathBuf,
}

impl BringBack<'_> {
    /// Downloads the result that `exit` describes, and holds it against its size and digest.
    pub(crate) async fn fetch(&self, link: &mut Link, exit: &Exit) -> Result<(), HandoffError> {
        let mismatch = || HandoffError::ResultMismatch {
            job: self.record.id.clone(),
        };
        let total = exit.size.ok_or_else(mismatch)?;
        // What the host claims bounds the download: more than any true result is not begun.
        let limit = Limits::default().document;
        if total > limit {
            return Err(HandoffError::Document(DocumentError::Limit {
                what: "bytes",
                limit,
                offset: limit,
            }));
        }
        let to = self.workspace()?.join(local_files::BACK);
        self.reporter
            .step(Step::Fetch, format!("{} KiB", total.div_ceil(1024)))
            .await;
        let from = self.directory.join(names::RESULT);
        loop {
            let live = link.live().await?;
            let progress = |done| {
                self.reporter.tell_if_room(Event::Progress {
                    step: Step::Fetch,
                    done,
                    total,
                })
            };
            let downloaded = async {
                local_files::remove(&to)?;
                Ok::<_, HandoffError>(
                    live.files()
                        .await?
                        .download(&from, &to, total, &progress)
                        .await?,
                )
            };
            match downloaded.await {
                Ok(size) if size == total && Some(sha256_of(&to).await?) == exit.sha256 => {
                    reach(FailPoint::Fetched);
                    return Ok(());
                }
                Ok(_) | Err(HandoffError::Ssh(SshError::TooLarge { .. })) => return Err(mismatch()),
                Err(error) => link.recover(error).await?,
            }
        }
    }

    /// Checks what was fetched, imports what is new of it, and reads it back.
    pub(crate) async fn land(
        &self,
        session: &SessionId,
        exit: &Exit,
    ) -> Result<Trip, HandoffError> {
        let workspace = self.workspace()?;
        self.reporter.step(Step::Import, session.as_str()).await;
        let agent = self.client.local_agent()?;
        let before = workspace.join(local_files::BEFORE);
        export(&agent, session, &before).await?;
        reach(FailPoint::Before);
        let prepared = self.prepare(session, &workspace, &before).await?;
        reach(FailPoint::Prepared);
        if prepared.returned.assistant_messages == 0 {
            return Err(HandoffError::NothingNew {
                host: self.record.host.clone(),
                tail: String::new(),
            });
        }
        self.wait_for_clock(prepared.newest_created_ms).await?;
        // A record that was made from what is on the host does not know it.
        let directory = if self.record.local_directory.as_os_str().is_empty() {
            &prepared.directory
        } else {
            &self.record.local_directory
        };
        agent.import(&prepared.document, session, directory).await?;
        reach(FailPoint::Imported);
        let after = workspace.join(local_files::AFTER);
        export(&agent, session, &after).await?;
        reach(FailPoint::After);
        let expected = prepared.returned.new_message_ids.clone();
        let imported = prepared.document.clone();
        let difference =
            blocking(move || compare(Some(&before), &imported, &after, &expected)).await?;
        if difference.missing + difference.lost > 0 {
            return Err(HandoffError::NotVerified {
                session: session.clone(),
                missing: difference.missing,
                lost: difference.lost,
            });
        }
        if difference.changed > 0 {
            let count = difference.changed;
            self.reporter
                .warn(format!(
                    "{count} older messages were changed here by the agent meanwhile"
                ))
                .await;
        }
        reach(FailPoint::Compared);
        Ok(trip(prepared.returned, exit))
    }

    fn workspace(&self) -> Result<PathBuf, HandoffError> {
        local_files::make(self.client.places(), &self.record.id)
    }

    /// Makes the document to import, and refuses it when the local session went its own way.
    async fn prepare(
        &self,
        session: &SessionId,
        workspace: &Path,
        before: &Path,
    ) -> Result<Prepared, HandoffError> {
        let known = local_files::knows_sent(self.client.places(), &self.record.id);
        if !known && !self.homecoming.merge {
            return Err(HandoffError::SentElsewhere {
                job: self.record.id.clone(),
                sender: self
                    .record
                    .sender
                    .clone()
                    .unwrap_or_else(|| "this machine".to_owned()),
            });
        }
        let sent = if known {
            local_files::sent_ids(workspace)?
        } else {
            HashSet::new()
        };
        let (back, document) = (
            workspace.join(local_files::BACK),
            workspace.join(local_files::IMPORT),
        );
        let (before, moved) = (before.to_owned(), session.clone());
        let workspace = workspace.to_owned();
        let (prepared, own, user_went_on) = blocking(move || {
            let local = inspect(open(&before)?, &Limits::default())?;
            // Where it is not known what was sent, what is here was.
            let sent = if known {
                sent
            } else {
                local_files::found_ids(&workspace, &local.message_ids)?
            };
            if let Some(message) = &local.reverted_to {
                let (session, message) = (moved.clone(), message.clone());
                return Err(HandoffError::Reverted { session, message });
            }
            let returned = sift(&back, &document, &moved, &sent, &local)?;
            let newest_created_ms =
                inspect(open(&document)?, &Limits::default())?.newest_created_ms;
            let new: HashSet<&String> = returned.new_message_ids.iter().collect();
            let is_own = |id: &&String| !sent.contains(*id) && !new.contains(id);
            let own = local.message_ids.iter().filter(is_own).count();
            let user_went_on = local.user_message_ids.iter().any(|id| is_own(&id));
            Ok((
                Prepared {
                    returned,
                    document,
                    newest_created_ms,
                    directory: PathBuf::from(&local.directory),
                },
                own,
                user_went_on,
            ))
        })
        .await?;
        // A turn that hands its own session over ends here with the agent's closing words: nobody went on then.
        if user_went_on && !self.homecoming.merge {
            return Err(HandoffError::Diverged {
                session: session.clone(),
                count: own,
            });
        }
        if own > 0 && !self.homecoming.merge {
            self.reporter
                .warn(format!(
                    "{own} messages of the agent here were made after the session was sent"
                ))
                .await;
        }
        if prepared.returned.absent > 0 {
            let count = prepared.returned.absent;
            self.reporter
                .warn(format!(
                    "{count} of the messages that were sent are not in the host's session"
                ))
                .await;
        }
        if prepared.returned.out_of_order > 0 {
            let count = prepared.returned.out_of_order;
            self.reporter
                .warn(format!(
                    "{count} of the new messages sort before older ones"
                ))
                .await;
        }
        Ok(prepared)
    }

    /// A host whose clock is ahead has made messages of the future: the next turn here must come after them.
    pub(crate) async fn wait_for_clock(&self, newest_ms: Option<i64>) -> Result<(), HandoffError> {
        let Some(newest_ms) = newest_ms else {
            return Ok(());
        };
        let now_ms = remote::clock_ms();
        let Some(wait) = clock::wait_for(newest_ms, now_ms) else {
            let host = self.record.host.clone();
            return Err(HandoffError::Clock {
                host,
                skew_ms: newest_ms.saturating_sub(now_ms),
            });
        };
        if !wait.is_zero() {
            self.reporter
                .warn(format!("the host's clock is ahead: waiting {wait:.0?}"))
                .await;
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }
}

/// Exports a session to a new private file, in the place of an older one.
pub(crate) async fn export(
    agent: &LocalAgent,
    session: &SessionId,
    to: &Path,
) -> Result<(), HandoffError> {
    local_files::remove(to)?;
    Ok(agent.export(session, to).await?)
}

pub(crate) fn sift(
    back: &Path,
    document: &Path,
    session: &SessionId,
    sent_ids: &HashSet<String>,
    local: &Inspection,
) -> Result<Returned, HandoffError> {
    let file =
        private_fs::create(document).map_err(|source| local_files::local(document, source))?;
    let returning = Returning {
        session,
        sent_ids,
        local,
        now_ms: remote::clock_ms(),
        limits: Limits::default(),
    };
    Ok(prepare_returning(
        open(back)?,
        BufWriter::new(file),
        &returning,
    )?)
}

/// How a session differs after an import from before it.
pub(super) struct Difference {
    /// Imported messages that are not there, or not with all of their parts.
    pub(super) missing: usize,
    /// Older messages that are not there any more.
    lost: usize,
    /// Older messages that are not byte for byte as they were. An import changes none; the agent itself may
    /// annotate one while this goes on, and it does change the message of a call that is still running.
    changed: usize,
}

/// `before` is the local session before the import, where there was one.
pub(super) fn compare(
    before: Option<&Path>,
    imported: &Path,
    after: &Path,
    expected: &[String],
) -> Result<Difference, HandoffError> {
    let limits = Limits::default();
    let new: HashSet<String> = expected.iter().cloned().collect();
    let there: HashSet<(String, String)> =
        part_ids(open(after)?, &new, &limits)?.into_iter().collect();
    let incomplete: HashSet<String> = part_ids(open(imported)?, &new, &limits)?
        .into_iter()
        .filter(|part| !there.contains(part))
        .map(|(message, _)| message)
        .collect();
    let found: HashMap<String, [u8; 32]> = digests(open(after)?, &Limits::default())?
        .into_iter()
        .collect();
    let mut difference = Difference {
        missing: expected
            .iter()
            .filter(|id| !found.contains_key(*id) || incomplete.contains(*id))
            .count(),
        lost: 0,
        changed: 0,
    };
    let Some(before) = before else {
        return Ok(difference);
    };
    let local = inspect(open(before)?, &Limits::default())?;
    for (id, digest) in digests(open(before)?, &Limits::default())? {
        match found.get(&id) {
            None => difference.lost += 1,
            Some(now) if now != &digest && local.unfinished_message() != Some(&id) => {
                difference.changed += 1
            }
            Some(_) => {}
        }
    }
    Ok(difference)
}

pub(crate) fn trip(returned: Returned, exit: &Exit) -> Trip {
    let summary = returned.summary;
    Trip {
        text: summary.last_text,
        new_messages: returned.new_message_ids.len(),
        tool_calls: summary.tool_calls,
        tools: summary.tools,
        tokens: Tokens {
            input: summary.tokens.input,
            output: summary.tokens.output,
            reasoning: summary.tokens.reasoning,
            cache_read: summary.tokens.cache_read,
            cache_write: summary.tokens.cache_write,
        },
        cost: summary.cost,
        agent_exit: exit.code.map(i32::from).filter(|code| *code != 0),
    }
}

async fn sha256_of(path: &Path) -> Result<String, HandoffError> {
    let path = path.to_owned();
    blocking(move || {
        let mut file = File::open(&path).map_err(|source| local_files::local(&path, source))?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
                Err(source) => return Err(local_files::local(&path, source)),
            }
        }
        Ok(hasher
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    })
    .await
}

pub(crate) fn open(path: &Path) -> Result<BufReader<File>, HandoffError> {
    let file = File::open(path).map_err(|source| local_files::local(path, source))?;
    Ok(BufReader::with_capacity(256 << 10, file))
}

/// Runs file work on a blocking thread.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HandoffError> + Send + 'static,
) -> Result<T, HandoffError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(HandoffError::Aborted),
        },
    }
}
