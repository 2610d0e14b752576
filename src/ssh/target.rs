//! A host that is ready to be dialled.
//!
//! Main type: [`Target`]. Invariant: nothing in it needs resolving but the address's name in the DNS.

use std::path::PathBuf;

use crate::hosts::{HostName, SshSettings};

/// The port that known_hosts files do not name.
const DEFAULT_PORT: u16 = 22;

/// What a configured host is once its configuration has been resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Target {
    /// The configured name: all that errors say about the host.
    pub name: HostName,
    /// A DNS name or an IP address; host keys are looked up under it.
    pub address: String,
    /// The TCP port.
    pub port: u16,
    /// The user to log in as.
    pub user: String,
    /// The private key files to use; empty means the default ones.
    pub identity_files: Vec<PathBuf>,
    /// What else is configured.
    pub settings: SshSettings,
    /// The hosts that the connection goes through, the one dialled from here first.
    pub jumps: Vec<Target>,
}

impl Target {
    /// A host that is dialled directly, with the default keys and settings.
    #[must_use]
    pub fn new(name: HostName, address: &str, port: u16, user: &str) -> Self {
        Self {
            name,
            address: address.to_owned(),
            port,
            user: user.to_owned(),
            identity_files: Vec::new(),
            settings: SshSettings::default(),
            jumps: Vec::new(),
        }
    }

    /// Whether both are the same host by the same way, whatever they are called: a hop that has no name of its own is
    /// called after the host that it leads to.
    pub(super) fn is_same_but_for_names(&self, other: &Self) -> bool {
        let renamed = Self {
            name: self.name.clone(),
            jumps: self.jumps.clone(),
            ..other.clone()
        };
        *self == renamed
            && self.jumps.len() == other.jumps.len()
            && self
                .jumps
                .iter()
                .zip(&other.jumps)
                .all(|(hop, other)| hop.is_same_but_for_names(other))
    }

    /// The name and port under which its host keys are looked up and written: the alias, which has no port, or the
    /// address.
    #[must_use]
    pub fn host_key_name(&self) -> (&str, u16) {
        match &self.settings.host_key_alias {
            Some(alias) => (alias, DEFAULT_PORT),
            None => (&self.address, self.port),
        }
    }
}
