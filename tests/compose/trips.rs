//! Handoffs that succeed, whatever the login shell, the server's limits and the way there.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::compose::Seat;

pub(crate) fn messages(export: &Value) -> Result<&[Value]> {
    Ok(export["messages"]
        .as_array()
        .context("an export without messages")?
        .as_slice())
}

/// A round trip that must complete with every old message unchanged.
pub(crate) fn round_trip(seat: &Seat, session: &str, more: &[&str]) -> Result<()> {
    let before = seat.export(session)?;
    let arguments = [&["--round-trip", "--message", "go on"], more].concat();
    let result = seat.send(session, &arguments)?.expect_code(0)?.last()?;
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
    let sent = seat
        .send(&session, &["--one-way", "--message", "work"])?
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
fn files_go_by_exec_where_sftp_shows_another_tree_than_the_shell() -> Result<()> {
    let seat = Seat::take("jailed", "bash")?;
    seat.client.trust("box")?;
    let checked = seat
        .client
        .run(seat.home(), &["check", "box", "--json"])?
        .expect_code(0)?
        .last()?;
    let findings = checked["findings"].as_array().context("no findings")?;
    let sftp = findings.iter().find(|finding| finding["name"] == "sftp");
    let sftp = sftp.context("nothing about sftp")?;
    ensure!(sftp["status"] == "warn", "{sftp}");
    let detail = sftp["detail"].as_str().unwrap_or_default();
    ensure!(detail.contains("shows other files"), "{sftp}");
    let session = seat.session()?;
    round_trip(&seat, &session, &[])?;

    // What has ended there is judged by its events: it lets go of its session, and a new store adopts it.
    let sent = seat
        .send(&session, &["--one-way", "--message", "RULE say done"])?
        .expect_code(0)?
        .last()?;
    let job = sent["job"].as_str().context("no job")?;
    seat.inside(&format!(
        "cd .local/state/handover/jobs/{job} && until [ -e exit ]; do sleep 0.1; done"
    ))?;
    let state = seat.home().join("handover-state");
    std::fs::rename(&state, seat.home().join("lost"))?;
    let arguments = ["jobs", "--host", "box", "--discover"];
    seat.client.run(seat.home(), &arguments)?.expect_code(0)?;
    let adopted = seat
        .client
        .run(seat.home(), &["status", job, "--json"])?
        .expect_code(0)?
        .last()?;
    ensure!(
        adopted["state"] == "returning" || adopted["state"] == "completed",
        "{adopted}"
    );
    ensure!(adopted["result"] == "done", "{adopted}");
    seat.client
        .run(&seat.project(), &["collect", job, "--merge", "--json"])?
        .expect_code(0)?;
    let message = "RULE await fail-now\nRULE exit 7";
    let sent = seat
        .send(&session, &["--one-way", "--message", message])?
        .expect_code(0)?
        .last()?;
    let job = sent["job"].as_str().context("no job")?;
    seat.inside(&format!(
        "touch fail-now && cd .local/state/handover/jobs/{job} && until [ -e exit ]; do sleep 0.1; done && rm ~/fail-now"
    ))?;
    round_trip(&seat, &session, &[])?;
    let jail = seat.inside("find /srv/jail/home -mindepth 2")?;
    ensure!(jail.is_empty(), "written to the other tree: {jail}");
    Ok(())
}
