//! Servers, targets and options for these tests.

use std::fs;
use std::process::Command;
use std::time::Duration;

use handover::ssh::{AgentSource, ConnectOptions, Connection, ExecOptions, Target};

use crate::sshd::{Sshd, SshdOptions};

/// A bound for what happens at once, on a busy machine.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(20);

pub(crate) fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(crate) fn start(config: &[String]) -> Sshd {
    Sshd::start(&SshdOptions {
        config: config.to_vec(),
        ..SshdOptions::default()
    })
}

pub(crate) fn target(sshd: &Sshd, name: &str, key: &str) -> Target {
    let mut target = Target::new(name.parse().unwrap(), "127.0.0.1", sshd.port(), &user());
    target.identity_files.push(sshd.path(key));
    target
}

/// Options that trust these servers' keys, the files in the first one's directory, and use no agent.
pub(crate) fn options(servers: &[&Sshd]) -> ConnectOptions {
    let file = servers[0].path("known_hosts");
    let lines: String = servers
        .iter()
        .map(|sshd| sshd.known_hosts_line(&format!("[127.0.0.1]:{}", sshd.port()), "ed25519"))
        .collect();
    fs::write(&file, lines).unwrap();
    let mut options = ConnectOptions::default().agent(AgentSource::None);
    options.known_hosts = vec![file];
    options
}

pub(crate) async fn run(connection: &Connection, command: &str) -> String {
    let output = connection
        .exec(command, ExecOptions::new("a test"))
        .await
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn count(sshd: &Sshd, words: &str) -> usize {
    sshd.log()
        .iter()
        .filter(|line| line.contains(words))
        .count()
}

/// The known_hosts line under which a server's key is found behind `port` of this machine.
pub(crate) fn known(sshd: &Sshd, port: u16) -> String {
    sshd.known_hosts_line(&format!("[127.0.0.1]:{port}"), "ed25519")
}

/// A target and options for a server behind `port`, which may be a proxy's.
pub(crate) fn behind(sshd: &Sshd, port: u16) -> (Target, ConnectOptions) {
    let mut target = target(sshd, "box", "id_ed25519");
    target.port = port;
    let file = sshd.path(&format!("known_hosts_{port}"));
    fs::write(&file, known(sshd, port)).unwrap();
    let mut options = ConnectOptions::default().agent(AgentSource::None);
    options.known_hosts = vec![file];
    (target, options)
}

/// A connection to a server behind `port`.
pub(crate) async fn connect(sshd: &Sshd, port: u16) -> Connection {
    let (target, options) = behind(sshd, port);
    Connection::open(&target, &options).await.unwrap()
}
