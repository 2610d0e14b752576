//! Questions to a person at a terminal, on the way to a real OpenSSH server.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

#[path = "support/password_user.rs"]
mod password_user;
#[path = "support/pty.rs"]
mod pty;
#[expect(dead_code, reason = "no server falls silent here")]
#[path = "support/sshd.rs"]
mod sshd;

use std::fs;
use std::process::Command;
use std::time::Duration;

use password_user::PasswordUser;
use pty::Terminal;
use sshd::{Sshd, SshdOptions, wait_for};

fn start() -> Sshd {
    let sshd = Sshd::start(&SshdOptions {
        config: vec!["PasswordAuthentication yes".to_owned()],
        ..SshdOptions::default()
    });
    fs::create_dir_all(sshd.path("here/config")).unwrap();
    let names = format!("[127.0.0.1]:{}", sshd.port());
    let known = sshd.known_hosts_line(&names, "ed25519");
    fs::write(sshd.path("here/config/known_hosts"), known).unwrap();
    sshd
}

/// The definition of a host at the server.
fn host(sshd: &Sshd, name: &str, user: &str, more: &str) -> String {
    format!(
        "[hosts.{name}]\nhost = \"{user}@127.0.0.1\"\nport = {}\n{more}",
        sshd.port()
    )
}

/// Runs `handover` at a terminal, with these hosts.
fn handover(sshd: &Sshd, hosts: &str, arguments: &[&str]) -> Terminal {
    let home = sshd.path("here");
    fs::write(home.join("config/hosts.toml"), hosts).unwrap();
    let at = |name: &str| home.join(name).to_str().unwrap().to_owned();
    Terminal::start(
        env!("CARGO_BIN_EXE_handover"),
        arguments,
        &[
            ("HOME", &at("")),
            ("HANDOVER_CONFIG_DIR", &at("config")),
            ("HANDOVER_STATE_DIR", &at("state")),
            ("HANDOVER_SSH_CONFIG", "none"),
        ],
    )
}

fn count(sshd: &Sshd, words: &str) -> usize {
    let log = sshd.log();
    log.iter().filter(|line| line.contains(words)).count()
}

#[test]
#[ignore = "needs sshd"]
fn two_hosts_ask_for_their_passwords_one_after_the_other() {
    let sshd = start();
    let (ada, bob) = (PasswordUser::new("first"), PasswordUser::new("second"));
    let hosts = host(&sshd, "one", &ada.0, "") + &host(&sshd, "two", &bob.0, "");
    let mut terminal = handover(&sshd, &hosts, &["jobs", "--discover"]);
    let question = "'s password: ";
    terminal.wait_for(question, 1);
    // Both have come as far as this.
    assert!(wait_for(Duration::from_secs(60), || {
        count(&sshd, "Connection from") == 2
    }));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(terminal.seen().matches(question).count(), 1);
    let passwords = |terminal: &Terminal| {
        let seen = terminal.seen();
        let last = seen.trim_end().lines().last().unwrap().to_owned();
        if last.contains("@one") {
            "first\n"
        } else {
            assert!(last.contains("@two"), "{seen}");
            "second\n"
        }
    };
    assert!(!terminal.echoes());
    terminal.type_in(passwords(&terminal));
    terminal.wait_for(question, 2);
    assert!(!terminal.echoes());
    terminal.type_in(passwords(&terminal));
    let (_, seen) = terminal.end();
    assert_eq!(count(&sshd, "Accepted password"), 2, "{:?}", sshd.log());
    assert_eq!(count(&sshd, "Failed password"), 0);
    for secret in ["first", "second"] {
        assert!(!seen.contains(secret), "{seen}");
    }
}

#[test]
#[ignore = "needs sshd"]
fn a_question_that_is_interrupted_leaves_the_terminal_as_it_was() {
    let sshd = start();
    let user = PasswordUser::new("correct horse");
    let hosts = host(&sshd, "box", &user.0, "");
    for (arguments, code) in [
        (&["check", "box"][..], 130),
        (&["jobs", "--discover"][..], 130),
        // It listens for interrupts itself: nothing was launched.
        (&["run", "box", "hello"][..], 130),
    ] {
        let mut terminal = handover(&sshd, &hosts, arguments);
        terminal.wait_for("'s password: ", 1);
        assert!(!terminal.echoes());
        // Neither stops the program with the echo off.
        terminal.type_in("half\u{1a}\u{1c}");
        std::thread::sleep(Duration::from_millis(200));
        terminal.type_in("\u{3}");
        let (status, seen) = terminal.end();
        assert_eq!(status.code(), Some(code), "{arguments:?}: {seen}");
    }
    let terminal = handover(&sshd, &hosts, &["check", "box"]);
    terminal.wait_for("'s password: ", 1);
    let killed = Command::new("kill")
        .args(["-TERM", &terminal.pid().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let (status, seen) = terminal.end();
    assert_eq!(status.code(), Some(143), "{seen}");
    assert_eq!(count(&sshd, "Accepted"), 0);
}

#[test]
#[ignore = "needs sshd"]
fn a_check_asks_for_a_passphrase_once_though_it_logs_in_twice() {
    let sshd = start();
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let key = format!("identity_file = \"{}\"\n", sshd.path("locked").display());
    let hosts = host(&sshd, "box", user.trim(), &key);
    let mut terminal = handover(&sshd, &hosts, &["check", "box"]);
    terminal.wait_for("Enter passphrase", 1);
    terminal.type_in("open sesame\n");
    terminal.wait_for("after logout", 1);
    let (_, seen) = terminal.end();
    assert_eq!(seen.matches("Enter passphrase").count(), 1, "{seen}");
    assert_eq!(count(&sshd, "Accepted publickey"), 2, "{:?}", sshd.log());
}
