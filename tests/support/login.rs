//! Targets, options, an agent and a person for logins to the test server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use handover::ssh::{
    AgentSource, Challenge, ConnectOptions, LoginAs, Prompt, Target, UnknownHostKey,
};
use zeroize::Zeroizing;

use crate::sshd::{Sshd, wait_for};

/// A bound for what happens at once, on a busy machine.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(20);

pub(crate) fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(crate) fn target(sshd: &Sshd, key: &str) -> Target {
    let mut target = Target::new("box".parse().unwrap(), "127.0.0.1", sshd.port(), &user());
    target.identity_files.push(sshd.path(key));
    target
}

/// Options that trust the server's key and use no agent.
pub(crate) fn options(sshd: &Sshd) -> ConnectOptions {
    let names = format!("[127.0.0.1]:{}", sshd.port());
    with_known_hosts(sshd, &sshd.known_hosts_line(&names, "ed25519"))
}

pub(crate) fn with_known_hosts(sshd: &Sshd, lines: &str) -> ConnectOptions {
    let file = sshd.path("known_hosts");
    fs::write(&file, lines).unwrap();
    let mut options = ConnectOptions::default()
        .agent(AgentSource::None)
        .trusted_hosts(sshd.path("trusted"));
    options.known_hosts = vec![file];
    options
}

/// Somebody at a terminal who answers every question alike.
pub(crate) struct Person {
    passphrase: &'static str,
    accept: bool,
    /// How often it was asked.
    pub(crate) asked: AtomicUsize,
}

impl Person {
    pub(crate) fn new(passphrase: &'static str, accept: bool) -> Arc<Self> {
        Arc::new(Self {
            passphrase,
            accept,
            asked: AtomicUsize::new(0),
        })
    }
}

#[async_trait]
impl Prompt for Person {
    async fn passphrase(&self, _key_file: &Path) -> Option<Zeroizing<String>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Some(Zeroizing::new(self.passphrase.to_owned()))
    }

    async fn accept_host_key(&self, key: &UnknownHostKey) -> bool {
        assert!(key.fingerprint.starts_with("SHA256:"));
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.accept
    }

    async fn password(&self, login: &LoginAs) -> Option<Zeroizing<String>> {
        let before = self.asked.fetch_add(1, Ordering::SeqCst);
        assert_eq!(login.tries_before, before);
        Some(Zeroizing::new(self.passphrase.to_owned()))
    }

    async fn answers(&self, challenge: &Challenge) -> Option<Vec<Zeroizing<String>>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = || Zeroizing::new(self.passphrase.to_owned());
        Some(challenge.questions.iter().map(|_| answer()).collect())
    }
}

/// An ssh-agent(1), which ends with this.
pub(crate) struct Agent {
    /// Where it listens.
    pub(crate) socket: PathBuf,
    child: Child,
}

impl Agent {
    pub(crate) fn start(directory: &Path) -> Self {
        let socket = directory.join("agent.sock");
        let child = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        assert!(wait_for(AT_ONCE, || socket.exists()));
        Self { socket, child }
    }

    pub(crate) fn add(&self, key: &Path) {
        let status = Command::new("ssh-add")
            .arg("-q")
            .arg(key)
            .env("SSH_AUTH_SOCK", &self.socket)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }

    pub(crate) fn source(&self) -> AgentSource {
        AgentSource::Path(self.socket.clone())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
