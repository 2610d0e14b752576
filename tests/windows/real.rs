//! Every verb, from a local `opencode.exe` and from a local `opencode.cmd`, to a host with real opencode.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::opencode::{grown, messages, program};
use crate::provider::Provider;
use crate::remote::Remote;
use crate::sshd::wait_for;
use crate::wine::{LocalAgent, Windows};
use crate::{DEADLINE, ended, result, text, told};

const OPENCODE: &str = "HANDOVER_TEST_OPENCODE";
const MAKE_A_FILE: &str =
    r#"TOOL:bash {"command":"echo remote > made.txt","description":"make a file"}"#;
/// What the agent waits in for the file `go` of its work directory.
const WAIT: &str = r#"TOOL:bash {"command":"touch begun; until [ -e go ]; do sleep 0.1; done","description":"wait"}"#;
/// What the agent does not come out of by itself.
const HANG: &str = r#"TOOL:bash {"command":"touch begun; sleep 619","description":"take long"}"#;

/// A Windows machine, and the host `far` with real opencode, which it trusts.
struct Pair {
    windows: Windows,
    remote: Remote,
    // The agent there asks it for as long as there is a test.
    _provider: Provider,
}

impl Pair {
    fn new(agent: LocalAgent) -> Result<Self> {
        let provider = Provider::start()?;
        let remote = Remote::start(&program(OPENCODE)?, &provider)?;
        let windows = Windows::new(agent)?;
        std::fs::copy(remote.path("key"), windows.profile(".ssh/other key"))?;
        // A path of Windows in the file of a person on Windows, and the agent where the other side's login finds it.
        let key = Windows::profile_there(".ssh/other key");
        let entry = remote.hosts_entry("far", "directory = \"~/work\"\nmodel = \"mock/m\"");
        let entry = entry.replace(&format!("{:?}", remote.path("key")), &format!("'{key}'"));
        windows.write_hosts(&entry)?;
        let unknown = windows.run(&["check", "far", "--json"])?.expect_code(5)?;
        ensure!(unknown.stdout.contains("handover trust far"), "{unknown:?}");
        windows.run(&["trust", "far", "--yes"])?.expect_code(0)?;
        Ok(Self {
            windows,
            remote,
            _provider: provider,
        })
    }

    /// What `handover.exe` told last, having ended well.
    fn told(&self, arguments: &[&str]) -> Result<Value> {
        told(self.windows.run(arguments)?)
    }

    /// Waits for a file of the agent's work directory.
    fn has_made(&self, name: &str) -> Result<()> {
        let file = self.remote.home().join("work").join(name);
        ensure!(
            wait_for(DEADLINE, || file.exists()),
            "the agent did not make {name}"
        );
        Ok(())
    }

    /// The record of a job, as `jobs` has it.
    fn record(&self, job: &str) -> Result<Value> {
        let jobs = self.told(&["jobs", "--all", "--json"])?;
        let record = jobs
            .as_array()
            .and_then(|jobs| jobs.iter().find(|record| record["id"] == job));
        record
            .cloned()
            .with_context(|| format!("no {job} in {jobs}"))
    }

    /// What a session, still of its project here, has got since `before`: the number of calls that completed, and the
    /// agent's last text.
    fn brought(&self, session: &str, before: &Value) -> Result<(usize, String)> {
        let after = self.windows.export(session)?;
        let home = Windows::profile_there("my project");
        ensure!(after["info"]["directory"] == home, "{}", after["info"]);
        let new = grown(before, &after)?;
        let parts = || {
            new.iter()
                .filter_map(|new| new["parts"].as_array())
                .flatten()
        };
        let calls = parts()
            .filter(|part| part["type"] == "tool" && part["state"]["status"] == "completed")
            .count();
        let said = parts()
            .rev()
            .find_map(|part| (part["type"] == "text").then(|| text(part, "text")));
        Ok((calls, said.context("nothing was said")??))
    }
}

/// One way, there and back, and back after the end of the client.
fn sessions_go_and_return(agent: LocalAgent) -> Result<()> {
    let pair = Pair::new(agent)?;
    let checked = pair.told(&["check", "far", "--json"])?;
    ensure!(checked["status"] != "fail", "{checked:#}");
    ensure!(checked.to_string().contains("1.18.33"), "{checked:#}");
    let session = pair.windows.new_session()?;

    let before = pair.windows.export(&session)?;
    let sent = result(
        pair.windows
            .run(&["send", "far", "--json", "--message", MAKE_A_FILE])?,
    )?;
    ensure!(sent["outcome"] == "running", "{sent}");
    ensure!(sent["session"] == session.as_str(), "{sent}");
    let job = text(&sent, "job")?;
    let waited = pair.told(&["wait", "--json", &job])?;
    ensure!(waited["state"] == "completed", "{waited}");
    let made = pair.remote.shell("cat work/made.txt && rm work/made.txt")?;
    ensure!(made == "remote\n", "{made}");
    ensure!(grown(&before, &pair.windows.export(&session)?)?.is_empty());
    let collected = result(pair.windows.run(&["collect", &job, "--json"])?)?;
    ensure!(collected["outcome"] == "completed", "{collected}");
    let (calls, said) = pair.brought(&session, &before)?;
    ensure!(calls == 1 && said.starts_with("mock reply to:"), "{said}");

    let before = pair.windows.export(&session)?;
    let arguments = ["send", "far", "--json", "--round-trip", "--message"];
    let sent = result(
        pair.windows
            .run(&[&arguments[..], &[MAKE_A_FILE]].concat())?,
    )?;
    ensure!(sent["outcome"] == "completed", "{sent}");
    pair.has_made("made.txt")?;
    let (calls, said) = pair.brought(&session, &before)?;
    ensure!(calls == 1 && said.starts_with("mock reply to:"), "{said}");

    let before = pair.windows.export(&session)?;
    let output = pair.windows.scratch("killed");
    let mut client = pair
        .windows
        .start_to_kill(&[&arguments[..], &[WAIT]].concat(), &output)?;
    let begun = pair.has_made("begun");
    client.kill()?;
    client.wait()?;
    let events = std::fs::read_to_string(&output)?;
    begun.with_context(|| events.clone())?;
    let job = serde_json::from_str(events.lines().next().context("no event")?)?;
    let job = text(&job, "job")?;
    ensure!(pair.record(&job)?["state"] == "running");
    pair.remote.shell("touch work/go")?;
    let collected = result(pair.windows.run(&["collect", &job, "--json"])?)?;
    ensure!(collected["outcome"] == "completed", "{collected}");
    let (calls, said) = pair.brought(&session, &before)?;
    ensure!(calls == 1 && said.starts_with("mock reply to:"), "{said}");
    Ok(())
}

/// A new session's job that is followed and told more, and a session's job that is ended before its time.
fn jobs_are_followed_told_more_and_ended(agent: LocalAgent) -> Result<()> {
    let pair = Pair::new(agent)?;
    let started = pair.told(&["run", "far", "--json", "--title", "größer", WAIT])?;
    let job = text(&started, "job")?;
    pair.has_made("begun")?;
    let record = pair.record(&job)?;
    ensure!(
        record["state"] == "running" && record["host"] == "far" && record["title"] == "größer",
        "{record}"
    );
    let log = pair.windows.scratch("log");
    let mut follower = pair.windows.start(&["logs", "-f", "--json", &job], &log)?;
    let more = ["more größer", "more & \"last\" 100%"];
    let said = more
        .iter()
        .try_for_each(|text| pair.told(&["say", "--json", &job, text]).map(drop));
    pair.remote.shell("touch work/go")?;
    let status = ended(&mut follower);
    let log = std::fs::read_to_string(&log)?;
    said?;
    ensure!(status?.success(), "{log}");
    let events: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect::<Result<_>>()?;
    let texts: Vec<&str> = events
        .iter()
        .filter_map(|event| event["text"].as_str())
        .collect();
    let wanted: Vec<String> = [WAIT]
        .iter()
        .chain(&more)
        .map(|text| format!("mock reply to: {text}"))
        .collect();
    ensure!(texts == wanted, "{texts:#?}");
    ensure!(
        events.iter().any(|event| event["tool"] == "bash"),
        "no call in {log}"
    );
    let collected = result(pair.windows.run(&["collect", &job, "--import", "--json"])?)?;
    let export = pair.windows.export(&text(&collected, "session")?)?;
    let asked: Vec<&str> = messages(&export)?
        .iter()
        .filter(|message| message["info"]["role"] == "user")
        .filter_map(|message| message["parts"][0]["text"].as_str())
        .map(str::trim)
        .collect();
    ensure!(asked == [WAIT, more[0], more[1]], "{asked:#?}");

    pair.remote.shell("rm work/begun work/go")?;
    let session = pair.windows.new_session()?;
    let before = pair.windows.export(&session)?;
    let message = format!("{MAKE_A_FILE}\n{HANG}");
    let sent = result(pair.windows.run(&[
        "send",
        "far",
        "--json",
        "--session",
        &session,
        "--message",
        &message,
    ])?)?;
    let job = text(&sent, "job")?;
    pair.has_made("begun")?;
    let killed = pair.told(&["kill", "--json", &job])?;
    ensure!(
        killed["state"] == "killed" && killed["left"] == 0 && killed["result"] == true,
        "{killed}"
    );
    ensure!(pair.record(&job)?["state"] == "killed");
    // In brackets, so that the shell which asks is not found itself.
    let left = pair
        .remote
        .shell("pgrep -u $(id -u) -a -f '[s]leep 619' || true")?;
    ensure!(left.is_empty(), "the call's own process is left: {left}");
    pair.windows
        .run(&["collect", "--json", &job])?
        .expect_code(0)?;
    let new = grown(&before, &pair.windows.export(&session)?)?;
    let made = new.iter().flat_map(|new| new["parts"].as_array());
    let first = made.flatten().find(|part| part["type"] == "tool");
    let first = first.with_context(|| format!("no call in {new:#?}"))?;
    ensure!(first["state"]["status"] == "completed", "{first:#}");
    Ok(())
}

#[test]
#[ignore = "needs Wine, the Windows build, real opencode and sshd: tests/run --tier windows"]
fn sessions_of_an_opencode_exe_go_to_real_opencode_and_return() -> Result<()> {
    sessions_go_and_return(LocalAgent::Exe)
}

#[test]
#[ignore = "needs Wine, the Windows build, real opencode and sshd: tests/run --tier windows"]
fn sessions_of_an_opencode_cmd_go_to_real_opencode_and_return() -> Result<()> {
    sessions_go_and_return(LocalAgent::Cmd)
}

#[test]
#[ignore = "needs Wine, the Windows build, real opencode and sshd: tests/run --tier windows"]
fn jobs_of_real_opencode_are_followed_told_more_and_ended_beside_an_opencode_exe() -> Result<()> {
    jobs_are_followed_told_more_and_ended(LocalAgent::Exe)
}

#[test]
#[ignore = "needs Wine, the Windows build, real opencode and sshd: tests/run --tier windows"]
fn jobs_of_real_opencode_are_followed_told_more_and_ended_beside_an_opencode_cmd() -> Result<()> {
    jobs_are_followed_told_more_and_ended(LocalAgent::Cmd)
}
