//! Trips on which the link, the server or the whole host goes away.
//!
//! After every one of them: the job was launched once, no local message is lost, and nothing is left on the host.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use crate::compose::Seat;
use crate::program::{Ran, Started};
use crate::proxy::{Cut, Direction, Proxy, Repeat};
use crate::trips::messages;

/// What the agent is told in the sweep: long enough for the watching to be cut, too.
const SHORT: &str = "RULE say working\nRULE sleep 1\nRULE say done";
/// What it is told where the trouble comes while it works: it goes on when it is let.
const WAITING: &str = "RULE say working\nRULE await go\nRULE say done";
/// The cuts in each direction.
const CUTS: u64 = 6;
/// How many of them are under way at the same time.
const ABREAST: usize = 3;
/// By when a link that went silent is given up and dialled again: with the settings here after a few seconds, with
/// the default ones after three quarters of a minute.
const NOTICED: Duration = Duration::from_secs(20);

/// A stand-in agent that never ends a run.
const ENDLESS_AGENT: &str = r#"printf '%s\n' '#!/bin/sh' \
    'case $1 in run) exec sleep 3600 ;; *) exec /fixture/bin/opencode "$@" ;; esac' >endless
chmod +x endless"#;

/// A seat behind a proxy, where the host's key is trusted, and a session to send from it.
struct Trip {
    seat: Seat,
    proxy: Proxy,
    session: String,
    before: Value,
}

impl Trip {
    /// Through this listener of the containers.
    async fn to(listener: &str) -> Result<Self> {
        let mut seat = Seat::take(listener, "bash")?;
        let proxy = Proxy::start(seat.address()).await?;
        seat.lead_to(proxy.address().port())?;
        seat.client.trust("box")?;
        let session = seat.session()?;
        let before = seat.export(&session)?;
        Ok(Self {
            seat,
            proxy,
            session,
            before,
        })
    }

    /// Starts to send the session there, to a directory of its own.
    fn send(&self, mode: &str, message: &str) -> Started {
        let directory = format!("~/{}", self.session);
        self.seat.begin(&[
            "send",
            "box",
            mode,
            "--json",
            "--session",
            &self.session,
            "--dir",
            &directory,
            "--message",
            message,
        ])
    }

    /// Lets an agent go on that waits.
    fn go(&self) -> Result<()> {
        self.seat.inside(&format!(": >{}/go", self.session))?;
        Ok(())
    }

    /// Checks that all is as it is after a trip without trouble.
    fn is_whole(&self, ran: Ran) -> Result<()> {
        let ran = ran.exits(0);
        let result = ran.document();
        ensure!(result["outcome"] == "completed", "{result}");
        let after = self.seat.export(&self.session)?;
        let (old, all) = (messages(&self.before)?, messages(&after)?);
        ensure!(all.starts_with(old), "an old message changed");
        let new = &all[old.len()..];
        ensure!(new.len() == 2, "{new:?}");
        ensure!(text(&new[1]) == "working\ndone", "{}", new[1]);
        let there = self.seat.stored_there(&self.session)?;
        for history in [&after, &there] {
            ensure!(launches(history)? == 1, "{history}");
        }
        let job = result["job"].as_str().context("no job")?;
        let left = format!("ls -d .local/state/handover/jobs/{job} 2>/dev/null || :");
        ensure!(self.seat.inside(&left)?.is_empty(), "its directory is left");
        Ok(())
    }
}

/// The texts of a message, one a line.
fn text(message: &Value) -> String {
    let parts = message["parts"].as_array().into_iter().flatten();
    let texts: Vec<&str> = parts.filter_map(|part| part["text"].as_str()).collect();
    texts.join("\n")
}

/// How many times the agent was launched with the continuation of a handoff.
fn launches(history: &Value) -> Result<usize> {
    let opened = |message: &&Value| {
        message["info"]["role"] == "user" && text(message).starts_with("[Environment]")
    };
    Ok(messages(history)?.iter().filter(opened).count())
}

/// How often an event was told.
fn count(ran: &Ran, event: &str) -> usize {
    let documents = ran.documents();
    let such = |document: &&Value| document["event"] == event;
    documents.iter().filter(such).count()
}

/// The link is lost and cannot be made again.
async fn until_unreachable(sending: &mut Started) {
    sending
        .document(|document| document["event"] == "unreachable")
        .await;
}

/// The link is there again, and the trip comes to its end.
async fn goes_on(trip: &Trip, mut sending: Started) -> Result<()> {
    sending
        .document(|document| document["event"] == "reconnected")
        .await;
    trip.go()?;
    let ran = sending.ended().await;
    ensure!(count(&ran, "reconnected") == 1, "{}", ran.out);
    trip.is_whole(ran)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker: tests/run"]
async fn a_connection_cut_at_any_step_is_made_again_and_the_job_is_launched_once() -> Result<()> {
    let whole = Trip::to("main").await?;
    let ways = [Direction::ToServer, Direction::ToClient];
    let trust = ways.map(|way| whole.proxy.bytes(way));
    whole.is_whole(whole.send("--round-trip", SHORT).ended().await)?;
    let mut rows = Vec::new();
    for (way, trust) in ways.into_iter().zip(trust) {
        let size = whole.proxy.bytes(way) - trust;
        rows.extend((0..CUTS).map(|row| (way, row * size / CUTS)));
    }
    let cut = async |(way, at): (Direction, u64)| {
        let trip = Trip::to("main").await?;
        let cut = if at % 2 == 0 { Cut::Reset } else { Cut::Close };
        trip.proxy.cut_after(way, at, cut, Repeat::Once);
        let ran = trip.send("--round-trip", SHORT).ended().await;
        trip.is_whole(ran)
            .with_context(|| format!("{way:?} after {at}"))?;
        anyhow::Ok(trip.proxy.cuts())
    };
    let cuts: Vec<u64> = futures::stream::iter(rows.into_iter().map(cut))
        .buffer_unordered(ABREAST)
        .try_collect()
        .await?;
    // How often the host is looked at varies: the last row may be past the end of a trip.
    ensure!(cuts.iter().sum::<u64>() + 2 >= 2 * CUTS, "{cuts:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker: tests/run"]
async fn a_link_that_falls_silent_is_noticed_and_made_again() -> Result<()> {
    let trip = Trip::to("main").await?;
    trip.seat.write_ssh_config(
        "Host *\nServerAliveInterval 1\nServerAliveCountMax 2\nConnectTimeout 2\n",
    )?;
    let mut sending = trip.send("--round-trip", WAITING);
    sending.says("working").await;
    trip.proxy.silence();
    let silent = Instant::now();
    until_unreachable(&mut sending).await;
    ensure!(silent.elapsed() < NOTICED, "{:?}", silent.elapsed());
    trip.proxy.resume();
    goes_on(&trip, sending).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker: tests/run"]
async fn a_machine_that_wakes_during_a_trip_connects_again_once() -> Result<()> {
    let trip = Trip::to("main").await?;
    // So many may stay unanswered that the keepalive alone would take an hour.
    trip.seat.write_ssh_config(
        "Host *\nServerAliveInterval 1\nServerAliveCountMax 3600\nConnectTimeout 2\n",
    )?;
    let mut sending = trip.send("--round-trip", WAITING);
    sending.says("working").await;
    trip.proxy.silence();
    sending.signal("STOP").await;
    // The sleep itself: it has to be longer than a look at the clock and what a busy machine does to a timer.
    tokio::time::sleep(Duration::from_secs(12)).await;
    sending.signal("CONT").await;
    let awake = Instant::now();
    until_unreachable(&mut sending).await;
    ensure!(awake.elapsed() < NOTICED, "{:?}", awake.elapsed());
    trip.proxy.resume();
    goes_on(&trip, sending).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker: tests/run"]
async fn a_job_survives_its_sshd_and_is_watched_again_when_there_is_another() -> Result<()> {
    let trip = Trip::to("restarted").await?;
    let mut sending = trip.send("--round-trip", WAITING);
    sending.says("working").await;
    // Stopped first, so that it serves nobody new while its children are killed.
    trip.seat.inside_as_root(
        "end() { for child in $(pgrep -P \"$1\"); do end \"$child\"; done; kill -KILL \"$1\" || :; }\n\
         listener=$(cat /run/sshd/restarted.pid)\nkill -STOP \"$listener\"\nend \"$listener\"\n",
    )?;
    until_unreachable(&mut sending).await;
    trip.seat
        .inside_as_root("/usr/sbin/sshd -f /run/sshd/restarted")?;
    goes_on(&trip, sending).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker: tests/run"]
async fn a_host_without_address_one_that_refuses_and_one_that_is_silent_are_three_errors()
-> Result<()> {
    let mut trip = Trip::to("main").await?;
    trip.seat.write_ssh_config("Host *\nConnectTimeout 2\n")?;
    let sent = trip.send("--one-way", WAITING).ended().await.exits(0);
    let job = sent.document()["job"]
        .as_str()
        .context("no job")?
        .to_owned();
    let fails = async |seat: &Seat, kind: &str| {
        let collect = seat.begin(&["collect", &job, "--json"]).ended().await;
        collect.exits(4).error(kind);
        // The host cannot be asked, which says nothing about its job.
        let status = seat.begin(&["status", &job, "--json"]).ended().await;
        let status = status.document();
        ensure!(status["state"] == "running", "{kind}: {status}");
        ensure!(status["attributes"][0] == "unreachable", "{kind}: {status}");
        Ok(())
    };
    trip.seat
        .client
        .write_hosts("[hosts.box]\nhost = \"bash@no-such-name.invalid\"\n")?;
    fails(&trip.seat, "unresolved").await?;

    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let nobody = closed.local_addr()?.port();
    drop(closed);
    trip.seat.lead_to(nobody)?;
    fails(&trip.seat, "refused").await?;

    trip.seat.lead_to(trip.proxy.address().port())?;
    trip.proxy.silence();
    fails(&trip.seat, "timed_out").await?;

    trip.proxy.resume();
    trip.go()?;
    let collected = trip.seat.begin(&["collect", &job, "--json"]).ended().await;
    trip.is_whole(collected)
}

#[test]
#[ignore = "needs docker: tests/run"]
fn a_job_that_a_restart_ended_is_lost_and_said_to_be() -> Result<()> {
    let seat = Seat::take("spare", "bash")?;
    seat.client.trust("box")?;
    seat.inside(ENDLESS_AGENT)?;
    seat.configure("opencode = \"/home/bash/endless\"")?;
    let session = seat.session()?;
    let before = seat.export(&session)?;
    let sent = seat
        .send(&session, &["--one-way", "--message", "work"])?
        .expect_code(0)?
        .last()?;
    let job = sent["job"].as_str().context("no job")?;
    seat.restart()?;
    let lost = seat
        .client
        .run(&seat.project(), &["collect", job, "--json"])?
        .expect_code(9)?
        .last()?;
    assert!(lost["error"].to_string().contains("lost"), "{lost}");
    assert_eq!(
        seat.export(&session)?,
        before,
        "the local session must be as it was"
    );
    Ok(())
}
