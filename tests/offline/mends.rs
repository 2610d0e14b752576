//! Second attempts: what an earlier process left half done is finished, closed or refused by collecting it.

use std::time::Duration;

use handover::events::{Event, Step};
use handover::handoff::{Ending, HandoffError};
use handover::job::{JobRecord, Mode, State, Store};

use crate::jobs::{at_work, send};
use crate::proxy::Cut;
use crate::returns::ended_job;
use crate::support::{History, Machine, Stage, bounded, grown, until};

/// Puts a job's record back to where it was when its sender died in this state.
async fn rewind(stage: &Stage, state: State) -> JobRecord {
    let store = Store::open(&stage.options().places.store_file()).unwrap();
    let mut record = store.list().await.unwrap().remove(0);
    assert!(record.remote.is_some());
    record.history.truncate(1);
    record.state = State::Preparing;
    record.enter(state);
    let rewound = record.clone();
    let stored = store.amend(&record.id, move |stored| *stored = rewound);
    assert_eq!(stored.await.unwrap(), record);
    record
}

/// A handoff of the session is refused, for a job has it.
async fn is_taken(stage: &Stage) {
    let session = stage.session.to_string();
    let refused = stage.run(&send(&session, "Go on.")).await;
    refused.exits(8).error("session_busy");
}

/// The session can be handed over.
async fn is_free(stage: &Stage) {
    let session = stage.session.to_string();
    stage.run(&send(&session, "Go on.")).await.exits(0);
}

#[tokio::test]
async fn a_job_is_collected_from_a_host_whose_sftp_shows_another_tree() {
    let stage = Stage::jailed().await;
    let before = stage.history_here();
    let (job, _) = ended_job(&stage).await;
    let outcome = stage.collect(&job).await.unwrap();
    assert_eq!(outcome.ending, Ending::Completed);
    assert_eq!(grown(&before, &stage.history_here())[1].text(), "worked");
    assert_eq!(stage.job_directories().len(), 0);
}

#[tokio::test]
async fn a_detached_job_is_followed_where_sftp_shows_another_tree() {
    let stage = Stage::jailed().await;
    let before = stage.history_here();
    let (sending, job) = at_work(&stage).await;
    sending.left().await;
    let outcome = stage.collect(&job).await.unwrap();
    assert_eq!(outcome.ending, Ending::Completed);
    assert_eq!(grown(&before, &stage.history_here())[1].text(), "on\ndone");
    assert_eq!(stage.job_directories().len(), 0);
}

#[tokio::test]
async fn a_session_that_was_undone_here_meanwhile_is_left_alone_until_that_is_over() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let (job, directory) = ended_job(&stage).await;
    let file = History::file(&stage.here(".local/share"), &stage.session);
    let whole = std::fs::read_to_string(&file).unwrap();
    let message = &before.last_user().id;
    let mark = format!("\"info\": {{ \"revert\": {{\"messageID\": \"{message}\"}},");
    std::fs::write(&file, whole.replacen("\"info\": {", &mark, 1)).unwrap();
    let undone = stage.history_here();
    assert_eq!(undone.info["revert"]["messageID"], message.as_str());
    // Merging is no way around it: what came back would be deleted at the next prompt.
    for merge in [false, true] {
        let collection = stage.client().collect(&job).merge(merge).start();
        let failure = bounded("the collection", collection.outcome()).await;
        let error = failure.unwrap_err().error;
        assert!(
            matches!(&error, HandoffError::Reverted { message: at, .. } if at == message),
            "{error:?}"
        );
        assert_eq!(stage.history_here(), undone);
        assert!(directory.join("back.json").exists(), "the result is kept");
    }
    std::fs::write(&file, whole).unwrap();
    let outcome = stage.collect(&job).await.unwrap();
    assert_eq!(outcome.ending, Ending::Completed);
    assert_eq!(grown(&before, &stage.history_here())[1].text(), "worked");
}

/// A job that is back and was not tidied up is tidied up once, and nothing is brought back again.
async fn is_tidied_up(stage: &Stage, job: &str, forget: bool) {
    let after = stage.history_here();
    let record = stage.jobs().await.remove(0);
    assert!(record.collected_ms.is_some() && record.cleaned_ms.is_none());
    assert_eq!(stage.job_directories().len(), 1);
    let outcome = stage.collect(job).await.unwrap();
    assert_eq!(outcome.ending, Ending::Completed);
    assert_eq!(stage.job_directories().len(), 0);
    assert_eq!(stage.is_there(), !forget);
    let again = stage.run(&["collect", job, "--json"]).await;
    again.exits(8).error("already_collected");
    assert_eq!(stage.history_here(), after);
}

#[tokio::test]
async fn a_clean_up_that_the_network_cut_off_is_finished_by_collecting_again() {
    for forget in [false, true] {
        let stage = Stage::new().await;
        let before = stage.history_here();
        let (job, _) = ended_job(&stage).await;
        let mut running = stage.client().collect(&job).forget(forget).start();
        let mut warned = false;
        let work = async {
            while let Some(event) = running.next_event().await {
                match event {
                    // From here to the clean-up nothing is asked of the host.
                    Event::Step {
                        step: Step::Import, ..
                    } => stage.proxy.silence(),
                    Event::Step {
                        step: Step::Cleanup,
                        ..
                    } => {
                        stage.proxy.refuse();
                        stage.proxy.cut_all(Cut::Reset);
                    }
                    Event::Warning { message } => warned |= message.contains(&job),
                    _ => {}
                }
            }
            running.outcome().await
        };
        let outcome = bounded("the collection", work).await.unwrap();
        assert_eq!(outcome.ending, Ending::Completed);
        assert!(warned, "what is left is told");
        assert_eq!(grown(&before, &stage.history_here())[1].text(), "worked");
        assert!(stage.is_there());
        stage.proxy.resume();
        is_tidied_up(&stage, &job, forget).await;
    }
}

#[tokio::test]
async fn a_session_that_was_deleted_there_does_not_keep_a_clean_up_from_being_finished() {
    let stage = Stage::new().await;
    let (job, directory) = ended_job(&stage).await;
    let mut running = stage.client().collect(&job).forget(true).start();
    let work = async {
        while let Some(event) = running.next_event().await {
            match event {
                // The answer to the deletion is still on its way when the network goes.
                Event::Step {
                    step: Step::Import, ..
                } => stage.proxy.delay(Duration::from_secs(2)),
                Event::Step {
                    step: Step::Cleanup,
                    ..
                } => {
                    let noted = directory.join("forgotten");
                    until("the session is deleted", || noted.exists()).await;
                    stage.proxy.refuse();
                    stage.proxy.cut_all(Cut::Reset);
                }
                _ => {}
            }
        }
        running.outcome().await
    };
    let outcome = bounded("the collection", work).await.unwrap();
    assert_eq!(outcome.ending, Ending::Completed);
    assert!(!stage.is_there());
    stage.proxy.resume();
    is_tidied_up(&stage, &job, true).await;
}

#[tokio::test]
async fn a_clean_up_whose_process_was_killed_is_finished_by_collecting_again() {
    for forget in [false, true] {
        let stage = Stage::new().await;
        let before = stage.history_here();
        let session = stage.session.to_string();
        let mut arguments = send(&session, "RULE say done");
        if forget {
            arguments.push("--forget");
        }
        let mut sending = stage.begin(&arguments);
        let job = sending.step("import").await;
        stage.proxy.silence();
        sending.step("cleanup").await;
        sending.killed().await;
        stage.proxy.cut_all(Cut::Reset);
        stage.proxy.resume();
        assert_eq!(grown(&before, &stage.history_here())[1].text(), "done");
        is_tidied_up(&stage, &job, forget).await;
    }
}

#[tokio::test]
async fn a_job_that_was_not_launched_and_whose_directory_is_gone_is_closed() {
    for state in [State::Preparing, State::Launching] {
        let stage = Stage::new().await;
        let before = stage.history_here();
        let (_, directory) = ended_job(&stage).await;
        let record = rewind(&stage, state).await;
        stage.remove_job_there(&directory);
        is_taken(&stage).await;
        let outcome = stage.collect(&record.id).await.unwrap();
        assert_eq!(outcome.ending, Ending::Closed, "{state}");
        assert_eq!(stage.jobs().await[0].state, State::Killed);
        assert_eq!(stage.history_here(), before);
        assert_eq!(stage.job_directories().len(), 0);
        is_free(&stage).await;
    }
}

/// What there is when the host went down between the claim and the runner's first word.
async fn claimed_only(stage: &Stage) -> JobRecord {
    let (_, directory) = ended_job(stage).await;
    let record = rewind(stage, State::Launching).await;
    for name in ["started", "phase", "exit", "back.json", "events.ndjson"] {
        std::fs::remove_file(directory.join(name)).unwrap();
    }
    assert!(directory.join("claim/nonce").exists());
    record
}

#[tokio::test]
async fn a_claim_whose_runner_never_started_is_closed_by_a_kill_too() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let record = claimed_only(&stage).await;
    let ran = stage.run(&["kill", record.id.as_str(), "--json"]).await;
    assert_eq!(ran.exits(0).document()["outcome"], "closed");
    assert_eq!(stage.jobs().await[0].state, State::Killed);
    assert_eq!(stage.history_here(), before);
    assert_eq!(stage.job_directories().len(), 0);
    is_free(&stage).await;
}

#[tokio::test]
async fn a_claim_whose_runner_never_started_is_closed_after_a_while() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let record = claimed_only(&stage).await;
    is_taken(&stage).await;
    let outcome = stage.collect(&record.id).await.unwrap();
    assert_eq!(outcome.ending, Ending::Closed);
    assert_eq!(stage.jobs().await[0].state, State::Killed);
    assert_eq!(stage.history_here(), before);
    assert_eq!(stage.job_directories().len(), 0);
    is_free(&stage).await;
}

#[tokio::test]
async fn an_export_that_a_signal_to_the_runner_has_cut_is_made_again() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    stage.settings_there("STANDIN_EXPORT=sleep\nSTANDIN_SLEEP_SECONDS=60\n");
    let handoff = stage.round_trip("RULE say worked").mode(Mode::OneWay);
    let job = handoff.start().outcome().await.unwrap().job;
    let directory = stage.job_directories().remove(0);
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap_or_default();
    let process = |name: &str| {
        let first = read(name).lines().next().unwrap_or_default().to_owned();
        first.strip_prefix("pid=").unwrap_or_default().to_owned()
    };
    // The runner knows by then which process it is.
    until("the export", || {
        let command = Machine::processes().join(process("agent")).join("cmdline");
        let command = std::fs::read(command).unwrap_or_default();
        let mut words = command.split(|byte| *byte == 0);
        words.any(|word| word == b"export")
    })
    .await;
    let runner = process("started");
    // As of a host that shuts down.
    stage.run_there("kill", &["-TERM", &runner]);
    until("the job ends", || directory.join("exit").exists()).await;
    let exit = read("exit");
    assert!(
        exit.contains("phase=exporting\nreason=stopped\n") && exit.contains("size=\n"),
        "{exit}"
    );
    stage.settings_there("");
    let outcome = stage.collect(&job).await.unwrap();
    assert_eq!(outcome.ending, Ending::Completed);
    assert_eq!(grown(&before, &stage.history_here())[1].text(), "worked");
    // The session is back, and the job is what it was: one that was stopped.
    assert_eq!(stage.jobs().await[0].state, State::Failed);
}

#[tokio::test]
async fn a_host_that_cannot_answer_once_does_not_end_the_trip() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let (sending, _) = at_work(&stage).await;
    let directory = stage.job_directories().remove(0);
    let (script, whole) = (directory.join("run.sh"), directory.join("whole.sh"));
    std::fs::rename(&script, &whole).unwrap();
    // What is seen of a shell that gets no process any more, once.
    let cut = "printf '\\n%s begin\\n' \"$HANDOVER_FRAME\"\nmv -f whole.sh run.sh\nexit 2\n";
    std::fs::write(&script, cut).unwrap();
    // Back again, it asks for the time there.
    stage.proxy.cut_all(Cut::Reset);
    sending.ended().await.exits(0);
    assert!(!whole.exists(), "it was asked");
    assert_eq!(grown(&before, &stage.history_here())[1].text(), "on\ndone");
}

#[tokio::test]
async fn a_job_is_followed_by_one_process_at_a_time() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let (sending, job) = at_work(&stage).await;
    // The sender cannot see the end of the job, so it waits for as long as it lives.
    stage.proxy.silence();
    let error = stage
        .run(&["collect", &job, "--json"])
        .await
        .exits(8)
        .error("job_busy");
    assert_eq!(error["job"], job.as_str());
    assert_eq!(stage.history_here(), before);
    sending.killed().await;
    stage.proxy.cut_all(Cut::Reset);
    stage.proxy.resume();
    stage.run(&["collect", &job, "--json"]).await.exits(0);
    assert_eq!(grown(&before, &stage.history_here())[1].text(), "on\ndone");
}

#[tokio::test]
async fn a_message_that_came_without_one_of_its_parts_is_not_taken_for_back() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    stage.settings_here("STANDIN_IMPORT=drop-part\n");
    let failure = stage.send("RULE say one\nRULE say two").await.unwrap_err();
    assert!(
        matches!(
            failure.error,
            HandoffError::NotVerified {
                missing: 1,
                lost: 0,
                ..
            }
        ),
        "{failure:?}"
    );
    let job = failure.job.unwrap().to_string();
    assert!(stage.jobs().await[0].collected_ms.is_none());
    let result = stage.job_directories().remove(0).join("back.json");
    assert!(result.exists(), "the result is kept");
    let again = stage.run(&["collect", &job, "--json"]).await;
    again.exits(12).error("not_verified");
    stage.settings_here("");
    stage.run(&["collect", &job, "--json"]).await.exits(0);
    let new = grown(&before, &stage.history_here());
    assert_eq!(new[1].text(), "one\ntwo");
    assert_eq!(
        new[1].parts.len(),
        stage.history_there().messages[before.messages.len() + 1]
            .parts
            .len()
    );
    assert_eq!(stage.job_directories().len(), 0);
}

#[cfg(unix)]
#[tokio::test]
async fn a_collection_that_is_left_before_the_host_answers_ends_detached() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    // One job whose place on the host is known, and one of which nobody noted it.
    let (known, _) = ended_job(&stage).await;
    let session = stage.seed(&handover::demo::standin::Seed::default());
    stage.settings_here("STANDIN_EXPORT=sleep\nSTANDIN_SLEEP_SECONDS=20\n");
    let session = session.to_string();
    let mut sending = stage.begin(&send(&session, "Go on."));
    let unknown = sending.step("export").await;
    sending.killed().await;
    stage.settings_here("");
    let records = stage.jobs().await;
    assert!(records[0].remote.is_none() && records[1].remote.is_some());
    for job in [&known, &unknown] {
        stage.proxy.silence();
        let ran = stage
            .run(&["collect", job, "--json", "--timeout", "1s"])
            .await
            .exits(10);
        assert_eq!(ran.document()["outcome"], "detached");
        let mut collecting = stage.begin(&["collect", job, "--json"]);
        collecting.step("connect").await;
        collecting.signal("INT").await;
        let ran = collecting.ended().await.exits(10);
        assert_eq!(ran.document()["outcome"], "detached");
        assert_eq!(stage.jobs().await, records);
        stage.proxy.cut_all(Cut::Reset);
        stage.proxy.resume();
    }
    assert_eq!(stage.history_here(), before);
    let ran = stage.run(&["collect", &known, "--json"]).await.exits(0);
    assert_eq!(ran.document()["outcome"], "completed");
    let ran = stage.run(&["collect", &unknown, "--json"]).await.exits(0);
    assert_eq!(ran.document()["outcome"], "closed");
}
