//! Trips that go well: what is there afterwards, on both sides.

use handover::demo::standin::{PendingCall, Seed};
use handover::events::{AgentEvent, Event, Step};
use handover::handoff::Ending;
use handover::job::{Mode, State};

use crate::support::{Stage, grown};

#[tokio::test]
async fn a_round_trip_adds_every_new_message_once_and_changes_no_old_one() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let outcome = stage
        .send("Do it.\nRULE write notes.txt some notes\nRULE say The notes are there.")
        .await
        .unwrap();
    assert_eq!(outcome.ending, Ending::Completed);
    let trip = outcome.trip.unwrap();
    assert_eq!(trip.text.as_deref(), Some("The notes are there."));
    assert_eq!(trip.tools.get("write"), Some(&1));
    let after = stage.history_here();
    let new = grown(&before, &after);
    assert_eq!(new.len(), trip.new_messages);
    assert_eq!(after.launches(), 1);
    assert!(after.last_user().text().contains("\nDo it.\nRULE write"));
    assert_eq!(
        std::fs::read_to_string(stage.there("work/notes.txt")).unwrap(),
        "some notes"
    );
    assert!(!stage.here("project/notes.txt").exists());
    assert_eq!(stage.job_directories(), [] as [std::path::PathBuf; 0]);
    let jobs = stage.jobs().await;
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].state, State::Completed);
    assert!(jobs[0].collected_ms.is_some());

    // Again, so that nothing of the first trip is doubled by the second.
    stage.send("RULE patch\nRULE surrogate").await.unwrap();
    let again = stage.history_here();
    grown(&after, &again);
    assert_eq!(again.launches(), 2);
    assert_eq!(again.text().matches("half a face").count(), 1);
}

#[tokio::test]
async fn a_one_way_handoff_returns_once_the_agent_runs_and_is_collected_later() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let sent = stage
        .round_trip("RULE say first\nRULE sleep 2\nRULE say last")
        .mode(Mode::OneWay)
        .start()
        .outcome()
        .await
        .unwrap();
    assert_eq!((sent.ending, sent.trip), (Ending::Running, None));
    assert_eq!(stage.jobs().await[0].state, State::Running);
    assert_eq!(stage.history_here(), before);
    let outcome = stage.collect(&sent.job).await.unwrap();
    assert_eq!(outcome.ending, Ending::Completed);
    assert_eq!(outcome.trip.unwrap().text.as_deref(), Some("last"));
    grown(&before, &stage.history_here());
}

#[tokio::test]
async fn a_call_in_progress_is_completed_there_and_untouched_here() {
    for (call, status) in [
        (PendingCall::Pending, "pending"),
        (PendingCall::Running, "running"),
    ] {
        let mut stage = Stage::new().await;
        let mut seed = Seed::default();
        seed.call = call;
        seed.padding = 20_000;
        stage.session = stage.seed(&seed);
        let before = stage.history_here();
        let arguments = serde_json::json!({"host": "box", "why": "\u{fc} \" $(x)"});
        let handoff = stage.round_trip("Go on.").call(
            Some("call_seeded".to_owned()),
            arguments.as_object().unwrap().clone(),
        );
        handoff.start().outcome().await.unwrap();
        let after = stage.history_here();
        let new = grown(&before, &after);
        for message in new.iter().filter(|message| message.role == "assistant") {
            assert_eq!(message.count("step-start"), message.count("step-finish"));
        }
        let caller = &before.messages.last().unwrap().raw;
        assert!(
            caller.contains(&format!("\"status\": \"{status}\"")),
            "{caller}"
        );
        let there = stage.history_there();
        let sent = &there.messages[before.messages.len() - 1];
        let tool = sent
            .parts
            .iter()
            .find(|part| part["type"] == "tool")
            .unwrap();
        assert_eq!(tool["state"]["status"], "completed");
        assert_eq!(tool["state"]["input"], arguments);
        assert!(tool["state"]["output"].as_str().unwrap().contains("moved"));
        assert_eq!(sent.count("step-finish"), 1);
        assert!(sent.info["time"]["completed"].is_number());
    }
}

#[tokio::test]
async fn another_agent_and_model_work_there_and_the_session_keeps_its_own() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    stage
        .round_trip("Go on.")
        .agent("plan".parse().unwrap())
        .model("standin/large".parse().unwrap())
        .start()
        .outcome()
        .await
        .unwrap();
    let after = stage.history_here();
    let new = grown(&before, &after);
    assert_eq!(after.info["agent"], "build");
    let there = stage.history_there();
    let answer = there.messages.last().unwrap();
    assert_eq!(answer.info["agent"], "plan");
    assert_eq!(answer.info["modelID"], "large");
    // The next turn here follows the last user message's choice.
    let user = new.iter().rfind(|message| message.role == "user").unwrap();
    assert_eq!(user.info["agent"], "build", "{}", user.raw);
    assert_eq!(user.info["model"]["modelID"], "m", "{}", user.raw);
}

#[tokio::test]
async fn a_directory_of_any_name_is_made_and_worked_in_and_never_interpreted() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let mut before = before;
    for name in [
        "with spaces",
        "quo'tes \"and\" more",
        "größe/漢字",
        "$(touch PWNED) `touch PWNED`;touch PWNED",
        "-rf *",
        "back\\slash\\n",
    ] {
        let outcome = stage
            .round_trip("RULE write here.txt x")
            .directory(format!("~/{name}").parse().unwrap())
            .start()
            .outcome()
            .await
            .unwrap();
        assert_eq!(outcome.ending, Ending::Completed);
        assert!(stage.has_there(&format!("{name}/here.txt")), "{name}");
        let after = stage.history_here();
        grown(&before, &after);
        before = after;
    }
    assert!(stage.all_named("PWNED").is_empty());
}

#[tokio::test]
async fn steps_are_told_in_order_and_events_of_the_agent_as_they_happen() {
    let stage = Stage::new().await;
    let mut running = stage
        .round_trip("RULE noise\nRULE say one\nRULE sleep 2\nRULE say two")
        .start();
    let mut steps = Vec::new();
    let mut early = false;
    while let Some(event) = running.next_event().await {
        match event {
            Event::Step { step, .. } => steps.push(step),
            Event::Agent {
                agent: AgentEvent::Text { text },
            } if text == "one" => {
                early = steps.last() == Some(&Step::Run)
                    && !stage.history_there().text().contains("\ntwo");
            }
            _ => {}
        }
    }
    running.outcome().await.unwrap();
    assert!(early, "the first text is told while the agent still works");
    let order = [
        Step::Probe,
        Step::Send,
        Step::Launch,
        Step::Run,
        Step::RemoteExport,
        Step::Fetch,
        Step::Import,
        Step::Cleanup,
    ];
    steps.retain(|step| order.contains(step));
    assert_eq!(steps, order);
}

#[tokio::test]
async fn a_forgotten_session_is_gone_from_the_host_and_another_one_stays() {
    let stage = Stage::new().await;
    stage
        .round_trip("Go on.")
        .forget(true)
        .start()
        .outcome()
        .await
        .unwrap();
    assert!(!stage.is_there());
    stage.send("Go on.").await.unwrap();
    assert!(stage.is_there());
}
