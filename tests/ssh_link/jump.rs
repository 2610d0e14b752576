//! Jump hosts, servers that turn callers away, and a target's own times.

use std::fs;
use std::time::Duration;

use handover::ssh::{
    AgentSource, ConnectOptions, Connection, ExecOptions, LostCause, SshError, Target,
    scan_host_key,
};

use crate::sshd::{self, wait_for};
use crate::support::{AT_ONCE, count, options, run, start, target};

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
async fn a_look_at_a_key_holds_it_to_the_size_that_a_connection_does() {
    let sshd = sshd::Sshd::start(&sshd::SshdOptions {
        host_keys: vec!["rsa"],
        ..sshd::SshdOptions::default()
    });
    let mut target = target(&sshd, "box", "id_ed25519");
    let options = ConnectOptions::default().agent(AgentSource::None);
    scan_host_key(&target, &options).await.unwrap();
    target.settings.required_rsa_size = Some(16384);
    let error = scan_host_key(&target, &options).await.unwrap_err();
    let told = error.to_string();
    assert!(
        matches!(error, SshError::HostKeyRefused { .. }) && told.contains("16384"),
        "{error:?}"
    );
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
