//! Everything that can go wrong between here and a host.
//!
//! Main type: [`SshError`]. Invariant: a message has the host's name or a path in it, never an address or a user.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::auth::{Attempt, describe};
use super::cause::LostCause;
use super::host_key::{CertificateFault, HostKeyFault};
use super::identity::KeyFileError;
use super::path::RemotePath;
use crate::hosts::HostName;

/// What was waited for when a server does not answer a login in time.
pub(super) const AUTHENTICATION: &str = "authentication";

/// What went wrong on a connection or with a file behind it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshError {
    /// The address has no entry in the name service.
    #[error("the address of host {host} cannot be resolved")]
    Resolve {
        /// The host.
        host: HostName,
        /// The resolver's answer.
        #[source]
        source: io::Error,
    },
    /// Nothing listens at the port.
    #[error("host {host} refused the connection")]
    Refused {
        /// The host.
        host: HostName,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The TCP connection failed in another way than by refusal or time-out.
    #[error("host {host} cannot be reached")]
    Unreachable {
        /// The host.
        host: HostName,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A deadline passed.
    #[error("host {host}: {what} took longer than {} s", .after.as_secs_f32())]
    TimedOut {
        /// The host.
        host: HostName,
        /// What was waited for.
        what: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The key exchange failed before a host key could be judged, or after it was accepted.
    #[error("the SSH handshake with host {host} failed")]
    Handshake {
        /// The host.
        host: HostName,
        /// What failed. A server that is over its connection limit shows as a closed or reset connection.
        #[source]
        source: LostCause,
    },
    /// A jump host did not pass the connection on to the next host.
    #[error("jump host {host} did not pass the connection on to host {next} ({reason})")]
    JumpRefused {
        /// The jump host.
        host: HostName,
        /// The host that it was to connect to.
        next: HostName,
        /// Whether the jump host tried and could not reach it; otherwise it may not, or does not forward at all.
        unreachable: bool,
        /// The reason as RFC 4254 section 5.1 names it.
        reason: String,
    },
    /// No file has a key for this host, and nobody could be asked or the person said no.
    #[error("the host key of {host} is not known ({algorithm} {fingerprint})")]
    HostKeyUnknown {
        /// The host.
        host: HostName,
        /// The key's algorithm.
        algorithm: String,
        /// The fingerprint as `SHA256:...`.
        fingerprint: String,
    },
    /// The host has other keys on record than the one that it showed. Never retried.
    #[error(
        "the host key of {host} has changed: it showed {algorithm} {offered}, on record is {recorded} ({}:{line})",
        .file.display()
    )]
    HostKeyChanged {
        /// The host.
        host: HostName,
        /// The offered key's algorithm.
        algorithm: Box<str>,
        /// The offered key's fingerprint.
        offered: Box<str>,
        /// The recorded key's algorithm and fingerprint.
        recorded: Box<str>,
        /// The file that has the record.
        file: PathBuf,
        /// The line in it, from 1.
        line: usize,
    },
    /// The key is marked `@revoked`. Never retried.
    #[error("the host key of {host} is revoked: {algorithm} {fingerprint} ({}:{line})", .file.display())]
    HostKeyRevoked {
        /// The host.
        host: HostName,
        /// The key's algorithm.
        algorithm: String,
        /// The fingerprint.
        fingerprint: String,
        /// The file that has the record.
        file: PathBuf,
        /// The line in it, from 1.
        line: usize,
    },
    /// The host showed a certificate of an authority that is trusted for it, but the certificate does not count, and
    /// the key in it is not on record. Never retried.
    #[error("the host certificate of {host} does not count: {fault} (authority {authority})")]
    HostCertificate {
        /// The host.
        host: HostName,
        /// What is wrong with it.
        fault: Box<CertificateFault>,
        /// The authority's algorithm and fingerprint.
        authority: Box<str>,
    },
    /// The host showed a key, or signed with it in a way, that is refused whatever is on record. Never retried.
    #[error("the host key of {host} is refused: {fault}")]
    HostKeyRefused {
        /// The host.
        host: HostName,
        /// What is wrong with it.
        fault: HostKeyFault,
    },
    /// The server does not know strict key exchange, without which the agreed cipher is open to the Terrapin attack
    /// (CVE-2023-48795): packets can be cut out of the beginning of the connection. Never retried.
    #[error(
        "host {host} does not offer strict key exchange, without which {cipher} is not safe (CVE-2023-48795)"
    )]
    NotStrict {
        /// The host.
        host: HostName,
        /// The agreed cipher.
        cipher: String,
    },
    /// A configured list of algorithms or methods leaves none that is supported here.
    #[error("{keyword} of host {host} leaves nothing that is supported")]
    NoAlgorithm {
        /// The host.
        host: HostName,
        /// The ssh_config keyword.
        keyword: &'static str,
    },
    /// A known_hosts file cannot be read or written, so no host key can be judged: the connection is refused.
    #[error("the host key file {} cannot be used", .path.display())]
    KnownHosts {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing that was offered was accepted. Never retried.
    #[error("host {host} accepted none of the offered keys ({})", describe(.tried))]
    AuthFailed {
        /// The host.
        host: HostName,
        /// Each key and what became of it, in order. For the person: it names key files.
        tried: Vec<Attempt>,
        /// The methods that the server would go on with.
        methods: Vec<String>,
    },
    /// The server would take this key, but it is encrypted and there is nobody to ask for its passphrase.
    #[error("the key {} for host {host} is encrypted, and nobody can be asked for its passphrase", .path.display())]
    KeyEncrypted {
        /// The host.
        host: HostName,
        /// The key file.
        path: PathBuf,
    },
    /// An identity file that was asked for by name cannot be used, and no other key was accepted.
    #[error("the key file {} cannot be used", .path.display())]
    KeyFile {
        /// The key file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<KeyFileError>,
    },
    /// No offered key was accepted, and one of them is a certificate whose time is over or has not begun.
    #[error("the certificate {certificate} for host {host} does not count: {fault} ({})", describe(.tried))]
    UserCertificate {
        /// The host.
        host: HostName,
        /// What a person knows the certificate by. It may be a path.
        certificate: String,
        /// What is wrong with it.
        fault: Box<CertificateFault>,
        /// Each key and what became of it, in order. For the person: it names key files.
        tried: Vec<Attempt>,
    },
    /// The connection died. What the last request did on the host is unknown; see the module's documentation.
    #[error("the connection to host {host} was lost")]
    Lost {
        /// The host.
        host: HostName,
        /// Why.
        #[source]
        source: LostCause,
    },
    /// The server did not open another channel; the connection lives on.
    #[error("host {host} refused to open a channel ({reason})")]
    ChannelRefused {
        /// The host.
        host: HostName,
        /// The reason as RFC 4254 section 5.1 names it.
        reason: String,
    },
    /// The server did not connect to the other end of a forward; the connection lives on.
    #[error("host {host} did not connect to the end of the forward ({reason})")]
    ForwardRefused {
        /// The host.
        host: HostName,
        /// The reason as RFC 4254 section 5.1 names it.
        reason: String,
    },
    /// A port of this machine cannot be listened on, or accepts no connection.
    #[error("port {port} of this machine cannot be used")]
    LocalPort {
        /// The port.
        port: u16,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The server did not run the command; the connection lives on.
    #[error("host {host} refused to run a command ({what})")]
    ExecRefused {
        /// The host.
        host: HostName,
        /// What the command was for.
        what: &'static str,
    },
    /// The server has no SFTP subsystem, or what answers there does not speak SFTP.
    #[error("host {host} offers no SFTP")]
    SftpUnavailable {
        /// The host.
        host: HostName,
    },
    /// The remote file or its directory does not exist.
    #[error("host {host}: {path} does not exist")]
    NotFound {
        /// The host.
        host: HostName,
        /// The file.
        path: RemotePath,
    },
    /// The remote file or directory exists already.
    #[error("host {host}: {path} exists already")]
    AlreadyExists {
        /// The host.
        host: HostName,
        /// The file.
        path: RemotePath,
    },
    /// The user may not do that there.
    #[error("host {host}: permission denied for {path}")]
    PermissionDenied {
        /// The host.
        host: HostName,
        /// The file.
        path: RemotePath,
    },
    /// The remote disk or quota is full.
    ///
    /// SFTP version 3 has no code for this, and OpenSSH answers a plain failure: a write that fails after the file
    /// was opened is looked at again with `statvfs@openssh.com`, and reported as this when no block is free.
    #[error("host {host}: no space left for {path}")]
    NoSpace {
        /// The host.
        host: HostName,
        /// The file.
        path: RemotePath,
    },
    /// The remote file is larger than was asked for.
    #[error("host {host}: {path} is larger than {limit} bytes")]
    TooLarge {
        /// The host.
        host: HostName,
        /// The file.
        path: RemotePath,
        /// The limit in bytes.
        limit: u64,
    },
    /// The host reported another failure on a file, or its answer made no sense.
    #[error("host {host}: {path}: {message:?}")]
    Remote {
        /// The host.
        host: HostName,
        /// The file.
        path: RemotePath,
        /// The host's own words, at most 500 characters of them.
        message: String,
    },
    /// The attempt to connect that this caller waited for, together with others, failed: the same error for all.
    #[error(transparent)]
    Shared(Arc<SshError>),
    /// A local file cannot be read or written.
    #[error("{} cannot be used", .path.display())]
    Local {
        /// The local file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl SshError {
    /// The error itself, also when several callers share it.
    #[must_use]
    pub fn unshared(&self) -> &Self {
        match self {
            Self::Shared(error) => error.unshared(),
            error => error,
        }
    }

    /// Whether the connection is gone, so that the same request can only be made on a new one.
    #[must_use]
    pub fn is_connection_loss(&self) -> bool {
        matches!(self.unshared(), Self::Lost { .. })
    }

    /// Whether dialling again a little later can help. Never true for host keys and authentication, a server that does not
    /// answer a login in time included.
    #[must_use]
    pub fn is_retryable_dial(&self) -> bool {
        match self.unshared() {
            // Somebody may have been asked, or the agent, and would be again.
            Self::TimedOut { what, .. } => *what != AUTHENTICATION,
            error => matches!(
                error,
                Self::Refused { .. }
                    | Self::Unreachable { .. }
                    | Self::JumpRefused {
                        unreachable: true,
                        ..
                    }
                    | Self::Handshake {
                        source: LostCause::Closed | LostCause::Io(_) | LostCause::Silent,
                        ..
                    }
                    | Self::Lost { .. }
            ),
        }
    }
}

/// An error and its causes on one line, where no chain of them can be kept.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The first `limit` characters of a remote text, for an error's field.
pub(super) fn bounded(text: &str, limit: usize) -> String {
    text.trim().chars().take(limit).collect()
}
