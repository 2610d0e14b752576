//! Intervening in a job that runs: the one way in which a watchdog ends it.

use std::time::Duration;

use super::link::Live;
use super::{HandoffError, remote};
use crate::agent::{KillAnswer, KillReason};
use crate::ssh::RemotePath;

/// How long the agent may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// Asks for the end of a job's agent; what it had done is exported all the same. Safe to repeat; true when
/// that is what ends the job: not where it had ended by itself, and not where nothing could be written there.
pub(crate) async fn end(
    live: &Live,
    directory: &RemotePath,
    why: KillReason,
) -> Result<bool, HandoffError> {
    let answer = remote::kill(live, directory, why, GRACE).await?;
    Ok(match answer {
        KillAnswer::Asked => true,
        KillAnswer::Ended(exit) => exit.reason.is_kill(),
        _ => false,
    })
}
