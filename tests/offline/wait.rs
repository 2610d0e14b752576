//! Waiting for jobs, watching them, and what the watchdogs find.

use handover::job::State;
use serde_json::Value;

use crate::support::{Stage, announced, bounded, until};

pub(crate) async fn spawn(stage: &Stage, arguments: &[&str]) -> String {
    let mut all = vec!["run", "box", "--json"];
    all.extend(arguments);
    let ran = stage.run(&all).await.exits(0);
    ran.document()["job"].as_str().unwrap().to_owned()
}

pub(crate) fn touch(stage: &Stage, name: &str) {
    std::fs::write(stage.there(name), "").unwrap();
}

/// Looks at a job until a look shows this.
pub(crate) async fn shows(
    stage: &Stage,
    job: &str,
    mut holds: impl FnMut(&Value) -> bool,
) -> Value {
    bounded("the status", async {
        loop {
            let status = stage.run(&["status", "--json", job]).await.exits(0);
            let status = status.document();
            if holds(&status) {
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await
}

#[tokio::test]
async fn waiting_ends_with_the_jobs_and_tells_how_they_ended() {
    let stage = Stage::new().await;
    let good = spawn(&stage, &["RULE await go\nRULE say fine"]).await;
    let bad = spawn(&stage, &["RULE await go\nRULE exit 7"]).await;
    let waiting = stage.begin(&["wait", "--json", &good, &bad]);
    stage.run(&["wait", "--timeout=1s", &good]).await.exits(10);
    touch(&stage, "go");
    let ran = waiting.ended().await.exits(9);
    let mut ended: Vec<(String, String)> = ran
        .documents()
        .iter()
        .map(|job| {
            let text = |key: &str| job[key].as_str().unwrap().to_owned();
            (text("id"), text("state"))
        })
        .collect();
    ended.sort();
    assert_eq!(
        ended,
        [
            (good.clone(), "completed".to_owned()),
            (bad.clone(), "failed".to_owned())
        ]
    );
    let status = stage.run(&["status", "--json", &bad]).await.exits(0);
    assert_eq!(status.document()["exit_code"], 7);
    // What has ended is told at once.
    stage.run(&["wait", &good]).await.exits(0);
}

#[cfg(unix)]
#[tokio::test]
async fn a_job_whose_sender_is_at_work_is_waited_for() {
    use crate::jobs::send;

    let stage = Stage::new().await;
    let session = stage.session.to_string();
    let mut sending = stage.begin(&send(&session, "RULE say done"));
    let job = sending.step("send").await;
    sending.signal("STOP").await;
    for verb in ["wait", "collect"] {
        let ran = stage.run(&[verb, "--json", "--timeout=3s", &job]).await;
        match verb {
            "wait" => ran.exits(10),
            _ => ran.exits(8),
        };
    }
    let waiting = stage.begin(&["wait", "--json", &job]);
    sending.signal("CONT").await;
    sending.ended().await.exits(0);
    assert_eq!(
        waiting.ended().await.exits(0).document()["id"],
        job.as_str()
    );
}

#[tokio::test]
async fn any_of_several_is_enough_when_asked_for() {
    let stage = Stage::new().await;
    let slow = spawn(&stage, &["RULE await never-before-the-end"]).await;
    let fast = spawn(&stage, &["RULE say done"]).await;
    let ran = stage
        .run(&["wait", "--any", "--json", &slow, &fast])
        .await
        .exits(0);
    assert_eq!(ran.document()["id"], fast.as_str());
    touch(&stage, "never-before-the-end");
    stage.run(&["wait", &slow]).await.exits(0);
}

#[tokio::test]
async fn the_result_is_collected_and_the_session_imported_on_demand() {
    let stage = Stage::new().await;
    let job = spawn(
        &stage,
        &["--dir=~/work", "RULE write a.txt x\nRULE say the result"],
    )
    .await;
    let ran = stage.run(&["collect", "--json", &job]).await.exits(0);
    let result = ran.document();
    assert_eq!(result["outcome"], "completed");
    assert_eq!(result["kind"], "spawn");
    assert_eq!(result["text"], "the result");
    assert_eq!(result["tool_calls"], 1);
    assert_eq!(result["tokens"]["input"], 20);
    let session = result["session"].as_str().unwrap().to_owned();
    // It is counted in the record too, and the files are there still.
    let status = stage.run(&["status", "--json", &job]).await.exits(0);
    let status = status.document();
    assert_eq!(
        (status["tool_calls"].as_u64(), &status["session"]),
        (Some(1), &result["session"])
    );
    assert_eq!(status["result"], "the result");
    assert_eq!(stage.job_directories().len(), 1);
    // Again, and for a person.
    let ran = stage.run(&["collect", &job]).await.exits(0);
    assert_eq!(ran.out, "the result\n");
    assert!(ran.err.contains("1 tool calls (write ×1)"), "{}", ran.err);

    stage
        .run(&["collect", "--import", "--json", &job])
        .await
        .exits(0);
    let here = stage.here(&format!(".local/share/opencode/standin/{session}.json"));
    assert!(here.exists());
    assert!(stage.job_directories().is_empty());
    let again = stage.run(&["collect", "--json", &job]).await.exits(8);
    again.error("already_collected");
}

#[tokio::test]
async fn a_watch_tells_every_change_to_the_end() {
    let stage = Stage::new().await;
    let job = spawn(&stage, &["RULE say on\nRULE await go\nRULE say done"]).await;
    let mut watching = stage.begin(&["watch", "--json"]);
    watching
        .document(|status| status["session"].is_string() && status["state"] == "running")
        .await;
    touch(&stage, "go");
    let last = watching
        .document(|status| status["state"] == "completed")
        .await;
    assert_eq!(last["id"], job.as_str());
    assert_eq!(last["tokens"]["output"], 5);
    watching.ended().await.exits(0);
    let plain = stage.run(&["watch", &job]).await.exits(0);
    assert!(
        plain.out.contains("completed") && !plain.out.contains('\u{1b}'),
        "{}",
        plain.out
    );
}

#[tokio::test]
async fn silence_is_shown_as_a_stall_and_the_agent_goes_on() {
    let stage = Stage::new().await;
    let job = spawn(
        &stage,
        &[
            "--inactivity=1s",
            "RULE say on\nRULE await go\nRULE say done",
        ],
    )
    .await;
    let status = shows(&stage, &job, |status| status["attributes"][0] == "stalled").await;
    assert_eq!(status["state"], "running");
    let jobs = stage.run(&["jobs", "--json"]).await.exits(0);
    assert_eq!(jobs.document()[0]["attributes"][0], "stalled");
    touch(&stage, "go");
    stage.run(&["wait", &job]).await.exits(0);
    let status = stage.run(&["status", "--json", &job]).await.exits(0);
    assert_eq!(status.document()["attributes"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn the_same_call_over_and_over_is_a_loop_and_the_result_says_so() {
    let stage = Stage::new().await;
    let job = spawn(
        &stage,
        &[
            "--loop-limit=5",
            "RULE tool bash 5\nRULE await go\nRULE say out of it",
        ],
    )
    .await;
    shows(&stage, &job, |status| status["attributes"][0] == "looping").await;
    touch(&stage, "go");
    let ran = stage.run(&["collect", "--json", &job]).await.exits(0);
    let text = ran.document()["text"].as_str().unwrap().to_owned();
    let (first, rest) = text.split_once('\n').unwrap();
    assert!(
        first.contains("bash with the same input 5 times"),
        "{first}"
    );
    assert_eq!(rest, "out of it");
}

#[tokio::test]
async fn an_error_of_the_agent_that_has_not_gone_on_is_a_retry() {
    let stage = Stage::new().await;
    let job = spawn(
        &stage,
        &["RULE error overloaded\nRULE await go\nRULE say on"],
    )
    .await;
    shows(&stage, &job, |status| status["attributes"][0] == "retrying").await;
    touch(&stage, "go");
    stage.run(&["wait", &job]).await;
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_changes_no_state() {
    let stage = Stage::new().await;
    let job = spawn(&stage, &["RULE await go\nRULE say done"]).await;
    stage.proxy.refuse();
    let status = shows(&stage, &job, |status| {
        status["attributes"][0] == "unreachable"
    })
    .await;
    assert_eq!(status["state"], "running");
    let mut waiting = stage.begin(&["watch", "--json", &job]);
    waiting
        .document(|status| status["attributes"][0] == "unreachable")
        .await;
    stage.proxy.resume();
    touch(&stage, "go");
    waiting
        .document(|status| status["state"] == "completed")
        .await;
    waiting.ended().await.exits(0);
}

#[tokio::test]
async fn an_end_is_announced_once_whoever_finds_it() {
    let stage = Stage::new().await;
    let out = stage.announces();
    let job = spawn(&stage, &["RULE await go\nRULE say done"]).await;
    stage.run(&["jobs"]).await.exits(0);
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0);
    let waiting: Vec<_> = (0..3)
        .map(|_| stage.begin(&["wait", "--json", &job]))
        .collect();
    touch(&stage, "go");
    for waiting in waiting {
        waiting.ended().await.exits(0);
    }
    stage.run(&["collect", "--json", &job]).await.exits(0);
    stage.run(&["jobs"]).await.exits(0);
    until("the announcement", || {
        std::fs::read_dir(&out).unwrap().count() > 0
    })
    .await;
    let files: Vec<_> = std::fs::read_dir(&out).unwrap().flatten().collect();
    assert_eq!(files.len(), 1);
    let told = announced(&files[0].path());
    assert_eq!(
        (told["id"].as_str(), told["state"].as_str()),
        (Some(job.as_str()), Some("completed"))
    );
}

#[tokio::test]
async fn a_mistake_in_the_configuration_is_told() {
    let stage = Stage::new().await;
    std::fs::write(stage.here("config/config.toml"), "on_finnish = []\n").unwrap();
    let ran = stage.run(&["jobs", "--json"]).await.exits(3);
    ran.error("configuration");
}

#[tokio::test]
async fn jobs_are_listed_by_host_state_and_session() {
    let stage = Stage::new().await;
    let job = spawn(&stage, &["--title=a title", "RULE say done"]).await;
    stage.run(&["wait", &job]).await.exits(0);
    let list = async |arguments: &[&str]| {
        let mut all = vec!["jobs", "--json"];
        all.extend(arguments);
        let ran = stage.run(&all).await.exits(0);
        ran.document().as_array().unwrap().len()
    };
    assert_eq!(list(&[]).await, 1);
    assert_eq!(list(&["--state=completed"]).await, 1);
    assert_eq!(list(&["--state=running,failed"]).await, 0);
    assert_eq!(list(&["--host=box"]).await, 1);
    assert_eq!(list(&["--session=ses_none"]).await, 0);
    stage
        .run(&["jobs", "--json", "--state=sleeping"])
        .await
        .exits(2)
        .error("usage");
    stage
        .run(&["jobs", "--json", "--host=bix"])
        .await
        .exits(3)
        .error("unknown_host");
    let short = stage.run(&["status", "--json", &job[..14]]).await.exits(0);
    assert_eq!(short.document()["title"], "a title");
    let jobs = stage.jobs().await;
    assert_eq!(jobs[0].state, State::Completed);
}

#[tokio::test]
async fn a_watchdog_ends_the_agent_where_that_was_asked_for() {
    let stage = Stage::new().await;
    let looping = spawn(
        &stage,
        &[
            "--loop-limit=4",
            "--kill-on-loop",
            "RULE say before\nRULE tool grep 4\nRULE hang",
        ],
    )
    .await;
    let stalled = spawn(
        &stage,
        &[
            "--inactivity=1s",
            "--kill-on-stall",
            "RULE say on\nRULE hang",
        ],
    )
    .await;
    let ran = stage
        .run(&["wait", "--json", &looping, &stalled])
        .await
        .exits(9);
    for job in ran.documents() {
        assert_eq!(job["state"], "killed", "{job}");
    }
    for (job, words) in [
        (
            &looping,
            "called grep with the same input 4 times in a row, and was ended",
        ),
        (&stalled, "said nothing for 1s, and was ended"),
    ] {
        let ran = stage.run(&["collect", "--json", job]).await;
        let status = stage.run(&["status", "--json", job]).await.exits(0);
        let notice = status.document()["notice"].as_str().unwrap().to_owned();
        assert!(notice.contains(words), "{notice}");
        if ran.code == Some(0) {
            let text = ran.document()["text"].as_str().unwrap().to_owned();
            assert!(text.starts_with(&format!("[handover] {notice}.")), "{text}");
        }
    }
}

#[tokio::test]
async fn an_agent_that_waits_and_one_whose_provider_is_down_are_shown_and_not_ended() {
    let stage = Stage::new().await;
    // As with a question that nobody answers: no event at all.
    let waits = spawn(&stage, &["--inactivity=1s", "RULE await go\nRULE say done"]).await;
    let down = spawn(
        &stage,
        &[
            "--inactivity=1s",
            "RULE error overloaded\nRULE error overloaded\nRULE await go\nRULE say done",
        ],
    )
    .await;
    let has = |status: &Value, name: &str| {
        let attributes = status["attributes"].as_array().unwrap();
        attributes.iter().any(|attribute| attribute == name)
    };
    for _ in 0..3 {
        shows(&stage, &waits, |status| has(status, "stalled")).await;
        shows(&stage, &down, |status| {
            has(status, "stalled") && has(status, "retrying")
        })
        .await;
        stage.run(&["sync"]).await.exits(0);
    }
    for job in [&waits, &down] {
        let status = stage.run(&["status", "--json", job]).await.exits(0);
        assert_eq!(status.document()["state"], "running", "{}", status.out);
    }
    touch(&stage, "go");
    stage.run(&["wait", &waits]).await.exits(0);
    stage.run(&["wait", &down]).await;
    for job in [&waits, &down] {
        let logs = stage.run(&["logs", "--json", job]).await.exits(0);
        let events = logs.documents();
        assert!(
            events.iter().any(|event| event["text"] == "done"),
            "{}",
            logs.out
        );
    }
}

#[tokio::test]
async fn events_and_watches_are_streams() {
    use futures::{StreamExt as _, TryStreamExt as _};
    use handover::events::AgentEvent;

    let stage = Stage::new().await;
    let slow = spawn(&stage, &["RULE say one\nRULE await go\nRULE say two"]).await;
    let fast = spawn(&stage, &["RULE say done"]).await;
    let client = stage.client();
    let jobs = client.all_jobs();
    let mut events = jobs.get(&slow).await.unwrap().events().unwrap();
    // A wait that is given up loses nothing.
    while bounded("nothing", events.next()).await.unwrap()
        != Some(AgentEvent::Text { text: "one".into() })
    {}
    let soon = std::time::Duration::from_millis(700);
    while let Ok(event) = tokio::time::timeout(soon, events.next()).await {
        assert!(!matches!(event, Ok(Some(AgentEvent::Text { .. }))));
    }
    let ends = jobs
        .watch(jobs.list().await.unwrap())
        .filter(|update| std::future::ready(update.is_last()))
        .map(|update| update.record.id.to_string());
    touch(&stage, "go");
    let mut ended: Vec<String> = bounded("the ends", ends.collect()).await;
    ended.sort();
    let mut all = vec![slow, fast];
    all.sort();
    assert_eq!(ended, all);
    let texts = events.try_filter_map(async |event| {
        Ok(match event {
            AgentEvent::Text { text } => Some(text),
            _ => None,
        })
    });
    let texts: Vec<String> = bounded("the rest", texts.try_collect()).await.unwrap();
    assert_eq!(texts, ["two"]);
}
