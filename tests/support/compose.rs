//! The sshd containers of `docker/compose.yaml`, as the tests see them.
//!
//! The main type is [`Seat`]: one user of one container, with a local side of its own to reach it from. The
//! containers are started by `tests/run`, which says in `HANDOVER_TEST_COMPOSE` where they are.

use std::fs::Permissions;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::client::{Client, finish, isolated};

const RESTART_DEADLINE: Duration = Duration::from_secs(60);

/// One user on one container, and a local home, project and session from which it is reached under the name `box`.
pub(crate) struct Seat {
    user: String,
    port: u64,
    container: String,
    identity: PathBuf,
    home: TempDir,
    stand_in: PathBuf,
    /// The local `handover`.
    pub(crate) client: Client,
}

impl Seat {
    /// Takes the place of `user` on the container of the compose service `service`; no host key is trusted yet.
    ///
    /// # Errors
    /// When `HANDOVER_TEST_COMPOSE` is not set: these tests do not pass by being skipped.
    pub(crate) fn take(service: &str, user: &str) -> Result<Self> {
        let places = std::env::var("HANDOVER_TEST_COMPOSE")
            .context("HANDOVER_TEST_COMPOSE is not set: run these tests through tests/run")?;
        let places: Value = serde_json::from_str(&places).context("HANDOVER_TEST_COMPOSE")?;
        let text = |value: &Value| {
            value
                .as_str()
                .map(str::to_owned)
                .context("HANDOVER_TEST_COMPOSE lacks a value")
        };
        let home = tempfile::Builder::new().prefix("seat-").tempdir()?;
        std::fs::create_dir(home.path().join("project"))?;
        let stand_in = home.path().join("stand-in");
        let script = format!(
            "#!/bin/sh\nexec '{}' stand-in-agent \"$@\"\n",
            env!("CARGO_BIN_EXE_handover")
        );
        std::fs::write(&stand_in, script)?;
        std::fs::set_permissions(&stand_in, Permissions::from_mode(0o755))?;
        let seat = Self {
            user: user.to_owned(),
            port: places[service]["port"]
                .as_u64()
                .context("HANDOVER_TEST_COMPOSE lacks a port")?,
            container: text(&places[service]["container"])?,
            identity: text(&places["identity"])?.into(),
            client: Client::new(home.path(), &stand_in),
            stand_in,
            home,
        };
        seat.configure("")?;
        Ok(seat)
    }

    /// Writes the hosts file again, with more lines for the host.
    pub(crate) fn configure(&self, more: &str) -> Result<()> {
        self.configure_with(&self.identity, more)
    }

    /// Writes the hosts file again, with another key.
    pub(crate) fn configure_with(&self, identity: &Path, more: &str) -> Result<()> {
        let Self { user, port, .. } = self;
        let place = format!("[hosts.box]\nhost = \"{user}@127.0.0.1\"\nport = {port}");
        self.client
            .write_hosts(&format!("{place}\nidentity_file = {identity:?}\n{more}\n"))
    }

    /// Gives the client an ssh_config, which it has not otherwise.
    pub(crate) fn write_ssh_config(&self, config: &str) -> Result<()> {
        let file = self.home().join("handover-config/ssh_config");
        std::fs::write(file, config).context("write ssh_config")
    }

    /// The local home directory.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The local directory of the session.
    pub(crate) fn project(&self) -> PathBuf {
        self.home.path().join("project")
    }

    /// The port of this machine that leads to the container's listener.
    pub(crate) fn port(&self) -> u64 {
        self.port
    }

    /// The key that every user of the containers lets in.
    pub(crate) fn identity(&self) -> &Path {
        &self.identity
    }

    /// The name under which known_hosts files know the container.
    pub(crate) fn known_as(&self) -> String {
        format!("[127.0.0.1]:{}", self.port)
    }

    /// Imports a fixture into the local stand-in agent; the session's id.
    pub(crate) fn session(&self) -> Result<String> {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/sessions/1.18.33-plain.json");
        let mut command = isolated(&self.stand_in, self.home());
        command
            .arg("import")
            .arg(fixture)
            .current_dir(self.project());
        let finished = finish(command, None, self.home())?.expect_code(0)?;
        let id = finished
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("Imported session: "));
        Ok(id
            .with_context(|| format!("nothing imported: {}", finished.stdout))?
            .trim()
            .to_owned())
    }

    /// The local stand-in agent's export of a session.
    pub(crate) fn export(&self, session: &str) -> Result<Value> {
        let mut command = isolated(&self.stand_in, self.home());
        command
            .args(["export", session])
            .current_dir(self.project());
        serde_json::from_str(&finish(command, None, self.home())?.expect_code(0)?.stdout)
            .context("the export")
    }

    /// What the POSIX `script` prints inside the container as this user, which must succeed.
    pub(crate) fn inside(&self, script: &str) -> Result<String> {
        docker(&[
            "exec",
            "--user",
            &self.user,
            &self.container,
            "env",
            "-C",
            &self.remote_home(),
            "sh",
            "-c",
            script,
        ])
    }

    /// The user's home directory in the container.
    pub(crate) fn remote_home(&self) -> String {
        format!("/home/{}", self.user)
    }

    /// Restarts the container, and comes back once its sshd answers.
    pub(crate) fn restart(&self) -> Result<()> {
        docker(&["restart", "--time", "2", &self.container])?;
        let deadline = Instant::now() + RESTART_DEADLINE;
        while !self.answers() {
            ensure!(
                Instant::now() < deadline,
                "the container does not answer after its restart"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Whether sshd itself answers: docker's proxy accepts connections before that.
    fn answers(&self) -> bool {
        let port = u16::try_from(self.port).unwrap_or_default();
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
            return false;
        };
        let mut banner = [0; 4];
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .is_ok()
            && stream.read_exact(&mut banner).is_ok()
            && &banner == b"SSH-"
    }
}

fn docker(arguments: &[&str]) -> Result<String> {
    let output = Command::new("docker")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("run docker")?;
    ensure!(
        output.status.success(),
        "docker {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
