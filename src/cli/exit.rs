//! One table: what every error is called, what helps, and the exit code.

use serde::Serialize;

use crate::handoff::{Failure, HandoffError};
use crate::hosts::{HostsError, SshConfigError};
use crate::job::{State, StoreError};
use crate::ssh::SshError;

pub(crate) const DONE: u8 = 0;
pub(crate) const OTHER: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const CONFIGURATION: u8 = 3;
pub(crate) const UNREACHABLE: u8 = 4;
pub(crate) const HOST_KEY: u8 = 5;
pub(crate) const AUTHENTICATION: u8 = 6;
pub(crate) const NOT_READY: u8 = 7;
pub(crate) const CONFLICT: u8 = 8;
pub(crate) const JOB_FAILED: u8 = 9;
pub(crate) const DETACHED: u8 = 10;
pub(crate) const DOCUMENT: u8 = 11;
pub(crate) const LOCAL_AGENT: u8 = 12;
pub(crate) const INTERRUPTED: u8 = 130;

/// An error's name for programs, its exit code, and what helps.
pub(crate) struct Described {
    pub(crate) kind: &'static str,
    pub(crate) code: u8,
    pub(crate) hint: Option<String>,
}

/// The error as `--json` prints it.
#[derive(Serialize)]
pub(crate) struct ErrorDocument {
    error: ErrorBody,
}

#[derive(Serialize)]
struct ErrorBody {
    kind: &'static str,
    message: String,
    hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
}

pub(crate) fn error_document(failure: &Failure) -> ErrorDocument {
    let described = describe(&failure.error);
    worded_document(failure, with_causes(&failure.error), described.hint)
}

/// The error in other words than its own.
pub(crate) fn worded_document(
    failure: &Failure,
    message: String,
    hint: Option<String>,
) -> ErrorDocument {
    ErrorDocument {
        error: ErrorBody {
            kind: describe(&failure.error).kind,
            message,
            hint,
            job: failure.job.as_ref().map(ToString::to_string),
        },
    }
}

/// An error of no known kind.
pub(crate) fn other_document(message: String) -> ErrorDocument {
    ErrorDocument {
        error: ErrorBody {
            kind: "other",
            message,
            hint: None,
            job: None,
        },
    }
}

/// What clap would say of a bad value, for values that are checked after it.
pub(crate) fn usage_document(message: String) -> ErrorDocument {
    ErrorDocument {
        error: ErrorBody {
            kind: "usage",
            message,
            hint: None,
            job: None,
        },
    }
}

/// What clap says of a mistake, without the usage that follows it.
pub(crate) fn clap_words(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let words = text.split("\n\nUsage:").next().unwrap_or_default();
    words
        .strip_prefix("error: ")
        .unwrap_or(words)
        .trim()
        .to_owned()
}

pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Lines that only a person sees: the end of the agent's error output.
pub(crate) fn details(error: &HandoffError) -> Vec<String> {
    match error {
        HandoffError::Remote { tail, .. } | HandoffError::NothingNew { tail, .. }
            if !tail.is_empty() =>
        {
            std::iter::once("the end of the agent's error output:".to_owned())
                .chain(tail.lines().map(|line| format!("| {line}")))
                .collect()
        }
        _ => Vec::new(),
    }
}

pub(crate) fn describe(error: &HandoffError) -> Described {
    let entry = |kind, code, hint: Option<&str>| Described {
        kind,
        code,
        hint: hint.map(ToOwned::to_owned),
    };
    match error {
        HandoffError::Hosts(error) => hosts(error),
        HandoffError::Ssh(error) => ssh(error),
        HandoffError::Store(error) => store(error),
        HandoffError::Document(_) => entry(
            "document",
            DOCUMENT,
            Some("nothing was imported; the document is not what an agent's export must be"),
        ),
        HandoffError::Agent(error) => agent(error),
        HandoffError::LocalFile { .. } => entry("local_file", OTHER, None),
        HandoffError::LocalUser { host, .. } => Described {
            kind: "configuration",
            code: CONFIGURATION,
            hint: Some(format!("set user of host {host} in hosts.toml")),
        },
        HandoffError::NoSession { .. } => entry(
            "no_session",
            USAGE,
            Some(
                "name one with --session, or go to the directory that it belongs to ('opencode session list')",
            ),
        ),
        HandoffError::NoSessionYet { job } => Described {
            kind: "no_session_yet",
            code: JOB_FAILED,
            hint: Some(format!("'handover logs {job}' shows what the agent says")),
        },
        HandoffError::NotLaunched { job, .. } => Described {
            kind: "not_launched",
            code: CONFLICT,
            hint: Some(format!(
                "'handover status {job}' says why; hand the session over again, or start a new one"
            )),
        },
        HandoffError::InboxClosed { job, host } => Described {
            kind: "inbox_closed",
            code: CONFLICT,
            hint: Some(format!(
                "collect what there is ('handover collect {job}'), then hand the session over again \
                 ('handover send {host}') or start a new one ('handover run {host}')"
            )),
        },
        HandoffError::Settings { at, .. } => entry(
            "configuration",
            CONFIGURATION,
            at.map(|_| "on_finish = [\"program\", \"argument\"] is all that it can hold"),
        ),
        HandoffError::NoLog { job } => Described {
            kind: "no_log",
            code: CONFLICT,
            hint: Some(format!(
                "'handover status {job}' shows what is known of the job"
            )),
        },
        HandoffError::NotWatched { .. } => entry("unreachable", UNREACHABLE, None),
        HandoffError::NotOwnJob { job } => Described {
            kind: "not_own_job",
            code: CONFLICT,
            hint: Some(format!("the user can do it: 'handover kill {job}'")),
        },
        HandoffError::SameMachine { .. } => entry(
            "same_machine",
            NOT_READY,
            Some("choose another machine, or another account with its own home"),
        ),
        HandoffError::AgentMissing { .. } => entry(
            "agent_missing",
            NOT_READY,
            Some("install opencode there, or set opencode of the host to its path"),
        ),
        HandoffError::AgentBroken { .. } => entry(
            "agent_broken",
            NOT_READY,
            Some("run that program on the host by hand, and reinstall it"),
        ),
        HandoffError::AgentTooOld { .. } => entry(
            "agent_too_old",
            NOT_READY,
            Some(
                "upgrade opencode on the host (opencode upgrade), or set opencode of the host to a newer one",
            ),
        ),
        HandoffError::WorkDirectory { .. } => {
            entry("work_directory", NOT_READY, Some("choose another --dir"))
        }
        HandoffError::Reverted { .. } => entry(
            "reverted",
            CONFLICT,
            Some("send a message in the session, or /redo, and hand it over then"),
        ),
        HandoffError::WrongSession { .. } => entry("document", DOCUMENT, None),
        HandoffError::Incomplete { .. } => entry("incomplete", UNREACHABLE, Some("send it again")),
        HandoffError::StateDirectory { .. } => entry(
            "state_directory",
            NOT_READY,
            Some("set state_dir of the host to a directory that can be written"),
        ),
        HandoffError::DiskFull { .. } => entry(
            "disk_full",
            NOT_READY,
            Some("make room there, or set state_dir of the host to another disk"),
        ),
        HandoffError::Clock { .. } => entry(
            "clock",
            NOT_READY,
            Some("synchronise both clocks (NTP), then try again"),
        ),
        HandoffError::ClosedBeforeLaunch { .. } => {
            entry("closed", CONFLICT, Some("hand the session over again"))
        }
        HandoffError::NeverStarted { job, .. } => Described {
            kind: "never_started",
            code: JOB_FAILED,
            hint: Some(format!(
                "'handover collect {job}' closes it, or brings back what there is; runner.log in the job's directory, \
                 where there is one, may say why"
            )),
        },
        HandoffError::Remote { result: false, .. } => entry(
            "remote_failed",
            JOB_FAILED,
            Some("mend the cause on the host and hand the session over again"),
        ),
        HandoffError::Remote { .. } => entry(
            "remote_failed",
            JOB_FAILED,
            Some("'handover collect' brings back what there is"),
        ),
        HandoffError::Vanished {
            job,
            state: State::Failed,
            ..
        } => Described {
            kind: "vanished",
            code: JOB_FAILED,
            hint: Some(format!(
                "'handover kill {job}' ends what the runner left there and exports it; then: handover collect {job}"
            )),
        },
        HandoffError::Vanished { .. } => entry(
            "vanished",
            JOB_FAILED,
            Some("what the agent had done is in its database on the host"),
        ),
        HandoffError::TooManyJobs { host, .. } => Described {
            kind: "too_many_jobs",
            code: CONFLICT,
            hint: Some(format!(
                "wait for one to end, or set max_jobs of host {host}; 'handover jobs --host {host} --discover' lists them"
            )),
        },
        HandoffError::SentElsewhere { .. } => entry(
            "sent_elsewhere",
            CONFLICT,
            Some(
                "collect it on the machine that sent it; --merge takes all of its messages that are not here",
            ),
        ),
        HandoffError::NotEnded { job, .. } => Described {
            kind: "not_ended",
            code: DETACHED,
            hint: Some(format!("look again: handover kill {job}")),
        },
        HandoffError::NothingNew { .. } => entry(
            "nothing_new",
            JOB_FAILED,
            Some(
                "is the model available there? 'handover check HOST --model PROVIDER/MODEL' looks",
            ),
        ),
        HandoffError::ResultMismatch { .. } => entry(
            "result_mismatch",
            DOCUMENT,
            Some("nothing was imported; the result is still on the host"),
        ),
        HandoffError::Diverged { .. } => entry(
            "diverged",
            CONFLICT,
            Some("nothing was changed; --merge keeps the messages of both sides, ordered by time"),
        ),
        HandoffError::NotVerified { .. } => entry(
            "not_verified",
            LOCAL_AGENT,
            Some("the result is still on the host: collect it again"),
        ),
        HandoffError::FingerprintMismatch { .. } => entry(
            "fingerprint_mismatch",
            HOST_KEY,
            Some("nothing was written; somebody may be in between"),
        ),
        HandoffError::JobBusy { .. } => entry(
            "job_busy",
            CONFLICT,
            Some("it brings the session back; end it (Ctrl-C detaches) to collect the job here"),
        ),
        HandoffError::AlreadyCollected { .. } => entry("already_collected", CONFLICT, None),
        HandoffError::CalledOff => entry("called_off", INTERRUPTED, None),
        HandoffError::Unreachable { .. } => entry(
            "unreachable",
            UNREACHABLE,
            Some("what was launched goes on: 'handover collect' when the link is back"),
        ),
        _ => entry("other", OTHER, None),
    }
}

fn hosts(error: &HostsError) -> Described {
    let kind = match error {
        HostsError::UnknownHost { .. } => "unknown_host",
        HostsError::NotYet { .. } => "not_yet",
        HostsError::Parse { .. } | HostsError::Read { .. } => "hosts_file",
        HostsError::SshConfig(_) => "ssh_config",
        _ => "configuration",
    };
    let hint = match error {
        HostsError::UnknownHost { name, known } => Some(unknown_host_hint(name, known.is_empty())),
        HostsError::SshConfig(error) => ssh_config_hint(error),
        _ => None,
    };
    Described {
        kind,
        code: CONFIGURATION,
        hint,
    }
}

fn unknown_host_hint(name: &str, none: bool) -> String {
    let define = "hosts.toml ([hosts.NAME] with host = \"user@address\"; 'handover hosts' says where that file is)";
    if name.contains('@') {
        format!("a plain address is no host: give it a name in {define}")
    } else if none {
        format!("define one in {define}")
    } else {
        "'handover hosts --all' lists what is configured".to_owned()
    }
}

fn ssh_config_hint(error: &SshConfigError) -> Option<String> {
    let hint = match error {
        SshConfigError::Missing { .. } => {
            "correct HANDOVER_SSH_CONFIG, or unset it; with 'none' no ssh_config is read"
        }
        SshConfigError::Permissions { .. } => {
            "make it yours, and take the right to write it from all others (chmod go-w)"
        }
        SshConfigError::Undecided { .. } => {
            "no command is run to find out: exclude the host from that Match ('Match !originalhost NAME exec ...')"
        }
        SshConfigError::Unsupported { .. } => {
            "HANDOVER_SSH_CONFIG names another file for handover alone, or 'none'"
        }
        SshConfigError::UnknownKeyword { .. } => {
            "an IgnoreUnknown line in front of it makes ssh and handover pass over it"
        }
        SshConfigError::JumpLoop { .. } => {
            "set 'ProxyJump none' for the host that the way begins with, in front of what is for all"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

fn ssh(error: &SshError) -> Described {
    let entry = |kind, code, hint: Option<String>| Described { kind, code, hint };
    match error.unshared() {
        SshError::HostKeyUnknown { host, .. } => entry(
            "host_key_unknown",
            HOST_KEY,
            Some(format!(
                "compare the fingerprint with the host's own, then: handover trust {host}"
            )),
        ),
        SshError::HostKeyChanged { host, .. } => entry(
            "host_key_changed",
            HOST_KEY,
            Some(format!(
                "somebody may be in between; only if the host was set up anew, at a terminal: handover trust {host}"
            )),
        ),
        SshError::HostKeyRevoked { .. } => entry(
            "host_key_revoked",
            HOST_KEY,
            Some("whoever marked the key as revoked did so because it is known to others: ask them, and do not connect".to_owned()),
        ),
        SshError::HostCertificate { host, .. } => entry(
            "host_certificate",
            HOST_KEY,
            Some(format!(
                "the host needs a new certificate (and this machine the right time); to trust the key alone: \
                 handover trust {host}"
            )),
        ),
        SshError::HostKeyRefused { fault, .. } => entry(
            "host_key_refused",
            HOST_KEY,
            Some(fault.remedy().to_owned()),
        ),
        SshError::NotStrict { .. } => entry(
            "no_strict_exchange",
            HOST_KEY,
            Some("update the host's SSH server, or offer it AES-GCM or AES-CTR alone with Ciphers".to_owned()),
        ),
        SshError::NoAlgorithm { .. } => entry(
            "no_algorithm",
            CONFIGURATION,
            Some("correct the list in the configuration".to_owned()),
        ),
        SshError::KnownHosts { .. } => entry(
            "known_hosts",
            HOST_KEY,
            Some("make the file readable".to_owned()),
        ),
        SshError::AuthFailed { host, .. } => entry(
            "authentication",
            AUTHENTICATION,
            Some(format!(
                "put a public key into the host's authorized_keys, or set identity_file of {host}"
            )),
        ),
        SshError::KeyEncrypted { path, .. } => entry(
            "key_encrypted",
            AUTHENTICATION,
            Some(format!(
                "load it into ssh-agent ('ssh-add {}'), or run this at a terminal",
                path.display()
            )),
        ),
        SshError::KeyFile { .. } => entry("key_file", AUTHENTICATION, None),
        SshError::UserCertificate { .. } => entry(
            "user_certificate",
            AUTHENTICATION,
            Some("get a new certificate, or set this machine's clock".to_owned()),
        ),
        SshError::Resolve { .. } => entry(
            "unresolved",
            UNREACHABLE,
            Some("check the address in the hosts file".to_owned()),
        ),
        SshError::Refused { .. } => entry(
            "refused",
            UNREACHABLE,
            Some("is sshd running there, on that port?".to_owned()),
        ),
        SshError::JumpRefused { host, .. } => entry(
            "jump_refused",
            UNREACHABLE,
            Some(format!("is the next host's address right as {host} sees it, and may {host} forward there (AllowTcpForwarding, PermitOpen)?")),
        ),
        SshError::ForwardRefused { .. } => entry(
            "forward_refused",
            UNREACHABLE,
            Some("does anything listen there, and may the host forward (AllowTcpForwarding, PermitOpen)?".to_owned()),
        ),
        SshError::LocalPort { .. } => entry(
            "local_port",
            OTHER,
            Some("choose another port; 0 is a free one".to_owned()),
        ),
        SshError::TimedOut { .. } => entry(
            "timed_out",
            UNREACHABLE,
            Some("check the network and the address".to_owned()),
        ),
        SshError::ExecRefused { .. } => entry(
            "shell",
            NOT_READY,
            Some("the account must be allowed to run commands".to_owned()),
        ),
        SshError::NoSpace { .. } => {
            entry("disk_full", NOT_READY, Some("make room there".to_owned()))
        }
        SshError::PermissionDenied { .. }
        | SshError::NotFound { .. }
        | SshError::AlreadyExists { .. }
        | SshError::TooLarge { .. }
        | SshError::Remote { .. } => entry("remote_file", JOB_FAILED, None),
        SshError::Local { .. } => entry("local_file", OTHER, None),
        _ => entry("unreachable", UNREACHABLE, None),
    }
}

fn store(error: &StoreError) -> Described {
    match error {
        StoreError::SessionBusy { job, .. } => Described {
            kind: "session_busy",
            code: CONFLICT,
            hint: Some(format!(
                "bring that job back, or close it: handover collect {job}"
            )),
        },
        StoreError::NoJobs => Described {
            kind: "no_such_job",
            code: USAGE,
            hint: Some("'handover send HOST' and 'handover run HOST PROMPT' start one".to_owned()),
        },
        StoreError::NoSuchJob { .. } | StoreError::Ambiguous { .. } => Described {
            kind: "no_such_job",
            code: USAGE,
            hint: Some("'handover jobs --all' lists them".to_owned()),
        },
        other => Described {
            kind: "store",
            code: OTHER,
            hint: store_hint(other).map(ToOwned::to_owned),
        },
    }
}

fn store_hint(error: &StoreError) -> Option<&'static str> {
    match error {
        StoreError::Busy { .. } => Some("another handover is at work: try again in a moment"),
        StoreError::Newer { .. } => {
            Some("use that newer version, or another HANDOVER_STATE_DIR; nothing was changed")
        }
        StoreError::Damaged { .. } => Some(
            "the next command sets it aside and makes a new one; 'handover sync' finds its jobs on their hosts again",
        ),
        StoreError::Create { .. } | StoreError::Database { .. } => {
            Some("is the disk full, or the state directory not writable?")
        }
        _ => None,
    }
}

fn agent(error: &crate::agent::AgentError) -> Described {
    use crate::agent::AgentError as Agent;
    let (kind, code, hint) = match error {
        Agent::NoAnswer { .. } => (
            "shell",
            NOT_READY,
            Some(
                "the account needs a login shell that runs 'sh -c'; nologin and ForceCommand do not",
            ),
        ),
        Agent::AnswerCut | Agent::AnswerTooLong { .. } | Agent::AnswerField { .. } => {
            ("answer", UNREACHABLE, None)
        }
        Agent::Parameter { .. } => ("usage", USAGE, None),
        Agent::Record { .. } | Agent::Newer { .. } => ("job_files", JOB_FAILED, None),
        Agent::JobAway { .. } => (
            "job_away",
            UNREACHABLE,
            Some(
                "nothing is taken for lost; once it can be seen again the job goes on. Where all of it was removed for \
                 good: handover prune --older-than 0s --force --forget-host HOST",
            ),
        ),
        Agent::ExportBusy => (
            "export_busy",
            JOB_FAILED,
            Some("collect the job again in a moment"),
        ),
        Agent::LocalMissing { .. } | Agent::LocalNotThere { .. } => (
            "local_agent_missing",
            LOCAL_AGENT,
            Some("install opencode here, or set HANDOVER_OPENCODE to its path"),
        ),
        Agent::LocalDirectory { .. } => (
            "local_directory",
            LOCAL_AGENT,
            Some("make that directory again, or put it back where the session has it"),
        ),
        Agent::LocalFailed { .. } => ("local_agent", LOCAL_AGENT, Some("run that program by hand")),
        Agent::Io { .. } => ("local_file", OTHER, None),
        Agent::UnsafeDirectory { .. } => (
            "local_directory",
            LOCAL_AGENT,
            Some(
                "give the share a drive letter and work in it there, or set HANDOVER_OPENCODE to an opencode.exe",
            ),
        ),
        Agent::UnsafeArgument { .. } => (
            "local_agent",
            LOCAL_AGENT,
            Some(
                "set HANDOVER_STATE_DIR to a directory without any of % ! ^ & | < > \" in its path, or HANDOVER_OPENCODE to \
                 an opencode.exe",
            ),
        ),
        _ => ("local_agent", LOCAL_AGENT, None),
    };
    Described {
        kind,
        code,
        hint: hint.map(ToOwned::to_owned),
    }
}
