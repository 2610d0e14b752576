//! The demonstration's two machines: an agent here, a host there, and a session to hand over.
//!
//! The main type is [`Stage`]. Everything is in one temporary directory, which goes with it; the handoff
//! itself is that of [`handoff`](crate::handoff), over a real connection.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use russh::keys::ssh_key::{self, LineEnding};
use russh::keys::{Algorithm, PrivateKey};
use tempfile::TempDir;

use super::server::{DemoError, DemoServer, ServerOptions};
use super::standin::{self, Seed, StandinError};
use crate::handoff::{Client, ClientOptions, HandoffError};
use crate::hosts::{Address, Host, HostName, Places};
use crate::session::SessionId;
use crate::ssh::{AgentSource, ConnectOptions, KnownHosts, SshError};

/// The name of the stage's host.
pub const HOST: &str = "demo-box";

/// Why the stage could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// A file of the temporary directory.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The connection's key cannot be made.
    #[error("the demonstration's key cannot be made")]
    Key(#[source] ssh_key::Error),
    /// The server.
    #[error(transparent)]
    Server(#[from] DemoError),
    /// The stand-in agent.
    #[error(transparent)]
    Standin(#[from] StandinError),
    /// The host's key cannot be written down.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// The client.
    #[error(transparent)]
    Handoff(#[from] HandoffError),
}

/// An agent here, a host there, and a session to hand over.
#[derive(Debug)]
pub struct Stage {
    // Before the directory: what is on it is stopped before it is removed.
    server: DemoServer,
    client: Client,
    session: SessionId,
    root: TempDir,
}

impl Stage {
    /// Sets the stage up; `program` is the `handover` binary, which plays the agent on both sides.
    ///
    /// # Errors
    /// [`StageError`]; on a platform without a POSIX shell [`DemoError::NoPosixShell`].
    ///
    /// # Cancel safety
    /// Safe: what was set up by then is taken down.
    pub async fn set_up(program: &Path) -> Result<Self, StageError> {
        let root = tempfile::Builder::new()
            .prefix("handover-demo-")
            .tempdir()
            .map_err(|source| StageError::File {
                path: std::env::temp_dir(),
                source,
            })?;
        let here = Here::make(root.path(), program)?;
        let remote_home = directory(root.path(), "remote")?;
        let bin = remote_home.join(".opencode").join("bin");
        standin::install(&bin, program, None)
            .map_err(|source| StageError::File { path: bin, source })?;
        let mut options = ServerOptions::new(&remote_home, here.key.public_key().clone());
        options.path = OsString::from("/usr/local/bin:/usr/bin:/bin");
        let server = DemoServer::start(options).await?;
        let address = server.address();
        let host_keys = here.places.known_hosts_file();
        KnownHosts::append(
            &host_keys,
            &address.ip().to_string(),
            address.port(),
            &server.host_key(),
        )
        .await?;
        let client = here.client(address.port())?;
        let seed = Seed {
            title: "Write the release notes".to_owned(),
            ..Seed::default()
        };
        let session = standin::seed_session(&here.data_home, &here.project, &seed)?;
        Ok(Self {
            server,
            client,
            session,
            root,
        })
    }

    /// The client of this side.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The session that is there to be handed over.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// The temporary directory of everything.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Stops the host and removes everything.
    ///
    /// # Errors
    /// [`StageError::File`] when something is left in the temporary directory.
    ///
    /// # Cancel safety
    /// Dropping the future removes the directory without telling what is left.
    pub async fn take_down(self) -> Result<(), StageError> {
        self.server.stop().await;
        let path = self.root.path().to_owned();
        self.root
            .close()
            .map_err(|source| StageError::File { path, source })
    }
}

/// This side: a home with a key, an agent and a project.
struct Here {
    places: Places,
    project: PathBuf,
    data_home: PathBuf,
    opencode: PathBuf,
    key: PrivateKey,
    key_file: PathBuf,
}

impl Here {
    fn make(root: &Path, program: &Path) -> Result<Self, StageError> {
        let home = directory(root, "local")?;
        let project = directory(&home, "project")?;
        let data_home = directory(&home, "data")?;
        let config = directory(&home, "config")?;
        let state = directory(&home, "state")?;
        let bin = home.join("bin");
        let opencode = standin::install(&bin, program, Some(&data_home))
            .map_err(|source| StageError::File { path: bin, source })?;
        let key =
            PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).map_err(StageError::Key)?;
        let key_file = home.join("id_ed25519");
        let text = key.to_openssh(LineEnding::LF).map_err(StageError::Key)?;
        crate::private_fs::write_atomic(&key_file, text.as_bytes()).map_err(|source| {
            StageError::File {
                path: key_file.clone(),
                source,
            }
        })?;
        let places = Places {
            home,
            config_dir: config,
            state_dir: state,
            opencode_config_dirs: Vec::new(),
            ssh_config: None,
            ssh_config_is_named: false,
            system_ssh_config: None,
            project_dir: project.clone(),
        };
        Ok(Self {
            places,
            project,
            data_home,
            opencode,
            key,
            key_file,
        })
    }

    fn client(&self, port: u16) -> Result<Client, StageError> {
        let invalid = |reason: String| StageError::File {
            path: self.places.hosts_file(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidInput, reason),
        };
        let name: HostName = HOST.parse().map_err(|error| invalid(format!("{error}")))?;
        let address = Address::new("127.0.0.1", Some("demo"), Some(port))
            .map_err(|error| invalid(error.to_string()))?;
        let mut host = Host::new(name, address);
        host.identity_file = Some(self.key_file.clone());
        // The stand-in, also where this machine has a real opencode in its search path.
        host.opencode = Some(
            "~/.opencode/bin/opencode"
                .parse()
                .map_err(|error| invalid(format!("{error}")))?,
        );
        let connect = ConnectOptions::new(&self.places.home)
            .trusted_hosts(self.places.known_hosts_file())
            .agent(AgentSource::None);
        let options = ClientOptions {
            places: self.places.clone(),
            inline_hosts: vec![host],
            connect,
            opencode: Some(self.opencode.clone()),
        };
        Ok(Client::open(options)?)
    }
}

fn directory(parent: &Path, name: &str) -> Result<PathBuf, StageError> {
    let path = parent.join(name);
    crate::private_fs::create_dir_all(&path).map_err(|source| StageError::File {
        path: path.clone(),
        source,
    })?;
    Ok(path)
}
