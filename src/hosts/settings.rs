//! What is configured of one SSH connection beyond the address, the port, the user and the keys.
//!
//! Main type: [`SshSettings`]. Invariant: what is not set is `None` or empty, and then the SSH layer's own default
//! holds; names of keywords and their meaning are those of ssh_config(5).

use std::path::PathBuf;
use std::time::Duration;

/// The settings of one SSH connection. The default sets nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SshSettings {
    /// `HostKeyAlias`: the name under which host keys are looked up and written, without a port.
    pub host_key_alias: Option<String>,
    /// `IdentitiesOnly`: of an agent's keys only those that are named here too.
    pub identities_only: bool,
    /// `IdentityFile none`: no key file is offered, the default ones neither.
    pub no_identity_files: bool,
    /// `CertificateFile`: certificates beside those that lie next to the key files.
    pub certificate_files: Vec<PathBuf>,
    /// `IdentityAgent`.
    pub identity_agent: IdentityAgent,
    /// `UserKnownHostsFile`; the first one is where trust is written. Empty means none.
    pub user_known_hosts_files: Option<Vec<PathBuf>>,
    /// `GlobalKnownHostsFile`. Empty means none.
    pub global_known_hosts_files: Option<Vec<PathBuf>>,
    /// `StrictHostKeyChecking`.
    pub strict_host_key_checking: StrictHostKeyChecking,
    /// `HashKnownHosts`: names are written hashed.
    pub hash_known_hosts: bool,
    /// `HostKeyAlgorithms`.
    pub host_key_algorithms: Option<AlgorithmList>,
    /// `Ciphers`.
    pub ciphers: Option<AlgorithmList>,
    /// `PubkeyAcceptedAlgorithms`.
    pub pubkey_accepted_algorithms: Option<AlgorithmList>,
    /// `KexAlgorithms`.
    pub kex_algorithms: Option<AlgorithmList>,
    /// `MACs`.
    pub macs: Option<AlgorithmList>,
    /// `CASignatureAlgorithms`: those with which an authority may have signed a host certificate.
    pub ca_signature_algorithms: Option<AlgorithmList>,
    /// `RequiredRSASize`, in bits: an RSA key that is shorter does not count, the host's or one's own.
    pub required_rsa_size: Option<u32>,
    /// `ConnectTimeout`.
    pub connect_timeout: Option<Duration>,
    /// `ConnectionAttempts`, one a second.
    pub connection_attempts: Option<u32>,
    /// `ServerAliveInterval`; zero turns keepalive messages off there, and here leaves the layer's own.
    pub server_alive_interval: Option<Duration>,
    /// `ServerAliveCountMax`.
    pub server_alive_count_max: Option<u32>,
    /// `PreferredAuthentications`: the methods that are tried, in this order.
    pub preferred_authentications: Option<Vec<String>>,
}

/// Where an SSH agent is found, as `IdentityAgent` says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IdentityAgent {
    /// Where the environment says.
    #[default]
    Environment,
    /// No agent.
    None,
    /// At this socket (a named pipe on Windows).
    Socket(PathBuf),
}

/// What happens to a host key that is not on record. A changed or revoked one is refused always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StrictHostKeyChecking {
    /// A person is asked; where there is none, it is refused.
    #[default]
    Ask,
    /// It is refused.
    Yes,
    /// It is accepted and written down.
    AcceptNew,
}

/// A list of algorithms as a configuration writes it; patterns stay patterns, for the SSH layer knows what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlgorithmList {
    /// What the list does to the default one.
    pub change: ListChange,
    /// The names, which may hold `*` and `?`.
    pub names: Vec<String>,
}

/// What an [`AlgorithmList`] does to the default list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListChange {
    /// It takes its place.
    Replace,
    /// `+`: it is appended.
    Append,
    /// `-`: it is taken out.
    Remove,
    /// `^`: it is put in front.
    Prepend,
}
