//! What is found of an account and its agent before anything is launched, and named when nothing can be done with it.

use anyhow::{Result, ensure};

use crate::compose::Seat;

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
    let refused = seat
        .send(&session, &["--round-trip"])?
        .expect_code(7)?
        .last()?;
    assert!(refused["error"]["hint"].is_string(), "{refused}");
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

#[test]
#[ignore = "needs docker: tests/run"]
fn a_login_that_runs_no_commands_is_refused_with_its_own_words() -> Result<()> {
    for (listener, user, words) in [
        ("main", "nologin", "This account is currently not available"),
        ("main", "rbash", "command not found"),
        ("forced", "bash", "this account runs one thing alone"),
    ] {
        let seat = Seat::take(listener, user)?;
        seat.client.trust("box")?;
        let refused = seat.client.run(seat.home(), &["check", "box"])?;
        let told = refused.stdout.clone() + &refused.stderr;
        refused.expect_code(7)?;
        ensure!(told.contains(words), "{user}: {told}");
        let session = seat.session()?;
        let refused = seat.send(&session, &[])?.expect_code(7)?;
        let error = &refused.last()?["error"];
        ensure!(error["kind"] == "shell", "{error}");
        let message = error["message"].as_str().unwrap_or_default();
        ensure!(message.contains(words), "{error}");
    }
    Ok(())
}
