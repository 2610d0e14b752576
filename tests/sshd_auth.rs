//! Host keys, host certificates and logins against a real OpenSSH server, beside what ssh(1) makes of the same.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

#[path = "support/login.rs"]
mod login;
#[path = "support/password_user.rs"]
mod password_user;
#[path = "support/sshd.rs"]
mod sshd;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use handover::hosts::{AlgorithmList, IdentityAgent, ListChange, StrictHostKeyChecking};
use handover::ssh::{
    AgentSource, AttemptOutcome, CertificateFault, CertificateVerdict, ConnectOptions, Connection,
    KeyFileError, Prompt, SshError, Target, UnknownHostKey, scan_host_key,
};
use login::{AT_ONCE, Agent, Person, options, target, user, with_known_hosts};
use password_user::PasswordUser;
use sshd::{Sshd, SshdOptions, keygen, wait_for};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use zeroize::Zeroizing;

async fn fails(target: &Target, options: &ConnectOptions) -> SshError {
    Connection::open(target, options).await.unwrap_err()
}

/// What became of every attempt of a login that must fail.
async fn outcomes(target: &Target, options: &ConnectOptions) -> Vec<AttemptOutcome> {
    match fails(target, options).await {
        SshError::AuthFailed { tried, .. } => {
            tried.into_iter().map(|attempt| attempt.outcome).collect()
        }
        error => panic!("{error:?}"),
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Certifies `key` (a `.pub` beside it) with the key `authority`: ssh-keygen(1) writes `KEY-cert.pub`.
fn certify(sshd: &Sshd, authority: &str, key: &str, more: &[&str]) {
    let (authority, key) = (sshd.path(authority), sshd.path(&format!("{key}.pub")));
    let mut arguments = vec!["-q", "-s", authority.to_str().unwrap(), "-I", "a test"];
    arguments.extend(more);
    arguments.push(key.to_str().unwrap());
    run("ssh-keygen", &arguments);
}

const HOUR_AHEAD: &str = "-5m:+1h";
const EXPIRED: &str = "20200101:20200102";
const NOT_YET: &str = "20990101:20990102";

/// What ssh(1) makes of the server's key and the lines that were written last.
fn as_ssh_judges(sshd: &Sshd, more: &[&str]) -> &'static str {
    let output = Command::new("ssh")
        .args(["-F", "none"])
        .args(more.iter().flat_map(|option| ["-o", option]))
        .args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"])
        .args(["-o", "GlobalKnownHostsFile=none"])
        .args(["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"])
        .arg("-o")
        .arg(format!(
            "UserKnownHostsFile={}",
            sshd.path("known_hosts").display()
        ))
        .arg("-i")
        .arg(sshd.path("id_ed25519"))
        .args(["-p", &sshd.port().to_string(), "127.0.0.1", "true"])
        .stdin(Stdio::null())
        .output()
        .expect("ssh is installed");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        "known"
    } else if words.contains("REVOKED") || words.contains("revoked") {
        "revoked"
    } else if words.contains("HAS CHANGED") {
        "changed"
    } else if words.contains("Certificate invalid") {
        // ssh(1) says what is wrong with the certificate, and goes on with the key in it.
        "certificate"
    } else if words.contains("host key is known") {
        "unknown"
    } else {
        panic!("{words}")
    }
}

fn judged(result: Result<Connection, SshError>) -> &'static str {
    match result {
        Ok(_) => "known",
        Err(SshError::HostKeyUnknown { .. }) => "unknown",
        Err(SshError::HostKeyChanged { .. }) => "changed",
        Err(SshError::HostKeyRevoked { .. }) => "revoked",
        Err(SshError::HostCertificate { .. }) => "certificate",
        Err(error) => panic!("{error:?}"),
    }
}

/// A server whose `ed25519` host key has the certificate that `more` describes, signed by `authority`.
fn certified(more: &[&str]) -> Sshd {
    // The certificate names a key that is made with the server's directory, so the server is told of it afterwards.
    Sshd::start_with(&SshdOptions::default(), |directory| {
        let at = |name: &str| directory.join(name);
        keygen(&at("authority"), "ed25519", "");
        keygen(&at("host_other"), "ed25519", "");
        let (authority, key) = (at("authority"), at("host_ed25519.pub"));
        let mut arguments = vec!["-q", "-s", authority.to_str().unwrap(), "-I", "a test"];
        arguments.extend(more);
        arguments.push(key.to_str().unwrap());
        run("ssh-keygen", &arguments);
        let certificate = at("host_ed25519-cert.pub");
        vec![format!("HostCertificate {}", certificate.display())]
    })
}

fn authority_line(sshd: &Sshd, marker: &str, names: &str) -> String {
    let public = fs::read_to_string(sshd.path("authority.pub")).unwrap();
    format!("{marker} {names} {public}")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn host_certificates_are_judged_as_ssh_judges_them() {
    let host = ["-h", "-n", "127.0.0.1", "-V", HOUR_AHEAD];
    let sshd = certified(&host);
    let bracket = format!("[127.0.0.1]:{}", sshd.port());
    let trusted = authority_line(&sshd, "@cert-authority", "*");
    let plain = sshd.known_hosts_line(&bracket, "ed25519");
    let other = sshd.known_hosts_line(&bracket, "other");
    let revoked_key = format!("@revoked {}", sshd.known_hosts_line("*", "ed25519"));
    let revoked_authority = authority_line(&sshd, "@revoked", "*");
    let certificate = fs::read_to_string(sshd.path("host_ed25519-cert.pub")).unwrap();
    let revoked_certificate = format!("@revoked * {certificate}");
    for (lines, wanted) in [
        (trusted.clone(), "known"),
        (authority_line(&sshd, "@cert-authority", &bracket), "known"),
        (
            authority_line(&sshd, "@cert-authority", "127.0.0.1"),
            "known",
        ),
        (
            authority_line(&sshd, "@cert-authority", "127.0.0.2"),
            "unknown",
        ),
        (
            format!("@cert-authority {}", sshd.known_hosts_line("*", "other")),
            "unknown",
        ),
        (
            format!(
                "@cert-authority {}{plain}",
                sshd.known_hosts_line("*", "other")
            ),
            "known",
        ),
        (format!("{trusted}{other}"), "known"),
        (other.clone(), "changed"),
        (format!("{trusted}{revoked_key}"), "revoked"),
        (format!("{trusted}{revoked_authority}"), "revoked"),
        (format!("{plain}{revoked_authority}"), "revoked"),
        (format!("{revoked_key}{plain}"), "revoked"),
        (format!("{trusted}{revoked_certificate}"), "revoked"),
        (format!("{plain}{revoked_certificate}"), "revoked"),
        (format!("{other}{certificate}"), "changed"),
    ] {
        let options = with_known_hosts(&sshd, &lines);
        let result = Connection::open(&target(&sshd, "id_ed25519"), &options).await;
        assert_eq!(judged(result), wanted, "{lines}");
        assert_eq!(as_ssh_judges(&sshd, &[]), wanted, "ssh(1) on {lines}");
    }
    let info = scan_host_key(
        &target(&sshd, "id_ed25519"),
        &with_known_hosts(&sshd, &trusted),
    )
    .await;
    assert_eq!(info.unwrap().certified, Some(CertificateVerdict::Trusted));
}

type IsFault = fn(&CertificateFault) -> bool;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_host_certificate_that_does_not_count_is_named_and_leaves_the_key() {
    let faulty: [(&[&str], IsFault); 4] = [
        (&["-h", "-n", "127.0.0.1", "-V", EXPIRED], |fault| {
            matches!(fault, CertificateFault::Expired { .. })
        }),
        (&["-h", "-n", "127.0.0.1", "-V", NOT_YET], |fault| {
            matches!(fault, CertificateFault::NotYetValid { .. })
        }),
        (
            &["-h", "-n", "another.example", "-V", HOUR_AHEAD],
            |fault| matches!(fault, CertificateFault::WrongPrincipal),
        ),
        (
            &[
                "-h",
                "-n",
                "127.0.0.1",
                "-V",
                HOUR_AHEAD,
                "-O",
                "critical:unheard-of@example.org",
            ],
            |fault| matches!(fault, CertificateFault::CriticalOption),
        ),
    ];
    for (more, expected) in faulty {
        let sshd = certified(more);
        let trusted = authority_line(&sshd, "@cert-authority", "*");
        let options = with_known_hosts(&sshd, &trusted);
        let host = target(&sshd, "id_ed25519");
        let error = fails(&host, &options).await;
        let SshError::HostCertificate { fault, .. } = &error else {
            panic!("{more:?}: {error:?}")
        };
        assert!(expected(fault), "{more:?}: {error}");
        assert!(!error.is_retryable_dial());
        assert_ne!(as_ssh_judges(&sshd, &[]), "known", "ssh(1) on {more:?}");
        // Nobody is asked about the key instead.
        let person = Person::new("", true);
        fails(&host, &options.clone().prompt(person.clone())).await;
        assert_eq!(person.asked.load(Ordering::SeqCst), 0);

        let bracket = format!("[127.0.0.1]:{}", sshd.port());
        let plain = sshd.known_hosts_line(&bracket, "ed25519");
        let options = with_known_hosts(&sshd, &format!("{trusted}{plain}"));
        Connection::open(&host, &options).await.unwrap();
        assert_eq!(
            as_ssh_judges(&sshd, &[]),
            "known",
            "ssh(1) on {more:?} and the key"
        );
    }
    // A certificate without names counts for every host of its authority (PROTOCOL.certkeys); a pattern is only a name.
    for more in [
        &["-h", "-V", HOUR_AHEAD][..],
        &["-h", "-n", "127.0.0.*", "-V", HOUR_AHEAD],
    ] {
        let sshd = certified(more);
        let options = with_known_hosts(&sshd, &authority_line(&sshd, "@cert-authority", "*"));
        let result = Connection::open(&target(&sshd, "id_ed25519"), &options).await;
        assert_eq!(judged(result), as_ssh_judges(&sshd, &[]), "{more:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn an_alias_is_looked_up_and_written_without_a_port() {
    let sshd = certified(&["-h", "-n", "the-alias", "-V", HOUR_AHEAD]);
    let mut host = target(&sshd, "id_ed25519");
    host.settings.host_key_alias = Some("the-alias".to_owned());
    let alias = ["HostKeyAlias=the-alias"];
    let bracket = format!("[127.0.0.1]:{}", sshd.port());
    for (lines, wanted) in [
        (sshd.known_hosts_line("the-alias", "ed25519"), "known"),
        (sshd.known_hosts_line(&bracket, "ed25519"), "unknown"),
        (sshd.known_hosts_line("the-*", "other"), "changed"),
        (sshd.known_hosts_line("127.0.0.1", "other"), "unknown"),
        (
            sshd.known_hosts_line(&format!("[the-alias]:{}", sshd.port()), "ed25519"),
            "unknown",
        ),
        (
            authority_line(&sshd, "@cert-authority", "the-alias"),
            "known",
        ),
        (
            authority_line(&sshd, "@cert-authority", "127.0.0.1"),
            "unknown",
        ),
    ] {
        let options = with_known_hosts(&sshd, &lines);
        assert_eq!(
            judged(Connection::open(&host, &options).await),
            wanted,
            "{lines}"
        );
        assert_eq!(as_ssh_judges(&sshd, &alias), wanted, "ssh(1) on {lines}");
    }
    let options = with_known_hosts(&sshd, "").prompt(Person::new("", true));
    Connection::open(&host, &options).await.unwrap();
    assert_eq!(
        fs::read_to_string(sshd.path("trusted")).unwrap(),
        sshd.known_hosts_line("the-alias", "ed25519")
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn the_configured_files_and_strictness_decide_over_unknown_keys() {
    let sshd = Sshd::start(&SshdOptions::default());
    let mut host = target(&sshd, "id_ed25519");
    let bracket = format!("[127.0.0.1]:{}", sshd.port());
    let line = sshd.known_hosts_line(&bracket, "ed25519");
    let (mine, system) = (sshd.path("mine"), sshd.path("system"));

    // The lists replace the default ones, a missing file is empty, and our own file still counts.
    host.settings.user_known_hosts_files = Some(vec![mine.clone(), sshd.path("nothing")]);
    host.settings.global_known_hosts_files = Some(vec![system.clone()]);
    let options = with_known_hosts(&sshd, &line);
    assert_eq!(judged(Connection::open(&host, &options).await), "unknown");
    fs::write(&system, &line).unwrap();
    assert_eq!(judged(Connection::open(&host, &options).await), "known");
    fs::write(&system, "").unwrap();
    fs::write(sshd.path("trusted"), &line).unwrap();
    assert_eq!(judged(Connection::open(&host, &options).await), "known");
    fs::remove_file(sshd.path("trusted")).unwrap();
    host.settings.global_known_hosts_files = Some(vec![sshd.path("")]);
    let error = fails(&host, &options).await;
    assert!(matches!(error, SshError::KnownHosts { .. }), "{error:?}");
    host.settings.global_known_hosts_files = Some(Vec::new());

    // `yes`: refused, whoever is there.
    let person = Person::new("", true);
    host.settings.strict_host_key_checking = StrictHostKeyChecking::Yes;
    let asked = options.clone().prompt(person.clone());
    assert_eq!(judged(Connection::open(&host, &asked).await), "unknown");
    assert_eq!(person.asked.load(Ordering::SeqCst), 0);

    // `accept-new`: accepted and written, hashed; and a changed key is refused all the same.
    host.settings.strict_host_key_checking = StrictHostKeyChecking::AcceptNew;
    host.settings.hash_known_hosts = true;
    Connection::open(&host, &options).await.unwrap();
    let written = fs::read_to_string(&mine).unwrap();
    assert!(written.starts_with("|1|"), "{written}");
    assert!(!sshd.path("trusted").exists());
    host.settings.strict_host_key_checking = StrictHostKeyChecking::Yes;
    Connection::open(&host, &options).await.unwrap();
    host.settings.strict_host_key_checking = StrictHostKeyChecking::AcceptNew;
    keygen(&sshd.path("host_other"), "ed25519", "");
    fs::write(&mine, sshd.known_hosts_line(&bracket, "other")).unwrap();
    assert_eq!(judged(Connection::open(&host, &options).await), "changed");

    // A file that forgets.
    host.settings.user_known_hosts_files = Some(vec![PathBuf::from("/dev/null")]);
    for _ in 0..2 {
        Connection::open(&host, &options).await.unwrap();
    }
    host.settings.strict_host_key_checking = StrictHostKeyChecking::Ask;
    assert_eq!(judged(Connection::open(&host, &options).await), "unknown");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn the_configured_algorithms_are_those_that_are_used() {
    let sshd = Sshd::start(&SshdOptions {
        host_keys: vec!["ed25519", "rsa"],
        ..SshdOptions::default()
    });
    let list = |change, names: &[&str]| {
        Some(AlgorithmList {
            change,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        })
    };
    let mut host = target(&sshd, "id_ed25519");
    host.settings.host_key_algorithms = list(ListChange::Replace, &["rsa-sha2-*"]);
    host.settings.ciphers = list(ListChange::Replace, &["aes128-ctr"]);
    let info = scan_host_key(&host, &with_known_hosts(&sshd, ""))
        .await
        .unwrap();
    assert_eq!(info.algorithm, "ssh-rsa");
    let options = with_known_hosts(
        &sshd,
        &sshd.known_hosts_line(&format!("[127.0.0.1]:{}", sshd.port()), "rsa"),
    );
    Connection::open(&host, &options).await.unwrap();

    let mut none = host.clone();
    none.settings.host_key_algorithms = list(ListChange::Remove, &["*"]);
    let error = fails(&none, &options).await;
    assert!(
        matches!(
            error,
            SshError::NoAlgorithm {
                keyword: "HostKeyAlgorithms",
                ..
            }
        ),
        "{error:?}"
    );

    host.settings.pubkey_accepted_algorithms = list(ListChange::Remove, &["ssh-ed25519"]);
    let left_out = outcomes(&host, &options).await;
    assert!(
        matches!(&left_out[..], [AttemptOutcome::Unusable(_)]),
        "{left_out:?}"
    );
    host.identity_files = vec![sshd.path("id_rsa")];
    host.settings.pubkey_accepted_algorithms = list(ListChange::Replace, &["rsa-sha2-256"]);
    Connection::open(&host, &options).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn what_is_configured_is_what_the_server_agrees_on() {
    let sshd = Sshd::start(&SshdOptions {
        host_keys: vec!["ed25519", "rsa"],
        config: vec!["LogLevel DEBUG1".to_owned()],
        ..SshdOptions::default()
    });
    let only = |name: &str| {
        Some(AlgorithmList {
            change: ListChange::Replace,
            names: vec![name.to_owned()],
        })
    };
    let names = format!("[127.0.0.1]:{}", sshd.port());
    let known = ["ed25519", "rsa"].map(|kind| sshd.known_hosts_line(&names, kind));
    let options = with_known_hosts(&sshd, &known.concat());
    // None of them is what both sides would take by themselves.
    for (exchange, cipher, mac, key) in [
        (
            "ecdh-sha2-nistp256",
            "aes128-ctr",
            "hmac-sha2-256",
            "rsa-sha2-256",
        ),
        (
            "ecdh-sha2-nistp521",
            "aes192-ctr",
            "hmac-sha2-512",
            "rsa-sha2-512",
        ),
        (
            "diffie-hellman-group16-sha512",
            "aes256-ctr",
            "hmac-sha2-256-etm@openssh.com",
            "ssh-ed25519",
        ),
    ] {
        let mut host = target(&sshd, "id_ed25519");
        host.settings.kex_algorithms = only(exchange);
        host.settings.ciphers = only(cipher);
        host.settings.macs = only(mac);
        host.settings.host_key_algorithms = only(key);
        let before = sshd.log().len();
        Connection::open(&host, &options).await.unwrap();
        for agreed in [
            format!("kex: algorithm: {exchange} "),
            format!("kex: host key algorithm: {key} "),
            format!("kex: client->server cipher: {cipher} MAC: {mac} "),
            format!("kex: server->client cipher: {cipher} MAC: {mac} "),
        ] {
            let log = || sshd.log().split_off(before);
            let said = wait_for(AT_ONCE, || log().iter().any(|line| line.contains(&agreed)));
            assert!(said, "{agreed}: {:#?}", log());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn every_format_of_a_key_file_logs_in_or_says_how_to_convert_it() {
    let sshd = Sshd::start(&SshdOptions::default());
    let options = options(&sshd);
    let mut authorized = String::new();
    let mut keys = Vec::new();
    for (kind, bits) in [
        ("ed25519", "0"),
        ("rsa", "2048"),
        ("ecdsa", "256"),
        ("ecdsa", "384"),
        ("ecdsa", "521"),
    ] {
        for format in ["RFC4716", "PEM", "PKCS8"] {
            for passphrase in ["", "open sesame"] {
                let locked = if passphrase.is_empty() {
                    "open"
                } else {
                    "locked"
                };
                let name = format!("{kind}-{bits}-{format}-{locked}");
                let path = sshd.path(&name);
                let mut arguments = vec![
                    "-q", "-t", kind, "-m", format, "-N", passphrase, "-C", "a test",
                ];
                if bits != "0" {
                    arguments.extend(["-b", bits]);
                }
                arguments.extend(["-f", path.to_str().unwrap()]);
                run("ssh-keygen", &arguments);
                authorized
                    .push_str(&fs::read_to_string(sshd.path(&format!("{name}.pub"))).unwrap());
                keys.push((name, passphrase));
            }
        }
    }
    fs::write(sshd.path("authorized_keys"), &authorized).unwrap();
    for (name, passphrase) in &keys {
        let text = fs::read_to_string(sshd.path(name)).unwrap();
        let first = text.lines().next().unwrap().to_owned();
        let person = Person::new("open sesame", false);
        let asking = options.clone().prompt(person.clone());
        let result = Connection::open(&target(&sshd, name), &asking).await;
        assert!(result.is_ok(), "{name} ({first}): {:?}", result.err());
        let asked = usize::from(!passphrase.is_empty());
        assert_eq!(person.asked.load(Ordering::SeqCst), asked, "{name}");
        if asked == 1 {
            let error = fails(&target(&sshd, name), &options).await;
            assert!(
                matches!(error, SshError::KeyEncrypted { .. }),
                "{name}: {error:?}"
            );
        }
    }
    for (text, words) in [
        ("SSH PRIVATE KEY FILE FORMAT 1.1\n\0\0", "protocol 1"),
        (
            "-----BEGIN DSA PRIVATE KEY-----\nMIIB\n-----END DSA PRIVATE KEY-----\n",
            "DSA",
        ),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: CAMELLIA-128-CBC,0123456789ABCDEF\n\nAAAA\n\
             -----END RSA PRIVATE KEY-----\n",
            "ssh-keygen -p",
        ),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
            "damaged",
        ),
        ("no key at all", "no private key"),
        ("", "no private key"),
    ] {
        let path = sshd.path("odd");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = fails(&target(&sshd, "odd"), &options).await;
        let SshError::KeyFile { source, .. } = &error else {
            panic!("{text:?}: {error:?}")
        };
        assert!(source.to_string().contains(words), "{text:?}: {source}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_key_that_others_can_read_is_not_used() {
    let sshd = Sshd::start(&SshdOptions::default());
    let path = sshd.path("id_ed25519");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = fails(&target(&sshd, "id_ed25519"), &options(&sshd)).await;
    let SshError::KeyFile { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        matches!(**source, KeyFileError::Unprotected { mode: 0o640 }),
        "{source}"
    );
}

/// A server that lets in whoever has a certificate of its `user_authority`, and nobody else.
fn for_certificates() -> Sshd {
    let sshd = Sshd::start_with(&SshdOptions::default(), |directory| {
        let authority = directory.join("user_authority");
        keygen(&authority, "ed25519", "");
        vec![format!("TrustedUserCAKeys {}.pub", authority.display())]
    });
    fs::write(sshd.path("authorized_keys"), "").unwrap();
    sshd
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn user_certificates_log_in_from_files_and_agents() {
    let sshd = for_certificates();
    let name = user();
    let options = options(&sshd);
    let more = ["-n", &name, "-V", HOUR_AHEAD];
    for key in ["id_ed25519", "id_rsa", "id_ecdsa", "locked"] {
        let host = target(&sshd, key);
        assert!(
            !matches!(
                fails(
                    &host,
                    &options.clone().prompt(Person::new("open sesame", true))
                )
                .await,
                SshError::UserCertificate { .. }
            ),
            "{key}"
        );
        certify(&sshd, "user_authority", key, &more);
        let person = Person::new("open sesame", true);
        Connection::open(&host, &options.clone().prompt(person.clone()))
            .await
            .unwrap();
        let asked = usize::from(key == "locked");
        assert_eq!(person.asked.load(Ordering::SeqCst), asked, "{key}");
    }

    // A certificate somewhere else, named by CertificateFile, for a key in a file and for one in an agent.
    let beside = sshd.path("id_ed25519-cert.pub");
    let elsewhere = sshd.path("my-certificate");
    fs::rename(&beside, &elsewhere).unwrap();
    let mut host = target(&sshd, "id_ed25519");
    assert_eq!(outcomes(&host, &options).await, [AttemptOutcome::Rejected]);
    host.settings.certificate_files.push(elsewhere.clone());
    Connection::open(&host, &options).await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let agent = Agent::start(home.path());
    agent.add(&sshd.path("id_ed25519"));
    let mut no_files = host.clone();
    no_files.identity_files.clear();
    no_files.settings.no_identity_files = true;
    no_files.settings.identities_only = true;
    Connection::open(&no_files, &options.clone().agent(agent.source()))
        .await
        .unwrap();
    // Nobody has its key.
    let unsigned = outcomes(&no_files, &options).await;
    assert!(
        matches!(&unsigned[..], [AttemptOutcome::Unusable(_)]),
        "{unsigned:?}"
    );

    // A certificate that the agent itself holds, also with RSA.
    for key in ["id_ed25519", "id_rsa"] {
        certify(&sshd, "user_authority", key, &more);
        let home = tempfile::tempdir().unwrap();
        let agent = Agent::start(home.path());
        agent.add(&sshd.path(key));
        fs::remove_file(sshd.path(&format!("{key}-cert.pub"))).unwrap();
        let mut host = target(&sshd, key);
        host.identity_files.clear();
        Connection::open(&host, &options.clone().agent(agent.source()))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_user_certificate_out_of_its_time_is_named_as_such() {
    let sshd = for_certificates();
    let name = user();
    let options = options(&sshd);
    let host = target(&sshd, "id_ed25519");
    for (time, expected) in [(EXPIRED, "expired"), (NOT_YET, "not valid before")] {
        certify(
            &sshd,
            "user_authority",
            "id_ed25519",
            &["-n", &name, "-V", time],
        );
        let error = fails(&host, &options).await;
        assert!(
            matches!(&error, SshError::UserCertificate { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.is_retryable_dial());
    }
    // Another key still logs in.
    let public = fs::read_to_string(sshd.path("id_ecdsa.pub")).unwrap();
    fs::write(sshd.path("authorized_keys"), public).unwrap();
    let mut both = host.clone();
    both.identity_files.push(sshd.path("id_ecdsa"));
    Connection::open(&both, &options).await.unwrap();
}

/// The keys that sshd was shown, in order, by the part of its log that names them.
fn shown(sshd: &Sshd) -> Vec<String> {
    let lines = sshd.log();
    let fingerprint = |line: &String| {
        let failed = line.starts_with("Failed publickey") || line.starts_with("Accepted publickey");
        let hash = line.split_once("SHA256:")?.1;
        failed.then(|| {
            hash.split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned()
        })
    };
    lines.iter().filter_map(fingerprint).collect()
}

fn fingerprint(path: &Path) -> String {
    let output = Command::new("ssh-keygen")
        .arg("-lf")
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let hash = text.split_once("SHA256:").unwrap().1;
    hash.split_whitespace().next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn keys_are_offered_in_the_order_of_openssh() {
    let sshd = Sshd::start(&SshdOptions::default());
    fs::write(sshd.path("authorized_keys"), "").unwrap();
    let home = tempfile::tempdir().unwrap();
    let agent = Agent::start(home.path());
    for key in ["agent-1", "agent-2", "both"] {
        keygen(&sshd.path(key), "ed25519", "");
        agent.add(&sshd.path(key));
    }
    keygen(&sshd.path("file-only"), "ed25519", "");
    let mut host = target(&sshd, "file-only");
    host.identity_files.push(sshd.path("both"));
    let options = options(&sshd).agent(agent.source());
    let order = |names: &[&str]| -> Vec<String> {
        let public = names.iter().map(|name| sshd.path(&format!("{name}.pub")));
        public.map(|path| fingerprint(&path)).collect()
    };
    let all = order(&["both", "agent-1", "agent-2", "file-only"]);
    outcomes(&host, &options).await;
    assert!(
        wait_for(AT_ONCE, || shown(&sshd).len() >= all.len()),
        "{:?}",
        sshd.log()
    );
    assert_eq!(shown(&sshd), all);

    // The same as ssh(1) does.
    let output = Command::new("ssh")
        .args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "GlobalKnownHostsFile=none",
        ])
        .arg("-o")
        .arg(format!(
            "UserKnownHostsFile={}",
            sshd.path("known_hosts").display()
        ))
        .arg("-o")
        .arg(format!("IdentityAgent={}", agent.socket.display()))
        .arg("-i")
        .arg(sshd.path("file-only"))
        .arg("-i")
        .arg(sshd.path("both"))
        .args(["-p", &sshd.port().to_string(), "127.0.0.1", "true"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let twice: Vec<String> = all.iter().chain(&all).cloned().collect();
    assert!(
        wait_for(AT_ONCE, || shown(&sshd).len() >= twice.len()),
        "{:?}",
        sshd.log()
    );
    assert_eq!(shown(&sshd), twice);

    // IdentitiesOnly leaves the agent's other keys out; a public key alone chooses one of the agent's.
    host.settings.identities_only = true;
    fs::remove_file(sshd.path("both")).unwrap();
    outcomes(&host, &options).await;
    let expected: Vec<String> = twice
        .into_iter()
        .chain(order(&["both", "file-only"]))
        .collect();
    assert!(
        wait_for(AT_ONCE, || shown(&sshd).len() >= expected.len()),
        "{:?}",
        sshd.log()
    );
    assert_eq!(shown(&sshd), expected);

    // IdentityAgent comes before what the caller says.
    host.settings.identity_agent = IdentityAgent::None;
    let without = outcomes(&host, &options).await;
    assert_eq!(without.len(), 2, "{without:?}");
    assert_eq!(
        without
            .iter()
            .filter(|outcome| **outcome == AttemptOutcome::Rejected)
            .count(),
        1
    );
    host.settings.identity_agent = IdentityAgent::Socket(agent.socket.clone());
    let with = outcomes(&host, &options.clone().agent(AgentSource::None)).await;
    assert_eq!(with, [AttemptOutcome::Rejected, AttemptOutcome::Rejected]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_server_that_ends_the_login_early_has_refused_it() {
    for tries in 1..3 {
        let sshd = Sshd::start(&SshdOptions {
            config: vec![format!("MaxAuthTries {tries}")],
            ..SshdOptions::default()
        });
        let mut host = target(&sshd, "stranger");
        for place in 0..4 {
            let name = format!("stranger{place}");
            keygen(&sshd.path(&name), "ed25519", "");
            host.identity_files.push(sshd.path(&name));
        }
        let error = fails(&host, &options(&sshd)).await;
        let SshError::AuthFailed { tried, .. } = &error else {
            panic!("{error:?}")
        };
        let first = tried.first().unwrap();
        assert_eq!(first.outcome, AttemptOutcome::Rejected);
        assert!(first.key.contains("stranger"), "{}", first.key);
        assert!(
            tried
                .iter()
                .any(|attempt| attempt.outcome == AttemptOutcome::Ended),
            "{error}"
        );
        assert!(!error.is_retryable_dial());
        let lines = sshd.log();
        let connections = lines
            .iter()
            .filter(|line| line.starts_with("Connection from"));
        assert_eq!(connections.count(), 1, "{lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_security_key_in_a_file_says_that_an_agent_is_needed() {
    let sshd = Sshd::start(&SshdOptions::default());
    // The handle of a security key, made without one: nothing but its kind is looked at.
    let key = include_str!("fixtures/keys/id_ed25519_sk");
    let path = sshd.path("id_ed25519_sk");
    fs::write(&path, key).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let error = fails(&target(&sshd, "id_ed25519_sk"), &options(&sshd)).await;
    let SshError::KeyFile { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(matches!(**source, KeyFileError::SecurityKey), "{source}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_password_and_questions_are_for_a_person_alone() {
    let user = PasswordUser::new("correct horse");
    for (method, config) in [
        ("password", ["PasswordAuthentication yes", "UsePAM no"]),
        (
            "keyboard-interactive",
            ["KbdInteractiveAuthentication yes", "UsePAM yes"],
        ),
    ] {
        let sshd = Sshd::start(&SshdOptions {
            config: config.iter().map(|line| (*line).to_owned()).collect(),
            ..SshdOptions::default()
        });
        let mut host = target(&sshd, "stranger");
        host.user.clone_from(&user.0);
        let options = options(&sshd);
        let error = fails(&host, &options).await;
        let SshError::AuthFailed { tried, methods, .. } = &error else {
            panic!("{method}: {error:?}")
        };
        assert_eq!(tried.len(), 1, "{method}: {error}");
        assert!(
            methods.iter().any(|name| name == method),
            "{method}: {methods:?}"
        );

        let person = Person::new("correct horse", true);
        let asking = options.clone().prompt(person.clone());
        Connection::open(&host, &asking).await.unwrap();
        assert_eq!(person.asked.load(Ordering::SeqCst), 1, "{method}");

        let wrong = Person::new("wrong", true);
        let error = fails(&host, &options.clone().prompt(wrong.clone())).await;
        assert!(
            matches!(error, SshError::AuthFailed { .. }),
            "{method}: {error:?}"
        );
        assert_eq!(wrong.asked.load(Ordering::SeqCst), 3, "{method}");

        // Before the keys, where that is configured; and not at all where only keys are.
        let fast = Person::new("correct horse", true);
        host.settings.preferred_authentications =
            Some(vec![method.to_owned(), "publickey".to_owned()]);
        Connection::open(&host, &options.clone().prompt(fast))
            .await
            .unwrap();
        let spared = Person::new("correct horse", true);
        host.settings.preferred_authentications = Some(vec!["publickey".to_owned()]);
        fails(&host, &options.clone().prompt(spared.clone())).await;
        assert_eq!(spared.asked.load(Ordering::SeqCst), 0);
        host.settings.preferred_authentications = Some(vec!["hostbased".to_owned()]);
        let error = fails(&host, &options).await;
        assert!(
            matches!(error, SshError::NoAlgorithm { .. }),
            "{method}: {error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_server_that_wants_two_methods_gets_both() {
    let user = PasswordUser::new("correct horse");
    let sshd = Sshd::start(&SshdOptions {
        config: vec![
            "PasswordAuthentication yes".to_owned(),
            "AuthenticationMethods publickey,publickey,password".to_owned(),
        ],
        ..SshdOptions::default()
    });
    let mut host = target(&sshd, "id_ed25519");
    host.user.clone_from(&user.0);
    host.identity_files.push(sshd.path("id_ecdsa"));
    // The other user walks through here to the list of keys.
    fs::set_permissions(sshd.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let person = Person::new("correct horse", true);
    Connection::open(&host, &options(&sshd).prompt(person.clone()))
        .await
        .unwrap();
    assert_eq!(person.asked.load(Ordering::SeqCst), 1);
    let partial = outcomes(&host, &options(&sshd)).await;
    assert_eq!(partial, [AttemptOutcome::Partial, AttemptOutcome::Partial]);
}

/// A person whose answer comes when the server has just fallen silent.
struct Silencer(Arc<Sshd>);

#[async_trait]
impl Prompt for Silencer {
    async fn passphrase(&self, _key_file: &Path) -> Option<Zeroizing<String>> {
        self.0.stop_connections();
        Some(Zeroizing::new("open sesame".to_owned()))
    }

    async fn accept_host_key(&self, _key: &UnknownHostKey) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_server_that_falls_silent_during_the_login_is_a_timeout() {
    let sshd = Arc::new(Sshd::start(&SshdOptions::default()));
    let mut options = options(&sshd).prompt(Arc::new(Silencer(sshd.clone())));
    options.deadlines.auth = Duration::from_secs(3);
    let error = fails(&target(&sshd, "locked"), &options).await;
    assert!(
        matches!(
            error,
            SshError::TimedOut {
                what: "authentication",
                ..
            }
        ),
        "{error:?}"
    );
}

/// A stand-in for an agent, whose side of every connection `speak` takes.
async fn stand_in<F>(socket: &Path, speak: impl Fn(UnixStream) -> F + Send + 'static)
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(speak(stream));
        }
    });
}

/// One frame of the agent protocol, without its length.
async fn frame(stream: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    let mut body = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

async fn answer(stream: &mut UnixStream, body: &[u8]) -> std::io::Result<()> {
    stream.write_u32(u32::try_from(body.len()).unwrap()).await?;
    stream.write_all(body).await
}

/// `SSH_AGENT_IDENTITIES_ANSWER` with these keys and comments.
fn identities(entries: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut body = vec![12];
    body.extend(u32::try_from(entries.len()).unwrap().to_be_bytes());
    for part in entries.iter().flat_map(|(key, comment)| [key, comment]) {
        body.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
        body.extend(*part);
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn an_agent_that_takes_its_time_is_waited_for_while_a_person_is_there_and_dialled_for_once() {
    let sshd = Sshd::start(&SshdOptions::default());
    let real = Agent::start(&sshd.path(""));
    real.add(&sshd.path("id_ed25519"));
    let mut host = target(&sshd, "id_ed25519");
    host.identity_files.clear();
    let (slow, silent) = (sshd.path("slow.sock"), sshd.path("silent.sock"));
    let relay = |socket: PathBuf, signs: bool| {
        let real = real.socket.clone();
        async move {
            stand_in(&socket, move |mut stream| {
                let real = real.clone();
                async move {
                    let mut agent = UnixStream::connect(&real).await?;
                    loop {
                        let request = frame(&mut stream).await?;
                        // SSH_AGENTC_SIGN_REQUEST waits for a finger on the key.
                        if request.first() == Some(&13) {
                            if !signs {
                                std::future::pending::<()>().await;
                            }
                            tokio::time::sleep(Duration::from_secs(3)).await;
                        }
                        answer(&mut agent, &request).await?;
                        let reply = frame(&mut agent).await?;
                        answer(&mut stream, &reply).await?;
                    }
                }
            })
            .await;
        }
    };
    relay(slow.clone(), true).await;
    relay(silent.clone(), false).await;

    let mut options = options(&sshd);
    options.deadlines.auth = Duration::from_secs(1);
    options.deadlines.person = Duration::from_secs(30);
    let person = Person::new("", false);
    let patient = options.clone().prompt(person.clone());
    Connection::open(&host, &patient.agent(AgentSource::Path(slow.clone())))
        .await
        .unwrap();
    assert_eq!(person.asked.load(Ordering::SeqCst), 0);

    for source in [slow, silent] {
        let before = connections(&sshd);
        let error = fails(&host, &options.clone().agent(AgentSource::Path(source))).await;
        let SshError::AuthFailed { tried, .. } = &error else {
            panic!("{error:?}")
        };
        let silence = AttemptOutcome::Unusable("the agent did not answer".to_owned());
        assert!(
            matches!(tried.as_slice(), [attempt] if attempt.outcome == silence),
            "{error}"
        );
        assert!(!error.is_retryable_dial());
        assert_eq!(connections(&sshd), before + 1);
    }
}

fn connections(sshd: &Sshd) -> usize {
    let lines = sshd.log();
    let from = lines
        .iter()
        .filter(|line| line.starts_with("Connection from"));
    from.count()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn an_agents_key_of_an_unknown_kind_costs_no_other_key() {
    let sshd = Sshd::start(&SshdOptions::default());
    let public = |name: &str| {
        let text = fs::read_to_string(sshd.path(&format!("{name}.pub"))).unwrap();
        let key = russh::keys::PublicKey::from_openssh(&text).unwrap();
        russh::keys::PublicKeyBase64::public_key_bytes(&key)
    };
    let unknown = [&[0, 0, 0, 7][..], b"ssh-new", &[0, 0, 0, 1, 7]].concat();
    let (first, second) = (public("stranger"), public("id_ed25519"));
    let listed = identities(&[
        (&unknown, b"from the future"),
        (&first, b"\xff"),
        (&second, b"good"),
    ]);
    let socket = sshd.path("strange.sock");
    stand_in(&socket, move |mut stream| {
        let listed = listed.clone();
        async move {
            loop {
                let request = frame(&mut stream).await?;
                // Everything but SSH_AGENTC_REQUEST_IDENTITIES fails.
                let reply = if request == [11] { &listed[..] } else { &[5] };
                answer(&mut stream, reply).await?;
            }
        }
    })
    .await;
    let mut host = target(&sshd, "id_ed25519");
    host.identity_files.clear();
    let options = options(&sshd).agent(AgentSource::Path(socket));
    let error = fails(&host, &options).await;
    let SshError::AuthFailed { tried, .. } = &error else {
        panic!("{error:?}")
    };
    let told: Vec<String> = tried.iter().map(ToString::to_string).collect();
    assert_eq!(
        told.first().unwrap(),
        "agent: unusable, 1 of its keys cannot be read"
    );
    assert_eq!(tried.get(1).unwrap().outcome, AttemptOutcome::Rejected);
    // The server wanted the second one's signature, which this agent does not give.
    assert!(
        told.get(2).unwrap().contains("the agent did not sign"),
        "{told:?}"
    );
    assert_eq!(told.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn an_agent_that_is_gone_does_not_hide_that_the_named_key_cannot_be_used() {
    let sshd = Sshd::start(&SshdOptions::default());
    let gone = options(&sshd).agent(AgentSource::Path(sshd.path("gone.sock")));
    let error = fails(&target(&sshd, "missing"), &gone).await;
    assert!(
        matches!(&error, SshError::KeyFile { path, .. } if path.ends_with("missing")),
        "{error:?}"
    );
    // With another key that was offered it is one of the reasons.
    let mut both = target(&sshd, "missing");
    both.identity_files.push(sshd.path("stranger"));
    let error = fails(&both, &gone).await;
    assert!(matches!(error, SshError::AuthFailed { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn the_sixth_key_is_offered_unless_a_person_has_a_better_use_for_the_last_try() {
    let user = PasswordUser::new("correct horse");
    for password in [false, true] {
        let sshd = Sshd::start(&SshdOptions {
            config: vec![format!(
                "PasswordAuthentication {}",
                if password { "yes" } else { "no" }
            )],
            ..SshdOptions::default()
        });
        fs::set_permissions(sshd.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        let mut host = target(&sshd, "stranger");
        host.user.clone_from(&user.0);
        for place in 1..5 {
            let name = format!("stranger{place}");
            keygen(&sshd.path(&name), "ed25519", "");
            host.identity_files.push(sshd.path(&name));
        }
        host.identity_files.push(sshd.path("id_ed25519"));
        let options = options(&sshd);
        Connection::open(&host, &options).await.unwrap();
        let person = Person::new("correct horse", false);
        Connection::open(&host, &options.clone().prompt(person.clone()))
            .await
            .unwrap();
        assert_eq!(person.asked.load(Ordering::SeqCst), usize::from(password));

        // A seventh is too many for the server, and that is its to say.
        host.identity_files.insert(0, sshd.path("id_ecdsa"));
        fs::write(sshd.path("authorized_keys"), "").unwrap();
        let outcomes = outcomes(&host, &options).await;
        let mut expected = vec![AttemptOutcome::Rejected; 6];
        expected.extend([AttemptOutcome::Ended, AttemptOutcome::NotOffered]);
        assert_eq!(outcomes, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_host_key_is_looked_at_once_the_server_has_a_login_free() {
    let sshd = Sshd::start(&SshdOptions {
        config: vec!["MaxStartups 1:100:1".to_owned()],
        ..SshdOptions::default()
    });
    let other = TcpStream::connect(("127.0.0.1", sshd.port()))
        .await
        .unwrap();
    assert!(wait_for(AT_ONCE, || connections(&sshd) == 1));
    let leaves = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(other);
    });
    let host = target(&sshd, "id_ed25519");
    let seen = scan_host_key(&host, &options(&sshd)).await.unwrap();
    assert_eq!(seen.algorithm, "ssh-ed25519");
    assert!(leaves.is_finished(), "the server had no login free before");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_passphrase_is_asked_for_once_however_often_and_for_whatever_hosts_the_key_is_used() {
    let sshd = Sshd::start(&SshdOptions::default());
    let person = Person::new("open sesame", false);
    let asking = options(&sshd).prompt(person.clone());
    let host = target(&sshd, "locked");
    let mut other = host.clone();
    other.name = "other".parse().unwrap();
    let clone = asking.clone();
    let (one, two) = tokio::join!(
        Connection::open(&host, &asking),
        Connection::open(&other, &clone)
    );
    one.unwrap();
    two.unwrap();
    Connection::open(&host, &asking).await.unwrap();
    assert_eq!(person.asked.load(Ordering::SeqCst), 1);

    // It is kept for nobody else, and not for a file that it does not open any more.
    let stranger = Person::new("open sesame", false);
    let others = options(&sshd).prompt(stranger.clone());
    Connection::open(&host, &others).await.unwrap();
    assert_eq!(stranger.asked.load(Ordering::SeqCst), 1);
    run(
        "ssh-keygen",
        &[
            "-q",
            "-p",
            "-P",
            "open sesame",
            "-N",
            "another",
            "-f",
            sshd.path("locked").to_str().unwrap(),
        ],
    );
    fails(&host, &asking).await;
    assert_eq!(person.asked.load(Ordering::SeqCst), 1 + 3);
}

/// Runs `handover trust box` at a terminal of the server's (`ssh -tt`), and answers `answer`.
fn trust_at_a_terminal(sshd: &Sshd, answer: &str) -> String {
    use std::io::Write as _;
    let script = sshd.path("trust.sh");
    let home = sshd.path("here");
    fs::create_dir_all(home.join("config")).unwrap();
    let hosts = format!(
        "[hosts.box]\nhost = \"{}@127.0.0.1\"\nport = {}\n",
        user(),
        sshd.port()
    );
    fs::write(home.join("config/hosts.toml"), hosts).unwrap();
    let commands = format!(
        "cd '{home}'; HOME='{home}' HANDOVER_CONFIG_DIR='{home}/config' HANDOVER_STATE_DIR='{home}/state' \
         HANDOVER_SSH_CONFIG=none '{program}' trust box; echo \"exit $?\"\n",
        home = home.display(),
        program = env!("CARGO_BIN_EXE_handover"),
    );
    fs::write(&script, commands).unwrap();
    let mut child = Command::new("ssh")
        .args([
            "-tt",
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=no",
        ])
        .args([
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "IdentityAgent=none",
        ])
        .arg("-i")
        .arg(sshd.path("id_ed25519"))
        .args(["-p", &sshd.port().to_string(), "127.0.0.1"])
        .arg(format!("sh {}", script.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // What is typed before the question does not answer it.
    let ended = wait_for(AT_ONCE * 3, || {
        let _ = writeln!(input, "{answer}");
        child.try_wait().unwrap().is_some()
    });
    assert!(ended, "it takes no answer");
    let output = child.wait_with_output().unwrap();
    drop(input);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
#[ignore = "needs sshd"]
fn a_person_at_a_terminal_replaces_a_changed_key_and_nothing_else() {
    let sshd = Sshd::start(&SshdOptions::default());
    keygen(&sshd.path("host_other"), "ed25519", "");
    let bracket = format!("[127.0.0.1]:{}", sshd.port());
    let (old, new) = (
        sshd.known_hosts_line(&bracket, "other"),
        sshd.known_hosts_line(&bracket, "ed25519"),
    );
    let others = format!("# mine\r\nother.example {}", old.split_once(' ').unwrap().1);
    let known = sshd.path("here/.ssh/known_hosts");
    fs::create_dir_all(known.parent().unwrap()).unwrap();
    fs::write(&known, format!("{others}{old}last line")).unwrap();

    let refused = trust_at_a_terminal(&sshd, "no");
    for words in [
        "HAS CHANGED",
        "known_hosts:3",
        "nothing was written",
        "exit 5",
    ] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    for key in ["host_other.pub", "host_ed25519.pub"] {
        assert!(refused.contains(&fingerprint(&sshd.path(key))), "{refused}");
    }
    assert_eq!(
        fs::read_to_string(&known).unwrap(),
        format!("{others}{old}last line")
    );

    let replaced = trust_at_a_terminal(&sshd, "yes");
    assert!(
        replaced.contains("in the place of what was on record"),
        "{replaced}"
    );
    assert!(replaced.contains("exit 0"), "{replaced}");
    assert_eq!(
        fs::read_to_string(&known).unwrap(),
        format!("{others}{new}last line")
    );
    assert_eq!(
        fs::read_to_string(sshd.path("here/config/known_hosts")).unwrap(),
        new
    );

    // A revoked key stays refused, whatever the person says.
    fs::write(&known, format!("@revoked {new}{old}")).unwrap();
    let revoked = trust_at_a_terminal(&sshd, "yes");
    assert!(
        revoked.contains("revoked") && revoked.contains("exit 5"),
        "{revoked}"
    );
    assert_eq!(
        fs::read_to_string(&known).unwrap(),
        format!("@revoked {new}{old}")
    );
}
