//! A look at the link after this machine has slept, or when there is reason to doubt it.
//!
//! Main functions: [`watch`] and [`still_there`]. Invariant: a connection from which nothing comes soon after a sleep is
//! given up at once, for every waiting caller, whatever its keepalive; one from which bytes still come is not, however
//! slow it is; while the machine is awake nothing is sent from here unasked.
//!
//! Timers stand still while a machine is suspended, so the keepalive goes on where it was and would take its whole
//! bound to notice that the other side, or something between, has forgotten the connection long ago.

use std::future::Future;
use std::pin::pin;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::cause::LostCause;
use super::connection::Inner;

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// What a look may be late by. What a busy machine delays more is taken for a sleep, and one question is asked in vain.
const LATE: Duration = Duration::from_secs(3);
/// How long nothing at all may come until a question is answered.
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
    let shared = &connection.shared;
    let answered = answers(connection.handle.send_ping(), &shared.heard, ANSWER);
    tokio::select! {
        biased;
        () = shared.closed.cancelled() => return false,
        answered = answered => {
            if answered {
                return true;
            }
        }
    }
    shared.set_cause(LostCause::Silent);
    shared.closed.cancel();
    false
}

/// Whether a question is answered before nothing more has come for `after`: on a slow link the answer stands behind
/// megabytes of other channels' data.
async fn answers<E>(
    question: impl Future<Output = Result<(), E>>,
    heard: &AtomicU64,
    after: Duration,
) -> bool {
    let mut question = pin!(question);
    loop {
        let before = heard.load(Ordering::SeqCst);
        match tokio::time::timeout(after, &mut question).await {
            Ok(answer) => return answer.is_ok(),
            Err(_) if heard.load(Ordering::SeqCst) != before => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::ssh::link::Link;

    const AFTER: Duration = Duration::from_millis(800);
    const PIECE: usize = 64 * 1024;
    const PIECES: usize = 32;

    /// What the reading side says of a question whose answer is the end of `pieces` pieces of data.
    async fn asks(pieces: usize) -> bool {
        let (mut server, client) = tokio::io::duplex(PIECE);
        let heard = Arc::new(AtomicU64::new(0));
        let mut link = Link::new(client, AFTER, Arc::clone(&heard));
        let sending = tokio::spawn(async move {
            for _ in 0..pieces {
                tokio::time::sleep(AFTER / 8).await;
                server.write_all(&[7; PIECE]).await.unwrap();
            }
            // The other side is there, and says nothing more.
            std::future::pending::<()>().await;
        });
        let question = async {
            let mut data = vec![0; PIECES * PIECE];
            link.read_exact(&mut data).await.map(|_| ())
        };
        let answered = answers(question, &heard, AFTER).await;
        sending.abort();
        answered
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_answer_behind_two_megabytes_is_waited_for_while_they_come() {
        let begun = Instant::now();
        assert!(asks(PIECES).await);
        assert!(begun.elapsed() > AFTER * 2, "it shows nothing");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_falls_silent_is_given_up() {
        assert!(!asks(PIECES / 4).await);
        assert!(!asks(0).await);
    }
}
