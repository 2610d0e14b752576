//! What a model may see: the second rendering of events and errors.
//!
//! The invariant: names of hosts, ids of jobs and sessions, kinds, counts and what the caller itself gave; never an
//! address, a user, a port, a fingerprint, a key's path, a path of either machine, or words of a server. What is
//! left out is written to the log, for the person. A new error variant does not compile before it has its words
//! here.

use std::path::Path;

use serde::Serialize;

use super::exit::{self, ErrorDocument};
use crate::agent::AgentError;
use crate::events::{AgentEvent, Event};
use crate::handoff::{Client, Failure, HandoffError};
use crate::hosts::{HostsError, SshConfigError};
use crate::job::StoreError;
use crate::session::DocumentError;
use crate::ssh::SshError;

/// The hosts as a tool lists them.
#[derive(Serialize)]
pub(crate) struct Listing<'a> {
    /// The program's version.
    version: &'static str,
    /// The hosts' names.
    hosts: Vec<&'a str>,
    /// The project's own hosts files, which are not used, as paths in the project.
    unused: Vec<String>,
}

pub(crate) fn listing(client: &Client) -> Listing<'_> {
    let hosts = client.hosts();
    let project = &client.places().project_dir;
    let in_project = |path: &Path| {
        let path = path.strip_prefix(project).ok()?;
        Some(path.to_string_lossy().into_owned())
    };
    Listing {
        version: env!("CARGO_PKG_VERSION"),
        hosts: hosts.iter().map(|host| host.name.as_str()).collect(),
        unused: hosts
            .untrusted()
            .iter()
            .filter_map(|path| in_project(path))
            .collect(),
    }
}

/// The event without what is only for a person; what the agent itself says stays, since it is the session's.
pub(crate) fn event(event: &Event) -> Option<Event> {
    match event {
        Event::Step { step, .. } => Some(Event::Step {
            step: *step,
            detail: String::new(),
        }),
        Event::Warning { message } => {
            tracing::warn!(%message, "warning");
            None
        }
        Event::Unreachable {
            attempt,
            retry_in_ms,
            reason,
        } => {
            tracing::info!(%reason, attempt, "the link is down");
            Some(Event::Unreachable {
                attempt: *attempt,
                retry_in_ms: *retry_in_ms,
                reason: String::new(),
            })
        }
        Event::Agent { agent } => agent_event(agent).map(|agent| Event::Agent { agent }),
        Event::Job { .. } | Event::Progress { .. } | Event::Reconnected => Some(event.clone()),
    }
}

pub(crate) fn agent_event(event: &AgentEvent) -> Option<AgentEvent> {
    match event {
        AgentEvent::Reasoning { .. } => None,
        AgentEvent::ToolUse { tool, status, .. } => Some(AgentEvent::ToolUse {
            tool: tool.clone(),
            status: status.clone(),
            title: String::new(),
            fingerprint: 0,
        }),
        // A provider's error names the address that was asked.
        AgentEvent::Error { .. } => Some(AgentEvent::Error {
            message: "the agent reported an error".to_owned(),
        }),
        AgentEvent::Text { .. } | AgentEvent::StepFinish { .. } => Some(event.clone()),
    }
}

/// The error as a model sees it; the whole of it goes to the log.
pub(crate) fn error_document(failure: &Failure) -> ErrorDocument {
    let error = &failure.error;
    tracing::warn!(
        kind = exit::describe(error).kind,
        job = failure.job.as_ref().map(tracing::field::display),
        message = %exit::with_causes(error),
        by_hand = ?failure.manual,
        "failed"
    );
    exit::worded_document(failure, words(error), hint(error))
}

/// What helps, without a path.
fn hint(error: &HandoffError) -> Option<String> {
    match error {
        HandoffError::Hosts(HostsError::UnknownHost { .. }) => Some(
            "'handover hosts' lists what is configured; a host of the user's ssh_config is one for a tool once \
             hosts.toml has it ([hosts.NAME])"
                .to_owned(),
        ),
        HandoffError::Ssh(error) if matches!(error.unshared(), SshError::HostKeyChanged { .. }) => {
            Some(
                "somebody may be in between: the user must look at this, with 'handover trust'"
                    .to_owned(),
            )
        }
        HandoffError::Ssh(error) if matches!(error.unshared(), SshError::KeyEncrypted { .. }) => {
            Some("the user loads the key into ssh-agent with 'ssh-add'".to_owned())
        }
        _ => exit::describe(error).hint,
    }
}

/// What happened, in words that hold nothing of a host but its name.
fn words(error: &HandoffError) -> String {
    match error {
        HandoffError::Hosts(error) => hosts(error),
        HandoffError::Ssh(error) => ssh(error),
        HandoffError::Agent(error) => agent(error),
        HandoffError::Document(error) => document(error),
        HandoffError::Store(error) => store(error),
        HandoffError::LocalUser { host, .. } => format!("the user for host {host} is not known"),
        HandoffError::LocalFile { .. } => "a file on this machine cannot be used".to_owned(),
        HandoffError::Settings { .. } => "handover's configuration file cannot be used".to_owned(),
        HandoffError::NoSession { .. } => "there is no session in this directory".to_owned(),
        HandoffError::AgentMissing { host, .. } => format!("opencode was not found on host {host}"),
        HandoffError::AgentBroken { host, .. } => {
            format!("the opencode of host {host} does not work")
        }
        HandoffError::AgentTooOld {
            host,
            version,
            oldest,
            ..
        } => {
            format!(
                "the opencode of host {host} is too old ({version}; it must be {oldest} at least)"
            )
        }
        HandoffError::WorkDirectory { host, .. } => {
            format!("the work directory on host {host} is something else than a directory")
        }
        HandoffError::Reverted { session, .. } => {
            format!("session {session} stands at an undone message")
        }
        HandoffError::Incomplete { host, .. } => {
            format!("what was sent did not arrive whole on host {host}")
        }
        HandoffError::StateDirectory { host, .. } => {
            format!("handover's directory on host {host} cannot be written")
        }
        HandoffError::Remote {
            host, phase, code, ..
        } => match code {
            Some(code) => format!("the {phase} on host {host} failed with status {code}"),
            None => format!("the {phase} on host {host} failed"),
        },
        HandoffError::Unreachable { host, after, .. } => format!(
            "host {host} was not reached again within {} s",
            after.as_secs()
        ),
        HandoffError::SentElsewhere { job, .. } => format!("job {job} was sent by another machine"),
        HandoffError::FingerprintMismatch { host, .. } => {
            format!("the host key of {host} is not the one that was demanded")
        }
        // Their own words hold names, ids and counts alone.
        HandoffError::NoSessionYet { .. }
        | HandoffError::NotLaunched { .. }
        | HandoffError::InboxClosed { .. }
        | HandoffError::NotOwnJob { .. }
        | HandoffError::NoLog { .. }
        | HandoffError::NotWatched { .. }
        | HandoffError::SameMachine { .. }
        | HandoffError::WrongSession { .. }
        | HandoffError::DiskFull { .. }
        | HandoffError::Clock { .. }
        | HandoffError::ClosedBeforeLaunch { .. }
        | HandoffError::NeverStarted { .. }
        | HandoffError::Vanished { .. }
        | HandoffError::NotEnded { .. }
        | HandoffError::TooManyJobs { .. }
        | HandoffError::NothingNew { .. }
        | HandoffError::ResultMismatch { .. }
        | HandoffError::Diverged { .. }
        | HandoffError::NotVerified { .. }
        | HandoffError::JobBusy { .. }
        | HandoffError::AlreadyCollected { .. }
        | HandoffError::CalledOff
        | HandoffError::Aborted => error.to_string(),
    }
}

fn hosts(error: &HostsError) -> String {
    match error {
        HostsError::Parse { .. }
        | HostsError::UnknownKey { .. }
        | HostsError::InvalidName { .. }
        | HostsError::Read { .. }
        | HostsError::TooLarge { .. } => {
            "a hosts file cannot be used; 'handover hosts' tells the user where and why".to_owned()
        }
        HostsError::InvalidAddress { host, .. } => {
            format!("the hosts file has an invalid address for host {host}")
        }
        HostsError::InvalidValue { host, key, .. } => {
            format!("the hosts file has an invalid {key} for host {host}")
        }
        HostsError::SshConfig(error) => ssh_config(error),
        // Names alone, and the one that the caller gave.
        HostsError::UnknownHost { .. }
        | HostsError::NotYet { .. }
        | HostsError::NoHome
        | HostsError::NoWorkingDirectory(_) => error.to_string(),
    }
}

fn ssh_config(error: &SshConfigError) -> String {
    match error {
        SshConfigError::Syntax { .. }
        | SshConfigError::Missing { .. }
        | SshConfigError::Permissions { .. }
        | SshConfigError::Includes { .. }
        | SshConfigError::List { .. } => {
            "the user's ssh_config cannot be used; 'handover hosts' tells the user where and why"
                .to_owned()
        }
        SshConfigError::Value { host, keyword, .. } => {
            format!("the user's ssh_config has a {keyword} for host {host} that cannot be used")
        }
        SshConfigError::Unsupported { host, keyword, .. } => {
            format!("the user's ssh_config has {keyword} for host {host}, which is not supported")
        }
        SshConfigError::Undecided { host, .. } => {
            format!("the user's ssh_config has a Match for host {host} that is not evaluated")
        }
        SshConfigError::UnknownKeyword { host, .. } => {
            format!("the user's ssh_config has an unknown keyword for host {host}")
        }
        SshConfigError::JumpLoop { host, .. } => {
            format!("the user's ssh_config leads to host {host} in a circle")
        }
        SshConfigError::LocalUser { host, .. } => {
            format!("the name of the local user, which host {host} depends on, is not known")
        }
    }
}

fn ssh(error: &SshError) -> String {
    match error {
        SshError::HostKeyUnknown { host, .. } => format!("the host key of {host} is not known"),
        SshError::HostKeyChanged { host, .. } => format!("the host key of {host} has changed"),
        SshError::HostKeyRevoked { host, .. } => format!("the host key of {host} is revoked"),
        SshError::HostCertificate { host, fault, .. } => {
            format!("the host certificate of {host} {}", fault.kind())
        }
        SshError::HostKeyRefused { host, .. } => format!("the host key of {host} is refused"),
        SshError::NotStrict { host, .. } => {
            format!("host {host} does not offer strict key exchange, which its cipher needs")
        }
        SshError::KnownHosts { .. } => "a file of known host keys cannot be used".to_owned(),
        SshError::AuthFailed { host, .. } => {
            format!("host {host} accepted none of the user's keys")
        }
        SshError::KeyEncrypted { host, .. } => {
            format!("the key for host {host} is encrypted, and nobody can be asked here")
        }
        SshError::KeyFile { .. } => "a key file cannot be used".to_owned(),
        SshError::UserCertificate { host, fault, .. } => {
            format!("the user's certificate for host {host} {}", fault.kind())
        }
        SshError::ChannelRefused { host, .. } => {
            format!("host {host} refused to open a channel")
        }
        SshError::NotFound { host, .. } => format!("a file on host {host} does not exist"),
        SshError::AlreadyExists { host, .. } => format!("a file on host {host} exists already"),
        SshError::PermissionDenied { host, .. } => {
            format!("permission denied for a file on host {host}")
        }
        SshError::NoSpace { host, .. } => format!("no space is left on host {host}"),
        SshError::TooLarge { host, .. } => {
            format!("a file on host {host} is larger than it may be")
        }
        SshError::Remote { host, .. } => format!("host {host} reported a failure of a file"),
        SshError::Local { .. } => "a file on this machine cannot be used".to_owned(),
        SshError::Shared(error) => ssh(error),
        // Their own words hold the name and a constant alone; the cause is not told.
        SshError::Resolve { .. }
        | SshError::Refused { .. }
        | SshError::Unreachable { .. }
        | SshError::TimedOut { .. }
        | SshError::Handshake { .. }
        | SshError::JumpRefused { .. }
        | SshError::ForwardRefused { .. }
        | SshError::LocalPort { .. }
        | SshError::Lost { .. }
        | SshError::NoAlgorithm { .. }
        | SshError::ExecRefused { .. }
        | SshError::SftpUnavailable { .. } => error.to_string(),
    }
}

fn agent(error: &AgentError) -> String {
    match error {
        AgentError::NoAnswer { .. } => "the host's shell did not run handover's script".to_owned(),
        AgentError::AnswerField { .. } => "the host's answer cannot be used".to_owned(),
        AgentError::Parameter { what, reason, .. } => format!("{what} cannot be used: {reason}"),
        AgentError::LocalNotThere { .. } | AgentError::LocalStart { .. } => {
            "opencode cannot be started on this machine".to_owned()
        }
        AgentError::UnsafeDirectory { .. } => {
            "opencode on this machine cannot work in the session's directory".to_owned()
        }
        AgentError::LocalDirectory { .. } => {
            "the session's directory is not there on this machine".to_owned()
        }
        AgentError::LocalFailed { command, .. } => {
            format!("opencode {command} failed on this machine")
        }
        AgentError::ImportUnconfirmed { session, .. } => {
            format!("opencode import did not confirm the session {session}")
        }
        AgentError::UnsafeArgument { .. } => {
            "a value cannot be passed to opencode on this machine".to_owned()
        }
        AgentError::Io { .. } => "a file on this machine cannot be used".to_owned(),
        // Their own words hold constants and numbers alone.
        AgentError::AnswerCut
        | AgentError::AnswerTooLong { .. }
        | AgentError::Record { .. }
        | AgentError::Newer { .. }
        | AgentError::JobAway { .. }
        | AgentError::ExportBusy
        | AgentError::LocalMissing { .. }
        | AgentError::LocalTimeout { .. }
        | AgentError::LocalAnswer { .. } => error.to_string(),
    }
}

fn document(error: &DocumentError) -> String {
    match error {
        // What a host wrote into a document is not for a model to read as ours.
        DocumentError::DuplicateKey { .. }
        | DocumentError::DuplicateMessage { .. }
        | DocumentError::DuplicatePart { .. }
        | DocumentError::BadId { .. }
        | DocumentError::WrongSession { .. }
        | DocumentError::WrongMessage { .. }
        | DocumentError::BadRole { .. } => {
            "a session document was refused: it is not what an export must be".to_owned()
        }
        DocumentError::BadModel { .. } => "a model is written as 'provider/model'".to_owned(),
        // Their own words hold constants and numbers alone.
        DocumentError::Cut { .. }
        | DocumentError::Syntax { .. }
        | DocumentError::Trailing { .. }
        | DocumentError::NotAnExport { .. }
        | DocumentError::Limit { .. }
        | DocumentError::Changed
        | DocumentError::Read { .. }
        | DocumentError::Write { .. } => error.to_string(),
    }
}

fn store(error: &StoreError) -> String {
    match error {
        StoreError::Create { .. }
        | StoreError::Busy { .. }
        | StoreError::Newer { .. }
        | StoreError::Damaged { .. }
        | StoreError::Database { .. } => "the job store cannot be used".to_owned(),
        // Their own words hold ids and what the caller gave.
        StoreError::SessionBusy { .. }
        | StoreError::NoSuchJob { .. }
        | StoreError::NoJobs
        | StoreError::Ambiguous { .. } => error.to_string(),
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
