//! What a host's answer about a job amounts to.

use super::Evidence;
use crate::agent::{Alive, Claim, Exit, ExitReason, JobStatus};

/// The evidence in an `exit`.
#[must_use]
pub fn end_evidence(exit: &Exit) -> Evidence {
    let result = exit.has_result();
    if exit.reason.is_kill() {
        return Evidence::Killed { result };
    }
    Evidence::Ended {
        success: exit.reason == ExitReason::Completed,
        result,
    }
}

/// The evidence in a status; `None` is a job directory that is not there.
///
/// `grace_over` says that a claim without a start has had its time: [`Evidence::NeverStarted`] then.
#[must_use]
pub fn evidence(status: Option<&JobStatus>, grace_over: bool) -> Evidence {
    let Some(status) = status else {
        return Evidence::Unclaimed;
    };
    if let Some(exit) = &status.exit {
        return end_evidence(exit);
    }
    match (status.alive, &status.claim) {
        (Alive::Yes, _) => Evidence::Alive,
        (Alive::No, _) => Evidence::Died,
        (Alive::Reboot, _) => Evidence::Rebooted,
        (Alive::Elsewhere, _) => Evidence::OtherMachine,
        (Alive::Unknown, Claim::Free) => Evidence::Unclaimed,
        (Alive::Unknown, Claim::Tombstone) => Evidence::Tombstone,
        // A host that cannot tell processes apart is believed: the runner said that it started.
        (Alive::Unknown, Claim::Launch(_) | Claim::Unnamed) if status.started.is_some() => {
            Evidence::Alive
        }
        (Alive::Unknown, Claim::Launch(_) | Claim::Unnamed) if grace_over => Evidence::NeverStarted,
        (Alive::Unknown, Claim::Launch(_) | Claim::Unnamed) => Evidence::ClaimedOnly,
    }
}
