//! What the measurements run on: a real sshd on loopback, a stub agent on both sides, a session to hand over.
//!
//! The main type is [`Stage`]. All of it is in one temporary directory and owns one sshd, which goes with it; the keys
//! are made for it, and no file of the user is read.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

/// The host's configured name.
pub(crate) const HOST: &str = "box";
/// The session that moves.
pub(crate) const SESSION: &str = "ses_e04a15031ffe5Au24JLaO9EOlS";
/// The environment variable that names another build of our program, to be measured in the place of this one.
const PROGRAM: &str = "HANDOVER_BENCH_PROGRAM";
/// The time of the first message: long ago, so that no clock is waited for.
const FIRST_MESSAGE_MS: u64 = 1_795_218_649_163;
/// How long sshd, and runners at the end, may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The agent: it keeps no session. `export` prints a file, another one after an `import`; `run` prints one event.
const AGENT: &str = r#"#!/bin/sh
case $1 in
  --version) echo 9.9.9 ;;
  import)
    [ -s "$2" ] || exit 1
    : >"$HOME/imported"
    echo "Imported session: ses_e04a15031ffe5Au24JLaO9EOlS" ;;
  run)
    cat >/dev/null
    echo '{"type":"text","part":{"text":"done"}}'
    sleep 0.3 ;;
  export)
    if [ -e "$HOME/imported" ]; then exec cat "$HOME/after.json"; fi
    exec cat "$HOME/before.json" ;;
esac
"#;

/// A machine to send from, a host to send to.
pub(crate) struct Stage {
    // Before the directory: what is in it is in use until then.
    sshd: std::process::Child,
    address: SocketAddr,
    user: String,
    root: tempfile::TempDir,
}

impl Stage {
    /// Sets everything up for a session of about `size` bytes in messages of about `message` bytes.
    pub(crate) fn set_up(size: usize, message: usize) -> anyhow::Result<Self> {
        Self::set_up_with(size, message, "")
    }

    /// The same, with these lines more in sshd_config.
    pub(crate) fn set_up_with(size: usize, message: usize, sshd: &str) -> anyhow::Result<Self> {
        let root = tempfile::Builder::new()
            .prefix("handover-bench-")
            .tempdir()?;
        let (local, remote) = (root.path().join("local"), root.path().join("remote"));
        for home in [&local, &remote] {
            let bin = home.join("bin");
            std::fs::create_dir_all(&bin)?;
            std::fs::write(bin.join("opencode"), AGENT)?;
            done(Command::new("chmod").arg("755").arg(bin.join("opencode")))?;
        }
        std::fs::create_dir_all(remote.join("work"))?;
        write_session(&local, size, message)?;
        std::fs::copy(local.join("after.json"), remote.join("after.json"))?;
        for key in ["host_key", "user_key"] {
            let file = root.path().join(key);
            done(
                Command::new("ssh-keygen")
                    .args(["-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f"])
                    .arg(file),
            )?;
        }
        let user = text(Command::new("id").arg("-un"))?.trim().to_owned();
        let (sshd, address) = start_sshd(root.path(), &remote, sshd)?;
        Ok(Self {
            sshd,
            address,
            user,
            root,
        })
    }

    /// Where sshd listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The user's key.
    pub(crate) fn key(&self) -> PathBuf {
        self.root.path().join("user_key")
    }

    /// The host's home.
    pub(crate) fn remote_home(&self) -> PathBuf {
        self.root.path().join("remote")
    }

    /// What sshd has said.
    pub(crate) fn sshd_log(&self) -> anyhow::Result<String> {
        let bytes = std::fs::read(self.root.path().join("sshd.log"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// This side's home.
    pub(crate) fn local_home(&self) -> PathBuf {
        self.root.path().join("local")
    }

    /// The session's size in bytes, as the local agent exports it.
    pub(crate) fn session_bytes(&self) -> anyhow::Result<u64> {
        Ok(std::fs::metadata(self.local_home().join("before.json"))?.len())
    }

    /// The host under this address (a proxy's, or its own), for both clients: hosts.toml and known_hosts.
    pub(crate) fn configure(&self, address: SocketAddr) -> anyhow::Result<()> {
        let config = self.local_home().join("config");
        std::fs::create_dir_all(&config)?;
        let port = address.port();
        std::fs::write(
            config.join("hosts.toml"),
            format!(
                "[hosts.{HOST}]\nhost = \"{}@127.0.0.1\"\nport = {port}\nidentity_file = \"{}\"\ndirectory = \"~/work\"\n",
                self.user,
                self.key().display(),
            ),
        )?;
        let public = std::fs::read_to_string(self.root.path().join("host_key.pub"))?;
        std::fs::write(
            config.join("known_hosts"),
            format!("[127.0.0.1]:{port} {public}"),
        )?;
        Ok(())
    }

    /// Our program as after an installation: nothing is stored yet, nothing was imported.
    pub(crate) fn handover(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let home = self.local_home();
        let state = home.join("state");
        for stale in [&state, &self.remote_home().join(".local")] {
            if stale.exists() {
                std::fs::remove_dir_all(stale)?;
            }
        }
        let _ = std::fs::remove_file(home.join("imported"));
        let program = std::env::var_os(PROGRAM).unwrap_or(env!("CARGO_BIN_EXE_handover").into());
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(&home)
            .env_clear()
            .env("HOME", &home)
            .env(
                "PATH",
                format!("{}:/usr/bin:/bin", home.join("bin").display()),
            )
            .env("HANDOVER_CONFIG_DIR", home.join("config"))
            .env("HANDOVER_SSH_CONFIG", "none")
            .env("HANDOVER_STATE_DIR", &state)
            .stdin(Stdio::null());
        Ok(command)
    }

    /// A program of OpenSSH (`ssh`, `scp`, `sftp`) for the configured host, with nothing of the user's configuration.
    pub(crate) fn openssh(&self, program: &str, address: SocketAddr) -> Command {
        let mut command = Command::new(program);
        let port = if program == "ssh" { "-p" } else { "-P" };
        let known = self.local_home().join("config").join("known_hosts");
        command
            .args(["-q", "-F", "none", port])
            .arg(address.port().to_string())
            .arg("-i")
            .arg(self.key())
            .args(["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"])
            .args([
                "-o",
                "IdentityAgent=none",
                "-o",
                "StrictHostKeyChecking=yes",
            ])
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", known.display()))
            .current_dir(self.local_home())
            .stdin(Stdio::null());
        command
    }

    /// `user@127.0.0.1`.
    pub(crate) fn login(&self) -> String {
        format!("{}@127.0.0.1", self.user)
    }

    /// Waits until no runner works any more in the host's home.
    pub(crate) fn settle(&self) {
        let jobs = self.remote_home().join(".local/state/handover/jobs");
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let working = std::fs::read_dir(&jobs).is_ok_and(|jobs| {
                jobs.flatten().any(|job| {
                    job.path().join("claim").exists() && !job.path().join("exit").exists()
                })
            });
            if !working {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.settle();
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

/// Whether this is a measurement: `cargo test --all-targets` starts the benches, too.
pub(crate) fn is_asked_for() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// The most memory that a process has held so far, in KiB.
pub(crate) fn high_water_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// The middle one.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Runs a command that must succeed.
pub(crate) fn done(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .output()
        .with_context(|| format!("{:?}", command.get_program()))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn text(command: &mut Command) -> anyhow::Result<String> {
    Ok(String::from_utf8(command.output()?.stdout)?)
}

fn start_sshd(
    root: &Path,
    home: &Path,
    more: &str,
) -> anyhow::Result<(std::process::Child, SocketAddr)> {
    let program = ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .context("there is no sshd here")?;
    let sftp = ["/usr/lib/openssh/sftp-server", "/usr/libexec/sftp-server"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .unwrap_or("internal-sftp");
    // Freed here and taken by sshd an instant later.
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut config = String::new();
    writeln!(config, "ListenAddress {address}")?;
    writeln!(config, "HostKey {}", root.join("host_key").display())?;
    writeln!(
        config,
        "AuthorizedKeysFile {}",
        root.join("user_key.pub").display()
    )?;
    writeln!(config, "PidFile none\nUsePAM no\nStrictModes no\nUseDNS no")?;
    writeln!(config, "PasswordAuthentication no\nPermitRootLogin yes")?;
    writeln!(config, "Subsystem sftp {sftp}")?;
    writeln!(
        config,
        "SetEnv HOME={home} PATH={home}/bin:/usr/bin:/bin XDG_DATA_HOME={home}/.local/share",
        home = home.display()
    )?;
    writeln!(config, "{more}")?;
    let file = root.join("sshd_config");
    std::fs::write(&file, config)?;
    let log = std::fs::File::create(root.join("sshd.log"))?;
    let mut sshd = Command::new(program)
        .args(["-D", "-e", "-f"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    let end = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(address).is_err() {
        if sshd.try_wait()?.is_some() || Instant::now() > end {
            let _ = sshd.kill();
            bail!(
                "sshd does not listen: {}",
                std::fs::read_to_string(root.join("sshd.log")).unwrap_or_default()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((sshd, address))
}

/// Writes what the local agent exports before the trip, and what both export after it: one answer more.
fn write_session(home: &Path, size: usize, message: usize) -> anyhow::Result<()> {
    let pairs = (size / message).max(1) as u64;
    let directory = home.display().to_string();
    let mut document = format!(
        "{{\"info\":{},\"messages\":[",
        json!({
            "id": SESSION, "slug": "playful-orchid", "projectID": "global", "directory": directory, "path": "",
            "title": "a measured session", "agent": "build", "version": "1.18.33", "cost": 0,
            "model": {"id": "m", "providerID": "mock", "variant": "default"},
            "time": {"created": FIRST_MESSAGE_MS, "updated": FIRST_MESSAGE_MS + 1000 * pairs},
        })
    );
    for number in 0..pairs {
        let comma = if number == 0 { "" } else { "," };
        let (question, answer) = exchange(number, message, &directory);
        write!(document, "{comma}{question},{answer}")?;
    }
    std::fs::write(home.join("before.json"), format!("{document}]}}\n"))?;
    let (question, answer) = exchange(pairs, 200, &directory);
    std::fs::write(
        home.join("after.json"),
        format!("{document},{question},{answer}]}}\n"),
    )?;
    Ok(())
}

/// A question and its answer of about `size` bytes together, most of them in a tool's output.
fn exchange(number: u64, size: usize, directory: &str) -> (Value, Value) {
    let (asked, answered) = (
        format!("msg_{:012x}00aa", 2 * number),
        format!("msg_{:012x}00bb", 2 * number + 1),
    );
    let at = FIRST_MESSAGE_MS + 1000 * number;
    let part = |message: &str, place: u64, mut part: Value| {
        part["id"] = json!(format!("prt_{:012x}{place:04x}", 2 * number));
        part["sessionID"] = json!(SESSION);
        part["messageID"] = json!(message);
        part
    };
    let line = "the quick brown fox jumps over the lazy dog \"and\" back\n";
    let output = line.repeat((size.saturating_sub(1500) / (line.len() + 3)).max(1));
    let question = json!({
        "info": {
            "id": asked, "sessionID": SESSION, "role": "user", "agent": "build", "time": {"created": at},
            "model": {"providerID": "mock", "modelID": "m"},
        },
        "parts": [part(&asked, 0, json!({"type": "text", "text": "go on"}))],
    });
    let answer = json!({
        "info": {
            "id": answered, "sessionID": SESSION, "parentID": asked, "role": "assistant", "mode": "build",
            "agent": "build", "path": {"cwd": directory, "root": directory}, "cost": 0, "modelID": "m",
            "providerID": "mock", "time": {"created": at + 300, "completed": at + 900}, "finish": "stop",
            "tokens": {"input": 10, "output": 5, "reasoning": 0, "cache": {"read": 0, "write": 0}},
        },
        "parts": [
            part(&answered, 1, json!({"type": "step-start", "snapshot": "4b825dc642cb6eb9a060e54bf8d69288fbee4904"})),
            part(&answered, 2, json!({"type": "tool", "tool": "bash", "callID": format!("call_{number}"), "state": {
                "status": "completed", "input": {"command": "ls"}, "output": output, "title": "ls", "metadata": {},
                "time": {"start": at + 400, "end": at + 500},
            }})),
            part(&answered, 3, json!({"type": "text", "text": "done", "time": {"start": at + 600, "end": at + 700}})),
            part(&answered, 4, json!({
                "type": "step-finish", "reason": "stop", "cost": 0,
                "tokens": {"input": 10, "output": 5, "reasoning": 0, "cache": {"read": 0, "write": 0}},
            })),
        ],
    });
    (question, answer)
}
