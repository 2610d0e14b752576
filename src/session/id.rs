//! The identifier of an agent's session.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A session's identifier as opencode makes them: `ses_` and ASCII letters and digits, 64 characters at most.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);

/// The reason why a text is not a [`SessionId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a session id: 'ses_' and then letters and digits")]
pub struct InvalidSessionId {
    /// What was given.
    pub text: String,
}

impl SessionId {
    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SessionId {
    type Err = InvalidSessionId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let tail = text.strip_prefix("ses_").unwrap_or_default();
        if tail.is_empty()
            || text.len() > 64
            || !tail.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            return Err(InvalidSessionId {
                text: text.chars().take(80).collect(),
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for SessionId {
    type Error = InvalidSessionId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_agents_own_form_is_accepted() {
        assert!(
            "ses_e048a0761ffeIw5s06Bi63sORL"
                .parse::<SessionId>()
                .is_ok()
        );
        for bad in [
            "",
            "ses_",
            "msg_1",
            "ses_a b",
            "ses_$(x)",
            "ses_a\n",
            "-x",
            &format!("ses_{}", "a".repeat(80)),
        ] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad:?} was accepted");
        }
    }
}
