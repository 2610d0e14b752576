//! The name of a configured host.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A configured host's name: one or more of `A-Z a-z 0-9 . _ -`, not starting with `-`.
///
/// The name is all that a model ever sees of a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// The reason why a text is not a [`HostName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a host name: letters, digits, '.', '_' and '-' only, and no '-' in front")]
pub struct InvalidHostName {
    /// What was given.
    pub text: String,
}

impl HostName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = InvalidHostName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if text.is_empty() || text.starts_with('-') || !text.bytes().all(allowed) {
            return Err(InvalidHostName {
                text: text.to_owned(),
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for HostName {
    type Error = InvalidHostName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl AsRef<str> for HostName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_accepted() {
        for good in ["box", "gpu-1.example", "A_b", "1"] {
            assert_eq!(good.parse::<HostName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "-oProxyCommand=x",
            "a b",
            "a\n",
            "a/b",
            "a'b",
            "$(x)",
            "ä",
            "a;b",
        ] {
            assert!(bad.parse::<HostName>().is_err(), "{bad:?} was accepted");
        }
    }
}
