//! The store of records: damaged, lost, held by another process; what the hosts still know.

use std::path::Path;
use std::time::Duration;

use handover::handoff::{Ending, HandoffError};
use handover::job::{State, Store, StoreError};
use rusqlite::Connection;

use crate::returns::ended_job;
use crate::support::{BOX, Stage, entries, grown};

fn store_file(stage: &Stage) -> std::path::PathBuf {
    stage.options().places.store_file()
}

/// The files beside the store that hold a damaged one.
fn set_aside(stage: &Stage) -> Vec<std::path::PathBuf> {
    let of_store = |path: &Path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("jobs.db.damaged-") && !name.ends_with("-wal") && !name.ends_with("-shm")
    };
    let mut found = entries(store_file(stage).parent().unwrap());
    found.retain(|path| of_store(path));
    found
}

#[tokio::test]
async fn a_damaged_store_is_set_aside_and_found_again_on_the_hosts() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let (job, _) = ended_job(&stage).await;
    let junk = "this is no database at all. ".repeat(300);
    for log in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{log}", store_file(&stage).display()));
    }
    std::fs::write(store_file(&stage), &junk).unwrap();
    let ran = stage.run(&["jobs", "--json"]).await.exits(0);
    assert_eq!(ran.document(), serde_json::json!([]));
    assert!(ran.err.contains("handover jobs --discover"), "{}", ran.err);
    let aside = set_aside(&stage);
    assert_eq!(aside.len(), 1);
    assert_eq!(
        std::fs::read_to_string(&aside[0]).unwrap(),
        junk,
        "it is kept as it was"
    );
    let found = stage
        .run(&["jobs", "--discover", "--json"])
        .await
        .exits(0)
        .document();
    assert_eq!(found["hosts"][0]["adopted"][0]["id"], job.as_str());
    assert_eq!(found["hosts"][0]["adopted"][0]["state"], "completed");
    let again = stage
        .run(&["jobs", "--discover", "--json"])
        .await
        .exits(0)
        .document();
    assert_eq!(
        (&again["hosts"][0]["known"], &again["hosts"][0]["adopted"]),
        (&1.into(), &serde_json::json!([]))
    );
    // What was sent is still known here, so it is brought back as ever.
    let outcome = stage.collect(&job).await.unwrap();
    assert_eq!(outcome.ending, Ending::Completed);
    assert_eq!(grown(&before, &stage.history_here())[1].text(), "worked");
    assert_eq!(stage.job_directories().len(), 0);
}

#[tokio::test]
async fn a_store_with_a_damaged_page_is_set_aside_by_one_of_many() {
    let stage = Stage::new().await;
    let (_, _) = ended_job(&stage).await;
    let file = store_file(&stage);
    Connection::open(&file)
        .unwrap()
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let page = 4096;
    for byte in &mut bytes[page..2 * page] {
        *byte ^= 0x5a;
    }
    std::fs::write(&file, bytes).unwrap();
    let runs = futures::future::join_all((0..4).map(|_| stage.run(&["jobs", "--json"]))).await;
    let mut warned = 0;
    for ran in runs {
        let ran = ran.exits(0);
        warned += usize::from(ran.err.contains("damaged"));
    }
    assert_eq!((warned, set_aside(&stage).len()), (1, 1));
    stage
        .run(&["jobs", "--host", BOX, "--discover"])
        .await
        .exits(0);
    assert_eq!(stage.jobs().await.len(), 1);
}

#[tokio::test]
async fn a_job_that_another_machine_sent_is_an_index_entry_and_its_files_stay() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let (job, directory) = ended_job(&stage).await;
    // To this machine it is another's now: nothing is known here of what was sent.
    std::fs::remove_dir_all(stage.here("state")).unwrap();
    let found = stage
        .run(&["jobs", "--discover", "--json"])
        .await
        .exits(0)
        .document();
    let adopted = &found["hosts"][0]["adopted"][0];
    assert_eq!(adopted["id"], job.as_str());
    assert!(adopted["sender"].is_string(), "{adopted}");
    let refused = stage.run(&["collect", &job, "--json"]).await.exits(8);
    refused.error("sent_elsewhere");
    assert_eq!(stage.history_here(), before);
    let outcome = stage
        .client()
        .collect(&job)
        .merge(true)
        .start()
        .outcome()
        .await
        .unwrap();
    assert_eq!(outcome.ending, Ending::Completed);
    let after = stage.history_here();
    assert_eq!(grown(&before, &after)[1].text(), "worked");
    assert!(
        directory.join("back.json").exists(),
        "the sender can still collect it"
    );
    // The sender collects it too, and then it is gone from the host: nothing is hurt.
    let _ = stage.collect(&job).await;
    assert_eq!(stage.history_here(), after);
}

#[cfg(unix)]
#[tokio::test]
async fn a_job_that_runs_is_adopted_running_and_one_whose_client_is_at_work_is_left_alone() {
    use crate::jobs::{at_work, send};

    let stage = Stage::new().await;
    let (sending, job) = at_work(&stage).await;
    let _ = std::fs::remove_file(store_file(&stage));
    for log in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{log}", store_file(&stage).display()));
    }
    let found = stage
        .run(&["jobs", "--discover", "--json"])
        .await
        .exits(0)
        .document();
    assert_eq!(found["hosts"][0]["adopted"], serde_json::json!([]));
    sending.killed().await;
    stage.run(&["jobs", "--discover"]).await.exits(0);
    let record = stage.jobs().await.remove(0);
    assert_eq!(
        (record.id.as_str(), record.state),
        (job.as_str(), State::Running)
    );
    let session = stage.session.to_string();
    stage
        .run(&send(&session, "Go on."))
        .await
        .exits(8)
        .error("session_busy");
    stage.run(&["collect", &job]).await.exits(0);
}

#[tokio::test]
async fn hostile_job_directories_are_left_alone_and_nothing_of_them_is_believed() {
    let stage = Stage::new().await;
    let (job, directory) = ended_job(&stage).await;
    let whole = std::fs::read_to_string(directory.join("job.json")).unwrap();
    let jobs = directory.parent().unwrap().to_owned();
    let plant = |name: &str, text: &str| {
        std::fs::create_dir(jobs.join(name)).unwrap();
        std::fs::copy(directory.join("run.sh"), jobs.join(name).join("run.sh")).unwrap();
        std::fs::copy(directory.join("started"), jobs.join(name).join("started")).unwrap();
        std::fs::write(jobs.join(name).join("job.json"), text).unwrap();
    };
    let other = |id: &str| whole.replace(&job, id);
    plant("j000000000-00000a", &whole);
    plant("j000000000-00000b", "{");
    plant("j000000000-00000c", &" ".repeat(100 << 10));
    plant(
        "j000000000-00000d",
        &other("j000000000-00000d").replace("ses_", "../../ses"),
    );
    plant(
        "j000000000-00000e",
        &other("j000000000-00000e").replace("\"protocol\": 1", "\"protocol\": 9"),
    );
    plant(
        "j000000000-00000f",
        &other("j000000000-00000f").replace("\"directory\": \"/", "\"directory\": \"relative/"),
    );
    let there = |name: &str| stage.named_there(&format!(".local/state/handover/jobs/{name}"));
    plant("odd", &whole);
    stage.run_there("mv", &[&there("odd"), &there("j$(touch x)\u{1b}[2J")]);
    stage.run_there("ln", &["-s", &job, &there("j000000000-000010")]);
    let ran = stage
        .run(&["jobs", "--host", BOX, "--discover"])
        .await
        .exits(0);
    assert!(
        !ran.err.contains('\u{1b}') && !ran.out.contains('\u{1b}'),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("0 jobs adopted, 1 known"), "{}", ran.err);
    assert_eq!(ran.err.matches("left alone").count(), 7, "{}", ran.err);
    assert_eq!(stage.jobs().await.len(), 1);
    assert!(stage.all_named("x").is_empty());
}

#[tokio::test]
async fn a_store_that_is_held_for_a_moment_is_waited_for() {
    let stage = Stage::new().await;
    let (job, _) = ended_job(&stage).await;
    let holder = Connection::open(store_file(&stage)).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let arguments = ["collect", &job, "--json"];
    let (released, ran) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            holder.execute_batch("COMMIT")
        },
        stage.run(&arguments)
    );
    released.unwrap();
    assert_eq!(ran.exits(0).document()["outcome"], "completed");
}

#[tokio::test]
async fn a_store_that_stays_held_is_an_error_that_says_so_and_the_result_stays() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let (job, directory) = ended_job(&stage).await;
    let holder = Connection::open(store_file(&stage)).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let failure = stage.collect(&job).await.unwrap_err();
    assert!(
        matches!(failure.error, HandoffError::Store(StoreError::Busy { .. })),
        "{failure:?}"
    );
    assert!(directory.join("back.json").exists());
    holder.execute_batch("COMMIT").unwrap();
    // Whether it got as far as the import or not, it is here once.
    stage.collect(&job).await.unwrap();
    assert_eq!(grown(&before, &stage.history_here()).len(), 2);
}

#[cfg(unix)]
#[tokio::test]
#[ignore = "needs root for a tmpfs"]
async fn a_full_disk_here_is_an_error_that_says_so_and_the_result_stays_on_the_host() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let (job, directory) = ended_job(&stage).await;
    let state = stage.here("state");
    let kept = stage.here("kept");
    std::fs::rename(&state, &kept).unwrap();
    std::fs::create_dir(&state).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs"])
        .arg(&state)
        .status();
    assert!(mounted.unwrap().success());
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(kept.join("."))
        .arg(&state)
        .status();
    assert!(copied.unwrap().success());
    let filler = state.join("filler");
    let _ = std::fs::write(&filler, vec![0; 2 << 20]);
    let failed = stage.run(&["collect", &job, "--json"]).await;
    let there = directory.join("back.json").exists();
    let unchanged = stage.history_here() == before;
    std::fs::remove_file(&filler).unwrap();
    let collected = stage.run(&["collect", &job, "--json"]).await;
    let unmounted = std::process::Command::new("umount")
        .arg("-l")
        .arg(&state)
        .status();
    assert!(unmounted.unwrap().success());
    assert!(failed.code != Some(0), "{failed:?}");
    assert!(there && unchanged);
    collected.exits(0);
    grown(&before, &stage.history_here());
}

#[tokio::test]
#[ignore = "needs root for a tmpfs"]
async fn a_full_disk_there_is_an_error_that_says_so_and_nothing_is_left() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    std::fs::create_dir_all(stage.there(".local/state/handover")).unwrap();
    let state = stage.named_there(".local/state/handover");
    let options = "size=1m,mode=700";
    stage.run_there("mount", &["-t", "tmpfs", "-o", options, "tmpfs", &state]);
    let session = stage.session.to_string();
    let person = stage.run(&["send", BOX, "--session", &session]).await;
    let script = ["send", BOX, "--session", &session, "--json"];
    let script = stage.run(&script).await;
    let (jobs, parts) = (
        stage.job_directories(),
        stage.all_named("session.json.part"),
    );
    stage.run_there("umount", &["-l", &state]);
    let person = person.exits(7);
    assert!(
        person.err.contains(BOX) && person.err.contains("free"),
        "{}",
        person.err
    );
    script.exits(7).error("disk_full");
    assert!(jobs.is_empty() && parts.is_empty(), "{jobs:?} {parts:?}");
    assert!(!stage.is_there());
    assert_eq!(stage.history_here(), before);
    // The session is free, and the host has room again.
    stage.send("Go on.").await.unwrap();
    grown(&before, &stage.history_here());
}

#[tokio::test]
async fn the_store_forgets_nothing_that_another_process_noted() {
    let stage = Stage::new().await;
    let (job, _) = ended_job(&stage).await;
    let store = Store::open(&store_file(&stage)).unwrap();
    stage.run(&["sync"]).await.exits(0);
    assert_eq!(store.find(&job).await.unwrap().state, State::Completed);
}
