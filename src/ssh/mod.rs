//! One SSH connection per host: dial, host keys, authentication, commands and files.
//!
//! # How a connection comes about
//! [`Connection::open`] takes a [`Target`] (a host whose address, port and user are settled) and [`ConnectOptions`].
//! It resolves the name, tries the addresses a quarter of a second apart, exchanges keys, checks the host key,
//! authenticates, and returns a handle that is cheap to clone. Each of these waits has its own deadline, and the
//! error names it. `ConnectTimeout`, `ConnectionAttempts`, `ServerAliveInterval` and `ServerAliveCountMax` of the target
//! take the place of the options'.
//!
//! A server that has as many logins under way as it allows (`MaxStartups`) hangs up before it shows its key; it is
//! dialled again with growing jittered delays, half a minute at most, also by [`scan_host_key`]. Nothing is repeated once
//! a key was shown: neither a refused host key nor a rejected login is ever tried again.
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
//! only where an authority or a revocation is on record. No signature over SHA-1 is offered, nor is an RSA key taken
//! that has fewer than 1024 bits (or `RequiredRSASize`), or more than 8192, the library's bound. A server that agrees on a cipher
//! open to the Terrapin attack must know strict key exchange ([`SshError::NotStrict`]). Nothing of this is ever retried.
//! The key is judged once, in the first key exchange; later ones happen inside what that one has encrypted.
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
//! Servers disconnect at the sixth failure, so that the first two keys in files keep a place among the first five when an
//! agent is full of others. Where the server takes a password or asks questions, and there is a [`Prompt`], the last try
//! is the person's; elsewhere keys are offered until the server ends the login. A passphrase is asked for only after the
//! server has said that it would take that key; only an encrypted PEM file without a `.pub` beside it does not show its
//! public half, and is opened before anything is offered. What a person types is wiped from memory here; the answers to
//! a server's questions pass through russh, which does not wipe its copies.
//!
//! A person is asked one thing at a time, however many connections share the options, and [`Deadlines::person`] counts
//! from the question. After one that stays without an answer the login asks nothing more, nor does whoever waited for a
//! turn meanwhile. A passphrase that has opened a key file is kept with the options; passwords are not, for they would be
//! sent to a server that nobody has been told of. An agent may ask the person itself: its signature has the person's time
//! where there is a [`Prompt`].
//!
//! [`SshError::AuthFailed`] lists what was tried and what became of it. Where one thing explains the failure, the error
//! says just that: [`SshError::KeyEncrypted`] (nobody could open a key that would do), [`SshError::UserCertificate`]
//! (expired or not yet valid), [`SshError::KeyFile`] (the only key that was named cannot be used).
//!
//! # Jump hosts
//! [`Target::jumps`] are connected to one through the other. Every hop is a connection of its own: its host key is
//! checked and its login done by its own settings, and it sees only the encrypted bytes of the next. An error has the
//! name of the hop at which it happened; a hop that dies shows as [`LostCause::Jump`] to everybody behind it. The hops of
//! [`Connection::open`] end with the last clone of the connection; those of a [`Pool`] are shared as its connections are.
//!
//! # One connection for all callers
//! [`Pool::connect`] hands out the connection to a target that is there, or makes it, once, however many ask. A failed
//! attempt is told to all who waited for it ([`SshError::Shared`]) and is not remembered. A connection that has ended is
//! replaced by the next call, and one that nobody holds is closed after [`ConnectOptions::idle`].
//!
//! Servers limit the commands and SFTP sessions of one connection (`MaxSessions`). They are taken in turn: an idle SFTP
//! session gives its channel back when somebody waits, one that is in use does so when its last request is done, and the
//! number that a server turns out to allow is remembered. A turn may take as long as somebody else's large file:
//! [`Deadlines::turn`].
//!
//! # Links that die
//! Every waiting caller gets [`SshError::Lost`] at once when the link ends. One that is silent is noticed by the
//! keepalive, also while a write waits for the socket, and within some 15 s after the machine has slept, whatever the
//! keepalive's interval. A transfer in which nothing moves fails with [`SshError::TimedOut`], which names it; one in which
//! something does goes on, however slow the link. Keys are exchanged anew as both sides' limits ask
//! ([`ConnectOptions::rekey`]). Nothing here dials again by itself: only the caller knows whether its work can be
//! repeated.
//!
//! # Forwards
//! [`Connection::forward_local`] makes a port of 127.0.0.1 lead to a port or a Unix socket behind the host, and to no
//! other address of this machine; [`LocalPort`] keeps such a port while connections come and go. The library has one
//! flow control for all channels: a program that does not read what is forwarded to it holds up the whole connection in
//! the end, so forwards are better off with one of their own.
//!
//! # What each error means
//! | error | meaning | dial again? |
//! |---|---|---|
//! | [`Resolve`](SshError::Resolve) | the name has no address | when the network has changed |
//! | [`Refused`](SshError::Refused), [`Unreachable`](SshError::Unreachable), [`TimedOut`](SshError::TimedOut) | nothing listens; no way there; no answer in time | later |
//! | [`Handshake`](SshError::Handshake) | it answers, and no session came about | later, unless the protocol failed |
//! | [`JumpRefused`](SshError::JumpRefused) | a jump host may not, or could not, pass the connection on | only if it could not |
//! | the host key errors | see above | never |
//! | [`AuthFailed`](SshError::AuthFailed) and the key errors; [`TimedOut`](SshError::TimedOut) of the authentication | see above | never |
//! | [`Lost`](SshError::Lost) | the link ended; see below | yes |
//! | [`ChannelRefused`](SshError::ChannelRefused), [`ExecRefused`](SshError::ExecRefused), [`SftpUnavailable`](SshError::SftpUnavailable) | the server does not do that; the connection lives on | no |
//! | the file errors | one request failed; the connection lives on | no |
//!
//! [`SshError::is_retryable_dial`] and [`SshError::is_connection_loss`] say the same to a program.
//!
//! # Commands and files
//! [`Connection::exec`] runs one command with bounded output and a deadline; [`Connection::exec_with`]
//! also tells the output as it comes. Files move over SFTP
//! ([`Connection::sftp`]) or, where that is missing or sees another file system, over commands
//! ([`Connection::exec_files`]); both are [`Files`]. Transfers are pipelined; a large upload over a long link takes a
//! second channel when there is one to spare. One that was cut is done again whole: no prefix is ever trusted.
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
mod movement;
mod options;
mod path;
mod person;
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
pub use exec::{ExecChunk, ExecOptions, ExecOutput, ExitStatus};
pub use exec_files::ExecFiles;
pub use files::{Files, Progress};
pub use forward::{Forward, ForwardTo, InvalidForwardTo, LocalPort};
pub use host_key::{
    CertificateFault, CertificateVerdict, HostKeyFault, KnownHosts, RecordedKey, Verdict,
};
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
