//! One command each on a host: the agent's constant scripts, run over the connection.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::HandoffError;
use super::clock::Skew;
use super::link::{Link, Live};
use crate::agent::{
    Burial, CheckCleanup, Claim, Delivery, Exit, JobCall, JobListing, JobStatus, KillAnswer,
    KillReason, LaunchAnswer, Models, Nonce, Probe, ProbeRequest, RemoveAnswer, ScriptCall,
    Survivor, names,
};
use crate::job::now_ms;
use crate::ssh::{Connection, ExecOptions, ExecOutput, RemotePath, SshError};

/// The probe's deadline: a login profile may take its twenty seconds, and so may `opencode --version`.
const PROBE_DEADLINE: Duration = Duration::from_secs(60);
/// The name of the launch's deadline.
const LAUNCH: &str = "the launch";
/// The launch's deadline: it waits ten seconds for the runner.
const LAUNCH_DEADLINE: Duration = Duration::from_secs(45);
/// The deadline of a question about a job, and of tidying up.
const SHORT_DEADLINE: Duration = Duration::from_secs(30);
/// The deadline of what starts the agent: listing models, exporting again, forgetting.
const AGENT_DEADLINE: Duration = Duration::from_secs(180);
/// The time in which a runner of an older script, which was just starting, shows itself.
const BURIAL_REST: Duration = Duration::from_secs(1);
/// Bytes kept of a command's error output.
const STDERR_LIMIT: usize = 16 << 10;
/// Bytes shown of the agent's error output.
const TAIL: u64 = 2 << 10;

fn exec_options(what: &'static str, deadline: Duration) -> ExecOptions {
    ExecOptions::new(what)
        .limits(ScriptCall::ANSWER_LIMIT, STDERR_LIMIT)
        .deadline(deadline)
}

async fn run(
    connection: &Connection,
    call: &ScriptCall,
    what: &'static str,
    deadline: Duration,
) -> Result<Vec<u8>, HandoffError> {
    let output = run_whole(connection, call, what, deadline).await?;
    Ok(output.stdout)
}

async fn run_whole(
    connection: &Connection,
    call: &ScriptCall,
    what: &'static str,
    deadline: Duration,
) -> Result<ExecOutput, HandoffError> {
    let options = exec_options(what, deadline).stdin(call.stdin());
    let output = connection.exec(call.command(), options).await?;
    tracing::debug!(what, status = ?output.status, "a script ended");
    Ok(output)
}

/// Asks the host what it is, and measures its clock in the same exchange.
pub(crate) async fn probe(
    connection: &Connection,
    request: &ProbeRequest<'_>,
) -> Result<(Probe, Skew), HandoffError> {
    let call = request.call()?;
    let before = clock_ms();
    let output = run_whole(connection, &call, "the look at the host", PROBE_DEADLINE).await?;
    let after = clock_ms();
    // A shell that refuses often says why there.
    let probe =
        Probe::parse(&call, &output.stdout).map_err(|error| error.with_stderr(&output.stderr))?;
    let resolution = if probe.clock.precise { 1 } else { 1000 };
    let remote = i64::try_from(probe.clock.ms).unwrap_or(i64::MAX);
    Ok((probe, Skew::measured(before, after, remote, resolution)))
}

/// Launches a job, by the shell that waits for it when there is one.
pub(crate) async fn launch(
    live: &Live,
    directory: &RemotePath,
    nonce: &Nonce,
) -> Result<LaunchAnswer, HandoffError> {
    let call = JobCall::new(directory).launch(nonce)?;
    let waiting = match live.take_waiting_shell() {
        Some(shell) => shell.run(&call).await?,
        None => None,
    };
    let stdout = match waiting {
        Some(stdout) => stdout,
        None => run(&live.connection, &call, LAUNCH, LAUNCH_DEADLINE).await?,
    };
    Ok(LaunchAnswer::parse(&call, &stdout)?)
}

/// A shell on the host that waits for the launch's script: started while files are sent, it makes the launch one
/// round trip long. Dropping it ends the shell, which then has nothing to do.
pub(crate) struct WaitingShell {
    give: oneshot::Sender<Vec<u8>>,
    task: AbortOnDropHandle<Result<Option<ExecOutput>, SshError>>,
}

impl WaitingShell {
    pub(crate) fn start(connection: &Connection) -> Self {
        let (give, take) = oneshot::channel();
        let connection = connection.clone();
        let task = tokio::spawn(async move {
            let options = exec_options(LAUNCH, LAUNCH_DEADLINE);
            let input = async {
                match take.await {
                    Ok(script) => script,
                    // Nobody will launch: the task is ended.
                    Err(_) => std::future::pending().await,
                }
            };
            connection
                .exec_ahead(ScriptCall::COMMAND, options, input)
                .await
        });
        Self {
            give,
            task: AbortOnDropHandle::new(task),
        }
    }

    /// Runs a script and gives what it printed; `None` when the shell was not there or did not answer. The script must
    /// be one that can be repeated.
    async fn run(self, call: &ScriptCall) -> Result<Option<Vec<u8>>, HandoffError> {
        if self.give.send(call.stdin().to_owned()).is_err() {
            return Ok(None);
        }
        match self.task.await {
            Ok(output) => Ok(output?
                .map(|output| output.stdout)
                .filter(|stdout| !stdout.is_empty())),
            Err(_) => Ok(None),
        }
    }
}

/// What is there of a job; `None` when its directory, or its script, is not.
pub(crate) async fn status(
    live: &Live,
    directory: &RemotePath,
) -> Result<Option<JobStatus>, HandoffError> {
    let call = JobCall::new(directory).status()?;
    let stdout = run(
        &live.connection,
        &call,
        "the look at the job",
        SHORT_DEADLINE,
    )
    .await?;
    Ok(JobStatus::parse(&call, &stdout)?)
}

/// Closes a job that was never launched, by taking its claim; answers who holds the claim.
///
/// Where the job's script has not arrived yet, the claim is taken by its files.
pub(crate) async fn settle(live: &Live, directory: &RemotePath) -> Result<Claim, HandoffError> {
    if let Some(claim) = settle_by_script(live, directory).await? {
        return Ok(claim);
    }
    match live
        .files()
        .await?
        .create_dir(&directory.join(names::CLAIM))
        .await
    {
        Ok(()) => {}
        // Nothing can be launched where nothing is.
        Err(SshError::NotFound { .. }) => return Ok(Claim::Tombstone),
        // A launch has taken it meanwhile, and its script is there then; else it is another closing.
        Err(SshError::AlreadyExists { .. }) => {
            if let Some(claim) = settle_by_script(live, directory).await? {
                return Ok(claim);
            }
        }
        Err(error) => return Err(error.into()),
    }
    put_tombstone(live, directory).await?;
    Ok(Claim::Tombstone)
}

/// Which jobs have a directory below this one.
pub(crate) async fn list(live: &Live, jobs: &RemotePath) -> Result<JobListing, HandoffError> {
    let call = JobListing::call(jobs)?;
    let stdout = run(
        &live.connection,
        &call,
        "the list of the jobs",
        SHORT_DEADLINE,
    )
    .await?;
    Ok(JobListing::parse(&call, &stdout)?)
}

/// Asks for the end of a job.
pub(crate) async fn kill(
    live: &Live,
    directory: &RemotePath,
    why: KillReason,
    grace: Duration,
) -> Result<KillAnswer, HandoffError> {
    let call = JobCall::new(directory).kill(why, grace)?;
    // Where the runner is gone, the call waits for the grace period and for the export.
    let deadline = AGENT_DEADLINE + grace;
    let stdout = run(&live.connection, &call, "the end of the job", deadline).await?;
    Ok(KillAnswer::parse(&call, &stdout)?)
}

async fn settle_by_script(
    live: &Live,
    directory: &RemotePath,
) -> Result<Option<Claim>, HandoffError> {
    let call = JobCall::new(directory).settle()?;
    let stdout = run(
        &live.connection,
        &call,
        "the closing of the job",
        SHORT_DEADLINE,
    )
    .await?;
    Ok(Claim::parse_settled(&call, &stdout)?)
}

/// Keeps a runner that has not started from ever starting; false when it was faster, or may be.
pub(crate) async fn bury(live: &Live, directory: &RemotePath) -> Result<bool, HandoffError> {
    let call = JobCall::new(directory).bury()?;
    let stdout = run(
        &live.connection,
        &call,
        "the burial of the job",
        SHORT_DEADLINE,
    )
    .await?;
    match Burial::parse(&call, &stdout)? {
        Burial::Buried => Ok(true),
        // An older script's runner looks for the tombstone first: one that looked a moment ago is seen after a rest.
        Burial::Unknown => {
            put_tombstone(live, directory).await?;
            tokio::time::sleep(BURIAL_REST).await;
            Ok(true)
        }
        // Nothing can start where nothing is.
        Burial::Missing => Ok(true),
        _ => Ok(false),
    }
}

/// Puts a tombstone into a claim where the job's script cannot, or is too old to.
async fn put_tombstone(live: &Live, directory: &RemotePath) -> Result<(), HandoffError> {
    let tombstone = directory.join(names::CLAIM).join(names::TOMBSTONE);
    Ok(live.files().await?.write(&tombstone, b"settled\n").await?)
}

/// Asks for the result again, of a job that ended without one; `None` when there is still none.
pub(crate) async fn export_again(
    live: &Live,
    directory: &RemotePath,
) -> Result<Option<Exit>, HandoffError> {
    let call = JobCall::new(directory).export(JobCall::EXPORT_SILENCE)?;
    let stdout = run(&live.connection, &call, "the second export", AGENT_DEADLINE).await?;
    Ok(JobCall::parse_export(&call, &stdout)?)
}

/// Deletes the session from the host's agent; the inner error is the agent's.
pub(crate) async fn forget(
    live: &Live,
    directory: &RemotePath,
) -> Result<Result<(), String>, HandoffError> {
    let call = JobCall::new(directory).forget()?;
    let stdout = run(
        &live.connection,
        &call,
        "the deletion of the session",
        AGENT_DEADLINE,
    )
    .await?;
    Ok(JobCall::parse_forget(&call, &stdout)?)
}

/// Moves a message that was written beside the inbox into it. Safe to repeat.
pub(crate) async fn deliver(
    live: &Live,
    directory: &RemotePath,
    name: &str,
) -> Result<Delivery, HandoffError> {
    let call = JobCall::new(directory).say(name)?;
    let stdout = run(
        &live.connection,
        &call,
        "the delivery of the message",
        SHORT_DEADLINE,
    )
    .await?;
    Ok(Delivery::parse(&call, &stdout)?)
}

pub(crate) async fn remove(
    live: &Live,
    directory: &RemotePath,
) -> Result<RemoveAnswer, HandoffError> {
    let call = JobCall::new(directory).remove()?;
    let stdout = run(
        &live.connection,
        &call,
        "the removal of the job's files",
        SHORT_DEADLINE,
    )
    .await?;
    Ok(RemoveAnswer::parse(&call, &stdout)?)
}

/// Removes the directory of a check, or of a job that was never launched.
pub(crate) async fn clean(
    connection: &Connection,
    directory: &RemotePath,
) -> Result<bool, HandoffError> {
    let call = CheckCleanup::call(directory)?;
    let stdout = run(
        connection,
        &call,
        "the removal of a directory",
        SHORT_DEADLINE,
    )
    .await?;
    Ok(CheckCleanup::parse(&call, &stdout)?)
}

pub(crate) async fn models(
    connection: &Connection,
    opencode: &RemotePath,
    directory: &RemotePath,
) -> Result<Vec<String>, HandoffError> {
    let call = Models::call(opencode, directory)?;
    let stdout = run(connection, &call, "the list of models", AGENT_DEADLINE).await?;
    Ok(Models::parse(&call, &stdout)?.names)
}

/// Leaves a detached process behind, as a runner is.
pub(crate) async fn leave_survivor(connection: &Connection) -> Result<Survivor, HandoffError> {
    let call = Survivor::leave()?;
    let stdout = run(
        connection,
        &call,
        "the start of a detached process",
        SHORT_DEADLINE,
    )
    .await?;
    Ok(Survivor::parse(&call, &stdout)?)
}

/// Whether the process that was left behind lives; it is ended then.
pub(crate) async fn survivor_lives(
    connection: &Connection,
    survivor: &Survivor,
) -> Result<bool, HandoffError> {
    let call = survivor.look()?;
    let stdout = run(
        connection,
        &call,
        "the look at a detached process",
        SHORT_DEADLINE,
    )
    .await?;
    Ok(Survivor::parse_look(&call, &stdout)?)
}

/// The end of the agent's error output, for a person; empty when it cannot be had.
pub(crate) async fn error_tail(link: &mut Link, directory: &RemotePath) -> String {
    let path = directory.join(names::STDERR);
    let tail = async {
        let files = link.live().await?.files().await?;
        let size = files.size(&path).await?.unwrap_or_default();
        Ok::<_, HandoffError>(
            files
                .read_from(&path, size.saturating_sub(TAIL), TAIL)
                .await?,
        )
    };
    match tail.await {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Err(error) => {
            tracing::info!(%error, "the agent's error output cannot be read");
            String::new()
        }
    }
}

pub(crate) fn clock_ms() -> i64 {
    i64::try_from(now_ms()).unwrap_or(i64::MAX)
}
