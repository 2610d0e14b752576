//! Why a handoff failed, and what a person can do then.

use std::fmt;
use std::path::PathBuf;

use crate::agent::AgentError;
use crate::hosts::{HostName, HostsError};
use crate::job::{JobId, State, StoreError};
use crate::session::{DocumentError, SessionId};
use crate::ssh::{RemotePath, SshError};

/// A failed handoff: the error, the job where there is one, and the way out by hand.
///
/// As an error it is the one inside: the same words, the same cause.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    /// What went wrong.
    pub error: HandoffError,
    /// The job that it happened to, once one was recorded.
    pub job: Option<JobId>,
    /// What is where, and the exact commands that finish the trip or undo it; for a person only, since it
    /// holds paths.
    pub manual: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(formatter)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl<E: Into<HandoffError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            job: None,
            manual: Vec::new(),
        }
    }
}

/// Why a handoff failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandoffError {
    /// The hosts files, or the host asked for.
    #[error(transparent)]
    Hosts(#[from] HostsError),
    /// The connection, a command or a file on the host.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// The agent's program on this machine, or what the host's scripts answered.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The session's document: cut, malformed or hostile.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The local store; with [`StoreError::SessionBusy`] the session has a live job.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The name of the local user, which a host without a configured user is logged in to with, is not known.
    #[error("the user for host {host} is not known")]
    LocalUser {
        /// The host.
        host: HostName,
        /// The cause.
        #[source]
        source: whoami::Error,
    },
    /// A local file.
    #[error("cannot use {}", path.display())]
    LocalFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// No session was named and the directory has none.
    #[error("there is no session in {}", directory.display())]
    NoSession {
        /// The directory.
        directory: PathBuf,
    },
    /// A spawned job has not made its session, or ended before it did.
    #[error("job {job} has no session yet")]
    NoSessionYet {
        /// The job.
        job: JobId,
    },
    /// The job takes no follow-up messages any more: its agent has ended, or is about to.
    #[error("job {job} on host {host} takes no messages any more")]
    InboxClosed {
        /// The job.
        job: JobId,
        /// The host.
        host: HostName,
    },
    /// The job was not launched: it ended before that, or its sender has not come so far.
    #[error("job {job} was not launched on host {host}")]
    NotLaunched {
        /// The job.
        job: JobId,
        /// The host.
        host: HostName,
    },
    /// The configuration file cannot be used.
    #[error("cannot use {}{}: {reason}", path.display(), place(*at))]
    Settings {
        /// The file.
        path: PathBuf,
        /// The line and the column in characters, from 1, where what it holds is wrong.
        at: Option<(usize, usize)>,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing to read of a job: it was never launched, or its files were removed.
    #[error("there is no log of job {job}")]
    NoLog {
        /// The job.
        job: JobId,
    },
    /// A job cannot be watched, for the reason that another one of its host was told.
    #[error("job {job} cannot be watched: host {host} cannot be asked")]
    NotWatched {
        /// The job.
        job: JobId,
        /// The host.
        host: HostName,
    },
    /// A session's agent may steer and end the jobs of its own session alone.
    #[error("job {job} was not started by this session")]
    NotOwnJob {
        /// The job.
        job: JobId,
    },
    /// The host's agent is this machine's own.
    #[error("host {host} is this very machine, with the same agent database")]
    SameMachine {
        /// The host.
        host: HostName,
    },
    /// The agent's program was not found on the host.
    #[error("opencode was not found on host {host}; looked in: {}", looked_in.join(", "))]
    AgentMissing {
        /// The host.
        host: HostName,
        /// Where it was looked for.
        looked_in: Vec<String>,
    },
    /// The agent's program on the host does not work.
    #[error("{program} on host {host} does not work: {reason}")]
    AgentBroken {
        /// The host.
        host: HostName,
        /// The program.
        program: RemotePath,
        /// What it said.
        reason: String,
    },
    /// The agent on the host is older than any that this program works with.
    #[error("{program} on host {host} is version {version}, and {oldest} is the oldest that works")]
    AgentTooOld {
        /// The host.
        host: HostName,
        /// The program.
        program: RemotePath,
        /// Its version.
        version: String,
        /// The oldest version that works.
        oldest: &'static str,
    },
    /// The work directory on the host is something else.
    #[error("{directory} on host {host} is not a directory")]
    WorkDirectory {
        /// The host.
        host: HostName,
        /// The work directory.
        directory: RemotePath,
    },
    /// The user has undone a part of the session and not gone on since: opencode deletes what follows at the
    /// next prompt, and what came back would be deleted with it.
    #[error("session {session} stands at an undone message ({message})")]
    Reverted {
        /// The session.
        session: SessionId,
        /// The first undone message.
        message: String,
    },
    /// The local agent exported another session than it was asked for.
    #[error("the export of session {asked} holds session {got}")]
    WrongSession {
        /// The session asked for.
        asked: SessionId,
        /// The session in the export.
        got: SessionId,
    },
    /// What was sent is not there whole at the launch.
    #[error("{file} did not arrive whole on host {host}")]
    Incomplete {
        /// The host.
        host: HostName,
        /// The file in the job's directory.
        file: String,
    },
    /// The job's directory cannot be made on the host.
    #[error("the state directory {directory} of host {host} cannot be written: {reason}")]
    StateDirectory {
        /// The host.
        host: HostName,
        /// The directory.
        directory: String,
        /// What the host said.
        reason: String,
    },
    /// Too little room for the session on the host.
    #[error("host {host} has {free_kib} KiB free where the session needs {needed_kib} KiB")]
    DiskFull {
        /// The host.
        host: HostName,
        /// Free KiB in the state directory.
        free_kib: u64,
        /// KiB needed: the session twice and a reserve.
        needed_kib: u64,
    },
    /// The clocks differ by too much: the agent orders messages by time.
    #[error("the clock of host {host} is {} s {} this machine's", skew_ms.unsigned_abs() / 1000, if *skew_ms < 0 { "behind" } else { "ahead of" })]
    Clock {
        /// The host.
        host: HostName,
        /// The host's clock less this machine's, in milliseconds.
        skew_ms: i64,
    },
    /// The claim of the job is somebody else's.
    #[error("job {job} was closed before it was launched")]
    ClosedBeforeLaunch {
        /// The job.
        job: JobId,
    },
    /// The runner has not said that it started: it was never launched, or was claimed and went no further.
    #[error("job {job} on host {host} did not start")]
    NeverStarted {
        /// The job.
        job: JobId,
        /// The host.
        host: HostName,
    },
    /// The runner ended with an error.
    #[error("the {phase} on host {host} failed: {reason}")]
    Remote {
        /// The host.
        host: HostName,
        /// The phase in which it failed: `import`, `run` or `export`.
        phase: &'static str,
        /// The runner's reason.
        reason: String,
        /// The agent's exit status, where it is the reason.
        code: Option<i32>,
        /// Whether there is a result all the same, to be collected.
        result: bool,
        /// The end of the agent's error output, for a person.
        tail: String,
    },
    /// The runner vanished.
    #[error("job {job} on host {host} is {state}: {reason}")]
    Vanished {
        /// The job.
        job: JobId,
        /// The host.
        host: HostName,
        /// What the job is now.
        state: State,
        /// What the evidence is.
        reason: &'static str,
    },
    /// The host has as many live jobs as it may have; nothing was launched.
    #[error("host {host} has {count} live jobs, and may have {limit}")]
    TooManyJobs {
        /// The host.
        host: HostName,
        /// How many live jobs there are on it.
        count: u64,
        /// How many there may be.
        limit: u32,
    },
    /// The job was sent by another machine, and what was sent is not known here.
    #[error("job {job} was sent by {sender}, and what was sent is not known here")]
    SentElsewhere {
        /// The job.
        job: JobId,
        /// The name of the machine that sent it, as it called itself.
        sender: String,
    },
    /// The job was asked to end and has not ended yet.
    #[error("job {job} on host {host} was asked to end and has not ended yet")]
    NotEnded {
        /// The job.
        job: JobId,
        /// The host.
        host: HostName,
    },
    /// The run brought no new message of the agent.
    #[error("the run on host {host} brought no new message of the agent")]
    NothingNew {
        /// The host.
        host: HostName,
        /// The end of the agent's error output, for a person.
        tail: String,
    },
    /// What was downloaded is not what the runner described.
    #[error("the result of job {job} does not match its size or its SHA-256")]
    ResultMismatch {
        /// The job.
        job: JobId,
    },
    /// The local session got new messages while its job was away.
    #[error("session {session} got {count} new messages here while its job was away")]
    Diverged {
        /// The session.
        session: SessionId,
        /// How many.
        count: usize,
    },
    /// After the import, messages are not there.
    #[error(
        "after the import of session {session}, {missing} of the new messages are missing, and {lost} of the old ones"
    )]
    NotVerified {
        /// The session.
        session: SessionId,
        /// How many of the imported messages are not there.
        missing: usize,
        /// How many of the old messages are not there any more.
        lost: usize,
    },
    /// Another process follows the job, or brings it back.
    #[error("another process on this machine is waiting for job {job}")]
    JobBusy {
        /// The job.
        job: JobId,
    },
    /// The job's result is on this machine already.
    #[error("job {job} was collected already")]
    AlreadyCollected {
        /// The job.
        job: JobId,
    },
    /// The session was called off before anything was launched.
    #[error("called off before anything was launched")]
    CalledOff,
    /// The link to the host did not come back in time; what was launched goes on.
    #[error("host {host} was not reached again within {} s", after.as_secs())]
    Unreachable {
        /// The host.
        host: HostName,
        /// How long it was tried.
        after: std::time::Duration,
        /// The last attempt's error.
        #[source]
        source: SshError,
    },
    /// The host's key is another one than the person demanded.
    #[error("the host key of {host} has the fingerprint {offered}, and {demanded} was demanded")]
    FingerprintMismatch {
        /// The host.
        host: HostName,
        /// The host's.
        offered: String,
        /// The demanded one.
        demanded: String,
    },
    /// The runtime was shut down under the flow.
    #[error("the work was aborted")]
    Aborted,
}

fn place(at: Option<(usize, usize)>) -> String {
    at.map_or_else(String::new, |(line, column)| format!(":{line}:{column}"))
}
