//! Hosts that `~/.ssh/config` names, or says more of than the hosts file does.

use serde_json::Value;

use crate::support::{BOX, Ran, Stage, write_private};

/// Takes the hosts file away and writes an ssh_config: the host at the proxy, and these lines.
fn named_there(stage: &Stage, name: &str, more: &str) {
    let hosts = stage.here("config/hosts.toml");
    if hosts.exists() {
        std::fs::remove_file(hosts).unwrap();
    }
    // The agent there is the stand-in, whatever else this machine has.
    let path = "PATH=\"$HOME/.opencode/bin:$PATH\"\nexport PATH\n";
    std::fs::write(stage.there(".profile"), path).unwrap();
    let address = stage.proxy.address();
    let block = format!(
        "Host {name}\n  Hostname {}\n  Port {}\n  User demo\n{more}",
        address.ip(),
        address.port()
    );
    write(stage, &block);
}

fn write(stage: &Stage, text: &str) {
    write_private(&stage.here(".ssh/config"), text);
}

fn message(error: &Value) -> String {
    format!("{} {}", error["message"], error["hint"])
}

#[tokio::test]
async fn a_host_that_only_the_ssh_config_names_needs_nothing_else() {
    let stage = Stage::new().await;
    named_there(&stage, "far *.other", "  IdentityFile ~/.ssh/%h-key\n");
    let key = format!("{}-key", stage.proxy.address().ip());
    let directory = stage.here(".ssh");
    std::fs::rename(directory.join("id_ed25519"), directory.join(key)).unwrap();
    let session = stage.session.to_string();
    let send = [
        "send",
        "far",
        "--session",
        &session,
        "--round-trip",
        "--json",
    ];
    let result = stage.run(&send).await.exits(0).document();
    assert_eq!(result["outcome"], "completed", "{result}");
    assert!(stage.is_there());
    assert_eq!(stage.jobs().await[0].host.as_str(), "far");
    for unknown in ["demo@127.0.0.1", "127.0.0.1", "x.other", "FAR"] {
        let send = ["send", unknown, "--session", &session, "--json"];
        stage.run(&send).await.exits(3).error("unknown_host");
    }
}

#[tokio::test]
async fn an_address_may_be_an_alias_and_the_hosts_file_beats_it() {
    let stage = Stage::new().await;
    let address = stage.proxy.address();
    let config = format!(
        "Host alias\n  Hostname {}\n  User nobody\n  Port 1\n  IdentityFile /no/such/key\n",
        address.ip()
    );
    write(&stage, &config);
    let key = stage.here(".ssh/id_ed25519");
    let hosts = format!(
        "[hosts.{BOX}]\nhost = \"demo@alias\"\nport = {}\nidentity_file = {:?}\nopencode = \"~/.opencode/bin/opencode\"\n",
        address.port(),
        key.display().to_string()
    );
    std::fs::write(stage.here("config/hosts.toml"), hosts).unwrap();
    let report = stage
        .run(&["check", BOX, "--json"])
        .await
        .exits(0)
        .document();
    assert!(report["stopped_by"].is_null(), "{report}");
    let listed = stage.run(&["hosts", "--all"]).await.exits(0).out;
    let place = format!("demo@alias:{0} = demo@127.0.0.1:{0}", address.port());
    assert!(listed.contains(&place), "{listed}");
}

#[tokio::test]
async fn all_hosts_are_listed_with_where_they_come_from() {
    let stage = Stage::new().await;
    let only_ours = stage.run(&["hosts", "--json"]).await.exits(0).document();
    write(
        &stage,
        "Host near far *.x\n  Hostname %h.lan\n  User dev\n  ForwardAgent yes\n\
         Host far\n  ProxyJump near\nHost odd\n  ProxyCommand nc %h %p\n",
    );
    assert_eq!(
        stage.run(&["hosts", "--json"]).await.exits(0).document(),
        only_ours,
        "without --all"
    );
    let document = stage
        .run(&["hosts", "--all", "--json"])
        .await
        .exits(0)
        .document();
    let file = stage.here(".ssh/config").display().to_string();
    let names = |list: &str| -> Vec<String> {
        let entries = document[list].as_array().unwrap().iter();
        entries
            .map(|entry| entry["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("hosts"), [BOX]);
    assert_eq!(names("ssh_config"), ["far", "near", "odd"]);
    assert_eq!(names("resolved"), [BOX, "far", "near", "odd"]);
    let source = &document["ssh_config"][2]["source"];
    assert_eq!(
        (&source["kind"], &source["path"], &source["line"]),
        (&"ssh_config".into(), &file.clone().into(), &7.into())
    );
    let far = &document["resolved"][1];
    assert_eq!(
        (&far["host"], &far["user"], &far["via"][0]),
        (&"far.lan".into(), &"dev".into(), &"dev@near.lan".into())
    );
    assert_eq!(far["without_effect"][0]["keyword"], "ForwardAgent");
    let error = document["resolved"][3]["error"].as_str().unwrap();
    assert!(
        error.contains("ProxyJump") && error.contains(&file),
        "{error}"
    );

    let person = stage.run(&["hosts", "--all"]).await.exits(0);
    for words in [
        "dev@far.lan via dev@near.lan",
        &format!("{file}:1"),
        &format!("{file}:7"),
    ] {
        assert!(person.out.contains(words), "{words}: {}", person.out);
    }
    assert!(person.err.contains("not usable: odd: "), "{}", person.err);
    let model = stage
        .run(&["hosts", "--all", "--for-model"])
        .await
        .exits(0)
        .out;
    assert!(!model.contains("far") && !model.contains(".lan"), "{model}");
}

#[tokio::test]
async fn what_is_refused_is_told_to_a_person_and_to_a_model_in_other_words() {
    let stage = Stage::new().await;
    let session = stage.session.to_string();
    for (line, words, hint) in [
        (
            "ProxyCommand ssh 10.66.0.1 -W %h:%p",
            "ProxyCommand",
            "ProxyJump",
        ),
        (
            "Match exec \"test -e /secret\"",
            "Match",
            "no command is run",
        ),
        (
            "RevokedHostKeys /secret",
            "RevokedHostKeys",
            "HANDOVER_SSH_CONFIG",
        ),
        ("Colour 10.66.0.1", "unknown keyword", "IgnoreUnknown"),
        ("Port secret", "Port", "1 to 65535"),
    ] {
        write(&stage, &format!("# a comment\n{line}\n"));
        let send = ["send", BOX, "--session", &session, "--json"];
        let error = stage.run(&send).await.exits(3).error("ssh_config");
        let told = message(&error);
        assert!(told.contains(words) && told.contains(hint), "{told}");
        assert!(told.contains(".ssh/config:2:1"), "its place: {told}");
        let report = stage
            .run(&["check", BOX, "--json"])
            .await
            .exits(3)
            .document();
        let finding = &report["findings"][0];
        assert_eq!(
            (&finding["name"], &finding["status"]),
            (&"ssh_config".into(), &"fail".into())
        );

        let call = stage.command(&[
            "send",
            "--for-model",
            "--tool-call",
            "--session",
            &session,
            BOX,
        ]);
        let error = Ran::fed(call, "{\"id\":null,\"arguments\":{}}\n")
            .await
            .exits(3)
            .error("ssh_config");
        let told = message(&error);
        assert!(told.contains(BOX), "{told}");
        for private in ["10.66", "secret", ".ssh/config", "127.0.0.1"] {
            assert!(!told.contains(private), "{told}");
        }
    }
    assert!(stage.jobs().await.is_empty());
}

#[tokio::test]
async fn a_tool_reaches_what_the_hosts_files_define_and_no_more() {
    let stage = Stage::new().await;
    named_there(&stage, "far", "");
    let session = stage.session.to_string();
    let call = stage.command(&[
        "send",
        "--for-model",
        "--tool-call",
        "--session",
        &session,
        "far",
    ]);
    let ran = Ran::fed(call, "{\"id\":null,\"arguments\":{}}\n").await;
    let error = ran.exits(3).error("unknown_host");
    assert!(message(&error).contains("hosts.toml"), "{error}");
    let ran = stage.run(&["run", "far", "--for-model", "do it"]).await;
    let error = ran.exits(3).error("unknown_host");
    assert!(message(&error).contains("hosts.toml"), "{error}");
    assert!(stage.jobs().await.is_empty());
}

#[tokio::test]
async fn what_has_no_effect_is_told_once_by_v_and_by_the_check() {
    let stage = Stage::new().await;
    write(
        &stage,
        "StrictHostKeyChecking no\nForwardAgent yes\nSendEnv LANG\nSendEnv LC_*\nCompression no\n",
    );
    let ran = stage.run(&["check", BOX, "-v"]).await.exits(0);
    for keyword in ["StrictHostKeyChecking", "ForwardAgent", "SendEnv"] {
        let lines = ran
            .err
            .lines()
            .filter(|line| line.contains("INFO") && line.contains(keyword));
        assert_eq!(lines.count(), 1, "{keyword}: {}", ran.err);
    }
    assert!(!ran.err.contains("Compression"), "{}", ran.err);
    let found = ran.out.lines().filter(|line| line.contains("ssh_config"));
    let found: Vec<&str> = found.collect();
    assert_eq!(found.len(), 2, "{}", ran.out);
    assert!(
        found[0].contains("warn") && found[0].contains("counts as 'ask'"),
        "{found:?}"
    );
    assert!(
        found[1].contains("ForwardAgent") && found[1].contains("SendEnv"),
        "{found:?}"
    );
    let quiet = stage.run(&["check", BOX]).await.exits(0);
    assert!(!quiet.err.contains("INFO"), "{}", quiet.err);
}

#[tokio::test]
async fn a_file_that_is_named_and_not_there_stops_everything() {
    let stage = Stage::new().await;
    std::fs::remove_file(stage.here(".ssh/config")).unwrap();
    for command in [&["hosts", "--json"][..], &["check", "far", "--json"]] {
        let ran = stage.run(command).await.exits(3);
        assert!(ran.out.contains("HANDOVER_SSH_CONFIG"), "{command:?}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_others_can_write_stops_everything() {
    use std::os::unix::fs::PermissionsExt as _;
    let stage = Stage::new().await;
    write(&stage, "Host far\n");
    let path = stage.here(".ssh/config");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o622)).unwrap();
    let error = stage
        .run(&["hosts", "--json"])
        .await
        .exits(3)
        .error("ssh_config");
    assert!(
        message(&error).contains("bad owner or permissions"),
        "{error}"
    );
    assert!(message(&error).contains("chmod go-w"), "{error}");
    let model = stage
        .run(&["hosts", "--for-model"])
        .await
        .exits(3)
        .error("ssh_config");
    assert!(!message(&model).contains(".ssh/config"), "{model}");
}

#[tokio::test]
async fn host_keys_are_looked_up_as_the_ssh_config_says() {
    let stage = Stage::new().await;
    named_there(
        &stage,
        "far",
        "  HostKeyAlias gate\n  UserKnownHostsFile ~/known\n",
    );
    stage.run(&["check", "far", "--json"]).await.exits(5);
    let key = stage.server.host_key().to_openssh().unwrap();
    std::fs::write(stage.here("known"), format!("gate {key}\n")).unwrap();
    stage.run(&["check", "far"]).await.exits(0);
    named_there(
        &stage,
        "far",
        "  UserKnownHostsFile none\n  HostKeyAlias gate\n",
    );
    stage.run(&["check", "far"]).await.exits(5);
}

#[tokio::test]
async fn the_key_of_a_hop_without_a_name_is_trusted_as_the_hint_says() {
    let stage = Stage::new().await;
    let hop = stage.proxy.address();
    // Nothing is asked of the host itself before its hop is trusted.
    let way = format!("Host far\n  Hostname 192.0.2.1\n  ProxyJump demo@{hop}\n");
    write(&stage, &way);
    let trusted = stage.here("config/known_hosts");
    std::fs::remove_file(&trusted).unwrap();
    let check = stage.run(&["check", "far", "--json"]).await.exits(5);
    let findings = check.document()["findings"].to_string();
    let hint = "handover trust far.jump1";
    assert!(findings.contains(hint), "{findings}");
    for unknown in [
        "far.jump0",
        "far.jump2",
        "far.jump01",
        "far.jump",
        "x.jump1",
    ] {
        let ran = stage.run(&["trust", unknown, "--yes", "--json"]).await;
        ran.exits(3).error("unknown_host");
    }
    let trust = ["trust", "far.jump1", "--yes", "--json"];
    let ran = stage.run(&trust).await.exits(0).document();
    assert_eq!(ran["trust"], "written", "{ran}");
    assert_eq!(ran["host"], "far.jump1", "{ran}");
    assert!(trusted.exists());
    let ran = stage.run(&trust).await.exits(0).document();
    assert_eq!(ran["trust"], "known", "{ran}");
}

#[tokio::test]
async fn no_hop_is_told_by_its_address_and_each_is_trusted_by_the_name_that_it_is_told_by() {
    let stage = Stage::new().await;
    let hop = stage.proxy.address();
    let (ip, port) = (hop.ip(), hop.port());
    let alias = format!("Host gate\n  Hostname {ip}\n  Port {port}\n  User demo\n");
    let far = "Host inner\n  Hostname 192.0.2.1\n  ProxyJump";
    let definition = "[hosts.gate]\nhost = \"192.0.2.7\"\n";
    let trusted = stage.here("config/known_hosts");
    let hosts = format!("[hosts.{BOX}]\nhost = \"inner\"\n");
    for (config, more, name) in [
        (
            format!("Host {ip}\n  Port {port}\n  User demo\n{far} {ip}\n"),
            "",
            format!("{BOX}.jump1"),
        ),
        (format!("{alias}{far} gate\n"), "", "gate".to_owned()),
        (
            format!("{alias}{far} demo@gate:{port}\n"),
            "",
            "gate".to_owned(),
        ),
        (
            format!("{alias}{far} eve@gate\n"),
            "",
            format!("{BOX}.jump1"),
        ),
        (
            format!("{alias}{far} gate\n"),
            definition,
            format!("{BOX}.jump1"),
        ),
    ] {
        write(&stage, &config);
        write_private(
            &stage.here("config/hosts.toml"),
            &format!("{hosts}\n{more}"),
        );
        if trusted.exists() {
            std::fs::remove_file(&trusted).unwrap();
        }
        let ran = stage.run(&["run", BOX, "--for-model", "do it"]).await;
        let error = ran.exits(5).error("host_key_unknown");
        let told = message(&error);
        let words = format!("the host key of {name} is not known");
        assert!(told.contains(&words), "{config}: {told}");
        assert!(!told.contains(&ip.to_string()), "{config}: {told}");
        for asked in [format!("{BOX}.jump1"), name.clone()] {
            let trust = ["trust", asked.as_str(), "--yes", "--json"];
            let ran = stage.run(&trust).await.exits(0).document();
            assert_eq!(ran["host"], *name, "{config}: {ran}");
        }
        assert!(trusted.exists());
    }
}
