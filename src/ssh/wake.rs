//! A look at the link after this machine has slept, or when there is reason to doubt it.
//!
//! Main functions: [`watch`] and [`still_there`]. Invariant: a connection that does not answer soon after a sleep is
//! given up at once, for every waiting caller, whatever its keepalive; while the machine is awake nothing is sent from
//! here unasked.
//!
//! Timers stand still while a machine is suspended, so the keepalive goes on where it was and would take its whole
//! bound to notice that the other side, or something between, has forgotten the connection long ago.

use std::sync::Weak;
use std::time::{Duration, SystemTime};

use super::cause::LostCause;
use super::connection::Inner;

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// What a look may be late by. What a busy machine delays more is taken for a sleep, and one question is asked in vain.
const LATE: Duration = Duration::from_secs(3);
/// How long the answer to a question may take. A link that is slower than this after a sleep is dialled again.
const ANSWER: Duration = Duration::from_secs(10);

/// Watches the clock for gaps until the connection has ended.
pub(super) async fn watch(connection: Weak<Inner>) {
    loop {
        let before = SystemTime::now();
        tokio::time::sleep(LOOK).await;
        // A clock that is set back has not slept.
        let passed = before.elapsed().unwrap_or_default();
        let Some(connection) = connection.upgrade() else {
            return;
        };
        if connection.shared.closed.is_cancelled() {
            return;
        }
        if passed < LOOK + LATE {
            continue;
        }
        tracing::debug!(?passed, "after a sleep: is the host still there?");
        if !still_there(&connection).await {
            return;
        }
    }
}

/// Asks the server for a sign of life. A connection that gives none is ended, and lost for everybody.
pub(super) async fn still_there(connection: &Inner) -> bool {
    let closed = &connection.shared.closed;
    tokio::select! {
        biased;
        () = closed.cancelled() => return false,
        answered = tokio::time::timeout(ANSWER, connection.handle.send_ping()) => {
            if matches!(answered, Ok(Ok(()))) {
                return true;
            }
        }
    }
    connection.shared.set_cause(LostCause::Silent);
    closed.cancel();
    false
}
