//! Ending a job: what is left of its agent, what can be collected, what is told.

use handover::handoff::{Ending, KillEnding};
use handover::job::{Mode, State, Store};

use crate::jobs::{at_work, send};
use crate::proxy::Cut;
use crate::returns::ended_job;
use crate::support::{Machine, Stage, bounded, grown, until};
use crate::sync::field;

#[tokio::test]
async fn a_killed_job_has_no_agent_any_more_and_what_it_had_done_is_collected() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let message = "RULE say on\nRULE child 120\nRULE hang";
    let handoff = stage.round_trip(message).mode(Mode::OneWay);
    let job = handoff.start().outcome().await.unwrap().job.to_string();
    let directory = stage.job_directories().remove(0);
    until("the agent works", || {
        std::fs::read_to_string(directory.join("events.ndjson")).is_ok_and(|log| log.contains("on"))
    })
    .await;
    let ran = stage
        .run(&["kill", &job, "--grace", "1s", "--json"])
        .await
        .exits(0);
    let document = ran.document();
    assert_eq!(document["outcome"], "killed");
    assert_eq!(
        (&document["state"], &document["left"]),
        (&"killed".into(), &0.into())
    );
    assert_eq!(document["result"], true);
    assert_eq!(stage.jobs().await[0].state, State::Killed);
    let mark = std::fs::read_to_string(directory.join("claim/nonce")).unwrap();
    let mark = format!("HANDOVER_RUN={}", mark.trim());
    assert_eq!(carriers(&mark), 0, "nothing of the agent is left");
    // The session is free, and the result still there.
    let again = stage.run(&["kill", &job, "--json"]).await.exits(0);
    assert_eq!(again.document()["outcome"], "already_ended");
    let jobs = stage.run(&["jobs", "--json"]).await.exits(0).document();
    assert_eq!(jobs[0]["state"], "killed");
    let outcome = stage.collect(&job).await.unwrap();
    assert_eq!(outcome.ending, Ending::Completed);
    assert_eq!(grown(&before, &stage.history_here())[1].text(), "on");
    assert_eq!(stage.jobs().await[0].state, State::Killed);
    assert_eq!(stage.job_directories().len(), 0);
}

/// How many processes have this in their environment.
pub(crate) fn carriers(mark: &str) -> usize {
    let carries = |entry: &std::fs::DirEntry| {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|line| line == mark.as_bytes())
    };
    let entries = std::fs::read_dir(Machine::processes()).unwrap();
    entries.flatten().filter(carries).count()
}

#[tokio::test]
async fn a_job_that_is_followed_is_killed_by_another_process_and_its_sender_says_so() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let session = stage.session.to_string();
    let mut sending = stage.begin(&send(&session, "RULE say on\nRULE hang"));
    let job = sending.step("launch").await;
    sending.says("on").await;
    let killed = stage.client().kill(&job).run();
    let killed = bounded("the kill", killed).await.unwrap();
    assert_eq!(
        (killed.ending, killed.state),
        (KillEnding::Killed, State::Killed)
    );
    let error = sending.ended().await.exits(9).error("remote_failed");
    assert!(
        error["message"].as_str().unwrap().contains("killed"),
        "{error}"
    );
    assert_eq!(stage.jobs().await[0].state, State::Killed);
    stage.run(&["collect", &job]).await.exits(0);
    assert_eq!(grown(&before, &stage.history_here())[1].text(), "on");
    stage.send("Go on.").await.unwrap();
}

#[tokio::test]
async fn a_job_whose_sender_died_before_the_launch_is_closed_by_a_kill() {
    for step in ["export", "probe", "send"] {
        let stage = Stage::new().await;
        let before = stage.history_here();
        let session = stage.session.to_string();
        let mut sending = stage.begin(&send(&session, "Go on."));
        sending.step(step).await;
        sending.killed().await;
        let ran = stage.run(&["kill", "-", "--json"]).await.exits(0);
        let document = ran.document();
        if document["outcome"] != "closed" {
            // It had got as far as the launch.
            assert_eq!(step, "send", "{document}");
            continue;
        }
        assert_eq!(stage.jobs().await[0].state, State::Killed, "{step}");
        assert_eq!(stage.history_here(), before);
        assert!(!stage.is_there());
        stage.send("Go on.").await.unwrap();
    }
}

#[tokio::test]
async fn a_sender_that_is_still_at_it_finds_its_job_closed() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let session = stage.session.to_string();
    let seconds = if cfg!(windows) { 30 } else { 4 };
    stage.settings_here(&format!(
        "STANDIN_EXPORT=sleep\nSTANDIN_SLEEP_SECONDS={seconds}\n"
    ));
    let mut sending = stage.begin(&send(&session, "Go on."));
    sending.step("probe").await;
    let ran = stage.run(&["kill", "-", "--json"]).await.exits(0);
    assert_eq!(ran.document()["outcome"], "closed");
    let ran = sending.ended().await;
    assert!(ran.code != Some(0), "{ran:?}");
    stage.settings_here("");
    assert!(stage.jobs().await[0].state.is_ended());
    assert!(!stage.is_there(), "nothing was launched");
    assert_eq!(stage.history_here(), before);
    stage.send("Go on.").await.unwrap();
}

#[tokio::test]
async fn killing_an_ended_job_says_so_and_changes_nothing() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let (job, directory) = ended_job(&stage).await;
    let ran = stage.run(&["kill", &job]).await.exits(0);
    assert!(ran.err.contains("ended already"), "{}", ran.err);
    assert!(directory.join("back.json").exists());
    stage.run(&["collect", &job]).await.exits(0);
    grown(&before, &stage.history_here());
    let ran = stage.run(&["kill", &job, "--json"]).await.exits(0);
    assert_eq!(ran.document()["outcome"], "already_ended");
    // A model says whose agent it is, and ends what that one has started alone.
    stage.run(&["kill", &job, "--for-model"]).await.exits(2);
    let foreign = ["kill", &job, "--for-model", "--parent=ses_another"];
    stage.run(&foreign).await.exits(8).error("not_own_job");
    stage
        .run(&["kill", "jzzzz", "--json"])
        .await
        .exits(2)
        .error("no_such_job");
}

#[tokio::test]
async fn an_agent_whose_runner_was_killed_is_ended_all_the_same() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let (sending, job) = at_work(&stage).await;
    sending.left().await;
    let directory = stage.job_directories().remove(0);
    // Its guard first, which would take its place.
    for file in ["guard", "started"] {
        stage.run_there("kill", &["-KILL", &field(&directory.join(file), "pid=")]);
    }
    let ran = stage
        .run(&["kill", &job, "--grace", "1s", "--json"])
        .await
        .exits(0);
    assert_eq!(ran.document()["outcome"], "killed");
    let mark = std::fs::read_to_string(directory.join("claim/nonce")).unwrap();
    assert_eq!(carriers(&format!("HANDOVER_RUN={}", mark.trim())), 0);
    stage.run(&["collect", &job]).await.exits(0);
    assert_eq!(grown(&before, &stage.history_here())[1].text(), "on");
}

#[tokio::test]
async fn a_kill_whose_host_is_not_reached_changes_nothing() {
    let stage = Stage::new().await;
    let (sending, job) = at_work(&stage).await;
    sending.left().await;
    let store = Store::open(&stage.options().places.store_file()).unwrap();
    let record = store.find(&job).await.unwrap();
    stage.proxy.refuse();
    stage.proxy.cut_all(Cut::Reset);
    let ran = stage.run(&["kill", &job, "--json"]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert_eq!(store.find(&job).await.unwrap(), record);
    stage.proxy.resume();
    stage.run(&["kill", &job, "--json"]).await.exits(0);
}

#[tokio::test]
async fn a_job_ends_by_its_time_limit_while_nobody_is_here() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let session = stage.session.to_string();
    let message = "RULE say on\nRULE hang";
    let mut arguments = vec!["send", crate::support::BOX, "--session", &session, "--json"];
    arguments.extend(["--message", message, "--max-time", "3s"]);
    let job = stage.run(&arguments).await.exits(0).document()["job"].clone();
    let exit = stage.job_directories()[0].join("exit");
    until("the job ends", || exit.exists()).await;
    stage.run(&["sync"]).await.exits(0);
    let record = stage.jobs().await.remove(0);
    assert_eq!(record.state, State::Killed);
    let why = record.error.unwrap();
    assert!(why.contains("time limit"), "{why}");
    let mut collected = stage
        .run(&["collect", job.as_str().unwrap(), "--json"])
        .await;
    collected = collected.exits(0);
    assert_eq!(collected.document()["outcome"], "completed");
    assert_eq!(grown(&before, &stage.history_here())[1].text(), "on");
}

#[tokio::test]
async fn a_host_takes_as_many_jobs_as_it_may_have_and_refuses_the_next_with_the_count() {
    let stage = Stage::new().await;
    stage.configure("max_jobs = 1");
    let (sending, job) = at_work(&stage).await;
    let other = stage
        .seed(&handover::demo::standin::Seed::default())
        .to_string();
    let error = stage
        .run(&send(&other, "Go on."))
        .await
        .exits(8)
        .error("too_many_jobs");
    assert!(
        error["message"].as_str().unwrap().contains("1 live job"),
        "{error}"
    );
    assert_eq!(
        stage.job_directories().len(),
        1,
        "nothing of it is left there"
    );
    sending.ended().await.exits(0);
    assert!(
        stage
            .jobs()
            .await
            .iter()
            .any(|record| record.id.as_str() == job)
    );
    // The session is free, and the host has room again.
    stage.run(&send(&other, "Go on.")).await.exits(0);
}
