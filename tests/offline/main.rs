//! The offline tier: handoffs against the demonstration's server with the stand-in agent on both sides, and a
//! network between them that delays, cuts and falls silent.
#![expect(
    clippy::unwrap_used,
    reason = "the helpers of these tests fail as the tests do"
)]

#[path = "../support/hostile_names.rs"]
mod hostile_names;
#[path = "../support/proxy.rs"]
mod proxy;
mod support;

mod agents;
mod documentation;
mod glance;
mod hosts;
mod jobs;
mod keys;
mod kill;
mod logs;
mod mends;
mod names;
mod network;
mod program;
mod prune;
mod returns;
mod say;
mod spawn;
mod ssh_config;
mod store;
mod sync;
mod trips;
mod wait;
#[cfg(unix)]
mod watch;
mod watchdogs;
mod words;
