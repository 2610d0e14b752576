//! The two machines' clocks.
//!
//! The agent orders messages by identifiers that hold the time of their making. A host whose clock is behind
//! the newest message would put the continuation before the history; a host that is ahead would do the same
//! to the next turn here. Small differences are waited out, large ones are refused before the launch. Only
//! differences measured in one exchange are used, never two absolute times of two machines.

use std::time::Duration;

use crate::hosts::HostName;
use crate::job::Mode;

use super::HandoffError;

/// The longest time that either side waits for its clock, in milliseconds.
pub(crate) const LONGEST_WAIT_MS: i64 = 60_000;

/// The host's clock less this machine's, in milliseconds, as one exchange showed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Skew {
    lowest: i64,
    highest: i64,
}

impl Skew {
    /// The skew that follows from an exchange: the local clock before and after it, and the remote clock in
    /// between, which reads `resolution_ms` at most too low.
    pub(crate) fn measured(
        before_ms: i64,
        after_ms: i64,
        remote_ms: i64,
        resolution_ms: i64,
    ) -> Self {
        Self {
            lowest: remote_ms.saturating_sub(after_ms),
            highest: remote_ms
                .saturating_add(resolution_ms)
                .saturating_sub(before_ms),
        }
    }

    /// The difference that is certain; 0 where the exchange cannot tell the clocks apart.
    pub(crate) fn certain_ms(self) -> i64 {
        if self.lowest > 0 {
            self.lowest
        } else if self.highest < 0 {
            self.highest
        } else {
            0
        }
    }

    /// Refuses a handoff that the clocks would spoil: `newest_ms` is the time of the newest message by this
    /// machine's clock, `now_ms` the present time by it.
    pub(crate) fn allow(
        self,
        host: &HostName,
        mode: Mode,
        newest_ms: i64,
        now_ms: i64,
    ) -> Result<(), HandoffError> {
        let skew_ms = self.certain_ms();
        let remote_now = now_ms.saturating_add(skew_ms);
        let too_far_behind = newest_ms.saturating_sub(remote_now) > LONGEST_WAIT_MS;
        let too_far_ahead = mode == Mode::RoundTrip && skew_ms > LONGEST_WAIT_MS;
        if too_far_behind || too_far_ahead {
            return Err(HandoffError::Clock {
                host: host.clone(),
                skew_ms,
            });
        }
        Ok(())
    }
}

/// How long this machine waits before its own next turn may follow a message of `newest_ms`.
///
/// `None` when that is longer than [`LONGEST_WAIT_MS`].
pub(crate) fn wait_for(newest_ms: i64, now_ms: i64) -> Option<Duration> {
    let wait = newest_ms.saturating_sub(now_ms).saturating_add(1).max(0);
    if newest_ms <= now_ms {
        return Some(Duration::ZERO);
    }
    (wait <= LONGEST_WAIT_MS).then(|| Duration::from_millis(wait.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_220_000_000;

    fn skewed(by_ms: i64) -> Skew {
        Skew::measured(NOW, NOW + 100, NOW + 50 + by_ms, 0)
    }

    #[test]
    fn a_difference_within_the_exchange_is_none() {
        assert_eq!(skewed(0).certain_ms(), 0);
        assert_eq!(
            Skew::measured(NOW, NOW + 100, NOW - 900, 1000).certain_ms(),
            0
        );
        assert_eq!(skewed(5_000).certain_ms(), 4_950);
        assert_eq!(skewed(-5_000).certain_ms(), -4_950);
    }

    #[test]
    fn small_differences_are_let_through_and_large_ones_are_not() {
        let host: HostName = "box".parse().unwrap();
        let allow = |skew_ms, mode, newest| skewed(skew_ms).allow(&host, mode, newest, NOW).is_ok();
        for mode in [Mode::OneWay, Mode::RoundTrip] {
            assert!(allow(0, mode, NOW));
            assert!(allow(-30_000, mode, NOW));
            assert!(allow(30_000, mode, NOW));
            assert!(!allow(-3_600_000, mode, NOW));
            assert!(
                allow(-3_600_000, mode, NOW - 7_200_000),
                "an old session needs no exact clock"
            );
        }
        assert!(!allow(3_600_000, Mode::RoundTrip, NOW));
        assert!(allow(3_600_000, Mode::OneWay, NOW));
    }

    #[test]
    fn the_error_says_clock_and_by_how_much() {
        let error = skewed(-3_600_000)
            .allow(&"box".parse().unwrap(), Mode::OneWay, NOW, NOW)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the clock of host box is 3599 s behind this machine's"
        );
    }

    #[test]
    fn the_wait_has_a_bound() {
        assert_eq!(wait_for(NOW - 5, NOW), Some(Duration::ZERO));
        assert_eq!(wait_for(NOW + 999, NOW), Some(Duration::from_millis(1000)));
        assert_eq!(wait_for(NOW + 3_600_000, NOW), None);
    }
}
