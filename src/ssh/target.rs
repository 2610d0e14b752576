//! A host that is ready to be dialled.
//!
//! Main type: [`Target`]. Invariant: nothing in it needs resolving but the address's name in the DNS.

use std::path::PathBuf;

use crate::hosts::HostName;

/// What a configured host is once its configuration has been resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
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
}
