//! A connection to a host that is made again when it is lost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::OnceCell;

use super::remote::WaitingShell;
use super::running::Reporter;
use super::{Client, HandoffError};
use crate::agent::AgentError;
use crate::events::{Event, Step};
use crate::hosts::Host;
use crate::job::{JobId, JobRecord, Store};
use crate::ssh::{Connection, Files, Pool, SshError, Target};

/// Attempts at the very first connection when the host is not reached.
const FIRST_ATTEMPTS: usize = 4;

/// A connection that lived for so long was a good one: the next attempt to dial comes at once.
const GOOD_CONNECTION: Duration = Duration::from_secs(30);
/// The longest pause between two attempts to dial, without its jitter, which at most doubles it.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Deadlines that may pass within [`FORGIVING_WINDOW`] before one is an error, and questions without an answer.
const FORGIVEN: u32 = 3;
/// See [`FORGIVEN`].
const FORGIVING_WINDOW: Duration = Duration::from_secs(600);
/// The rest before a host is asked again that could not run a script, or did not see the job.
const ANSWER_PAUSE: Duration = Duration::from_secs(1);

/// The host as it is reached now: one connection, and its files.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) connection: Connection,
    files: Arc<OnceCell<Way>>,
    files_by_exec: bool,
    shell: Arc<Mutex<Option<WaitingShell>>>,
}

/// The way that files take to the host.
#[derive(Clone)]
struct Way {
    files: Arc<dyn Files>,
    by_exec: bool,
}

impl Live {
    /// Starts a shell that waits for the launch, unless there is one.
    ///
    /// Not where files go by exec: a server that opens one channel at a time would have none left for them.
    pub(crate) fn expect_launch(&self) {
        if self.files.get().is_none_or(|way| way.by_exec) {
            return;
        }
        self.shell()
            .get_or_insert_with(|| WaitingShell::start(&self.connection));
    }

    /// The shell that waits for the launch.
    pub(crate) fn take_waiting_shell(&self) -> Option<WaitingShell> {
        self.shell().take()
    }

    fn shell(&self) -> MutexGuard<'_, Option<WaitingShell>> {
        self.shell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host's files: by SFTP, else over an exec channel.
    pub(crate) async fn files(&self) -> Result<Arc<dyn Files>, HandoffError> {
        let by_exec = || Way {
            files: Arc::new(self.connection.exec_files()),
            by_exec: true,
        };
        let way = self
            .files
            .get_or_try_init(|| async {
                if self.files_by_exec {
                    return Ok(by_exec());
                }
                match self.connection.sftp().await {
                    Ok(files) => Ok(Way {
                        files: Arc::new(files),
                        by_exec: false,
                    }),
                    Err(SshError::SftpUnavailable { .. }) => {
                        tracing::info!("no SFTP on the host: files go over an exec channel");
                        Ok(by_exec())
                    }
                    Err(error) => Err(error),
                }
            })
            .await?;
        Ok(Arc::clone(&way.files))
    }
}

/// The record of a job that says whether its host is reached.
struct Marked {
    store: Store,
    job: JobId,
    /// The record says that it is not.
    away: bool,
}

impl Marked {
    /// What cannot be written is written by the next look.
    async fn mark(&mut self, away: bool) {
        if self.away == away {
            return;
        }
        let marked = self.store.amend(&self.job, move |record| {
            if away {
                record.note_unreachable();
            } else {
                record.attributes.unreachable = None;
            }
        });
        match marked.await {
            Ok(_) => self.away = away,
            Err(error) => tracing::warn!(%error, job = %self.job, away, "it is not recorded"),
        }
    }
}

/// When a host that was reached before is dialled again.
#[derive(Debug)]
pub(super) struct Redials {
    pauses: ExponentialBackoff,
    /// When it was reached last.
    reached: Instant,
    /// The connections in a row that did not live long.
    short: u32,
}

impl Redials {
    pub(super) fn new() -> Self {
        Self {
            pauses: backoff(),
            reached: Instant::now(),
            short: 0,
        }
    }

    /// The host is reached.
    pub(super) fn reached(&mut self) {
        self.reached = Instant::now();
    }

    /// Whether the connection has lived long, or did.
    fn has_lived_long(&self) -> bool {
        self.reached.elapsed() >= GOOD_CONNECTION
    }

    /// The connection was lost: the pause before the host is dialled again. The first one in a row that did not live
    /// long gives none; a server that lets everybody in and keeps nobody would be dialled over and over. The pauses
    /// grow for as long as nothing is done (`worked`) on any of them.
    pub(super) fn lost(&mut self, worked: bool) -> Option<Duration> {
        if self.has_lived_long() {
            *self = Self::new();
        } else if worked {
            self.pauses = backoff();
        }
        self.short += 1;
        (self.short > 1).then(|| self.pause())
    }

    /// The pause after an attempt that failed.
    pub(super) fn pause(&mut self) -> Duration {
        self.pauses.next().unwrap_or(LONGEST_PAUSE)
    }
}

/// A host's connection, kept up.
///
/// Work on it is a loop: take [`Link::live`], try, and give an error to [`Link::recover`], which says whether
/// to try again. The work must therefore be safe to repeat.
pub(crate) struct Link {
    target: Target,
    pool: Pool,
    reporter: Reporter,
    live: Option<Live>,
    dials: u64,
    marked: Option<Marked>,
    files_by_exec: bool,
    redials: Redials,
    /// Since when no work was done on any connection that was lost.
    trouble: Option<Instant>,
    /// The pauses since then.
    pauses: u32,
    /// Something was done on the present connection.
    worked: bool,
    /// The pause before the next attempt to dial, and the loss that it is for.
    pause: Option<(Duration, SshError)>,
    /// For how long a lost host is tried again; `None` is for ever. A connection on which nothing was done does not
    /// begin that time anew.
    pub(crate) patience: Option<Duration>,
    /// From the launch on, a deadline that passes on a connection counts as its loss: a link that went silent is
    /// noticed by a deadline before it is by the keepalive.
    pub(crate) launched: bool,
    /// Deadlines that have passed, and when the first of them did.
    timeouts: (u32, Instant),
    /// The same for questions that the host could not answer.
    unanswered: (u32, Instant),
}

impl Link {
    pub(crate) fn new(target: Target, pool: Pool, reporter: Reporter) -> Self {
        Self {
            target,
            pool,
            reporter,
            live: None,
            dials: 0,
            marked: None,
            files_by_exec: false,
            redials: Redials::new(),
            trouble: None,
            pauses: 0,
            worked: false,
            pause: None,
            patience: Some(Duration::from_secs(60)),
            launched: false,
            timeouts: (0, Instant::now()),
            unanswered: (0, Instant::now()),
        }
    }

    /// The link to the host of a job that has been recorded before.
    pub(crate) fn to_job(
        client: &Client,
        host: &Host,
        record: &JobRecord,
        reporter: Reporter,
    ) -> Result<Self, HandoffError> {
        let mut link = Self::new(client.target(host)?, client.pool().clone(), reporter);
        if record
            .remote
            .as_ref()
            .is_some_and(|remote| remote.files_by_exec)
        {
            link.use_exec_files();
        }
        link.launched = true;
        Ok(link)
    }

    /// From now on the record of this job says whether the host is reached: for whoever holds the job's lock.
    pub(crate) fn mark(&mut self, store: &Store, record: &JobRecord) {
        self.marked = Some(Marked {
            store: store.clone(),
            job: record.id.clone(),
            away: record.attributes.unreachable.is_some(),
        });
    }

    /// How many connections were made.
    pub(crate) fn dials(&self) -> u64 {
        self.dials
    }

    /// The host as it is reached now; dials when there is no connection.
    ///
    /// # Errors
    /// What the dialling met, when trying again cannot help or the patience is over.
    pub(crate) async fn live(&mut self) -> Result<Live, HandoffError> {
        // What it was given for last has not come to a loss.
        self.worked |= self.live.is_some();
        if let Some(live) = self.connected() {
            return Ok(live);
        }
        if let Some(live) = self.live.take() {
            self.note_loss(live.connection.lost_now());
        }
        let connection = if self.dials > 0 {
            self.redial().await?
        } else {
            self.first_dial().await?
        };
        self.redials.reached();
        self.worked = false;
        self.tell_record(false).await;
        let live = Live {
            connection,
            files: Arc::default(),
            files_by_exec: self.files_by_exec,
            shell: Arc::default(),
        };
        self.live = Some(live.clone());
        self.dials += 1;
        Ok(live)
    }

    async fn tell_record(&mut self, away: bool) {
        if let Some(marked) = &mut self.marked {
            marked.mark(away).await;
        }
    }

    /// Takes a failed attempt's error: `Ok` when the connection was lost, or files have to take another way, and the
    /// attempt can be repeated. From the launch on a host gets a second chance, on the same connection, that had no
    /// process left for the script, or cannot see the job just now.
    ///
    /// # Errors
    /// The error itself when it is of another kind.
    pub(crate) async fn recover(&mut self, error: HandoffError) -> Result<(), HandoffError> {
        if let HandoffError::Ssh(SshError::SftpUnavailable { .. }) = &error
            && !self.files_by_exec
        {
            tracing::info!("SFTP turns out to be of no use: files go over an exec channel");
            self.use_exec_files();
            return Ok(());
        }
        if let HandoffError::Agent(
            AgentError::NoAnswer { .. } | AgentError::AnswerCut | AgentError::JobAway { .. },
        ) = &error
            && self.launched
            && forgive(&mut self.unanswered)
        {
            tracing::info!(cause = %error, "the host is asked again");
            tokio::time::sleep(ANSWER_PAUSE).await;
            return Ok(());
        }
        let loss = match error {
            HandoffError::Ssh(cause) if cause.is_connection_loss() => cause,
            HandoffError::Ssh(cause @ SshError::TimedOut { .. })
                if self.launched && forgive(&mut self.timeouts) =>
            {
                cause
            }
            error => return Err(error),
        };
        tracing::info!(cause = %loss, "the connection was lost");
        if let Some(live) = self.live.take() {
            // Others may still get on with it; nobody gets it anew.
            self.pool.retire(&live.connection);
            self.note_loss(loss);
        }
        Ok(())
    }

    fn note_loss(&mut self, loss: SshError) {
        if self.worked || self.redials.has_lived_long() {
            self.end_trouble();
        }
        self.pause = self.redials.lost(self.worked).map(|pause| (pause, loss));
    }

    fn end_trouble(&mut self) {
        self.trouble = None;
        self.pauses = 0;
    }

    /// From now on files go over an exec channel: SFTP shows another file system than the shell.
    pub(crate) fn use_exec_files(&mut self) {
        self.files_by_exec = true;
        if let Some(live) = &mut self.live {
            live.files_by_exec = true;
            live.files = Arc::default();
        }
    }

    pub(crate) fn uses_exec_files(&self) -> bool {
        self.files_by_exec
    }

    /// The present connection; never dials.
    pub(crate) fn connected(&self) -> Option<Live> {
        self.live
            .clone()
            .filter(|live| !live.connection.is_closed())
    }

    /// Lets go of the connection, which the pool closes when nobody else comes for it.
    pub(crate) fn close(&mut self) {
        self.live = None;
    }

    async fn first_dial(&mut self) -> Result<Connection, HandoffError> {
        self.reporter
            .step(Step::Connect, self.target.name.as_str())
            .await;
        let mut delays = backoff().take(FIRST_ATTEMPTS - 1);
        loop {
            let error = match self.pool.connect(&self.target).await {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            if is_passing(&error) {
                self.tell_record(true).await;
            }
            // One that turned callers away was asked again already.
            let again = error.is_retryable_dial()
                && !matches!(error.unshared(), SshError::Handshake { .. });
            match delays.next().filter(|_| again) {
                Some(delay) => tokio::time::sleep(delay).await,
                None => return Err(error.into()),
            }
        }
    }

    async fn redial(&mut self) -> Result<Connection, HandoffError> {
        let since = *self.trouble.get_or_insert_with(Instant::now);
        let mut waiting = self.pause.take();
        loop {
            if let Some((delay, reason)) = waiting {
                self.tell_record(true).await;
                let left = match self.patience {
                    None => delay,
                    Some(patience) => patience.saturating_sub(since.elapsed()),
                };
                if left.is_zero() {
                    // Whoever tries again begins anew.
                    self.end_trouble();
                    return Err(HandoffError::Unreachable {
                        host: self.target.name.clone(),
                        after: since.elapsed(),
                        source: reason,
                    });
                }
                // The last attempt comes when the patience ends.
                let delay = delay.min(left);
                self.pauses += 1;
                let retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                self.reporter
                    .tell(Event::Unreachable {
                        attempt: self.pauses,
                        retry_in_ms,
                        reason: reason.to_string(),
                    })
                    .await;
                tokio::time::sleep(delay).await;
            }
            match self.pool.connect(&self.target).await {
                Ok(connection) => {
                    self.reporter.tell(Event::Reconnected).await;
                    return Ok(connection);
                }
                Err(error) if is_passing(&error) => waiting = Some((self.redials.pause(), error)),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether one more of a kind of failure is forgiven: a host that gives no answer, over and over, is not a bad link.
fn forgive((count, since): &mut (u32, Instant)) -> bool {
    if since.elapsed() > FORGIVING_WINDOW {
        (*count, *since) = (0, Instant::now());
    }
    *count += 1;
    *count <= FORGIVEN
}

/// Whether a host that was reached before may be reached again: never after a rejected key, a changed host key, or a
/// login that was not answered in time, for which somebody may have been asked.
pub(crate) fn is_passing(error: &SshError) -> bool {
    error.is_retryable_dial()
        || error.is_connection_loss()
        || matches!(error.unshared(), SshError::Resolve { .. })
}

/// Delays between attempts: jittered, from a quarter of a second to [`LONGEST_PAUSE`], without end.
fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .build()
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod unkept;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_a_connection_was_of_use() {
        let mut redials = Redials::new();
        redials.reached();
        assert_eq!(redials.lost(false), None, "the first loss costs nothing");
        let grown = (0..5).filter_map(|_| redials.lost(false)).last().unwrap();
        assert!(grown >= Duration::from_secs(4), "{grown:?}");
        let begun = redials.lost(true).unwrap();
        assert!(begun <= Duration::from_millis(500), "{begun:?}");
    }

    #[test]
    fn a_login_that_was_not_answered_in_time_is_not_begun_again_by_itself() {
        let timed_out = |what| SshError::TimedOut {
            host: "box".parse().unwrap(),
            what,
            after: Duration::from_secs(30),
        };
        assert!(!is_passing(&timed_out("authentication")));
        assert!(!is_passing(&SshError::Shared(Arc::new(timed_out(
            "authentication"
        )))));
        assert!(is_passing(&timed_out("the key exchange")));
    }
}
