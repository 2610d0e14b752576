//! What an examination found, and what each finding means.
//!
//! The main type is [`Report`]. The invariant: everything that is amiss has its remedy.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{HandoffError, clock, remote};
use crate::agent::{Mode, Probe, WorkDirectory};
use crate::hosts::{HostName, ResolvedHost, SshConfigEffect};
use crate::ssh::{RemotePath, SshError};

/// Free space below which a host is warned about, in KiB.
const DISK_WARN_KIB: u64 = 1 << 20;
/// Free space below which a host is not ready, in KiB.
const DISK_FAIL_KIB: u64 = 64 << 10;
/// A difference of the clocks below which nothing is said, in milliseconds.
const SKEW_OK_MS: u64 = 2_000;
/// How one thing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// A handoff works, with the drawback that the detail names.
    Warn,
    /// A handoff cannot work before this is mended.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What: `dial`, `host key`, `authentication`, `shell`, `sftp`, ...
    pub name: &'static str,
    /// How it was found.
    pub status: Status,
    /// What was found, for a person.
    pub detail: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// Everything that was looked at on one host, in order.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The host's name.
    pub host: HostName,
    /// The worst status of all findings.
    pub status: Status,
    /// The findings.
    pub findings: Vec<Finding>,
    /// The error that ended the examination early, when there was one; there is a finding of it too.
    #[serde(skip)]
    pub stopped_by: Option<HandoffError>,
}

impl Report {
    pub(crate) fn new(host: &HostName) -> Self {
        Self {
            host: host.clone(),
            status: Status::Ok,
            findings: Vec::new(),
            stopped_by: None,
        }
    }

    fn add(
        &mut self,
        name: &'static str,
        status: Status,
        detail: impl Into<String>,
        remedy: Option<&str>,
    ) {
        self.status = self.status.max(status);
        self.findings.push(Finding {
            name,
            status,
            detail: detail.into(),
            remedy: remedy.map(ToOwned::to_owned),
        });
    }

    pub(crate) fn ok(&mut self, name: &'static str, detail: impl Into<String>) {
        self.add(name, Status::Ok, detail, None);
    }

    pub(crate) fn warn(&mut self, name: &'static str, detail: impl Into<String>, remedy: &str) {
        self.add(name, Status::Warn, detail, Some(remedy));
    }

    pub(crate) fn fail(&mut self, name: &'static str, detail: impl Into<String>, remedy: &str) {
        self.add(name, Status::Fail, detail, Some(remedy));
    }
}

/// An error with its causes, for a person.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// An end before everything was looked at is a finding too.
pub(crate) fn stopped(report: &mut Report, error: &HandoffError) {
    report.fail(
        "examination",
        format!("it ended early: {}", told(error)),
        "check the host again; where it ends at the same place, the reason is the thing to mend",
    );
}

pub(crate) fn configuration_failed(report: &mut Report, error: &HandoffError) {
    report.fail(
        "ssh_config",
        told(error),
        "change that line, or exclude the host from it; HANDOVER_SSH_CONFIG names another file for handover alone",
    );
}

/// What the ssh_config says of the host and its way, and what of that has no effect. Nothing is reported where it says
/// nothing without effect.
pub(crate) fn configuration(report: &mut Report, host: &ResolvedHost) {
    let all = || {
        host.jumps
            .iter()
            .flat_map(|hop| &hop.notes)
            .chain(&host.notes)
    };
    let list = |effect| {
        let mut told = BTreeSet::new();
        let some = all().filter(|note| note.effect == effect);
        let lines: Vec<String> = some
            .map(|note| {
                format!(
                    "{} ({}:{})",
                    note.keyword,
                    note.at.path.display(),
                    note.at.line
                )
            })
            .filter(|line| told.insert(line.clone()))
            .collect();
        lines.join(", ")
    };
    let asks = list(SshConfigEffect::Asks);
    if !asks.is_empty() {
        report.warn(
            "ssh_config",
            format!("{asks} is off, which counts as 'ask': a host key that is not on record is refused or asked about"),
            &format!("look at the key once: handover trust {}", report.host.clone()),
        );
    }
    let ignored = list(SshConfigEffect::Ignored);
    if !ignored.is_empty() {
        report.ok("ssh_config", format!("without effect: {ignored}"));
    }
}

pub(crate) fn probe_failed(report: &mut Report, error: &HandoffError) {
    match error {
        HandoffError::Agent(_) | HandoffError::Ssh(SshError::ExecRefused { .. }) => report.fail(
            "shell",
            told(error),
            "the account needs a login shell that runs 'sh -c'; nologin, rbash without sh and ForceCommand do not",
        ),
        _ => stopped(report, error),
    }
}

/// The host in the error may be one that is jumped over.
pub(crate) fn connection_failed(report: &mut Report, error: &SshError) {
    let host_key = match error {
        SshError::HostKeyUnknown { host, .. } => Some(format!(
            "compare the fingerprint with the host's own, then: handover trust {}",
            host
        )),
        SshError::HostKeyChanged { host, .. } => Some(format!(
            "somebody may be in between; only if the host was set up anew, at a terminal: handover trust {}",
            host
        )),
        SshError::HostCertificate { host, .. } => Some(format!(
            "the host needs a new certificate (and this machine the right time); to trust the key alone: \
             handover trust {}",
            host
        )),
        SshError::HostKeyRefused { fault, .. } => Some(
            fault.remedy().to_owned(),
        ),
        SshError::NotStrict { .. } => Some(
            "update the host's SSH server, or offer it AES-GCM or AES-CTR alone with Ciphers".to_owned(),
        ),
        SshError::HostKeyRevoked { .. } => Some(
            "whoever marked the key as revoked did so because it is known to others: ask them, and do not connect"
                .to_owned(),
        ),
        SshError::KnownHosts { .. } => Some("make the file readable".to_owned()),
        _ => None,
    };
    if let Some(remedy) = host_key {
        report.ok("dial", "the host answers");
        return report.fail("host key", told(error), &remedy);
    }
    if matches!(
        error,
        SshError::AuthFailed { .. }
            | SshError::KeyEncrypted { .. }
            | SshError::KeyFile { .. }
            | SshError::UserCertificate { .. }
    ) {
        report.ok("dial", "the host answers");
        report.ok("host key", "as it is on record");
        return report.fail(
            "authentication",
            told(error),
            "put the public key into the host's authorized_keys, load the key into ssh-agent, or set identity_file",
        );
    }
    report.fail(
        "dial",
        told(error),
        "check the address, the port, the network and that sshd runs",
    );
}

pub(crate) fn work_directory(report: &mut Report, probe: &Probe) {
    let directory = &probe.work_dir;
    match probe.work_dir_is {
        WorkDirectory::Present => report.ok("work directory", directory.to_string()),
        WorkDirectory::Missing => {
            report.ok(
                "work directory",
                format!("{directory}, made when it is used"),
            );
        }
        WorkDirectory::NotADirectory => report.fail(
            "work directory",
            format!("{directory} is something else than a directory"),
            "set directory of the host to another one, or give --dir",
        ),
    }
}

pub(crate) fn shell(report: &mut Report, probe: &Probe) {
    let system = format!("{} {}, shell {}", probe.os, probe.arch, probe.shell);
    match &probe.login_env_error {
        None => report.ok("shell", system),
        Some(problem) => report.warn(
            "shell",
            format!("{system}; its login environment is not available: {problem}"),
            "make the login profile end by itself, without a terminal",
        ),
    }
}

pub(crate) fn state_directory(report: &mut Report, probe: &Probe) {
    let made = match &probe.directory {
        Some(Ok(made)) => made,
        other => {
            let problem = match other {
                Some(Err(problem)) => problem.as_str(),
                _ => "it was not made",
            };
            report.fail(
                "state directory",
                format!("{}: {problem}", probe.state),
                "set state_dir of the host to a directory that the account can write",
            );
            return;
        }
    };
    report.ok("state directory", probe.state.to_string());
    let free = format!("{} MiB free", made.free_kib.unwrap_or_default() / 1024);
    match made.free_kib {
        None => report.warn(
            "disk",
            "the free space is not known",
            "look at 'df' on the host",
        ),
        Some(kib) if kib < DISK_FAIL_KIB => {
            report.fail("disk", free, "make room, or set state_dir to another disk")
        }
        Some(kib) if kib < DISK_WARN_KIB => {
            report.warn(
                "disk",
                free,
                "a session and its result must fit: make room, or set state_dir",
            );
        }
        Some(_) => report.ok("disk", free),
    }
}

/// Judged as a handoff does, for a session that is in use now.
pub(crate) fn the_clock(report: &mut Report, skew: clock::Skew) {
    const REMEDY: &str = "synchronise both clocks (NTP)";
    let skew_ms = skew.certain_ms();
    if skew_ms.unsigned_abs() < SKEW_OK_MS {
        return report.ok("clock", "as this machine's");
    }
    let seconds = skew_ms.unsigned_abs().div_ceil(1000);
    let detail = format!(
        "{seconds} s {}",
        if skew_ms < 0 { "behind" } else { "ahead" }
    );
    let now_ms = remote::clock_ms();
    let allows = |mode| skew.allow(&report.host, mode, now_ms, now_ms).is_ok();
    match (allows(Mode::OneWay), allows(Mode::RoundTrip)) {
        (true, true) => report.warn(
            "clock",
            format!("{detail}; a handoff waits that long"),
            REMEDY,
        ),
        (true, false) => report.warn(
            "clock",
            format!("{detail}; a session can go there and not come back by itself"),
            REMEDY,
        ),
        _ => report.fail(
            "clock",
            format!("{detail}; only a session that has rested that long can go there"),
            REMEDY,
        ),
    }
}

/// Where a working agent is on the host.
pub(crate) fn opencode_there<'a>(report: &mut Report, probe: &'a Probe) -> Option<&'a RemotePath> {
    let Some(opencode) = &probe.opencode else {
        let detail = format!("not found; looked in: {}", probe.tried.join(", "));
        report.fail(
            "opencode there",
            detail,
            "install opencode on the host, or set opencode of the host to its path",
        );
        return None;
    };
    if let Some(problem) = &probe.version_error {
        report.fail(
            "opencode there",
            format!("{opencode}: {problem}"),
            "reinstall opencode on the host",
        );
        return None;
    }
    if let Some(version) = probe.too_old() {
        let oldest = Probe::OLDEST_AGENT;
        report.fail(
            "opencode there",
            format!("{opencode} {version} is too old; {oldest} is the oldest that works"),
            "upgrade opencode on the host (opencode upgrade), or set opencode of the host to a newer one",
        );
        return None;
    }
    report.ok(
        "opencode there",
        format!(
            "{opencode} {}",
            probe.version.as_deref().unwrap_or("of unknown version")
        ),
    );
    Some(opencode)
}
