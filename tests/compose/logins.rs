//! Who gets in, and to whose host: keys, passwords, host keys.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use handover::ssh::{
    AgentSource, Challenge, ConnectOptions, Connection, ExecOptions, LoginAs, Prompt, SshError,
    Target, UnknownHostKey,
};
use zeroize::Zeroizing;

use crate::compose::Seat;

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
    let refused = seat
        .send(&session, &["--round-trip"])?
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
    let refused = seat
        .send(&session, &["--round-trip"])?
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
        let target = Target::new("box".parse()?, "127.0.0.1", seat.port(), "word");
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
