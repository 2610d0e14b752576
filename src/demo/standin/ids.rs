//! Identifiers in opencode's scheme, which sort by time.
//!
//! `ses_`, `msg_`, `prt_`, then twelve hexadecimal digits of `milliseconds * 4096 + counter` modulo 2^48
//! (for sessions its complement, so that the newest sorts first), then fourteen base-62 digits.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::RngExt;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM_DIGITS: usize = 14;
const TIME_MASK: u64 = (1 << 48) - 1;

/// The clock and the counter that identifiers are made of.
#[derive(Debug)]
pub(super) struct Clock {
    offset: i64,
    last: u64,
    counter: u64,
}

impl Clock {
    /// A clock that is ahead of this machine's by so many milliseconds.
    pub(super) fn new(offset: i64) -> Self {
        Self {
            offset,
            last: 0,
            counter: 0,
        }
    }

    /// Milliseconds since 1970.
    pub(super) fn now(&self) -> u64 {
        let elapsed = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(elapsed.as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add_signed(self.offset)
    }

    pub(super) fn message(&mut self) -> String {
        let time = self.now();
        self.message_at(time)
    }

    pub(super) fn part(&mut self) -> String {
        let time = self.now();
        self.part_at(time)
    }

    pub(super) fn message_at(&mut self, milliseconds: u64) -> String {
        format!("msg_{:012x}{}", self.stamp(milliseconds), random())
    }

    pub(super) fn part_at(&mut self, milliseconds: u64) -> String {
        format!("prt_{:012x}{}", self.stamp(milliseconds), random())
    }

    pub(super) fn session_at(&mut self, milliseconds: u64) -> String {
        format!(
            "ses_{:012x}{}",
            !self.stamp(milliseconds) & TIME_MASK,
            random()
        )
    }

    /// Differs from every stamp before for the same millisecond, and is above them.
    fn stamp(&mut self, milliseconds: u64) -> u64 {
        if milliseconds == self.last {
            self.counter += 1;
        } else {
            self.last = milliseconds;
            self.counter = 1;
        }
        milliseconds.wrapping_mul(0x1000).wrapping_add(self.counter) & TIME_MASK
    }
}

fn random() -> String {
    let mut random = rand::rng();
    (0..RANDOM_DIGITS)
        .map(|_| char::from(DIGITS[random.random_range(0..DIGITS.len())]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionId;

    #[test]
    fn identifiers_sort_by_time_and_sessions_the_other_way() {
        let mut clock = Clock::new(0);
        let messages: Vec<_> = [5, 5, 6]
            .map(|time| clock.message_at(1_795_218_649_000 + time))
            .into();
        assert!(messages.is_sorted(), "{messages:?}");
        let (old, new) = (
            clock.session_at(1_795_218_649_000),
            clock.session_at(1_795_218_650_000),
        );
        assert!(new < old);
        assert!(new.parse::<SessionId>().is_ok());
    }

    #[test]
    fn the_time_is_where_opencode_puts_it() {
        let mut clock = Clock::new(0);
        assert!(
            clock
                .message_at(1_795_218_649_163)
                .starts_with("msg_1fb5eb04b001")
        );
        assert!(
            clock
                .session_at(1_795_218_649_038)
                .starts_with("ses_e04a15031ffe")
        );
    }
}
