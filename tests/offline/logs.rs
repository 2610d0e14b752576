//! What a job's agent prints, shown while it runs and afterwards.

use handover::handoff::Log;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

use crate::proxy::{Cut, Direction, Repeat};
use crate::support::{Ran, Stage, bounded, until};

/// Starts a job that says so many lines, then waits for the file `go`, then says the same again.
async fn talkative(stage: &Stage, lines: usize) -> String {
    let prompt = format!("RULE lines {lines}\nRULE await go\nRULE lines {lines}\nRULE say the end");
    let ran = stage.run(&["run", "box", "--json", &prompt]).await.exits(0);
    ran.document()["job"].as_str().unwrap().to_owned()
}

fn let_go(stage: &Stage) {
    std::fs::write(stage.there("go"), "").unwrap();
}

#[tokio::test]
async fn a_followed_log_is_whole_however_often_the_link_is_cut() {
    let stage = Stage::new().await;
    let job = talkative(&stage, 400).await;
    let follow = stage.command(&["logs", "--raw", "-f", &job]);
    let following = tokio::spawn(Ran::of(follow));
    // Every connection dies somewhere: in the handshake, in the login, in the middle of an answer.
    let cut = |bytes| {
        stage
            .proxy
            .cut_after(Direction::ToClient, bytes, Cut::Reset, Repeat::Once);
    };
    for (number, bytes) in (1..).zip([500, 2_000, 5_000, 3_500, 90_000, 4_000]) {
        cut(bytes);
        until("the cut", || stage.proxy.cuts() >= number).await;
    }
    cut(60_000);
    let_go(&stage);
    let ran = bounded("the log", following).await.unwrap().exits(0);
    let whole = std::fs::read(stage.job_directories()[0].join("events.ndjson")).unwrap();
    assert!(whole.len() > 100_000, "{}", whole.len());
    assert_eq!(ran.out.as_bytes(), whole);
}

#[tokio::test]
async fn the_log_is_there_after_the_end_until_the_files_are_gone() {
    let stage = Stage::new().await;
    let_go(&stage);
    let job = talkative(&stage, 2).await;
    let exit = stage.job_directories()[0].join("exit");
    until("the end", || exit.exists()).await;
    let ran = stage.run(&["logs", &job]).await.exits(0);
    let said: Vec<&str> = ran
        .out
        .lines()
        .filter_map(|line| line.strip_prefix("  agent: "))
        .collect();
    assert_eq!(said, ["line 1", "line 2", "line 1", "line 2", "the end"]);
    let ran = stage.run(&["logs", "--json", &job]).await.exits(0);
    let texts = |document: &Value| document["text"].as_str().map(str::to_owned);
    assert_eq!(ran.documents().iter().filter_map(texts).count(), 5);
    stage
        .run(&["collect", "--import", "--json", &job])
        .await
        .exits(0);
    let ran = stage.run(&["logs", "--json", &job]).await.exits(8);
    ran.error("no_log");
}

#[tokio::test]
async fn what_could_steer_a_terminal_is_escaped() {
    let stage = Stage::new().await;
    let prompt = "RULE noise\nRULE say \u{1b}]0;title\u{7}and\u{202e}more";
    let ran = stage.run(&["run", "box", "--json", prompt]).await.exits(0);
    let job = ran.document()["job"].as_str().unwrap().to_owned();
    let exit = stage.job_directories()[0].join("exit");
    until("the end", || exit.exists()).await;
    for arguments in [&["logs", &job][..], &["logs", "--stderr", &job]] {
        let ran = stage.run(arguments).await.exits(0);
        assert!(
            !ran.out.contains(['\u{1b}', '\u{7}', '\u{202e}']),
            "{:?}",
            ran.out
        );
        assert!(!ran.out.trim().is_empty());
    }
}

#[tokio::test]
async fn a_model_gets_a_bounded_end_of_the_events() {
    let stage = Stage::new().await;
    let_go(&stage);
    let job = talkative(&stage, 300).await;
    let exit = stage.job_directories()[0].join("exit");
    until("the end", || exit.exists()).await;
    let ran = stage.run(&["logs", "--for-model", &job]).await.exits(0);
    let events = ran.document()["events"].as_array().unwrap().clone();
    assert_eq!(events.len(), 40);
    assert_eq!(events[38]["text"], "the end");
    assert!(!ran.out.contains(&stage.named_there("")));
}

#[tokio::test]
async fn the_library_reads_from_any_byte_on() {
    let stage = Stage::new().await;
    let_go(&stage);
    let job = talkative(&stage, 5).await;
    let exit = stage.job_directories()[0].join("exit");
    until("the end", || exit.exists()).await;
    let whole = std::fs::read(stage.job_directories()[0].join("events.ndjson")).unwrap();
    let job = stage.client().all_jobs().get(&job).await.unwrap();
    let mut reader = job.logs(Log::Events, false).unwrap().from(100);
    let mut read = Vec::new();
    while let Some(bytes) = bounded("a piece", reader.next()).await.unwrap() {
        read.extend(bytes);
    }
    assert_eq!(read, whole[100..]);
    let mut events = job.events().unwrap();
    let mut count = 0;
    while bounded("an event", events.next()).await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 12);
}

#[tokio::test]
async fn random_bytes_on_both_outputs_disturb_nothing_and_reach_no_terminal() {
    for seed in 0..3 {
        let stage = Stage::new().await;
        let ran = stage
            .run(&["run", "box", "--json", "RULE say worked\nRULE await go"])
            .await
            .exits(0);
        let job = ran.document()["job"].as_str().unwrap().to_owned();
        let directory = stage.job_directories().remove(0);
        let events = directory.join("events.ndjson");
        until("the agent works", || {
            std::fs::read_to_string(&events).is_ok_and(|log| log.contains("worked"))
        })
        .await;
        // What an agent prints is appended to these files; the bytes of this seed are what it prints now.
        let mut random = SmallRng::seed_from_u64(seed);
        let mut bytes = vec![0; 40_000];
        for name in ["events.ndjson", "stderr.log"] {
            random.fill_bytes(&mut bytes);
            let path = directory.join(name);
            let mut file = std::fs::File::options().append(true).open(path).unwrap();
            std::io::Write::write_all(&mut file, &bytes).unwrap();
            std::io::Write::write_all(&mut file, b"\n").unwrap();
        }
        stage.run(&["status", &job]).await.exits(0);
        let_go(&stage);
        let exit = directory.join("exit");
        until("the end", || exit.exists()).await;
        for arguments in [
            &["logs", &job][..],
            &["logs", "--stderr", &job],
            &["logs", "--json", &job],
            &["logs", "--for-model", &job],
            &["status", &job],
            &["jobs", "--all"],
            &["collect", &job],
        ] {
            let ran = stage.run(arguments).await.exits(0);
            let shown = format!("{}{}", ran.out, ran.err);
            let steers =
                |character: char| character.is_control() && !['\n', '\t'].contains(&character);
            assert!(!shown.contains(steers), "{seed} {arguments:?}: {shown:?}");
        }
        let ran = stage.run(&["logs", "--json", &job]).await;
        let texts = ran.documents();
        assert!(
            texts.iter().any(|event| event["text"] == "worked"),
            "{seed}"
        );
    }
}
