//! An SSH and SFTP server inside this process, over the real file system and with real processes.
//!
//! The main type is [`DemoServer`]. It listens on loopback only, lets one public key in under any user name,
//! and runs what it is asked to run with the rights of this process: it is a stand-in for a host that belongs
//! to whoever started it, and never a server for others. Like sshd, it does not end the processes that it has
//! started when a channel or a connection closes: only their pipes go.
//!
//! [`ServerOptions`] makes it the awkward hosts that exist: without SFTP, with a noisy login shell, with few
//! sessions a connection, with a shell that refuses, with nothing that outlives a logout.
//!
//! Where there is no POSIX shell, [`DemoServer::start`] refuses.

#[cfg(unix)]
mod channel;
#[cfg(unix)]
mod connection;
mod error;
#[cfg(unix)]
mod exec;
#[cfg(unix)]
mod files;
#[cfg(unix)]
mod listener;
#[cfg(not(unix))]
#[path = "unsupported.rs"]
mod listener;
#[cfg(unix)]
mod logout;
mod options;
#[cfg(unix)]
mod paths;
#[cfg(unix)]
mod sftp;
#[cfg(unix)]
mod state;

pub use error::DemoError;
pub use listener::DemoServer;
pub use options::ServerOptions;
