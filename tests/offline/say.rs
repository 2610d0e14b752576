//! Follow-up messages: taken in order, once, or refused.

use std::time::Duration;

use handover::handoff::HandoffError;

use crate::jobs::send;
use crate::proxy::{Cut, Direction, Repeat};
use crate::support::{Ran, Stage, bounded, until};

/// How many delays are tried at least, and at most where not both ends were seen by then.
const FEWEST_DELAYS: u64 = 14;
const MOST_DELAYS: u64 = 60;

/// Starts a job whose first turn waits for the file `go`.
async fn waiting(stage: &Stage) -> String {
    let prompt = "RULE await go\nRULE say first";
    let ran = stage.run(&["run", "box", "--json", prompt]).await.exits(0);
    ran.document()["job"].as_str().unwrap().to_owned()
}

fn let_go(stage: &Stage) {
    std::fs::write(stage.there("go"), "").unwrap();
}

/// What the agent there has said, in order.
async fn said(stage: &Stage, job: &str) -> Vec<String> {
    let ran = stage.run(&["logs", "-f", "--json", job]).await.exits(0);
    ran.documents()
        .iter()
        .filter_map(|event| event["text"].as_str().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn messages_reach_the_running_agent_in_their_order() {
    let stage = Stage::new().await;
    let job = waiting(&stage).await;
    for text in ["RULE say second", "RULE say third"] {
        stage.run(&["say", &job, text]).await.exits(0);
    }
    let fed = stage.command(&["say", "-", "-", "--json"]);
    let told = Ran::fed(fed, "RULE say fo\u{fc}rth\nwith a second line").await;
    assert_eq!(told.exits(0).document()["said"], true);
    let_go(&stage);
    assert_eq!(
        said(&stage, &job).await,
        ["first", "second", "third", "fo\u{fc}rth"]
    );
    // All in one session, and nothing is left unread.
    let status = stage.run(&["status", "--json", &job]).await.exits(0);
    assert_eq!(status.document()["undelivered"], 0);
    assert_eq!(status.document()["state"], "completed");
    let refused = stage
        .run(&["say", &job, "too late", "--json"])
        .await
        .exits(8);
    let error = refused.error("inbox_closed");
    assert!(error["hint"].as_str().unwrap().contains("handover run"));
}

#[tokio::test]
async fn a_message_is_taken_once_although_the_answer_was_lost() {
    let stage = Stage::new().await;
    let job = waiting(&stage).await;
    for (number, bytes) in (0_u64..).zip([200, 3_500, 4_500, 5_500, 6_500, 7_500, 9_000]) {
        stage
            .proxy
            .cut_after(Direction::ToClient, bytes, Cut::Reset, Repeat::Once);
        let text = format!("RULE say message {number}");
        let client = stage.client();
        let job = client.all_jobs().get(&job).await.unwrap();
        // A first connection that dies in its handshake was no connection: that one is an error, and nothing is said.
        if bounded("the message", job.say(&text)).await.is_err() {
            bounded("the message", job.say(&text)).await.unwrap();
        }
    }
    let_go(&stage);
    let said = said(&stage, &job).await;
    let expected: Vec<String> = std::iter::once("first".to_owned())
        .chain((0..7).map(|number| format!("message {number}")))
        .collect();
    assert_eq!(said, expected);
}

#[tokio::test]
async fn a_message_around_the_end_is_taken_or_refused_and_never_lost() {
    let stage = Stage::new().await;
    let (mut taken, mut refused) = (0, 0);
    // Longer and longer until both ends were seen; a machine under load may need many steps to the second one.
    for delay in 0..MOST_DELAYS {
        if delay >= FEWEST_DELAYS && taken > 0 && refused > 0 {
            break;
        }
        let job = waiting(&stage).await;
        let handle = stage.client().all_jobs().get(&job).await.unwrap();
        // The first message goes before the agent is let go, so it must be taken.
        if delay > 0 {
            let_go(&stage);
            tokio::time::sleep(Duration::from_millis(delay * delay * 3)).await;
        }
        let text = format!("RULE say late {delay}");
        let answer = bounded("the message", handle.say(&text)).await;
        let_go(&stage);
        let said = said(&stage, &job).await;
        let heard = said.iter().any(|text| *text == format!("late {delay}"));
        match answer {
            Ok(()) => {
                taken += 1;
                assert!(heard, "accepted and lost: {said:?}");
            }
            Err(HandoffError::InboxClosed { .. }) => {
                refused += 1;
                assert!(!heard, "refused and read: {said:?}");
            }
            Err(error) => panic!("{error}"),
        }
        std::fs::remove_file(stage.there("go")).unwrap();
    }
    assert!(taken > 0 && refused > 0, "{taken} taken, {refused} refused");
}

#[tokio::test]
async fn an_empty_message_and_a_job_that_is_none_are_mistakes() {
    let stage = Stage::new().await;
    stage
        .run(&["say", "-", "x", "--json"])
        .await
        .exits(2)
        .error("no_such_job");
    let job = waiting(&stage).await;
    stage
        .run(&["say", &job, " \n", "--json"])
        .await
        .exits(2)
        .error("usage");
    let_go(&stage);
    let exit = stage.job_directories()[0].join("exit");
    until("the end", || exit.exists()).await;
}

#[tokio::test]
async fn a_message_to_a_job_that_was_not_launched_is_refused_and_says_so() {
    for step in ["probe", "send"] {
        let stage = Stage::new().await;
        let session = stage.session.to_string();
        let mut sending = stage.begin(&send(&session, "Go on."));
        sending.step(step).await;
        sending.killed().await;
        let claimed = |job: &std::path::PathBuf| job.join("claim").exists();
        if stage.job_directories().iter().any(claimed) {
            // It had got as far as the launch.
            assert_eq!(step, "send");
            continue;
        }
        let refused = stage.run(&["say", "-", "hear", "--json"]).await;
        refused.exits(8).error("not_launched");
        stage.run(&["sync"]).await.exits(0);
        stage.send("Go on.").await.unwrap();
    }
}
