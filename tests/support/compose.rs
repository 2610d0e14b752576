//! The sshd containers of `docker/compose.yaml`, as the tests see them.
//!
//! The main type is [`Seat`]: one user of one container, with a local side of its own to reach it from. The
//! containers are started by `tests/run`, which says in `HANDOVER_TEST_COMPOSE` where they are.

use std::fs::Permissions;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::RngExt as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::program::Started;
use crate::support::client::{Client, Finished, finish, isolated};

const RESTART_DEADLINE: Duration = Duration::from_secs(60);

/// One user on one container, and a local home, project and session from which it is reached under the name `box`.
pub(crate) struct Seat {
    user: String,
    port: u16,
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
                .and_then(|port| u16::try_from(port).ok())
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

    /// From now on `box` is behind this port of this machine, where a proxy may listen, or nobody.
    pub(crate) fn lead_to(&mut self, port: u16) -> Result<()> {
        self.port = port;
        self.configure("")
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
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The same, as an address.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The key that every user of the containers lets in.
    pub(crate) fn identity(&self) -> &Path {
        &self.identity
    }

    /// The name under which known_hosts files know the container.
    pub(crate) fn known_as(&self) -> String {
        format!("[127.0.0.1]:{}", self.port)
    }

    /// Imports a fixture into the local stand-in agent, as a session of its own: the users there serve many seats.
    /// Gives the session's id.
    pub(crate) fn session(&self) -> Result<String> {
        const ID: &str = "ses_e04a15031ffe5Au24JLaO9EOlS";
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/sessions/1.18.33-plain.json");
        let text = std::fs::read_to_string(fixture)?;
        ensure!(text.contains(ID), "the fixture has another session");
        let id = format!("{}{:08x}", &ID[..22], rand::rng().random::<u32>());
        let fixture = self.home().join("session.json");
        std::fs::write(&fixture, text.replace(ID, &id))?;
        let mut command = isolated(&self.stand_in, self.home());
        command
            .arg("import")
            .arg(&fixture)
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

    /// The session as the stand-in agent there has stored it.
    pub(crate) fn stored_there(&self, session: &str) -> Result<Value> {
        let file = format!(".local/share/opencode/standin/{session}.json");
        serde_json::from_str(&self.inside(&format!("cat {file}"))?).context(file)
    }

    /// Runs `handover send box --json` for a session, with more arguments.
    pub(crate) fn send(&self, session: &str, more: &[&str]) -> Result<Finished> {
        let session = format!("--session={session}");
        let arguments = [&["send", "box", "--json", &session], more].concat();
        self.client.run(&self.project(), &arguments)
    }

    /// Starts `handover` in the project's directory.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Started {
        let mut command =
            tokio::process::Command::from(self.client.command(&self.project(), arguments));
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Started::of(command)
    }

    /// What the POSIX `script` prints inside the container as this user, which must succeed.
    pub(crate) fn inside(&self, script: &str) -> Result<String> {
        self.inside_as(&self.user, script)
    }

    /// What it prints as root.
    pub(crate) fn inside_as_root(&self, script: &str) -> Result<String> {
        self.inside_as("root", script)
    }

    fn inside_as(&self, user: &str, script: &str) -> Result<String> {
        let (container, home) = (&self.container, &self.remote_home());
        let run = ["env", "-C", home, "sh", "-c", script];
        docker(&[&["exec", "--user", user, container][..], &run].concat())
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
        let Ok(mut stream) = TcpStream::connect(self.address()) else {
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
