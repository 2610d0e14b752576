//! Real opencode on both sides, a real sshd between them, and a model provider that answers by rule.
//!
//! Run through `tests/run`, which brings opencode and may make system users. Each test takes a [`Trip`] of its own.

#![cfg(unix)]

#[path = "support/opencode.rs"]
mod opencode;
#[path = "support/provider.rs"]
mod provider;
#[path = "support/remote.rs"]
mod remote;
mod support;
#[path = "support/trip.rs"]
mod trip;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use opencode::{Opencode, grown, holds_snapshot, messages, program};
use provider::Provider;
use trip::{CURRENT, Trip};

const OLD: &str = "HANDOVER_TEST_OPENCODE_OLD";
const MAKE_A_FILE: &str =
    r#"TOOL:bash {"command":"echo remote > made.txt && pwd","description":"make a file"}"#;

fn tool_calls(messages: &[Value]) -> Vec<&Value> {
    let parts = messages
        .iter()
        .filter_map(|message| message["parts"].as_array())
        .flatten();
    parts.filter(|part| part["type"] == "tool").collect()
}

/// Every file below `directory` with its content, but for git's own.
fn tree(directory: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with(".git") {
            files.extend(tree(&path)?);
        } else if path.is_file() {
            let content = std::fs::read(&path)?;
            files.insert(path, content);
        }
    }
    Ok(files)
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn a_session_works_on_the_host_and_comes_back_whole_twice() -> Result<()> {
    let trip = Trip::new(CURRENT)?;
    let session = trip.session()?;
    for turn in 1..=2 {
        let (before, after, new) = trip.round_trip(&session, &["--message", MAKE_A_FILE])?;
        assert_eq!(Trip::identity(&before), Trip::identity(&after));
        let made = trip.remote.home().join("made.txt");
        assert_eq!(std::fs::read_to_string(&made)?, "remote\n");
        std::fs::remove_file(made).or_else(|_| trip.remote.shell("rm made.txt").map(drop))?;
        assert!(!trip.project.join("made.txt").exists());
        let calls = tool_calls(&new);
        assert_eq!(calls.len(), 1, "turn {turn}: {new:#?}");
        assert_eq!(calls[0]["state"]["status"], "completed");
    }
    let prompts = trip.provider.prompts();
    for part in ["[Environment]", "[Constraints]", "[Task]", "[Return]"] {
        assert!(
            prompts.iter().any(|prompt| prompt.contains(part)),
            "no {part} in {prompts:?}"
        );
    }
    let before = trip.export(&session)?;
    trip.local
        .run(&trip.project, Some(&session), "and now here again")?;
    let new = grown_locally(&before, &trip.export(&session)?)?;
    assert_eq!(new.len(), 2, "the session must go on here: {new:#?}");
    Ok(())
}

/// The messages that a local turn added; unlike a trip's, they may hold snapshots.
fn grown_locally(before: &Value, after: &Value) -> Result<Vec<Value>> {
    let (old, all) = (messages(before)?, messages(after)?);
    ensure!(
        all.get(..old.len()).is_some_and(|kept| kept == old),
        "an old message changed"
    );
    Ok(all[old.len()..].to_vec())
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn undo_after_a_return_touches_no_file_that_the_host_changed() -> Result<()> {
    let trip = Trip::new(CURRENT)?;
    let session = trip.session()?;
    let work = trip.remote.home().join("work");
    let directory = work.to_str().context("the work directory")?;
    let made = work.join("made.txt");
    let call = format!(
        "TOOL:write {}",
        json!({"filePath": made, "content": "remote\n"})
    );
    let (_, _, new) = trip.round_trip(&session, &["--dir", directory, "--message", &call])?;
    // The point of the test: the host's own copy has what must not travel.
    trip.remote.shell(&format!(
        "cd work && ~/.opencode/bin/opencode export {session} > ../far.json"
    ))?;
    let far: Value = serde_json::from_slice(&std::fs::read(trip.remote.home().join("far.json"))?)?;
    assert!(
        messages(&far)?
            .iter()
            .rev()
            .take(new.len())
            .any(holds_snapshot),
        "no snapshot was taken on the host"
    );

    let before = (tree(&trip.project)?, tree(&work)?);
    let first = new
        .iter()
        .find(|message| message["info"]["role"] == "user")
        .context("no new prompt")?;
    let message = first["info"]["id"]
        .as_str()
        .context("a prompt without an id")?;
    trip.local.serve(&trip.project)?.revert(&session, message)?;
    assert_eq!(before, (tree(&trip.project)?, tree(&work)?));
    Ok(())
}

/// What the agent waits for there: the file `go` in its work directory.
const WAIT: &str = "TOOL:bash {\"command\":\"touch started; until [ -e go ]; do sleep 0.1; done\",\"description\":\"wait\"}";

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn a_spawned_agent_hears_what_it_is_told_in_order_and_its_session_comes_here_whole() -> Result<()> {
    for version in [CURRENT, OLD] {
        let trip = Trip::new(version)?;
        let handover = |arguments: &[&str]| trip.client.run(&trip.project, arguments);
        let started = handover(&[
            "run",
            "far",
            "--dir=~/work",
            "--title=a title",
            "--json",
            WAIT,
        ])?
        .expect_code(0)?
        .last()?;
        let job = started["job"].as_str().context("no job")?.to_owned();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
        while !trip.remote.shell("ls work")?.contains("started") {
            ensure!(
                std::time::Instant::now() < deadline,
                "the agent did not begin"
            );
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        for message in ["the first message", "the second message"] {
            handover(&["say", &job, message, "--json"])?.expect_code(0)?;
        }
        trip.remote.shell("touch work/go")?;
        let result = handover(&["collect", &job, "--import", "--json"])?
            .expect_code(0)?
            .last()?;
        ensure!(result["outcome"] == "completed", "{result}");
        ensure!(result["tool_calls"] == 1, "{result}");
        ensure!(
            result["text"]
                .as_str()
                .is_some_and(|text| text.starts_with("mock reply to:")),
            "{result}"
        );
        let session = result["session"].as_str().context("no session")?;
        let export = trip.export(session)?;
        let asked: Vec<String> = messages(&export)?
            .iter()
            .filter(|message| message["info"]["role"] == "user")
            .map(|message| {
                let text = message["parts"][0]["text"].as_str();
                text.unwrap_or_default().trim().to_owned()
            })
            .collect();
        ensure!(
            asked == [WAIT, "the first message", "the second message"],
            "{asked:#?}"
        );
        ensure!(
            export["info"]["title"] == "a title",
            "{}",
            export["info"]["title"]
        );
        // The session goes on here.
        trip.local
            .run(&trip.project, Some(session), "and now here")?;
    }
    Ok(())
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn an_agent_that_is_killed_within_a_long_call_leaves_what_it_had_done() -> Result<()> {
    let trip = Trip::new(CURRENT)?;
    let session = trip.session()?;
    let before = trip.export(&session)?;
    let long =
        r#"TOOL:bash {"command":"touch ~/work/started; sleep 617","description":"take long"}"#;
    let message = format!("{MAKE_A_FILE}\n{long}");
    let sent = trip
        .send(
            &session,
            &["--one-way", "--dir=~/work", "--message", &message],
        )?
        .expect_code(0)?
        .last()?;
    let job = sent["job"].as_str().context("no job")?.to_owned();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while !trip.remote.shell("ls work")?.contains("started") {
        ensure!(
            std::time::Instant::now() < deadline,
            "the call did not begin"
        );
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let handover = |arguments: &[&str]| trip.client.run(&trip.project, arguments);
    let killed = handover(&["kill", &job, "--json"])?
        .expect_code(0)?
        .last()?;
    ensure!(
        killed["state"] == "killed" && killed["left"] == 0,
        "{killed}"
    );
    ensure!(killed["result"] == true, "{killed}");
    // In brackets, so that the shell which asks is not found itself.
    let left = trip
        .remote
        .shell("pgrep -u $(id -u) -a -f '[s]leep 617' || true")?;
    ensure!(left.is_empty(), "the call's own process is left: {left}");
    let collected = handover(&["collect", &job, "--json"])?
        .expect_code(0)?
        .last()?;
    ensure!(collected["tool_calls"] == 2, "{collected}");
    let new = grown(&before, &trip.export(&session)?)?;
    let calls = tool_calls(&new);
    ensure!(calls.len() == 2, "{new:#?}");
    ensure!(calls[0]["state"]["status"] == "completed", "{new:#?}");
    // A call that never ended would keep the session from going on.
    ensure!(calls[1]["state"]["status"] == "error", "{new:#?}");
    ensure!(
        calls[1]["state"]["input"]["command"]
            .as_str()
            .is_some_and(|command| command.ends_with("sleep 617")),
        "{new:#?}"
    );
    // The session goes on here, whatever the call was in the middle of.
    trip.local
        .run(&trip.project, Some(&session), "and now here")?;
    Ok(())
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn a_permission_that_nobody_there_can_give_is_refused_and_told() -> Result<()> {
    let trip = Trip::new(CURRENT)?;
    let file = trip.remote.home().join(".config/opencode/opencode.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    config["permission"] = json!({"bash": "ask"});
    std::fs::write(&file, config.to_string())?;
    let session = trip.session()?;
    let (_, _, new) = trip.round_trip(&session, &["--dir=~/work", "--message", MAKE_A_FILE])?;
    ensure!(
        !trip.remote.shell("ls work")?.contains("made.txt"),
        "the command was run"
    );
    let calls = tool_calls(&new);
    ensure!(calls.len() == 1, "{new:#?}");
    let state = &calls[0]["state"];
    ensure!(state["status"] == "error", "{state}");
    ensure!(
        state["error"]
            .as_str()
            .is_some_and(|error| error.contains("rejected permission")),
        "{state}"
    );
    Ok(())
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn an_agent_whose_provider_is_down_is_stalled_and_goes_on_once_it_is_back() -> Result<()> {
    let trip = Trip::new(CURRENT)?;
    let handover = |arguments: &[&str]| trip.client.run(&trip.project, arguments);
    trip.provider.hold();
    let started = handover(&[
        "run",
        "far",
        "--dir=~/work",
        "--inactivity=3s",
        "--json",
        "what is it?",
    ])?
    .expect_code(0)?
    .last()?;
    let job = started["job"].as_str().context("no job")?.to_owned();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    loop {
        let status = handover(&["status", &job, "--json"])?
            .expect_code(0)?
            .last()?;
        ensure!(status["state"] == "running", "{status}");
        if status["attributes"] == json!(["stalled"]) {
            break;
        }
        ensure!(
            std::time::Instant::now() < deadline,
            "never stalled: {status}"
        );
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    trip.provider.release();
    let collected = handover(&["collect", &job, "--json"])?
        .expect_code(0)?
        .last()?;
    ensure!(collected["outcome"] == "completed", "{collected}");
    ensure!(
        collected["text"] == "mock reply to: what is it?",
        "{collected}"
    );
    let status = handover(&["status", &job, "--json"])?
        .expect_code(0)?
        .last()?;
    ensure!(status["attributes"] == json!([]), "{status}");
    Ok(())
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn the_agent_runs_in_the_directory_that_was_asked_for() -> Result<()> {
    let trip = Trip::new(CURRENT)?;
    let session = trip.session()?;
    let directory = trip.remote.home().join("a new 'directory' für \"mich\"");
    let name = directory.to_str().context("the directory")?;
    let (before, after, _) =
        trip.round_trip(&session, &["--dir", name, "--message", MAKE_A_FILE])?;
    assert!(directory.join("made.txt").exists());
    assert_eq!(Trip::identity(&before), Trip::identity(&after));
    let (_, _, new) = trip.round_trip(&session, &["--dir", "~/tilde", "--message", MAKE_A_FILE])?;
    assert!(
        trip.remote.home().join("tilde/made.txt").exists(),
        "{new:#?}"
    );
    Ok(())
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn the_hosts_agent_and_model_do_not_come_back() -> Result<()> {
    let trip = Trip::new(CURRENT)?;
    let session = trip.session()?;
    let flags = [
        "--agent",
        "plan",
        "--model",
        "mock/other",
        "--message",
        "think",
    ];
    let (before, after, new) = trip.round_trip(&session, &flags)?;
    assert_eq!(Trip::identity(&before), Trip::identity(&after));
    assert!(!new.is_empty());
    assert!(
        trip.provider.models().contains(&"other".to_owned()),
        "the host did not use the model asked for"
    );
    trip.local
        .run(&trip.project, Some(&session), "and now here again")?;
    let local = trip.export(&session)?;
    let last = messages(&local)?.last().context("no message")?;
    assert_eq!(
        last["info"]["modelID"], "m",
        "the next local turn must use the local model"
    );
    assert_eq!(
        last["info"]["mode"], "build",
        "the next local turn must use the local agent"
    );
    Ok(())
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn a_session_sent_from_inside_a_call_comes_back_with_its_old_messages_unchanged() -> Result<()> {
    let trip = Trip::new(CURRENT)?;
    for fixture in [
        "1.18.33-remote_login-running.json",
        "1.18.33-remote_login-pending-with-history.json",
    ] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/sessions")
            .join(fixture);
        let session = trip.local.import(
            &trip.project,
            &serde_json::from_slice(&std::fs::read(file)?)?,
        )?;
        assert!(trip.local.sessions(&trip.project)?.contains(&session));
        let (_, _, new) = trip.round_trip(&session, &["--message", MAKE_A_FILE])?;
        assert_eq!(tool_calls(&new).len(), 1, "{fixture}: {new:#?}");
        let (_, _, new) = trip.round_trip(&session, &["--message", MAKE_A_FILE])?;
        assert_eq!(
            tool_calls(&new).len(),
            1,
            "{fixture}, second trip: {new:#?}"
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn a_session_of_more_than_ten_megabytes_comes_back_whole() -> Result<()> {
    let trip = Trip::new(CURRENT)?;
    let small = trip.local.run(&trip.project, None, "hello there")?;
    let large = inflated(&trip.export(&small)?, 250)?;
    assert!(large.to_string().len() > 10 << 20);
    let session = trip.local.import(&trip.project, &large)?;
    let (before, _, new) = trip.round_trip(&session, &["--message", MAKE_A_FILE])?;
    assert!(
        messages(&before)?.len() > 250,
        "the large session was not imported"
    );
    assert_eq!(tool_calls(&new).len(), 1, "{new:#?}");
    Ok(())
}

/// `export` with `count` earlier messages of 44 kB each, made after its first one.
fn inflated(export: &Value, count: u64) -> Result<Value> {
    let first = messages(export)?.first().context("an empty session")?;
    let id = first["info"]["id"]
        .as_str()
        .context("a message without an id")?;
    // `msg_`, then twelve hexadecimal digits of time: ids sort by it, so smaller ones come first.
    let time = u64::from_str_radix(id.get(4..16).context("a short id")?, 16)?;
    let early = |index: u64| {
        let stamp = time - (count - index) * 0x1000;
        let mut message = first.clone();
        message["info"]["id"] = format!("msg_{stamp:012x}{index:014}").into();
        let mut part = first["parts"][0].clone();
        part["id"] = format!("prt_{stamp:012x}{index:014}").into();
        part["messageID"] = message["info"]["id"].clone();
        part["text"] = "large \u{20ac}\n".repeat(44_000 / 10).into();
        message["parts"] = json!([part]);
        message
    };
    let mut large = export.clone();
    large["messages"] = (0..count)
        .map(early)
        .chain(messages(export)?.iter().cloned())
        .collect();
    Ok(large)
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn a_host_with_an_old_opencode_serves() -> Result<()> {
    let trip = Trip::new(OLD)?;
    let session = trip.session()?;
    let (before, after, new) = trip.round_trip(&session, &["--message", MAKE_A_FILE])?;
    assert_eq!(Trip::identity(&before), Trip::identity(&after));
    assert!(trip.remote.home().join("made.txt").exists());
    assert_eq!(tool_calls(&new).len(), 1, "{new:#?}");
    Ok(())
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn a_round_trip_that_was_left_is_collected() -> Result<()> {
    let trip = Trip::new(CURRENT)?;
    let session = trip.session()?;
    let before = trip.export(&session)?;
    trip.provider.hold();
    let left = trip
        .send(
            &session,
            &["--round-trip", "--timeout", "45s", "--message", MAKE_A_FILE],
        )?
        .expect_code(10)?;
    trip.provider.release();
    let left = left.last()?;
    let job = left["job"]
        .as_str()
        .with_context(|| format!("no job in {left}"))?;
    let result = trip
        .client
        .run(&trip.project, &["collect", job, "--json"])?
        .expect_code(0)?
        .last()?;
    assert_eq!(result["outcome"], "completed", "{result}");
    assert_eq!(
        tool_calls(&grown(&before, &trip.export(&session)?)?).len(),
        1
    );
    Ok(())
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn a_one_way_session_runs_on_its_own_and_is_forgotten_once_collected() -> Result<()> {
    let trip = Trip::new(CURRENT)?;
    let session = trip.session()?;
    let before = trip.export(&session)?;
    let sent = trip
        .send(&session, &["--one-way", "--message", MAKE_A_FILE])?
        .expect_code(0)?
        .last()?;
    assert_eq!(sent["outcome"], "running", "{sent}");
    let job = sent["job"].as_str().context("no job")?;
    trip.client
        .run(&trip.project, &["collect", job, "--forget", "--json"])?
        .expect_code(0)?;
    assert_eq!(
        tool_calls(&grown(&before, &trip.export(&session)?)?).len(),
        1
    );
    let list = trip
        .remote
        .shell("~/.opencode/bin/opencode session list --format json")?;
    assert!(
        !list.contains(&session),
        "the host still has the session: {list}"
    );
    let jobs = trip.remote.shell("ls ~/.local/state/handover/jobs")?;
    assert_eq!(jobs, "", "files were left on the host");
    Ok(())
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn check_finds_the_agent_its_version_and_its_models() -> Result<()> {
    let trip = Trip::new(CURRENT)?;
    let good = trip
        .client
        .run(
            trip.home.path(),
            &["check", "far", "--model", "mock/m", "--json"],
        )?
        .expect_code(0)?;
    assert!(good.stdout.contains("1.18.33"), "{}", good.stdout);
    trip.client
        .run(
            trip.home.path(),
            &["check", "far", "--model", "mock/none", "--json"],
        )?
        .expect_code(7)?;
    Ok(())
}

/// The control of the undo test above: it shows that opencode still does what that test guards against.
#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn undo_after_a_plain_import_does_delete_what_the_other_side_made() -> Result<()> {
    let provider = Provider::start()?;
    let program = program(CURRENT)?;
    let scratch = tempfile::Builder::new().prefix("undo-").tempdir()?;
    let mut sides = Vec::new();
    for name in ["near", "far"] {
        let home = scratch.path().join(name);
        provider.configure(&home)?;
        ensure!(
            Command::new("git")
                .args(["init", "-q"])
                .arg(home.join("work"))
                .status()?
                .success(),
            "git init"
        );
        sides.push((Opencode::new(&program, &home), home.join("work")));
    }
    let [(near, here), (far, there)] = sides.as_slice() else {
        unreachable!("two sides were made")
    };
    let session = near.run(here, None, "hello there")?;
    let before = near.export(here, &session)?;
    far.import(there, &before)?;
    let made = there.join("made.txt");
    far.run(
        there,
        Some(&session),
        &format!(
            "TOOL:write {}",
            json!({"filePath": made, "content": "remote\n"})
        ),
    )?;
    let exported = far.export(there, &session)?;
    // The same path on both machines: the file of that name here is another one.
    let text = exported
        .to_string()
        .replace(&there.display().to_string(), &here.display().to_string());
    std::fs::write(here.join("made.txt"), "local\n")?;
    near.import(here, &serde_json::from_str(&text)?)?;
    let after = near.export(here, &session)?;
    assert!(
        grown(&before, &after).is_err(),
        "the comparison must see the patch part"
    );
    let prompt = &messages(&after)?[messages(&before)?.len()]["info"]["id"];
    near.serve(here)?
        .revert(&session, prompt.as_str().context("a prompt without an id")?)?;
    assert!(
        !here.join("made.txt").exists(),
        "opencode no longer deletes it: the undo test may be too weak now"
    );
    Ok(())
}
