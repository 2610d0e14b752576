//! Hostile names at every entry: refused, or carried verbatim as data; nothing is ever executed.

use std::fmt::Write as _;

use handover::job::State;

use crate::hostile_names::HOSTILE;
use crate::support::{BOX, Ran, Stage, grown};

fn nothing_was_executed(stage: &Stage, what: &str) {
    assert!(stage.all_named("PWNED").is_empty(), "{what}");
    assert!(!std::path::Path::new("PWNED").exists(), "{what}");
}

/// `--name=value`, as a careful caller passes what may begin with a dash.
async fn send_with(stage: &Stage, flag: &str, value: &str) -> Ran {
    let flag = format!("--{flag}={value}");
    let session = format!("--session={}", stage.session);
    let mut arguments = vec!["send", BOX, "--round-trip", "--json"];
    if !flag.starts_with("--session=") {
        arguments.push(&session);
    }
    arguments.push(&flag);
    stage.run(&arguments).await
}

#[tokio::test]
async fn a_hostile_host_name_is_refused() {
    let stage = Stage::new().await;
    let session = stage.session.to_string();
    for name in HOSTILE {
        for verb in ["send", "check", "trust"] {
            let mut arguments = vec![verb, "--json"];
            if verb == "send" {
                arguments.extend(["--session", &session]);
            }
            arguments.extend(["--", name]);
            let ran = stage.run(&arguments).await;
            assert!(matches!(ran.code, Some(2 | 3)), "{verb} {name:?}: {ran:?}");
            assert!(!ran.err.contains('\u{1b}'), "{verb} {name:?}");
        }
    }
    assert_eq!(stage.proxy.connections(), 0);
    assert!(stage.jobs().await.is_empty());
    nothing_was_executed(&stage, "host");
}

#[tokio::test]
async fn a_hostile_session_agent_model_or_job_is_refused_or_an_unknown_one() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    for value in HOSTILE {
        let ran = send_with(&stage, "session", value).await;
        assert_eq!(ran.code, Some(2), "session {value:?}: {ran:?}");
        let ran = stage.run(&["collect", "--json", "--", value]).await;
        assert_eq!(ran.code, Some(2), "job {value:?}: {ran:?}");
        let ran = stage
            .run(&["jobs", "--json", &format!("--session={value}")])
            .await;
        assert_eq!(ran.code, Some(2), "jobs {value:?}: {ran:?}");
        // None of them is 'provider/model' but the last.
        let ran = send_with(&stage, "model", value).await;
        let a_model = value == "../../etc";
        let expected = if a_model { 9 } else { 2 };
        assert_eq!(ran.code, Some(expected), "model {value:?}: {ran:?}");
        let check = ["check", BOX, "--json", &format!("--model={value}")];
        let expected = if a_model { 7 } else { 2 };
        let ran = stage.run(&check).await;
        assert_eq!(ran.code, Some(expected), "check {value:?}: {ran:?}");
    }
    // Models that have the form: the agent is asked for them by exactly that name, and does not know them.
    for value in [
        "a/$(touch PWNED)",
        "a/;touch PWNED",
        "a/`touch PWNED`",
        "it's/\"quoted\"",
    ] {
        let ran = send_with(&stage, "model", value).await.exits(9);
        let said: String = ran.out;
        let known = serde_json::to_string(&format!("model not found: {value}")).unwrap();
        assert!(said.contains(known.trim_matches('"')), "{value}: {said}");
    }
    assert_eq!(stage.history_here(), before);
    nothing_was_executed(&stage, "names");
}

#[tokio::test]
async fn a_hostile_agent_name_is_refused_or_arrives_verbatim() {
    let stage = Stage::new().await;
    for value in HOSTILE {
        let ran = send_with(&stage, "agent", value).await;
        if ran.code == Some(2) {
            continue;
        }
        let ran = ran.exits(0);
        let answer = stage.history_there().messages.pop().unwrap();
        assert_eq!(answer.info["agent"], value, "{ran:?}");
    }
    nothing_was_executed(&stage, "agent");
}

#[tokio::test]
async fn a_hostile_directory_is_refused_or_is_that_very_directory() {
    let stage = Stage::new().await;
    for value in HOSTILE {
        let ran = send_with(&stage, "dir", value).await;
        assert_eq!(ran.code, Some(2), "{value:?}: {ran:?}");
        let ran = send_with(&stage, "dir", &format!("~/{value}")).await;
        if value.chars().any(char::is_control) || value.contains("..") {
            assert_eq!(ran.code, Some(2), "{value:?}: {ran:?}");
        } else {
            ran.exits(0);
            assert!(stage.has_there(&format!("{value}/.")), "{value:?}");
            // The same directory from the hosts file, as a literal string of TOML.
            stage.configure(&format!("directory = '''~/{value}'''"));
            send_with(&stage, "message", "RULE write from-file x")
                .await
                .exits(0);
            assert!(stage.has_there(&format!("{value}/from-file")), "{value:?}");
            stage.configure("");
        }
    }
    nothing_was_executed(&stage, "directory");
}

#[tokio::test]
async fn a_message_arrives_byte_for_byte_whatever_is_in_it() {
    let stage = Stage::new().await;
    let mut message = String::from("-oProxyCommand=x\n");
    for text in HOSTILE {
        writeln!(message, "{text}").unwrap();
    }
    message.push_str(
        "\t tabs, trailing blanks   \n\r\n% %s \\n \\ ' '' \"\" $HOME ~ * ? [a] {b} #c !d\n",
    );
    message
        .push_str("EOF\n'EOF'\ngr\u{f6}\u{df}e \u{6f22}\u{5b57} \u{1f600} \u{202e}x\u{7f}\u{1}\n.");
    let arrived = |stage: &Stage| {
        let text = stage.history_there().last_user().text();
        assert!(text.contains(&message), "{text:?}");
    };
    let mut before = stage.history_here();
    send_with(&stage, "message", &message).await.exits(0);
    arrived(&stage);

    let file = stage.here("it's $(touch PWNED).txt");
    std::fs::write(&file, &message).unwrap();
    let after = stage.history_here();
    grown(&before, &after);
    before = after;
    send_with(&stage, "message-file", file.to_str().unwrap())
        .await
        .exits(0);
    arrived(&stage);

    let session = format!("--session={}", stage.session);
    let mut arguments = vec!["send", BOX, "--round-trip", &session, "--forget"];
    arguments.extend(["--message-file", "-"]);
    let fed = format!("{message}\nRULE say from standard input");
    let ran = Ran::fed(stage.command(&arguments), &fed).await.exits(0);
    assert_eq!(ran.out, "from standard input\n", "the answer is the data");
    let after = stage.history_here();
    grown(&before, &after);
    assert!(after.text().contains(&message));
    nothing_was_executed(&stage, "message");
}

#[tokio::test]
async fn a_message_file_that_is_missing_or_no_text_is_a_usage_error() {
    let stage = Stage::new().await;
    for (name, content) in [("missing", None), ("bytes", Some(&b"\xff\xfe"[..]))] {
        let file = stage.here(name);
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let ran = send_with(&stage, "message-file", file.to_str().unwrap()).await;
        ran.exits(2).error("usage");
    }
    assert!(stage.jobs().await.is_empty());
}

#[tokio::test]
async fn hostile_values_of_a_hosts_file_are_refused_or_carried_verbatim() {
    let stage = Stage::new().await;
    let session = stage.session.to_string();
    let send = ["send", BOX, "--json", "--round-trip", "--session", &session];
    let hosts = stage.here("config/hosts.toml");
    for value in HOSTILE {
        let toml = serde_json::to_string(value).unwrap();
        let address = format!("[hosts.box]\nhost = {toml}\n");
        let user = format!("[hosts.box]\nhost = \"127.0.0.1\"\nuser = {toml}\n");
        let name = format!("[hosts.{toml}]\nhost = \"127.0.0.1\"\n");
        for text in [address, user, name] {
            std::fs::write(&hosts, &text).unwrap();
            let ran = stage.run(&send).await;
            // Dots and slashes make an address that nobody has.
            let refused =
                matches!(ran.code, Some(3)) || (value == "../../etc" && ran.code == Some(4));
            assert!(refused, "{text}: {ran:?}");
        }
        for key in [
            "directory",
            "state_dir",
            "opencode",
            "agent",
            "model",
            "identity_file",
        ] {
            stage.configure(&format!("{key} = {toml}"));
            let ran = stage.run(&send).await;
            let refused = matches!(ran.code, Some(3 | 6 | 7 | 9));
            assert!(
                refused || (key == "agent" && ran.code == Some(0)),
                "{key} {value:?}: {ran:?}"
            );
        }
    }
    stage.configure("");
    // No more than what a refused model leaves: its failed jobs.
    for job in stage.jobs().await {
        assert!(!job.state.is_live(), "{job:?}");
        assert!(
            matches!(job.state, State::Failed | State::Completed),
            "{job:?}"
        );
    }
    nothing_was_executed(&stage, "hosts file");
}
