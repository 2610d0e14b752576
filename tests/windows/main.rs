//! `handover.exe` under Wine, against a real sshd on loopback.
//!
//! Run through `tests/run --tier windows`, which builds the program and makes a Wine prefix. [`wine::Windows`] is the
//! machine of a person. The host has the stand-in agent ([`far::Far`]), or real opencode (`real`).

#![cfg(unix)]

#[expect(
    dead_code,
    reason = "shared with the tests of real agents, which drive opencode with it"
)]
#[path = "../support/opencode.rs"]
mod opencode;
#[expect(
    dead_code,
    reason = "shared with tests/agent.rs, which uses other parts of it"
)]
#[path = "../support/provider.rs"]
mod provider;
#[path = "../support/remote.rs"]
mod remote;
#[expect(
    dead_code,
    reason = "shared with tests/sshd.rs, which uses other parts of it"
)]
#[path = "../support/sshd.rs"]
mod sshd;
#[expect(
    dead_code,
    reason = "shared with the tests of real agents, which use other parts of it"
)]
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/wine.rs"]
mod wine;

mod console;
mod far;
mod places;
mod real;
mod trips;

use std::process::{Child, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use sshd::wait_for;
use support::client::Finished;

/// What every wait in these tests is bounded by, as every command is: real agents on a busy machine are slow.
const DEADLINE: Duration = Duration::from_secs(240);

/// What a run with `--json` printed last, which must have ended with the code 0.
fn told(finished: Finished) -> Result<Value> {
    finished.expect_code(0)?.last()
}

/// The result of a run with `--json`, which must be a handoff's.
fn result(finished: Finished) -> Result<Value> {
    let result = told(finished)?;
    ensure!(result["event"] == "result", "{result}");
    Ok(result)
}

/// The text of a field.
fn text(value: &Value, field: &str) -> Result<String> {
    let found = value[field].as_str().map(str::to_owned);
    found.with_context(|| format!("no {field} in {value}"))
}

/// Waits for the end of a program that is about to end, and kills it when it does not.
fn ended(child: &mut Child) -> Result<ExitStatus> {
    let mut status = None;
    wait_for(DEADLINE, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    if status.is_none() {
        child.kill()?;
        child.wait()?;
    }
    status.context("it did not end in time")
}
