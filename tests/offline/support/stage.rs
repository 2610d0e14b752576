//! Two machines for a test: an agent and a session here, a host there, and a proxy for the network between.
//!
//! The main type is [`Stage`]. The library's client and the program read the same configuration.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use handover::demo::server::ServerOptions;
use handover::demo::standin::{self, Seed};
use handover::handoff::{Client, ClientOptions, Failure, HandoffBuilder, Outcome};
use handover::hosts::Places;
use handover::job::{JobRecord, Mode};
use handover::session::SessionId;
use handover::ssh::{AgentSource, ConnectOptions, KnownHosts};
use tempfile::TempDir;
use tokio::process::Command;

use super::keys::{new_key, write_key, write_private};
use super::machine::{DemoServer, Machine};
use super::platform::{self, PROGRAM};
use super::{History, Ran, Started, bounded};
use crate::proxy::Proxy;

/// The host's name in the tests.
pub(crate) const BOX: &str = "box";

/// Two machines, and the network between.
pub(crate) struct Stage {
    pub(crate) server: DemoServer,
    pub(crate) proxy: Proxy,
    pub(crate) session: SessionId,
    machine: Machine,
    root: TempDir,
    agent: PathBuf,
}

impl Stage {
    /// A well-behaved host, and a session of two turns here.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A host of these properties.
    pub(crate) async fn with(change: impl FnOnce(&mut ServerOptions)) -> Self {
        let root = tempfile::Builder::new()
            .prefix("handover-test-")
            .tempdir()
            .unwrap();
        let program = Path::new(PROGRAM);
        let machine = Machine::new(program);
        let here = make(root.path(), "here");
        for name in ["project", "config", "state", ".ssh"] {
            make(&here, name);
        }
        let key = new_key();
        write_key(&here.join(".ssh/id_ed25519"), &key);
        // It is named, so it has to be there.
        write_private(&here.join(".ssh/config"), "");

        let data = make(&here, ".local/share");
        let agent = standin::install(&here.join("bin"), program, Some(&data));
        let session = standin::seed_session(&data, &here.join("project"), &Seed::default());

        let mut options = ServerOptions::new(machine.home(), key.public_key().clone());
        change(&mut options);
        let server = machine.start(options).await;
        let proxy = Proxy::start(server.address()).await.unwrap();
        let stage = Self {
            server,
            proxy,
            session: session.unwrap(),
            machine,
            root,
            agent: agent.unwrap(),
        };
        stage.configure("");
        stage.trust().await;
        stage
    }

    /// A host whose SFTP shows another tree than its shell: [`jail`](Self::jail).
    pub(crate) async fn jailed() -> Self {
        Self::with(|options| options.sftp_root = Some(options.home.with_file_name("jail"))).await
    }

    /// Writes the hosts file: the host at the proxy, with these lines more.
    pub(crate) fn configure(&self, more: &str) {
        self.configure_at(self.proxy.address(), more);
    }

    /// Writes the hosts file: the host at this address, with these lines more. Where none says otherwise, the
    /// agent there is the stand-in, whatever else this machine has.
    pub(crate) fn configure_at(&self, address: SocketAddr, more: &str) {
        let opencode = if more.contains("opencode = ") {
            ""
        } else {
            "opencode = \"~/.opencode/bin/opencode\"\n"
        };
        let text = format!(
            "[hosts.{BOX}]\nhost = \"demo@{}\"\nport = {}\n{opencode}{more}\n",
            address.ip(),
            address.port()
        );
        std::fs::write(self.here("config/hosts.toml"), text).unwrap();
    }

    /// Writes the host's key down, as `handover trust` does.
    pub(crate) async fn trust(&self) {
        let file = self.here("config/known_hosts");
        let address = self.proxy.address();
        KnownHosts::append(
            &file,
            &address.ip().to_string(),
            address.port(),
            &self.server.host_key(),
        )
        .await
        .unwrap();
    }

    /// A path below the home here.
    pub(crate) fn here(&self, path: &str) -> PathBuf {
        self.root.path().join("here").join(path)
    }

    /// A path below the home there, as it is reached from here.
    pub(crate) fn there(&self, path: &str) -> PathBuf {
        self.machine.reach("home").join(path)
    }

    /// The path below the home there, as that machine names it.
    pub(crate) fn named_there(&self, path: &str) -> String {
        format!("{}/{path}", self.machine.home().display())
    }

    /// Whether there is something of this name below the home there, which need not be a name that Windows knows.
    pub(crate) fn has_there(&self, path: &str) -> bool {
        self.machine.run("test", &["-e", &self.named_there(path)])
    }

    /// What SFTP clients see as `/` of a [`jailed`](Self::jailed) host, as it is reached from here.
    pub(crate) fn jail(&self) -> PathBuf {
        self.machine.reach("jail")
    }

    /// Writes a program below the home there.
    pub(crate) fn program_there(&self, path: &str, script: &str) {
        std::fs::write(self.there(path), script).unwrap();
        self.run_there("chmod", &["755", &self.named_there(path)]);
    }

    /// Runs a program there, which must succeed.
    pub(crate) fn run_there(&self, program: &str, arguments: &[&str]) {
        assert!(
            self.machine.run(program, arguments),
            "{program} {arguments:?}"
        );
    }

    /// Removes a job's directory there, with names that Windows need not know.
    pub(crate) fn remove_job_there(&self, directory: &Path) {
        let name = directory.file_name().unwrap().to_str().unwrap();
        let path = self.named_there(&format!(".local/state/handover/jobs/{name}"));
        self.run_there("rm", &["-r", "--", &path]);
    }

    /// The local agent.
    pub(crate) fn agent_here(&self) -> &Path {
        &self.agent
    }

    /// Has each job's end told by a file of its own, in the directory that this gives.
    pub(crate) fn announces(&self) -> PathBuf {
        let out = make(&self.here(""), "announced");
        let config = if cfg!(windows) {
            let script = self.here("tell.cmd");
            std::fs::write(&script, "@more >\"%~1\\%RANDOM%.json\"\r\n").unwrap();
            format!("on_finish = [{script:?}, {out:?}]\n")
        } else {
            let script = self.here("tell.sh");
            std::fs::write(&script, "cat >\"$1/$$.json\"\n").unwrap();
            format!("on_finish = [\"/bin/sh\", {script:?}, {out:?}]\n")
        };
        std::fs::write(self.here("config/config.toml"), config).unwrap();
        out
    }

    /// Makes another session here, bound to the project.
    pub(crate) fn seed(&self, seed: &Seed) -> SessionId {
        standin::seed_session(&self.here(".local/share"), &self.here("project"), seed).unwrap()
    }

    /// What makes the agent here misbehave; an empty text ends that.
    pub(crate) fn settings_here(&self, text: &str) {
        std::fs::write(self.here(".local/share/opencode/standin/settings"), text).unwrap();
    }

    /// What makes the agent there misbehave; an empty text ends that.
    pub(crate) fn settings_there(&self, text: &str) {
        let directory = self.there(".local/share/opencode/standin");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("settings"), text).unwrap();
    }

    /// Puts a `date` first in every search path of the host, whose clock is ahead by so many seconds.
    pub(crate) fn clock_there(&self, seconds: i64) {
        make(&self.there(""), "skewed");
        let script = format!(
            "#!/bin/sh\ncase $* in\n  +%s%N) exec /bin/date -d '{seconds} seconds' +%s%N ;;\n  \
             *) exec /bin/date -d '{seconds} seconds' \"$@\" ;;\nesac\n"
        );
        self.program_there("skewed/date", &script);
        let bin = self.named_there("skewed");
        let line = format!("PATH='{bin}':$PATH\nexport PATH\n");
        std::fs::write(self.there(".profile"), line).unwrap();
    }

    /// The search path with which [`clock_there`](Self::clock_there) works; for `ServerOptions::path`.
    pub(crate) fn skewed_path(home: &Path) -> OsString {
        let mut path = home.join("skewed").into_os_string();
        path.push(":/usr/local/bin:/usr/bin:/bin");
        path
    }

    /// The environment of the program and of the library's client.
    pub(crate) fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut environment = platform::environment(&self.here(""));
        environment.extend([
            ("HANDOVER_CONFIG_DIR", self.here("config").into_os_string()),
            ("HANDOVER_STATE_DIR", self.here("state").into_os_string()),
            // This one alone, whatever this machine's system has.
            (
                "HANDOVER_SSH_CONFIG",
                self.here(".ssh/config").into_os_string(),
            ),
            ("HANDOVER_OPENCODE", self.agent.clone().into_os_string()),
        ]);
        environment
    }

    /// The options of the library's client.
    pub(crate) fn options(&self) -> ClientOptions {
        let environment = self.environment();
        let lookup = |key: &str| {
            let found = environment.iter().find(|(name, _)| *name == key);
            found.map(|(_, value)| value.clone())
        };
        let places = Places::from_lookup(lookup, &self.here("project")).unwrap();
        let connect = ConnectOptions::new(&places.home)
            .trusted_hosts(places.known_hosts_file())
            .agent(AgentSource::None);
        ClientOptions {
            places,
            inline_hosts: Vec::new(),
            connect,
            opencode: Some(self.agent.clone()),
        }
    }

    /// The library's client.
    pub(crate) fn client(&self) -> Client {
        Client::open(self.options()).unwrap()
    }

    /// A round trip of the session to `~/work`, not started yet.
    pub(crate) fn round_trip(&self, message: &str) -> HandoffBuilder {
        self.client()
            .handoff(BOX)
            .unwrap()
            .session(self.session.clone())
            .mode(Mode::RoundTrip)
            .directory("~/work".parse().unwrap())
            .message(message)
    }

    /// Makes such a round trip.
    pub(crate) async fn send(&self, message: &str) -> Result<Outcome, Failure> {
        bounded("the handoff", self.round_trip(message).start().outcome()).await
    }

    /// Collects a job.
    pub(crate) async fn collect(&self, job: impl ToString) -> Result<Outcome, Failure> {
        let collection = self.client().collect(job.to_string()).start();
        bounded("the collection", collection.outcome()).await
    }

    /// The jobs of the store, newest first.
    pub(crate) async fn jobs(&self) -> Vec<JobRecord> {
        self.client().jobs().await.unwrap()
    }

    /// The session as it is here.
    pub(crate) fn history_here(&self) -> History {
        History::read(&self.here(".local/share"), &self.session)
    }

    /// The session as it is there.
    pub(crate) fn history_there(&self) -> History {
        History::read(&self.there(".local/share"), &self.session)
    }

    /// Whether the agent there has the session.
    pub(crate) fn is_there(&self) -> bool {
        History::file(&self.there(".local/share"), &self.session).exists()
    }

    /// The job directories on the host.
    pub(crate) fn job_directories(&self) -> Vec<PathBuf> {
        entries(&self.there(".local/state/handover/jobs"))
    }

    /// Every file and directory below the two homes with this name.
    pub(crate) fn all_named(&self, name: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for root in [self.root.path(), &self.machine.reach("home")] {
            walk(root, &mut |path| {
                if path.file_name() == Some(OsStr::new(name)) {
                    found.push(path.to_owned());
                }
            });
        }
        found
    }
}

impl Stage {
    /// The program with these arguments, in the project's directory, with this stage's environment alone.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(arguments)
            .env_clear()
            .envs(self.environment())
            .current_dir(self.here("project"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs the program to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments)).await
    }

    /// Starts the program.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Started {
        Started::of(self.command(arguments))
    }
}

/// What is in a directory; nothing where there is none.
pub(crate) fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    entries.flatten().map(|entry| entry.path()).collect()
}

/// What the program of [`Stage::announces`] was told.
pub(crate) fn announced(file: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(file).unwrap();
    // Into a file too, the `more` of Wine 8 writes the ends of its pages, of some 1700 characters each.
    serde_json::from_str(&text.replace("-- More... --\n", "")).unwrap()
}

/// Looks at everything below a directory, links not followed. What vanishes meanwhile is left out.
pub(crate) fn walk(directory: &Path, look: &mut impl FnMut(&Path)) {
    for path in entries(directory) {
        look(&path);
        if path
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.is_dir())
        {
            walk(&path, look);
        }
    }
}

/// Waits until something holds, within the deadline.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    bounded(what, wait).await;
}

fn make(parent: &Path, name: &str) -> PathBuf {
    let path = parent.join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}
