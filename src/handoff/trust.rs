//! Trusting a host's key: look at it, and write it down when somebody said yes.
//!
//! Main type: [`HostKey`]. Invariant: a changed key is written down by [`Client::replace_trust`] alone, and a revoked one
//! never.

use std::path::PathBuf;

use super::{Client, HandoffError};
use crate::hosts::HostName;
use crate::ssh::{
    CertificateVerdict, KnownHosts, RecordedKey, SshError, Target, Verdict, scan_host_key,
};

/// Whether a host key is on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It is on record.
    Known,
    /// No file has a key for this host.
    Unknown,
    /// The host has other keys on record.
    Changed,
}

/// A host's key as the host showed it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HostKey {
    /// The host's name.
    pub host: HostName,
    /// The key's algorithm, `ssh-ed25519` for example.
    pub algorithm: String,
    /// Its fingerprint, `SHA256:...`.
    pub fingerprint: String,
    /// Whether it is on record.
    pub trust: Trust,
    /// The other keys on record for this host.
    pub recorded: Vec<RecordedKey>,
    target: Target,
    key: russh::keys::PublicKey,
}

impl Client {
    /// Connects to a host for its key alone. `NAME.jumpN` is the Nth hop on the way to NAME, as errors call one that
    /// has no name of its own; one that has goes by both.
    ///
    /// # Errors
    /// [`HandoffError::Hosts`] when there is no such host, [`HandoffError::Ssh`] when it cannot be reached or
    /// when its key is revoked. A changed key is no error here.
    ///
    /// # Cancel safety
    /// Safe: nothing is written.
    pub async fn host_key(&self, host: &str) -> Result<HostKey, HandoffError> {
        let target = self.host_or_hop(host)?;
        let seen = scan_host_key(&target, self.connect_options()).await?;
        let (host, algorithm, fingerprint) =
            (target.name.clone(), seen.algorithm, seen.fingerprint);
        let revoked = |file, line| SshError::HostKeyRevoked {
            host: host.clone(),
            algorithm: algorithm.clone(),
            fingerprint: fingerprint.clone(),
            file,
            line,
        };
        let trust = match (seen.certified, seen.verdict) {
            (Some(CertificateVerdict::Revoked { file, line }), _)
            | (_, Verdict::Revoked { file, line }) => return Err(revoked(file, line).into()),
            (Some(CertificateVerdict::Trusted), _) | (_, Verdict::Known) => Trust::Known,
            (_, Verdict::Changed { .. }) => Trust::Changed,
            (_, Verdict::Unknown) => Trust::Unknown,
        };
        Ok(HostKey {
            host,
            algorithm,
            fingerprint,
            trust,
            recorded: seen.others,
            target,
            key: seen.key,
        })
    }

    fn host_or_hop(&self, name: &str) -> Result<Target, HandoffError> {
        let unknown = match self.host(name) {
            Ok(host) => return self.target(&host),
            Err(error) => error,
        };
        let hop = name.rsplit_once(".jump");
        let Some((Ok(host), Some(place))) =
            hop.map(|(host, place)| (self.host(host), hop_place(place)))
        else {
            return Err(unknown);
        };
        let mut way = self.target(&host)?.jumps;
        if !(1..=way.len()).contains(&place) {
            return Err(unknown);
        }
        way.truncate(place);
        let mut hop = way.pop().ok_or(unknown)?;
        hop.jumps = way;
        Ok(hop)
    }

    /// Writes an unknown key of a host down, where its trust is written (our own known_hosts file, unless its
    /// configuration names one).
    ///
    /// # Errors
    /// [`HandoffError::Ssh`] when the file cannot be written, and for a changed key.
    ///
    /// # Cancel safety
    /// The key may be written all the same, whole.
    pub async fn trust(&self, key: &HostKey) -> Result<(), HandoffError> {
        if key.trust == Trust::Changed {
            return Err(key.changed().into());
        }
        Ok(KnownHosts::trust(&key.target, self.connect_options(), &key.key).await?)
    }

    /// Puts a changed key of a host in the place of the recorded ones, in every known_hosts file of the user's. Only a
    /// person who has seen both can say that it is the host's.
    ///
    /// # Errors
    /// [`HandoffError::Ssh`] when a file cannot be written.
    ///
    /// # Cancel safety
    /// Each file is changed whole or not at all; the rest of them may then be as they were.
    pub async fn replace_trust(&self, key: &HostKey) -> Result<(), HandoffError> {
        let options = self.connect_options();
        Ok(KnownHosts::replace(&key.target, options, &key.key, &key.recorded).await?)
    }

    /// Whether a record is in a file that [`Client::replace_trust`] changes: one of the user's, not the system's.
    #[must_use]
    pub fn replaces(&self, key: &HostKey, recorded: &RecordedKey) -> bool {
        let own = self.connect_options().own_host_key_files(&key.target);
        own.contains(&recorded.file)
    }
}

/// The N of `jumpN`, as it is written there.
fn hop_place(text: &str) -> Option<usize> {
    let place = text.parse().ok()?;
    (text == usize::to_string(&place)).then_some(place)
}

impl HostKey {
    /// The error that a changed key is everywhere else.
    #[must_use]
    pub fn changed(&self) -> SshError {
        let last = self.recorded.last();
        SshError::HostKeyChanged {
            host: self.host.clone(),
            algorithm: self.algorithm.clone().into(),
            offered: self.fingerprint.clone().into(),
            recorded: last.map_or("", |recorded| &recorded.key).into(),
            file: last.map_or_else(PathBuf::new, |recorded| recorded.file.clone()),
            line: last.map_or(0, |recorded| recorded.line),
        }
    }
}
