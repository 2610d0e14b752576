//! The quick look at the hosts when jobs are listed.

use std::time::{Duration, Instant};

use handover::job::{JobId, JobRecord, State, Store};
use serde_json::Value;

use crate::jobs::at_work;
use crate::proxy::Proxy;
use crate::support::{BOX, Stage, bounded, until};

/// How much longer everything takes under Wine.
const SLOWNESS: u32 = if cfg!(windows) { 3 } else { 1 };

/// A job that runs with nobody following it.
async fn left_alone(stage: &Stage) -> JobRecord {
    let (sending, _) = at_work(stage).await;
    sending.killed().await;
    stage.jobs().await.remove(0)
}

/// Records a live job like this one on a host of this name.
async fn elsewhere(stage: &Stage, like: &JobRecord, host: &str) -> JobRecord {
    let store = Store::open(&stage.options().places.store_file()).unwrap();
    let mut job = like.clone();
    job.id = JobId::generate();
    job.session = Some(format!("ses_{host}").parse().unwrap());
    job.host = host.parse().unwrap();
    store.insert(&job).await.unwrap();
    job
}

/// Adds these lines to the hosts file.
fn define(stage: &Stage, more: &str) {
    let file = stage.here("config/hosts.toml");
    let hosts = std::fs::read_to_string(&file).unwrap();
    std::fs::write(file, format!("{hosts}\n{more}\n")).unwrap();
}

fn of<'a>(jobs: &'a Value, job: &JobId) -> &'a Value {
    let mut jobs = jobs.as_array().unwrap().iter();
    jobs.find(|listed| listed["id"] == job.as_str()).unwrap()
}

#[tokio::test]
async fn a_job_that_ended_is_listed_as_that_unless_no_host_is_to_be_asked() {
    let stage = Stage::new().await;
    let job = left_alone(&stage).await;
    let exit = stage.job_directories()[0].join("exit");
    until("the end of the job", || exit.exists()).await;
    let offline = stage.run(&["jobs", "--json", "--offline"]).await.exits(0);
    assert_eq!(of(&offline.document(), &job.id)["state"], "running");
    let person = stage.run(&["jobs", "--offline"]).await.exits(0);
    assert!(person.err.contains("as last seen"), "{}", person.err);
    // What the list is filtered by is what the job is by then.
    let running = stage.run(&["jobs", "--json", "--state=running"]).await;
    assert_eq!(running.exits(0).document(), serde_json::json!([]));
    let ran = stage.run(&["jobs", "--json"]).await.exits(0);
    assert_eq!(of(&ran.document(), &job.id)["state"], "returning");
    assert_eq!(ran.err, "");
    stage
        .run(&["jobs", "--offline", "--discover"])
        .await
        .exits(2);
}

#[tokio::test]
async fn a_silent_host_costs_the_list_no_more_than_its_bound_and_changes_no_state() {
    let stage = Stage::new().await;
    let job = left_alone(&stage).await;
    let exit = stage.job_directories()[0].join("exit");
    until("the end of the job", || exit.exists()).await;
    // Reached, and silent from then on; and not even that.
    let mut others = Vec::new();
    let mut proxies = Vec::new();
    for name in ["dumb", "dead"] {
        others.push(elsewhere(&stage, &job, name).await);
        let proxy = Proxy::start(stage.server.address()).await.unwrap();
        match name {
            "dumb" => proxy.silence(),
            _ => proxy.refuse(),
        }
        let port = proxy.address().port();
        define(
            &stage,
            &format!("[hosts.{name}]\nhost = \"demo@127.0.0.1\"\nport = {port}"),
        );
        proxies.push(proxy);
    }
    let began = Instant::now();
    let ran = stage.run(&["jobs", "--json"]).await.exits(0);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(3), "{took:?}: it is waited for");
    assert!(took < Duration::from_secs(8) * SLOWNESS, "{took:?}");
    let jobs = ran.document();
    assert_eq!(of(&jobs, &job.id)["state"], "returning");
    for other in &others {
        let listed = of(&jobs, &other.id);
        assert_eq!(
            (&listed["state"], &listed["attributes"]),
            (&"running".into(), &serde_json::json!(["unreachable"]))
        );
        let warned = format!("warning: {} was not looked at", other.host);
        assert!(ran.err.contains(&warned), "{}", ran.err);
    }
    let began = Instant::now();
    let some = ["jobs", "--json", "--host", BOX];
    let ran = stage.run(&some).await.exits(0);
    assert_eq!(ran.err, "", "the others are none of its business");
    assert!(began.elapsed() < Duration::from_secs(3) * SLOWNESS);
    // A model sees the same, and is told nothing of what a host met.
    let model = stage.run(&["jobs", "--for-model"]).await.exits(0);
    assert_eq!(model.document().as_array().unwrap().len(), 3);
    assert_eq!(model.err, "");
}

#[tokio::test]
async fn a_host_that_cannot_be_asked_at_all_keeps_the_others_from_nothing() {
    let stage = Stage::new().await;
    let job = left_alone(&stage).await;
    let exit = stage.job_directories()[0].join("exit");
    until("the end of the job", || exit.exists()).await;
    let gone = elsewhere(&stage, &job, "gone").await;
    let stranger = elsewhere(&stage, &job, "stranger").await;
    let port = stage.proxy.address().port();
    // Its key is on record under another name alone.
    define(
        &stage,
        &format!("[hosts.stranger]\nhost = \"demo@localhost\"\nport = {port}"),
    );
    let ran = stage.run(&["jobs", "--json"]).await.exits(0);
    let jobs = ran.document();
    assert_eq!(of(&jobs, &job.id)["state"], "returning");
    for other in [&gone, &stranger] {
        let listed = of(&jobs, &other.id);
        assert_eq!(
            (&listed["state"], &listed["attributes"]),
            (&"running".into(), &serde_json::json!([]))
        );
    }
    for words in [
        "gone was not looked at",
        "stranger was not looked at",
        "handover trust stranger",
    ] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
}

#[tokio::test]
async fn many_jobs_of_a_host_are_looked_at_over_one_connection() {
    let stage = Stage::new().await;
    for _ in 0..5 {
        stage.run(&["run", BOX, "RULE say done"]).await.exits(0);
    }
    for directory in stage.job_directories() {
        until("the ends", || directory.join("exit").exists()).await;
    }
    // A slow machine may not answer for all of them in time: each look goes on where the last one ended.
    let jobs = bounded("the looks", async {
        loop {
            let before = stage.proxy.connections();
            let jobs = stage.run(&["jobs", "--json"]).await.exits(0).document();
            assert_eq!(stage.proxy.connections() - before, 1);
            let mut listed = jobs.as_array().unwrap().iter();
            if listed.all(|job| job["state"] == "completed") {
                return jobs;
            }
        }
    })
    .await;
    assert_eq!(jobs.as_array().unwrap().len(), 5);
    for job in jobs.as_array().unwrap() {
        assert_eq!(job["result"], "done");
    }
    let order: Vec<_> = stage
        .jobs()
        .await
        .into_iter()
        .map(|job| job.id.to_string())
        .collect();
    let listed: Vec<_> = jobs
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["id"].clone())
        .collect();
    assert_eq!(listed, order, "newest first");
    // Nothing is left to be asked.
    stage.proxy.refuse();
    let again = stage.run(&["jobs", "--json"]).await.exits(0);
    assert_eq!((again.document(), again.err.as_str()), (jobs, ""));
    assert_eq!(stage.jobs().await[0].state, State::Completed);
}
