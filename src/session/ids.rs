//! The form of opencode's ids, and the making of one.
//!
//! An id is a prefix (`msg_`, `prt_`), 12 hexadecimal digits that hold the milliseconds since 1970 times 4096 plus a
//! counter, modulo 2^48, and 14 random characters of `[0-9A-Za-z]`: ids of one kind sort by time.

use super::error::{DocumentError, shown};

/// The longest id that is accepted, in bytes. opencode's are 30.
const MAX_ID: usize = 128;

/// Which kind of object an id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Message,
    Part,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Part => "part",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Message => "msg_",
            Self::Part => "prt_",
        }
    }

    /// Refuses what is no id of this kind: the prefix and then ASCII letters, digits, `_` or `-`, 128 bytes at most.
    pub(super) fn check(self, id: &str, offset: u64) -> Result<(), DocumentError> {
        let tail = id.strip_prefix(self.prefix()).unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if tail.is_empty() || id.len() > MAX_ID || !tail.bytes().all(plain) {
            return Err(DocumentError::BadId {
                kind: self.name(),
                id: shown(id),
                offset,
            });
        }
        Ok(())
    }
}

/// The id of a part that sorts directly after all of `parts`, which are of the message `message`; always the same one
/// for the same parts.
pub(super) fn part_after<'a>(message: &str, parts: impl Iterator<Item = &'a str>) -> String {
    let last = parts.filter_map(|id| id.strip_prefix("prt_")).max();
    let last = last
        .or_else(|| message.strip_prefix("msg_"))
        .unwrap_or("000000000000");
    let next = last.get(..12).and_then(|digits| {
        let time = u64::from_str_radix(digits, 16).ok()?;
        Some(format!("prt_{:012x}{}", time + 1, last.get(12..)?))
            .filter(|_| time < 0xffff_ffff_ffff)
    });
    // Where the last id is none of opencode's making, or the last of its era: whatever it is a prefix of sorts after it.
    next.filter(|id| id.as_str() > last)
        .unwrap_or_else(|| format!("prt_{last}0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_part_id_sorts_after_all_and_has_the_form() {
        for (parts, expected) in [
            (
                vec![
                    "prt_1fb8ff182001bHCrOfEtlRK0eu",
                    "prt_1fb8ff17c001uYYwPBXLa6zFuA",
                ],
                "prt_1fb8ff182002bHCrOfEtlRK0eu",
            ),
            (vec![], "prt_1fb8fec78002zKibwvkLtA0TSw"),
            (
                vec!["prt_ffffffffffffAAAAAAAAAAAAAA"],
                "prt_ffffffffffffAAAAAAAAAAAAAA0",
            ),
            (vec!["prt_zz"], "prt_zz0"),
        ] {
            let made = part_after("msg_1fb8fec78001zKibwvkLtA0TSw", parts.iter().copied());
            assert_eq!(made, expected);
            assert!(parts.iter().all(|id| *id < made.as_str()));
            assert!(Kind::Part.check(&made, 0).is_ok());
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for bad in [
            "",
            "msg_",
            "prt_1",
            "msg_a b",
            "msg_\u{e4}",
            "msg_a\n",
            &format!("msg_{}", "a".repeat(200)),
        ] {
            assert!(Kind::Message.check(bad, 0).is_err(), "{bad:?}");
        }
    }
}
