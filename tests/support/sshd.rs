//! A real OpenSSH server on loopback, in a directory of its own, that dies with its handle.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How a test's server differs from the ordinary one.
#[derive(Debug, Default)]
pub(crate) struct SshdOptions {
    /// Lines that come first in its configuration, where the first value of a keyword wins.
    pub(crate) config: Vec<String>,
    /// Leaves SFTP out.
    pub(crate) no_sftp: bool,
    /// The types of its host keys; ed25519 when empty.
    pub(crate) host_keys: Vec<&'static str>,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Sshd {
    child: Child,
    port: u16,
    directory: tempfile::TempDir,
    log: Arc<Mutex<Vec<String>>>,
}

impl Sshd {
    /// Starts a server that lets in whoever has the `id_ed25519`, `id_ecdsa`, `id_rsa` or `locked` key of its
    /// directory; the passphrase of `locked` is `open sesame`.
    pub(crate) fn start(options: &SshdOptions) -> Self {
        Self::start_with(options, |_| Vec::new())
    }

    /// The same, after `prepare` has looked into its directory, which has all keys; what it returns are more lines for
    /// the configuration, which come first.
    pub(crate) fn start_with(
        options: &SshdOptions,
        prepare: impl FnOnce(&Path) -> Vec<String>,
    ) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("handover-sshd-")
            .tempdir()
            .unwrap();
        let at = |name: &str| directory.path().join(name);
        let types: &[&str] = if options.host_keys.is_empty() {
            &["ed25519"]
        } else {
            &options.host_keys
        };
        for kind in types {
            keygen(&at(&format!("host_{kind}")), kind, "");
        }
        let mut authorized = String::new();
        for (name, kind, passphrase) in [
            ("id_ed25519", "ed25519", ""),
            ("id_ecdsa", "ecdsa", ""),
            ("id_rsa", "rsa", ""),
            ("locked", "ed25519", "open sesame"),
        ] {
            keygen(&at(name), kind, passphrase);
            authorized.push_str(&fs::read_to_string(at(&format!("{name}.pub"))).unwrap());
        }
        keygen(&at("stranger"), "ed25519", "");
        fs::write(at("authorized_keys"), authorized).unwrap();
        fs::create_dir(at("home")).unwrap();
        let mut first = prepare(directory.path());
        first.extend(options.config.iter().cloned());
        // The privilege separation directory of the system's package may be missing in a container.
        let _ = fs::create_dir_all("/run/sshd");
        let mut last = String::new();
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let mut config = first.join("\n");
            config.push_str(&format!(
                "\nListenAddress 127.0.0.1\nPort {port}\nStrictModes no\nPasswordAuthentication no\nUsePAM no\n\
                 KbdInteractiveAuthentication no\nPermitRootLogin yes\nPidFile none\nLogLevel VERBOSE\n\
                 AuthorizedKeysFile {}\nSetEnv HOME={}\n",
                at("authorized_keys").display(),
                // The start-up files of whoever runs the tests may be slow, talk, or wait for a lock that a killed
                // session left behind.
                at("home").display()
            ));
            for kind in types {
                config.push_str(&format!(
                    "HostKey {}\n",
                    at(&format!("host_{kind}")).display()
                ));
            }
            if !options.no_sftp {
                config.push_str("Subsystem sftp internal-sftp\n");
            }
            fs::write(at("sshd_config"), config).unwrap();
            let mut child = Command::new("/usr/sbin/sshd")
                .args(["-D", "-e", "-f"])
                .arg(at("sshd_config"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("sshd is installed");
            let log = Arc::new(Mutex::new(Vec::new()));
            let (sink, lines) = (log.clone(), BufReader::new(child.stderr.take().unwrap()));
            std::thread::spawn(move || {
                for line in lines.lines().map_while(Result::ok) {
                    sink.lock().unwrap().push(line);
                }
            });
            let listening = wait_for(Duration::from_secs(10), || {
                let heard = log
                    .lock()
                    .unwrap()
                    .iter()
                    .any(|line| line.contains("Server listening"));
                heard || child.try_wait().unwrap().is_some()
            });
            if listening && child.try_wait().unwrap().is_none() {
                return Self {
                    child,
                    port,
                    directory,
                    log,
                };
            }
            last = log.lock().unwrap().join("\n");
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("sshd did not start: {last}");
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A file of its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// The known_hosts line of its host key under `names`.
    pub(crate) fn known_hosts_line(&self, names: &str, kind: &str) -> String {
        let public = fs::read_to_string(self.path(&format!("host_{kind}.pub"))).unwrap();
        let mut fields = public.split_whitespace();
        format!(
            "{names} {} {}\n",
            fields.next().unwrap(),
            fields.next().unwrap()
        )
    }

    /// Kills every process that serves a connection, and leaves the listener.
    pub(crate) fn kill_connections(&self) {
        self.signal_connections("-KILL");
    }

    /// Stops every process that serves a connection: the link stays open and is silent.
    pub(crate) fn stop_connections(&self) {
        self.signal_connections("-STOP");
    }

    fn signal_connections(&self, signal: &str) {
        for pid in descendants(self.child.id()) {
            let _ = Command::new("kill")
                .args([signal, &pid.to_string()])
                .stderr(Stdio::null())
                .status();
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill_connections();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a key pair at `path`.
pub(crate) fn keygen(path: &Path, kind: &str, passphrase: &str) {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-N", passphrase, "-C", "test key", "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .status()
        .expect("ssh-keygen is installed");
    assert!(status.success());
}

/// Waits until `condition` holds; false when it does not within `bound`.
pub(crate) fn wait_for(bound: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > bound {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

fn descendants(root: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        let tasks = format!("/proc/{parent}/task/{parent}/children");
        let children = fs::read_to_string(tasks).unwrap_or_default();
        for child in children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
        {
            found.push(child);
            parents.push(child);
        }
    }
    found
}
