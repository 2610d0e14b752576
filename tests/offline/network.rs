//! What a bad network does to a handoff: cuts at every step, a network that stays away, silence.
//!
//! After every row: the job was launched at most once, no local message is lost, and the result stays on the
//! host until it has been imported and read back here.

use std::time::Duration;

use futures::StreamExt as _;
use handover::events::Event;
use handover::handoff::{Client, Ending, HandoffError, Outcome};
use handover::ssh::Keepalive;

use crate::proxy::{Cut, Direction, Repeat};
use crate::support::{History, Stage, bounded, grown};

/// What the agent is told in the sweeps: long enough for the watching to be cut, too.
const MESSAGE: &str = "RULE say working\nRULE sleep 1\nRULE say done";
/// How many rows of a sweep are under way at the same time: they wait more than they work.
const ABREAST: usize = 6;
/// The rows of a sweep in each direction; a trip takes seconds under Wine.
const ROWS: u64 = if cfg!(windows) { 4 } else { 16 };

/// The bytes of a whole trip in each direction.
async fn trip_size() -> [(Direction, u64); 2] {
    let stage = Stage::new().await;
    stage.send(MESSAGE).await.unwrap();
    [Direction::ToServer, Direction::ToClient].map(|way| (way, stage.proxy.bytes(way)))
}

/// Positions of cuts that reach every step: evenly over the trip, and the very first bytes. How often the host is
/// looked at varies, so the last row or two may be past the end of a trip.
async fn positions() -> Vec<(Direction, u64)> {
    let mut positions = Vec::new();
    for (direction, size) in trip_size().await {
        positions.extend((0..ROWS).map(|row| (direction, row * size / ROWS)));
    }
    positions
}

fn whole(before: &History, stage: &Stage, outcome: &Outcome) {
    assert_eq!(outcome.ending, Ending::Completed);
    let after = stage.history_here();
    let new = grown(before, &after);
    assert_eq!(after.launches(), 1, "the job was launched exactly once");
    assert_eq!(new.len(), 2);
    assert_eq!(new[1].text(), "working\ndone");
    assert_eq!(stage.history_there().launches(), 1);
}

#[tokio::test]
async fn a_connection_cut_anywhere_is_made_again_and_the_job_is_launched_once() {
    let rows = positions()
        .await
        .into_iter()
        .map(|(direction, at)| async move {
            let stage = Stage::new().await;
            let before = stage.history_here();
            let cut = if at % 2 == 0 { Cut::Reset } else { Cut::Close };
            stage.proxy.cut_after(direction, at, cut, Repeat::Once);
            match stage.send(MESSAGE).await {
                Ok(outcome) => whole(&before, &stage, &outcome),
                Err(failure) => panic!("cut {direction:?} after {at}: {failure:?}"),
            }
            assert_eq!(stage.job_directories().len(), 0);
            stage.proxy.cuts()
        });
    let cuts: Vec<u64> = futures::stream::iter(rows)
        .buffer_unordered(ABREAST)
        .collect()
        .await;
    assert!(cuts.iter().sum::<u64>() + 4 >= 2 * ROWS, "{cuts:?}");
}

/// Sends, and detaches when the host is not reached any more.
async fn send_until_unreachable(stage: &Stage) -> Result<Outcome, handover::handoff::Failure> {
    let mut running = stage.round_trip(MESSAGE).start();
    let detacher = running.detacher();
    let work = async {
        while let Some(event) = running.next_event().await {
            if matches!(event, Event::Unreachable { .. }) {
                detacher.cancel();
            }
        }
        running.outcome().await
    };
    bounded("the handoff", work).await
}

#[tokio::test]
async fn after_a_network_that_stayed_away_a_job_is_finished_or_closed_by_collecting_it() {
    let rows = positions()
        .await
        .into_iter()
        .map(|(direction, at)| async move {
            let row = format!("away {direction:?} after {at}");
            let stage = Stage::new().await;
            let before = stage.history_here();
            stage
                .proxy
                .cut_after(direction, at, Cut::Reset, Repeat::Down);
            let ended = send_until_unreachable(&stage).await;
            let job = match &ended {
                Ok(outcome) => outcome.job.clone(),
                Err(failure) => {
                    let job = failure.job.clone();
                    job.unwrap_or_else(|| panic!("{row}: no job in {failure:?}"))
                }
            };
            match ended {
                Ok(outcome) if outcome.ending == Ending::Completed => {
                    // Only the tidying up was cut, or nothing.
                    whole(&before, &stage, &outcome);
                    return "completed";
                }
                Ok(outcome) => assert_eq!(outcome.ending, Ending::Detached, "{row}"),
                Err(failure) => {
                    assert!(!failure.manual.is_empty(), "{row}: {failure:?}");
                    assert_eq!(stage.history_here(), before, "{row}");
                    let said = failure.manual.join("\n");
                    if matches!(failure.error, HandoffError::CalledOff) {
                        assert!(said.contains("nothing was"), "{row}: {said}");
                    }
                }
            }
            stage.proxy.resume();
            match stage.collect(&job).await {
                Ok(outcome) if outcome.ending == Ending::Closed => {
                    assert_eq!(stage.history_here(), before, "{row}");
                    assert!(!stage.is_there(), "{row}: it was never launched");
                    // The session is free.
                    let again = stage.send(MESSAGE).await.unwrap();
                    whole(&before, &stage, &again);
                    "closed"
                }
                Ok(outcome) => {
                    whole(&before, &stage, &outcome);
                    assert_eq!(stage.job_directories().len(), 0, "{row}");
                    "finished"
                }
                Err(failure) => panic!("{row}: {failure:?}"),
            }
        });
    let ends: Vec<&str> = futures::stream::iter(rows)
        .buffer_unordered(ABREAST)
        .collect()
        .await;
    assert!(
        ends.contains(&"closed") && ends.contains(&"finished"),
        "{ends:?}"
    );
}

#[tokio::test]
async fn a_link_that_falls_silent_is_noticed_and_made_again() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let mut options = stage.options();
    options.connect.keepalive = Keepalive {
        interval: Duration::from_millis(200),
        misses: 2,
    };
    let client = Client::open(options).unwrap();
    let handoff = client.handoff(crate::support::BOX).unwrap();
    let mut running = handoff
        .session(stage.session.clone())
        .mode(handover::job::Mode::RoundTrip)
        .message(MESSAGE)
        .start();
    let work = async {
        let mut reconnected = false;
        while let Some(event) = running.next_event().await {
            match event {
                Event::Step {
                    step: handover::events::Step::Run,
                    ..
                } => stage.proxy.silence(),
                Event::Unreachable { .. } => stage.proxy.resume(),
                Event::Reconnected => reconnected = true,
                _ => {}
            }
        }
        (reconnected, running.outcome().await)
    };
    let (reconnected, outcome) = bounded("the handoff", work).await;
    assert!(reconnected);
    whole(&before, &stage, &outcome.unwrap());
}

#[cfg(unix)]
#[tokio::test]
async fn a_client_that_slept_longer_than_its_keepalive_reconnects_once_and_the_trip_goes_on() {
    use crate::support::{BOX, write_private};

    let stage = Stage::new().await;
    let before = stage.history_here();
    let config = stage.here(".ssh/config");
    let text = "Host *\n  ServerAliveInterval 1\n  ServerAliveCountMax 2\n";
    write_private(&config, text);
    let session = stage.session.to_string();
    let message = "RULE say working\nRULE await go\nRULE say done";
    let mut send = vec!["send", BOX, "--round-trip", "--json", "--dir", "~/work"];
    send.extend(["--session", &session, "--message", message]);
    let mut sending = stage.begin(&send);
    sending.says("working").await;
    stage.proxy.silence();
    sending.signal("STOP").await;
    // Asleep for longer than the link may be silent; the clock of the keepalive is what is under test.
    tokio::time::sleep(Duration::from_secs(6)).await;
    sending.signal("CONT").await;
    sending
        .document(|document| document["event"] == "unreachable")
        .await;
    stage.proxy.resume();
    sending
        .document(|document| document["event"] == "reconnected")
        .await;
    std::fs::write(stage.there("work/go"), "").unwrap();
    let ran = sending.ended().await.exits(0);
    let events = |name: &str| {
        let documents = ran.documents();
        documents
            .iter()
            .filter(|document| document["event"] == name)
            .count()
    };
    assert_eq!(events("reconnected"), 1, "{}", ran.out);
    let said = |text: &str| {
        let documents = ran.documents();
        documents
            .iter()
            .filter(|document| document["agent"]["text"] == text)
            .count()
    };
    assert_eq!((said("working"), said("done")), (1, 1), "{}", ran.out);
    let new = grown(&before, &stage.history_here());
    assert_eq!((new.len(), new[1].text().as_str()), (2, "working\ndone"));
    assert_eq!(stage.history_there().launches(), 1);
    assert_eq!(stage.job_directories().len(), 0);
}
