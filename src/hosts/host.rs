//! One host.
//!
//! The main type is [`Host`]; each of its values is a checked one, so any [`Host`] is usable as it is.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::address::Address;
use super::error::{HostsError, Position};
use super::name::HostName;
use super::value::{AgentName, HostPath, ModelId};

/// What a host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RemoteOs {
    /// Anything with a POSIX shell: Linux, macOS, a BSD.
    #[default]
    Posix,
    /// Windows, which is not supported yet.
    Windows,
}

/// Where a host was defined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Source {
    /// By the program that uses the library.
    Inline,
    /// In a file; the position is that of the host's name.
    File(Position),
    /// In an ssh_config alone; the position is that of the `Host` line.
    SshConfig(Position),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline => formatter.write_str("inline"),
            Self::File(at) | Self::SshConfig(at) => {
                write!(formatter, "{}:{}", at.path.display(), at.line)
            }
        }
    }
}

/// A host that a session can go to.
///
/// Serialises as one flat object with the keys of `hosts.toml`, `name` and `source`; what is not set
/// is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Host {
    /// The name, all that a model sees.
    pub name: HostName,
    /// Where it is. The host part may be an alias, which the SSH layer resolves.
    #[serde(flatten)]
    pub address: Address,
    /// The private key to offer, with `~` expanded to the local home directory.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "optional_path"
    )]
    pub identity_file: Option<PathBuf>,
    /// The agent that goes on with a session there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The model that goes on with a session there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelId>,
    /// The default work directory there; without one, the home directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<HostPath>,
    /// The opencode program there; without one, it is looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opencode: Option<HostPath>,
    /// The directory below which job directories are made there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<HostPath>,
    /// What it runs.
    pub os: RemoteOs,
    /// Whether the agent there may do without asking what it would ask for.
    pub auto_approve: bool,
    /// How many live jobs there may be there at once; above it a job is refused.
    #[serde(skip_serializing_if = "is_default_max_jobs")]
    pub max_jobs: u32,
    /// After how long without a sign of the agent a job counts as stalled; without one, [`Host::INACTIVITY`].
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "optional_duration"
    )]
    pub inactivity: Option<Duration>,
    /// Whether a stalled job is killed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub kill_on_stall: bool,
    /// Where it was defined.
    pub source: Source,
}

impl Host {
    /// [`max_jobs`](Self::max_jobs) where none is set.
    pub const MAX_JOBS: u32 = 8;
    /// The bound of inactivity where [`inactivity`](Self::inactivity) is not set.
    pub const INACTIVITY: Duration = Duration::from_secs(600);

    /// A host with nothing set but where it is, defined inline; set the rest on the fields.
    ///
    /// ```
    /// use handover::hosts::Host;
    ///
    /// let mut host = Host::new("gpu".parse()?, "dev@gpu.example.com:2222".parse()?);
    /// host.model = Some("anthropic/claude-sonnet-4-5".parse()?);
    /// assert_eq!(host.address.port(), Some(2222));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn new(name: HostName, address: Address) -> Self {
        Self {
            name,
            address,
            identity_file: None,
            agent: None,
            model: None,
            directory: None,
            opencode: None,
            state_dir: None,
            os: RemoteOs::default(),
            auto_approve: false,
            max_jobs: Self::MAX_JOBS,
            inactivity: None,
            kill_on_stall: false,
            source: Source::Inline,
        }
    }

    /// Refuses a host that no session can go to yet.
    ///
    /// # Errors
    ///
    /// [`HostsError::NotYet`] when it runs Windows.
    pub fn require_supported(&self) -> Result<(), HostsError> {
        match self.os {
            RemoteOs::Posix => Ok(()),
            RemoteOs::Windows => Err(HostsError::NotYet {
                host: self.name.clone(),
            }),
        }
    }
}

#[expect(
    clippy::ref_option,
    reason = "the form that serde's serialize_with demands"
)]
fn optional_path<S: serde::Serializer>(
    path: &Option<PathBuf>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => super::file::path_as_text(path, serializer),
        None => serializer.serialize_none(),
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the form that serde's skip_serializing_if demands"
)]
fn is_default_max_jobs(count: &u32) -> bool {
    *count == Host::MAX_JOBS
}

#[expect(
    clippy::ref_option,
    reason = "the form that serde's serialize_with demands"
)]
fn optional_duration<S: serde::Serializer>(
    time: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(&humantime::format_duration(*time)),
        None => serializer.serialize_none(),
    }
}
