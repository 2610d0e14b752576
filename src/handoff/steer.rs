//! Intervening in a job that runs: the one way in which a watchdog ends it.

use std::time::Duration;

use super::link::Live;
use super::{HandoffError, remote};
use crate::agent::{KillAnswer, KillReason};
use crate::ssh::RemotePath;

/// How long the agent may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// Asks for the end of a job's agent; what it had done is exported all the same. Safe to repeat; false when nothing
/// could be written there, and so nobody was asked.
pub(crate) async fn end(
    live: &Live,
    directory: &RemotePath,
    why: KillReason,
) -> Result<bool, HandoffError> {
    let answer = remote::kill(live, directory, why, GRACE).await?;
    Ok(answer != KillAnswer::Unwritable)
}
