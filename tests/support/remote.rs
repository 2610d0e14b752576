//! Another machine on this one: a system user with a home of its own behind a real sshd on loopback.
//!
//! The main type is [`Remote`]. sshd takes HOME from the user database, so a user is what makes the other side's
//! opencode another one. It needs root, or `sudo` that does not ask.

use std::fs::Permissions;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::provider::Provider;

const SSHD_DEADLINE: Duration = Duration::from_secs(20);

/// The user database has one lock, and useradd does not wait for it.
static USER_DATABASE: Mutex<()> = Mutex::new(());

/// A user, an sshd that lets it in, and a key; all of it goes when dropped.
pub(crate) struct Remote {
    directory: TempDir,
    user: String,
    port: u16,
}

impl Remote {
    /// Makes a user with `program` at `~/.opencode/bin/opencode`, configured for `provider`, and a git repository
    /// `~/work` in its home (opencode takes snapshots nowhere else), and starts an sshd for it.
    pub(crate) fn start(program: &Path, provider: &Provider) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = std::env::var("HANDOVER_TEST_USERS").unwrap_or_else(|_| "hotest".to_owned());
        let user = format!(
            "{prefix}-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let directory = tempfile::Builder::new().prefix("remote-").tempdir()?;
        let remote = Self {
            directory,
            user,
            port: free_port()?,
        };
        // The other user walks through here; what is secret inside has a mode of its own.
        std::fs::set_permissions(remote.path(""), Permissions::from_mode(0o755))?;
        remote.add_user(program, provider)?;
        remote.start_sshd()?;
        Ok(remote)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The user's home directory.
    pub(crate) fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// A table of `hosts.toml` for this machine, under the name `name`, with more lines for it.
    pub(crate) fn hosts_entry(&self, name: &str, more: &str) -> String {
        format!(
            "[hosts.{name}]\nhost = \"{}@127.0.0.1\"\nport = {}\nidentity_file = {:?}\n{more}\n",
            self.user,
            self.port,
            self.path("key"),
        )
    }

    /// What `script` prints on the other side, which must succeed.
    pub(crate) fn shell(&self, script: &str) -> Result<String> {
        let output = Command::new("ssh")
            .args([
                "-F",
                "none",
                "-o",
                "BatchMode=yes",
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "LogLevel=ERROR",
            ])
            .args([
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "IdentitiesOnly=yes",
                "-i",
            ])
            .arg(self.path("key"))
            .args([
                "-p",
                &self.port.to_string(),
                &format!("{}@127.0.0.1", self.user),
                script,
            ])
            .stdin(Stdio::null())
            .output()
            .context("run ssh")?;
        ensure!(
            output.status.success(),
            "{script}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    fn add_user(&self, program: &Path, provider: &Provider) -> Result<()> {
        // The program's own place may be out of the other user's reach (below /root, say); a hard link is not.
        let shared = self.path("opencode");
        if std::fs::hard_link(program, &shared).is_err() {
            std::fs::copy(program, &shared).context("copy opencode for the other user")?;
        }
        let skeleton = self.path("skeleton");
        std::fs::create_dir_all(skeleton.join(".opencode/bin"))?;
        symlink(&shared, skeleton.join(".opencode/bin/opencode"))?;
        provider.configure(&skeleton)?;
        quiet(
            Command::new("git")
                .args(["init", "-q"])
                .arg(skeleton.join("work")),
        )?;
        let _one_at_a_time = USER_DATABASE.lock().unwrap_or_else(PoisonError::into_inner);
        // useradd copies the skeleton with the right owner. `*` is a password that nothing matches; the default
        // is a locked account, which sshd refuses.
        quiet(
            as_root("useradd")
                .args([
                    "-m",
                    "-p",
                    "*",
                    "-s",
                    "/bin/bash",
                    "-K",
                    "HOME_MODE=0755",
                    "-k",
                ])
                .arg(&skeleton)
                .arg("-d")
                .arg(self.home())
                .arg(&self.user),
        )
    }

    fn start_sshd(&self) -> Result<()> {
        for key in ["key", "host_key"] {
            quiet(
                Command::new("ssh-keygen")
                    .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                    .arg(self.path(key)),
            )?;
        }
        std::fs::copy(self.path("key.pub"), self.path("authorized_keys"))?;
        // StrictModes is off because the keys lie below the world-writable directory for temporary files. TMPDIR is
        // set because opencode shares one directory of a fixed name among all users of /tmp.
        let config = format!(
            "ListenAddress 127.0.0.1:{}\nHostKey {}\nPidFile {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin no\nMaxStartups 100\n\
             PrintMotd no\nSetEnv TMPDIR={}\nSubsystem sftp internal-sftp\n",
            self.port,
            self.path("host_key").display(),
            self.path("sshd.pid").display(),
            self.path("authorized_keys").display(),
            self.home().display(),
        );
        std::fs::write(self.path("sshd_config"), config)?;
        quiet(as_root("mkdir").args(["-p", "/run/sshd"]))?;
        quiet(
            as_root("/usr/sbin/sshd")
                .arg("-f")
                .arg(self.path("sshd_config"))
                .arg("-E")
                .arg(self.path("sshd.log")),
        )?;
        let deadline = Instant::now() + SSHD_DEADLINE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err()
            || !self.path("sshd.pid").exists()
        {
            ensure!(
                Instant::now() < deadline,
                "sshd does not answer on port {}",
                self.port
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if let Ok(pid) = std::fs::read_to_string(self.path("sshd.pid")) {
            drop(quiet(as_root("kill").arg(pid.trim())));
        }
        // Whatever the user still runs (a job, an sshd of an open connection) would keep it from being removed.
        drop(quiet(as_root("pkill").args(["-KILL", "-u", &self.user])));
        let _one_at_a_time = USER_DATABASE.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + SSHD_DEADLINE;
        while quiet(as_root("userdel").args(["-r", &self.user])).is_err()
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A port that was free a moment ago; sshd cannot be asked for an ephemeral one.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// A command that runs as root: as it is for root, else through sudo, which must not ask.
fn as_root(program: &str) -> Command {
    let root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout == b"0\n");
    if root {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

fn quiet(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
