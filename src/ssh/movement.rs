//! Deadlines that count from the last time that something moved.
//!
//! Main type: [`Movement`]. Invariant: what moves on a slow link is waited for, however long it takes in all; only what
//! was wanted counts as movement, so that a talkative server holds nobody up.

use std::time::Duration;

use tokio::sync::Notify;

use super::connection::Connection;
use super::error::SshError;

/// Whether some work gets on.
#[derive(Debug, Default)]
pub(super) struct Movement(Notify);

impl Movement {
    /// Takes note that something has moved.
    pub(super) fn happened(&self) {
        self.0.notify_one();
    }

    /// Waits until nothing has moved for `after`.
    async fn ended(&self, after: Duration) {
        while tokio::time::timeout(after, self.0.notified()).await.is_ok() {}
    }
}

impl Connection {
    /// Waits for `work`, the end of the connection, or a time of `after` in which nothing moves.
    pub(super) async fn while_moving<T>(
        &self,
        what: &'static str,
        after: Duration,
        movement: &Movement,
        work: impl Future<Output = Result<T, SshError>>,
    ) -> Result<T, SshError> {
        let host = self.host().clone();
        tokio::select! {
            biased;
            result = work => result,
            _ = self.closed() => Err(self.lost_now()),
            () = movement.ended(after) => Err(SshError::TimedOut { host, what, after }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_moves_is_waited_for_and_what_stands_still_is_not() {
        let movement = Movement::default();
        let after = Duration::from_secs(2);
        let moving = async {
            for _ in 0..8 {
                tokio::time::sleep(after / 5).await;
                movement.happened();
            }
        };
        tokio::select! {
            () = moving => {}
            () = movement.ended(after) => panic!("it was moving"),
        }
        tokio::time::timeout(after * 10, movement.ended(after))
            .await
            .unwrap();
    }
}
