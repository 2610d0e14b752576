//! How a connection is made: deadlines, key files, agent, and who can be asked.
//!
//! Main type: [`ConnectOptions`]. Invariant: making one does no I/O.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::person::Person;
use super::target::Target;
use crate::hosts::HostName;

/// The time that each wait on the network may take.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deadlines {
    /// Name resolution and the TCP connection together.
    pub connect: Duration,
    /// From the TCP connection to the end of the key exchange, without the time in which a person is asked.
    pub key_exchange: Duration,
    /// The server's answer to one offered key or password, and the agent's list of keys; the agent's signature too,
    /// where nobody is there who could be asked to confirm it.
    pub auth: Duration,
    /// A person's answer to a question, or touch of a security key.
    pub person: Duration,
    /// The server's confirmation of a channel.
    pub channel_open: Duration,
    /// A channel that others have to give back first, where a server allows few: their work may be a large file.
    pub turn: Duration,
    /// A file transfer in which nothing moves, and one small file request.
    pub progress: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            key_exchange: Duration::from_secs(15),
            auth: Duration::from_secs(30),
            person: Duration::from_secs(110),
            channel_open: Duration::from_secs(15),
            turn: Duration::from_secs(900),
            progress: Duration::from_secs(60),
        }
    }
}

/// Where an SSH agent is found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AgentSource {
    /// `SSH_AUTH_SOCK`; on Windows the pipe of its OpenSSH, then Pageant.
    #[default]
    Auto,
    /// No agent.
    None,
    /// This socket (a named pipe on Windows).
    Path(PathBuf),
}

/// An unknown host key that a person is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownHostKey {
    /// The configured name.
    pub host: HostName,
    /// The address that was dialled.
    pub address: String,
    /// The port that was dialled.
    pub port: u16,
    /// The key's algorithm, such as `ssh-ed25519`.
    pub algorithm: String,
    /// The fingerprint as `SHA256:...`.
    pub fingerprint: String,
}

/// Whose login a person is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoginAs {
    /// The configured name.
    pub host: HostName,
    /// The user to log in as.
    pub user: String,
    /// The address that was dialled.
    pub address: String,
    /// How often the person has answered wrongly on this connection.
    pub tries_before: usize,
}

/// What a server asks in a keyboard-interactive login (RFC 4256). Its texts are the server's: escape them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Challenge {
    /// Whose login this is.
    pub login: LoginAs,
    /// The dialogue's name, at most 2000 characters of it; may be empty.
    pub name: String,
    /// What to do, at most 2000 characters of it; may be empty.
    pub instructions: String,
    /// The questions, at most 16; there may be none.
    pub questions: Vec<Question>,
}

/// One of a server's questions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Question {
    /// The server's words, at most 2000 characters of them.
    pub text: String,
    /// Whether the answer may be seen while it is typed.
    pub echo: bool,
}

/// Somebody at a terminal. Connections that share their options ask one thing at a time; a question whose deadline has
/// passed is dropped, and whoever waited behind it asks nothing.
#[async_trait]
pub trait Prompt: Send + Sync {
    /// Asks for the passphrase of a private key file; `None` when there is no answer.
    async fn passphrase(&self, key_file: &Path) -> Option<Zeroizing<String>>;

    /// Asks whether an unknown host key is the right one. After `true` the key is written down.
    async fn accept_host_key(&self, key: &UnknownHostKey) -> bool;

    /// Asks for the password of a login; `None` when there is no answer, as there never is by default.
    async fn password(&self, _login: &LoginAs) -> Option<Zeroizing<String>> {
        None
    }

    /// Puts a server's questions, and returns as many answers; `None` when there are none, as by default.
    async fn answers(&self, _challenge: &Challenge) -> Option<Vec<Zeroizing<String>>> {
        None
    }
}

/// How connections are made. [`ConnectOptions::new`] has the defaults for a home directory.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// The deadlines.
    pub deadlines: Deadlines,
    /// The silence after which the server is asked whether it is still there.
    pub keepalive: Keepalive,
    /// The user's known_hosts files, which are read and not written.
    pub known_hosts: Vec<PathBuf>,
    /// The system's known_hosts files, which are read and never written.
    pub global_known_hosts: Vec<PathBuf>,
    /// Our own known_hosts file: read too, and the one where trust is written.
    pub trusted_hosts: Option<PathBuf>,
    /// The directory with the default identity files.
    pub identity_dir: Option<PathBuf>,
    /// The agent.
    pub agent: AgentSource,
    /// Who is asked; `None` means that nobody is at a terminal.
    pub(super) person: Option<Person>,
    /// The most channels that are open at the same time on one connection.
    pub max_channels: MaxChannels,
    /// How much passes, and how long, until the keys are exchanged anew.
    pub rekey: RekeyLimit,
    /// How long a [`Pool`](super::Pool) keeps a connection that nobody uses.
    pub idle: IdleTime,
}

/// When this side asks for new keys (`RekeyLimit` of ssh_config(5)); the server has limits of its own.
///
/// The default is RFC 4253's (section 9): 1 GiB in either direction, or an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RekeyLimit {
    /// The bytes in one direction, at most 1 GiB: a larger number counts as that.
    pub bytes: usize,
    /// The time.
    pub after: Duration,
}

impl Default for RekeyLimit {
    fn default() -> Self {
        Self {
            bytes: Self::MAX_BYTES,
            after: Duration::from_secs(3600),
        }
    }
}

impl RekeyLimit {
    /// With more, a nonce could be used twice.
    pub(super) const MAX_BYTES: usize = 1 << 30;
}

/// How long a connection that nobody uses stays open; zero keeps none. The default is a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleTime(pub Duration);

impl Default for IdleTime {
    fn default() -> Self {
        Self(Duration::from_secs(60))
    }
}

/// The system's known_hosts files (ssh_config(5), `GlobalKnownHostsFile`).
fn system_known_hosts() -> Vec<PathBuf> {
    #[cfg(unix)]
    let directory = Some(PathBuf::from("/etc/ssh"));
    #[cfg(windows)]
    let directory = std::env::var_os("ProgramData").map(|data| PathBuf::from(data).join("ssh"));
    directory.map_or_else(Vec::new, |directory| {
        vec![
            directory.join("ssh_known_hosts"),
            directory.join("ssh_known_hosts2"),
        ]
    })
}

/// Keepalive messages: one per `interval` of silence, the link is dead after `misses` without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// The silence before one is sent.
    pub interval: Duration,
    /// How many may stay unanswered.
    pub misses: usize,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(15),
            misses: 3,
        }
    }
}

/// The most channels on one connection: 8, because OpenSSH servers allow 10 sessions by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxChannels(pub usize);

impl Default for MaxChannels {
    fn default() -> Self {
        Self(8)
    }
}

impl ConnectOptions {
    /// The defaults for a home directory: its `.ssh/known_hosts`, `.ssh/known_hosts2` and identities, the system's
    /// `ssh_known_hosts` files, and the agent.
    #[must_use]
    pub fn new(home: &Path) -> Self {
        let ssh = home.join(".ssh");
        Self {
            known_hosts: vec![ssh.join("known_hosts"), ssh.join("known_hosts2")],
            global_known_hosts: system_known_hosts(),
            identity_dir: Some(ssh),
            ..Self::default()
        }
    }

    /// Sets our own known_hosts file, where trust is written.
    #[must_use]
    pub fn trusted_hosts(mut self, file: PathBuf) -> Self {
        self.trusted_hosts = Some(file);
        self
    }

    /// Sets the agent.
    #[must_use]
    pub fn agent(mut self, agent: AgentSource) -> Self {
        self.agent = agent;
        self
    }

    /// Sets who is asked: one question at a time, however many connections are made with these options and their
    /// clones. A passphrase that has opened a key file is kept, in memory that is wiped, until the last clone is gone:
    /// the same file is not asked about twice.
    #[must_use]
    pub fn prompt(mut self, prompt: Arc<dyn Prompt>) -> Self {
        self.person = Some(Person::new(prompt));
        self
    }

    /// Asks nobody.
    #[must_use]
    pub fn no_prompt(mut self) -> Self {
        self.person = None;
        self
    }

    /// Whether somebody is asked.
    #[must_use]
    pub fn has_prompt(&self) -> bool {
        self.person.is_some()
    }

    /// These options with the times that a target's own settings name.
    pub(super) fn for_target(&self, target: &Target) -> Self {
        let mut options = self.clone();
        let settings = &target.settings;
        if let Some(timeout) = settings.connect_timeout {
            // As ssh(1), which counts the exchange of versions and keys in.
            options.deadlines.connect = timeout;
            options.deadlines.key_exchange = timeout;
        }
        if let Some(interval) = settings
            .server_alive_interval
            .filter(|time| !time.is_zero())
        {
            options.keepalive.interval = interval;
        }
        if let Some(misses) = settings.server_alive_count_max {
            options.keepalive.misses = usize::try_from(misses).unwrap_or(usize::MAX).max(1);
        }
        options
    }

    /// Every known_hosts file that is read for a host: the user's, the system's, and our own. The host's settings
    /// replace the first two.
    #[must_use]
    pub fn host_key_files(&self, target: &Target) -> Vec<PathBuf> {
        let settings = &target.settings;
        let user = settings.user_known_hosts_files.as_ref();
        let global = settings.global_known_hosts_files.as_ref();
        user.unwrap_or(&self.known_hosts)
            .iter()
            .chain(global.unwrap_or(&self.global_known_hosts))
            .chain(&self.trusted_hosts)
            .cloned()
            .collect()
    }

    /// The files of those that are the user's: what is on record there can be replaced.
    #[must_use]
    pub fn own_host_key_files(&self, target: &Target) -> Vec<PathBuf> {
        let user = target.settings.user_known_hosts_files.as_ref();
        user.unwrap_or(&self.known_hosts)
            .iter()
            .chain(&self.trusted_hosts)
            .cloned()
            .collect()
    }

    /// The file where trust in a host is written: the first one that its settings name, else our own.
    #[must_use]
    pub fn trust_file(&self, target: &Target) -> Option<PathBuf> {
        let configured = target.settings.user_known_hosts_files.as_ref();
        configured
            .and_then(|files| files.first())
            .or(self.trusted_hosts.as_ref())
            .cloned()
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ConnectOptions")
            .field("deadlines", &self.deadlines)
            .field("keepalive", &self.keepalive)
            .field("known_hosts", &self.known_hosts)
            .field("global_known_hosts", &self.global_known_hosts)
            .field("trusted_hosts", &self.trusted_hosts)
            .field("identity_dir", &self.identity_dir)
            .field("agent", &self.agent)
            .field("prompt", &self.person.is_some())
            .field("max_channels", &self.max_channels.0)
            .field("rekey", &self.rekey)
            .field("idle", &self.idle.0)
            .finish()
    }
}
