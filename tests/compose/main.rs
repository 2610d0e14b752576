//! A real sshd in a container, with users of every login shell and a stand-in agent.
//!
//! Run through `tests/run`, which starts the containers. Each test takes a [`Seat`](compose::Seat) of its own.

#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    reason = "what these tests share stops at its first surprise"
)]

#[path = "../support/compose.rs"]
mod compose;
mod faults;
#[path = "../support/hostile_names.rs"]
mod hostile_names;
mod logins;
mod names;
#[path = "../support/program.rs"]
#[expect(dead_code, reason = "shared with other test binaries")]
mod program;
#[path = "../support/proxy.rs"]
mod proxy;
mod refusals;
#[path = "../support/mod.rs"]
mod support;
mod trips;
