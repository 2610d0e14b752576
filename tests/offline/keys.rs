//! Host keys and keys of the user: what is trusted, what is refused, and what a person is told.

use russh::keys::HashAlg;
use russh::keys::ssh_key::LineEnding;

use crate::support::{BOX, Stage, grown, new_key};

fn forget_host_keys(stage: &Stage) {
    std::fs::remove_file(stage.here("config/known_hosts")).unwrap();
}

fn fingerprint(stage: &Stage) -> String {
    stage
        .server
        .host_key()
        .fingerprint(HashAlg::Sha256)
        .to_string()
}

fn send(session: &str) -> Vec<&str> {
    vec!["send", BOX, "--round-trip", "--session", session]
}

#[tokio::test]
async fn an_unknown_host_key_is_refused_with_its_fingerprint_and_the_way_to_trust_it() {
    let stage = Stage::new().await;
    forget_host_keys(&stage);
    let before = stage.history_here();
    let session = stage.session.to_string();
    let ran = stage.run(&send(&session)).await.exits(5);
    for words in ["host key", &fingerprint(&stage), "handover trust box"] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    assert_eq!(ran.out, "");
    assert_eq!(stage.server.execs(), 0, "nothing was asked of the host");
    let json = [send(&session), vec!["--json"]].concat();
    let error = stage.run(&json).await.exits(5).error("host_key_unknown");
    assert!(error["message"].as_str().unwrap().contains("host key"));
    assert!(
        error["hint"]
            .as_str()
            .unwrap()
            .contains("handover trust box")
    );
    let check = stage.run(&["check", BOX, "--json"]).await.exits(5);
    let findings = check.document()["findings"].clone();
    assert_eq!(findings[1]["name"], "host key");
    assert_eq!(findings[1]["status"], "fail");
    assert_eq!(stage.history_here(), before);
    assert!(!stage.here("config/known_hosts").exists());

    // Nobody can be asked here.
    let ran = stage.run(&["trust", BOX]).await.exits(2);
    assert!(ran.err.contains(&fingerprint(&stage)), "{}", ran.err);
    assert!(!stage.here("config/known_hosts").exists());

    let ran = stage.run(&["trust", BOX, "--yes", "--json"]).await.exits(0);
    assert_eq!(ran.document()["trust"], "written");
    assert_eq!(ran.document()["fingerprint"], fingerprint(&stage));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let written = stage.here("config/known_hosts").metadata().unwrap();
        assert_eq!(written.permissions().mode() & 0o777, 0o600);
    }
    let ran = stage.run(&["trust", BOX, "--json"]).await.exits(0);
    assert_eq!(ran.document()["trust"], "known");
    stage.run(&send(&session)).await.exits(0);
    grown(&before, &stage.history_here());
}

#[tokio::test]
async fn a_demanded_fingerprint_must_be_the_one_that_the_host_has() {
    let stage = Stage::new().await;
    forget_host_keys(&stage);
    let other = new_key()
        .public_key()
        .fingerprint(HashAlg::Sha256)
        .to_string();
    let ran = stage
        .run(&["trust", BOX, "--fingerprint", &other, "--json"])
        .await;
    ran.exits(5).error("fingerprint_mismatch");
    stage
        .run(&["trust", BOX, "--fingerprint", "md5:aa", "--json"])
        .await
        .exits(2)
        .error("usage");
    assert!(!stage.here("config/known_hosts").exists());
    let own = fingerprint(&stage);
    stage
        .run(&["trust", BOX, "--fingerprint", &own])
        .await
        .exits(0);
    stage.run(&["check", BOX]).await.exits(0);
    let ran = stage
        .run(&["trust", BOX, "--fingerprint", &other, "--json"])
        .await;
    ran.exits(5).error("fingerprint_mismatch");
}

#[tokio::test]
async fn a_changed_host_key_is_a_hard_stop_that_shows_both() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let recorded = fingerprint(&stage);
    stage.server.set_host_key(new_key());
    let offered = fingerprint(&stage);
    assert_ne!(recorded, offered);
    let session = stage.session.to_string();
    let ran = stage.run(&send(&session)).await.exits(5);
    for words in ["host key", "changed", &recorded, &offered, "known_hosts"] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    assert_eq!(stage.proxy.connections(), 1, "it is not tried again");
    let check = stage.run(&["check", BOX, "--json"]).await.exits(5);
    let remedy = check.document()["findings"][1]["remedy"].to_string();
    assert!(
        remedy.contains("at a terminal: handover trust"),
        "what helps: {remedy}"
    );
    // A yes is not enough.
    let ran = stage.run(&["trust", BOX, "--yes", "--json"]).await.exits(5);
    ran.error("host_key_changed");
    let ran = stage
        .run(&["trust", BOX, "--fingerprint", &offered, "--json"])
        .await;
    ran.exits(5).error("host_key_changed");
    assert_eq!(stage.history_here(), before);
    assert_eq!(stage.server.execs(), 0);
}

#[tokio::test]
async fn a_revoked_host_key_is_a_hard_stop_that_no_yes_lifts() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let file = stage.here("config/known_hosts");
    let public = stage.server.host_key().to_openssh().unwrap();
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str(&format!("@revoked * {public}\n"));
    std::fs::write(&file, &text).unwrap();
    let session = stage.session.to_string();
    let ran = stage.run(&send(&session)).await.exits(5);
    for words in ["revoked", &fingerprint(&stage), "do not connect"] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    assert_eq!(stage.proxy.connections(), 1, "it is not tried again");
    let json = [send(&session), vec!["--json"]].concat();
    for arguments in [json, vec!["trust", BOX, "--yes", "--json"]] {
        let error = stage.run(&arguments).await.exits(5);
        error.error("host_key_revoked");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    assert_eq!(stage.server.execs(), 0, "nothing was asked of the host");
    assert_eq!(stage.history_here(), before);
}

#[tokio::test]
async fn the_keys_of_an_address_are_on_record_under_its_one_form_however_it_is_typed() {
    let stage = Stage::new().await;
    let address = stage.proxy.address();
    let typed = format!(
        "[hosts.{BOX}]\nhost = \"demo@127.1\"\nport = {}\nopencode = \"~/.opencode/bin/opencode\"\n",
        address.port()
    );
    std::fs::write(stage.here("config/hosts.toml"), typed).unwrap();
    let file = stage.here("config/known_hosts");
    let check = ["check", BOX, "--json"];
    stage.run(&check).await.exits(0);
    let public = stage.server.host_key().to_openssh().unwrap();
    let known = std::fs::read_to_string(&file).unwrap();
    let session = stage.session.to_string();
    let send = [send(&session), vec!["--json"]].concat();
    std::fs::write(
        &file,
        format!("{known}@revoked {} {public}\n", address.ip()),
    )
    .unwrap();
    let ran = stage.run(&send).await.exits(5);
    ran.error("host_key_revoked");
    std::fs::write(&file, known).unwrap();
    stage.server.set_host_key(new_key());
    let ran = stage.run(&send).await.exits(5);
    ran.error("host_key_changed");
}

#[tokio::test]
async fn a_host_key_that_changes_during_a_job_ends_the_watch_and_not_the_job() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let session = stage.session.to_string();
    let mut arguments = send(&session);
    arguments.extend([
        "--json",
        "--message",
        "RULE say on\nRULE sleep 2\nRULE say done",
    ]);
    let mut sending = stage.begin(&arguments);
    sending.says("on").await;
    let key = new_key();
    stage.server.set_host_key(key);
    stage.server.kill_connections();
    let error = sending.ended().await.exits(5).error("host_key_changed");
    let job = error["job"].as_str().unwrap();
    assert_eq!(stage.history_here(), before);
    forget_host_keys(&stage);
    stage.run(&["trust", BOX, "--yes"]).await.exits(0);
    stage.run(&["collect", job]).await.exits(0);
    assert_eq!(grown(&before, &stage.history_here()).len(), 2);
}

#[tokio::test]
async fn a_key_that_the_host_does_not_accept_is_an_authentication_error() {
    let stage = Stage::new().await;
    let text = new_key().to_openssh(LineEnding::LF).unwrap();
    std::fs::write(stage.here(".ssh/id_ed25519"), text.as_bytes()).unwrap();
    let session = stage.session.to_string();
    let json = [send(&session), vec!["--json"]].concat();
    stage.run(&json).await.exits(6).error("authentication");
    assert_eq!(stage.proxy.connections(), 1, "it is not tried again");
    let check = stage.run(&["check", BOX, "--json"]).await.exits(6);
    let findings = check.document()["findings"].clone();
    assert_eq!(findings[2]["name"], "authentication");
    assert_eq!(findings[2]["status"], "fail");
    let ran = stage.run(&send(&session)).await.exits(6);
    assert!(
        !ran.err.contains("127.0.0.1"),
        "names, not addresses: {}",
        ran.err
    );
}
