//! A process that is killed at any step of a job's life: what the next commands make of it.
//!
//! Three things hold after every step: the job was launched at most once, the local session lost nothing, and the
//! remote result is kept until it has been imported and compared.
#![cfg(all(unix, debug_assertions))]
#![expect(
    clippy::unwrap_used,
    reason = "the helpers of these tests fail as the tests do"
)]

#[path = "support/proxy.rs"]
mod proxy;
#[path = "offline/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "other tests use the rest of it")]
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use futures::StreamExt as _;
use handover::handoff::FAIL_POINTS;
use handover::job::{JobRecord, State};
use serde_json::Value;

use support::{BOX, Ran, Stage, entries, grown, until};

/// How many steps are tried side by side.
const AT_ONCE: usize = 3;
/// Steps with which a job that is there already is closed, or ended.
const CLOSING: [&str; 3] = ["close-settled", "close-noted", "close-cleaned"];
const SAYING: [&str; 2] = ["say-written", "say-given"];
const PRUNING: [&str; 2] = ["prune-host", "prune-here"];
/// The steps of a way out that ends with the launch, and those of a collection of what has ended.
const OUT: [&str; 7] = [
    "send-recorded",
    "send-probed",
    "send-placed",
    "send-uploaded",
    "launch-noted",
    "launch-answered",
    "launched-noted",
];
const BACK: [&str; 8] = [
    "fetched",
    "return-prepared",
    "return-imported",
    "return-after",
    "return-compared",
    "return-noted",
    "cleaned-host",
    "cleaned-here",
];
const KILLING: [&str; 2] = ["kill-asked", "kill-ended"];
/// The steps of whoever only looks, and of what is made up for.
const LOOKING: [&str; 5] = [
    "found-noted",
    "adopted",
    "announcement-claimed",
    "buried",
    "exported-again",
];

/// Runs the program until it kills itself at this step.
async fn dies(stage: &Stage, point: &str, arguments: &[&str]) {
    let mut command = stage.command(arguments);
    command.env("HANDOVER_FAILPOINT", point);
    let ran = Ran::of(command).await;
    assert_eq!(ran.code, None, "{point} was not reached: {ran:?}");
}

async fn only(stage: &Stage) -> JobRecord {
    stage.jobs().await.remove(0)
}

/// How often the agent there was launched for the handoff.
fn launches(stage: &Stage) -> usize {
    if stage.is_there() {
        stage.history_there().launches()
    } else {
        0
    }
}

/// Looks after a job until it has ended: syncs, waits for what was started, syncs again.
async fn looked_after(stage: &Stage, point: &str) {
    for _ in 0..2 {
        stage.run(&["sync", "--json"]).await.exits(0);
    }
    for directory in stage.job_directories() {
        if directory.join("started").exists() {
            until("the job ends", || directory.join("exit").exists()).await;
            assert!(directory.join("back.json").exists(), "{point}");
        }
    }
    stage.run(&["sync", "--json"]).await.exits(0);
}

/// The sessions that are kept below a data home, as files.
fn sessions(data_home: &Path) -> Vec<PathBuf> {
    let mut found = entries(&data_home.join("opencode/standin"));
    found.retain(|path| path.extension().is_some_and(|name| name == "json"));
    found
}

/// How often a job's agent has said something, as its session here or there tells.
fn times_said(files: &[PathBuf], text: &str) -> usize {
    let said = |file: &PathBuf| {
        let content: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let messages = content["messages"].as_array().unwrap().clone();
        let parts = messages
            .iter()
            .filter(|message| message["info"]["role"] == "assistant");
        parts
            .filter(|message| message["parts"].to_string().contains(text))
            .count()
    };
    files.iter().map(said).sum()
}

/// A spawned job whose client is killed on the way out, or while its session is imported.
async fn survives_spawned(point: &str, returning: bool) {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let run = ["run", BOX, "--json", "RULE say worked"];
    if returning {
        stage.run(&run).await.exits(0);
        let exit = stage.job_directories()[0].join("exit");
        until("the job ends", || exit.exists()).await;
        dies(&stage, point, &["collect", "-", "--import"]).await;
    } else {
        dies(&stage, point, &run).await;
    }
    looked_after(&stage, point).await;
    let there = sessions(&stage.there(".local/share"));
    let found = only(&stage).await;
    assert_eq!(there.len(), usize::from(found.was_launched()), "{point}");
    if found.was_launched() {
        if found.cleaned_ms.is_none() {
            let ran = stage.run(&["collect", "-", "--import", "--json"]).await;
            assert_eq!(ran.exits(0).document()["outcome"], "completed", "{point}");
        }
        let here = sessions(&stage.here(".local/share"));
        assert_eq!(here.len(), 2, "{point}");
        assert_eq!(times_said(&here, "worked"), 1, "{point}");
        assert_eq!(only(&stage).await.state, State::Completed, "{point}");
    } else {
        assert_eq!(only(&stage).await.state, State::Killed, "{point}");
    }
    assert!(only(&stage).await.cleaned_ms.is_some(), "{point}");
    assert_eq!(stage.history_here(), before, "{point}");
}

/// A one-way handoff whose client is killed on the way out, or while it is collected.
async fn survives_one_way(point: &str, returning: bool) {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let session = stage.session.to_string();
    let mut send = vec!["send", BOX, "--one-way", "--session", &session];
    send.extend(["--message", "RULE say worked"]);
    if returning {
        stage.run(&send).await.exits(0);
        let exit = stage.job_directories()[0].join("exit");
        until("the job ends", || exit.exists()).await;
        dies(&stage, point, &["collect", "-"]).await;
    } else {
        dies(&stage, point, &send).await;
    }
    looked_after(&stage, point).await;
    let found = only(&stage).await;
    assert_eq!(
        launches(&stage),
        usize::from(found.was_launched()),
        "{point}"
    );
    if found.was_launched() && found.cleaned_ms.is_none() {
        stage.run(&["collect", "-", "--json"]).await.exits(0);
    }
    let ended = only(&stage).await;
    let new = grown(&before, &stage.history_here());
    if ended.was_launched() {
        assert_eq!((ended.state, new.len()), (State::Completed, 2), "{point}");
        assert_eq!(new[1].text(), "worked", "{point}");
    } else {
        assert_eq!((ended.state, new.len()), (State::Killed, 0), "{point}");
    }
}

/// A message whose teller is killed: heard once where the host had answered, at most once before that.
async fn survives_saying(point: &str) {
    let stage = Stage::new().await;
    let run = ["run", BOX, "--json", "RULE await go\nRULE say first"];
    stage.run(&run).await.exits(0);
    dies(&stage, point, &["say", "-", "RULE say second"]).await;
    stage.run(&["say", "-", "RULE say third"]).await.exits(0);
    std::fs::write(stage.there("go"), "").unwrap();
    looked_after(&stage, point).await;
    let there = sessions(&stage.there(".local/share"));
    let heard = times_said(&there, "second");
    match point {
        "say-given" => assert_eq!(heard, 1, "{point}"),
        _ => assert!(heard <= 1, "{point}: {heard}"),
    }
    assert_eq!(times_said(&there, "third"), 1, "{point}");
    stage.run(&["collect", "-", "--import"]).await.exits(0);
    assert!(only(&stage).await.cleaned_ms.is_some(), "{point}");
}

/// A clean-up of old jobs that is killed is finished by the next one, and takes nothing that it should not.
async fn survives_pruning(point: &str) {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let run = ["run", BOX, "--json", "RULE say worked"];
    stage.run(&run).await.exits(0);
    looked_after(&stage, point).await;
    let prune = ["prune", "--older-than", "0s", "--force", "--json"];
    dies(&stage, point, &prune).await;
    stage.run(&["sync", "--json"]).await.exits(0);
    stage.run(&prune).await.exits(0);
    assert!(stage.jobs().await.is_empty(), "{point}");
    assert_eq!(stage.job_directories().len(), 0, "{point}");
    assert_eq!(stage.history_here(), before, "{point}");
}

/// A look at a job, the search for it, its announcement, its burial or its second export is cut off, and the next
/// command finds what is so.
async fn survives_looking(point: &str) {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let session = stage.session.to_string();
    if point == "buried" {
        let message = "RULE say worked";
        let send = ["send", BOX, "--session", &session, "--message", message];
        dies(&stage, "launch-noted", &send).await;
        claimed_and_not_started(&stage);
        dies(&stage, point, &["sync"]).await;
        stage.run(&["sync"]).await.exits(0);
        assert!(only(&stage).await.state.is_ended(), "{point}");
        assert_eq!(launches(&stage), 0, "{point}");
        stage.send("Go on.").await.unwrap();
        return;
    }
    if point == "exported-again" {
        stage.settings_there("STANDIN_EXPORT=fail\n");
        stage.send("RULE say worked").await.unwrap_err();
        stage.settings_there("");
        dies(&stage, point, &["collect", "-"]).await;
        assert_eq!(stage.history_here(), before, "{point}");
        stage.run(&["collect", "-"]).await.exits(0);
        let new = grown(&before, &stage.history_here());
        assert_eq!((launches(&stage), new[1].text()), (1, "worked".to_owned()));
        return;
    }
    let told = stage.announces();
    let send = ["send", BOX, "--session", &session, "--message"];
    let send = [&send[..], &["RULE await go\nRULE say worked"]].concat();
    stage.run(&send).await.exits(0);
    let exit = stage.job_directories()[0].join("exit");
    let finish = async || {
        std::fs::write(stage.there("go"), "").unwrap();
        until("the job ends", || exit.exists()).await;
    };
    match point {
        "adopted" => {
            let store = stage.options().places.store_file();
            std::fs::remove_dir_all(store.parent().unwrap()).unwrap();
            dies(&stage, point, &["jobs", "--discover"]).await;
            stage.run(&["jobs", "--discover"]).await.exits(0);
            finish().await;
        }
        "found-noted" => {
            finish().await;
            dies(&stage, point, &["status", "-"]).await;
        }
        _ => {
            finish().await;
            dies(&stage, point, &["sync"]).await;
            assert_eq!(entries(&told).len(), 0, "{point}");
        }
    }
    for _ in 0..2 {
        stage.run(&["sync"]).await.exits(0);
    }
    let jobs = stage.jobs().await;
    assert_eq!(jobs.len(), 1, "{point}: {jobs:?}");
    assert_eq!(jobs[0].state, State::Completed, "{point}");
    // Never twice: what was claimed and not told stays untold.
    let expected = usize::from(point != "announcement-claimed");
    until("the announcement", || entries(&told).len() == expected).await;
    stage.run(&["collect", "-"]).await.exits(0);
    let new = grown(&before, &stage.history_here());
    assert_eq!((launches(&stage), new.len()), (1, 2), "{point}");
    assert_eq!(entries(&told).len(), expected, "{point}");
}

/// As where the host went down between the claim and the start of the runner.
fn claimed_and_not_started(stage: &Stage) {
    let claim = stage.job_directories()[0].join("claim");
    std::fs::create_dir(&claim).unwrap();
    std::fs::write(claim.join("nonce"), "0123456789abcdef0123456789abcdef\n").unwrap();
}

async fn survives(point: &str) {
    if LOOKING.contains(&point) {
        return survives_looking(point).await;
    }
    if SAYING.contains(&point) {
        return survives_saying(point).await;
    }
    if PRUNING.contains(&point) {
        return survives_pruning(point).await;
    }
    let stage = Stage::new().await;
    let before = stage.history_here();
    let session = stage.session.to_string();
    let mode = "--round-trip";
    let hangs = KILLING.contains(&point);
    let message = if hangs {
        "RULE say worked\nRULE hang"
    } else {
        "RULE say worked"
    };
    let send = [
        "send",
        BOX,
        mode,
        "--session",
        &session,
        "--message",
        message,
    ];
    if CLOSING.contains(&point) {
        dies(&stage, "send-uploaded", &send).await;
        dies(&stage, point, &["sync"]).await;
    } else if hangs {
        dies(&stage, "watch-running", &send).await;
        dies(&stage, point, &["kill", "-", "--grace", "1s"]).await;
    } else {
        dies(&stage, point, &send).await;
    }
    let record = only(&stage).await;
    let launched = launches(&stage);
    assert!(launched <= 1, "{point}");

    // Whoever looks next finds the truth, as often as it looks.
    for _ in 0..2 {
        stage.run(&["sync", "--json"]).await.exits(0);
    }
    let directories = stage.job_directories();
    if let Some(directory) = directories
        .first()
        .filter(|path| path.join("started").exists())
    {
        until("the job ends", || directory.join("exit").exists()).await;
        assert!(
            directory.join("back.json").exists(),
            "{point}: the result is kept"
        );
        stage.run(&["sync", "--json"]).await.exits(0);
    }
    let found = only(&stage).await;
    let back = found.collected_ms.is_some();
    if found.was_launched() && !back {
        let ran = stage.run(&["collect", "-", "--json"]).await;
        assert_eq!(ran.exits(0).document()["outcome"], "completed", "{point}");
    }
    let ended = only(&stage).await;
    assert!(ended.state.is_ended(), "{point}: {ended:?}");
    let after = stage.history_here();
    let new = grown(&before, &after);
    if ended.was_launched() {
        let expected = if hangs {
            State::Killed
        } else {
            State::Completed
        };
        assert_eq!(ended.state, expected, "{point}");
        assert_eq!((launches(&stage), new.len()), (1, 2), "{point}");
        assert_eq!(new[1].text(), "worked", "{point}");
    } else {
        assert_eq!(
            (ended.state, launches(&stage), new.len()),
            (State::Killed, 0, 0),
            "{point}"
        );
    }
    for left in stage.job_directories() {
        // Where the sender may not have got as far as making it, the tombstone stays in its way.
        assert!(left.join("claim/tombstone").exists(), "{point}");
        assert!(!left.join("session.json").exists(), "{point}");
    }
    assert!(ended.cleaned_ms.is_some(), "{point}: {record:?}, {ended:?}");
    // The session is free.
    let again = [
        "send",
        BOX,
        mode,
        "--session",
        &session,
        "--message",
        "RULE say again",
    ];
    stage.run(&again).await.exits(0);
    assert_eq!(grown(&after, &stage.history_here()).len(), 2, "{point}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_at_any_step_leaves_what_the_next_one_puts_right() {
    // Prefix of the environment's own choice, to look at one step.
    let only = std::env::var("HANDOVER_TEST_FAILPOINT").ok();
    let points = FAIL_POINTS
        .iter()
        .filter(|point| only.as_ref().is_none_or(|only| point.starts_with(only)));
    let tried: BTreeSet<&str> = futures::stream::iter(points)
        .map(|point| async move {
            survives(point).await;
            *point
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    if only.is_none() {
        assert_eq!(tried.len(), FAIL_POINTS.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spawned_and_a_one_way_job_survive_a_kill_on_the_way_out_and_back() {
    let only = std::env::var("HANDOVER_TEST_FAILPOINT").ok();
    let out = OUT.iter().map(|point| (*point, false));
    let all = out.chain(BACK.iter().map(|point| (*point, true)));
    let points = all.filter(|(point, _)| only.as_ref().is_none_or(|only| point.starts_with(only)));
    futures::stream::iter(points)
        .for_each_concurrent(AT_ONCE, |(point, returning)| async move {
            survives_spawned(point, returning).await;
            survives_one_way(point, returning).await;
        })
        .await;
}

/// A one-way handoff that ends on its host with nobody there.
async fn goes_and_ends(stage: &Stage) {
    let session = stage.session.to_string();
    let send = ["send", BOX, "--one-way", "--session", &session];
    let send = [&send[..], &["--message", "RULE say worked"]].concat();
    stage.run(&send).await.exits(0);
    let exit = stage.job_directories()[0].join("exit");
    until("the job ends", || exit.exists()).await;
}

#[tokio::test]
async fn a_clean_up_that_was_cut_after_the_session_was_forgotten_there_is_finished() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    goes_and_ends(&stage).await;
    dies(&stage, "cleaned-host", &["collect", "-", "--forget"]).await;
    assert!(!stage.is_there());
    let ran = stage.run(&["collect", "-"]).await.exits(0);
    assert!(!ran.err.contains("not deleted"), "{}", ran.err);
    assert!(only(&stage).await.cleaned_ms.is_some());
    let again = stage.run(&["collect", "-", "--json"]).await;
    again.exits(8).error("already_collected");
    assert_eq!(grown(&before, &stage.history_here()).len(), 2);
}

#[tokio::test]
async fn a_merge_of_what_another_machine_sent_is_finished_after_its_client_was_killed() {
    for point in ["return-imported", "return-after", "return-compared"] {
        let stage = Stage::new().await;
        let before = stage.history_here();
        goes_and_ends(&stage).await;
        // To this machine it is another's now.
        std::fs::remove_dir_all(stage.here("state")).unwrap();
        stage.run(&["jobs", "--discover"]).await.exits(0);
        dies(&stage, point, &["collect", "-", "--merge"]).await;
        let ran = stage.run(&["collect", "-", "--merge", "--json"]).await;
        assert_eq!(ran.exits(0).document()["outcome"], "completed", "{point}");
        let new = grown(&before, &stage.history_here());
        assert_eq!((new.len(), new[1].text()), (2, "worked".to_owned()));
        assert_eq!(only(&stage).await.state, State::Completed, "{point}");
    }
}

#[tokio::test]
async fn a_result_of_a_launch_that_nobody_saw_is_not_lost() {
    for finder in ["sync", "status", "wait"] {
        result_is_kept_by(finder).await;
    }
}

/// A handoff whose sender was killed at this step.
async fn sender_dies(point: &str) -> Stage {
    let stage = Stage::new().await;
    let session = stage.session.to_string();
    let message = "RULE say worked";
    let send = ["send", BOX, "--session", &session, "--message", message];
    dies(&stage, point, &send).await;
    stage
}

#[tokio::test]
async fn nobody_waits_for_a_job_whose_sender_died_before_the_launch() {
    for point in [
        "send-recorded",
        "send-placed",
        "send-uploaded",
        "launch-noted",
    ] {
        let stage = sender_dies(point).await;
        let before = only(&stage).await;
        stage.run(&["status", "-"]).await.exits(0);
        for verb in ["wait", "watch"] {
            let ran = stage.run(&[verb, "-", "--json"]).await.exits(9);
            let error = ran.error("never_started");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("did not start"), "{point}: {error}");
        }
        let found = only(&stage).await;
        assert_eq!(
            found.history, before.history,
            "{point}: it is only looked at"
        );
        stage.run(&["sync"]).await.exits(0);
        assert_eq!(only(&stage).await.state, State::Killed, "{point}");
        let ran = stage.run(&["wait", "-", "--json"]).await.exits(9);
        assert_eq!(ran.document()["state"], "killed", "{point}");
        assert_eq!(launches(&stage), 0, "{point}");
    }
}

#[tokio::test]
async fn nobody_waits_for_a_claimed_job_that_does_not_start() {
    let stage = sender_dies("launch-noted").await;
    claimed_and_not_started(&stage);
    let ran = stage.run(&["wait", "-", "--json"]).await.exits(9);
    ran.error("never_started");
    assert_eq!(only(&stage).await.state, State::Launching);
    stage.run(&["sync"]).await.exits(0);
    assert!(only(&stage).await.state.is_ended(), "its session is free");
}

async fn result_is_kept_by(finder: &str) {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let session = stage.session.to_string();
    let message = "RULE say bad\nRULE exit 7";
    let send = ["send", BOX, "--session", &session, "--message", message];
    dies(&stage, "launch-answered", &send).await;
    let exit = stage.job_directories()[0].join("exit");
    until("the job ends", || exit.exists()).await;
    match finder {
        "sync" => stage.run(&["sync"]).await.exits(0),
        _ => stage.run(&[finder, "-"]).await,
    };
    let found = only(&stage).await;
    assert_eq!(found.state, State::Failed, "{finder}");
    assert!(found.was_launched(), "{finder}: {found:?}");
    assert_eq!(found.exit_code, Some(7), "{finder}: {found:?}");
    assert!(found.error.is_some(), "{finder}: {found:?}");
    let jobs = stage.run(&["jobs", "--json"]).await.exits(0).document();
    assert_eq!(jobs[0]["state"], "failed", "{jobs}");
    let prune = ["prune", "--older-than", "0s", "--json"];
    let pruned = stage.run(&prune).await.exits(0).document();
    assert_eq!(pruned["jobs"][0]["done"], "kept_result", "{finder}");
    stage.run(&["collect", "-"]).await.exits(0);
    assert_eq!(grown(&before, &stage.history_here())[1].text(), "bad");
}
