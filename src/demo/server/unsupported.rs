//! The demonstration server where there is no POSIX shell: it cannot start.

use std::convert::Infallible;
use std::net::SocketAddr;

use russh::keys::{PrivateKey, PublicKey};

use super::{DemoError, ServerOptions};

/// A demonstration server. On this platform none can exist: [`DemoServer::start`] always refuses.
#[derive(Debug)]
pub struct DemoServer {
    never: Infallible,
}

impl DemoServer {
    /// Refuses.
    ///
    /// # Errors
    /// [`DemoError::NoPosixShell`], always.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn start(_options: ServerOptions) -> Result<Self, DemoError> {
        Err(DemoError::NoPosixShell)
    }

    /// The address that the server listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        match self.never {}
    }

    /// The host key that new connections are shown.
    #[must_use]
    pub fn host_key(&self) -> PublicKey {
        match self.never {}
    }

    /// Gives the server another host key, for the connections to come.
    pub fn set_host_key(&self, _key: PrivateKey) {
        match self.never {}
    }

    /// How many TCP connections have been accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        match self.never {}
    }

    /// How many commands have been asked for.
    #[must_use]
    pub fn execs(&self) -> u64 {
        match self.never {}
    }

    /// How many SFTP sessions have been opened.
    #[must_use]
    pub fn sftp_sessions(&self) -> u64 {
        match self.never {}
    }

    /// How many unasked channels were accepted and how many refused by clients.
    #[must_use]
    pub fn forwarded_channels(&self) -> (u64, u64) {
        match self.never {}
    }

    /// Drops every live connection and goes on listening.
    pub fn kill_connections(&self) {
        match self.never {}
    }

    /// Stops listening and drops every connection.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn stop(self) {
        match self.never {}
    }
}
