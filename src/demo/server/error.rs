//! What keeps the demonstration server from starting.

/// The reason why a [`DemoServer`](super::DemoServer) could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// This platform has no POSIX shell to run commands with.
    #[error("the stand-in host needs a POSIX shell")]
    NoPosixShell,
    /// No port on loopback could be had.
    #[error("cannot listen on a loopback port")]
    Listen(#[source] std::io::Error),
    /// The host key could not be made.
    #[error("cannot make a host key")]
    HostKey(#[source] russh::keys::ssh_key::Error),
}
