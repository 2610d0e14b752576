//! A real sshd in a container, with users of every login shell and a stand-in agent.
//!
//! Run through `tests/run`, which starts the containers. Each test takes a [`Seat`] of its own.

#![cfg(unix)]

#[path = "support/compose.rs"]
mod compose;
mod support;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use handover::ssh::{
    AgentSource, Challenge, ConnectOptions, Connection, ExecOptions, LoginAs, Prompt, SshError,
    Target, UnknownHostKey,
};
use serde_json::Value;
use zeroize::Zeroizing;

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

#[test]
#[ignore = "needs docker: tests/run"]
fn a_host_that_only_the_bastion_reaches_has_its_round_trip_and_its_own_host_key() -> Result<()> {
    let seat = Seat::take("main", "bash")?;
    let (port, key) = (seat.port(), seat.identity());
    seat.write_ssh_config(&format!(
        "Host bastion\n HostName 127.0.0.1\n Port {port}\n User dash\n IdentityFile {key:?}\n\
             Host behind\n HostName hidden\n User fish\n ProxyJump bastion\n IdentityFile {key:?}\n"
    ))?;
    seat.client
        .write_hosts("[hosts.box]\nhost = \"behind\"\n")?;
    // Neither key is on record: first the bastion's is missing, then the host's.
    for missing in ["bastion", "box"] {
        let refused = seat
            .client
            .run(seat.home(), &["check", "box"])?
            .expect_code(5)?;
        let told = refused.stderr + &refused.stdout;
        ensure!(told.contains(missing), "{told}");
        seat.client.trust(missing)?;
    }
    seat.client
        .run(seat.home(), &["check", "box"])?
        .expect_code(0)?;
    let session = seat.session()?;
    round_trip(&seat, &session, &[])
}

#[test]
#[ignore = "needs docker: tests/run"]
fn servers_with_one_channel_few_logins_or_no_sftp_have_their_round_trips() -> Result<()> {
    std::thread::scope(|scope| {
        let trips: Vec<_> = ["sessions", "startups", "startups", "startups", "no_sftp"]
            .into_iter()
            .map(|listener| {
                scope.spawn(move || {
                    let seat = Seat::take(listener, "bash")?;
                    seat.client.trust("box")?;
                    let session = seat.session()?;
                    round_trip(&seat, &session, &[]).context(listener)
                })
            })
            .collect();
        for trip in trips {
            trip.join()
                .map_err(|_| anyhow::anyhow!("a trip panicked"))??;
        }
        Ok(())
    })
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
        let send = ["send", "box", "--session", &session, "--json"];
        let refused = seat.client.run(&seat.project(), &send)?.expect_code(7)?;
        let error = &refused.last()?["error"];
        ensure!(error["kind"] == "shell", "{error}");
        let message = error["message"].as_str().unwrap_or_default();
        ensure!(message.contains(words), "{error}");
    }
    Ok(())
}

#[test]
#[ignore = "needs docker: tests/run"]
fn a_host_certificate_is_as_good_as_its_authority() -> Result<()> {
    let seat = Seat::take("certified", "bash")?;
    let ssh = seat.home().join(".ssh");
    std::fs::create_dir(&ssh)?;
    let authority = seat.inside("cat /etc/ssh/host_ca.pub")?;
    seat.client
        .run(seat.home(), &["check", "box"])?
        .expect_code(5)?;
    std::fs::write(
        ssh.join("known_hosts"),
        format!("@cert-authority {} {authority}", seat.known_as()),
    )?;
    seat.client
        .run(seat.home(), &["check", "box"])?
        .expect_code(0)?;
    Ok(())
}

/// Somebody at a terminal who trusts every host and knows one password.
struct Person(&'static str);

#[async_trait]
impl Prompt for Person {
    async fn passphrase(&self, _: &std::path::Path) -> Option<Zeroizing<String>> {
        None
    }

    async fn accept_host_key(&self, _: &UnknownHostKey) -> bool {
        true
    }

    async fn password(&self, _: &LoginAs) -> Option<Zeroizing<String>> {
        Some(Zeroizing::new(self.0.to_owned()))
    }

    async fn answers(&self, challenge: &Challenge) -> Option<Vec<Zeroizing<String>>> {
        let answer = || Zeroizing::new(self.0.to_owned());
        Some(challenge.questions.iter().map(|_| answer()).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker: tests/run"]
async fn a_password_and_a_dialogue_let_a_person_in_and_nobody_else() -> Result<()> {
    for listener in ["password", "interactive"] {
        let seat = Seat::take(listener, "word")?;
        let port = u16::try_from(seat.port())?;
        let target = Target::new("box".parse()?, "127.0.0.1", port, "word");
        let open = async |password: &'static str| {
            let options = ConnectOptions::default()
                .agent(AgentSource::None)
                .prompt(Arc::new(Person(password)));
            Connection::open(&target, &options).await
        };
        let connection = open("open sesame").await.context(listener)?;
        let output = connection
            .exec("echo in", ExecOptions::new("a test"))
            .await?;
        ensure!(output.stdout == b"in\n", "{output:?}");
        let error = open("close sesame").await.err().context("let in")?;
        ensure!(
            matches!(error, SshError::AuthFailed { .. } | SshError::Lost { .. }),
            "{listener}: {error:?}"
        );
    }
    Ok(())
}
