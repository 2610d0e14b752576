//! How tests that run on Windows speak with a machine that has a POSIX shell: JSON, a line for a request, a line for its
//! answer, one connection for one machine.
//!
//! The main types are [`Request`] and [`Answer`]. A connection begins with a line that holds a secret; whoever has it
//! may do there whatever the user may.

use std::path::{Path, PathBuf};

use handover::demo::server::ServerOptions;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{PrivateKey, PublicKey};
use serde::{Deserialize, Serialize};

/// What is asked of a machine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Its home directory, with the stand-in agent in it and a directory `jail` beside it.
    Home,
    /// Starts its SSH server.
    Start(Box<Options>),
    /// What its server has counted.
    Count,
    /// Gives its server another host key, in the form of OpenSSH.
    SetHostKey(String),
    /// Drops every connection of its server.
    KillConnections,
    /// Runs a program to its end.
    Run {
        program: String,
        arguments: Vec<String>,
    },
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The home directory, as the machine names it.
    Home(String),
    /// Where its server listens, and the host key in the form of OpenSSH.
    Started { port: u16, host_key: String },
    /// What its server has counted.
    Counted(Counts),
    /// It is done.
    Done,
    /// Whether the program has succeeded.
    Ran(bool),
    /// It cannot be done.
    Failed(String),
}

/// See the methods of the same names of the server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) execs: u64,
    pub(crate) forwarded_channels: (u64, u64),
}

/// [`ServerOptions`] without the home directory, which is the machine's own.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Options {
    authorized_key: String,
    host_key: Option<String>,
    user: String,
    login_shell: String,
    path: String,
    environment: Vec<(String, String)>,
    sftp: bool,
    sftp_root: Option<String>,
    banner_noise: Option<String>,
    max_sessions: Option<usize>,
    refuse_exec: Option<String>,
    kills_at_logout: bool,
    open_forwarded_channel: bool,
}

impl From<&ServerOptions> for Options {
    fn from(options: &ServerOptions) -> Self {
        let posix = |text: &std::ffi::OsStr| posix(text.to_str().unwrap());
        Self {
            authorized_key: options.authorized_key.to_openssh().unwrap(),
            host_key: options.host_key.as_ref().map(written),
            user: options.user.clone(),
            login_shell: posix(options.login_shell.as_os_str()),
            path: posix(&options.path),
            environment: options
                .environment
                .iter()
                .map(|(name, value)| (posix(name), posix(value)))
                .collect(),
            sftp: options.sftp,
            sftp_root: options.sftp_root.as_deref().map(Path::as_os_str).map(posix),
            banner_noise: options.banner_noise.clone(),
            max_sessions: options.max_sessions,
            refuse_exec: options.refuse_exec.clone(),
            kills_at_logout: options.kills_at_logout,
            open_forwarded_channel: options.open_forwarded_channel,
        }
    }
}

impl Options {
    /// The options of a server over this home directory.
    pub(crate) fn with_home(self, home: &Path) -> ServerOptions {
        let key: PublicKey = self.authorized_key.parse().unwrap();
        let mut options = ServerOptions::new(home, key);
        options.host_key = self.host_key.as_deref().map(read);
        options.user = self.user;
        options.login_shell = PathBuf::from(self.login_shell);
        options.path = self.path.into();
        let entry = |(name, value): (String, String)| (name.into(), value.into());
        options.environment = self.environment.into_iter().map(entry).collect();
        options.sftp = self.sftp;
        options.sftp_root = self.sftp_root.map(PathBuf::from);
        options.banner_noise = self.banner_noise;
        options.max_sessions = self.max_sessions;
        options.refuse_exec = self.refuse_exec;
        options.kills_at_logout = self.kills_at_logout;
        options.open_forwarded_channel = self.open_forwarded_channel;
        options
    }
}

/// A private key in the form of OpenSSH.
pub(crate) fn written(key: &PrivateKey) -> String {
    key.to_openssh(LineEnding::LF).unwrap().to_string()
}

/// The private key that was written so.
pub(crate) fn read(text: &str) -> PrivateKey {
    PrivateKey::from_openssh(text).unwrap()
}

/// A path of that machine that was put together on Windows.
fn posix(path: &str) -> String {
    if cfg!(windows) {
        path.replace('\\', "/")
    } else {
        path.to_owned()
    }
}
