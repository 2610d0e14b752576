//! Jobs over time: one at a time for a session, left and collected, interrupted, killed.

use handover::demo::standin::Seed;
use handover::handoff::{Ending, HandoffError};
use handover::job::{JobId, Mode, State};
use tokio::process::Command;

use crate::kill::carriers;
use crate::support::{BOX, Stage, Started, grown, until};
use crate::sync::field;

pub(crate) fn send<'a>(session: &'a str, message: &'a str) -> Vec<&'a str> {
    let mode = "--round-trip";
    vec![
        "send",
        BOX,
        mode,
        "--session",
        session,
        "--json",
        "--message",
        message,
    ]
}

/// Longer under Wine, where a program takes its time to start.
const SLOW: &str = if cfg!(windows) {
    "RULE say on\nRULE sleep 25\nRULE say done"
} else {
    "RULE say on\nRULE sleep 3\nRULE say done"
};

/// Adds a turn to the session here, as a person at the agent does.
async fn go_on_here(stage: &Stage) {
    let mut command = Command::new(stage.agent_here());
    let session = format!("--session={}", stage.session);
    command.args([
        "run",
        &session,
        "--format",
        "json",
        "RULE say meanwhile here",
    ]);
    command.current_dir(stage.here("project"));
    assert!(command.output().await.unwrap().status.success());
}

#[tokio::test]
async fn of_two_handoffs_of_a_session_at_once_one_is_refused_and_names_the_other() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let session = stage.session.to_string();
    let arguments = send(&session, SLOW);
    let (one, two) = (stage.begin(&arguments), stage.begin(&arguments));
    let (one, two) = tokio::join!(one.ended(), two.ended());
    let (winner, loser) = if one.code == Some(0) {
        (one, two)
    } else {
        (two, one)
    };
    let job = winner.exits(0).document()["job"].clone();
    let error = loser.exits(8).error("session_busy");
    let job = job.as_str().unwrap();
    assert!(error["message"].as_str().unwrap().contains(job), "{error}");
    assert!(error["hint"].as_str().unwrap().contains(job), "{error}");
    assert_eq!(grown(&before, &stage.history_here()).len(), 2);
}

#[tokio::test]
async fn two_sessions_go_to_one_host_at_once() {
    let stage = Stage::new().await;
    let other = stage.seed(&Seed::default());
    let first = stage.round_trip("RULE sleep 1").start();
    let second = stage.round_trip("RULE sleep 1").session(other).start();
    let (first, second) = tokio::join!(first.outcome(), second.outcome());
    assert_eq!(first.unwrap().ending, Ending::Completed);
    assert_eq!(second.unwrap().ending, Ending::Completed);
}

#[tokio::test]
async fn a_live_one_way_job_blocks_a_handoff_and_an_ended_one_does_not() {
    let stage = Stage::new().await;
    let handoff = stage.round_trip(SLOW).mode(Mode::OneWay);
    let first = handoff.start().outcome().await.unwrap();
    let refused = stage.send("Go on.").await.unwrap_err();
    assert!(
        refused.error.to_string().contains(first.job.as_str()),
        "{refused:?}"
    );
    let exit = stage.job_directories()[0].join("exit");
    until("the one-way job ends", || exit.exists()).await;
    let before = stage.history_here();
    stage.send("Go on.").await.unwrap();
    let after = stage.history_here();
    // The host's session had the one-way job's messages, so they came along; what is left is to close its books.
    assert_eq!(grown(&before, &after).len(), 4);
    let diverged = stage.collect(&first.job).await.unwrap_err();
    assert!(
        matches!(diverged.error, HandoffError::Diverged { .. }),
        "{diverged:?}"
    );
    let collection = stage.client().collect(first.job.as_str()).merge(true);
    let outcome = collection.start().outcome().await.unwrap();
    assert_eq!(outcome.ending, Ending::Completed);
    assert_eq!(stage.history_here().messages, after.messages);
}

#[tokio::test]
async fn a_session_that_went_on_here_meanwhile_is_merged_only_when_told_to() {
    let stage = Stage::new().await;
    let session = stage.session.to_string();
    let handoff = stage.round_trip("RULE say there").mode(Mode::OneWay);
    let job = handoff.start().outcome().await.unwrap().job.to_string();
    go_on_here(&stage).await;
    let before = stage.history_here();
    stage
        .run(&["collect", &job, "--json"])
        .await
        .exits(8)
        .error("diverged");
    assert_eq!(stage.history_here(), before);
    assert_eq!(stage.job_directories().len(), 1, "the result stays there");
    stage
        .run(&["collect", &job, "--json", "--merge"])
        .await
        .exits(0);
    let after = stage.history_here();
    for old in &before.messages {
        assert!(after.messages.iter().any(|now| now.raw == old.raw));
    }
    let text = after.text();
    assert!(
        text.contains("meanwhile here") && text.contains("\nthere"),
        "{text}"
    );
    stage.run(&send(&session, "Go on.")).await.exits(0);
}

#[tokio::test]
async fn a_job_is_collected_once_and_found_by_what_names_it() {
    let stage = Stage::new().await;
    stage
        .run(&["collect", "-", "--json"])
        .await
        .exits(2)
        .error("no_such_job");
    let job = stage.send("Go on.").await.unwrap().job.to_string();
    let before = stage.history_here();
    let again = stage.run(&["collect", &job, "--json"]).await;
    let error = again.exits(8).error("already_collected");
    assert_eq!(error["job"], job.as_str());
    assert_eq!(stage.history_here(), before);
    let unknown = JobId::generate().to_string();
    stage
        .run(&["collect", &unknown, "--json"])
        .await
        .exits(2)
        .error("no_such_job");

    let handoff = stage.round_trip("Go on.").mode(Mode::OneWay);
    let second = handoff.start().outcome().await.unwrap().job.to_string();
    let common: String = job
        .chars()
        .zip(second.chars())
        .take_while(|(one, two)| one == two)
        .map(|(one, _)| one)
        .collect();
    let ambiguous = stage.run(&["collect", &common, "--json"]).await;
    ambiguous.exits(2).error("no_such_job");
    let enough = &second[..=common.len()];
    let result = stage.run(&["collect", enough, "--json"]).await.exits(0);
    assert_eq!(result.document()["job"], second.as_str());
}

/// Starts a round trip and waits until the agent works.
pub(crate) async fn at_work(stage: &Stage) -> (Started, String) {
    let session = stage.session.to_string();
    let mut sending = stage.begin(&send(&session, SLOW));
    let job = sending.step("launch").await;
    sending.says("on").await;
    (sending, job)
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupted_watch_detaches_and_the_job_goes_on_and_is_collected() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let (sending, job) = at_work(&stage).await;
    sending.signal("INT").await;
    let ran = sending.ended().await.exits(10);
    assert_eq!(ran.document()["outcome"], "detached");
    assert_eq!(stage.history_here(), before);
    let jobs = stage.run(&["jobs", "--json"]).await.exits(0).document();
    assert_eq!(jobs[0]["id"], job.as_str());
    assert_eq!(jobs[0]["state"], "running");
    // A collection can be left, too.
    let ran = stage
        .run(&["collect", &job, "--timeout", "300ms"])
        .await
        .exits(10);
    assert!(
        ran.err.contains(&format!("handover collect {job}")),
        "{}",
        ran.err
    );
    stage.run(&["collect", &job]).await.exits(0);
    let new = grown(&before, &stage.history_here());
    assert_eq!(new[1].text(), "on\ndone");
}

#[tokio::test]
async fn a_time_limit_detaches_with_the_command_that_collects() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let session = stage.session.to_string();
    // The launch is before the limit, and the end after it, also under Wine.
    let (message, limit) = if cfg!(windows) {
        ("RULE say on\nRULE sleep 40\nRULE say done", "30s")
    } else {
        ("RULE say on\nRULE sleep 6\nRULE say done", "4s")
    };
    let mut arguments = vec!["send", BOX, "--round-trip", "--session", &session];
    arguments.extend(["--message", message, "--timeout", limit]);
    let ran = stage.run(&arguments).await.exits(10);
    let job = stage.jobs().await[0].id.to_string();
    assert!(
        ran.err.contains(&format!("handover collect {job}")),
        "{}",
        ran.err
    );
    assert_eq!(ran.out, "", "there is no data yet");
    stage.run(&["collect", "-"]).await.exits(0);
    assert_eq!(grown(&before, &stage.history_here()).len(), 2);
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupt_before_the_launch_calls_the_handoff_off() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let session = stage.session.to_string();
    stage.settings_here("STANDIN_EXPORT=sleep\nSTANDIN_SLEEP_SECONDS=20\n");
    let mut sending = stage.begin(&send(&session, "Go on."));
    sending.step("probe").await;
    sending.signal("INT").await;
    let error = sending.ended().await.exits(130).error("called_off");
    assert!(error["job"].is_string());
    stage.settings_here("");
    assert!(!stage.is_there());
    assert_eq!(stage.jobs().await[0].state, State::Killed);
    assert_eq!(stage.job_directories().len(), 0);
    assert_eq!(stage.history_here(), before);
    stage.send("Go on.").await.unwrap();
    grown(&before, &stage.history_here());
}

#[tokio::test]
async fn after_a_client_that_was_killed_the_job_is_finished_or_closed_by_collecting_it() {
    for step in [
        "probe", "send", "launch", "run", "fetch", "import", "cleanup",
    ] {
        let stage = Stage::new().await;
        let before = stage.history_here();
        let session = stage.session.to_string();
        let mut sending = stage.begin(&send(&session, "RULE say on\nRULE sleep 1\nRULE say done"));
        sending.step(step).await;
        sending.killed().await;
        let record = stage.jobs().await.remove(0);
        if record.collected_ms.is_some() {
            assert_eq!(step, "cleanup");
            grown(&before, &stage.history_here());
            continue;
        }
        let outcome = stage.collect(&record.id).await;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(failure) => panic!("{step}: {failure:?}"),
        };
        let after = stage.history_here();
        if outcome.ending == Ending::Closed {
            assert_eq!(after, before, "{step}");
            assert!(!stage.is_there(), "{step}");
            stage.send("Go on.").await.unwrap();
        } else {
            assert_eq!(outcome.ending, Ending::Completed, "{step}");
            let new = grown(&before, &after);
            assert_eq!((new.len(), after.launches()), (2, 1), "{step}");
            assert_eq!(stage.job_directories().len(), 0, "{step}");
        }
    }
}

#[tokio::test]
async fn a_job_that_was_recorded_and_never_sent_is_closed_by_collecting_it() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let session = stage.session.to_string();
    stage.settings_here("STANDIN_EXPORT=sleep\nSTANDIN_SLEEP_SECONDS=20\n");
    let mut sending = stage.begin(&send(&session, "Go on."));
    sending.step("export").await;
    sending.killed().await;
    stage.settings_here("");
    let job = stage.jobs().await[0].id.to_string();
    stage
        .run(&send(&session, "Go on."))
        .await
        .exits(8)
        .error("session_busy");
    let ran = stage.run(&["collect", &job, "--json"]).await.exits(0);
    assert_eq!(ran.document()["outcome"], "closed");
    assert_eq!(stage.jobs().await[0].state, State::Killed);
    assert_eq!(stage.history_here(), before);
    stage.run(&send(&session, "Go on.")).await.exits(0);
    grown(&before, &stage.history_here());
}

#[tokio::test]
async fn a_runner_that_was_killed_is_told_and_its_session_is_free_once_its_agent_is_gone() {
    for guarded in [true, false] {
        let stage = Stage::new().await;
        let before = stage.history_here();
        let session = stage.session.to_string();
        let message = "RULE say on\nRULE child 120\nRULE hang";
        let mut sending = stage.begin(&send(&session, message));
        let job = sending.step("launch").await;
        sending.says("on").await;
        sending.left().await;
        let directory = stage.job_directories().remove(0);
        let nonce = std::fs::read_to_string(directory.join("claim/nonce")).unwrap();
        let mark = format!("HANDOVER_RUN={}", nonce.trim());
        assert!(carriers(&mark) > 1);
        let files = if guarded {
            &["started"][..]
        } else {
            &["guard", "started"]
        };
        for file in files {
            stage.run_there("kill", &["-KILL", &field(&directory.join(file), "pid=")]);
        }
        // Whoever asks is told that the session is taken, or the agent is gone by then.
        let ran = stage.run(&["status", &job, "--json"]).await.exits(0);
        if ran.document()["state"] == "running" {
            until("the end", || directory.join("exit").exists()).await;
        }
        assert_eq!(carriers(&mark), 0, "guarded: {guarded}");
        let ran = stage.run(&["wait", &job, "--json"]).await;
        assert_eq!(ran.code, Some(9), "{ran:?}");
        let record = stage.jobs().await.remove(0);
        assert_eq!(record.state, State::Failed);
        let why = record.error.unwrap();
        assert!(why.contains("runner was ended"), "{why}");
        stage.run(&["collect", &job]).await.exits(0);
        assert_eq!(grown(&before, &stage.history_here())[1].text(), "on");
        assert_eq!(stage.jobs().await[0].state, State::Failed);
        assert_eq!(stage.job_directories().len(), 0);
        stage.send("Go on.").await.unwrap();
    }
}

#[tokio::test]
async fn a_job_whose_files_are_gone_from_the_host_is_lost_and_says_so() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let handoff = stage.round_trip("RULE sleep 2").mode(Mode::OneWay);
    let job = handoff.start().outcome().await.unwrap().job;
    let directory = stage.job_directories().remove(0);
    let exit = directory.join("exit");
    until("the job ends", || exit.exists()).await;
    stage.remove_job_there(&directory);
    let failure = stage.collect(&job).await.unwrap_err();
    assert!(
        matches!(failure.error, HandoffError::Vanished { .. }),
        "{failure:?}"
    );
    assert_eq!(stage.jobs().await[0].state, State::Lost);
    assert_eq!(stage.history_here(), before);
}

#[tokio::test]
async fn a_result_that_was_altered_on_the_host_is_refused() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let handoff = stage.round_trip("Go on.").mode(Mode::OneWay);
    let job = handoff.start().outcome().await.unwrap().job.to_string();
    let directory = stage.job_directories().remove(0);
    let exit = directory.join("exit");
    until("the job ends", || exit.exists()).await;
    let back = directory.join("back.json");
    let whole = std::fs::read(&back).unwrap();
    for altered in [&whole[..whole.len() / 2], &[&whole[..], b" "].concat()[..]] {
        std::fs::write(&back, altered).unwrap();
        let error = stage.run(&["collect", &job, "--json"]).await.exits(11);
        error.error("result_mismatch");
        assert_eq!(stage.history_here(), before);
    }
    std::fs::write(&back, whole).unwrap();
    stage.run(&["collect", &job]).await.exits(0);
    grown(&before, &stage.history_here());
}
