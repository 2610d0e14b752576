//! What the watchdogs make of a job in each of its phases, after an outage, and when somebody attaches late.

use handover::job::{Attributes, JobRecord, State, Store};
use serde_json::Value;

use crate::proxy::Cut;
use crate::support::{BOX, Stage, bounded, grown, until};
use crate::sync::field;
use crate::wait::{shows, spawn, touch};

fn has(job: &Value, name: &str) -> bool {
    let attributes = job["attributes"].as_array().unwrap();
    attributes.iter().any(|attribute| attribute == name)
}

async fn only(stage: &Stage) -> JobRecord {
    stage.jobs().await.remove(0)
}

/// Waits until the record of the only job shows this; no host is asked.
async fn recorded(stage: &Stage, what: &str, mut holds: impl FnMut(&JobRecord) -> bool) {
    bounded(what, async {
        while !holds(&only(stage).await) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// A warning with these words.
fn warns(document: &Value, words: &str) -> bool {
    let message = document["message"].as_str().unwrap_or_default();
    document["event"] == "warning" && message.contains(words)
}

#[tokio::test]
async fn an_export_that_hangs_is_shown_as_stalled_by_everybody_and_ended_by_nobody() {
    let stage = Stage::new().await;
    stage.settings_there("STANDIN_EXPORT=sleep\nSTANDIN_SLEEP_SECONDS=600\n");
    let bounds = ["--inactivity=1s", "--kill-on-stall"];
    let job = spawn(&stage, &[&bounds[..], &["RULE say done"]].concat()).await;
    let directory = stage.job_directories().remove(0);
    let part = directory.join("back.json.part");
    until("the export", || part.exists()).await;

    let mut collecting = stage.begin(&["collect", "--json", &job]);
    collecting
        .document(|document| warns(document, "the export has not ended within 1s"))
        .await;
    recorded(&stage, "the stall", |job| job.attributes.stalled.is_some()).await;
    collecting.left().await;
    for _ in 0..2 {
        let status = stage.run(&["status", "--json", &job]).await.exits(0);
        assert!(has(&status.document(), "stalled"), "{}", status.out);
        assert_eq!(status.document()["state"], "running", "{}", status.out);
    }
    let mut watching = stage.begin(&["watch", "--json", &job]);
    let shown = watching.document(|_| true).await;
    assert!(has(&shown, "stalled"), "{shown}");
    stage.run(&["wait", "--timeout=2s", &job]).await.exits(10);
    assert!(!directory.join("kill").exists(), "nobody has ended it");

    stage.run_there("kill", &["-KILL", &field(&directory.join("agent"), "pid=")]);
    watching.document(|job| job["state"] == "failed").await;
    watching.ended().await;
    assert_eq!(only(&stage).await.attributes, Attributes::default());
    stage.settings_there("");
    let ran = stage.run(&["collect", "--json", &job]).await.exits(0);
    assert_eq!(ran.document()["text"], "done");
}

#[tokio::test]
async fn a_long_import_is_no_silence_of_the_agent() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let session = stage.session.to_string();
    stage.settings_there("STANDIN_IMPORT=sleep\nSTANDIN_SLEEP_SECONDS=12\n");
    let mut send = vec!["send", BOX, "--round-trip", "--json", "--session", &session];
    send.extend(["--inactivity=8s", "--kill-on-stall"]);
    send.extend(["--message", "RULE say done"]);
    let mut sending = stage.begin(&send);
    sending
        .document(|document| warns(document, "the import has not ended within 8s"))
        .await;
    let ran = sending.ended().await.exits(0);
    assert!(!ran.out.contains("said nothing"), "{}", ran.out);
    assert_eq!(grown(&before, &stage.history_here())[1].text(), "done");
}

#[tokio::test]
async fn attaching_makes_no_noise_of_a_silent_agent() {
    let stage = Stage::new().await;
    let job = spawn(
        &stage,
        &[
            "--inactivity=1s",
            "RULE say on\nRULE await go\nRULE say done",
        ],
    )
    .await;
    shows(&stage, &job, |status| has(status, "stalled")).await;
    let before = only(&stage).await;
    let mut collecting = stage.begin(&["collect", "--json", &job]);
    // What there was is told.
    collecting.says("on").await;
    let flights = stage.proxy.flights();
    until("a few looks", || stage.proxy.flights() > flights + 4).await;
    collecting.left().await;
    let after = only(&stage).await;
    assert_eq!(after.usage, before.usage);
    assert_eq!(after.attributes, before.attributes);
    let status = stage.run(&["status", "--json", &job]).await.exits(0);
    assert!(has(&status.document(), "stalled"), "{}", status.out);
    assert_eq!(only(&stage).await.usage, before.usage);
    touch(&stage, "go");
    let ran = stage.run(&["collect", "--json", &job]).await.exits(0);
    assert_eq!(ran.document()["text"], "done");
    assert_eq!(only(&stage).await.usage.tokens.output, 5, "counted once");
}

#[tokio::test]
async fn a_loop_that_the_agent_got_out_of_long_ago_ends_no_job() {
    let stage = Stage::new().await;
    // A border of every size in which a log is read falls into the run of equal calls.
    let message = "RULE await start\nRULE big 1030000\nRULE tool bash 100\nRULE tool grep 1\nRULE await go\n\
                   RULE say out of it";
    let bounds = ["--loop-limit=5", "--kill-on-loop"];
    let job = spawn(&stage, &[&bounds[..], &[message]].concat()).await;
    let directory = stage.job_directories().remove(0);
    touch(&stage, "start");
    let events = directory.join("events.ndjson");
    until("the agent gets out of it", || {
        let log = std::fs::read(&events).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(4096)..];
        String::from_utf8_lossy(tail).contains("\"grep\"")
    })
    .await;
    let mut collecting = stage.begin(&["collect", "--json", &job]);
    collecting
        .document(|document| document["agent"]["tool"] == "grep")
        .await;
    recorded(&stage, "the count", |job| job.usage.tool_calls == 101).await;
    assert!(!directory.join("kill").exists());
    touch(&stage, "go");
    let ran = collecting.ended().await.exits(0);
    let text = ran.document()["text"].as_str().unwrap().to_owned();
    assert!(
        text.contains("bash with the same input 100 times"),
        "{text:.200}"
    );
    assert!(text.ends_with("out of it"), "it was not ended");
}

#[tokio::test]
async fn a_host_that_answered_is_not_called_unreachable_any_more() {
    let stage = Stage::new().await;
    let job = spawn(&stage, &["RULE await go\nRULE say done"]).await;
    stage.proxy.refuse();
    stage.run(&["status", &job]).await.exits(0);
    assert!(only(&stage).await.attributes.unreachable.is_some());
    stage.proxy.resume();
    stage.run(&["sync"]).await.exits(0);
    let jobs = stage.run(&["jobs", "--json"]).await.exits(0).document();
    assert_eq!(jobs[0]["attributes"], Value::Array(Vec::new()), "{jobs}");
    assert_eq!(jobs[0]["state"], "running", "{jobs}");

    // Neither by whoever goes on watching.
    let mut watching = stage.begin(&["watch", "--json", &job]);
    watching.document(|_| true).await;
    stage.proxy.refuse();
    stage.proxy.cut_all(Cut::Reset);
    watching.document(|status| has(status, "unreachable")).await;
    stage.proxy.resume();
    watching
        .document(|status| !has(status, "unreachable"))
        .await;
    assert_eq!(only(&stage).await.attributes, Attributes::default());
    touch(&stage, "go");
    watching.ended().await.exits(0);
}

#[tokio::test]
async fn nothing_is_odd_about_a_job_whose_end_a_sync_has_found() {
    let stage = Stage::new().await;
    let session = stage.session.to_string();
    let message = "RULE say on\nRULE await go\nRULE say done";
    let mut send = vec!["send", BOX, "--round-trip", "--json", "--dir", "~/work"];
    send.extend([
        "--inactivity=1s",
        "--session",
        &session,
        "--message",
        message,
    ]);
    let mut sending = stage.begin(&send);
    sending.says("on").await;
    recorded(&stage, "the stall", |job| job.attributes.stalled.is_some()).await;
    sending.left().await;
    stage.proxy.refuse();
    stage.run(&["status", "-"]).await.exits(0);
    let odd = only(&stage).await.attributes.names();
    assert_eq!(odd, ["stalled", "unreachable"]);
    stage.proxy.resume();
    touch(&stage, "work/go");
    let exit = stage.job_directories()[0].join("exit");
    until("the job ends", || exit.exists()).await;
    stage.run(&["sync"]).await.exits(0);
    let found = only(&stage).await;
    assert_eq!(found.state, State::Returning);
    assert_eq!(found.attributes, Attributes::default());
}

#[tokio::test]
async fn whoever_meets_an_outage_says_so_in_the_record() {
    let stage = Stage::new().await;
    let session = stage.session.to_string();
    let message = "RULE say on\nRULE await go\nRULE say done";
    let mut send = vec!["send", BOX, "--round-trip", "--json", "--dir", "~/work"];
    send.extend(["--session", &session, "--message", message]);
    let mut sending = stage.begin(&send);
    sending.says("on").await;
    stage.proxy.refuse();
    stage.proxy.cut_all(Cut::Reset);
    let away = |job: &JobRecord| job.attributes.unreachable.is_some();
    recorded(&stage, "the outage", away).await;
    assert_eq!(only(&stage).await.state, State::Running);
    stage.proxy.resume();
    recorded(&stage, "the end of the outage", |job| !away(job)).await;
    sending.killed().await;

    stage.proxy.refuse();
    stage.run(&["sync"]).await.exits(4);
    assert!(away(&only(&stage).await), "sync");
    stage.proxy.resume();
    stage.run(&["sync"]).await.exits(0);
    assert!(!away(&only(&stage).await), "sync");
    stage.proxy.refuse();
    stage.run(&["collect", "-"]).await.exits(4);
    assert!(away(&only(&stage).await), "collect");
    stage.proxy.resume();
    touch(&stage, "work/go");
    stage.run(&["collect", "-"]).await.exits(0);
    assert_eq!(only(&stage).await.attributes, Attributes::default());
}

#[tokio::test]
async fn an_outage_is_nothing_to_a_job_that_somebody_else_has_ended() {
    let stage = Stage::new().await;
    let job = spawn(&stage, &["RULE await go\nRULE say done"]).await;
    stage.proxy.refuse();
    let mut watching = stage.begin(&["watch", "--json", &job]);
    watching.document(|status| has(status, "unreachable")).await;
    let store = Store::open(&stage.options().places.store_file()).unwrap();
    let id = only(&stage).await.id;
    let ended = store.amend(&id, |record| record.enter(State::Killed)).await;
    assert_eq!(ended.unwrap().attributes, Attributes::default());
    let ran = watching.ended().await;
    let last = ran.document();
    assert_eq!(last["state"], "killed", "{last}");
    assert_eq!(only(&stage).await.attributes, Attributes::default());
    touch(&stage, "go");
}
