//! The offline tier: handoffs against the demonstration's server with the stand-in agent on both sides, and a
//! network between them that delays, cuts and falls silent.
#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    reason = "the helpers of these tests fail as the tests do"
)]

#[path = "../support/proxy.rs"]
mod proxy;
mod support;

mod agents;
mod hosts;
mod jobs;
mod keys;
mod kill;
mod mends;
mod names;
mod network;
mod program;
mod returns;
mod spawn;
mod sync;
mod trips;
