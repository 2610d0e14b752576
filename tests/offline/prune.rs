//! Removing what ended jobs have left.

use handover::job::{State, Store};
use serde_json::Value;

use crate::jobs::at_work;
use crate::proxy::Cut;
use crate::returns::ended_job;
use crate::support::{BOX, Stage, entries, grown, until};

async fn pruned(stage: &Stage, more: &[&str]) -> Value {
    let mut arguments = vec!["prune", "--older-than", "0s", "--json"];
    arguments.extend(more);
    stage.run(&arguments).await.exits(0).document()["jobs"].clone()
}

#[tokio::test]
async fn a_result_that_was_not_collected_is_kept_without_force() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let (job, directory) = ended_job(&stage).await;
    stage.run(&["sync"]).await.exits(0);
    assert_eq!(pruned(&stage, &[]).await[0]["done"], "kept_result");
    assert!(directory.join("back.json").exists());
    assert_eq!(
        pruned(&stage, &["--force", "--dry-run"]).await[0]["done"],
        "would_remove"
    );
    assert!(directory.join("back.json").exists());
    let done = pruned(&stage, &["--force"]).await;
    assert_eq!(
        (&done[0]["job"], &done[0]["done"]),
        (&job.as_str().into(), &"removed".into())
    );
    assert_eq!(stage.job_directories().len(), 0);
    assert_eq!(stage.jobs().await.len(), 0);
    assert_eq!(entries(&stage.here("state/jobs")).len(), 0);
    assert_eq!(stage.history_here(), before);
}

#[tokio::test]
async fn a_job_that_is_back_leaves_only_its_record_and_that_goes_when_it_is_old() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    stage.send("Go on.").await.unwrap();
    let none = stage.run(&["prune", "--json"]).await.exits(0).document();
    assert_eq!(none["jobs"], serde_json::json!([]), "it ended just now");
    assert_eq!(stage.jobs().await.len(), 1);
    // No host is needed for it.
    stage.proxy.refuse();
    assert_eq!(pruned(&stage, &[]).await[0]["done"], "removed");
    assert_eq!(stage.jobs().await.len(), 0);
    grown(&before, &stage.history_here());
}

#[tokio::test]
async fn a_job_that_cannot_be_seen_keeps_no_other_one() {
    let stage = Stage::new().await;
    let (unseen, directory) = ended_job(&stage).await;
    stage.run(&["collect", &unseen]).await.exits(0);
    assert!(!directory.exists(), "it is tidied up");
    let failing = "RULE exit 7";
    let mut jobs = Vec::new();
    for _ in 0..2 {
        let job = stage.run(&["run", BOX, "--json", failing]).await.document();
        let job = job["job"].as_str().or(job["error"]["job"].as_str());
        jobs.push(job.unwrap().to_owned());
    }
    let place = |job: &String| directory.with_file_name(job);
    for job in &jobs {
        until("the end", || place(job).join("exit").exists()).await;
    }
    stage.run(&["sync"]).await.exits(0);
    // The newest is looked at first.
    std::fs::rename(place(&jobs[1]), directory.with_file_name("elsewhere")).unwrap();
    std::fs::write(place(&jobs[1]), "").unwrap();
    let arguments = ["prune", "--older-than", "0s", "--json", "--force"];
    let pruned = stage.run(&arguments).await.document()["jobs"].clone();
    let done = |job: &String| {
        let jobs = pruned.as_array().unwrap();
        let of = jobs.iter().find(|pruned| pruned["job"] == job.as_str());
        of.unwrap()["done"].clone()
    };
    assert_eq!(
        (done(&jobs[0]), done(&jobs[1])),
        ("removed".into(), "kept_host".into())
    );
}

#[tokio::test]
async fn a_job_that_was_taken_for_lost_is_kept_while_its_result_is_there() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let (job, _) = ended_job(&stage).await;
    let store = Store::open(&stage.options().places.store_file()).unwrap();
    let mut record = store.list().await.unwrap().remove(0);
    record.enter(State::Lost);
    store.update(&mut record).await.unwrap();
    assert_eq!(pruned(&stage, &[]).await[0]["done"], "kept_result");
    stage.collect(&job).await.unwrap();
    grown(&before, &stage.history_here());
    assert_eq!(stage.job_directories().len(), 0);
}

#[tokio::test]
async fn a_live_job_is_never_pruned() {
    let stage = Stage::new().await;
    let (sending, _) = at_work(&stage).await;
    assert_eq!(pruned(&stage, &["--force"]).await, serde_json::json!([]));
    // A record that says it has ended while its runner lives.
    sending.killed().await;
    let store = Store::open(&stage.options().places.store_file()).unwrap();
    let mut record = store.list().await.unwrap().remove(0);
    record.enter(State::Failed);
    store.update(&mut record).await.unwrap();
    assert_eq!(pruned(&stage, &["--force"]).await[0]["done"], "kept_busy");
    assert_eq!(stage.job_directories().len(), 1);
}

#[tokio::test]
async fn a_host_that_is_not_reached_keeps_its_jobs() {
    let stage = Stage::new().await;
    let (_, _) = ended_job(&stage).await;
    stage.run(&["sync"]).await.exits(0);
    stage.proxy.refuse();
    stage.proxy.cut_all(Cut::Reset);
    let ran = stage
        .run(&["prune", "--older-than", "0s", "--force", "--json"])
        .await;
    let document = ran.exits(4).document();
    assert_eq!(document["jobs"][0]["done"], "kept_host");
    assert!(
        document["unreached"][0]["error"]["kind"].is_string(),
        "{document}"
    );
    assert_eq!(stage.jobs().await.len(), 1);
    stage.proxy.resume();
    assert_eq!(pruned(&stage, &["--force"]).await[0]["done"], "removed");
}

#[tokio::test]
async fn a_job_that_lived_on_a_host_that_is_gone_can_be_given_up() {
    let stage = Stage::new().await;
    let (sending, _) = at_work(&stage).await;
    let forget = ["--forget-host", "box", "--force"];
    assert_eq!(pruned(&stage, &forget).await[0]["done"], "kept_busy");
    sending.killed().await;
    assert_eq!(
        pruned(&stage, &["--forget-host", "box"]).await,
        serde_json::json!([])
    );
    assert_eq!(pruned(&stage, &forget).await[0]["done"], "forgotten");
    assert_eq!(stage.jobs().await.len(), 0);
}

#[tokio::test]
async fn the_jobs_of_a_host_that_is_gone_are_forgotten_when_that_is_asked_for() {
    let stage = Stage::new().await;
    let (_, directory) = ended_job(&stage).await;
    stage.run(&["sync"]).await.exits(0);
    let hosts = stage.here("config/hosts.toml");
    let configured = std::fs::read_to_string(&hosts).unwrap();
    std::fs::write(&hosts, "").unwrap();
    let ran = stage.run(&["prune", "--older-than", "0s", "--force"]).await;
    let ran = ran.exits(3);
    assert!(ran.err.contains("--forget-host box"), "{}", ran.err);
    let forget = ["--forget-host", "box"];
    assert_eq!(pruned(&stage, &forget).await[0]["done"], "kept_result");
    let other = ["prune", "--forget-host", "another", "--force"];
    let ran = stage.run(&other).await.exits(2);
    assert!(ran.err.contains("another"), "{}", ran.err);
    let dry = pruned(&stage, &["--forget-host", "box", "--force", "--dry-run"]).await;
    assert_eq!(dry[0]["done"], "would_remove");
    let done = pruned(&stage, &["--forget-host", "box", "--force"]).await;
    assert_eq!(done[0]["done"], "forgotten");
    assert_eq!(stage.jobs().await.len(), 0);
    assert_eq!(entries(&stage.here("state/jobs")).len(), 0);
    assert!(directory.join("back.json").exists(), "what is there stays");
    // Should the host come back, so does the job.
    std::fs::write(&hosts, configured).unwrap();
    stage.run(&["jobs", "--discover"]).await.exits(0);
    assert_eq!(stage.jobs().await.len(), 1);
}
