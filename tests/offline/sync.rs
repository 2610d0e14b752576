//! Reconciling with the hosts: what every end, half-done launch and silent host turns into.

use handover::job::{JobRecord, Mode, State, Store};
use serde_json::Value;

use crate::jobs::{at_work, send};
use crate::proxy::Cut;
use crate::returns::ended_job;
use crate::support::{BOX, Stage, grown, until};

/// Runs `handover sync --json`; gives what it says of the only job.
async fn synced(stage: &Stage) -> Value {
    let document = stage.run(&["sync", "--json"]).await.exits(0).document();
    document["hosts"][0]["jobs"][0].clone()
}

async fn only(stage: &Stage) -> JobRecord {
    stage.jobs().await.remove(0)
}

#[tokio::test]
async fn a_job_that_ended_while_nobody_looked_is_known_after_a_sync_and_collected_later() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let (sending, job) = at_work(&stage).await;
    sending.killed().await;
    assert_eq!(only(&stage).await.state, State::Running);
    let exit = stage.job_directories()[0].join("exit");
    until("the job ends", || exit.exists()).await;
    let found = synced(&stage).await;
    assert_eq!(
        (&found["before"], &found["state"]),
        (&"running".into(), &"returning".into())
    );
    assert_eq!(
        (&found["job"], &found["to_collect"]),
        (&Value::from(job.as_str()), &true.into())
    );
    stage.run(&["collect", &job]).await.exits(0);
    assert_eq!(grown(&before, &stage.history_here())[1].text(), "on\ndone");
    let nothing = stage.run(&["sync"]).await.exits(0);
    assert!(
        nothing.err.contains("no unfinished jobs"),
        "{}",
        nothing.err
    );
}

#[tokio::test]
async fn a_one_way_job_that_ended_is_completed_after_a_sync() {
    let stage = Stage::new().await;
    let (_, _) = ended_job(&stage).await;
    stage.run(&["sync"]).await.exits(0);
    assert_eq!(only(&stage).await.state, State::Completed);
}

#[tokio::test]
async fn a_job_that_runs_is_found_running_and_one_that_is_followed_is_left_alone() {
    let stage = Stage::new().await;
    let (sending, _) = at_work(&stage).await;
    let found = synced(&stage).await;
    assert_eq!(found["followed"], true);
    sending.killed().await;
    let found = synced(&stage).await;
    assert_eq!(
        (&found["followed"], &found["state"]),
        (&false.into(), &"running".into())
    );
}

#[tokio::test]
async fn a_job_that_was_recorded_and_never_launched_is_closed_and_its_session_is_free() {
    for step in ["export", "probe"] {
        let stage = Stage::new().await;
        let before = stage.history_here();
        let session = stage.session.to_string();
        stage.settings_here("STANDIN_EXPORT=sleep\nSTANDIN_SLEEP_SECONDS=20\n");
        let mut sending = stage.begin(&send(&session, "Go on."));
        sending.step(step).await;
        sending.killed().await;
        stage.settings_here("");
        let found = synced(&stage).await;
        assert_eq!(found["state"], "killed", "{step}: {found}");
        assert_eq!(stage.history_here(), before);
        assert!(!stage.is_there());
        stage.send("Go on.").await.unwrap();
        grown(&before, &stage.history_here());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_slow_client_cannot_launch_what_was_closed() {
    let stage = Stage::new().await;
    let session = stage.session.to_string();
    let mut sending = stage.begin(&send(&session, "Go on."));
    let job = sending.step("send").await;
    // The client stands still, as one on a suspended machine does, and its lock is lost with the state directory's
    // file system: another one takes the job for dead.
    sending.signal("STOP").await;
    let lock = stage.here("state/jobs").join(format!("{job}.lock"));
    std::fs::remove_file(lock).unwrap();
    let found = synced(&stage).await;
    sending.signal("CONT").await;
    let ran = sending.ended().await;
    if found["state"] == "killed" {
        assert!(ran.code != Some(0), "{ran:?}");
        assert!(!stage.is_there(), "nothing was launched");
    }
    assert!(stage.history_here().launches() <= 1);
}

#[tokio::test]
async fn a_host_that_is_not_reached_changes_nothing_and_the_others_are_looked_at() {
    let stage = Stage::new().await;
    let (sending, _) = at_work(&stage).await;
    sending.killed().await;
    // A second job on a host that nothing listens on any more.
    let store = Store::open(&stage.options().places.store_file()).unwrap();
    let mut gone = only(&stage).await;
    gone.id = handover::job::JobId::generate();
    gone.session = Some("ses_other".parse().unwrap());
    gone.host = "gone".parse().unwrap();
    store.insert(&gone).await.unwrap();
    let hosts = std::fs::read_to_string(stage.here("config/hosts.toml")).unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let more = format!(
        "{hosts}\n[hosts.gone]\nhost = \"demo@127.0.0.1\"\nport = {}\n",
        closed.port()
    );
    std::fs::write(stage.here("config/hosts.toml"), more).unwrap();
    let ran = stage.run(&["sync", "--json"]).await.exits(4);
    let document = ran.document();
    let of = |name: &str| {
        let hosts = document["hosts"].as_array().unwrap();
        hosts
            .iter()
            .find(|host| host["host"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(of("gone")["reached"], false);
    assert_eq!(of("gone")["error"]["kind"], "refused");
    assert_eq!(of(BOX)["jobs"][0]["followed"], false);
    assert!(of(BOX)["error"].is_null(), "{document}");
    let found = store.find(gone.id.as_str()).await.unwrap();
    assert_eq!(found.attributes.names(), ["unreachable"]);
    let attributes = gone.attributes;
    assert_eq!(
        handover::job::JobRecord {
            attributes,
            ..found
        },
        gone
    );
    let ran = stage.run(&["sync", BOX]).await.exits(0);
    assert!(!ran.err.contains("gone"), "{}", ran.err);
    stage
        .run(&["sync", "nowhere", "--json"])
        .await
        .exits(3)
        .error("unknown_host");
}

#[tokio::test]
async fn a_job_that_cannot_be_seen_just_now_is_not_lost_and_keeps_its_session() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let (sending, job) = at_work(&stage).await;
    sending.killed().await;
    let state = stage.job_directories()[0]
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned();
    let elsewhere = state.with_file_name("elsewhere");
    // As where its file system is not mounted.
    std::fs::rename(&state, &elsewhere).unwrap();
    let jobs = stage.run(&["jobs", "--json"]).await.exits(0);
    assert!(jobs.err.contains("cannot be seen"), "{}", jobs.err);
    assert_eq!(jobs.document()[0]["state"], "running");
    let synced = stage.run(&["sync", "--json"]).await;
    let synced = synced.document()["hosts"][0]["jobs"][0].clone();
    assert_eq!(
        (&synced["state"], &synced["error"]["kind"]),
        (&"running".into(), &"job_away".into())
    );
    let session = stage.session.to_string();
    let sent = stage.run(&send(&session, "Go on.")).await;
    sent.exits(8).error("session_busy");
    let collected = stage.run(&["collect", &job, "--json"]).await;
    let error = collected.exits(4).error("job_away");
    assert_eq!(error["job"], job.as_str());
    assert_eq!(only(&stage).await.state, State::Running);
    std::fs::rename(&elsewhere, &state).unwrap();
    stage.run(&["collect", &job]).await.exits(0);
    assert_eq!(grown(&before, &stage.history_here())[1].text(), "on\ndone");
}

#[tokio::test]
async fn what_was_brought_back_and_not_tidied_up_is_tidied_up() {
    let stage = Stage::new().await;
    let (job, _) = ended_job(&stage).await;
    let mut collecting = stage.begin(&["collect", &job, "--json"]);
    collecting.step("import").await;
    stage.proxy.silence();
    collecting.step("cleanup").await;
    collecting.killed().await;
    stage.proxy.cut_all(Cut::Reset);
    stage.proxy.resume();
    let after = stage.history_here();
    assert_eq!(stage.job_directories().len(), 1);
    synced(&stage).await;
    assert_eq!(stage.job_directories().len(), 0);
    assert!(only(&stage).await.cleaned_ms.is_some());
    assert_eq!(stage.history_here(), after);
}

#[tokio::test]
async fn an_agent_that_ended_badly_or_was_killed_by_the_system_is_failed_and_still_collected() {
    for (message, code) in [
        ("RULE say bad\nRULE exit 7", 7),
        ("RULE say bad\nRULE exit 137", 137),
    ] {
        let stage = Stage::new().await;
        let before = stage.history_here();
        let handoff = stage.round_trip(message).mode(Mode::OneWay);
        let job = handoff.start().outcome().await;
        let job = match job {
            Ok(outcome) => outcome.job,
            Err(failure) => failure.job.unwrap(),
        };
        let exit = stage.job_directories()[0].join("exit");
        until("the job ends", || exit.exists()).await;
        stage.run(&["sync"]).await.exits(0);
        assert_eq!(only(&stage).await.state, State::Failed);
        let outcome = stage.collect(&job).await.unwrap();
        assert_eq!(outcome.trip.unwrap().agent_exit, Some(code));
        assert_eq!(grown(&before, &stage.history_here())[1].text(), "bad");
        assert_eq!(only(&stage).await.state, State::Failed);
    }
}

/// The value of a key in one of the runner's files.
pub(crate) fn field(file: &std::path::Path, key: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let found = text.lines().find_map(|line| line.strip_prefix(key));
    found.unwrap_or_default().to_owned()
}

#[tokio::test]
async fn an_agent_that_the_system_killed_is_failed_with_its_signal_and_what_it_did_is_collected() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let (sending, job) = at_work(&stage).await;
    let agent = stage.job_directories()[0].join("agent");
    stage.run_there("kill", &["-KILL", &field(&agent, "pid=")]);
    let error = sending.ended().await.exits(9).error("remote_failed");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("signal 9"), "{message}");
    assert_eq!(only(&stage).await.state, State::Failed);
    stage.run(&["collect", &job]).await.exits(0);
    assert_eq!(grown(&before, &stage.history_here())[1].text(), "on");
}

#[tokio::test]
async fn a_job_of_an_earlier_boot_is_lost_and_its_files_are_kept() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let (sending, job) = at_work(&stage).await;
    sending.killed().await;
    let directory = stage.job_directories().remove(0);
    let started = directory.join("started");
    let boot = field(&started, "boot=");
    // A container that was restarted has the boot id of before, and another start time of its process 1.
    let (id, _) = boot.split_once(':').unwrap();
    let whole = std::fs::read_to_string(&started).unwrap();
    std::fs::write(&started, whole.replace(&boot, &format!("{id}:1"))).unwrap();
    let found = synced(&stage).await;
    assert_eq!(found["state"], "lost", "{found}");
    assert!(
        found["error"]["message"]
            .as_str()
            .unwrap()
            .contains("restarted"),
        "{found}"
    );
    assert_eq!(only(&stage).await.state, State::Lost);
    assert!(
        directory.join("events.ndjson").exists(),
        "what there is is kept"
    );
    assert_eq!(stage.history_here(), before);
    let ran = stage.run(&["kill", &job, "--json"]).await.exits(9);
    ran.error("vanished");
    stage.send("Go on.").await.unwrap();
}

#[tokio::test]
async fn a_half_written_result_is_never_taken_for_one() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    stage.settings_there("STANDIN_EXPORT=sleep\nSTANDIN_SLEEP_SECONDS=60\n");
    let handoff = stage.round_trip("RULE say worked").mode(Mode::OneWay);
    let job = handoff.start().outcome().await.unwrap().job.to_string();
    let directory = stage.job_directories().remove(0);
    let part = directory.join("back.json.part");
    until("the export", || part.exists()).await;
    std::fs::write(&part, "{\"info\":{},\"messages\":[").unwrap();
    // Whoever takes the runner's place exports anew.
    stage.settings_there("");
    let runner = directory.join("started");
    stage.run_there("kill", &["-KILL", &field(&runner, "pid=")]);
    until("the end", || directory.join("exit").exists()).await;
    let found = synced(&stage).await;
    assert_eq!(found["state"], "failed", "{found}");
    assert_eq!(stage.history_here(), before);
    stage.run(&["collect", &job, "--json"]).await.exits(0);
    assert_eq!(grown(&before, &stage.history_here())[1].text(), "worked");
}
