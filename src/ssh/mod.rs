//! One SSH connection per host: dial, host keys, authentication, commands and files.
//!
//! # How a connection comes about
//! [`Connection::open`] takes a [`Target`] (a host whose address, port and user are settled) and [`ConnectOptions`].
//! It resolves the name, tries the addresses a quarter of a second apart, exchanges keys, checks the host key,
//! authenticates, and returns a handle that is cheap to clone. Each of these waits has its own deadline, and the
//! error names it.
//!
//! # Host keys
//! [`KnownHosts`] reads the files as ssh(1) does: plain, hashed and pattern names, `[host]:port`, comma lists, negation,
//! several keys a host; a bare name counts for every port. The user's and the system's files are read, or those that the
//! host's settings name, and always our own ([`ConnectOptions::trusted_hosts`]). A line that does not parse is skipped
//! with a warning; a file that exists and cannot be read fails the connection.
//!
//! | on record | what happens |
//! |---|---|
//! | this key | the connection goes on |
//! | `@revoked`: this key, or the authority of its certificate | [`SshError::HostKeyRevoked`], whatever else is there |
//! | `@cert-authority`: the authority of its certificate | the connection goes on when the certificate's time, names, options, kind and signature hold; else [`SshError::HostCertificate`], unless the key itself is on record |
//! | other keys | [`SshError::HostKeyChanged`]. [`KnownHosts::replace`] is for a person who has seen both |
//! | nothing | the [`Prompt`] decides when there is one, and the key is written down; else [`SshError::HostKeyUnknown`]. `StrictHostKeyChecking` `yes` asks nobody, `accept-new` accepts and writes |
//!
//! The algorithms on record are offered first, so that a server shows the key that is known; certificates are asked for
//! only where an authority or a revocation is on record. SHA-1 is never offered. A server that agrees on a cipher
//! open to the Terrapin attack must know strict key exchange ([`SshError::NotStrict`]). Nothing of this is ever retried.
//!
//! # Authentication
//! The methods are tried in OpenSSH's order, or that of `PreferredAuthentications`: keys, the server's questions
//! (keyboard-interactive), a password. The last two need a [`Prompt`]. A server that wants several methods gets them.
//!
//! Keys are offered in OpenSSH's order: certificates (`CertificateFile`, those beside the key files, the agent's own);
//! keys that the agent has and that are configured; the agent's other keys (not with `IdentitiesOnly`); keys in files
//! alone. The agent is the one of the environment, `IdentityAgent`, or on Windows OpenSSH's pipe or Pageant. Key files are
//! read in every format that OpenSSH has written (its own, PKCS#1 and SEC1 PEM, PKCS#8, each encrypted or not); a key
//! that lives in a security key works through an agent. A key file that others can read is not used, as in ssh(1).
//!
//! Servers disconnect at the sixth failure, so at most five keys are offered, of which the first two in files keep their
//! place when an agent is full of others; a person then still has one try. A passphrase is asked for only after the
//! server has said that it would take that key.
//!
//! [`SshError::AuthFailed`] lists what was tried and what became of it. Where one thing explains the failure, the error
//! says just that: [`SshError::KeyEncrypted`] (nobody could open a key that would do), [`SshError::UserCertificate`]
//! (expired or not yet valid), [`SshError::KeyFile`] (the only key that was named cannot be used).
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
pub use host_key::{CertificateFault, CertificateVerdict, KnownHosts, RecordedKey, Verdict};
pub use identity::KeyFileError;
pub(crate) use identity::exposed_key_files;
pub use options::{
    AgentSource, Challenge, ConnectOptions, Deadlines, IdleTime, Keepalive, LoginAs, MaxChannels,
    Prompt, Question, RekeyLimit, UnknownHostKey,
};
pub use path::{InvalidRemotePath, RemotePath};
pub use pool::Pool;
pub use sftp::SftpFiles;
pub use target::Target;
