//! A real sshd in a container, with users of every login shell and a stand-in agent.
//!
//! Run through `tests/run`, which starts the containers. Each test takes a [`Seat`] of its own.

#![cfg(unix)]

#[path = "support/compose.rs"]
mod compose;
mod support;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use compose::Seat;

/// A stand-in agent that never ends a run.
const ENDLESS_AGENT: &str = r#"printf '%s\n' '#!/bin/sh' \
    'case $1 in run) exec sleep 3600 ;; *) exec /fixture/bin/opencode "$@" ;; esac' >endless
chmod +x endless"#;

fn messages(export: &Value) -> Result<&[Value]> {
    Ok(export["messages"]
        .as_array()
        .context("an export without messages")?
        .as_slice())
}

/// A round trip that must complete with every old message unchanged.
fn round_trip(seat: &Seat, session: &str, more: &[&str]) -> Result<()> {
    let before = seat.export(session)?;
    let mut arguments = vec![
        "send",
        "box",
        "--session",
        session,
        "--round-trip",
        "--json",
        "--message",
        "go on",
    ];
    arguments.extend(more);
    let result = seat
        .client
        .run(&seat.project(), &arguments)?
        .expect_code(0)?
        .last()?;
    ensure!(
        result["event"] == "result" && result["outcome"] == "completed",
        "{result}"
    );
    let after = seat.export(session)?;
    let (old, all) = (messages(&before)?, messages(&after)?);
    ensure!(all.len() > old.len(), "nothing new came back: {result}");
    ensure!(all.starts_with(old), "an old message changed");
    Ok(())
}

/// The doctor, a one-way trip that is collected, and a round trip.
fn everything_works_for(user: &str) -> Result<()> {
    let seat = Seat::take("main", user)?;
    seat.client.trust("box")?;
    let checked = seat
        .client
        .run(seat.home(), &["check", "box", "--json"])?
        .expect_code(0)?;
    serde_json::from_str::<Value>(&checked.stdout).context("the check is no JSON document")?;
    let session = seat.session()?;
    let one_way = [
        "send",
        "box",
        "--session",
        &session,
        "--one-way",
        "--json",
        "--message",
        "work",
    ];
    let sent = seat
        .client
        .run(&seat.project(), &one_way)?
        .expect_code(0)?
        .last()?;
    ensure!(sent["outcome"] == "running", "{sent}");
    let job = sent["job"].as_str().context("no job")?;
    seat.client
        .run(&seat.project(), &["collect", job, "--json"])?
        .expect_code(0)?;
    round_trip(&seat, &session, &[])
}

macro_rules! every_shell {
    ($($name:ident: $user:literal,)*) => {$(
        #[test]
        #[ignore = "needs docker: tests/run"]
        fn $name() -> Result<()> {
            everything_works_for($user)
        }
    )*};
}

every_shell! {
    a_bash_user_is_served: "bash",
    a_dash_user_is_served: "dash",
    a_busybox_user_is_served: "ash",
    a_fish_user_is_served: "fish",
    a_tcsh_user_is_served: "tcsh",
    a_zsh_user_is_served: "zsh",
    a_user_whose_start_up_files_talk_is_served: "noisy",
}

#[test]
#[ignore = "needs docker: tests/run"]
fn a_directory_of_any_name_is_used_as_it_is() -> Result<()> {
    for user in ["bash", "tcsh", "fish"] {
        let seat = Seat::take("main", user)?;
        seat.client.trust("box")?;
        let session = seat.session()?;
        let directory = format!(
            "{}/it's a \"näme\" $(touch bad) `x` \\ ; 日本",
            seat.remote_home()
        );
        round_trip(&seat, &session, &["--dir", &directory])?;
        let found = seat.inside("ls -d it*; ls bad 2>/dev/null || true")?;
        assert_eq!(
            found.trim_end(),
            directory.rsplit('/').next().unwrap_or_default(),
            "for {user}"
        );
        seat.inside("rm -r it*")?;
    }
    Ok(())
}

#[test]
#[ignore = "needs docker: tests/run"]
fn a_refused_key_is_an_authentication_error() -> Result<()> {
    let seat = Seat::take("main", "bash")?;
    seat.client.trust("box")?;
    let stranger = seat.home().join("stranger");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&stranger)
        .status()?;
    ensure!(made.success(), "ssh-keygen");
    seat.configure_with(&stranger, "")?;
    let session = seat.session()?;
    let send = [
        "send",
        "box",
        "--session",
        &session,
        "--round-trip",
        "--json",
    ];
    let refused = seat
        .client
        .run(&seat.project(), &send)?
        .expect_code(6)?
        .last()?;
    assert!(refused["error"]["message"].is_string(), "{refused}");
    assert!(
        !refused.to_string().contains("127.0.0.1"),
        "an address in what a model may see: {refused}"
    );
    Ok(())
}

#[test]
#[ignore = "needs docker: tests/run"]
fn an_unknown_host_key_is_refused_with_its_fingerprint() -> Result<()> {
    let seat = Seat::take("main", "bash")?;
    let refused = seat
        .client
        .run(seat.home(), &["check", "box"])?
        .expect_code(5)?;
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(
        said.contains("host key") && said.contains("SHA256:"),
        "{said}"
    );
    assert!(
        said.contains("handover trust box"),
        "the way on must be told: {said}"
    );
    let session = seat.session()?;
    let send = [
        "send",
        "box",
        "--session",
        &session,
        "--round-trip",
        "--json",
    ];
    let refused = seat
        .client
        .run(&seat.project(), &send)?
        .expect_code(5)?
        .last()?;
    assert!(
        refused["error"].to_string().contains("host key"),
        "{refused}"
    );
    Ok(())
}

#[test]
#[ignore = "needs docker: tests/run"]
fn a_changed_host_key_is_a_hard_stop() -> Result<()> {
    let seat = Seat::take("main", "bash")?;
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    std::fs::create_dir(seat.home().join(".ssh"))?;
    std::fs::write(
        seat.home().join(".ssh/known_hosts"),
        format!("{} {other}\n", seat.known_as()),
    )?;
    let refused = seat
        .client
        .run(seat.home(), &["check", "box"])?
        .expect_code(5)?;
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(
        said.contains("host key") && said.contains("SHA256:"),
        "{said}"
    );
    Ok(())
}

#[test]
#[ignore = "needs docker: tests/run"]
fn a_user_without_a_shell_is_told_apart_from_a_lost_connection() -> Result<()> {
    let seat = Seat::take("main", "nologin")?;
    seat.client.trust("box")?;
    seat.client
        .run(seat.home(), &["check", "box"])?
        .expect_code(7)?;
    Ok(())
}

#[test]
#[ignore = "needs docker: tests/run"]
fn a_missing_agent_is_found_before_anything_is_launched() -> Result<()> {
    let seat = Seat::take("main", "bash")?;
    seat.client.trust("box")?;
    seat.configure("opencode = \"/nowhere/opencode\"")?;
    let session = seat.session()?;
    let send = [
        "send",
        "box",
        "--session",
        &session,
        "--round-trip",
        "--json",
    ];
    let refused = seat
        .client
        .run(&seat.project(), &send)?
        .expect_code(7)?
        .last()?;
    assert!(refused["error"]["hint"].is_string(), "{refused}");
    Ok(())
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
    let send = [
        "send",
        "box",
        "--session",
        &session,
        "--one-way",
        "--json",
        "--message",
        "work",
    ];
    let sent = seat
        .client
        .run(&seat.project(), &send)?
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

#[test]
#[ignore = "needs docker: tests/run"]
fn the_real_agent_is_found_where_it_is_mounted() -> Result<()> {
    let seat = Seat::take("main", "dash")?;
    seat.client.trust("box")?;
    seat.configure("opencode = \"/fixture/real/opencode\"")?;
    let checked = seat
        .client
        .run(seat.home(), &["check", "box", "--json"])?
        .expect_code(0)?;
    assert!(checked.stdout.contains("1.18.33"), "{}", checked.stdout);
    Ok(())
}
