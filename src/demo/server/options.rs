//! What a demonstration server is like.

use std::ffi::OsString;
use std::path::PathBuf;

use russh::keys::{PrivateKey, PublicKey};

/// The properties of the host that a [`DemoServer`](super::DemoServer) plays.
///
/// [`ServerOptions::new`] gives a well-behaved one; the fields make it an awkward one.
#[derive(Clone)]
#[non_exhaustive]
pub struct ServerOptions {
    /// The home directory: `HOME`, and the directory in which commands start. It must exist.
    pub home: PathBuf,
    /// The one public key that is let in, under any user name.
    pub authorized_key: PublicKey,
    /// The host key; `None` makes a new ed25519 key.
    pub host_key: Option<PrivateKey>,
    /// `USER` and `LOGNAME` of the commands, whatever name the client logged in with.
    pub user: String,
    /// The program that runs commands, as `SHELL -c COMMAND`. Default `/bin/sh`.
    pub login_shell: PathBuf,
    /// `PATH` of the commands. Default `/usr/local/bin:/usr/bin:/bin`.
    pub path: OsString,
    /// More environment variables for the commands; they win over the ones that the server sets.
    pub environment: Vec<(OsString, OsString)>,
    /// Whether the SFTP subsystem exists. Default `true`.
    pub sftp: bool,
    /// The directory that SFTP clients see as `/`, as with `ChrootDirectory` of sshd(8). Commands are not
    /// affected. A different view, not a security boundary: symbolic links lead out of it.
    pub sftp_root: Option<PathBuf>,
    /// A text printed on standard output before the output of every command, as a chatty rc file does.
    pub banner_noise: Option<String>,
    /// How many session channels one connection may have at a time, as `MaxSessions` of sshd_config(5).
    pub max_sessions: Option<usize>,
    /// A text with which every command is refused, with exit status 1, as nologin(8) does.
    pub refuse_exec: Option<String>,
    /// Whether every process that the server started is ended when a connection closes, as logind does with
    /// `KillUserProcesses=yes`. Needs `/proc`.
    pub kills_at_logout: bool,
    /// Whether the server opens a `forwarded-tcpip` channel to each client that has logged in, unasked. A
    /// client must refuse it: see [`DemoServer::forwarded_channels`](super::DemoServer::forwarded_channels).
    pub open_forwarded_channel: bool,
}

impl ServerOptions {
    /// Gives the options of a well-behaved host with this home directory and this key.
    #[must_use]
    pub fn new(home: impl Into<PathBuf>, authorized_key: PublicKey) -> Self {
        Self {
            home: home.into(),
            authorized_key,
            host_key: None,
            user: "demo".to_owned(),
            login_shell: PathBuf::from("/bin/sh"),
            path: OsString::from("/usr/local/bin:/usr/bin:/bin"),
            environment: Vec::new(),
            sftp: true,
            sftp_root: None,
            banner_noise: None,
            max_sessions: None,
            refuse_exec: None,
            kills_at_logout: false,
            open_forwarded_channel: false,
        }
    }
}

impl std::fmt::Debug for ServerOptions {
    /// Leaves out the host key and the values of the environment.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ServerOptions")
            .field("home", &self.home)
            .field("user", &self.user)
            .field("login_shell", &self.login_shell)
            .field("sftp", &self.sftp)
            .field("sftp_root", &self.sftp_root)
            .field("max_sessions", &self.max_sessions)
            .finish_non_exhaustive()
    }
}
