use super::*;
use crate::job::{JobKind, JobRecord, Mode, RECORD_VERSION, State};

pub(in crate::job) fn record(session: &str) -> JobRecord {
    JobRecord::new(
        JobKind::Handoff,
        "box".parse().unwrap(),
        Some(session.parse().unwrap()),
        Mode::RoundTrip,
        PathBuf::from("/home/ada/project"),
    )
}

fn open(directory: &tempfile::TempDir) -> Store {
    Store::open(&directory.path().join("state/jobs.db")).unwrap()
}

#[test]
fn a_new_store_can_be_opened_by_several_at_once() {
    for _ in 0..10 {
        let directory = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| open(&directory));
            }
        });
    }
}

#[tokio::test]
async fn a_session_has_at_most_one_live_job() {
    let directory = tempfile::tempdir().unwrap();
    let (here, elsewhere) = (open(&directory), open(&directory));
    let mut first = record("ses_1");
    here.insert(&first).await.unwrap();
    let refused = elsewhere.insert(&record("ses_1")).await.unwrap_err();
    assert!(matches!(refused, StoreError::SessionBusy { job, .. } if job == first.id));
    elsewhere.insert(&record("ses_2")).await.unwrap();
    first.enter(State::Completed);
    here.update(&mut first).await.unwrap();
    let second = record("ses_1");
    elsewhere.insert(&second).await.unwrap();
    assert_eq!(
        here.live(second.session.as_ref().unwrap()).await.unwrap(),
        Some(second)
    );
    first.enter(State::Running);
    assert!(matches!(
        here.update(&mut first).await,
        Err(StoreError::SessionBusy { .. })
    ));
}

#[tokio::test]
async fn of_many_that_ask_at_once_one_gets_the_session() {
    let directory = tempfile::tempdir().unwrap();
    let stores: Vec<Store> = (0..8).map(|_| open(&directory)).collect();
    let attempts = stores
        .iter()
        .map(|store| async move { store.insert(&record("ses_1")).await.is_ok() });
    let won = futures::future::join_all(attempts).await;
    assert_eq!(won.iter().filter(|won| **won).count(), 1);
}

#[tokio::test]
async fn an_end_is_given_to_one_of_those_who_ask() {
    let directory = tempfile::tempdir().unwrap();
    let stores: Vec<Store> = (0..6).map(|_| open(&directory)).collect();
    let mut first = record("ses_1");
    stores[0].insert(&first).await.unwrap();
    stores[0].insert(&record("ses_2")).await.unwrap();
    let claim = |store: Store| async move {
        let claimed = store.claim_announcements(|job| !job.state.is_live()).await;
        claimed.unwrap()
    };
    assert_eq!(claim(stores[0].clone()).await, []);
    first.enter(State::Completed);
    stores[0].update(&mut first).await.unwrap();
    let asked = futures::future::join_all(stores.iter().cloned().map(claim)).await;
    assert_eq!(asked.concat(), [first.clone()]);
    // What is written after that does not bring it back.
    first.error = Some("later".to_owned());
    stores[1].update(&mut first).await.unwrap();
    assert_eq!(claim(open(&directory)).await, []);
}

#[tokio::test]
async fn a_record_is_changed_as_it_is_whoever_changed_it_before() {
    let directory = tempfile::tempdir().unwrap();
    let job = record("ses_1");
    open(&directory).insert(&job).await.unwrap();
    let changes = (0..8).map(|_| {
        let (store, id) = (open(&directory), job.id.clone());
        async move { store.amend(&id, |job| job.undelivered += 1).await.unwrap() }
    });
    futures::future::join_all(changes).await;
    let now = open(&directory).find(job.id.as_str()).await.unwrap();
    assert_eq!(now.undelivered, 8);
}

#[tokio::test]
async fn a_job_is_found_by_the_beginning_of_its_id() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    assert!(matches!(store.find("-").await, Err(StoreError::NoJobs)));
    let (first, second) = (record("ses_1"), record("ses_2"));
    store.insert(&first).await.unwrap();
    store.insert(&second).await.unwrap();
    assert_eq!(store.find(first.id.as_str()).await.unwrap(), first);
    assert_eq!(
        store.find("-").await.unwrap().id,
        first.id.clone().max(second.id.clone())
    );
    assert!(matches!(
        store.find("j").await,
        Err(StoreError::Ambiguous { .. })
    ));
    for nothing in ["", "jzzzz", "%", "j' OR 1=1", "J0"] {
        assert!(
            matches!(store.find(nothing).await, Err(StoreError::NoSuchJob { .. })),
            "{nothing:?}"
        );
    }
    assert_eq!(store.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_newer_store_or_record_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let mut future = record("ses_1");
    future.version = RECORD_VERSION + 1;
    store.insert(&future).await.unwrap();
    assert!(matches!(store.list().await, Err(StoreError::Newer { .. })));
    let path = directory.path().join("state/jobs.db");
    Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Newer { .. })));
}

#[test]
fn a_file_that_is_no_database_is_refused_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs.db");
    let text = "this is not a database at all. ".repeat(100);
    std::fs::write(&path, &text).unwrap();
    assert!(matches!(
        Store::open(&path),
        Err(StoreError::Damaged { .. })
    ));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[cfg(unix)]
#[tokio::test]
async fn the_store_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    store.insert(&record("ses_1")).await.unwrap();
    for entry in std::fs::read_dir(directory.path().join("state")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600,
            "{}",
            path.display()
        );
    }
}

/// Damages the stored record of a job.
fn damage(directory: &tempfile::TempDir, job: &JobRecord, record: &str) {
    let path = directory.path().join("state/jobs.db");
    let changed = Connection::open(path).unwrap().execute(
        "UPDATE jobs SET record = CAST(?2 AS TEXT) WHERE id = ?1",
        rusqlite::params![job.id.as_str(), record],
    );
    assert_eq!(changed.unwrap(), 1);
}

#[tokio::test]
async fn a_damaged_record_is_kept_aside_and_out_of_the_way_of_the_others() {
    let whole = serde_json::to_string(&record("ses_9")).unwrap();
    // Cut, of no version, and another job's.
    for text in ["{", "{\"version\":1}", &whole] {
        let directory = tempfile::tempdir().unwrap();
        let (store, other) = (open(&directory), open(&directory));
        let (bad, good) = (record("ses_1"), record("ses_2"));
        for job in [&bad, &good] {
            store.insert(job).await.unwrap();
        }
        damage(&directory, &bad, text);
        let (one, two) = tokio::join!(store.list(), other.list());
        assert_eq!(
            (one.unwrap(), two.unwrap()),
            (vec![good.clone()], vec![good.clone()])
        );
        let told = [store.take_damaged(), other.take_damaged()].concat();
        assert_eq!(told, [bad.id.to_string()]);
        assert!(matches!(
            store.amend(&bad.id, |_| {}).await,
            Err(StoreError::NoSuchJob { .. })
        ));
        let kept: (String, String) = store
            .connection()
            .query_row("SELECT id, record FROM damaged_jobs", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        assert_eq!(kept, (bad.id.to_string(), text.to_owned()));
        // It is found again on its host, as if it had never been here.
        store.adopt(&bad, true).await.unwrap();
        assert_eq!(store.list().await.unwrap().len(), 2);
        assert_eq!(store.claim_announcements(|_| true).await.unwrap(), [good]);
    }
}

#[tokio::test]
async fn whoever_writes_a_record_that_is_damaged_finds_that_out() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let mut job = record("ses_1");
    store.insert(&job).await.unwrap();
    damage(&directory, &job, "{");
    for _ in 0..2 {
        let refused = store.update(&mut job).await;
        assert!(matches!(refused, Err(StoreError::NoSuchJob { .. })));
    }
    assert_eq!(store.take_damaged(), [job.id.to_string()]);
}

#[tokio::test]
async fn every_host_is_searched_once_after_records_were_lost() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let hosts = || -> Vec<crate::hosts::HostName> {
        ["one", "two"].map(|name| name.parse().unwrap()).into()
    };
    assert_eq!(store.unsearched(hosts()).await.unwrap(), []);
    for _ in 0..2 {
        lost::note(&store.connection()).unwrap();
        assert_eq!(store.unsearched(hosts()).await.unwrap(), hosts());
        store
            .was_searched(hosts()[0].clone(), hosts())
            .await
            .unwrap();
        assert_eq!(store.unsearched(hosts()).await.unwrap(), hosts()[1..]);
    }
    store
        .was_searched(hosts()[1].clone(), hosts())
        .await
        .unwrap();
    assert_eq!(store.unsearched(hosts()).await.unwrap(), []);
    // What is searched while nothing is missing counts for nothing.
    store
        .was_searched(hosts()[1].clone(), hosts())
        .await
        .unwrap();
    lost::note(&store.connection()).unwrap();
    assert_eq!(store.unsearched(hosts()).await.unwrap(), hosts());
}

#[tokio::test]
async fn what_another_process_noted_meanwhile_is_not_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let (here, elsewhere) = (open(&directory), open(&directory));
    let mut stale = record("ses_1");
    here.insert(&stale).await.unwrap();
    let noted = elsewhere.amend(&stale.id, |job| {
        job.enter(State::Failed);
        job.error = Some("the host was restarted".to_owned());
    });
    let noted = noted.await.unwrap();
    stale.enter(State::Running);
    here.update(&mut stale).await.unwrap();
    assert_eq!(
        (&stale, here.find("-").await.unwrap()),
        (&noted, noted.clone())
    );
    // The session is free, and stays so.
    here.insert(&record("ses_1")).await.unwrap();
    stale.undelivered = 3;
    here.update(&mut stale).await.unwrap();
    assert_eq!(here.find(stale.id.as_str()).await.unwrap().undelivered, 3);
}

#[tokio::test]
async fn a_spawned_job_takes_nobodys_session_whatever_its_host_says() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let spawned = JobRecord {
        kind: JobKind::Spawn,
        session: None,
        ..record("ses_1")
    };
    store.insert(&spawned).await.unwrap();
    let says = |job: &mut JobRecord| job.session = Some("ses_1".parse().unwrap());
    store.amend(&spawned.id, says).await.unwrap();
    store.insert(&record("ses_1")).await.unwrap();
    store
        .amend(&spawned.id, |job| job.undelivered = 1)
        .await
        .unwrap();
    // A change that would make two live jobs of one session is refused as what it is.
    let other = record("ses_2");
    store.insert(&other).await.unwrap();
    let refused = store.amend(&other.id, says).await;
    assert!(
        matches!(refused, Err(StoreError::SessionBusy { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_spawned_job_of_an_older_store_lets_go_of_its_session() {
    let directory = tempfile::tempdir().unwrap();
    let (spawned, moved) = (
        JobRecord {
            kind: JobKind::Spawn,
            ..record("ses_1")
        },
        record("ses_2"),
    );
    {
        let store = open(&directory);
        for job in [&spawned, &moved, &record("ses_3")] {
            store.insert(job).await.unwrap();
        }
        let older = "UPDATE jobs SET session = 'ses_1' WHERE id = ?1";
        let connection = store.connection();
        connection.execute(older, [spawned.id.as_str()]).unwrap();
        let tables = "DROP TABLE damaged_jobs; DROP TABLE searches;
            UPDATE jobs SET record = 'no json' WHERE session = 'ses_3'; PRAGMA user_version = 2";
        connection.execute_batch(tables).unwrap();
    }
    let store = open(&directory);
    store.insert(&record("ses_1")).await.unwrap();
    let busy = store.insert(&record("ses_2")).await;
    assert!(
        matches!(busy, Err(StoreError::SessionBusy { .. })),
        "{busy:?}"
    );
    assert_eq!(store.list().await.unwrap().len(), 3);
}
