//! Runs the `handover` binary as a person would, in a home directory of its own.
//!
//! The main type is [`Client`]. Nothing of the machine's own configuration reaches the child: its environment is
//! cleared, and every wait has a deadline.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The longest that any one command may take: real agents on a busy machine are slow.
const COMMAND_DEADLINE: Duration = Duration::from_secs(240);

/// `handover` with a home directory, a hosts file and a local agent.
pub(crate) struct Client {
    home: PathBuf,
    opencode: PathBuf,
}

/// What a command left.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit status.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Client {
    /// A client whose home is `home`, an existing directory, and whose local agent is the program `opencode`.
    pub(crate) fn new(home: &Path, opencode: &Path) -> Self {
        Self {
            home: home.to_owned(),
            opencode: opencode.to_owned(),
        }
    }

    /// Replaces the hosts file.
    pub(crate) fn write_hosts(&self, hosts: &str) -> Result<()> {
        let directory = self.home.join("handover-config");
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join("hosts.toml"), hosts).context("write hosts.toml")
    }

    /// Runs `handover` with these arguments in the directory `directory`.
    pub(crate) fn run(&self, directory: &Path, arguments: &[&str]) -> Result<Finished> {
        finish(self.command(directory, arguments), None, &self.home)
    }

    /// `handover` with these arguments in the directory `directory`, not started yet.
    pub(crate) fn command(&self, directory: &Path, arguments: &[&str]) -> Command {
        let mut command = isolated(Path::new(env!("CARGO_BIN_EXE_handover")), &self.home);
        command
            .args(arguments)
            .current_dir(directory)
            .env("HANDOVER_CONFIG_DIR", self.home.join("handover-config"))
            .env("HANDOVER_STATE_DIR", self.home.join("handover-state"))
            .env("HANDOVER_SSH_CONFIG", self.ssh_config())
            .env("HANDOVER_OPENCODE", &self.opencode);
        command
    }

    /// The one that a test has put beside the hosts file, else none.
    fn ssh_config(&self) -> PathBuf {
        let file = self.home.join("handover-config/ssh_config");
        if file.exists() { file } else { "none".into() }
    }

    /// Trusts the key that the host shows now.
    pub(crate) fn trust(&self, host: &str) -> Result<()> {
        self.run(&self.home, &["trust", host, "--yes"])?
            .expect_code(0)
            .map(drop)
    }
}

impl Finished {
    /// Itself, when the exit status is `code`; else an error with everything that was printed.
    pub(crate) fn expect_code(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == code,
            "exit status {} and not {code}\n-- stdout\n{}\n-- stderr\n{}",
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }

    /// Standard output as one JSON document a line.
    pub(crate) fn events(&self) -> Result<Vec<Value>> {
        let parse =
            |line: &str| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The last line of standard output as JSON.
    pub(crate) fn last(&self) -> Result<Value> {
        self.events()?
            .pop()
            .with_context(|| format!("nothing on stdout; stderr: {}", self.stderr))
    }
}

/// A command for `program` that sees `home` and nothing else of the caller's environment but its search path.
pub(crate) fn isolated(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("HOME", home)
        .env("LANG", "C.UTF-8")
        .env("USER", "tester")
        .stdin(Stdio::null());
    for kept in ["PATH", "TMPDIR", "RUST_BACKTRACE"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
}

/// Runs `command` to its end, with the file `input` on its standard input, and kills it at the deadline.
///
/// Its output goes through files in `scratch`, since opencode cuts what it writes to a slow pipe.
pub(crate) fn finish(
    mut command: Command,
    input: Option<&Path>,
    scratch: &Path,
) -> Result<Finished> {
    let directory = tempfile::Builder::new()
        .prefix("run-")
        .tempdir_in(scratch)?;
    let (out, err) = (directory.path().join("out"), directory.path().join("err"));
    command
        .stdout(File::create(&out)?)
        .stderr(File::create(&err)?);
    if let Some(input) = input {
        command.stdin(File::open(input)?);
    }
    let mut child = command
        .spawn()
        .with_context(|| format!("start {:?}", command.get_program()))?;
    let deadline = Instant::now() + COMMAND_DEADLINE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!(
                "{command:?} did not end in time\n{}\n{}",
                read(&out)?,
                read(&err)?
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    Ok(Finished {
        code: status.code().unwrap_or(-1),
        stdout: read(&out)?,
        stderr: read(&err)?,
    })
}

fn read(path: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
}
