//! The keys that could be offered: those of an agent and those in files.
//!
//! Main type: [`Candidate`]. Invariant: a private key's text lives in zeroized memory, and a passphrase is asked for
//! only on the way through [`decrypt`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::{AgentClient, AgentStream};
use russh::keys::{Error as KeyError, PrivateKey, PublicKey, decode_secret_key};
use zeroize::Zeroizing;

use super::options::{AgentSource, ConnectOptions};
use super::target::Target;
use crate::private_fs;

/// The default identity files, in the order in which they are offered.
const DEFAULT_FILES: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];
/// The largest key file that is read: a 16384 bit RSA key has 13 KB.
const KEY_FILE_LIMIT: u64 = 256 * 1024;

/// An agent behind whatever stream the platform has.
pub(super) type Agent = AgentClient<Box<dyn AgentStream + Send + Unpin>>;

/// A key that can be offered.
pub(super) enum Candidate {
    /// The agent signs.
    Agent {
        /// The agent's name for it.
        identity: Box<AgentIdentity>,
    },
    /// The private key is here.
    Plain {
        /// Its file.
        path: PathBuf,
        /// The key.
        key: Arc<PrivateKey>,
    },
    /// The private key is here, and encrypted.
    Encrypted {
        /// Its file.
        path: PathBuf,
        /// The public half, where the format or a `.pub` file shows it.
        public: Option<PublicKey>,
    },
}

impl Candidate {
    /// The public key, when it is known.
    pub(super) fn public(&self) -> Option<&PublicKey> {
        match self {
            Self::Agent { identity } => match identity.as_ref() {
                AgentIdentity::PublicKey { key, .. } => Some(key),
                AgentIdentity::Certificate { .. } => None,
            },
            Self::Plain { key, .. } => Some(key.public_key()),
            Self::Encrypted { public, .. } => public.as_ref(),
        }
    }

    /// What a person knows the key by.
    pub(super) fn label(&self) -> String {
        let algorithm = self.public().map_or_else(String::new, |key| {
            format!(" ({})", key.algorithm().as_str())
        });
        match self {
            Self::Agent { identity } => {
                let comment: String = identity
                    .comment()
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(100)
                    .collect();
                format!("agent key {comment}{algorithm}")
            }
            Self::Plain { path, .. } | Self::Encrypted { path, .. } => {
                format!("{}{algorithm}", path.display())
            }
        }
    }
}

/// Connects to the agent; `None` when there is none.
pub(super) async fn connect_agent(source: &AgentSource) -> Result<Option<Agent>, KeyError> {
    match source {
        AgentSource::None => Ok(None),
        AgentSource::Path(path) => agent_at(path).await.map(Some),
        AgentSource::Auto => platform_agent().await,
    }
}

#[cfg(unix)]
async fn agent_at(path: &Path) -> Result<Agent, KeyError> {
    Ok(AgentClient::connect_uds(path).await?.dynamic())
}

#[cfg(unix)]
async fn platform_agent() -> Result<Option<Agent>, KeyError> {
    match std::env::var_os("SSH_AUTH_SOCK") {
        Some(path) if !path.is_empty() => agent_at(Path::new(&path)).await.map(Some),
        _ => Ok(None),
    }
}

#[cfg(windows)]
async fn agent_at(path: &Path) -> Result<Agent, KeyError> {
    Ok(AgentClient::connect_named_pipe(path).await?.dynamic())
}

#[cfg(windows)]
async fn platform_agent() -> Result<Option<Agent>, KeyError> {
    if let Ok(agent) = agent_at(Path::new(r"\\.\pipe\openssh-ssh-agent")).await {
        return Ok(Some(agent));
    }
    Ok(AgentClient::connect_pageant()
        .await
        .ok()
        .map(AgentClient::dynamic))
}

/// The default identity files of a directory.
fn default_files(directory: &Path) -> Vec<PathBuf> {
    DEFAULT_FILES
        .iter()
        .map(|name| directory.join(name))
        .collect()
}

/// The key files of a target that others on this machine may read, of those that are there.
pub(crate) async fn exposed_key_files(target: &Target, options: &ConnectOptions) -> Vec<PathBuf> {
    let mut exposed = Vec::new();
    for path in key_files(target, options) {
        if let Ok(file) = tokio::fs::File::open(&path).await
            && is_exposed(&path, file).await
        {
            exposed.push(path);
        }
    }
    exposed
}

async fn is_exposed(path: &Path, file: tokio::fs::File) -> bool {
    let file = file.into_std().await;
    private_fs::others_may_read(&file).unwrap_or_else(|error| {
        tracing::debug!(path = %path.display(), %error, "who may read this key file is unknown");
        false
    })
}

/// The key files that are offered to a target: its own, or else the default ones.
pub(super) fn key_files(target: &Target, options: &ConnectOptions) -> Vec<PathBuf> {
    if !target.identity_files.is_empty() {
        return target.identity_files.clone();
    }
    options
        .identity_dir
        .as_deref()
        .map(default_files)
        .unwrap_or_default()
}

/// Reads a key file without any passphrase.
pub(super) async fn load(path: &Path) -> Result<Candidate, KeyError> {
    let text = read_key(path).await?;
    if is_encrypted(&text) {
        let public = match PrivateKey::from_openssh(text.as_str()) {
            Ok(key) => Some(key.public_key().clone()),
            Err(_) => read_public_twin(path).await,
        };
        return Ok(Candidate::Encrypted {
            path: path.to_owned(),
            public,
        });
    }
    let key = decode_secret_key(&text, None)?;
    Ok(Candidate::Plain {
        path: path.to_owned(),
        key: Arc::new(key),
    })
}

/// Reads a key file with a passphrase. Key derivation is slow on purpose, so it runs on a thread of its own.
pub(super) async fn decrypt(
    path: &Path,
    passphrase: Zeroizing<String>,
) -> Result<PrivateKey, KeyError> {
    let text = read_key(path).await?;
    tokio::task::spawn_blocking(move || decode_secret_key(&text, Some(&passphrase)))
        .await
        .map_err(|error| KeyError::IO(io::Error::other(error)))?
}

async fn read_key(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    use tokio::io::AsyncReadExt as _;
    let file = tokio::fs::File::open(path).await?;
    // Room for the whole file from the start: growing would leave copies of the secret behind.
    let room =
        usize::try_from(file.metadata().await?.len().min(KEY_FILE_LIMIT)).unwrap_or_default() + 1;
    let mut text = Zeroizing::new(String::with_capacity(room));
    file.take(KEY_FILE_LIMIT).read_to_string(&mut text).await?;
    Ok(text)
}

async fn read_public_twin(path: &Path) -> Option<PublicKey> {
    let mut twin = path.as_os_str().to_owned();
    twin.push(".pub");
    let text = tokio::fs::read_to_string(twin).await.ok()?;
    PublicKey::from_openssh(text.trim()).ok()
}

fn is_encrypted(text: &str) -> bool {
    if text.contains("-----BEGIN OPENSSH PRIVATE KEY-----") {
        return PrivateKey::from_openssh(text).is_ok_and(|key| key.is_encrypted());
    }
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || text.contains("Proc-Type: 4,ENCRYPTED")
        || text
            .lines()
            .any(|line| line.starts_with("Encryption: ") && !line.ends_with("none"))
}
