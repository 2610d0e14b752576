//! Intervening in a job that runs: the one way in which a watchdog ends it.

use super::HandoffError;
use super::link::Live;
use crate::ssh::RemotePath;

/// What a watchdog ends a job for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The agent said nothing for too long.
    Stalled,
    /// The agent went round in circles.
    Looping,
}

/// Asks for the end of a job's agent; what it had done is exported all the same. Safe to repeat.
pub(crate) async fn end(
    live: &Live,
    directory: &RemotePath,
    cause: Cause,
) -> Result<(), HandoffError> {
    let request: &[u8] = match cause {
        Cause::Stalled => b"reason=stalled\ngrace=5\n",
        Cause::Looping => b"reason=looping\ngrace=5\n",
    };
    let file = directory.join("kill");
    Ok(live.files().await?.write(&file, request).await?)
}
