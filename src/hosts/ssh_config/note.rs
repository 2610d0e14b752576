//! What an ssh_config says and handover does not do.
//!
//! Main type: [`SshConfigNote`].

use std::fmt;

use serde::Serialize;

use crate::hosts::error::Position;

/// A keyword that applies to a host and has not the effect that it has for ssh(1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SshConfigNote {
    /// The keyword as the manual spells it.
    pub keyword: &'static str,
    /// Where it stands.
    #[serde(flatten)]
    pub at: Position,
    /// What is done instead.
    pub effect: SshConfigEffect,
}

/// What is done about a keyword that is not honoured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SshConfigEffect {
    /// Nothing.
    Ignored,
    /// `StrictHostKeyChecking` was turned off, and counts as `ask`.
    Asks,
}

impl SshConfigNote {
    pub(super) fn ignored(keyword: &'static str, at: Position) -> Self {
        Self {
            keyword,
            at,
            effect: SshConfigEffect::Ignored,
        }
    }

    pub(super) fn asks(at: Position) -> Self {
        Self {
            keyword: "StrictHostKeyChecking",
            at,
            effect: SshConfigEffect::Asks,
        }
    }
}

impl fmt::Display for SshConfigNote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (keyword, path, line) = (self.keyword, self.at.path.display(), self.at.line);
        match self.effect {
            SshConfigEffect::Ignored => write!(formatter, "{path}:{line}: {keyword} has no effect"),
            SshConfigEffect::Asks => write!(
                formatter,
                "{path}:{line}: {keyword} is off, which counts as 'ask': a host key that is not on record is never \
                 accepted silently"
            ),
        }
    }
}
