//! `handover.exe` under Wine, against a real sshd on loopback.
//!
//! Run through `tests/run --tier windows`, which builds the program and makes a Wine prefix. [`Windows`] is the machine
//! of a person, [`Far`] a host with the stand-in agent.

#![cfg(unix)]

#[expect(
    dead_code,
    reason = "shared with the tests of real agents, which use other parts of it"
)]
#[path = "support/client.rs"]
mod client;
#[expect(
    dead_code,
    reason = "shared with tests/agent.rs, which uses other parts of it"
)]
#[path = "support/provider.rs"]
mod provider;
#[path = "support/remote.rs"]
mod remote;
#[expect(
    dead_code,
    reason = "shared with tests/sshd.rs, which uses other parts of it"
)]
#[path = "support/sshd.rs"]
mod sshd;
#[path = "support/wine.rs"]
mod wine;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use handover::demo::standin;
use serde_json::Value;

use provider::Provider;
use remote::Remote;
use sshd::{Sshd, SshdOptions, wait_for};
use wine::{LocalAgent, Windows, without_escapes};

/// What every wait in these tests is bounded by.
const DEADLINE: Duration = Duration::from_secs(120);

/// A host with the stand-in agent, and sessions of its own.
struct Far(Sshd);

impl Far {
    fn start() -> Result<Self> {
        let sshd = Sshd::start(&SshdOptions::default());
        let program = Path::new(env!("CARGO_BIN_EXE_handover"));
        standin::install(&sshd.path("home/.opencode/bin"), program, None)?;
        std::fs::create_dir(sshd.path("home/work"))?;
        Ok(Self(sshd))
    }

    /// The user's key where OpenSSH keeps it, and the hosts file.
    fn introduce(&self, windows: &Windows) -> Result<()> {
        let key = windows.profile(".ssh/id_ed25519");
        std::fs::copy(self.0.path("id_ed25519"), &key)?;
        let home = self.0.path("home");
        windows.write_hosts(&format!(
            "# a person's own\n[hosts.far]\nhost = \"{}@127.0.0.1\"\nport = {}\n\
             opencode = \"{}/.opencode/bin/opencode\"\ndirectory = \"{}/work\"\n",
            user(),
            self.0.port(),
            home.display(),
            home.display(),
        ))
    }

    /// What makes the agent there misbehave.
    fn in_work(&self, name: &str) -> std::path::PathBuf {
        self.0.path("home/work").join(name)
    }
}

fn user() -> String {
    let output = std::process::Command::new("id").arg("-un").output();
    output.map_or_else(
        |_| "root".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// A machine and a host that it trusts.
fn ready(agent: LocalAgent) -> Result<(Windows, Far)> {
    let (windows, far) = (Windows::new(agent)?, Far::start()?);
    far.introduce(&windows)?;
    windows.run(&["trust", "far", "--yes"])?.expect_code(0)?;
    Ok((windows, far))
}

/// The result of a run with `--json`.
fn result(finished: client::Finished) -> Result<Value> {
    let result = finished.last()?;
    ensure!(result["event"] == "result", "{result}");
    Ok(result)
}

fn mode(path: &Path) -> Result<u32> {
    let metadata = std::fs::metadata(path).with_context(|| path.display().to_string())?;
    Ok(metadata.permissions().mode() & 0o777)
}

#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn a_host_is_trusted_and_examined_and_gets_a_session() -> Result<()> {
    let (windows, far) = (Windows::new(LocalAgent::Exe)?, Far::start()?);
    far.introduce(&windows)?;
    let session = windows.new_session()?;

    let refused = windows.run(&["check", "far"])?.expect_code(5)?;
    without_escapes(&refused.stderr)?;
    let trusted = windows.run(&["trust", "far", "--yes"])?.expect_code(0)?;
    without_escapes(&trusted.stderr)?;
    let known = windows.profile("AppData/Roaming/handover/config/known_hosts");
    assert!(std::fs::read_to_string(&known)?.contains("ssh-ed25519"));
    let checked = windows.run(&["-vv", "check", "far"])?.expect_code(0)?;
    without_escapes(&checked.stderr)?;
    without_escapes(&checked.stdout)?;

    let sent = windows.run(&[
        "send",
        "far",
        "--json",
        "--message",
        "RULE write there.txt made on the host",
    ])?;
    let sent = result(sent.expect_code(0)?)?;
    assert_eq!(sent["outcome"], "running", "{sent}");
    assert_eq!(sent["session"], session.as_str());
    assert!(wait_for(DEADLINE, || far.in_work("there.txt").exists()));

    let jobs = windows
        .run(&["jobs", "--all", "--json"])?
        .expect_code(0)?
        .last()?;
    assert!(jobs.to_string().contains(&session), "{jobs}");
    Ok(())
}

#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn what_is_kept_lies_in_the_profile_and_is_private() -> Result<()> {
    let (windows, _far) = ready(LocalAgent::Exe)?;
    windows.new_session()?;
    windows
        .run(&["send", "far", "--json", "--round-trip"])?
        .expect_code(0)?;
    // Wine writes what a list says into the mode, as far as a mode can say it: the user's rights are the group's too.
    for private in [
        "AppData/Local/handover",
        "AppData/Local/handover/logs",
        "AppData/Local/handover/jobs",
        "AppData/Local/handover/store/jobs.db",
        "AppData/Local/handover/logs/handover.log",
        "AppData/Roaming/handover/config/known_hosts",
    ] {
        let mode = mode(&windows.profile(private))?;
        assert_eq!(mode & 0o007, 0, "{private} has the mode {mode:o}");
    }
    let log = std::fs::read_to_string(windows.profile("AppData/Local/handover/logs/handover.log"))?;
    without_escapes(&log)?;
    Ok(())
}

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
        let sent = result(sent.expect_code(0)?)?;
        assert_eq!(sent["outcome"], "completed", "turn {turn}: {sent}");
    }
    assert_eq!(std::fs::read_to_string(far.in_work("made.txt"))?, "größer");
    let after = windows.export(&session)?;
    assert_eq!(before["info"]["directory"], after["info"]["directory"]);
    let (old, new) = (&before["messages"], &after["messages"]);
    let (Some(old), Some(new)) = (old.as_array(), new.as_array()) else {
        anyhow::bail!("no messages in {before} or {after}");
    };
    assert!(new.len() > old.len());
    assert_eq!(new[..old.len()], old[..]);
    assert!(after.to_string().contains("größer"));
    Ok(())
}

#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn what_a_command_script_could_not_import_is_refused_before_the_launch() -> Result<()> {
    let (windows, far) = ready(LocalAgent::Cmd)?;
    windows.new_session()?;
    let state = Windows::profile_there("R&D 100%");
    let message = "RULE write made.txt x";
    let arguments = [
        "send",
        "far",
        "--json",
        "--round-trip",
        "--message",
        message,
    ];
    let refused = windows
        .run_with_state(&state, &arguments)?
        .expect_code(12)?;
    let error = refused.last()?;
    let hint = error["error"]["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("HANDOVER_STATE_DIR"), "{error}");
    // Nothing is imported of a session that goes one way.
    let arguments = ["send", "far", "--json", "--message", message];
    windows.run_with_state(&state, &arguments)?.expect_code(0)?;
    assert!(wait_for(DEADLINE, || far.in_work("made.txt").exists()));
    let jobs = windows.run_with_state(&state, &["jobs", "--all", "--json"])?;
    let jobs = jobs.expect_code(0)?.last()?;
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
fn a_job_whose_client_was_killed_is_collected() -> Result<()> {
    let (windows, far) = ready(LocalAgent::Exe)?;
    let session = windows.new_session()?;
    let before = windows.export(&session)?;
    let arguments = ["send", "far", "--json", "--round-trip", "--message"];
    let message = "RULE write begun.txt x\nRULE sleep 5\nRULE say after the client";
    let output = windows.scratch("killed");
    let mut client = windows.start(&[&arguments[..], &[message]].concat(), &output)?;
    let begun = wait_for(DEADLINE, || far.in_work("begun.txt").exists());
    client.kill()?;
    client.wait()?;
    assert!(begun, "{}", std::fs::read_to_string(&output)?);
    let events = std::fs::read_to_string(&output)?;
    let first: Value = serde_json::from_str(events.lines().next().context("no event")?)?;
    let job = first["job"]
        .as_str()
        .with_context(|| events.clone())?
        .to_owned();

    let collected = result(windows.run(&["collect", &job, "--json"])?.expect_code(0)?)?;
    assert_eq!(collected["outcome"], "completed", "{collected}");
    let after = windows.export(&session)?;
    assert!(after.to_string().contains("after the client"), "{after}");
    let count = |export: &Value| export["messages"].as_array().map_or(0, Vec::len);
    assert!(count(&after) > count(&before));
    Ok(())
}

/// Types at the console of `child` once `ready` holds, and waits for its end; the exit status.
fn type_at(child: &mut Child, keys: &str, what: &Path, ready: impl FnMut() -> bool) -> Result<i32> {
    let said = || std::fs::read_to_string(what).unwrap_or_default();
    let reached = wait_for(DEADLINE, ready);
    let mut keyboard = child.stdin.take().context("no keyboard")?;
    if reached {
        keyboard.write_all(keys.as_bytes())?;
        keyboard.flush()?;
    }
    let mut status = None;
    let ended = reached
        && wait_for(DEADLINE, || {
            status = child.try_wait().ok().flatten();
            status.is_some()
        });
    if !ended {
        child.kill()?;
        child.wait()?;
    }
    ensure!(reached, "it never got so far: {}", said());
    let status = status.with_context(|| format!("it did not end: {}", said()))?;
    status.code().context("a signal ended it")
}

#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn a_person_is_asked_at_the_console_and_ctrl_c_there_detaches() -> Result<()> {
    let (windows, far) = (Windows::new(LocalAgent::Exe)?, Far::start()?);
    far.introduce(&windows)?;
    let output = windows.scratch("console");
    let said = || String::from_utf8_lossy(&std::fs::read(&output).unwrap_or_default()).into_owned();
    let mut child = windows.in_console(&["trust", "far"], &output)?;
    let asked = || said().contains("yes/no");
    assert_eq!(
        type_at(&mut child, "yes\r", &output, asked)?,
        0,
        "{}",
        said()
    );
    windows.run(&["check", "far"])?.expect_code(0)?;

    let session = windows.new_session()?;
    let message = "RULE write begun.txt x\nRULE sleep 8\nRULE say after the interrupt";
    let arguments = ["send", "far", "--round-trip", "--message", message];
    let mut child = windows.in_console(&arguments, &output)?;
    let begun = || far.in_work("begun.txt").exists();
    assert_eq!(
        type_at(&mut child, "\u{3}", &output, begun)?,
        10,
        "{}",
        said()
    );
    assert!(said().contains("handover collect"), "{}", said());

    let job = windows.run(&["jobs", "--json"])?.expect_code(0)?.last()?;
    let job = job[0]["id"]
        .as_str()
        .with_context(|| job.to_string())?
        .to_owned();
    let collected = result(windows.run(&["collect", &job, "--json"])?.expect_code(0)?)?;
    assert_eq!(collected["session"], session.as_str());
    assert!(
        windows
            .export(&session)?
            .to_string()
            .contains("after the interrupt")
    );
    Ok(())
}

/// Waits for the end of a program that is about to end, with success.
fn ends(mut child: Child, output: &Path) -> Result<String> {
    let mut status = None;
    let ended = wait_for(DEADLINE, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    if !ended {
        child.kill()?;
        child.wait()?;
    }
    let said = std::fs::read_to_string(output)?;
    ensure!(
        status.is_some_and(|status| status.success()),
        "{status:?}: {said}"
    );
    Ok(said)
}

#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn a_running_job_is_followed_and_told_more() -> Result<()> {
    let (windows, far) = ready(LocalAgent::Exe)?;
    let prompt = "RULE say at the work\nRULE await go\nRULE say first";
    let ran = windows
        .run(&["run", "far", "--json", prompt])?
        .expect_code(0)?;
    let job = ran.last()?["job"]
        .as_str()
        .with_context(|| ran.stdout.clone())?
        .to_owned();
    let (log, changes, end) = (
        windows.scratch("log"),
        windows.scratch("changes"),
        windows.scratch("end"),
    );
    let follower = windows.start(&["logs", "-f", "--json", &job], &log)?;
    let watcher = windows.start(&["watch", "--json", &job], &changes)?;
    let waiter = windows.start(&["wait", "--json", &job], &end)?;
    let reached = |path: &Path, text: &str| {
        wait_for(DEADLINE, || {
            std::fs::read_to_string(path).is_ok_and(|said| said.contains(text))
        })
    };
    let told = ["RULE say second größer", "RULE say third & \"last\" 100%"]
        .into_iter()
        .try_for_each(|text| windows.run(&["say", &job, text])?.expect_code(0).map(drop));
    let (followed, watched) = (reached(&log, "at the work"), reached(&changes, "running"));
    std::fs::write(far.in_work("go"), "")?;
    let (log, changes, end) = (
        ends(follower, &log)?,
        ends(watcher, &changes)?,
        ends(waiter, &end)?,
    );
    told?;
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

#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn a_job_is_ended_from_windows() -> Result<()> {
    let (windows, far) = ready(LocalAgent::Exe)?;
    windows.new_session()?;
    let message = "RULE write begun.txt x\nRULE hang";
    let sent = windows.run(&["send", "far", "--json", "--message", message])?;
    assert_eq!(result(sent.expect_code(0)?)?["outcome"], "running");
    assert!(wait_for(DEADLINE, || far.in_work("begun.txt").exists()));
    let job = windows.run(&["jobs", "--json"])?.expect_code(0)?.last()?;
    let job = job[0]["id"].as_str().context("no job")?.to_owned();
    windows
        .run(&["kill", &job, "--grace", "1s", "--json"])?
        .expect_code(0)?;
    let jobs = windows.run(&["jobs", "--all", "--json"])?.expect_code(0)?;
    assert_ne!(jobs.last()?[0]["state"], "running", "{}", jobs.stdout);
    Ok(())
}

#[test]
#[ignore = "needs Wine, the Windows build, real opencode and sshd: tests/run --tier windows"]
fn a_session_works_with_real_opencode_on_the_host_and_comes_back() -> Result<()> {
    let program = std::env::var_os("HANDOVER_TEST_OPENCODE")
        .context("HANDOVER_TEST_OPENCODE is not set: run these tests through tests/run")?;
    let provider = Provider::start()?;
    let remote = Remote::start(&Path::new(&program).canonicalize()?, &provider)?;
    let windows = Windows::new(LocalAgent::Cmd)?;
    let key = windows.profile(".ssh/other key");
    std::fs::copy(remote.path("key"), &key)?;
    // A path of Windows in the file of a person on Windows, and the agent where the other side's login finds it.
    let key = Windows::profile_there(".ssh/other key");
    let entry = remote.hosts_entry("far", "directory = \"~/work\"\nmodel = \"mock/m\"");
    let entry = entry.replace(&format!("{:?}", remote.path("key")), &format!("'{key}'"));
    windows.write_hosts(&entry)?;
    windows.run(&["trust", "far", "--yes"])?.expect_code(0)?;
    windows.run(&["check", "far"])?.expect_code(0)?;

    let session = windows.new_session()?;
    let message = r#"TOOL:bash {"command":"echo remote > made.txt","description":"make a file"}"#;
    let sent = windows.run(&[
        "send",
        "far",
        "--json",
        "--round-trip",
        "--message",
        message,
    ])?;
    let sent = result(sent.expect_code(0)?)?;
    assert_eq!(sent["outcome"], "completed", "{sent}");
    assert_eq!(remote.shell("cat work/made.txt")?.trim(), "remote");
    let after = windows.export(&session)?;
    assert!(after.to_string().contains("mock reply to"), "{after}");
    assert_eq!(
        after["info"]["directory"],
        Windows::profile_there("my project")
    );
    Ok(())
}

#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn the_plugin_lies_where_opencode_looks_on_windows() -> Result<()> {
    let windows = Windows::new(LocalAgent::Exe)?;
    windows.run(&["plugin", "install"])?.expect_code(0)?;
    let plugin = windows.profile(".config/opencode/plugin/handover.ts");
    let text = std::fs::read_to_string(&plugin)?;
    let program = serde_json::to_string(r"C:\Program Files\handover\handover.exe")?;
    assert!(text.contains(&program), "{program} is not in it");
    windows.run(&["plugin", "install"])?.expect_code(0)?;
    windows.run(&["plugin", "uninstall"])?.expect_code(0)?;
    assert!(!plugin.exists());
    Ok(())
}
