//! The store of records: damaged, lost, held by another process; what the hosts still know.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use handover::handoff::{Ending, HandoffError};
use handover::job::{JobKind, JobRecord, Mode, State, Store, StoreError};
use rusqlite::Connection;

use crate::jobs::{at_work, send};
use crate::returns::ended_job;
use crate::support::{BOX, Stage, announced, entries, grown, until};

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
    assert!(ran.err.contains("handover sync"), "{}", ran.err);
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
async fn a_job_whose_log_cannot_be_read_does_not_end_the_search() {
    let stage = Stage::new().await;
    let (job, directory) = ended_job(&stage).await;
    // Before the good one in the list.
    let odd = directory.with_file_name("j000000000-abcdef");
    copy(&directory, &odd);
    let about = std::fs::read_to_string(odd.join("job.json")).unwrap();
    let about = about.replace(&job, "j000000000-abcdef");
    std::fs::write(odd.join("job.json"), about).unwrap();
    std::fs::remove_file(odd.join("events.ndjson")).unwrap();
    std::fs::create_dir(odd.join("events.ndjson")).unwrap();
    std::fs::remove_dir_all(stage.here("state")).unwrap();
    let ran = stage.run(&["jobs", "--discover", "--json"]).await.exits(0);
    let host = &ran.document()["hosts"][0];
    assert_eq!(host["adopted"][0]["id"], job.as_str(), "{host}");
    assert_eq!(host["refused"][0]["name"], "j000000000-abcdef", "{host}");
}

/// Copies a job's directory.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in entries(from) {
        let copied = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            copy(&entry, &copied);
        } else if entry.is_file() {
            std::fs::copy(&entry, &copied).unwrap();
        }
    }
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
    let stage = Stage::new().await;
    let session = stage.session.to_string();
    let mut sending = stage.begin(&send(&session, "RULE say on\nRULE await go"));
    let job = sending.step("launch").await;
    sending.says("on").await;
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
    stage
        .run(&send(&session, "Go on."))
        .await
        .exits(8)
        .error("session_busy");
    std::fs::write(stage.there("go"), "").unwrap();
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
    let ours = Store::open(&store_file(&stage)).unwrap();
    // Read as live, and written back after others have seen the end.
    let mut stale = ours.find(&job).await.unwrap();
    assert!(stale.state.is_live());
    stage.run(&["sync"]).await.exits(0);
    let noted = ours.find(&job).await.unwrap();
    assert_eq!(noted.state, State::Completed);
    stale.enter(State::Running);
    ours.update(&mut stale).await.unwrap();
    assert_eq!(ours.find(&job).await.unwrap(), noted);
    assert_eq!(stale, noted);
}

#[tokio::test]
async fn a_damaged_record_hides_no_other_and_its_job_is_found_again() {
    let stage = Stage::new().await;
    let (bad, _) = ended_job(&stage).await;
    stage.run(&["sync"]).await.exits(0);
    let ran = stage.run(&["run", BOX, "--json", "RULE say done"]).await;
    let good = ran.exits(0).document()["job"].clone();
    let store = Connection::open(store_file(&stage)).unwrap();
    let damage = "UPDATE jobs SET record = '{' WHERE id = ?1";
    assert_eq!(store.execute(damage, [&bad]).unwrap(), 1);
    let ran = stage.run(&["jobs", "--all", "--json"]).await.exits(0);
    let jobs = ran.document();
    assert_eq!((jobs.as_array().unwrap().len(), &jobs[0]["id"]), (1, &good));
    assert!(
        ran.err.contains(&bad) && ran.err.contains("handover sync"),
        "{}",
        ran.err
    );
    let again = stage.run(&["jobs", "--all"]).await.exits(0);
    assert!(!again.err.contains("damaged"), "{}", again.err);
    let kept = "SELECT record FROM damaged_jobs WHERE id = ?1";
    let kept = || -> String { store.query_row(kept, [&bad], |row| row.get(0)).unwrap() };
    assert_eq!(kept(), "{");
    let synced = stage.run(&["sync", "--json"]).await.exits(0).document();
    assert_eq!(
        synced["hosts"][0]["found"],
        serde_json::json!([bad]),
        "{synced}"
    );
    assert_eq!(stage.jobs().await.len(), 2);
    assert_eq!(kept(), "{");
    // That was once, and for all hosts.
    stage.run(&["sync"]).await.exits(0);
    stage.proxy.refuse();
    stage.run(&["sync"]).await.exits(0);
    stage.proxy.resume();
    assert_eq!(stage.collect(&bad).await.unwrap().ending, Ending::Completed);
}

#[tokio::test]
async fn a_sync_finds_the_jobs_of_a_store_that_was_lost_on_every_host_in_the_end() {
    let stage = Stage::new().await;
    let (job, _) = ended_job(&stage).await;
    for log in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{log}", store_file(&stage).display()));
    }
    std::fs::write(store_file(&stage), "no database. ".repeat(300)).unwrap();
    // A host that is not reached is searched by a later one.
    stage.proxy.refuse();
    let document = stage.run(&["sync", "--json"]).await.exits(4).document();
    assert_eq!(document["hosts"][0]["reached"], false, "{document}");
    stage.proxy.resume();
    let ran = stage.run(&["sync"]).await.exits(0);
    assert!(
        ran.err.contains(&format!("found again: {job}")),
        "{}",
        ran.err
    );
    assert_eq!(stage.jobs().await[0].state, State::Completed);
}

#[tokio::test]
async fn a_job_that_was_found_again_has_its_terms_and_its_end_is_told_once() {
    let stage = Stage::new().await;
    let out = stage.announces();
    let mut run = vec!["run", BOX, "--json", "--inactivity=7m", "--kill-on-stall"];
    run.extend([
        "--loop-limit=5",
        "--kill-on-loop",
        "RULE say one\nRULE say two",
    ]);
    let ran = stage.run(&run).await.exits(0);
    let job = ran.document()["job"].as_str().unwrap().to_owned();
    stage.run(&["wait", &job]).await.exits(0);
    assert_eq!(entries(&out).len(), 1);
    let before = stage.jobs().await.remove(0);
    for log in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{log}", store_file(&stage).display()));
    }
    stage.run(&["jobs", "--discover"]).await.exits(0);
    stage.run(&["jobs", "--all"]).await.exits(0);
    assert_eq!(entries(&out).len(), 1, "it was told before");
    let found = stage.jobs().await.remove(0);
    assert_eq!(found.state, State::Completed);
    assert_eq!(
        (found.bounds, &found.prompt, found.forget),
        (before.bounds, &before.prompt, before.forget)
    );
    assert_eq!(found.bounds.loop_limit, 5);
}

#[tokio::test]
async fn a_session_that_is_not_back_yet_is_announced_as_done_and_one_that_is_followed_with_its_end()
{
    let stage = Stage::new().await;
    let out = stage.announces();
    let (sending, job) = at_work(&stage).await;
    sending.killed().await;
    let exit = stage.job_directories()[0].join("exit");
    until("the end of the job", || exit.exists()).await;
    // As a process holds it that follows the job, and has not seen the end yet.
    let lock = stage.here("state/jobs").join(format!("{job}.lock"));
    let lock = std::fs::File::options().append(true).open(lock).unwrap();
    lock.lock().unwrap();
    let status = stage.run(&["status", "--json", &job]).await.exits(0);
    assert_eq!(status.document()["state"], "returning");
    assert_eq!(entries(&out).len(), 0, "it is followed");
    drop(lock);
    stage.run(&["jobs"]).await.exits(0);
    let told = entries(&out);
    assert_eq!(told.len(), 1);
    let told = announced(&told[0]);
    assert_eq!(
        (told["id"].as_str(), told["state"].as_str()),
        (Some(job.as_str()), Some("completed"))
    );
    stage.run(&["collect", &job]).await.exits(0);
    assert_eq!(entries(&out).len(), 1);
}

#[tokio::test]
async fn a_host_has_no_say_in_which_session_can_be_handed_over() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let session = stage.session.to_string();
    // An agent that says that it works in a session of this machine.
    let event = serde_json::json!({
        "type": "text", "timestamp": 1, "sessionID": session, "part": { "text": "mine" }
    });
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = run ] && mkdir \"$HOME/forged\" 2>/dev/null; then echo '{event}'; fi\n\
         exec \"$HOME/.opencode/bin/opencode\" \"$@\"\n"
    );
    stage.program_there("forger", &script);
    stage.configure("opencode = \"~/forger\"");
    let prompt = "RULE await go\nRULE say done";
    let ran = stage.run(&["run", BOX, "--json", prompt]).await.exits(0);
    let job = ran.document()["job"].as_str().unwrap().to_owned();
    let log = stage.job_directories()[0].join("events.ndjson");
    until("the event", || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("mine"))
    })
    .await;
    let status = stage.run(&["status", "--json", &job]).await.exits(0);
    assert_eq!(status.document()["session"], session.as_str());
    // The session is handed over while that job lives.
    let moved = stage.run(&send(&session, "Go on.")).await.exits(0);
    assert_eq!(moved.document()["outcome"], "completed");
    grown(&before, &stage.history_here());
    // And that job is watched to its end while one of the session lives.
    let mut live = JobRecord::new(
        JobKind::Handoff,
        BOX.parse().unwrap(),
        Some(stage.session.clone()),
        Mode::OneWay,
        stage.here("project"),
    );
    live.enter(State::Running);
    let store = Store::open(&store_file(&stage)).unwrap();
    store.insert(&live).await.unwrap();
    let waiting = stage.begin(&["wait", "--json", &job]);
    std::fs::write(stage.there("go"), "").unwrap();
    let ended = waiting.ended().await.document();
    assert_eq!(ended["id"], job.as_str(), "{ended}");
    assert_ne!(ended["state"], "running");
}

#[tokio::test]
async fn a_launch_that_could_not_be_written_down_is_none() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let session = stage.session.to_string();
    let mut sending = stage.begin(&send(&session, "Go on."));
    sending.step("send").await;
    let holder = Connection::open(store_file(&stage)).unwrap();
    holder.busy_timeout(Duration::from_secs(5)).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    sending.step("launch").await;
    // The store is waited for, and given up; then the end is written down.
    tokio::time::sleep(Duration::from_secs(12)).await;
    holder.execute_batch("COMMIT").unwrap();
    let ran = sending.ended().await.exits(1);
    ran.error("store");
    assert!(ran.err.contains("nothing was"), "{}", ran.err);
    assert!(!ran.err.contains("keeps its part"), "{}", ran.err);
    assert!(!stage.is_there());
    assert_eq!(stage.job_directories().len(), 0);
    assert_eq!(stage.jobs().await[0].state, State::Failed);
    assert_eq!(stage.history_here(), before);
    stage.send("Go on.").await.unwrap();
}

#[tokio::test]
async fn a_log_that_is_longer_than_what_is_counted_is_said_to_be() {
    for spawned in [true, false] {
        let stage = Stage::new().await;
        let session = stage.session.to_string();
        let prompt = "RULE await go\nRULE say done";
        let mut arguments = vec!["run", BOX, "--json", prompt];
        if !spawned {
            arguments = send(&session, prompt);
            arguments.retain(|argument| *argument != "--round-trip");
            arguments.push("--one-way");
        }
        let ran = stage.run(&arguments).await.exits(0);
        let job = ran.document()["job"].as_str().unwrap().to_owned();
        let directory = stage.job_directories().remove(0);
        // Before the job ends and is counted.
        let mut log = std::fs::File::options()
            .append(true)
            .open(directory.join("events.ndjson"))
            .unwrap();
        let line = [&[b' '; 0xffff][..], b"\n"].concat();
        for _ in 0..(66 << 20) / line.len() {
            log.write_all(&line).unwrap();
        }
        std::fs::write(stage.there("go"), "").unwrap();
        until("the end", || directory.join("exit").exists()).await;
        stage.run(&["sync"]).await.exits(0);
        let status = stage.run(&["status", "--json", &job]).await.exits(0);
        let status = status.document();
        assert_eq!(
            (&status["state"], &status["usage_partial"]),
            (&"completed".into(), &true.into()),
            "{status}"
        );
        let person = stage.run(&["status", &job]).await.exits(0);
        assert!(person.out.contains("at least "), "{}", person.out);
        // Whoever collects it reads on.
        stage.run(&["collect", &job]).await.exits(0);
        let status = stage.run(&["status", "--json", &job]).await.exits(0);
        let status = status.document();
        assert_eq!(status["usage_partial"], false, "{status}");
    }
}
