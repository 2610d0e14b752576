//! What a handoff from Windows meets beside the verbs themselves: awkward characters, a command script that cannot take
//! a path, a tool call that is given up, a client that dies on the way.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::far::ready;
use crate::opencode::grown;
use crate::sshd::wait_for;
use crate::wine::{LocalAgent, Windows};
use crate::{DEADLINE, ended, result, text, told};

#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn a_session_comes_back_to_an_opencode_that_is_a_command_script() -> Result<()> {
    let (windows, far) = ready(LocalAgent::Cmd)?;
    let session = windows.new_session()?;
    let before = windows.export(&session)?;
    for turn in 1..=2 {
        let sent = windows.run(&[
            "send",
            "far",
            "--json",
            "--round-trip",
            "--message",
            "Look & \"quote\" 100% ^here\nRULE write made.txt größer",
        ])?;
        let sent = result(sent)?;
        assert_eq!(sent["outcome"], "completed", "turn {turn}: {sent}");
    }
    assert_eq!(std::fs::read_to_string(far.in_work("made.txt"))?, "größer");
    let after = windows.export(&session)?;
    assert_eq!(before["info"]["directory"], after["info"]["directory"]);
    let new = grown(&before, &after)?;
    assert!(Value::from(new).to_string().contains("größer"), "{after}");
    Ok(())
}

#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn what_a_command_script_could_not_import_is_refused_before_the_launch() -> Result<()> {
    let (windows, far) = ready(LocalAgent::Cmd)?;
    windows.new_session()?;
    let directory = Windows::profile_there("R&D 100%");
    let state = ("HANDOVER_STATE_DIR", &*directory);
    let message = "RULE write made.txt x";
    let arguments = [
        "send",
        "far",
        "--json",
        "--round-trip",
        "--message",
        message,
    ];
    let refused = windows.run_with(state, &arguments)?.expect_code(12)?;
    let error = refused.last()?;
    let hint = error["error"]["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("HANDOVER_STATE_DIR"), "{error}");
    // Nothing is imported of a session that goes one way.
    let arguments = ["send", "far", "--json", "--message", message];
    windows.run_with(state, &arguments)?.expect_code(0)?;
    far.has_made("made.txt")?;
    let jobs = told(windows.run_with(state, &["jobs", "--all", "--json"])?)?;
    let launched = jobs.as_array().map_or(0, |jobs| {
        jobs.iter()
            .filter(|job| job["state"] == "running" || job["state"] == "completed")
            .count()
    });
    assert_eq!(launched, 1, "{jobs}");
    Ok(())
}

#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn a_running_job_is_followed_watched_and_told_more() -> Result<()> {
    let (windows, far) = ready(LocalAgent::Exe)?;
    let prompt = "RULE say at the work\nRULE await go\nRULE say first";
    let job = text(
        &told(windows.run(&["run", "far", "--json", prompt])?)?,
        "job",
    )?;
    let start = |arguments: &[&str]| {
        let output = windows.scratch(arguments[0]);
        let child = windows.start(arguments, &output);
        child.map(|child| (child, output))
    };
    let (mut follower, log) = start(&["logs", "-f", "--json", &job])?;
    let (mut watcher, changes) = start(&["watch", "--json", &job])?;
    let (mut waiter, end) = start(&["wait", "--json", &job])?;
    let reached = |path: &Path, text: &str| {
        wait_for(DEADLINE, || {
            std::fs::read_to_string(path).is_ok_and(|said| said.contains(text))
        })
    };
    let more = ["RULE say second größer", "RULE say third & \"last\" 100%"]
        .into_iter()
        .try_for_each(|text| windows.run(&["say", &job, text])?.expect_code(0).map(drop));
    let (followed, watched) = (reached(&log, "at the work"), reached(&changes, "running"));
    std::fs::write(far.in_work("go"), "")?;
    let statuses = [&mut follower, &mut watcher, &mut waiter].map(ended);
    let [log, changes, end] = [log, changes, end].map(std::fs::read_to_string);
    let (log, changes, end) = (log?, changes?, end?);
    for status in statuses {
        ensure!(status?.success(), "{log}\n{changes}\n{end}");
    }
    more?;
    ensure!(followed, "nothing before the end: {log}");
    ensure!(watched, "nothing before the end: {changes}");
    let mut said = Vec::new();
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        said.extend(event["text"].as_str().map(str::to_owned));
    }
    let wanted = [
        "at the work",
        "first",
        "second größer",
        "third & \"last\" 100%",
    ];
    assert_eq!(said, wanted);
    assert!(changes.contains("completed"), "{changes}");
    assert!(end.contains("completed"), "{end}");
    let late = windows.run(&["say", &job, "too late", "--json"])?;
    assert!(late.expect_code(8)?.stdout.contains("inbox_closed"));
    Ok(())
}

/// As the plugin runs it for `remote_login`.
#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn a_tool_call_that_opencode_gives_up_detaches_and_is_collected() -> Result<()> {
    let (windows, far) = ready(LocalAgent::Exe)?;
    let session = windows.new_session()?;
    let output = windows.scratch("call");
    let mut client = windows.start_with_input(
        &[
            "send",
            "--for-model",
            "--tool-call",
            &format!("--session={session}"),
            "--round-trip",
            "--",
            "far",
        ],
        &output,
    )?;
    let mut input = client.stdin.take().context("no input")?;
    let message = "RULE write begun.txt größer\nRULE await go\nRULE say after the call";
    let call = serde_json::json!({"id": null, "arguments": {"host": "far", "message": message}});
    writeln!(input, "{call}")?;
    input.flush()?;
    let begun = far.has_made("begun.txt");
    drop(input);
    let status = ended(&mut client);
    std::fs::write(far.in_work("go"), "")?;
    let said = std::fs::read_to_string(&output)?;
    begun.with_context(|| said.clone())?;
    assert_eq!(status?.code(), Some(10), "{said}");
    let last: Value = serde_json::from_str(said.lines().last().context("nothing was said")?)?;
    assert_eq!(last["outcome"], "detached", "{said}");
    let job = text(&last, "job")?;
    let collected = result(windows.run(&["collect", &job, "--json"])?)?;
    assert_eq!(collected["outcome"], "completed", "{collected}");
    let after = windows.export(&session)?.to_string();
    assert!(after.contains("after the call"), "{after}");
    Ok(())
}

/// The steps after the launch at which the files of a job are open, locked, replaced or removed here.
const AFTER_THE_LAUNCH: [&str; 9] = [
    "launched-noted",
    "fetched",
    "return-prepared",
    "return-imported",
    "return-after",
    "return-compared",
    "return-noted",
    "cleaned-host",
    "cleaned-here",
];

#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn a_trip_whose_client_died_at_any_step_after_the_launch_is_finished_by_collecting() -> Result<()> {
    let (windows, _far) = ready(LocalAgent::Exe)?;
    for point in AFTER_THE_LAUNCH {
        let session = windows.new_session()?;
        let before = windows.export(&session)?;
        let arguments = [
            "send",
            "far",
            "--json",
            "--round-trip",
            "--session",
            &session,
            "--message",
            "Go on.",
        ];
        let died = windows.run_with(("HANDOVER_FAILPOINT", point), &arguments)?;
        ensure!(
            died.code != 0 && died.last()?["event"] != "result",
            "{point} was not reached: {died:?}"
        );
        let job = died
            .events()?
            .iter()
            .find_map(|event| event["job"].as_str().map(str::to_owned));
        let job = job.with_context(|| format!("{point}: no job in {died:?}"))?;
        windows.run(&["sync", "--json"])?.expect_code(0)?;
        // The synchronisation finishes what only tidies up.
        let collected = windows.run(&["collect", &job, "--json"])?;
        ensure!(
            collected.code == 0 || collected.last()?["error"]["kind"] == "already_collected",
            "{point}: {collected:?}"
        );
        let new = grown(&before, &windows.export(&session)?).context(point)?;
        let of = |role| new.iter().filter(|new| new["info"]["role"] == role).count();
        ensure!((of("user"), of("assistant")) == (1, 1), "{point}: {new:#?}");
    }
    Ok(())
}
