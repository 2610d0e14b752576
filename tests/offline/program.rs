//! The program's manners: what goes where, who may read it, and what is left behind.

use std::collections::BTreeSet;
use std::path::Path;
#[cfg(unix)]
use std::path::PathBuf;

#[cfg(unix)]
use crate::support::entries;
use crate::support::{BOX, Ran, Stage, grown, until, walk};

#[tokio::test]
async fn results_go_to_stdout_and_talk_to_stderr() {
    let stage = Stage::new().await;
    let session = stage.session.to_string();
    let mut send = vec!["send", BOX, "--round-trip", "--session", &session];
    send.extend(["--message", "RULE say The \u{1b}[31manswer."]);
    let person = stage.run(&send).await.exits(0);
    assert_eq!(person.out, "The \\u{1b}[31manswer.\n");
    for words in ["connecting", "the agent runs", "is back from box"] {
        assert!(person.err.contains(words), "{words}: {}", person.err);
    }
    assert!(!person.err.contains('\u{1b}'));

    send.push("--json");
    let program = stage.run(&send).await.exits(0);
    assert_eq!(program.err, "");
    let documents = program.documents();
    assert_eq!(documents[0]["event"], "job");
    let steps: Vec<&str> = documents
        .iter()
        .filter_map(|line| line["step"].as_str())
        .collect();
    for step in [
        "export", "connect", "probe", "send", "launch", "run", "fetch", "import", "cleanup",
    ] {
        assert!(steps.contains(&step), "{step}: {steps:?}");
    }
    let said = documents
        .iter()
        .find(|line| line["agent"]["event"] == "text")
        .unwrap();
    assert_eq!(said["agent"]["text"], "The \u{1b}[31manswer.");
    let result = program.document();
    assert_eq!(result["event"], "result");
    assert_eq!(result["outcome"], "completed");
    assert_eq!(result["mode"], "round-trip");
    assert_eq!(result["host"], BOX);
    assert_eq!(result["session"], session.as_str());
    assert_eq!(result["new_messages"], 2);
    for key in ["tokens", "cost", "duration_ms", "tool_calls", "text", "job"] {
        assert!(!result[key].is_null(), "{key}: {result}");
    }
}

#[tokio::test]
async fn without_a_session_the_newest_of_the_directory_goes_and_is_named() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let ran = stage.run(&["send", BOX, "--json"]).await.exits(0);
    assert_eq!(ran.documents()[0]["session"], stage.session.as_str());
    assert_eq!(ran.document()["outcome"], "running");
    assert_eq!(ran.document()["mode"], "one-way");
    let job = ran.document()["job"].as_str().unwrap().to_owned();
    let ran = stage.run(&["collect", &job]).await.exits(0);
    assert!(ran.out.contains("You asked"), "{}", ran.out);
    grown(&before, &stage.history_here());

    std::fs::create_dir(stage.here("empty")).unwrap();
    // A tree of its own has sessions of its own.
    std::fs::create_dir(stage.here("empty/.git")).unwrap();
    let mut command = stage.command(&["send", BOX, "--json"]);
    command.current_dir(stage.here("empty"));
    Ran::of(command).await.exits(2).error("no_session");
}

#[tokio::test]
async fn hosts_are_listed_with_where_they_come_from_and_none_is_no_error() {
    let stage = Stage::new().await;
    let listed = stage.run(&["hosts", "--json"]).await.exits(0);
    assert_eq!(listed.documents().len(), 1);
    assert!(
        listed.out.contains("hosts.toml") && listed.out.contains(BOX),
        "{}",
        listed.out
    );
    let person = stage.run(&["hosts"]).await.exits(0);
    assert!(person.out.contains(BOX), "{}", person.out);

    // What a cloned repository brings is named and not used.
    let project = stage.here("project/hosts.toml");
    std::fs::write(&project, "[hosts.evil]\nhost = \"evil.example\"\n").unwrap();
    let person = stage.run(&["hosts"]).await.exits(0);
    assert!(person.err.contains("not trusted"), "{}", person.err);
    stage
        .run(&["send", "evil", "--json"])
        .await
        .exits(3)
        .error("unknown_host");

    std::fs::remove_file(project).unwrap();
    std::fs::remove_file(stage.here("config/hosts.toml")).unwrap();
    let none = stage.run(&["hosts"]).await.exits(0);
    assert_eq!(none.out, "");
    assert!(none.err.contains("hosts.toml"), "a hint: {}", none.err);
    stage.run(&["hosts", "--json"]).await.exits(0).document();
    std::fs::write(stage.here("config/hosts.toml"), "[hosts.box]\nhost = \n").unwrap();
    let broken = stage
        .run(&["hosts", "--json"])
        .await
        .exits(3)
        .error("hosts_file");
    let message = broken["message"].as_str().unwrap();
    assert!(
        message.contains("hosts.toml:2:"),
        "file, line and column: {message}"
    );
    std::fs::write(
        stage.here("config/hosts.toml"),
        "[hosts.box]\nhost = \"a\"\nos = \"windows\"\n",
    )
    .unwrap();
    stage
        .run(&["check", BOX, "--json"])
        .await
        .exits(3)
        .error("not_yet");
}

#[tokio::test]
async fn jobs_are_listed_as_one_document() {
    let stage = Stage::new().await;
    let none = stage.run(&["jobs", "--json"]).await.exits(0);
    assert_eq!(none.document(), serde_json::json!([]));
    let outcome = stage.send("Go on.").await.unwrap();
    assert_eq!(
        stage.run(&["jobs", "--json"]).await.document(),
        serde_json::json!([])
    );
    let all = stage.run(&["jobs", "--all", "--json"]).await.exits(0);
    assert_eq!(all.documents().len(), 1);
    let job = &all.document()[0];
    assert_eq!(job["id"], outcome.job.as_str());
    assert_eq!(job["state"], "completed");
    assert_eq!(job["collected"], true);
    assert_eq!(job["directory"], "~/work");
    let person = stage.run(&["jobs", "--all"]).await.exits(0);
    assert!(person.out.contains(outcome.job.as_str()), "{}", person.out);
}

#[tokio::test]
async fn a_result_that_is_not_collected_is_among_the_jobs() {
    let stage = Stage::new().await;
    let session = stage.session.to_string();
    let send = ["send", BOX, "--session", &session, "--json"];
    let first = stage.run(&send).await.exits(0).document()["job"].clone();
    let exit = stage.job_directories()[0].join("exit");
    until("the end of the job", || exit.exists()).await;
    // The next handoff sees that the first one has ended.
    stage.run(&send).await.exits(0);
    let jobs = stage.run(&["jobs", "--json"]).await.exits(0).document();
    let listed = jobs.as_array().unwrap();
    let ended = listed.iter().find(|job| job["id"] == first).unwrap();
    assert_eq!(
        (&ended["state"], &ended["collected"]),
        (&"completed".into(), &false.into())
    );
    let person = stage.run(&["jobs"]).await.exits(0);
    assert!(
        person.out.contains("completed, not collected"),
        "{}",
        person.out
    );
}

#[tokio::test]
async fn a_failure_shows_the_way_out_to_a_person_also_with_json() {
    let stage = Stage::new().await;
    let session = stage.session.to_string();
    let mut send = vec!["send", BOX, "--round-trip", "--session", &session, "--json"];
    send.extend(["--message", "RULE exit 7"]);
    let ran = stage.run(&send).await.exits(9);
    let job = ran.documents()[0]["job"].as_str().unwrap().to_owned();
    for words in [
        "the end of the agent's error output:",
        &format!("handover collect {job}"),
    ] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_used_says_what_helps() {
    let stage = Stage::new().await;
    stage.run(&["jobs"]).await.exits(0);
    let store = rusqlite::Connection::open(stage.options().places.store_file()).unwrap();
    store.pragma_update(None, "user_version", 99).unwrap();
    drop(store);
    let error = stage.run(&["jobs", "--json"]).await.exits(1).error("store");
    assert!(error["hint"].as_str().unwrap().contains("newer"), "{error}");
}

#[tokio::test]
async fn the_log_file_keeps_the_steps_whatever_stderr_is_to_show() {
    let stage = Stage::new().await;
    for (verbose, own, shown) in [
        ("", "off", false),
        ("-v", "russh=off", true),
        ("", "info", true),
    ] {
        let log = stage.here("state/logs/handover.log");
        let _ = std::fs::remove_file(&log);
        let arguments: Vec<&str> = [verbose, "send", "nobody"]
            .into_iter()
            .filter(|argument| !argument.is_empty())
            .collect();
        let mut command = stage.command(&arguments);
        command.env("HANDOVER_LOG", own);
        let ran = Ran::of(command).await.exits(3);
        let kept = std::fs::read_to_string(log).unwrap();
        assert!(kept.contains("unknown_host"), "{verbose} {own}: {kept}");
        assert_eq!(
            ran.err.contains("unknown_host"),
            shown,
            "{verbose} {own}: {}",
            ran.err
        );
    }
}

/// Everything below a directory that others than its owner can do something with.
#[cfg(unix)]
fn open_to_others(directory: &Path) -> Vec<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut open = Vec::new();
    walk(directory, &mut |path| {
        if let Ok(metadata) = path.symlink_metadata()
            && !metadata.is_symlink()
            && metadata.permissions().mode() & 0o077 != 0
        {
            open.push(path.to_owned());
        }
    });
    open
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_written_on_either_side_is_private_from_the_first_moment() {
    use std::os::unix::fs::PermissionsExt as _;
    let stage = Stage::new().await;
    // A lax mask on the host must not matter.
    std::fs::write(stage.there(".profile"), "umask 000\n").unwrap();
    let session = stage.session.to_string();
    let mut send = vec!["send", BOX, "--round-trip", "--session", &session, "--json"];
    send.extend([
        "--message",
        "RULE say on\nRULE write new.txt x\nRULE sleep 1\nRULE say done",
        "--dir",
        "~/work",
    ]);
    let mut sending = stage.begin(&send);
    let remote = stage.there(".local/state/handover");
    let local = stage.here("state");
    for step in ["probe", "send", "launch", "run", "fetch", "import"] {
        sending.step(step).await;
        for directory in [&remote, &local] {
            assert_eq!(open_to_others(directory), [] as [PathBuf; 0], "at {step}");
        }
    }
    sending.ended().await.exits(0);
    assert_eq!(open_to_others(&local), [] as [PathBuf; 0]);
    // The user's own files have the user's own mask.
    let made = stage
        .there("work/new.txt")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(made & 0o777, 0o666);
    // Nothing of the session stays here but the record and the log, and neither has its content; the record has the
    // beginning of what the agent was asked.
    let mut left = BTreeSet::new();
    walk(&local, &mut |path| {
        left.insert(path.to_owned());
    });
    for file in left.iter().filter(|path| path.is_file()) {
        let text = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
        if !is_store(file) {
            assert!(!text.contains("RULE say on"), "{}", file.display());
        }
        assert!(!text.contains("Please do step"), "{}", file.display());
        assert!(!text.contains("PRIVATE KEY"), "{}", file.display());
    }
    assert!(entries(&local.join("jobs")).is_empty());
    assert!(stage.job_directories().is_empty());
}

/// Whether a file is the store of records, or one that its database keeps beside it.
fn is_store(file: &Path) -> bool {
    file.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("jobs.db"))
}

#[tokio::test]
async fn the_log_of_a_verbose_run_has_no_content_of_the_session() {
    let stage = Stage::new().await;
    let session = stage.session.to_string();
    let mut send = vec!["-vv", "send", BOX, "--round-trip", "--session", &session];
    send.extend([
        "--message",
        "RULE say the-secret-answer and the-secret-prompt",
    ]);
    let ran = stage.run(&send).await.exits(0);
    let mut logs = 0;
    walk(&stage.here("state"), &mut |path| {
        if path.is_file() && !is_store(path) {
            logs += 1;
            let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
            assert!(!text.contains("the-secret"), "{}: {text}", path.display());
        }
    });
    assert!(logs >= 1, "a log");
    let talk: Vec<&str> = ran
        .err
        .lines()
        .filter(|line| line.contains("the-secret"))
        .collect();
    assert!(talk.iter().all(|line| line.contains("agent:")), "{talk:?}");
}

#[tokio::test]
async fn mistakes_on_the_command_line_are_usage_errors() {
    let stage = Stage::new().await;
    for arguments in [
        &["send"][..],
        &["send", BOX, "--one-way", "--round-trip"],
        &["send", BOX, "--message", "a", "--message-file", "b"],
        &["send", BOX, "--timeout", "soon"],
        &["nonsense"],
        &[],
    ] {
        let ran = stage.run(arguments).await.exits(2);
        assert_eq!(ran.out, "", "{arguments:?}");
        assert!(!ran.err.is_empty(), "{arguments:?}");
    }
    for arguments in [&["send", "--json"][..], &["jobs", "--json", "--nonsense"]] {
        let error = stage.run(arguments).await.exits(2).error("usage");
        let message = error["message"].as_str().unwrap();
        assert!(
            !message.contains("Usage:") && !message.is_empty(),
            "{message}"
        );
    }
    let help = stage.run(&["--help"]).await.exits(0);
    assert!(help.out.contains("Exit codes"), "{}", help.out);
    stage.run(&["--version"]).await.exits(0);
}

#[tokio::test]
async fn a_missing_agent_here_is_told_before_anything_is_sent() {
    let stage = Stage::new().await;
    let mut command = stage.command(&["send", BOX, "--json", "--session", stage.session.as_str()]);
    command.env("HANDOVER_OPENCODE", stage.here("nowhere"));
    let error = Ran::of(command)
        .await
        .exits(12)
        .error("local_agent_missing");
    assert!(
        error["hint"]
            .as_str()
            .unwrap()
            .contains("HANDOVER_OPENCODE")
    );
    assert!(stage.job_directories().is_empty());
    assert!(stage.jobs().await.iter().all(|job| !job.state.is_live()));
}

#[cfg(unix)]
#[tokio::test]
async fn the_demonstration_shows_a_round_trip_and_leaves_nothing_behind() {
    let stage = Stage::new().await;
    let temporary = stage.here("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let home = stage.here("fresh");
    std::fs::create_dir(&home).unwrap();
    let mut command = stage.command(&["demo"]);
    command.env("TMPDIR", &temporary).env("HOME", &home);
    // Where everything of the user's would be.
    command.env_remove("HANDOVER_STATE_DIR");
    command.env_remove("HANDOVER_CONFIG_DIR");
    let ran = Ran::of(command).await.exits(0);
    assert!(ran.out.contains("NOTES.md"), "{}", ran.out);
    assert!(ran.err.contains("is back from demo-box"), "{}", ran.err);
    assert!(entries(&temporary).is_empty());
    assert!(entries(&home).is_empty(), "nothing in the home either");
    assert!(stage.jobs().await.is_empty(), "no job of the user's");
    let mut command = stage.command(&["demo", "--json"]);
    command.env("TMPDIR", &temporary);
    let ran = Ran::of(command).await.exits(0);
    assert_eq!(ran.document()["outcome"], "completed");
    assert!(entries(&temporary).is_empty());
}

#[cfg(windows)]
#[tokio::test]
async fn the_demonstration_needs_a_posix_shell_and_says_so() {
    let stage = Stage::new().await;
    let ran = stage.run(&["demo"]).await;
    assert!(ran.code.is_some_and(|code| code != 0), "{ran:?}");
    assert!(ran.err.contains("POSIX shell"), "{}", ran.err);
}

#[test]
fn the_readme_gives_a_reason_for_every_dependency() {
    let read = |name: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
    };
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let readme = read("README.md");
    let section = readme.split("## Dependencies").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut named: BTreeSet<&str> = manifest["dependencies"]
        .as_table()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    for platform in ["cfg(unix)", "cfg(windows)"] {
        let own = &manifest["target"][platform]["dependencies"];
        named.extend(own.as_table().unwrap().keys().map(String::as_str));
    }
    named.extend(
        manifest["dev-dependencies"]
            .as_table()
            .unwrap()
            .keys()
            .map(String::as_str),
    );
    for name in named {
        assert!(section.contains(&format!("`{name}`")), "{name}");
    }
}
