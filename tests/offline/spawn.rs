//! A fresh session on a host.

use handover::job::{JobKind, State};
use serde_json::Value;

use crate::support::{BOX, Ran, Stage, bounded, entries, until};

/// The host's sessions, as files of the stand-in.
fn sessions_there(stage: &Stage) -> usize {
    entries(&stage.there(".local/share/opencode/standin"))
        .iter()
        .filter(|path| path.extension().is_some_and(|name| name == "json"))
        .count()
}

#[tokio::test]
async fn a_spawned_job_runs_in_its_directory_under_its_title() {
    let stage = Stage::new().await;
    let ran = stage
        .run(&[
            "run",
            "box",
            "--dir=~/work",
            "--title=The long one",
            "--agent=plan",
            "--model=standin/large",
            "--json",
            "RULE write made.txt hello\nRULE say written",
        ])
        .await
        .exits(0);
    let result = ran.document();
    assert_eq!(result["outcome"], "running");
    until("the file", || stage.there("work/made.txt").exists()).await;
    let job = stage.jobs().await.remove(0);
    assert_eq!(result["job"], job.id.as_str());
    assert_eq!(job.kind, JobKind::Spawn);
    assert_eq!(
        job.prompt.as_deref(),
        Some("RULE write made.txt hello RULE say written")
    );
    assert_eq!(job.title.as_deref(), Some("The long one"));
    let exit = stage.job_directories()[0].join("exit");
    until("the end", || exit.exists()).await;
    let exit = std::fs::read_to_string(exit).unwrap();
    assert!(exit.contains("reason=completed"), "{exit}");
    let back = std::fs::read(stage.job_directories()[0].join("back.json")).unwrap();
    let back: Value = serde_json::from_slice(&back).unwrap();
    assert_eq!(back["info"]["title"], "The long one");
    assert_eq!(back["messages"][0]["info"]["agent"], "plan");
    assert_eq!(sessions_there(&stage), 1);
}

#[tokio::test]
async fn the_prompt_can_come_over_standard_input_and_must_say_something() {
    let stage = Stage::new().await;
    let ran = Ran::fed(
        stage.command(&["run", "box", "--json", "-"]),
        "RULE write in.txt \u{fc}\n\"quoted\"\n",
    )
    .await;
    ran.exits(0);
    until("the file", || stage.there("in.txt").exists()).await;
    let empty = stage.run(&["run", "box", "--json", "  "]).await.exits(2);
    empty.error("usage");
    stage
        .run(&["run", "nowhere", "--json", "x"])
        .await
        .exits(3)
        .error("unknown_host");
    assert_eq!(stage.jobs().await.len(), 1);
}

#[tokio::test]
async fn an_agent_that_makes_no_session_is_a_failure_with_its_code() {
    let stage = Stage::new().await;
    stage
        .run(&["run", "box", "--json", "RULE exit-before 7"])
        .await;
    let exit = stage.job_directories()[0].join("exit");
    until("the end", || exit.exists()).await;
    let exit = std::fs::read_to_string(exit).unwrap();
    assert!(
        exit.contains("reason=agent-failed\ncode=7\nsize=\n"),
        "{exit}"
    );
}

#[tokio::test]
async fn a_spawned_job_ends_by_its_time_limit() {
    let stage = Stage::new().await;
    stage
        .run(&["run", "box", "--max-time", "0s", "RULE hang"])
        .await
        .exits(2);
    stage
        .run(&["run", "box", "--max-time", "3s", "RULE say on\nRULE hang"])
        .await
        .exits(0);
    let exit = stage.job_directories()[0].join("exit");
    until("the end", || exit.exists()).await;
    let exit = std::fs::read_to_string(exit).unwrap();
    assert!(exit.contains("reason=max-time"), "{exit}");
}

#[tokio::test]
async fn two_spawned_jobs_run_side_by_side() {
    let stage = Stage::new().await;
    let client = stage.client();
    let spawn = |name: &str| {
        client
            .spawn("box", format!("RULE write {name} x"))
            .unwrap()
            .start()
            .outcome()
    };
    let (first, second) = bounded("both", async {
        tokio::join!(spawn("a.txt"), spawn("b.txt"))
    })
    .await;
    assert_ne!(first.unwrap().job, second.unwrap().job);
    until("both files", || {
        stage.there("a.txt").exists() && stage.there("b.txt").exists()
    })
    .await;
    for job in stage.jobs().await {
        assert!(
            matches!(job.state, State::Running | State::Completed),
            "{job:?}"
        );
    }
}

/// A spawned job that has ended with nobody looking.
async fn ended_spawn(stage: &Stage) -> String {
    let ran = stage
        .run(&["run", BOX, "--json", "RULE say one\nRULE say two"])
        .await;
    let job = ran.exits(0).document()["job"].as_str().unwrap().to_owned();
    let exit = stage.job_directories()[0].join("exit");
    until("the end", || exit.exists()).await;
    job
}

#[tokio::test]
async fn an_imported_session_without_one_of_its_parts_is_not_taken_for_whole() {
    let stage = Stage::new().await;
    let job = ended_spawn(&stage).await;
    stage.settings_here("STANDIN_IMPORT=drop-part\n");
    let collect = ["collect", &job, "--import", "--json"];
    let ran = stage.run(&collect).await.exits(12);
    ran.error("not_verified");
    assert!(
        stage.job_directories()[0].join("back.json").exists(),
        "the result is kept"
    );
    stage.settings_here("");
    stage.run(&collect).await.exits(0);
    assert_eq!(stage.job_directories().len(), 0);
}

#[tokio::test]
async fn ones_own_job_is_found_again_as_ones_own_and_whole() {
    let stage = Stage::new().await;
    let job = ended_spawn(&stage).await;
    for name in ["jobs.db", "jobs.db-wal", "jobs.db-shm"] {
        let _ = std::fs::remove_file(stage.here("state/store").join(name));
    }
    stage.run(&["jobs", "--discover"]).await.exits(0);
    let found = stage.jobs().await.remove(0);
    assert_eq!((found.id.as_str(), &found.sender), (job.as_str(), &None));
    assert_eq!(found.exit_code, Some(0), "{found:?}");
    assert!(found.result.is_some(), "{found:?}");
    // Without the client's own mark it is another machine's, and its result is kept from a pruning all the same.
    std::fs::remove_dir_all(stage.here("state")).unwrap();
    stage.run(&["jobs", "--discover"]).await.exits(0);
    assert!(stage.jobs().await[0].sender.is_some());
    let prune = ["prune", "--older-than", "0s", "--json"];
    let pruned = stage.run(&prune).await.exits(0).document();
    assert_eq!(pruned["jobs"][0]["done"], "kept_result", "{pruned}");
}

#[tokio::test]
async fn whoever_finds_an_end_notes_all_of_it() {
    let stage = Stage::new().await;
    ended_spawn(&stage).await;
    stage.run(&["sync"]).await.exits(0);
    let found = stage.jobs().await.remove(0);
    assert_eq!(found.exit_code, Some(0), "{found:?}");
    assert!(found.result.is_some(), "{found:?}");
    assert!(found.usage.tokens.output > 0, "{found:?}");
}
