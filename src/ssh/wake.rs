//! A look at the link after this machine has slept.
//!
//! Main function: [`watch`]. Invariant: a connection that does not answer soon after a sleep is given up at once, for
//! every waiting caller; while the machine is awake nothing is sent from here.
//!
//! Timers stand still while a machine is suspended, so the keepalive goes on where it was and would take its whole
//! bound to notice that the other side, or something between, has forgotten the connection long ago.

use std::sync::Weak;
use std::time::{Duration, SystemTime};

use super::cause::LostCause;
use super::connection::Inner;
use super::options::Keepalive;

/// How often the clock is looked at, at most.
const LOOK: Duration = Duration::from_secs(5);
/// How long the answer to the first question after a sleep may take, at least.
const ANSWER: Duration = Duration::from_secs(5);

/// Watches the clock for gaps until the connection has ended.
pub(super) async fn watch(connection: Weak<Inner>, keepalive: Keepalive) {
    let look = LOOK.min(keepalive.interval);
    // What a busy machine delays is not taken for a sleep, and if it were, one question would be asked.
    let slept = look + keepalive.interval.max(Duration::from_secs(1));
    loop {
        let before = SystemTime::now();
        tokio::time::sleep(look).await;
        // A clock that is set back has not slept.
        let passed = before.elapsed().unwrap_or_default();
        let Some(connection) = connection.upgrade() else {
            return;
        };
        let shared = connection.shared.clone();
        if shared.closed.is_cancelled() {
            return;
        }
        if passed < slept {
            continue;
        }
        tracing::debug!(host = %connection.host, ?passed, "after a sleep: is the host still there?");
        let answer = async {
            tokio::select! {
                answered = connection.handle.send_ping() => answered.is_ok(),
                () = shared.closed.cancelled() => true,
            }
        };
        let bound = ANSWER.max(keepalive.interval);
        if !tokio::time::timeout(bound, answer).await.unwrap_or(false) {
            shared.set_cause(LostCause::Silent);
            shared.closed.cancel();
            return;
        }
    }
}
