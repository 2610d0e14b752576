//! One SSH connection per host: dial, host keys, authentication, commands and files.
//!
//! # How a connection comes about
//! [`Connection::open`] takes a [`Target`] (a host whose address, port and user are settled) and [`ConnectOptions`].
//! It resolves the name, tries the addresses a quarter of a second apart, exchanges keys, checks the host key,
//! authenticates, and returns a handle that is cheap to clone. Each of these waits has its own deadline, and the
//! error names it.
//!
//! # Host keys
//! [`KnownHosts`] reads the files as ssh(1) does: plain, hashed and pattern names, `[host]:port`, negation, several
//! keys a host. `@revoked` beats everything; a key under `@cert-authority` is never taken for a host's own key. A file
//! that exists and cannot be read fails the connection. An unknown key is shown to the [`Prompt`] when there is one
//! and refused otherwise. A changed or revoked key is always refused.
//!
//! # Authentication
//! Public keys only. The explicit identity files of the [`Target`] come first, wherever their private half lives
//! (agent or file); then the agent's other keys; without explicit files: the agent's keys, then the default files of
//! `~/.ssh`. At most five keys are offered, because servers disconnect at the sixth failure. A person is asked for a
//! passphrase only after the server has said that it would take that key.
//!
//! # Commands and files
//! [`Connection::exec`] runs one command with bounded output and a deadline. Files move over SFTP
//! ([`Connection::sftp`]) or, where that is missing or sees another file system, over commands
//! ([`Connection::exec_files`]); both are [`Files`].
//!
//! # What is unknown after a lost connection
//! [`SshError::Lost`] says that the link died, to every waiting caller at once. Whether the last command ran, and how
//! far, is then unknown: reconnect and look at what it left behind. A file appears under its own name only when it is
//! whole, because every write goes to `NAME.part` and is renamed; a `.part` may be left.
//!
//! # Invariant
//! Nothing a server sends is trusted: replies, banners and output are bounded, names are never taken from it, and
//! every channel that it opens is refused.

mod algorithms;
mod auth;
mod cause;
mod channel;
mod connection;
mod dial;
mod error;
mod exec;
mod exec_files;
mod exec_transfer;
mod files;
mod forward;
mod handler;
mod host_key;
mod identity;
mod jump;
mod link;
mod options;
mod path;
mod pool;
mod sftp;
mod sftp_session;
mod sftp_transfer;
mod target;
mod wake;

pub use auth::{Attempt, AttemptOutcome};
pub use cause::LostCause;
pub use connection::Connection;
pub use dial::{HostKeyInfo, scan_host_key};
pub use error::SshError;
pub use exec::{ExecOptions, ExecOutput, ExitStatus};
pub use exec_files::ExecFiles;
pub use files::{Files, Progress};
pub use forward::{Forward, ForwardTo, InvalidForwardTo, LocalPort};
pub use host_key::{CertificateFault, CertificateVerdict, KnownHosts, Verdict};
pub use identity::KeyFileError;
pub use options::{
    AgentSource, Challenge, ConnectOptions, Deadlines, IdleTime, Keepalive, LoginAs, MaxChannels,
    Prompt, Question, RekeyLimit, UnknownHostKey,
};
pub use path::{InvalidRemotePath, RemotePath};
pub use pool::Pool;
pub use sftp::SftpFiles;
pub use target::Target;
