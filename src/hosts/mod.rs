//! What a host is, and where its definition came from.
//!
//! The main type is [`Hosts`]: every [`Host`] that is configured, read by [`Hosts::load`] from the
//! places that [`Places`] names. What a file holds is checked here, once, where it enters: a [`Host`]
//! holds nothing that could pass for an option, a second line or a piece of shell, and a file that
//! cannot be read as a whole is an error with its line and column, never a shorter list.
//!
//! Precedence, whole definitions, never key by key: inline ([`Hosts::with_inline`]), `hosts.toml`,
//! then for each of opencode's config directories `hosts.json` and `hosts.jsonc`. What is shadowed
//! stays visible ([`Hosts::shadowed`]). A project's own hosts file is listed
//! ([`Hosts::untrusted`]), never opened: a cloned repository must not be able to send a session
//! somewhere.
//!
//! An [`Address`] may be an alias of OpenSSH's configuration, and a host may stand there alone ([`SshConfig`], whose
//! page says what is read of it and how); [`Hosts::resolve`] gives a host with all that it says. Nothing here knows
//! another module or does network I/O.

mod address;
mod definition;
mod error;
mod file;
mod host;
mod json;
mod load;
mod name;
mod places;
mod settings;
mod ssh_config;
mod toml;
mod tree;
mod value;

pub use address::{Address, InvalidAddress};
pub use error::{HostsError, Position, Warning};
pub use host::{Host, RemoteOs, Source};
pub use load::Hosts;
pub use name::{HostName, InvalidHostName};
pub use places::Places;
pub use settings::{AlgorithmList, IdentityAgent, ListChange, SshSettings, StrictHostKeyChecking};
pub use ssh_config::{
    InvalidSshValue, LocalMachine, ResolvedHost, SshConfig, SshConfigEffect, SshConfigError,
    SshConfigNote, SyntaxProblem,
};
pub use value::{AgentName, HostPath, InvalidValue, ModelId};

#[cfg(test)]
mod tests;
