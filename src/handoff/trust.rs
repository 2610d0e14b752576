//! Trusting a host's key: look at it, and write it down when somebody said yes.

use super::{Client, HandoffError};
use crate::hosts::HostName;
use crate::ssh::{KnownHosts, SshError, Target, Verdict, scan_host_key};

/// Whether a host key is on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It is on record.
    Known,
    /// No file has a key for this host.
    Unknown,
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
    target: Target,
    key: russh::keys::PublicKey,
}

impl Client {
    /// Connects to a host for its key alone.
    ///
    /// # Errors
    /// [`HandoffError::Hosts`] when there is no such host, [`HandoffError::Ssh`] when it cannot be reached or
    /// when its key is changed or revoked.
    pub async fn host_key(&self, host: &str) -> Result<HostKey, HandoffError> {
        let target = self.target(&self.host(host)?)?;
        let seen = scan_host_key(&target, self.connect_options()).await?;
        let (host, algorithm, fingerprint) =
            (target.name.clone(), seen.algorithm, seen.fingerprint);
        let trust = match seen.verdict {
            Verdict::Known => Trust::Known,
            Verdict::Unknown => Trust::Unknown,
            Verdict::Changed {
                file,
                line,
                recorded,
            } => {
                let offered = fingerprint;
                return Err(SshError::HostKeyChanged {
                    host,
                    algorithm: algorithm.into(),
                    offered: offered.into(),
                    recorded: recorded.into(),
                    file,
                    line,
                }
                .into());
            }
            Verdict::Revoked { file, line } => {
                return Err(SshError::HostKeyRevoked {
                    host,
                    algorithm,
                    fingerprint,
                    file,
                    line,
                }
                .into());
            }
        };
        Ok(HostKey {
            host,
            algorithm,
            fingerprint,
            trust,
            target,
            key: seen.key,
        })
    }

    /// Writes a host's key into our own known_hosts file.
    ///
    /// # Errors
    /// [`HandoffError::Ssh`] when the file cannot be written.
    pub async fn trust(&self, key: &HostKey) -> Result<(), HandoffError> {
        let file = self.places().known_hosts_file();
        Ok(KnownHosts::append(&file, &key.target.address, key.target.port, &key.key).await?)
    }
}
