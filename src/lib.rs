//! Moves a coding agent's live session to another machine over SSH, lets it go on there, and brings it back.
//!
//! # The map
//! Dependencies point down this list and never around.
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`] | the command line: one of the library's clients |
//! | [`demo`] | an embedded SSH server and a stand-in agent: the main job with nothing installed |
//! | [`handoff`] | the flow: send a session, follow it, bring it back; the doctor |
//! | [`plugin`] | the opencode plugin: the tool `remote_login`, embedded in the binary |
//! | [`job`] | what is kept of remote work: records, states, the store |
//! | [`agent`] | the driver for opencode: on this machine, and the scripts for a host |
//! | [`ssh`] | one connection a host: dial, host keys, authentication, commands, files |
//! | [`hosts`] | what a host is, and where its definition came from |
//! | [`session`] | the agent's export document; a leaf |
//! | [`events`] | what happens, as typed events; a leaf |
//! | [`private_fs`] | local files that only the user can read; a leaf |
//!
//! # A handoff
//! ```no_run
//! use handover::handoff::{Client, ClientOptions, Failure};
//! use handover::job::Mode;
//!
//! # async fn example() -> Result<(), Failure> {
//! let client = Client::open(ClientOptions::from_env()?)?;
//! let mut handoff = client.handoff("gpu-box")?.mode(Mode::RoundTrip).message("Run the long tests.").start();
//! while let Some(event) = handoff.next_event().await {
//!     println!("{event:?}");
//! }
//! let outcome = handoff.outcome().await?;
//! println!("{:?}", outcome.trip);
//! # Ok(())
//! # }
//! ```
//!
//! What is public here is what a program that embeds the crate needs; the command line uses nothing else.

pub mod agent;
pub mod cli;
pub mod demo;
pub mod events;
pub mod handoff;
pub mod hosts;
pub mod job;
pub mod plugin;
pub mod private_fs;
pub mod session;
pub mod ssh;
