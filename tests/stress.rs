//! Many jobs of many processes, whose clients are killed at random: at the end every job is in its true state.
//!
//! `HANDOVER_TEST_STRESS_JOBS` sets their number (200), `HANDOVER_TEST_STRESS_SEED` the seed of what is random.
#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    reason = "the helpers of these tests fail as the tests do"
)]

#[path = "support/proxy.rs"]
mod proxy;
#[path = "offline/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "other tests use the rest of it")]
mod support;

use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use handover::demo::standin::Seed;
use handover::job::{JobRecord, State, Store};
use handover::session::SessionId;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use support::{BOX, History, Stage, bounded, grown};

/// How many processes are at it at the same time.
const PROCESSES: usize = 4;

fn setting(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What one job alone is told.
fn errand(number: usize) -> String {
    format!("errand {number} of this run.")
}

/// In how many turns of these sessions an agent was told of this errand.
fn turns(sessions: &[History], errand: &str) -> usize {
    let users = sessions
        .iter()
        .flat_map(|session| &session.messages)
        .filter(|message| message.role == "user");
    users
        .filter(|message| message.text().contains(errand))
        .count()
}

/// One session that is handed over again and again, so that its jobs meet each other.
struct Thread {
    session: SessionId,
    before: History,
}

/// What one worker does: hands sessions over, each client to its end or killed on the way, and looks after them.
async fn work(stage: &Stage, threads: &[Thread], seed: u64, left: &AtomicUsize) {
    let mut random = SmallRng::seed_from_u64(seed);
    while let Ok(number) = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
        left.checked_sub(1)
    }) {
        let thread = &threads[random.random_range(0..threads.len())];
        let session = thread.session.to_string();
        let rules = match random.random_range(0..4) {
            0 => "RULE say worked\nRULE exit 7",
            1 => "RULE say on\nRULE sleep 1\nRULE say done",
            _ => "RULE say worked",
        };
        // By this its agent's turn is known in whatever session it is found.
        let message = format!("{}\n{rules}", errand(number));
        let mut arguments = vec!["send", BOX, "--session", &session, "--message", &message];
        if random.random_bool(0.6) {
            arguments.push("--round-trip");
        }
        run_or_kill(stage, &mut random, &arguments, 0.5).await;
        if random.random_bool(0.2) {
            run_or_kill(stage, &mut random, &["sync"], 0.3).await;
        }
        if random.random_bool(0.2) {
            run_or_kill(stage, &mut random, &["kill", "-", "--grace", "1s"], 0.2).await;
        }
        if random.random_bool(0.3) {
            run_or_kill(
                stage,
                &mut random,
                &["collect", "-", "--timeout", "20s"],
                0.3,
            )
            .await;
        }
    }
}

/// Runs the program; with this probability it is killed at a random moment, as `kill -9` does.
async fn run_or_kill(stage: &Stage, random: &mut SmallRng, arguments: &[&str], chance: f64) {
    let mut command = stage.command(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    if random.random_bool(chance) {
        let moment = Duration::from_millis(random.random_range(0..1500));
        let ended = tokio::time::timeout(moment, child.wait()).await;
        if ended.is_err() {
            child.kill().await.unwrap();
        }
    } else {
        bounded("the program", child.wait()).await.unwrap();
    }
}

async fn records(stage: &Stage) -> Vec<JobRecord> {
    stage.jobs().await
}

#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_whose_clients_are_killed_at_random_end_in_their_true_states() {
    let seed = setting("HANDOVER_TEST_STRESS_SEED", 7);
    let jobs = usize::try_from(setting("HANDOVER_TEST_STRESS_JOBS", 200)).unwrap();
    let stage = Stage::new().await;
    stage.configure("max_jobs = 100");
    let mut threads = Vec::new();
    for _ in 0..jobs.div_ceil(4).max(PROCESSES) {
        let session = stage.seed(&Seed::default());
        let before = History::read(&stage.here(".local/share"), &session);
        threads.push(Thread { session, before });
    }
    let left = AtomicUsize::new(jobs);
    let workers =
        (0..PROCESSES as u64).map(|worker| work(&stage, &threads, seed * 100 + worker, &left));
    futures::future::join_all(workers).await;

    // What still runs comes to its end; then one look is enough.
    let waited = async {
        loop {
            stage.run(&["sync", "--json"]).await.exits(0);
            let running =
                |record: &JobRecord| record.state.is_live() && record.state != State::Returning;
            if !records(&stage).await.iter().any(running) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    bounded("the end of the jobs", waited).await;
    let found = records(&stage).await;
    let mut ids = std::collections::BTreeSet::new();
    let file = stage.options().places.store_file();
    let database = rusqlite::Connection::open(&file).unwrap();
    let whole: String = database
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(whole, "ok");
    drop(database);
    assert!(found.len() <= jobs, "no job is recorded twice");
    let launched = found.iter().filter(|record| record.was_launched()).count();
    // Half of the clients are killed, many before the launch; a run that launches almost nothing shows nothing.
    assert!(launched * 20 >= jobs, "{launched} launched of {jobs}");
    for record in &found {
        let directory = stage
            .there(".local/state/handover/jobs")
            .join(record.id.as_str());
        let told = format!("{record:?}");
        match record.state {
            State::Returning | State::Completed | State::Failed | State::Killed => {}
            _ => panic!("{told}"),
        }
        let exit = std::fs::read_to_string(directory.join("exit")).unwrap_or_default();
        if record.was_launched() && record.collected_ms.is_none() {
            // The remote files are the truth, and the record says what they say.
            assert!(!exit.is_empty(), "{told}");
            let reason = exit
                .lines()
                .find_map(|line| line.strip_prefix("reason="))
                .unwrap();
            let fits = match reason {
                "completed" => matches!(record.state, State::Returning | State::Completed),
                "killed" => record.state == State::Killed,
                _ => record.state == State::Failed,
            };
            assert!(fits, "{reason}: {told}");
            assert!(
                directory.join("back.json").exists() || exit.contains("\nsize=\n"),
                "{told}"
            );
        }
        if !record.was_launched() {
            assert!(
                exit.is_empty() && !directory.join("started").exists(),
                "{told}"
            );
        }
    }
    let read_all = |data_home: &std::path::Path| -> Vec<History> {
        let kept = threads
            .iter()
            .filter(|thread| History::file(data_home, &thread.session).exists());
        kept.map(|thread| History::read(data_home, &thread.session))
            .collect()
    };
    let there = read_all(&stage.there(".local/share"));
    let here = read_all(&stage.here(".local/share"));
    for (thread, now) in threads.iter().zip(&here) {
        // What is here only grew.
        grown(&thread.before, now);
    }
    for number in 1..=jobs {
        let told = turns(&there, &errand(number));
        assert!(told <= 1, "errand {number} was begun {told} times");
        assert!(turns(&here, &errand(number)) <= told, "errand {number}");
    }
    for record in &found {
        let told = format!("{record:?}");
        let prompt = record.prompt.as_deref().expect("what it was told");
        let end = prompt.find(" of this run.").expect("its errand");
        let errand = format!("{} of this run.", &prompt[..end]);
        let begun = turns(&there, &errand);
        assert!(record.was_launched() || begun == 0, "{told}");
        if matches!(record.state, State::Completed | State::Returning) {
            assert_eq!(begun, 1, "{told}");
        }
        if record.collected_ms.is_some() {
            assert!(
                matches!(
                    record.state,
                    State::Completed | State::Failed | State::Killed
                ),
                "{told}"
            );
            assert_eq!(turns(&here, &errand), 1, "{told}");
        }
        assert!(ids.insert(&record.id), "{} is recorded twice", record.id);
    }
    // The store is whole: as SQLite sees it, and each live session has one live job.
    let store = Store::open(&stage.options().places.store_file()).unwrap();
    let live: Vec<_> = found
        .iter()
        .filter(|record| record.state.is_live())
        .collect();
    for record in &live {
        assert_eq!(
            store
                .live(record.session.as_ref().unwrap())
                .await
                .unwrap()
                .unwrap()
                .id,
            record.id
        );
    }
    assert!(
        !stage
            .here("state")
            .read_dir()
            .unwrap()
            .flatten()
            .any(|entry| { entry.file_name().to_string_lossy().contains("damaged") })
    );
}
