//! Hostile names at every entry, through a login shell that has its own ideas of quoting: refused, or carried verbatim
//! as data; nothing is ever executed.

use anyhow::{Result, ensure};

use crate::compose::Seat;
use crate::hostile_names::HOSTILE;
use crate::support::client::Finished;
use crate::trips::messages;

/// A seat at a login shell that knows `!`, takes `$(` for an error, and has other quotes than a POSIX one.
fn seat() -> Result<(Seat, String)> {
    let seat = Seat::take("main", "tcsh")?;
    seat.client.trust("box")?;
    let session = seat.session()?;
    Ok((seat, session))
}

/// `--name=value`, as a careful caller passes what may begin with a dash.
fn send_with(seat: &Seat, session: &str, flag: &str, value: &str) -> Result<Finished> {
    let flag = format!("--{flag}={value}");
    seat.send(session, &["--round-trip", &flag])
}

fn nothing_was_executed(seat: &Seat) -> Result<()> {
    let there = seat.inside_as_root("find / -xdev -name PWNED")?;
    ensure!(there.is_empty(), "{there}");
    for here in [seat.project(), seat.home().to_owned()] {
        ensure!(!here.join("PWNED").exists(), "{here:?}");
    }
    Ok(())
}

#[test]
#[ignore = "needs docker: tests/run"]
fn a_hostile_host_session_job_or_model_is_refused_or_an_unknown_one() -> Result<()> {
    let (seat, session) = seat()?;
    let before = seat.export(&session)?;
    let run = |arguments: &[&str]| seat.client.run(&seat.project(), arguments);
    for value in HOSTILE {
        for verb in ["check", "trust"] {
            let ran = run(&[verb, "--json", "--", value])?;
            ensure!(matches!(ran.code, 2 | 3), "{verb} {value:?}: {ran:?}");
        }
        let ran = run(&["send", "--json", "--session", &session, "--", value])?;
        ensure!(matches!(ran.code, 2 | 3), "host {value:?}: {ran:?}");
        seat.send(value, &[])?.expect_code(2)?;
        run(&["collect", "--json", "--", value])?.expect_code(2)?;
        // None of them is 'provider/model' but the last.
        let unknown = if value == "../../etc" { 9 } else { 2 };
        send_with(&seat, &session, "model", value)?.expect_code(unknown)?;
    }
    // Models that have the form: the agent is asked for them by exactly that name, and does not know them.
    for value in ["a/$(touch PWNED)", "a/`touch PWNED`", "it's/\"quoted\"!"] {
        let ran = send_with(&seat, &session, "model", value)?.expect_code(9)?;
        let known = serde_json::to_string(&format!("model not found: {value}"))?;
        ensure!(ran.stdout.contains(known.trim_matches('"')), "{ran:?}");
    }
    ensure!(seat.export(&session)? == before, "the session changed");
    nothing_was_executed(&seat)
}

#[test]
#[ignore = "needs docker: tests/run"]
fn a_hostile_agent_or_directory_is_refused_or_that_very_one() -> Result<()> {
    let (seat, session) = seat()?;
    let mut arrived = Vec::new();
    for value in HOSTILE {
        let ran = send_with(&seat, &session, "agent", value)?;
        if ran.code != 2 {
            ran.expect_code(0)?;
            let there = seat.stored_there(&session)?;
            let answer = messages(&there)?.last().map(|answer| &answer["info"]);
            ensure!(
                answer.is_some_and(|answer| answer["agent"] == value),
                "{answer:?}"
            );
            arrived.push(("agent", value));
        }
        // In a directory of this test alone.
        let directory = format!("~/{session}/{value}");
        let ran = send_with(&seat, &session, "dir", &directory)?;
        if value.chars().any(char::is_control) || value.contains("..") {
            ran.expect_code(2)?;
            continue;
        }
        ran.expect_code(0)?;
        arrived.push(("dir", value));
        let found = seat.inside(&format!("ls -A {session}"))?;
        ensure!(found.lines().any(|name| name == value), "{value}: {found}");
    }
    ensure!(arrived.len() > HOSTILE.len() / 2, "{arrived:?}");
    nothing_was_executed(&seat)
}

#[test]
#[ignore = "needs docker: tests/run"]
fn a_message_arrives_byte_for_byte_whatever_is_in_it() -> Result<()> {
    let (seat, session) = seat()?;
    let message = format!(
        "-oProxyCommand=x\n{}\n\t tabs, trailing blanks   \n\r\n% %s \\n \\ '' \"\" $HOME ~ * ? [a] {{b}} #c !d !!\n\
         EOF\n'EOF'\ngr\u{f6}\u{df}e \u{6f22}\u{5b57} \u{1f600} \u{202e}x\u{7f}\u{1}\n.",
        HOSTILE.join("\n")
    );
    send_with(&seat, &session, "message", &message)?.expect_code(0)?;
    let there = seat.stored_there(&session)?;
    for history in [&there, &seat.export(&session)?] {
        let texts = messages(history)?
            .iter()
            .flat_map(|message| message["parts"].as_array())
            .flatten()
            .filter_map(|part| part["text"].as_str());
        ensure!(
            texts.into_iter().any(|text| text.contains(&message)),
            "{history}"
        );
    }
    nothing_was_executed(&seat)
}
