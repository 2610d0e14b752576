//! Paths on a remote host.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An absolute POSIX path on a remote host: starts with `/`, UTF-8, no control characters, no `..` component.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RemotePath(String);

/// The reason why a text is not a [`RemotePath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an absolute remote path without control characters and '..'")]
pub struct InvalidRemotePath {
    /// What was given.
    pub text: String,
}

impl RemotePath {
    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path of `name` inside this directory.
    ///
    /// `name` is one of ours (`claim`, `params/mode`): relative, without `..`.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        debug_assert!(!name.starts_with('/') && !name.split('/').any(|part| part == ".."));
        Self(format!("{}/{name}", self.0.trim_end_matches('/')))
    }

    /// The last component; empty for `/`.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl FromStr for RemotePath {
    type Err = InvalidRemotePath;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = text.starts_with('/')
            && !text.chars().any(char::is_control)
            && !text.split('/').any(|part| part == "..");
        if plain {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidRemotePath {
                text: text.to_owned(),
            })
        }
    }
}

impl TryFrom<String> for RemotePath {
    type Error = InvalidRemotePath;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RemotePath> for String {
    fn from(path: RemotePath) -> Self {
        path.0
    }
}

impl fmt::Display for RemotePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_plain_paths_are_accepted() {
        assert_eq!(
            "/home/a b/ü'$(x)"
                .parse::<RemotePath>()
                .unwrap()
                .join("claim/nonce")
                .as_str(),
            "/home/a b/ü'$(x)/claim/nonce"
        );
        for bad in ["", "~/x", "x/y", "/a\nb", "/a/../b", "/a/.."] {
            assert!(bad.parse::<RemotePath>().is_err(), "{bad:?} was accepted");
        }
    }
}
