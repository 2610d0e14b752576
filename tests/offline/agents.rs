//! Agents that fail, lie or are not there, on either side.

use handover::handoff::{Ending, Failure, HandoffError};
use handover::job::{Mode, State};

use crate::support::{BOX, History, Stage, grown, until};

/// Checks that a handoff was refused before anything ran on the host, and left nothing there.
#[track_caller]
fn nothing_launched(stage: &Stage, before: &History, failure: &Failure) {
    assert_eq!(&stage.history_here(), before);
    assert!(!stage.is_there(), "nothing was imported there");
    assert_eq!(stage.job_directories().len(), 0, "{failure:?}");
    assert!(!failure.manual.is_empty());
}

#[tokio::test]
async fn an_agent_that_exits_with_an_error_fails_the_job_and_its_session_can_be_collected() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let session = stage.session.to_string();
    let message = "RULE say half of it\nRULE noise\nRULE exit 7";
    let mut send = vec!["send", BOX, "--round-trip", "--session", &session];
    send.extend(["--message", message]);
    let person = stage.run(&send).await.exits(9);
    assert!(person.err.contains("status 7"), "{}", person.err);
    assert!(
        person.err.contains("end of the agent's error output"),
        "{}",
        person.err
    );
    assert!(person.err.contains("handover collect"), "{}", person.err);
    assert!(
        !person.err.contains('\u{1b}'),
        "no control character of the agent"
    );
    assert_eq!(stage.history_here(), before);

    let job = stage.jobs().await[0].id.to_string();
    let collected = stage.run(&["collect", &job, "--json"]).await.exits(0);
    let result = collected.document();
    assert_eq!(result["outcome"], "completed");
    assert_eq!(result["agent_exit"], 7);
    let new = grown(&before, &stage.history_here());
    assert!(new[1].text().contains("half of it"));
    assert_eq!(stage.jobs().await[0].state, State::Failed);
}

#[tokio::test]
async fn an_agent_that_exits_before_it_did_anything_fails_the_job_and_changes_nothing_here() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let failure = stage.send("RULE exit-before 3").await.unwrap_err();
    match &failure.error {
        HandoffError::Remote { code, phase, .. } => assert_eq!((*code, *phase), (Some(3), "run")),
        other => panic!("{other:?}"),
    }
    assert_eq!(stage.history_here(), before);
    // There is nothing new to collect either, and the session is free.
    let again = stage.collect(failure.job.unwrap()).await.unwrap_err();
    assert!(
        matches!(again.error, HandoffError::Remote { .. }),
        "{again:?}"
    );
    assert_eq!(stage.history_here(), before);
    stage.send("Go on.").await.unwrap();
    grown(&before, &stage.history_here());
}

#[tokio::test]
async fn a_run_that_brought_no_answer_is_a_failure_that_says_so() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let session = stage.session.to_string();
    let mut send = vec!["send", BOX, "--round-trip", "--session", &session, "--json"];
    send.extend(["--message", "RULE nothing"]);
    let ran = stage.run(&send).await.exits(9);
    let error = ran.error("nothing_new");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("no new message")
    );
    assert_eq!(stage.history_here(), before);
    let status = stage.run(&["status", "-", "--json"]).await.exits(0);
    let status = status.document();
    assert_eq!(status["state"], "failed", "{status}");
    assert!(
        status["error"].as_str().unwrap().contains("no new message"),
        "{status}"
    );
}

#[tokio::test]
async fn a_job_without_an_answer_has_failed_whoever_finds_its_end() {
    let one_way = "--one-way";
    for start in [&["send", BOX, one_way, "--message"][..], &["run", BOX]] {
        for finder in ["wait", "status", "sync", "kill"] {
            let stage = Stage::new().await;
            let before = stage.history_here();
            let session = stage.session.to_string();
            let mut begin = start.to_vec();
            begin.push("RULE nothing");
            if begin.contains(&one_way) {
                begin.extend(["--session", &session]);
            }
            // Whether it was seen to run or to end is a race.
            stage.run(&begin).await;
            let exit = stage.job_directories()[0].join("exit");
            until("the job ends", || exit.exists()).await;
            let found: &[&str] = match finder {
                "sync" => &["sync"],
                finder => &[finder, "-"],
            };
            let ran = stage.run(found).await;
            if finder == "wait" {
                ran.exits(9);
            }
            let job = stage.run(&["jobs", "--json", "--all"]).await.exits(0);
            let job = job.document()[0].clone();
            assert_eq!(job["state"], "failed", "{finder}: {job}");
            assert!(job["error"].is_string(), "{finder}: {job}");
            assert_eq!(job["attributes"].as_array().unwrap().len(), 0, "{job}");
            if !begin.contains(&one_way) {
                continue;
            }
            let ran = stage.run(&["collect", "-", "--json"]).await.exits(9);
            ran.error("nothing_new");
            let job = stage.run(&["status", "-", "--json"]).await.exits(0);
            let error = job.document()["error"].as_str().unwrap().to_owned();
            assert!(error.contains("no new message"), "{error}");
            assert_eq!(stage.history_here(), before);
            // There is nothing that a clean-up could lose.
            let prune = ["prune", "--older-than", "0s", "--json"];
            let pruned = stage.run(&prune).await.exits(0).document();
            assert_eq!(pruned["jobs"][0]["done"], "removed", "{pruned}");
        }
    }
}

#[tokio::test]
async fn a_missing_agent_is_told_with_the_places_looked_in_and_nothing_is_launched() {
    let stage = Stage::new().await;
    stage.configure("opencode = \"~/no where/opencode\"");
    let before = stage.history_here();
    let failure = stage.send("Go on.").await.unwrap_err();
    assert!(
        failure.error.to_string().contains("no where/opencode"),
        "{failure:?}"
    );
    nothing_launched(&stage, &before, &failure);
    let session = stage.session.to_string();
    let ran = stage
        .run(&["send", BOX, "--session", &session, "--json"])
        .await;
    ran.exits(7).error("agent_missing");
    assert_eq!(stage.job_directories().len(), 0);
}

#[tokio::test]
async fn an_agent_in_the_search_path_of_the_login_shell_alone_is_found() {
    let stage = Stage::new().await;
    std::fs::rename(stage.there(".opencode/bin"), stage.there("tools")).unwrap();
    std::fs::write(
        stage.there(".profile"),
        "PATH=$HOME/tools:$PATH\nexport PATH\n",
    )
    .unwrap();
    // An empty text would be refused; this is how a hosts file without the key is written.
    stage.configure("# opencode = ");
    let before = stage.history_here();
    stage.send("Go on.").await.unwrap();
    grown(&before, &stage.history_here());
}

#[tokio::test]
async fn a_broken_agent_there_is_refused_before_the_launch() {
    let stage = Stage::new().await;
    stage.program_there(
        ".opencode/bin/opencode",
        "#!/bin/sh\necho 'no such library' >&2\nexit 127\n",
    );
    let before = stage.history_here();
    let failure = stage.send("Go on.").await.unwrap_err();
    assert!(
        matches!(&failure.error, HandoffError::AgentBroken { reason, .. } if reason.contains("no such library")),
        "{failure:?}"
    );
    nothing_launched(&stage, &before, &failure);
}

#[tokio::test]
async fn an_agent_that_is_too_old_is_refused_before_the_launch() {
    let stage = Stage::new().await;
    stage.settings_there("STANDIN_VERSION=1.0.220\n");
    let before = stage.history_here();
    let failure = stage.send("Go on.").await.unwrap_err();
    assert!(
        matches!(&failure.error, HandoffError::AgentTooOld { version, .. } if version == "1.0.220"),
        "{failure:?}"
    );
    nothing_launched(&stage, &before, &failure);
    let session = stage.session.to_string();
    let send = ["send", BOX, "--session", &session, "--json"];
    let error = stage.run(&send).await.exits(7).error("agent_too_old");
    assert!(
        error["message"].as_str().unwrap().contains("1.0.220"),
        "{error}"
    );
    let run = ["run", BOX, "--json", "Go on."];
    stage.run(&run).await.exits(7).error("agent_too_old");
    let checked = stage.run(&["check", BOX]).await.exits(7);
    let said = format!("{}{}", checked.out, checked.err);
    assert!(said.contains("1.0.220 is too old"), "{said}");
    assert_eq!(stage.job_directories().len(), 0);
    // A build of one's own tells nothing about its age.
    stage.settings_there("STANDIN_VERSION=0.0.0-dev-202501010000\n");
    stage.send("Go on.").await.unwrap();
}

#[tokio::test]
async fn an_import_that_failed_there_is_never_taken_for_done() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    for how in ["fail", "silent"] {
        stage.settings_there(&format!("STANDIN_IMPORT={how}\n"));
        let failure = stage.send("Go on.").await.unwrap_err();
        assert!(
            matches!(
                failure.error,
                HandoffError::Remote {
                    phase: "import",
                    ..
                }
            ),
            "{how}: {failure:?}"
        );
        assert_eq!(stage.history_here(), before);
        if stage.is_there() {
            assert_eq!(stage.history_there().launches(), 0, "{how}: it did not run");
        }
    }
}

#[tokio::test]
async fn an_import_that_failed_here_keeps_the_result_there_until_it_is_collected() {
    for how in ["fail", "silent"] {
        let stage = Stage::new().await;
        let before = stage.history_here();
        stage.settings_here(&format!("STANDIN_IMPORT={how}\n"));
        let session = stage.session.to_string();
        let send = ["send", BOX, "--round-trip", "--session", &session, "--json"];
        let ran = stage.run(&send).await.exits(12);
        let job = ran.error("local_agent")["job"].as_str().unwrap().to_owned();
        let kept = stage.job_directories();
        assert_eq!(kept.len(), 1, "{how}");
        assert!(kept[0].join("back.json").exists(), "{how}");
        if how == "fail" {
            assert_eq!(stage.history_here(), before);
        }
        stage.settings_here("");
        // Also where everything had come already, and only the proof was missing.
        let outcome = stage.collect(&job).await.unwrap();
        assert_eq!(outcome.ending, Ending::Completed, "{how}");
        assert_eq!(stage.job_directories().len(), 0, "{how}");
        grown(&before, &stage.history_here());
    }
}

#[tokio::test]
async fn a_result_that_is_cut_there_fails_and_is_exported_again_by_collecting_it() {
    for how in ["cut", "fail"] {
        let stage = Stage::new().await;
        let before = stage.history_here();
        stage.settings_there(&format!("STANDIN_EXPORT={how}\n"));
        let failure = stage.send("RULE say worked").await.unwrap_err();
        assert!(
            matches!(
                failure.error,
                HandoffError::Remote {
                    phase: "export",
                    ..
                }
            ) || matches!(failure.error, HandoffError::Document(_)),
            "{how}: {failure:?}"
        );
        assert_eq!(stage.history_here(), before);
        assert_eq!(stage.job_directories().len(), 1);
        stage.settings_there("");
        let outcome = stage.collect(failure.job.unwrap()).await.unwrap();
        assert_eq!(outcome.trip.unwrap().text.as_deref(), Some("worked"));
        grown(&before, &stage.history_here());
        assert_eq!(stage.job_directories().len(), 0);
    }
}

#[tokio::test]
async fn a_hostile_result_is_refused_before_the_agent_here_sees_it() {
    for how in ["wrong-session", "deep"] {
        let stage = Stage::new().await;
        let before = stage.history_here();
        stage.settings_there(&format!("STANDIN_EXPORT={how}\n"));
        // An import would fail otherwise, and the code would tell.
        stage.settings_here("STANDIN_IMPORT=fail\n");
        let session = stage.session.to_string();
        let send = ["send", BOX, "--round-trip", "--session", &session, "--json"];
        stage.run(&send).await.exits(11).error("document");
        assert_eq!(stage.history_here(), before);
        let kept = stage.job_directories();
        assert!(
            kept[0].join("back.json").exists(),
            "{how}: it is kept there"
        );
    }
}

#[tokio::test]
async fn an_export_that_is_cut_or_fails_here_ends_the_handoff_before_anything_is_sent() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let session = stage.session.to_string();
    for (how, code) in [
        ("cut", 11),
        ("fail", 12),
        ("wrong-session", 11),
        ("deep", 11),
    ] {
        stage.settings_here(&format!("STANDIN_EXPORT={how}\n"));
        let ran = stage.run(&["send", BOX, "--session", &session]).await;
        let ran = ran.exits(code);
        assert_eq!(ran.out, "", "{how}");
        assert_eq!(stage.history_here(), before);
        assert!(!stage.is_there());
        assert_eq!(stage.job_directories().len(), 0, "{how}: {}", ran.err);
    }
    stage.settings_here("");
    assert!(
        stage
            .jobs()
            .await
            .iter()
            .all(|job| job.state == State::Failed)
    );
    stage.send("Go on.").await.unwrap();
}

#[tokio::test]
async fn a_one_way_agent_that_fails_at_once_is_told() {
    let stage = Stage::new().await;
    stage.settings_there("STANDIN_IMPORT=fail\n");
    let handoff = stage.round_trip("Go on.").mode(Mode::OneWay);
    let failure = handoff.start().outcome().await.unwrap_err();
    assert!(
        matches!(failure.error, HandoffError::Remote { .. }),
        "{failure:?}"
    );
}
