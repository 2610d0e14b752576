//! What lies between here and a host, against real OpenSSH servers: jump hosts, servers that turn callers away,
//! connections that are shared, forwards, and links that die.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

#[path = "support/sshd.rs"]
#[expect(dead_code, reason = "shared with other test binaries")]
mod sshd;

use std::fs;
use std::process::Command;
use std::time::Duration;

use handover::ssh::{
    AgentSource, ConnectOptions, Connection, ExecOptions, IdleTime, LostCause, Pool, SshError,
    Target, scan_host_key,
};
use sshd::{Sshd, SshdOptions, wait_for};

/// A bound for what happens at once, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(20);

fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn start(config: &[String]) -> Sshd {
    Sshd::start(&SshdOptions {
        config: config.to_vec(),
        ..SshdOptions::default()
    })
}

fn target(sshd: &Sshd, name: &str, key: &str) -> Target {
    let mut target = Target::new(name.parse().unwrap(), "127.0.0.1", sshd.port(), &user());
    target.identity_files.push(sshd.path(key));
    target
}

/// Options that trust these servers' keys, the files in the first one's directory, and use no agent.
fn options(servers: &[&Sshd]) -> ConnectOptions {
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

async fn run(connection: &Connection, command: &str) -> String {
    let output = connection
        .exec(command, ExecOptions::new("a test"))
        .await
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn count(sshd: &Sshd, words: &str) -> usize {
    sshd.log()
        .iter()
        .filter(|line| line.contains(words))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_host_is_reached_through_hosts_that_forward_to_nothing_else() {
    let last = start(&[]);
    let middle = start(&[format!("PermitOpen 127.0.0.1:{}", last.port())]);
    let first = start(&[format!("PermitOpen 127.0.0.1:{}", middle.port())]);
    let options = options(&[&first, &middle, &last]);
    let mut through = target(&last, "last", "id_ed25519");
    through.jumps = vec![
        target(&first, "first", "id_ecdsa"),
        target(&middle, "middle", "id_rsa"),
    ];
    let connection = Connection::open(&through, &options).await.unwrap();
    assert_eq!(run(&connection, "echo there").await, "there\n");
    let long = run(&connection, "head -c 400000 /dev/zero | tr '\\0' x").await;
    assert_eq!(long.len(), 400_000);
    for (sshd, key) in [(&first, "ECDSA"), (&middle, "RSA"), (&last, "ED25519")] {
        assert_eq!(count(sshd, "Accepted publickey"), 1, "{:?}", sshd.log());
        let accepted = sshd
            .log()
            .into_iter()
            .find(|line| line.contains("Accepted publickey"));
        assert!(accepted.unwrap().contains(key));
    }
    let info = scan_host_key(&through, &options).await.unwrap();
    assert_eq!(info.verdict, handover::ssh::Verdict::Known);

    // The last clone takes every hop with it.
    let clone = connection.clone();
    drop(connection);
    assert_eq!(run(&clone, "echo still").await, "still\n");
    drop(clone);
    for sshd in [&first, &middle, &last] {
        let gone = wait_for(AT_ONCE, || {
            count(sshd, "Accepted publickey")
                <= count(sshd, "Disconnected from user")
                    + count(sshd, "Connection closed by")
                    + count(sshd, "Connection reset by")
        });
        assert!(gone, "{:?}", sshd.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn every_hop_is_checked_and_the_one_that_fails_is_named() {
    let last = start(&[]);
    let first = start(&[]);
    let jump = |key: &str| {
        let mut through = target(&last, "last", "id_ed25519");
        through.jumps = vec![target(&first, "first", key)];
        through
    };
    let open = async |target: &Target, options: &ConnectOptions| {
        Connection::open(target, options).await.unwrap_err()
    };
    let error = open(&jump("id_rsa"), &options(&[&last])).await;
    assert!(
        matches!(&error, SshError::HostKeyUnknown { host, .. } if host.as_str() == "first"),
        "{error:?}"
    );
    assert_eq!(count(&last, "Connection from"), 0);
    let error = open(&jump("id_rsa"), &options(&[&first])).await;
    assert!(
        matches!(&error, SshError::HostKeyUnknown { host, .. } if host.as_str() == "last"),
        "{error:?}"
    );
    let both = options(&[&first, &last]);
    let error = open(&jump("stranger"), &both).await;
    assert!(
        matches!(&error, SshError::AuthFailed { host, .. } if host.as_str() == "first"),
        "{error:?}"
    );
    let mut stranger = jump("id_rsa");
    stranger.identity_files = vec![last.path("stranger")];
    let error = open(&stranger, &both).await;
    assert!(
        matches!(&error, SshError::AuthFailed { host, .. } if host.as_str() == "last"),
        "{error:?}"
    );
    let mut nowhere = jump("id_rsa");
    nowhere.port = first.port().wrapping_add(1).max(1024);
    while std::net::TcpListener::bind(("127.0.0.1", nowhere.port)).is_err() {
        nowhere.port += 1;
    }
    let error = open(&nowhere, &both).await;
    assert!(
        matches!(&error, SshError::JumpRefused { host, next, unreachable: true, .. }
            if host.as_str() == "first" && next.as_str() == "last"),
        "{error:?}"
    );
    assert!(error.is_retryable_dial());

    let closed = start(&["AllowTcpForwarding no".to_owned()]);
    let mut refused = target(&last, "last", "id_ed25519");
    refused.jumps = vec![target(&closed, "closed", "id_ed25519")];
    let error = open(&refused, &options(&[&closed, &last])).await;
    assert!(
        matches!(&error, SshError::JumpRefused { host, unreachable: false, .. } if host.as_str() == "closed"),
        "{error:?}"
    );
    assert!(!error.is_retryable_dial());
    assert!(!error.to_string().contains("127.0.0.1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_jump_host_that_dies_is_the_cause_that_every_caller_hears() {
    let last = start(&[]);
    let first = start(&[]);
    let mut through = target(&last, "last", "id_ed25519");
    through.jumps = vec![target(&first, "first", "id_ed25519")];
    let connection = Connection::open(&through, &options(&[&first, &last]))
        .await
        .unwrap();
    let slow = || connection.exec("sleep 60", ExecOptions::new("a test").deadline(AT_ONCE * 2));
    let kill = async {
        run(&connection, "echo begun").await;
        first.kill_connections();
    };
    let (one, two, ()) = tokio::join!(slow(), slow(), kill);
    for error in [one.unwrap_err(), two.unwrap_err()] {
        assert!(
            matches!(&error, SshError::Lost { host, source: LostCause::Jump { host: hop, .. } }
                if host.as_str() == "last" && hop.as_str() == "first"),
            "{error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_server_that_turns_callers_away_is_asked_again_and_a_rejected_key_is_not() {
    let sshd = start(&["MaxStartups 1:100:1".to_owned()]);
    let options = options(&[&sshd]);
    let good = target(&sshd, "box", "id_ed25519");
    let all = (0..4).map(|_| Connection::open(&good, &options));
    for connection in futures::future::join_all(all).await {
        assert_eq!(run(&connection.unwrap(), "echo in").await, "in\n");
    }
    let before = count(&sshd, "Connection from");
    let error = Connection::open(&target(&sshd, "box", "stranger"), &options)
        .await
        .unwrap_err();
    assert!(matches!(error, SshError::AuthFailed { .. }), "{error:?}");
    let mut changed = options.clone();
    sshd::keygen(&sshd.path("host_other"), "ed25519", "");
    let names = format!("[127.0.0.1]:{}", sshd.port());
    let file = sshd.path("changed");
    fs::write(&file, sshd.known_hosts_line(&names, "other")).unwrap();
    changed.known_hosts = vec![file];
    let error = Connection::open(&good, &changed).await.unwrap_err();
    assert!(
        matches!(error, SshError::HostKeyChanged { .. }),
        "{error:?}"
    );
    Connection::open(&good, &options).await.unwrap();
    // One more is the last, which shows that the log is as far.
    assert_eq!(count(&sshd, "Connection from"), before + 3);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn many_who_ask_at_once_share_one_connection_and_its_end() {
    let sshd = start(&[]);
    let pool = Pool::new(options(&[&sshd]));
    let target = target(&sshd, "box", "id_ed25519");
    let connections = futures::future::join_all((0..20).map(|_| pool.connect(&target))).await;
    let connections: Vec<_> = connections.into_iter().map(Result::unwrap).collect();
    for connection in &connections {
        assert!(connection.is_same(&connections[0]));
    }
    assert_eq!(run(&connections[7], "echo shared").await, "shared\n");
    let again = pool.connect(&target).await.unwrap();
    assert!(again.is_same(&connections[0]));
    assert_eq!(count(&sshd, "Connection from"), 1);

    // Every waiting caller hears of its death, and the next one gets another.
    let slow = connections.iter().take(5).map(|connection| {
        connection.exec("sleep 60", ExecOptions::new("a test").deadline(AT_ONCE * 2))
    });
    let kill = async {
        run(&again, "true").await;
        sshd.kill_connections();
    };
    let (results, ()) = tokio::join!(futures::future::join_all(slow), kill);
    for result in results {
        let error = result.unwrap_err();
        assert!(matches!(error, SshError::Lost { .. }), "{error:?}");
    }
    let next = pool.connect(&target).await.unwrap();
    assert!(!next.is_same(&again));
    assert_eq!(run(&next, "echo new").await, "new\n");

    // One that is retired is not handed out again, and works on for who has it.
    pool.retire(&next);
    let after = pool.connect(&target).await.unwrap();
    assert!(!after.is_same(&next));
    assert_eq!(run(&next, "echo old").await, "old\n");
    pool.close().await;
    assert!(after.is_closed());
    assert!(!next.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_connection_that_nobody_uses_is_closed_after_its_time() {
    let sshd = start(&[]);
    let target = target(&sshd, "box", "id_ed25519");
    for idle in [Duration::from_millis(300), Duration::ZERO] {
        let mut options = options(&[&sshd]);
        options.idle = IdleTime(idle);
        let pool = Pool::new(options);
        let held = pool.connect(&target).await.unwrap();
        let files = held.sftp().await.unwrap();
        drop(held);
        // Whatever works on the connection holds it too.
        tokio::time::sleep(idle * 3).await;
        let again = pool.connect(&target).await.unwrap();
        assert_eq!(run(&again, "echo open").await, "open\n");
        let goodbyes = count(&sshd, "Received disconnect");
        drop(files);
        drop(again);
        let closed = wait_for(AT_ONCE, || count(&sshd, "Received disconnect") > goodbyes);
        assert!(closed, "{:?}", sshd.log());
        let before = count(&sshd, "Connection from");
        let next = pool.connect(&target).await.unwrap();
        assert_eq!(run(&next, "echo new").await, "new\n");
        assert_eq!(count(&sshd, "Connection from"), before + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_failed_attempt_is_told_to_all_who_wait_and_made_anew() {
    let sshd = start(&[]);
    let options = options(&[&sshd]);
    let pool = Pool::new(options);
    let stranger = target(&sshd, "box", "stranger");
    let results = futures::future::join_all((0..5).map(|_| pool.connect(&stranger))).await;
    for result in results {
        let error = result.unwrap_err();
        assert!(
            matches!(error.unshared(), SshError::AuthFailed { .. }),
            "{error:?}"
        );
        assert!(!error.is_retryable_dial());
    }
    assert_eq!(count(&sshd, "Connection from"), 1);
    // Alone, one gets the error itself; and what failed is not remembered.
    let error = pool.connect(&stranger).await.unwrap_err();
    assert!(matches!(error, SshError::AuthFailed { .. }), "{error:?}");
    fs::copy(sshd.path("id_rsa"), sshd.path("stranger")).unwrap();
    let connection = pool.connect(&stranger).await.unwrap();
    assert_eq!(run(&connection, "echo in").await, "in\n");

    // An attempt that nobody waits for any more is given up; others who wait still get it.
    let other = Pool::new(pool.options().clone());
    let first = tokio::time::timeout(Duration::from_millis(1), other.connect(&stranger)).await;
    assert!(first.is_err());
    let (given_up, kept) = tokio::join!(
        tokio::time::timeout(Duration::from_millis(1), other.connect(&stranger)),
        other.connect(&stranger)
    );
    assert!(given_up.is_err());
    assert_eq!(run(&kept.unwrap(), "echo in").await, "in\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_times_and_attempts_of_a_target_are_its_own() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut silent = Target::new("box".parse().unwrap(), "127.0.0.1", port, "nobody");
    silent.settings.connect_timeout = Some(Duration::from_millis(300));
    silent.settings.connection_attempts = Some(2);
    let options = ConnectOptions::default().agent(AgentSource::None);
    let accepted = async {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
            if held.len() == 2 {
                break;
            }
        }
        held
    };
    let (result, held) = tokio::join!(Connection::open(&silent, &options), accepted);
    let error = result.unwrap_err();
    assert!(
        matches!(&error, SshError::TimedOut { what: "the key exchange", after, .. } if *after == Duration::from_millis(300)),
        "{error:?}"
    );
    assert_eq!(held.len(), 2);
}
