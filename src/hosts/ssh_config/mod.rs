//! OpenSSH's client configuration, `~/.ssh/config`, as ssh_config(5) describes it.
//!
//! Main type: [`SshConfig`]: the user's file, the system's, and what they include, read by [`SshConfig::load`];
//! [`SshConfig::resolve`] gives what they say of one host, as a [`ResolvedHost`]. Invariant: nothing is half-honoured.
//! What is read means what it means to ssh(1), held against `ssh -G`; what is not is named
//! ([`ResolvedHost::notes`]) or refuses the host ([`SshConfigError`]).
//!
//! # What becomes of each keyword
//!
//! `Host` (patterns, negation), `Match` (`host`, `originalhost`, `user`, `localuser`, `all`, `final`, `canonical`, and
//! `!`) and `Include` (patterns, relative paths, `~`, `${...}`, `%d %i %L %l %u`; 16 levels) divide the configuration. A
//! host that a `Match exec`, or a criterion that is not named here, could apply to is refused: no command is run, and
//! nothing is guessed. The same goes for an `Include` that cannot be followed: with the tokens of a host, an unset
//! variable, or the home of another user. All else:
//!
//! | class | keywords |
//! |---|---|
//! | honoured: the host | `Hostname` (`%h`), `User`, `Port`, `ProxyJump` (tokens; hops with their own configuration), `ProxyCommand` (`none`; else the host is refused) |
//! | honoured: keys | `IdentityFile`, `IdentitiesOnly`, `CertificateFile`, `IdentityAgent`, `PubkeyAcceptedAlgorithms`, `RequiredRSASize` (host keys too) |
//! | honoured: methods | `PreferredAuthentications`, `PubkeyAuthentication`, `PasswordAuthentication`, `KbdInteractiveAuthentication` |
//! | honoured: host keys | `UserKnownHostsFile`, `GlobalKnownHostsFile`, `HostKeyAlias`, `HostKeyAlgorithms`, `CASignatureAlgorithms`, `HashKnownHosts`, `StrictHostKeyChecking` (`no` and `off` count as `ask`) |
//! | honoured: the connection | `Ciphers`, `MACs`, `KexAlgorithms`, `ConnectTimeout`, `ConnectionAttempts`, `ServerAliveInterval`, `ServerAliveCountMax` |
//! | honoured: the file | `IgnoreUnknown` |
//! | refused, without it the host would be another one, or reached otherwise | `CanonicalizeHostname`, `BindAddress`, `BindInterface`, `RefuseConnection` |
//! | refused, without it something would be trusted that it excludes | `RevokedHostKeys`, `KnownHostsCommand`, `CheckHostIP` |
//! | ignored, it opens something that stays shut: forwards, commands, sharing | `ForwardAgent`, `ForwardX11`, `ForwardX11Timeout`, `ForwardX11Trusted`, `LocalForward`, `RemoteForward`, `DynamicForward`, `GatewayPorts`, `PermitRemoteOpen`, `ClearAllForwardings`, `ExitOnForwardFailure`, `StreamLocalBindMask`, `StreamLocalBindUnlink`, `Tunnel`, `TunnelDevice`, `PermitLocalCommand`, `LocalCommand`, `RemoteCommand`, `SendEnv`, `SetEnv`, `ControlMaster`, `ControlPath`, `ControlPersist`, `AddKeysToAgent`, `UseKeychain`, `UpdateHostKeys`, `XAuthLocation` |
//! | ignored, it accepts what is otherwise asked for or refused | `VerifyHostKeyDNS`, `NoHostAuthenticationForLocalhost` |
//! | ignored, a way to log in that is not tried | `GSSAPIAuthentication`, `GSSAPIClientIdentity`, `GSSAPIDelegateCredentials`, `GSSAPIKexAlgorithms`, `GSSAPIKeyExchange`, `GSSAPIRenewalForcesRekey`, `GSSAPIServerIdentity`, `GSSAPITrustDns`, `HostbasedAuthentication`, `HostbasedAcceptedAlgorithms`, `EnableSSHKeysign`, `PKCS11Provider`, `SecurityKeyProvider`, `KbdInteractiveDevices` |
//! | ignored, of no weight for trust | `AddressFamily`, `BatchMode`, `CanonicalDomains`, `CanonicalizeFallbackLocal`, `CanonicalizeMaxDots`, `CanonicalizePermittedCNAMEs` (with `CanonicalizeHostname` alone), `ChannelTimeout`, `Compression`, `EnableEscapeCommandline`, `EscapeChar`, `FingerprintHash`, `ForkAfterAuthentication`, `IPQoS`, `LogLevel`, `LogVerbose`, `NumberOfPasswordPrompts`, `ObscureKeystrokeTiming`, `ProxyUseFdpass`, `RekeyLimit`, `RequestTTY`, `SessionType`, `StdinNull`, `SyslogFacility`, `Tag` (no `Match tagged` is evaluated), `TCPKeepAlive`, `VersionAddendum`, `VisualHostKey`, `WarnWeakCrypto` |
//!
//! A keyword with the value that says what is so anyway (`ForwardAgent no`) is not named, nor is one that ssh(1) itself
//! passes over today (`Protocol`, `UseRoaming`, `RSAAuthentication`). Any other keyword is an error
//! for the hosts that it applies to, unless `IgnoreUnknown` names it.
//!
//! # Where it differs from ssh(1)
//!
//! - A bad value is an error for the hosts that the line applies to; for ssh(1) it ends every run.
//! - `~` and `%d` are the home that the environment names; for ssh(1) it is the one in the user database. The home of
//!   another user (`~name`) is refused.
//! - known_hosts files and agents with relative paths are refused.
//! - Variables and tokens in an `Include` are expanded, as by ssh(1) from OpenSSH 9.9 on; those before it take them for
//!   parts of a file's name.
//! - A configuration file that cannot be opened is an error, and a missing one is empty, an included one too;
//!   the one that `HANDOVER_SSH_CONFIG` names must be there.
//! - `ServerAliveInterval 0` does not turn the keepalive off: the time of the library's own settings holds, so that a
//!   silent link is always noticed.
//! - `HANDOVER_SSH_CONFIG` stands for `ssh -F`, but the file's owner and permissions are checked all the same.

mod criteria;
mod error;
mod keyword;
mod lexer;
mod local;
mod note;
mod numeric;
mod options;
mod owner;
mod pattern;
mod resolve;
mod syntax;
mod token;
mod tree;
mod value;

pub use error::{InvalidSshValue, SshConfigError, SyntaxProblem};
pub use local::LocalMachine;
pub use note::{SshConfigEffect, SshConfigNote};
pub use resolve::ResolvedHost;

use std::collections::BTreeMap;

use super::address::Address;
use super::error::{HostsError, Position};
use super::name::HostName;
use super::places::Places;
use resolve::Resolver;
use tree::{File, Reader};

/// The user's configuration and the system's. The default is an empty one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshConfig {
    /// In order of precedence.
    files: Vec<File>,
    /// Whether a `Match final` stands somewhere.
    second_pass: bool,
    /// The names that `Host` lines have without a wildcard, and where.
    literals: BTreeMap<HostName, Position>,
}

impl SshConfig {
    /// Reads the files that [`Places`] names, and those that they include. `local`: what variables and tokens in an
    /// `Include` mean.
    ///
    /// # Errors
    ///
    /// [`HostsError::Read`], [`HostsError::TooLarge`], and [`HostsError::SshConfig`] with what concerns no host alone.
    pub fn load(places: &Places, local: &LocalMachine) -> Result<Self, HostsError> {
        let mut files = Vec::new();
        if let Some(path) = &places.ssh_config {
            let base = places.ssh_dir();
            let file = Reader::new(local, &base).read(path, true)?;
            if file.is_none() && places.ssh_config_is_named {
                return Err(SshConfigError::Missing { path: path.clone() }.into());
            }
            files.extend(file);
        }
        if let Some(path) = &places.system_ssh_config {
            // As ssh(1): the system's own file is root's business.
            let base = path.parent().unwrap_or(path);
            files.extend(Reader::new(local, base).read(path, false)?);
        }
        let mut literals = BTreeMap::new();
        for file in &files {
            file.literal_hosts(&mut |name, at| {
                // A name that could be no host of ours is one for ssh(1) alone.
                if let Ok(name) = name.parse::<HostName>()
                    && name.as_str().parse::<Address>().is_ok()
                {
                    literals.entry(name).or_insert(at);
                }
            });
        }
        Ok(Self {
            second_pass: files.iter().any(File::asks_for_second_pass),
            files,
            literals,
        })
    }

    /// The hosts that a `Host` line names without a wildcard, in order, and where the first such line is.
    pub fn hosts(&self) -> impl Iterator<Item = (&HostName, &Position)> {
        self.literals.iter()
    }

    /// What the configuration says of a host. `name` is what errors call it; the address's host is what `ssh` would be
    /// called with, and its user and port beat the configuration's.
    ///
    /// # Errors
    ///
    /// [`SshConfigError`], all that name a host.
    pub fn resolve(
        &self,
        name: &HostName,
        address: &Address,
        local: &LocalMachine,
    ) -> Result<ResolvedHost, SshConfigError> {
        let resolver = Resolver {
            config: self,
            local,
            name,
        };
        resolver.resolve(address)
    }

    fn literal(&self, name: &str) -> Option<HostName> {
        let name = name.parse().ok()?;
        self.literals.contains_key(&name).then_some(name)
    }
}

#[cfg(test)]
mod tests;
