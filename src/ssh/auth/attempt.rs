//! What was tried at a login, and what became of it.
//!
//! Main type: [`Attempt`]. Invariant: it names key files and comments, so it is for the person alone.

use std::fmt;

use crate::ssh::host_key::CertificateFault;

/// One key, password or dialogue, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// What a person knows it by: the key's file, the agent's comment, or the method.
    pub key: String,
    /// What became of it.
    pub outcome: AttemptOutcome,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptOutcome {
    /// The server does not accept it for this user.
    Rejected,
    /// The server takes it, and wants another method besides.
    Partial,
    /// It is encrypted, and there was no passphrase.
    Encrypted,
    /// It cannot be used, for this reason.
    Unusable(String),
    /// The server does not accept the certificate, which does not count any more, or not yet.
    Certificate(CertificateFault),
    /// It was not offered, because servers disconnect after too many.
    NotOffered,
    /// The person gave no answer.
    NotAnswered,
    /// The server ended the login.
    Ended,
}

impl fmt::Display for Attempt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.key)?;
        match &self.outcome {
            AttemptOutcome::Rejected => formatter.write_str("rejected"),
            AttemptOutcome::Partial => formatter.write_str("accepted, but not enough"),
            AttemptOutcome::Encrypted => formatter.write_str("encrypted"),
            AttemptOutcome::Unusable(reason) => write!(formatter, "unusable, {reason}"),
            AttemptOutcome::Certificate(fault) => write!(formatter, "rejected, {fault}"),
            AttemptOutcome::NotOffered => formatter.write_str("not offered, too many keys"),
            AttemptOutcome::NotAnswered => formatter.write_str("not answered"),
            AttemptOutcome::Ended => formatter.write_str("ended the login"),
        }
    }
}

/// The attempts on one line.
pub(in crate::ssh) fn describe(tried: &[Attempt]) -> String {
    if tried.is_empty() {
        return "there is none".to_owned();
    }
    tried
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}
