//! The tool `remote_login` in real opencode: the plugin as the command installs it, a real sshd, another opencode.
//!
//! Run through `tests/run`. [`Seat`] is an opencode with the plugin, and the host `far`.

#![cfg(unix)]

#[expect(
    dead_code,
    reason = "shared with tests/agent.rs, which uses other parts of it"
)]
#[path = "support/opencode.rs"]
mod opencode;
#[expect(
    dead_code,
    reason = "shared with tests/agent.rs, which uses other parts of it"
)]
#[path = "support/provider.rs"]
mod provider;
#[path = "support/remote.rs"]
mod remote;
mod support;
#[expect(
    dead_code,
    reason = "shared with tests/agent.rs, which uses other parts of it"
)]
#[path = "support/trip.rs"]
mod trip;

use std::ops::Deref;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use opencode::messages;
use trip::{CURRENT, Trip};

const DEADLINE: Duration = Duration::from_secs(180);
/// What the agent on the host does when it shall be found at work: it waits for the file `go`.
const WAIT: &str = "TOOL:bash {\"command\":\"touch started; until [ -e go ]; do sleep 0.1; done\",\"description\":\"wait\"}";

/// A pair of machines whose near side has the plugin.
struct Seat {
    trip: Trip,
}

impl Deref for Seat {
    type Target = Trip;

    fn deref(&self) -> &Trip {
        &self.trip
    }
}

impl Seat {
    fn take() -> Result<Self> {
        let trip = Trip::new(CURRENT)?;
        // The tool gets no variables of ours: it must find the places where they are by default.
        let home = trip.home.path();
        std::fs::create_dir_all(home.join(".local/state"))?;
        symlink(home.join("handover-config"), home.join(".config/handover"))?;
        symlink(
            home.join("handover-state"),
            home.join(".local/state/handover"),
        )?;
        trip.client
            .run(&trip.project, &["plugin", "install"])?
            .expect_code(0)?;
        Ok(Self { trip })
    }

    /// Adds to the hosts file.
    fn add_host(&self, entry: &str) -> Result<()> {
        self.client.write_hosts(&format!(
            "{}\n{entry}\n",
            self.remote.hosts_entry("far", "")
        ))
    }

    /// A turn in a new session; the export of the session after it.
    fn turn(&self, prompt: &str) -> Result<Value> {
        let session = self.local.run(&self.project, None, prompt)?;
        self.local.export(&self.project, &session)
    }

    /// Begins a turn that hands the session over for a round trip, in a server, and comes back once the agent on the
    /// host is at work; the session and its job.
    fn begin_long_trip(&self, server: &opencode::Server) -> Result<(String, String)> {
        let session: Value = serde_json::from_str(&server.post("/session", &json!({}))?)?;
        let session = session["id"].as_str().context("no session")?.to_owned();
        let prompt = call(&json!({"host": "far", "mode": "round-trip", "message": WAIT}));
        let body = json!({"parts": [{"type": "text", "text": prompt}]});
        server.post(&format!("/session/{session}/prompt_async"), &body)?;
        until("the agent is at work", || {
            Ok(self.remote.shell("ls")?.contains("started"))
        })?;
        Ok((session, self.job()?))
    }

    /// The only job.
    fn job(&self) -> Result<String> {
        let jobs = self.jobs()?;
        ensure!(jobs.len() == 1, "there must be one job: {jobs:?}");
        Ok(jobs[0]["job"]
            .as_str()
            .or(jobs[0]["id"].as_str())
            .context("a job without an id")?
            .to_owned())
    }

    fn jobs(&self) -> Result<Vec<Value>> {
        let answer = self
            .client
            .run(&self.project, &["jobs", "--all", "--json"])?
            .expect_code(0)?;
        Ok(serde_json::from_str(&answer.stdout)?)
    }

    fn collect(&self, job: &str) -> Result<Value> {
        self.client
            .run(&self.project, &["collect", job, "--json"])?
            .expect_code(0)?
            .last()
    }

    /// Fails when anything that any model saw names what is private of the host `far`.
    fn ensure_nothing_private_was_seen(&self) -> Result<()> {
        let entry = self.remote.hosts_entry("far", "");
        let user = entry
            .split('"')
            .nth(1)
            .and_then(|address| address.split('@').next())
            .context("no user")?;
        let port = entry
            .lines()
            .find_map(|line| line.strip_prefix("port = "))
            .context("no port")?;
        let key = self.remote.path("key");
        let seen = serde_json::to_string(&self.provider.requests())?;
        for private in [
            "127.0.0.1",
            user,
            &format!(":{port}"),
            &key.to_string_lossy(),
            ".local/state",
            "SHA256:",
        ] {
            if let Some(at) = seen.find(private) {
                let around = seen
                    .get(at.saturating_sub(200)..at + 100)
                    .unwrap_or_default();
                anyhow::bail!("a model saw {private:?}: ...{around}...");
            }
        }
        Ok(())
    }
}

fn call(arguments: &Value) -> String {
    format!("TOOL:remote_login {arguments}")
}

fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !holds()? {
        ensure!(Instant::now() < deadline, "this did not come about: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// What the calls of the tool answered, in order.
fn answers(export: &Value) -> Result<Vec<String>> {
    let parts = messages(export)?
        .iter()
        .filter_map(|message| message["parts"].as_array())
        .flatten();
    let calls = parts.filter(|part| part["type"] == "tool" && part["tool"] == "remote_login");
    calls
        .map(|part| {
            let text = part["state"]["output"]
                .as_str()
                .or(part["state"]["error"].as_str());
            Ok(text
                .with_context(|| format!("a call without an answer: {part:#}"))?
                .to_owned())
        })
        .collect()
}

/// The first part that is a call of the tool.
fn calling_part(export: &Value) -> Value {
    let messages = messages(export).unwrap_or_default();
    let mut parts = messages
        .iter()
        .filter_map(|message| message["parts"].as_array())
        .flatten();
    parts
        .find(|part| part["tool"] == "remote_login")
        .cloned()
        .unwrap_or_default()
}

fn of_role<'a>(export: &'a Value, role: &str) -> Result<Vec<&'a Value>> {
    Ok(messages(export)?
        .iter()
        .filter(|message| message["info"]["role"] == role)
        .collect())
}

fn text_of(message: &Value) -> String {
    let parts = message["parts"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    parts
        .iter()
        .filter_map(|part| part["text"].as_str())
        .collect::<Vec<_>>()
        .join("\n")
}

fn count(message: &Value, kind: &str) -> usize {
    let parts = message["parts"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    parts.iter().filter(|part| part["type"] == kind).count()
}

/// Checks the history that a round trip leaves: asked, went on there, looked at here.
fn ensure_three_turns(export: &Value) -> Result<()> {
    let users: Vec<String> = of_role(export, "user")?.into_iter().map(text_of).collect();
    ensure!(users.len() == 3, "{} user turns: {users:#?}", users.len());
    ensure!(users[0].contains("TOOL:remote_login"), "{users:#?}");
    ensure!(
        users[1].contains("[Environment]") && users[1].contains("[Return]"),
        "{users:#?}"
    );
    ensure!(users[2].contains("is back from the host far"), "{users:#?}");
    let order: Vec<&Value> = messages(export)?
        .iter()
        .map(|message| &message["info"]["role"])
        .collect();
    ensure!(
        order.last() == Some(&&json!("assistant")),
        "the review was not answered: {order:?}"
    );
    let calling = of_role(export, "assistant")?;
    let calling = calling
        .iter()
        .find(|message| count(message, "tool") > 0)
        .context("no calling message")?;
    ensure!(count(calling, "step-finish") == 1, "{calling:#}");
    Ok(())
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn a_round_trip_answers_with_the_hosts_words_and_is_looked_at_once() -> Result<()> {
    let seat = Seat::take()?;
    let made = r#"TOOL:bash {"command":"echo remote > made.txt","description":"make a file"}"#;
    for directory in [None, Some("~/work/deep er")] {
        let mut arguments = json!({"host": "far", "mode": "round-trip", "message": made});
        if let Some(directory) = directory {
            arguments["directory"] = directory.into();
        }
        let export = seat.turn(&format!("do it there\n{}", call(&arguments)))?;
        let answers = answers(&export)?;
        ensure!(answers.len() == 1, "{answers:#?}");
        for part in [
            "the host far, and is back",
            "> mock reply to: [Environment]",
            "1 tool call",
            "new messages",
            "$0.0000",
        ] {
            ensure!(
                answers[0].contains(part),
                "no {part:?} in the answer: {}",
                answers[0]
            );
        }
        ensure!(!answers[0].contains("/home"), "{}", answers[0]);
        ensure_three_turns(&export)?;
        let place = directory.map_or(String::new(), |directory| directory.replace("~/", "") + "/");
        ensure!(seat.remote.shell(&format!("cat './{place}made.txt'"))? == "remote\n");
        ensure!(!seat.project.join("made.txt").exists());
    }
    seat.ensure_nothing_private_was_seen()
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn a_one_way_call_tells_the_model_that_the_conversation_ends_here() -> Result<()> {
    let seat = Seat::take()?;
    let export = seat.turn(&call(&json!({"host": "far", "message": "finish it"})))?;
    let answers = answers(&export)?;
    let job = seat.job()?;
    ensure!(
        answers[0].contains("This conversation ends here"),
        "{answers:#?}"
    );
    ensure!(
        answers[0].contains(&format!("handover collect {job}")),
        "{answers:#?}"
    );
    ensure!(
        of_role(&export, "user")?.len() == 1,
        "a review was started: {export:#}"
    );
    let result = seat.collect(&job)?;
    ensure!(result["outcome"] == "completed", "{result}");
    // The closing words of that turn are no divergence; a message of the user's own is one.
    let export = seat.turn(&call(&json!({"host": "far", "message": "finish it"})))?;
    let session = export["info"]["id"].as_str().context("no session")?;
    let jobs = seat.jobs()?;
    let job = jobs
        .first()
        .and_then(|job| job["job"].as_str().or(job["id"].as_str()))
        .context("no job")?;
    seat.local
        .run(&seat.project, Some(session), "and now something else")?;
    let refused = seat
        .client
        .run(&seat.project, &["collect", job, "--json"])?
        .expect_code(8)?;
    ensure!(refused.last()?["error"]["kind"] == "diverged");
    let merged = seat
        .client
        .run(&seat.project, &["collect", job, "--merge", "--json"])?;
    merged.expect_code(0)?;
    seat.ensure_nothing_private_was_seen()
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn what_cannot_be_done_is_answered_with_what_there_is() -> Result<()> {
    let seat = Seat::take()?;
    std::fs::write(
        seat.project.join("hosts.toml"),
        "[hosts.evil]\nhost = \"eve@evil.example\"\n",
    )?;
    let installed = seat.home.path().join(".config/opencode/plugin/handover.ts");
    let text = std::fs::read_to_string(&installed)?;
    let other = format!("const VERSION = {:?}", env!("CARGO_PKG_VERSION"));
    ensure!(text.contains(&other));
    std::fs::write(
        &installed,
        text.replace(&other, "const VERSION = \"0.0.1\""),
    )?;
    // A host that exists only from the middle of the turn on, whose port nobody listens at.
    let later = "[hosts.later]\nhost = \"somebody@127.0.0.1\"\nport = 1\n";
    let hosts = seat.home.path().join("handover-config/hosts.toml");
    let append = format!("printf '%s' '{later}' >> '{}'", hosts.display());
    let prompt = [
        call(&json!({"host": "nowhere"})),
        call(&json!({"host": "evil"})),
        call(&json!({"host": "far", "mode": "sideways"})),
        call(&json!({"host": "-oProxyCommand=x", "mode": "round-trip"})),
        call(&json!({"help": true})),
        call(&json!({})),
        format!(
            "TOOL:bash {}",
            json!({"command": append, "description": "add a host"})
        ),
        call(&json!({"host": "later", "mode": "round-trip"})),
        call(&json!({"host": "far", "directory": "not/absolute"})),
        call(&json!({"host": "far", "directory": "--help"})),
    ];
    let export = seat.turn(&prompt.join("\n"))?;
    let answers = answers(&export)?;
    let expected: [&[&str]; 9] = [
        &["no host \"nowhere\"", "Hosts: far."],
        &["no host \"evil\""],
        &["no mode \"sideways\"", "one-way and round-trip"],
        &["no host \"-oProxyCommand=x\""],
        &[
            "hosts.toml",
            "(hosts.toml). It is not used",
            "handover trust NAME",
        ],
        &["Name a host. Hosts: far."],
        &[
            "remote_login to later failed (refused): host later refused the connection",
            "sshd",
        ],
        &["(usage)", "must start with '/' or '~/'"],
        &["(usage)"],
    ];
    ensure!(answers.len() == expected.len(), "{answers:#?}");
    for (answer, parts) in answers.iter().zip(expected) {
        for part in parts {
            ensure!(answer.contains(part), "no {part:?} in: {answer}");
        }
    }
    let noted = answers
        .iter()
        .filter(|answer| answer.contains("this plugin is of handover 0.0.1"))
        .count();
    ensure!(
        noted == 1,
        "a plugin of another version must say so once: {answers:#?}"
    );
    let requests = seat.provider.requests();
    let listed = |request: &Value| -> Option<String> {
        let tools = request["tools"].as_array()?;
        let tool = tools
            .iter()
            .find(|tool| tool["function"]["name"] == "remote_login")?;
        Some(tool["function"]["description"].as_str()?.to_owned())
    };
    let descriptions: Vec<String> = requests.iter().filter_map(listed).collect();
    ensure!(
        descriptions
            .first()
            .is_some_and(|text| text.ends_with("Hosts: far.")),
        "{descriptions:#?}"
    );
    ensure!(
        descriptions
            .last()
            .is_some_and(|text| text.ends_with("Hosts: far, later.")),
        "{descriptions:#?}"
    );
    ensure!(
        seat.jobs()?.iter().all(|job| job["host"] == "later"),
        "{:?}",
        seat.jobs()?
    );
    ensure!(
        answers
            .iter()
            .all(|answer| !answer.contains("127.0.0.1") && !answer.contains("somebody")),
        "{answers:#?}"
    );
    let log = std::fs::read_to_string(seat.home.path().join("handover-state/logs/handover.log"))?;
    ensure!(
        log.contains("refused"),
        "the person's log does not say what happened: {log}"
    );
    Ok(())
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn an_aborted_call_says_that_the_job_goes_on_and_how_it_is_collected() -> Result<()> {
    let seat = Seat::take()?;
    let server = seat.local.serve(&seat.project)?;
    let (session, job) = seat.begin_long_trip(&server)?;
    until("progress is shown", || {
        let state = calling_part(&seat.export(&session)?)["state"].clone();
        let title = state["title"].as_str().unwrap_or_default();
        Ok(
            state["metadata"]["job"] == job.as_str()
                && title.starts_with("far · the agent runs · "),
        )
    })?;
    server.post(&format!("/session/{session}/abort"), &json!({}))?;
    let mut answer = String::new();
    until("the call is answered", || {
        let export = seat.local.export(&seat.project, &session)?;
        answer = answers(&export)
            .ok()
            .and_then(|answers| answers.into_iter().next())
            .unwrap_or_default();
        Ok(!answer.is_empty())
    })?;
    ensure!(
        answer.contains(&format!("Job {job} goes on on the host far")),
        "{answer}"
    );
    ensure!(
        answer.contains(&format!("handover collect {job}")),
        "{answer}"
    );
    seat.remote.shell("touch go")?;
    let result = seat.collect(&job)?;
    ensure!(result["outcome"] == "completed", "{result}");
    let users = of_role(&seat.local.export(&seat.project, &session)?, "user")?.len();
    ensure!(
        users == 2,
        "{users} user turns: asked and continued, and no review"
    );
    seat.ensure_nothing_private_was_seen()
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn a_job_outlives_an_opencode_that_is_killed() -> Result<()> {
    let seat = Seat::take()?;
    let server = seat.local.serve(&seat.project)?;
    let (session, job) = seat.begin_long_trip(&server)?;
    drop(server);
    let watcher = format!("{}", seat.home.path().join("handover-state").display());
    until("the program has let go", || Ok(!in_use(&watcher)?))?;
    seat.remote.shell("touch go")?;
    let result = seat.collect(&job)?;
    ensure!(result["outcome"] == "completed", "{result}");
    let users = of_role(&seat.local.export(&seat.project, &session)?, "user")?.len();
    ensure!(
        users == 2,
        "{users} user turns: asked and continued, and no review"
    );
    Ok(())
}

/// Whether a process has a file below `directory` open.
fn in_use(directory: &str) -> Result<bool> {
    for process in std::fs::read_dir("/proc")? {
        let Ok(files) = std::fs::read_dir(process?.path().join("fd")) else {
            continue;
        };
        for file in files.flatten() {
            if std::fs::read_link(file.path())
                .is_ok_and(|path| path.starts_with(Path::new(directory)))
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn of_two_calls_in_one_message_one_is_done_and_one_is_clearly_refused() -> Result<()> {
    let seat = Seat::take()?;
    for other in ["far", "away"] {
        seat.add_host(&seat.remote.hosts_entry("away", ""))?;
        let before = seat.jobs()?.len();
        let first = json!({"host": "far", "mode": "round-trip", "message": "go on"});
        let second = json!({"host": other, "mode": "round-trip", "message": "go on"});
        let export = seat.turn(&format!("{}\nAND:remote_login {second}", call(&first)))?;
        let answers = answers(&export)?;
        ensure!(answers.len() == 2, "{answers:#?}");
        let done = answers
            .iter()
            .filter(|answer| answer.contains("and is back"))
            .count();
        let refused = answers
            .iter()
            .filter(|answer| answer.contains("(session_busy)"))
            .count();
        ensure!((done, refused) == (1, 1), "{answers:#?}");
        ensure!(seat.jobs()?.len() == before + 1, "{:#?}", seat.jobs()?);
    }
    Ok(())
}

/// What the calls of any tool of ours answered, in order.
fn job_answers(export: &Value) -> Result<Vec<String>> {
    let parts = messages(export)?
        .iter()
        .filter_map(|message| message["parts"].as_array())
        .flatten();
    let calls = parts.filter(|part| {
        let tool = part["tool"].as_str().unwrap_or_default();
        part["type"] == "tool" && tool.starts_with("remote_")
    });
    calls
        .map(|part| {
            let state = &part["state"];
            let text = state["output"].as_str().or(state["error"].as_str());
            Ok(text.context("a call without an answer")?.to_owned())
        })
        .collect()
}

fn ensure_each_says(answers: &[String], expected: &[&[&str]]) -> Result<()> {
    ensure!(answers.len() == expected.len(), "{answers:#?}");
    for (answer, parts) in answers.iter().zip(expected) {
        for part in *parts {
            ensure!(answer.contains(part), "no {part:?} in: {answer}");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn an_agent_is_started_steered_and_collected_by_tools() -> Result<()> {
    let seat = Seat::take()?;
    let session = seat.local.run(
        &seat.project,
        None,
        &format!(
            "TOOL:remote_run {}",
            json!({"host": "far", "prompt": WAIT, "title": "a title", "directory": "~/work"})
        ),
    )?;
    let job = seat.job()?;
    until("the agent is at work", || {
        Ok(seat.remote.shell("ls work")?.contains("started"))
    })?;
    let prompt = [
        "TOOL:remote_jobs {}".to_owned(),
        format!("TOOL:remote_status {}", json!({"job": job})),
        format!(
            "TOOL:remote_say {}",
            json!({"job": job, "message": "say it again"})
        ),
        format!("TOOL:remote_collect {}", json!({"job": job, "seconds": 1})),
        "TOOL:bash {\"command\":\"true\",\"description\":\"nothing\"}".to_owned(),
    ];
    seat.local
        .run(&seat.project, Some(&session), &prompt.join("\n"))?;
    seat.remote.shell("touch work/go")?;
    let prompt = [
        format!("TOOL:remote_collect {}", json!({"job": job})),
        format!("TOOL:remote_logs {}", json!({"job": job})),
        format!(
            "TOOL:remote_say {}",
            json!({"job": job, "message": "too late"})
        ),
        format!("TOOL:remote_status {}", json!({"job": "jzzz"})),
        format!("TOOL:remote_kill {}", json!({"job": job})),
    ];
    seat.local
        .run(&seat.project, Some(&session), &prompt.join("\n"))?;
    let answers = job_answers(&seat.local.export(&seat.project, &session)?)?;
    ensure_each_says(
        &answers,
        &[
            &[&job, "runs on the host far"],
            &[&job, "running", "\"a title\""],
            &[&job, "running", "session ses_"],
            &["has the message"],
            &["goes on"],
            &["has ended", "> mock reply to: say it again", "1 tool call"],
            &["[tool bash: completed]", "> mock reply to: say it again"],
            &["(inbox_closed)"],
            &["(no_such_job)"],
            &["had ended already"],
        ],
    )?;
    seat.ensure_nothing_private_was_seen()
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn a_model_ends_the_jobs_of_its_own_session_alone() -> Result<()> {
    let seat = Seat::take()?;
    let run = format!("TOOL:remote_run {}", json!({"host": "far", "prompt": WAIT}));
    let own = seat.local.run(&seat.project, None, &run)?;
    let job = seat.job()?;
    let kill = format!("TOOL:remote_kill {}", json!({"job": job}));
    let other = seat.local.run(&seat.project, None, &kill)?;
    let answers = job_answers(&seat.local.export(&seat.project, &other)?)?;
    ensure_each_says(
        &answers,
        &[&["(not_own_job)", "not started by this session"]],
    )?;
    ensure!(seat.jobs()?[0]["state"] == "running", "{:?}", seat.jobs()?);
    seat.local.run(&seat.project, Some(&own), &kill)?;
    let answers = job_answers(&seat.local.export(&seat.project, &own)?)?;
    ensure_each_says(&answers, &[&[&job], &["is ended"]])?;
    ensure!(seat.jobs()?[0]["state"] == "killed", "{:?}", seat.jobs()?);
    seat.ensure_nothing_private_was_seen()
}

#[test]
#[ignore = "needs real opencode and sshd: tests/run"]
fn the_users_permissions_hold_for_the_tool() -> Result<()> {
    let seat = Seat::take()?;
    let config = seat.home.path().join(".config/opencode/opencode.json");
    let mut settings: Value = serde_json::from_slice(&std::fs::read(&config)?)?;
    // Nobody can be asked in `opencode run`, so that asking is refusing.
    settings["permission"] = json!({"remote_login": "ask"});
    std::fs::write(&config, settings.to_string())?;
    let export = seat.turn(&call(&json!({"host": "far"})))?;
    let answers = answers(&export)?;
    ensure!(answers[0].contains("rejected permission"), "{answers:#?}");
    ensure!(seat.jobs()?.is_empty(), "{:#?}", seat.jobs()?);
    Ok(())
}
