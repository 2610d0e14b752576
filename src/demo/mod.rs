//! The demonstration: a host and an agent that need nothing installed.
//!
//! [`server`] is an SSH and SFTP server inside this process, [`standin`] plays opencode by rules, and [`stage`]
//! puts them together: what `handover demo` shows. The offline tests run against the same server and agent.
//! Nothing here is used by a real handoff.

pub mod server;
pub mod stage;
pub mod standin;
