//! What the command line says of mistakes, and of what is not there.

use handover::job::{JobId, JobRecord, Mode, State, Store};

use crate::support::{BOX, Ran, Stage, failing_program};

/// A job that failed because its host was not reached; it is not reached afterwards either.
async fn never_sent(stage: &Stage) -> JobId {
    stage.proxy.refuse();
    stage.run(&["run", BOX, "Go on."]).await.exits(4);
    let record = stage.jobs().await.remove(0);
    assert_eq!(record.state, State::Failed);
    record.id
}

#[tokio::test]
async fn the_newest_job_of_none_is_told_as_that() {
    let stage = Stage::new().await;
    for arguments in [
        &["collect", "-"][..],
        &["wait", "-"],
        &["status", "-"],
        &["logs", "-"],
        &["kill", "-"],
        &["say", "-", "hi"],
    ] {
        let ran = stage.run(arguments).await.exits(2);
        let said = "no job has been started from here yet";
        assert!(ran.err.contains(said), "{arguments:?}: {}", ran.err);
    }
    let ran = stage.run(&["collect", "-", "--for-model"]).await.exits(2);
    ran.error("no_such_job");
}

#[tokio::test]
async fn a_job_that_was_never_sent_is_told_as_that_without_a_connection() {
    let stage = Stage::new().await;
    let job = never_sent(&stage).await;
    let (job, cause) = (job.as_str(), stage.jobs().await.remove(0).error.unwrap());

    let ran = stage.run(&["kill", "-"]).await.exits(0);
    assert!(ran.err.contains("was never launched"), "{}", ran.err);
    let killed = stage.run(&["kill", "-", "--json"]).await.exits(0);
    assert_eq!(killed.document()["outcome"], "closed");
    assert_eq!(killed.document()["state"], "failed");

    let ran = stage.run(&["say", "-", "hi", "--json"]).await.exits(8);
    let error = ran.error("not_launched");
    assert!(error["message"].as_str().unwrap().contains("not launched"));
    assert!(error["hint"].as_str().unwrap().contains(job), "{error}");

    let error = stage
        .run(&["logs", "-", "--json"])
        .await
        .exits(8)
        .error("no_log");
    assert!(error["hint"].as_str().unwrap().contains(job), "{error}");
    let parent = ["kill", "-", "--parent=ses_1a", "--for-model"];
    let error = stage.run(&parent).await.exits(8).error("not_own_job");
    assert!(error["hint"].as_str().unwrap().contains(job), "{error}");

    let ran = stage.run(&["wait", "-"]).await.exits(9);
    assert!(ran.out.contains(&format!(": {cause}")), "{}", ran.out);
    let ran = stage.run(&["status", "-"]).await.exits(0);
    assert!(ran.out.contains("run, one-way"), "{}", ran.out);
    let ran = stage.run(&["jobs", "--all"]).await.exits(0);
    assert!(!ran.out.contains("spawn"), "{}", ran.out);
    let listed = stage.run(&["jobs", "--all", "--json"]).await.exits(0);
    assert_eq!(listed.document()[0]["kind"], "spawn");
}

#[tokio::test]
async fn an_unknown_host_is_told_how_one_is_defined() {
    let stage = Stage::new().await;
    let hint = async |stage: &Stage, host: &str| {
        let ran = stage.run(&["check", host, "--json"]).await.exits(3);
        ran.error("unknown_host")["hint"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let plain = hint(&stage, "me@192.0.2.1").await;
    assert!(plain.contains("a plain address is no host"), "{plain}");
    let mistyped = hint(&stage, "bux").await;
    assert!(mistyped.contains("handover hosts --all"), "{mistyped}");

    std::fs::remove_file(stage.here("config/hosts.toml")).unwrap();
    let none = hint(&stage, "bux").await;
    assert!(none.contains("[hosts.NAME]"), "{none}");
    let ran = stage.run(&["jobs", "--discover"]).await.exits(0);
    assert!(ran.err.contains("no hosts to look on"), "{}", ran.err);
}

#[tokio::test]
async fn a_host_that_was_not_reached_has_no_count() {
    let stage = Stage::new().await;
    stage.proxy.refuse();
    let ran = stage.run(&["jobs", "--discover"]).await.exits(4);
    assert!(!ran.err.contains("adopted"), "{}", ran.err);
}

#[tokio::test]
async fn jobs_are_filtered_by_what_the_column_shows() {
    let stage = Stage::new().await;
    let store = Store::open(&stage.options().places.store_file()).unwrap();
    let mut ids = Vec::new();
    for stalled in [None, Some(1)] {
        let host = BOX.parse().unwrap();
        let mut record = JobRecord::new(
            handover::job::JobKind::Spawn,
            host,
            None,
            Mode::OneWay,
            stage.here("project"),
        );
        record.attributes.stalled = stalled;
        store.insert(&record).await.unwrap();
        ids.push(record.id.to_string());
    }
    let listed = async |state: &str| {
        let ran = stage.run(&["jobs", "--json", "--state", state]).await;
        let jobs = ran.exits(0).document();
        let jobs = jobs.as_array().unwrap().iter();
        let mut ids: Vec<_> = jobs
            .map(|job| job["id"].as_str().unwrap().to_owned())
            .collect();
        ids.sort();
        ids
    };
    assert_eq!(listed("stalled").await, ids[1..]);
    assert!(listed("looping").await.is_empty());
    ids.sort();
    assert_eq!(listed("preparing,stalled").await, ids);
    let ran = stage.run(&["jobs", "--state", "stuck"]).await.exits(2);
    assert!(
        ran.err.contains("running") && ran.err.contains("stalled"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn an_agent_here_that_says_nothing_or_is_not_there_is_told_so() {
    let stage = Stage::new().await;
    let mut silent = stage.command(&["send", BOX]);
    let (program, status) = failing_program(&stage.here(""));
    silent.env("HANDOVER_OPENCODE", program);
    let ran = Ran::of(silent).await.exits(12);
    assert!(ran.err.contains(&format!("{status}\n")), "{}", ran.err);
    assert!(ran.err.contains("run that program by hand"), "{}", ran.err);

    let session = stage.session.to_string();
    let mut missing = stage.command(&["send", BOX, "--session", &session, "--json"]);
    missing.env("HANDOVER_OPENCODE", stage.here("nowhere/opencode"));
    Ran::of(missing)
        .await
        .exits(12)
        .error("local_agent_missing");
    assert!(stage.jobs().await.is_empty());
}

#[tokio::test]
async fn a_path_is_told_to_a_person_and_not_to_a_model() {
    let stage = Stage::new().await;
    let nowhere = stage.here("nowhere/x");
    let nowhere = nowhere.to_str().unwrap();
    let ran = stage.run(&["man", nowhere]).await.exits(1);
    assert!(ran.err.contains(nowhere), "{}", ran.err);
    let send = ["send", BOX, "--message-file", nowhere];
    let ran = stage.run(&send).await.exits(2);
    assert!(ran.err.contains(nowhere), "{}", ran.err);
    let ran = stage
        .run(&[&send[..], &["--for-model"]].concat())
        .await
        .exits(2);
    assert!(!ran.out.contains("nowhere"), "{}", ran.out);
    ran.error("usage");
}
