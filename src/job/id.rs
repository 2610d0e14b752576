//! The identifier of a job.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use rand::RngExt;
use serde::{Deserialize, Serialize};

/// A job's identifier: `j`, nine base-36 digits of milliseconds since 1970, `-`, six random base-36 digits.
///
/// Identifiers sort by time and hold only `[0-9a-z-]`, so that a remote path built of one needs no quoting.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

/// The reason why a text is not a [`JobId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a job id: it looks like j0mi5w3k2q-7f3k9a")]
pub struct InvalidJobId {
    /// What was given.
    pub text: String,
}

const TIME_DIGITS: usize = 9;
const RANDOM_DIGITS: usize = 6;

impl JobId {
    /// Makes a new identifier from this machine's clock and random digits.
    #[must_use]
    pub fn generate() -> Self {
        let elapsed = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let mut time = [0_u8; TIME_DIGITS];
        for digit in time.iter_mut().rev() {
            *digit = base36(millis % 36);
            millis /= 36;
        }
        let mut random = rand::rng();
        let mut text = String::with_capacity(2 + TIME_DIGITS + RANDOM_DIGITS);
        text.push('j');
        text.extend(time.iter().copied().map(char::from));
        text.push('-');
        text.extend((0..RANDOM_DIGITS).map(|_| char::from(base36(random.random_range(0..36)))));
        Self(text)
    }

    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn base36(digit: u64) -> u8 {
    b"0123456789abcdefghijklmnopqrstuvwxyz"[usize::try_from(digit % 36).unwrap_or_default()]
}

impl FromStr for JobId {
    type Err = InvalidJobId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = |part: &str, count: usize| {
            part.len() == count
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
        };
        match text.strip_prefix('j').and_then(|rest| rest.split_once('-')) {
            Some((time, random)) if digits(time, TIME_DIGITS) && digits(random, RANDOM_DIGITS) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(InvalidJobId {
                text: text.chars().take(80).collect(),
            }),
        }
    }
}

impl TryFrom<String> for JobId {
    type Error = InvalidJobId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_id_is_accepted_and_differs_from_the_next() {
        let (first, second) = (JobId::generate(), JobId::generate());
        assert_eq!(first.as_str().parse::<JobId>().unwrap(), first);
        assert_ne!(first, second);
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in [
            "",
            "j",
            "../x",
            "j000000000-ABCDEF",
            "j000000000-00000",
            "j00000000é-000000",
            "-oX",
        ] {
            assert!(bad.parse::<JobId>().is_err(), "{bad:?} was accepted");
        }
    }
}
