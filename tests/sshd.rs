//! The SSH layer against a real OpenSSH server.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

#[path = "support/login.rs"]
mod login;
#[path = "support/sshd.rs"]
mod sshd;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use handover::ssh::{
    AttemptOutcome, Connection, ExecOptions, ExitStatus, Files, RemotePath, SshError, Verdict,
    scan_host_key,
};
use login::{AT_ONCE, Agent, Person, options, target, with_known_hosts};
use sha2::{Digest as _, Sha256};
use sshd::{Sshd, SshdOptions, keygen, wait_for};

async fn connect(sshd: &Sshd) -> Connection {
    Connection::open(&target(sshd, "id_ed25519"), &options(sshd))
        .await
        .unwrap()
}

fn remote(path: &Path) -> RemotePath {
    path.to_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn every_kind_of_key_logs_in() {
    let sshd = Sshd::start(&SshdOptions::default());
    for key in ["id_ed25519", "id_ecdsa", "id_rsa"] {
        let connection = Connection::open(&target(&sshd, key), &options(&sshd))
            .await
            .unwrap();
        let output = connection
            .exec("echo $SSH_CONNECTION", ExecOptions::new("a test"))
            .await
            .unwrap();
        assert!(output.status.success());
        connection.close().await;
        assert!(connection.is_closed());
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_server_with_one_algorithm_is_reached_where_ssh_reaches_it() {
    let mac = |mac: &str| vec![format!("MACs {mac}"), "Ciphers aes256-ctr".to_owned()];
    let one = |keyword: &str, name: &str| vec![format!("{keyword} {name}")];
    for (config, wanted) in [
        (one("KexAlgorithms", "ecdh-sha2-nistp256"), true),
        (one("KexAlgorithms", "ecdh-sha2-nistp384"), true),
        (one("KexAlgorithms", "ecdh-sha2-nistp521"), true),
        (one("Ciphers", "aes128-gcm@openssh.com"), true),
        (mac("hmac-sha1"), true),
        (mac("hmac-sha1-etm@openssh.com"), true),
        // What the library does not know.
        (mac("umac-128-etm@openssh.com"), false),
        (
            one("KexAlgorithms", "sntrup761x25519-sha512@openssh.com"),
            false,
        ),
        // What ssh(1) does not offer either.
        (one("KexAlgorithms", "diffie-hellman-group14-sha1"), false),
        (one("Ciphers", "aes128-cbc"), false),
    ] {
        let sshd = Sshd::start(&SshdOptions {
            config: config.clone(),
            ..SshdOptions::default()
        });
        let options = options(&sshd);
        let opened = Connection::open(&target(&sshd, "id_ed25519"), &options).await;
        match &opened {
            Ok(_) => assert!(wanted, "{config:?}"),
            Err(SshError::Handshake { .. }) => assert!(!wanted, "{config:?}"),
            Err(error) => panic!("{config:?}: {error:?}"),
        }
        if wanted {
            let judged = as_ssh_judges(&sshd, &options.known_hosts, Path::new("none"));
            assert_eq!(judged, "known", "ssh(1) with {config:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_server_that_renames_over_nothing_replaces_files_all_the_same() {
    let sshd = Sshd::start(&SshdOptions {
        config: vec!["Subsystem sftp internal-sftp -P posix-rename".to_owned()],
        no_sftp: true,
        ..SshdOptions::default()
    });
    every_file_promise_holds(&connect(&sshd).await.sftp().await.unwrap(), &sshd, 1).await;
    let files = connect(&sshd).await.sftp().await.unwrap();
    let directory = tempfile::tempdir_in(sshd.path("")).unwrap();
    let path = remote(directory.path()).join("file");
    // What an earlier attempt has left is in nobody's way.
    fs::write(format!("{path}.old"), "older").unwrap();
    for text in ["one", "two", "three"] {
        files.write(&path, text.as_bytes()).await.unwrap();
        assert_eq!(fs::read_to_string(path.as_str()).unwrap(), text);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn the_default_files_are_offered_when_none_is_named() {
    let sshd = Sshd::start(&SshdOptions::default());
    let mut target = target(&sshd, "id_ed25519");
    target.identity_files.clear();
    let mut options = options(&sshd);
    options.identity_dir = Some(sshd.path(""));
    Connection::open(&target, &options).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn an_unaccepted_key_is_named_in_the_error() {
    let sshd = Sshd::start(&SshdOptions::default());
    let error = Connection::open(&target(&sshd, "stranger"), &options(&sshd))
        .await
        .unwrap_err();
    let SshError::AuthFailed { tried, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(tried.len(), 1);
    assert_eq!(tried[0].outcome, AttemptOutcome::Rejected);
    assert!(error.to_string().contains("stranger"), "{error}");
    assert!(!error.is_retryable_dial());

    let error = Connection::open(&target(&sshd, "missing"), &options(&sshd))
        .await
        .unwrap_err();
    assert!(matches!(error, SshError::KeyFile { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn an_encrypted_key_fails_at_once_without_a_person() {
    let sshd = Sshd::start(&SshdOptions::default());
    let error = Connection::open(&target(&sshd, "locked"), &options(&sshd))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SshError::KeyEncrypted { path, .. } if path.ends_with("locked")),
        "{error:?}"
    );

    let mut both = target(&sshd, "locked");
    both.identity_files.push(sshd.path("id_ed25519"));
    Connection::open(&both, &options(&sshd)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_person_is_asked_for_a_passphrase_that_would_help_and_for_no_other() {
    let sshd = Sshd::start(&SshdOptions::default());
    let person = Person::new("open sesame", false);
    Connection::open(
        &target(&sshd, "locked"),
        &options(&sshd).prompt(person.clone()),
    )
    .await
    .unwrap();
    assert_eq!(person.asked.load(Ordering::SeqCst), 1);

    let wrong = Person::new("close sesame", false);
    let error = Connection::open(
        &target(&sshd, "locked"),
        &options(&sshd).prompt(wrong.clone()),
    )
    .await
    .unwrap_err();
    assert!(matches!(error, SshError::AuthFailed { .. }), "{error:?}");
    assert_eq!(wrong.asked.load(Ordering::SeqCst), 3);

    keygen(&sshd.path("useless"), "ed25519", "secret");
    let spared = Person::new("secret", false);
    Connection::open(
        &target(&sshd, "useless"),
        &options(&sshd).prompt(spared.clone()),
    )
    .await
    .unwrap_err();
    assert_eq!(spared.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn an_agent_signs_and_its_many_keys_do_not_crowd_out_a_file() {
    let sshd = Sshd::start(&SshdOptions::default());
    for key in ["id_ed25519", "id_rsa"] {
        let home = tempfile::tempdir().unwrap();
        let agent = Agent::start(home.path());
        agent.add(&sshd.path(key));
        let mut target = target(&sshd, key);
        target.identity_files.clear();
        let source = agent.source();
        Connection::open(&target, &options(&sshd).agent(source))
            .await
            .unwrap();
    }
    let home = tempfile::tempdir().unwrap();
    let agent = Agent::start(home.path());
    for place in 0..8 {
        let key = sshd.path(&format!("crowd{place}"));
        keygen(&key, "ed25519", "");
        agent.add(&key);
    }
    let source = agent.source();
    Connection::open(
        &target(&sshd, "id_ed25519"),
        &options(&sshd).agent(source.clone()),
    )
    .await
    .unwrap();
    let mut unnamed = target(&sshd, "id_ed25519");
    unnamed.identity_files.clear();
    let mut defaults = options(&sshd).agent(source);
    defaults.identity_dir = Some(sshd.path(""));
    Connection::open(&unnamed, &defaults).await.unwrap();
    defaults.identity_dir = None;
    let error = Connection::open(&unnamed, &defaults).await.unwrap_err();
    let SshError::AuthFailed { tried, .. } = error else {
        panic!("{error:?}")
    };
    let offered = tried
        .iter()
        .filter(|attempt| attempt.outcome == AttemptOutcome::Rejected)
        .count();
    // The server ends the login at the sixth, and two are left.
    let ended = tried
        .iter()
        .filter(|attempt| attempt.outcome == AttemptOutcome::Ended);
    assert_eq!((offered, ended.count(), tried.len()), (6, 1, 9));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn host_keys_are_judged_as_they_are_on_record() {
    let sshd = Sshd::start(&SshdOptions {
        host_keys: vec!["ed25519", "ecdsa", "rsa"],
        ..SshdOptions::default()
    });
    let names = format!("[127.0.0.1]:{}", sshd.port());
    keygen(&sshd.path("host_other"), "ed25519", "");
    let good = sshd.known_hosts_line(&names, "ed25519");
    let other = sshd.known_hosts_line(&names, "other");
    let bare = sshd.known_hosts_line("127.0.0.1", "ed25519");
    let bare_other = sshd.known_hosts_line("127.0.0.1", "other");
    let pattern = sshd.known_hosts_line("[127.0.0.*]:*", "ed25519");
    let pattern_other = sshd.known_hosts_line("[127.0.0.*]:*", "other");
    let hashed = hash(&sshd, &good);
    let open = async |lines: &str| {
        let result = Connection::open(
            &target(&sshd, "id_ed25519"),
            &with_known_hosts(&sshd, lines),
        )
        .await;
        match result {
            Ok(_) => "known",
            Err(SshError::HostKeyUnknown { .. }) => "unknown",
            Err(SshError::HostKeyChanged { .. }) => "changed",
            Err(SshError::HostKeyRevoked { .. }) => "revoked",
            Err(error) => panic!("{error:?}"),
        }
    };
    for (lines, wanted) in [
        (good.clone(), "known"),
        (String::new(), "unknown"),
        (other.clone(), "changed"),
        (format!("{other}{good}"), "known"),
        (format!("{good}@revoked {good}"), "revoked"),
        (
            format!("@revoked {}", sshd.known_hosts_line("*", "ed25519")),
            "revoked",
        ),
        (format!("@revoked {other}"), "unknown"),
        (format!("@cert-authority {good}"), "unknown"),
        (hashed.clone(), "known"),
        (hash(&sshd, &other), "changed"),
        (pattern, "known"),
        (pattern_other, "changed"),
        (
            sshd.known_hosts_line(&format!("!{names},*"), "ed25519"),
            "known",
        ),
        (
            sshd.known_hosts_line(&format!("!127.0.0.1,!{names},*"), "ed25519"),
            "unknown",
        ),
        (format!("{other}{bare}"), "changed"),
        (format!("@revoked {other}{bare}"), "known"),
        (format!("\t {good}"), "known"),
        (good.replace(' ', "\t"), "known"),
        (good.replace("ssh-ed25519", "ssh-rsa"), "unknown"),
        (
            sshd.known_hosts_line(&format!("example.org,{names}"), "ed25519"),
            "known",
        ),
        (
            sshd.known_hosts_line(&names, "ed25519")
                .replace('\n', " a comment # more\n"),
            "known",
        ),
        (good.trim_end().to_owned(), "known"),
        (bare, "known"),
        (bare_other.clone(), "unknown"),
        (format!("{bare_other}{good}"), "known"),
        (
            format!("no key here\n\u{fffd}\n# comment\n\n{good}"),
            "known",
        ),
        (sshd.known_hosts_line(&names, "rsa"), "known"),
        (sshd.known_hosts_line(&names, "ecdsa"), "known"),
    ] {
        assert_eq!(open(&lines).await, wanted, "{lines}");
        let user = [sshd.path("known_hosts")];
        let judged = as_ssh_judges(&sshd, &user, Path::new("none"));
        assert_eq!(judged, wanted, "ssh(1) on {lines}");
    }
    assert!(hashed.starts_with("|1|"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn host_keys_are_judged_by_all_of_the_users_files_and_the_systems() {
    let sshd = Sshd::start(&SshdOptions::default());
    let names = format!("[127.0.0.1]:{}", sshd.port());
    keygen(&sshd.path("host_other"), "ed25519", "");
    let good = &sshd.known_hosts_line(&names, "ed25519");
    let other = &sshd.known_hosts_line(&names, "other");
    let bare = &sshd.known_hosts_line("127.0.0.1", "ed25519");
    let bare_other = &sshd.known_hosts_line("127.0.0.1", "other");
    let (hashed, revoked) = (&hash(&sshd, good), &format!("@revoked {good}"));
    let bare_revoked = &format!("@revoked {bare}");
    let none = &String::new();
    for (first, second, system, wanted, to_ssh) in [
        (none, none, none, "unknown", "unknown"),
        (none, good, none, "known", "known"),
        (none, none, good, "known", "known"),
        (none, none, hashed, "known", "known"),
        (other, none, none, "changed", "changed"),
        (none, other, none, "changed", "changed"),
        (none, none, other, "changed", "changed"),
        (other, good, none, "known", "known"),
        (good, other, none, "known", "known"),
        (other, none, good, "known", "known"),
        (good, none, other, "known", "known"),
        (good, revoked, none, "revoked", "revoked"),
        (revoked, good, none, "revoked", "revoked"),
        (good, none, revoked, "revoked", "revoked"),
        (revoked, none, good, "revoked", "revoked"),
        (none, bare, none, "known", "known"),
        (none, none, bare, "known", "known"),
        (other, bare, none, "changed", "changed"),
        (none, other, bare, "changed", "changed"),
        (bare_other, none, none, "unknown", "unknown"),
        (bare_other, none, good, "known", "known"),
        (bare_revoked, none, none, "revoked", "revoked"),
        // ssh(1) looks for a bare name only where it has found nothing under the name with the port; here a
        // revocation counts wherever it stands.
        (bare_revoked, good, none, "revoked", "known"),
        (good, none, bare_revoked, "revoked", "known"),
    ] {
        let files = ["first", "second", "system"].map(|name| sshd.path(name));
        for (file, lines) in files.iter().zip([first, second, system]) {
            // No line is no file.
            let _ = fs::remove_file(file);
            if !lines.is_empty() {
                fs::write(file, lines).unwrap();
            }
        }
        let mut options = options(&sshd);
        let [first_file, second_file, system_file] = files;
        options.known_hosts = vec![first_file, second_file];
        options.global_known_hosts = vec![system_file];
        let told = format!("first:\n{first}second:\n{second}system:\n{system}");
        let info = scan_host_key(&target(&sshd, "id_ed25519"), &options).await;
        let judged = match info.unwrap().verdict {
            Verdict::Known => "known",
            Verdict::Unknown => "unknown",
            Verdict::Changed { .. } => "changed",
            Verdict::Revoked { .. } => "revoked",
            other => panic!("{other:?}"),
        };
        assert_eq!(judged, wanted, "{told}");
        let opened = Connection::open(&target(&sshd, "id_ed25519"), &options).await;
        assert_eq!(opened.is_ok(), wanted == "known", "{told}");
        let judged = as_ssh_judges(&sshd, &options.known_hosts, &options.global_known_hosts[0]);
        assert_eq!(judged, to_ssh, "ssh(1) on {told}");
    }
}

/// What ssh(1) makes of the server's key with these files of the user's, and this one of the system's.
fn as_ssh_judges(sshd: &Sshd, user: &[PathBuf], system: &Path) -> &'static str {
    let user: Vec<String> = user.iter().map(|file| file.display().to_string()).collect();
    let output = Command::new("ssh")
        .args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=yes",
        ])
        .args(["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"])
        .arg("-o")
        .arg(format!("GlobalKnownHostsFile={}", system.display()))
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", user.join(" ")))
        .arg("-i")
        .arg(sshd.path("id_ed25519"))
        .args(["-p", &sshd.port().to_string(), "127.0.0.1", "true"])
        .stdin(Stdio::null())
        .output()
        .expect("ssh is installed");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        "known"
    } else if words.contains("REVOKED") {
        "revoked"
    } else if words.contains("HAS CHANGED") {
        "changed"
    } else if words.contains("host key is known") {
        "unknown"
    } else {
        panic!("{words}")
    }
}

/// The same lines with hashed names, as ssh-keygen(1) hashes them.
fn hash(sshd: &Sshd, lines: &str) -> String {
    let file = sshd.path("to_hash");
    fs::write(&file, lines).unwrap();
    let status = Command::new("ssh-keygen")
        .arg("-H")
        .arg("-f")
        .arg(&file)
        .output()
        .unwrap();
    assert!(status.status.success());
    fs::read_to_string(file).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn an_unknown_host_key_is_refused_asked_about_and_written_down() {
    let sshd = Sshd::start(&SshdOptions::default());
    let target = target(&sshd, "id_ed25519");
    let error = Connection::open(&target, &with_known_hosts(&sshd, ""))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("host key"), "{error}");
    assert!(error.to_string().contains("SHA256:"), "{error}");
    assert!(!error.to_string().contains("127.0.0.1"), "{error}");

    let no = Person::new("", false);
    let error = Connection::open(&target, &with_known_hosts(&sshd, "").prompt(no))
        .await
        .unwrap_err();
    assert!(
        matches!(error, SshError::HostKeyUnknown { .. }),
        "{error:?}"
    );
    assert!(!sshd.path("trusted").exists());

    let yes = Person::new("", true);
    Connection::open(&target, &with_known_hosts(&sshd, "").prompt(yes))
        .await
        .unwrap();
    Connection::open(&target, &with_known_hosts(&sshd, ""))
        .await
        .unwrap();
    let written = fs::read_to_string(sshd.path("trusted")).unwrap();
    assert_eq!(
        written,
        sshd.known_hosts_line(&format!("[127.0.0.1]:{}", sshd.port()), "ed25519")
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_file_that_cannot_be_read_refuses_the_connection() {
    let sshd = Sshd::start(&SshdOptions::default());
    let mut options = options(&sshd);
    options.known_hosts.push(sshd.path(""));
    let error = Connection::open(&target(&sshd, "id_ed25519"), &options)
        .await
        .unwrap_err();
    assert!(matches!(error, SshError::KnownHosts { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_scan_tells_the_key_and_what_is_on_record() {
    let sshd = Sshd::start(&SshdOptions::default());
    let info = scan_host_key(&target(&sshd, "id_ed25519"), &with_known_hosts(&sshd, ""))
        .await
        .unwrap();
    assert_eq!(info.verdict, Verdict::Unknown);
    let output = Command::new("ssh-keygen")
        .arg("-lf")
        .arg(sshd.path("host_ed25519.pub"))
        .output()
        .unwrap();
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains(&info.fingerprint)
    );
    let info = scan_host_key(&target(&sshd, "id_ed25519"), &options(&sshd))
        .await
        .unwrap();
    assert_eq!(info.verdict, Verdict::Known);
    assert!(wait_for(AT_ONCE, || sshd
        .log()
        .iter()
        .any(|line| line.contains("preauth"))));
    assert!(
        !sshd.log().iter().any(|line| line.contains("Accepted")),
        "a scan must not log in"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_command_returns_its_status_its_output_and_its_errors() {
    let sshd = Sshd::start(&SshdOptions::default());
    let connection = connect(&sshd).await;
    let run = async |command: &str| {
        connection
            .exec(command, ExecOptions::new("a test"))
            .await
            .unwrap()
    };
    assert_eq!(run("exit 0").await.status, ExitStatus::Code(0));
    assert_eq!(run("exit 7").await.status, ExitStatus::Code(7));
    assert_eq!(
        run("kill -TERM $$").await.status,
        ExitStatus::Signal("TERM".to_owned())
    );
    let output = run("echo out; echo err >&2").await;
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (&b"out\n"[..], &b"err\n"[..])
    );
    let echoed = connection
        .exec("cat", ExecOptions::new("a test").stdin(vec![0u8, 255, 10]))
        .await
        .unwrap();
    assert_eq!(echoed.stdout, [0, 255, 10]);

    let both = "head -c 1048576 /dev/zero; head -c 1048576 /dev/zero >&2";
    let options = ExecOptions::new("a test").limits(2 << 20, 2 << 20);
    let output = connection.exec(both, options).await.unwrap();
    assert_eq!(
        (output.stdout.len(), output.stderr.len()),
        (1 << 20, 1 << 20)
    );
    assert!(!output.stdout_truncated && !output.stderr_truncated);
    let output = connection
        .exec(both, ExecOptions::new("a test").limits(1000, 10))
        .await
        .unwrap();
    assert_eq!((output.stdout.len(), output.stderr.len()), (1000, 10));
    assert!(output.stdout_truncated && output.stderr_truncated);

    let unread = ExecOptions::new("a test").stdin(vec![0; 8 << 20]);
    assert_eq!(
        connection.exec("exit 3", unread).await.unwrap().status,
        ExitStatus::Code(3)
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_command_beyond_its_deadline_is_named_and_the_connection_lives() {
    let sshd = Sshd::start(&SshdOptions::default());
    let connection = connect(&sshd).await;
    let options = ExecOptions::new("the slow command").deadline(Duration::from_millis(300));
    let error = connection.exec("sleep 20", options).await.unwrap_err();
    assert!(error.to_string().contains("the slow command"), "{error}");
    assert!(
        connection
            .exec("true", ExecOptions::new("a test"))
            .await
            .unwrap()
            .status
            .success()
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn files_behave_alike_over_sftp_and_over_commands() {
    let sshd = Sshd::start(&SshdOptions::default());
    let connection = connect(&sshd).await;
    every_file_promise_holds(&connection.sftp().await.unwrap(), &sshd, 32).await;
    every_file_promise_holds(&connection.exec_files(), &sshd, 32).await;
}

async fn every_file_promise_holds(files: &dyn Files, sshd: &Sshd, mib: u32) {
    let size = u64::from(mib) << 20;
    let quiet = |_: u64| {};
    let holder = tempfile::tempdir_in(sshd.path("")).unwrap();
    let root = remote(holder.path()).join("a dir with 'quotes' $(x) ü \"");
    files.create_dir(&root).await.unwrap();
    assert_eq!(mode(Path::new(root.as_str())), 0o700);
    assert!(matches!(
        files.create_dir(&root).await,
        Err(SshError::AlreadyExists { .. })
    ));
    assert!(matches!(
        files.create_dir(&root.join("no/such")).await,
        Err(SshError::NotFound { .. })
    ));

    let small = root.join("-n ! small");
    for bytes in [
        &b"first\n"[..],
        b"",
        b"\x00\xff\nlast line without end",
        &[7; 100_000],
    ] {
        files.write(&small, bytes).await.unwrap();
        assert_eq!(fs::read(small.as_str()).unwrap(), bytes);
        assert_eq!(files.read(&small, 100_000).await.unwrap(), bytes);
        assert_eq!(files.size(&small).await.unwrap(), Some(bytes.len() as u64));
    }
    assert_eq!(mode(Path::new(small.as_str())), 0o600);
    assert!(matches!(
        files.read(&small, 99_999).await,
        Err(SshError::TooLarge { limit: 99_999, .. })
    ));
    assert!(matches!(
        files.write(&root.join("no/such"), b"x").await,
        Err(SshError::NotFound { .. })
    ));
    fs::write(format!("{small}.part"), "left by an earlier run").unwrap();
    files.write(&small, b"new").await.unwrap();
    assert!(!Path::new(&format!("{small}.part")).exists());

    let victim = holder.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let linked = root.join("linked");
    std::os::unix::fs::symlink(&victim, format!("{linked}.part")).unwrap();
    files.write(&linked, b"new").await.unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");

    let many: Vec<_> = (0..100)
        .map(|place| root.join(&format!("many{place}")))
        .collect();
    let writes = many
        .iter()
        .map(|path| files.write(path, path.as_str().as_bytes()));
    for result in futures::future::join_all(writes).await {
        result.unwrap();
    }
    for path in &many {
        assert_eq!(fs::read_to_string(path.as_str()).unwrap(), path.as_str());
    }

    let log = root.join("log");
    assert!(matches!(
        files.read_from(&log, 0, 10).await,
        Err(SshError::NotFound { .. })
    ));
    fs::write(log.as_str(), "one\n").unwrap();
    assert_eq!(files.read_from(&log, 0, 100).await.unwrap(), b"one\n");
    assert_eq!(files.read_from(&log, 4, 100).await.unwrap(), b"");
    assert_eq!(files.read_from(&log, 400, 100).await.unwrap(), b"");
    append(log.as_str(), b"two\n");
    assert_eq!(files.read_from(&log, 4, 100).await.unwrap(), b"two\n");
    assert_eq!(files.read_from(&log, 4, 2).await.unwrap(), b"tw");
    append(log.as_str(), &[b'x'; 150_000]);
    assert_eq!(
        files.read_from(&log, 8, 1 << 20).await.unwrap().len(),
        150_000
    );

    assert_eq!(files.size(&root.join("absent")).await.unwrap(), None);
    files.remove_file(&log).await.unwrap();
    assert!(matches!(
        files.remove_file(&log).await,
        Err(SshError::NotFound { .. })
    ));
    assert!(matches!(
        files.read(&log, 10).await,
        Err(SshError::NotFound { .. })
    ));

    let local = holder.path().join("local");
    let fetched = holder.path().join("fetched");
    let content: Vec<u8> = (0..mib << 18)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    assert_eq!(content.len() as u64, size);
    fs::write(&local, &content).unwrap();
    let big = root.join("big");
    let seen = AtomicU64::new(0);
    let note = |bytes: u64| seen.store(bytes, Ordering::SeqCst);
    assert_eq!(files.upload(&local, &big, &note).await.unwrap(), size);
    assert_eq!(seen.load(Ordering::SeqCst), size);
    assert_eq!(
        Sha256::digest(fs::read(big.as_str()).unwrap()),
        Sha256::digest(&content)
    );
    assert_eq!(mode(Path::new(big.as_str())), 0o600);
    assert!(matches!(
        files.download(&big, &fetched, size - 1, &quiet).await,
        Err(SshError::TooLarge { .. })
    ));
    assert!(!fetched.exists());
    seen.store(0, Ordering::SeqCst);
    assert_eq!(
        files.download(&big, &fetched, size, &note).await.unwrap(),
        size
    );
    assert_eq!(seen.load(Ordering::SeqCst), size);
    assert_eq!(
        Sha256::digest(fs::read(&fetched).unwrap()),
        Sha256::digest(&content)
    );
    assert_eq!(mode(&fetched), 0o600);
    assert!(matches!(
        files.download(&big, &fetched, size, &quiet).await,
        Err(SshError::Local { .. })
    ));
    assert_eq!(fs::metadata(&fetched).unwrap().len(), size);
    let absent = files
        .download(
            &root.join("absent"),
            &holder.path().join("nothing"),
            10,
            &quiet,
        )
        .await;
    assert!(
        matches!(absent, Err(SshError::NotFound { .. })),
        "{absent:?}"
    );
    assert!(!holder.path().join("nothing").exists());
    fs::write(&local, "").unwrap();
    files.upload(&local, &big, &quiet).await.unwrap();
    assert_eq!(
        files
            .download(&big, &holder.path().join("empty"), 0, &quiet)
            .await
            .unwrap(),
        0
    );
    let no_local = files
        .upload(&holder.path().join("missing"), &big, &quiet)
        .await;
    assert!(matches!(no_local, Err(SshError::Local { .. })));
}

fn append(path: &str, bytes: &[u8]) {
    use std::io::Write as _;
    fs::OpenOptions::new()
        .append(true)
        .open(path)
        .unwrap()
        .write_all(bytes)
        .unwrap();
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_host_without_sftp_says_so_and_commands_do_its_work() {
    let sshd = Sshd::start(&SshdOptions {
        no_sftp: true,
        ..SshdOptions::default()
    });
    let connection = connect(&sshd).await;
    let error = connection.sftp().await.unwrap_err();
    assert!(
        matches!(error, SshError::SftpUnavailable { .. }),
        "{error:?}"
    );
    let file = remote(&sshd.path("over_exec"));
    connection
        .exec_files()
        .write(&file, b"there")
        .await
        .unwrap();
    assert_eq!(fs::read(sshd.path("over_exec")).unwrap(), b"there");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn few_sessions_are_shared_in_turn() {
    for allowed in [1, 2] {
        let sshd = Sshd::start(&SshdOptions {
            config: vec![format!("MaxSessions {allowed}")],
            ..SshdOptions::default()
        });
        let connection = connect(&sshd).await;
        let files = connection.sftp().await.unwrap();
        let file = remote(&sshd.path("turns"));
        for turn in 0..3 {
            files.write(&file, b"turn").await.unwrap();
            let commands =
                (0..12).map(|_| connection.exec("echo done", ExecOptions::new("a test")));
            for output in futures::future::join_all(commands).await {
                assert_eq!(
                    output.unwrap().stdout,
                    b"done\n",
                    "turn {turn}, {allowed} allowed"
                );
            }
        }
        assert_eq!(files.read(&file, 10).await.unwrap(), b"turn");
    }
    let sshd = Sshd::start(&SshdOptions {
        config: vec!["MaxSessions 0".to_owned()],
        ..SshdOptions::default()
    });
    let error = connect(&sshd)
        .await
        .exec("true", ExecOptions::new("a test"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, SshError::ChannelRefused { .. }),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_dead_connection_reaches_every_waiting_caller_at_once() {
    let sshd = Sshd::start(&SshdOptions::default());
    let connection = connect(&sshd).await;
    let local = sshd.path("huge");
    fs::File::create(&local).unwrap().set_len(4 << 30).unwrap();
    let (up, down) = (remote(&sshd.path("up")), remote(&local));
    let fetched = sshd.path("fetched");
    let files = connection.sftp().await.unwrap();
    let commands = connection.exec_files();
    let moved = [const { AtomicU64::new(0) }; 4];
    let notes: Vec<_> = moved
        .iter()
        .map(|count| move |bytes: u64| count.store(bytes, Ordering::SeqCst))
        .collect();
    let (exec_up, exec_down) = (remote(&sshd.path("exec_up")), sshd.path("exec_fetched"));
    let kill = async {
        while moved.iter().any(|count| count.load(Ordering::SeqCst) == 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sshd.kill_connections();
        Instant::now()
    };
    let all = async {
        tokio::join!(
            connection.exec(
                "sleep 60",
                ExecOptions::new("a test").deadline(Duration::from_secs(120))
            ),
            files.upload(&local, &up, &notes[0]),
            files.download(&down, &fetched, u64::MAX, &notes[1]),
            commands.upload(&local, &exec_up, &notes[2]),
            commands.download(&down, &exec_down, u64::MAX, &notes[3]),
            kill,
        )
    };
    let (exec, up, down, exec_up, exec_down, killed) =
        tokio::time::timeout(Duration::from_secs(60), all)
            .await
            .unwrap();
    assert!(killed.elapsed() < AT_ONCE);
    for error in [
        exec.map(drop),
        up.map(drop),
        down.map(drop),
        exec_up.map(drop),
        exec_down.map(drop),
    ] {
        let error = error.unwrap_err();
        assert!(error.is_connection_loss(), "{error:?}");
    }
    assert!(connection.is_closed());
    connection.closed().await;
    assert!(
        !fetched.exists() && !sshd.path("exec_fetched").exists() && !sshd.path("exec_up").exists()
    );
    assert!(
        connection
            .exec("true", ExecOptions::new("a test"))
            .await
            .unwrap_err()
            .is_connection_loss()
    );
    assert!(
        files
            .size(&remote(&local))
            .await
            .unwrap_err()
            .is_connection_loss()
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_closed_port_and_an_unknown_name_are_different_errors() {
    let sshd = Sshd::start(&SshdOptions::default());
    let mut gone = target(&sshd, "id_ed25519");
    let options = options(&sshd);
    drop(sshd);
    let error = Connection::open(&gone, &options).await.unwrap_err();
    assert!(
        matches!(error, SshError::Refused { .. }) && error.is_retryable_dial(),
        "{error:?}"
    );
    gone.address = "no-such-host.invalid".to_owned();
    let error = Connection::open(&gone, &options).await.unwrap_err();
    assert!(
        matches!(error, SshError::Resolve { .. }) && !error.is_retryable_dial(),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_silent_link_is_noticed_while_waiting_and_while_sending() {
    for sending in [false, true] {
        let sshd = Sshd::start(&SshdOptions::default());
        let mut options = options(&sshd);
        options.keepalive.interval = Duration::from_millis(200);
        let connection = Connection::open(&target(&sshd, "id_ed25519"), &options)
            .await
            .unwrap();
        let error = if sending {
            let local = sshd.path("huge");
            fs::File::create(&local).unwrap().set_len(4 << 30).unwrap();
            let stopped = AtomicU64::new(0);
            let stop = |_: u64| {
                if stopped.fetch_add(1, Ordering::SeqCst) == 10 {
                    sshd.stop_connections();
                }
            };
            let files = connection.sftp().await.unwrap();
            files
                .upload(&local, &remote(&sshd.path("up")), &stop)
                .await
                .map(drop)
                .unwrap_err()
        } else {
            sshd.stop_connections();
            connection
                .exec("true", ExecOptions::new("a test"))
                .await
                .map(drop)
                .unwrap_err()
        };
        assert!(error.is_connection_loss(), "sending {sending}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn every_login_shell_and_noise_around_it_will_do() {
    let sh = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/usr/bin/busybox", sh.path().join("sh")).unwrap();
    let busybox = format!("PATH={}:$PATH busybox sh", sh.path().display());
    for shell in ["bash", "dash", "fish", "tcsh", "zsh", &busybox] {
        let noise = "echo noise; printf 'no end of line'; echo noise >&2;";
        let command = format!(
            "ForceCommand {noise} {shell} -c \"$SSH_ORIGINAL_COMMAND\"; r=$?; echo; echo bye; exit $r"
        );
        let sshd = Sshd::start(&SshdOptions {
            config: vec![command],
            ..SshdOptions::default()
        });
        println!("{shell}");
        every_file_promise_holds(&connect(&sshd).await.exec_files(), &sshd, 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_banner_is_kept_within_bounds() {
    let banner = tempfile::NamedTempFile::new().unwrap();
    fs::write(banner.path(), "ü".repeat(20_000)).unwrap();
    let sshd = Sshd::start(&SshdOptions {
        config: vec![format!("Banner {}", banner.path().display())],
        ..SshdOptions::default()
    });
    let kept = connect(&sshd).await.banner();
    assert!((8_000..=8 * 1024).contains(&kept.len()), "{}", kept.len());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn rekeys_by_data_are_survived() {
    let sshd = Sshd::start(&SshdOptions {
        config: vec!["RekeyLimit 1M".to_owned()],
        ..SshdOptions::default()
    });
    every_file_promise_holds(&connect(&sshd).await.sftp().await.unwrap(), &sshd, 32).await;
}

/// A file system of one megabyte; unmounted with its handle.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(directory.path())
            .status()
            .unwrap();
        assert!(status.success(), "mounting needs root");
        Self(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd and root"]
async fn a_full_disk_is_named_and_leaves_the_old_file_and_no_part() {
    let sshd = Sshd::start(&SshdOptions::default());
    let connection = connect(&sshd).await;
    let local = sshd.path("local");
    fs::write(&local, vec![7; 4 << 20]).unwrap();
    let sftp = connection.sftp().await.unwrap();
    let exec = connection.exec_files();
    for (name, files) in [("sftp", &sftp as &dyn Files), ("exec", &exec)] {
        let disk = SmallDisk::mount();
        let path = remote(disk.0.path()).join("file");
        files.write(&path, b"old").await.unwrap();
        let error = files.upload(&local, &path, &|_| {}).await.unwrap_err();
        assert!(
            matches!(error, SshError::NoSpace { .. }),
            "{name}: {error:?}"
        );
        let error = files.write(&path, &vec![7; 2 << 20]).await.unwrap_err();
        assert!(
            matches!(error, SshError::NoSpace { .. }),
            "{name}: {error:?}"
        );
        assert_eq!(fs::read(path.as_str()).unwrap(), b"old", "{name}");
        assert!(!Path::new(&format!("{path}.part")).exists(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn more_growing_files_than_are_kept_open_are_read_side_by_side() {
    let sshd = Sshd::start(&SshdOptions::default());
    let connection = connect(&sshd).await;
    let files = connection.sftp().await.unwrap();
    let line = |file: usize, round: usize| format!("file {file} round {round}\n");
    let names: Vec<RemotePath> = (0..12)
        .map(|file| remote(&sshd.path(&format!("log{file}"))))
        .collect();
    for name in &names {
        fs::write(name.as_str(), "").unwrap();
    }
    let mut lengths = vec![0; names.len()];
    for round in 0..40 {
        for (file, name) in names.iter().enumerate() {
            append(name.as_str(), line(file, round).as_bytes());
        }
        // Four readers, each of every file, and each beginning with another one.
        let reads = (0..4).map(|reader| {
            let (files, names, lengths) = (&files, &names, &lengths);
            async move {
                for step in 0..names.len() {
                    let file = (step + 3 * reader) % names.len();
                    let read = files.read_from(&names[file], lengths[file], 100).await;
                    let read = read.unwrap_or_else(|error| panic!("{file}, {round}: {error:?}"));
                    assert_eq!(String::from_utf8(read).unwrap(), line(file, round));
                }
            }
        });
        futures::future::join_all(reads).await;
        for (file, length) in lengths.iter_mut().enumerate() {
            *length += line(file, round).len() as u64;
        }
    }
}
