//! Awkward hosts: what they lack or do otherwise, and what a handoff makes of it.

use std::collections::HashMap;

use handover::handoff::{Ending, Failure, HandoffError};
use handover::ssh::SshError;
use serde_json::Value;

use crate::support::{BOX, Stage, entries, grown, until};

/// Makes a round trip that must succeed all the same.
async fn works(stage: &Stage) {
    let before = stage.history_here();
    let outcome = stage.send("RULE write a.txt x\nRULE say done").await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.ending, Ending::Completed);
    assert_eq!(
        grown(&before, &stage.history_here()).len(),
        outcome.trip.unwrap().new_messages
    );
    assert_eq!(stage.job_directories().len(), 0);
}

/// Runs `handover check`; gives the status of each finding by its name.
async fn check(stage: &Stage, code: i32, more: &[&str]) -> HashMap<String, String> {
    let arguments = [&["check", BOX, "--json"], more].concat();
    let ran = stage.run(&arguments).await.exits(code);
    assert_eq!(ran.documents().len(), 1, "one document: {}", ran.out);
    assert_eq!(stage.job_directories().len(), 0);
    let report = ran.document();
    assert_eq!(report["host"], BOX);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap();
    for finding in findings {
        let remedy = finding["remedy"].is_string();
        assert_eq!(
            remedy,
            finding["status"] != "ok",
            "a remedy for what is amiss: {finding}"
        );
    }
    findings
        .iter()
        .map(|finding| (text(&finding["name"]), text(&finding["status"])))
        .collect()
}

#[tokio::test]
async fn a_good_host_passes_the_check_and_nothing_is_left_there() {
    let stage = Stage::new().await;
    let found = check(&stage, 0, &["--model", "standin/m"]).await;
    for name in [
        "dial",
        "host key",
        "authentication",
        "shell",
        "sftp",
        "state directory",
        "clock",
    ] {
        assert_eq!(found[name], "ok", "{name}");
    }
    assert!(!found.values().any(|status| status == "fail"), "{found:?}");
    let checks = stage.there(".local/state/handover/check");
    assert!(crate::support::entries(&checks).is_empty());
    let person = stage.run(&["check", BOX]).await.exits(0);
    assert!(
        person.out.contains("authentication"),
        "the report is data: {}",
        person.out
    );
    let found = check(&stage, 7, &["--model", "no/such"]).await;
    assert!(found.values().any(|status| status == "fail"), "{found:?}");
}

#[cfg(any(target_os = "linux", windows))]
#[tokio::test]
async fn a_host_that_ends_processes_at_logout_is_found() {
    let stage = Stage::with(|options| options.kills_at_logout = true).await;
    let found = check(&stage, 7, &[]).await;
    assert_eq!(found["after logout"], "fail", "{found:?}");
    let found = check(&Stage::new().await, 0, &[]).await;
    assert_eq!(found["after logout"], "ok", "{found:?}");
}

#[tokio::test]
async fn a_check_that_is_cut_says_so_and_leaves_nothing_there() {
    let stage = Stage::new().await;
    stage.configure("opencode = \"~/slow\"\n");
    let (hold, began) = (stage.there("hold"), stage.there("began"));
    std::fs::write(&hold, "").unwrap();
    let script = "#!/bin/sh\n[ \"$1\" = models ] || { echo 1.18.33; exit; }\n: >\"$HOME/began\"\n\
                  while [ -e \"$HOME/hold\" ]; do sleep 0.1; done\n";
    stage.program_there("slow", script);
    let checks = stage.there(".local/state/handover/check");
    let arguments = ["check", BOX, "--json", "--model", "standin/m"];
    let cut = async {
        until("the list of models", || began.exists()).await;
        assert_eq!(entries(&checks).len(), 1);
        stage.server.kill_connections();
    };
    let (ran, ()) = tokio::join!(stage.run(&arguments), cut);
    std::fs::remove_file(hold).unwrap();
    let report = ran.exits(4).document();
    assert_eq!(report["status"], "fail");
    let findings = report["findings"].as_array().unwrap();
    let last = findings.last().unwrap();
    assert_eq!(
        (&last["name"], &last["status"]),
        (&"examination".into(), &"fail".into())
    );
    let detail = last["detail"].as_str().unwrap();
    assert!(
        detail.contains("host box was lost: "),
        "with its cause: {detail}"
    );
    assert!(entries(&checks).is_empty());
}

#[tokio::test]
async fn a_work_directory_that_is_a_file_fails_the_check() {
    let stage = Stage::new().await;
    std::fs::write(stage.there("file"), "").unwrap();
    stage.configure("directory = \"~/file\"\n");
    assert_eq!(check(&stage, 7, &[]).await["work directory"], "fail");
}

#[tokio::test]
async fn a_talkative_login_shell_disturbs_nothing() {
    let noise = "Welcome!\u{1b}[2J\n{\"a\":1}\nno newline at the end";
    let stage = Stage::with(|options| options.banner_noise = Some(noise.to_owned())).await;
    std::fs::write(
        stage.there(".profile"),
        "echo from the profile\necho too >&2\n",
    )
    .unwrap();
    works(&stage).await;
    assert_eq!(check(&stage, 0, &[]).await["shell"], "ok");
}

#[tokio::test]
async fn a_host_without_sftp_gets_its_files_over_a_command() {
    let stage = Stage::with(|options| options.sftp = false).await;
    works(&stage).await;
    assert_eq!(check(&stage, 0, &[]).await["sftp"], "warn");
}

#[tokio::test]
async fn an_sftp_of_another_tree_is_noticed_and_not_used() {
    let stage = Stage::jailed().await;
    works(&stage).await;
    assert_eq!(check(&stage, 0, &[]).await["sftp"], "warn");
    assert_eq!(
        crate::support::entries(&stage.jail()).len(),
        0,
        "nothing is written there"
    );
}

#[tokio::test]
async fn few_channels_on_a_connection_are_taken_in_turn() {
    for most in [1, 2] {
        let stage = Stage::with(|options| options.max_sessions = Some(most)).await;
        works(&stage).await;
        assert_eq!(check(&stage, 0, &[]).await["sftp"], "ok", "{most}");
    }
}

#[tokio::test]
async fn an_account_that_may_not_run_commands_is_refused_with_what_it_said() {
    let text = "This account is currently not available.\n";
    let stage = Stage::with(|options| options.refuse_exec = Some(text.to_owned())).await;
    let before = stage.history_here();
    let session = stage.session.to_string();
    let ran = stage
        .run(&["send", BOX, "--session", &session, "--json"])
        .await
        .exits(7);
    let error = ran.error("shell");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("currently not available"),
        "{error}"
    );
    assert_eq!(check(&stage, 7, &[]).await["shell"], "fail");
    assert_eq!(stage.history_here(), before);
}

#[tokio::test]
async fn a_channel_that_the_server_opens_is_refused() {
    let stage = Stage::with(|options| options.open_forwarded_channel = true).await;
    works(&stage).await;
    let (accepted, refused) = stage.server.forwarded_channels();
    assert_eq!(accepted, 0);
    assert!(refused > 0);
}

#[tokio::test]
async fn a_missing_agent_fails_the_check() {
    let stage = Stage::new().await;
    stage.configure("opencode = \"~/nowhere/opencode\"");
    assert_eq!(check(&stage, 7, &[]).await["opencode there"], "fail");
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_made_is_refused_with_its_path() {
    let stage = Stage::new().await;
    std::fs::write(stage.there("occupied"), "a file").unwrap();
    stage.configure("state_dir = \"~/occupied/state\"");
    let before = stage.history_here();
    let failure = stage.send("Go on.").await.unwrap_err();
    assert!(
        matches!(&failure.error, HandoffError::StateDirectory { directory, .. } if directory.contains("occupied")),
        "{failure:?}"
    );
    assert_eq!(stage.history_here(), before);
    assert_eq!(check(&stage, 7, &[]).await["state directory"], "fail");
    stage.configure("state_dir = \"~/other place/it's\"");
    let outcome = stage.send("Go on.").await.unwrap();
    assert_eq!(outcome.ending, Ending::Completed);
    assert!(stage.there("other place/it's/handover").exists());
}

#[tokio::test]
async fn a_work_directory_that_is_a_file_is_refused() {
    let stage = Stage::new().await;
    std::fs::write(stage.there("work"), "a file").unwrap();
    let failure = stage.send("Go on.").await.unwrap_err();
    assert!(
        matches!(failure.error, HandoffError::WorkDirectory { .. }),
        "{failure:?}"
    );
    assert_eq!(stage.job_directories().len(), 0);
}

#[cfg(unix)]
#[tokio::test]
async fn this_very_machine_with_the_same_sessions_is_refused() {
    let stage = Stage::new().await;
    // Both agents over one directory of sessions.
    let data = stage.here(".local/share");
    let profile = format!("XDG_DATA_HOME='{}'\nexport XDG_DATA_HOME\n", data.display());
    std::fs::write(stage.there(".profile"), profile).unwrap();
    let before = stage.history_here();
    let session = stage.session.to_string();
    let ran = stage
        .run(&["send", BOX, "--session", &session, "--json"])
        .await;
    ran.exits(7).error("same_machine");
    assert_eq!(stage.history_here(), before);
    assert_eq!(check(&stage, 7, &[]).await["other machine"], "fail");
}

/// A stage whose host has a clock of its own.
async fn skewed(seconds: i64) -> Stage {
    let stage = Stage::with(|options| options.path = Stage::skewed_path(&options.home)).await;
    stage.clock_there(seconds);
    stage
}

#[tokio::test]
async fn a_clock_that_is_an_hour_off_is_told_before_anything_is_launched() {
    for (seconds, words) in [(-3600, "behind"), (3600, "ahead")] {
        let stage = skewed(seconds).await;
        let before = stage.history_here();
        let failure: Failure = stage.send("Go on.").await.unwrap_err();
        let said = failure.error.to_string();
        assert!(said.contains("clock") && said.contains(words), "{said}");
        assert_eq!(stage.history_here(), before);
        assert!(!stage.is_there());
        assert_eq!(stage.job_directories().len(), 0);
        let session = stage.session.to_string();
        let send = ["send", BOX, "--session", &session, "--round-trip", "--json"];
        stage.run(&send).await.exits(7).error("clock");
        // One-way, a session can go to a host that is ahead.
        let (code, status) = if seconds < 0 {
            (7, "fail")
        } else {
            (0, "warn")
        };
        assert_eq!(check(&stage, code, &[]).await["clock"], status);
    }
}

#[tokio::test]
async fn a_clock_that_is_minutes_off_is_refused_as_well() {
    // More than the minute that is waited for, however old the seeded messages are by now.
    for (seconds, words) in [(-240, "behind"), (90, "ahead")] {
        let stage = skewed(seconds).await;
        let before = stage.history_here();
        let failure = stage.send("Go on.").await.unwrap_err();
        let said = failure.error.to_string();
        assert!(said.contains("clock") && said.contains(words), "{said}");
        assert_eq!(stage.history_here(), before);
        assert!(!stage.is_there());
        assert_eq!(stage.job_directories().len(), 0);
    }
}

#[tokio::test]
async fn a_clock_that_is_most_of_a_minute_off_is_waited_for() {
    let stage = skewed(-30).await;
    stage.settings_there("STANDIN_CLOCK=-30\n");
    works(&stage).await;
    let stage = Stage::new().await;
    stage.settings_there("STANDIN_CLOCK=30\n");
    works(&stage).await;
}

#[tokio::test]
async fn a_clock_that_is_a_little_behind_is_waited_for() {
    // The seeded session's newest message is some seconds old.
    let stage = skewed(-8).await;
    stage.settings_there("STANDIN_CLOCK=-8\n");
    works(&stage).await;
    assert_eq!(check(&stage, 0, &[]).await["clock"], "warn");
}

#[tokio::test]
async fn a_clock_that_is_a_little_ahead_is_waited_for_before_the_return() {
    let stage = Stage::new().await;
    stage.settings_there("STANDIN_CLOCK=4\n");
    works(&stage).await;
    // The next turn here comes after what came back.
    stage.settings_there("");
    works(&stage).await;
}

#[tokio::test]
async fn results_from_a_far_future_are_not_imported() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    stage.settings_there("STANDIN_CLOCK=3600\n");
    let failure = stage.send("Go on.").await.unwrap_err();
    assert!(failure.error.to_string().contains("clock"), "{failure:?}");
    assert_eq!(stage.history_here(), before);
    assert!(
        stage.job_directories()[0].join("back.json").exists(),
        "it is kept"
    );
}

#[tokio::test]
async fn a_name_without_address_a_closed_port_and_a_black_hole_are_three_errors() {
    let stage = Stage::new().await;
    let session = stage.session.to_string();
    let send = ["send", BOX, "--session", &session, "--json"];
    let hosts = stage.here("config/hosts.toml");

    std::fs::write(&hosts, "[hosts.box]\nhost = \"u@no-such-name.invalid\"\n").unwrap();
    stage.run(&send).await.exits(4).error("unresolved");

    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    stage.configure_at(address, "");
    stage.run(&send).await.exits(4).error("refused");

    stage.configure("");
    stage.proxy.silence();
    let mut options = stage.options();
    options.connect.deadlines.key_exchange = std::time::Duration::from_millis(300);
    let client = handover::handoff::Client::open(options).unwrap();
    let handoff = client.handoff(BOX).unwrap().session(stage.session.clone());
    let failure = handoff.start().outcome().await.unwrap_err();
    assert!(
        matches!(&failure.error, HandoffError::Ssh(SshError::TimedOut { .. })),
        "{failure:?}"
    );
    stage.proxy.resume();
    assert!(stage.jobs().await.iter().all(|job| !job.state.is_live()));
    works(&stage).await;
}
