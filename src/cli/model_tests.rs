//! Every error is put into a model's words, with something private in every field that can hold it.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::hosts::{HostName, Position};
use crate::job::{JobId, State};
use crate::session::SessionId;
use crate::ssh::{
    Attempt, AttemptOutcome, CertificateFault, HostKeyFault, KeyFileError, LostCause, RemotePath,
};

/// What stands in for everything private: an address, a user, a port, a path.
const PRIVATE: &str = "/home/mallory/secret-203.0.113.77:4722";
/// Parts of it that no rendering may hold.
const PARTS: [&str; 6] = ["mallory", "secret", "203.0.113", "4722", "/home", "SHA256:"];

fn text() -> String {
    PRIVATE.to_owned()
}

fn path() -> PathBuf {
    PathBuf::from(PRIVATE)
}

fn remote() -> RemotePath {
    PRIVATE.parse().unwrap()
}

fn host() -> HostName {
    "gpu-box".parse().unwrap()
}

fn session() -> SessionId {
    "ses_e02ee4a92ffe7KvnfSCLmMTJzi".parse().unwrap()
}

fn source() -> io::Error {
    io::Error::other(PRIVATE)
}

fn at() -> Position {
    Position {
        path: path(),
        line: 4722,
        column: 1,
    }
}

fn lost() -> LostCause {
    LostCause::Disconnected {
        reason: text(),
        message: text(),
    }
}

/// Numbers the variants; one that is missing here does not compile, and one without a sample fails the test.
macro_rules! numbered {
    ($error:ident, $name:ident: $($pattern:pat => $number:literal),+ $(,)?) => {
        fn $name(error: &$error) -> usize {
            match error { $($pattern => $number),+ }
        }
    };
}

numbered!(HostsError, hosts_number:
    HostsError::Parse { .. } => 0, HostsError::UnknownKey { .. } => 1, HostsError::InvalidName { .. } => 2,
    HostsError::InvalidAddress { .. } => 3, HostsError::InvalidValue { .. } => 4, HostsError::Read { .. } => 5,
    HostsError::TooLarge { .. } => 6, HostsError::UnknownHost { .. } => 7, HostsError::NotYet { .. } => 8,
    HostsError::NoHome => 9, HostsError::NoWorkingDirectory(_) => 10, HostsError::SshConfig(_) => 11,
);
const HOSTS: usize = 12;

numbered!(SshConfigError, ssh_config_number:
    SshConfigError::Syntax { .. } => 0, SshConfigError::Permissions { .. } => 1, SshConfigError::Includes { .. } => 2,
    SshConfigError::List { .. } => 3, SshConfigError::Value { .. } => 4, SshConfigError::Unsupported { .. } => 5,
    SshConfigError::Undecided { .. } => 6, SshConfigError::UnknownKeyword { .. } => 7,
    SshConfigError::JumpLoop { .. } => 8, SshConfigError::LocalUser { .. } => 9,
    SshConfigError::Missing { .. } => 10,
);
const SSH_CONFIG: usize = 11;

fn ssh_config_samples() -> Vec<SshConfigError> {
    vec![
        SshConfigError::Syntax {
            at: at(),
            source: crate::hosts::SyntaxProblem::Quote,
        },
        SshConfigError::Permissions { path: path() },
        SshConfigError::Missing { path: path() },
        SshConfigError::Includes {
            at: at(),
            what: "included files",
            limit: 1,
        },
        SshConfigError::List {
            at: at(),
            source: source(),
        },
        SshConfigError::Value {
            host: host(),
            keyword: "Port",
            at: at(),
            source: crate::hosts::InvalidSshValue::Variable { name: text() },
        },
        SshConfigError::Unsupported {
            host: host(),
            keyword: "ProxyCommand",
            at: at(),
            reason: "a constant",
        },
        SshConfigError::Undecided {
            host: host(),
            criterion: text(),
            at: at(),
        },
        SshConfigError::UnknownKeyword {
            host: host(),
            keyword: text(),
            at: at(),
        },
        SshConfigError::JumpLoop {
            host: host(),
            at: at(),
        },
        SshConfigError::LocalUser {
            host: host(),
            at: at(),
        },
    ]
}

fn hosts_samples() -> Vec<HostsError> {
    let unknown: HostName = host();
    vec![
        HostsError::Parse {
            at: at(),
            message: text(),
        },
        HostsError::UnknownKey {
            at: at(),
            key: text(),
            known: &["host"],
        },
        HostsError::InvalidName {
            at: at(),
            source: PRIVATE.parse::<HostName>().unwrap_err(),
        },
        HostsError::InvalidAddress {
            host: host(),
            at: at(),
            source: crate::hosts::InvalidAddress::Port,
        },
        HostsError::InvalidValue {
            host: host(),
            key: "model",
            at: at(),
            source: crate::hosts::InvalidValue::Empty,
        },
        HostsError::Read {
            path: path(),
            source: source(),
        },
        HostsError::TooLarge {
            path: path(),
            limit: 1,
        },
        HostsError::UnknownHost {
            name: "what the model asked for".to_owned(),
            known: vec![unknown],
        },
        HostsError::NotYet { host: host() },
        HostsError::NoHome,
        HostsError::NoWorkingDirectory(source()),
        HostsError::SshConfig(SshConfigError::Permissions { path: path() }),
    ]
}

numbered!(SshError, ssh_number:
    SshError::Resolve { .. } => 0, SshError::Refused { .. } => 1, SshError::Unreachable { .. } => 2,
    SshError::TimedOut { .. } => 3, SshError::Handshake { .. } => 4, SshError::HostKeyUnknown { .. } => 5,
    SshError::HostKeyChanged { .. } => 6, SshError::HostKeyRevoked { .. } => 7, SshError::KnownHosts { .. } => 8,
    SshError::AuthFailed { .. } => 9, SshError::KeyEncrypted { .. } => 10, SshError::KeyFile { .. } => 11,
    SshError::Lost { .. } => 12, SshError::ChannelRefused { .. } => 13, SshError::ExecRefused { .. } => 14,
    SshError::SftpUnavailable { .. } => 15, SshError::NotFound { .. } => 16, SshError::AlreadyExists { .. } => 17,
    SshError::PermissionDenied { .. } => 18, SshError::NoSpace { .. } => 19, SshError::TooLarge { .. } => 20,
    SshError::Remote { .. } => 21, SshError::Local { .. } => 22,
    SshError::HostCertificate { .. } => 23, SshError::NotStrict { .. } => 24, SshError::NoAlgorithm { .. } => 25,
    SshError::JumpRefused { .. } => 26, SshError::Shared(_) => 27, SshError::UserCertificate { .. } => 28,
    SshError::ForwardRefused { .. } => 29, SshError::LocalPort { .. } => 30,
    SshError::HostKeyRefused { .. } => 31,
);
const SSH: usize = 32;

fn ssh_samples() -> Vec<SshError> {
    let (algorithm, fingerprint) = ("ssh-ed25519".to_owned(), format!("SHA256:{PRIVATE}"));
    vec![
        SshError::Resolve {
            host: host(),
            source: source(),
        },
        SshError::Refused {
            host: host(),
            source: source(),
        },
        SshError::Unreachable {
            host: host(),
            source: source(),
        },
        SshError::TimedOut {
            host: host(),
            what: "the connection",
            after: Duration::from_secs(9),
        },
        SshError::Handshake {
            host: host(),
            source: lost(),
        },
        SshError::Shared(std::sync::Arc::new(SshError::KeyEncrypted {
            host: host(),
            path: path(),
        })),
        SshError::ForwardRefused {
            host: host(),
            reason: "ConnectFailed".to_owned(),
        },
        SshError::LocalPort {
            port: 8080,
            source: source(),
        },
        SshError::JumpRefused {
            host: host(),
            next: host(),
            unreachable: true,
            reason: "ConnectFailed".to_owned(),
        },
        SshError::HostKeyUnknown {
            host: host(),
            algorithm: algorithm.clone(),
            fingerprint: fingerprint.clone(),
        },
        SshError::HostKeyChanged {
            host: host(),
            algorithm: algorithm.clone().into(),
            offered: fingerprint.clone().into(),
            recorded: fingerprint.clone().into(),
            file: path(),
            line: 4722,
        },
        SshError::HostKeyRevoked {
            host: host(),
            algorithm,
            fingerprint,
            file: path(),
            line: 4722,
        },
        SshError::HostCertificate {
            host: host(),
            fault: Box::new(CertificateFault::WrongPrincipal),
            authority: text().into(),
        },
        SshError::NotStrict {
            host: host(),
            cipher: text(),
        },
        SshError::HostKeyRefused {
            host: host(),
            fault: HostKeyFault::NotOffered { shown: text() },
        },
        SshError::UserCertificate {
            host: host(),
            certificate: text(),
            fault: Box::new(CertificateFault::WrongPrincipal),
            tried: Vec::new(),
        },
        SshError::NoAlgorithm {
            host: host(),
            keyword: "Ciphers",
        },
        SshError::KnownHosts {
            path: path(),
            source: source(),
        },
        SshError::AuthFailed {
            host: host(),
            tried: vec![Attempt {
                key: text(),
                outcome: AttemptOutcome::Unusable(text()),
            }],
            methods: vec![text()],
        },
        SshError::KeyEncrypted {
            host: host(),
            path: path(),
        },
        SshError::KeyFile {
            path: path(),
            source: Box::new(KeyFileError::PublicHalf),
        },
        SshError::Lost {
            host: host(),
            source: LostCause::Io(Arc::new(source())),
        },
        SshError::ChannelRefused {
            host: host(),
            reason: text(),
        },
        SshError::ExecRefused {
            host: host(),
            what: "the probe",
        },
        SshError::SftpUnavailable { host: host() },
        SshError::NotFound {
            host: host(),
            path: remote(),
        },
        SshError::AlreadyExists {
            host: host(),
            path: remote(),
        },
        SshError::PermissionDenied {
            host: host(),
            path: remote(),
        },
        SshError::NoSpace {
            host: host(),
            path: remote(),
        },
        SshError::TooLarge {
            host: host(),
            path: remote(),
            limit: 9,
        },
        SshError::Remote {
            host: host(),
            path: remote(),
            message: text(),
        },
        SshError::Local {
            path: path(),
            source: source(),
        },
    ]
}

numbered!(AgentError, agent_number:
    AgentError::NoAnswer { .. } => 0, AgentError::AnswerCut => 1, AgentError::AnswerTooLong { .. } => 2,
    AgentError::AnswerField { .. } => 3, AgentError::Parameter { .. } => 4, AgentError::Record { .. } => 5,
    AgentError::Newer { .. } => 6, AgentError::LocalMissing { .. } => 7, AgentError::LocalNotThere { .. } => 8,
    AgentError::LocalStart { .. } => 9, AgentError::LocalFailed { .. } => 10, AgentError::LocalTimeout { .. } => 11,
    AgentError::LocalAnswer { .. } => 12, AgentError::ImportUnconfirmed { .. } => 13,
    AgentError::UnsafeArgument { .. } => 14, AgentError::Io { .. } => 15, AgentError::LocalDirectory { .. } => 16,
    AgentError::ExportBusy => 17, AgentError::UnsafeDirectory { .. } => 18,
    AgentError::JobAway { .. } => 19,
);
const AGENT: usize = 20;

fn agent_samples() -> Vec<AgentError> {
    let not_json = serde_json::from_str::<u8>(PRIVATE).unwrap_err();
    vec![
        AgentError::NoAnswer { said: text() },
        AgentError::AnswerCut,
        AgentError::AnswerTooLong { limit: 9 },
        AgentError::AnswerField { field: text() },
        AgentError::Parameter {
            what: "the work directory",
            value: text(),
            reason: "it is too long",
        },
        AgentError::Record {
            name: "job.json",
            reason: "it is no JSON",
        },
        AgentError::JobAway {
            reason: "it cannot be entered",
        },
        AgentError::Newer {
            name: "job.json",
            found: 9,
            known: 1,
        },
        AgentError::LocalMissing {
            source: which::Error::CannotFindBinaryPath,
        },
        AgentError::LocalNotThere { path: path() },
        AgentError::LocalStart {
            program: path(),
            source: source(),
        },
        AgentError::LocalFailed {
            command: "export",
            status: text(),
            said: text(),
        },
        AgentError::LocalTimeout {
            command: "export",
            limit: Duration::from_secs(9),
        },
        AgentError::LocalAnswer {
            command: "export",
            source: Some(not_json),
        },
        AgentError::ImportUnconfirmed {
            session: session().to_string(),
            said: text(),
        },
        AgentError::UnsafeArgument {
            argument: text(),
            program: path(),
        },
        AgentError::Io {
            path: path(),
            source: source(),
        },
        AgentError::LocalDirectory { path: path() },
        AgentError::ExportBusy,
        AgentError::UnsafeDirectory {
            path: path(),
            program: path(),
        },
    ]
}

numbered!(DocumentError, document_number:
    DocumentError::Cut { .. } => 0, DocumentError::Syntax { .. } => 1, DocumentError::Trailing { .. } => 2,
    DocumentError::NotAnExport { .. } => 3, DocumentError::Limit { .. } => 4, DocumentError::DuplicateKey { .. } => 5,
    DocumentError::DuplicateMessage { .. } => 6, DocumentError::DuplicatePart { .. } => 7,
    DocumentError::BadId { .. } => 8, DocumentError::WrongSession { .. } => 9,
    DocumentError::WrongMessage { .. } => 10, DocumentError::BadRole { .. } => 11, DocumentError::Changed => 12,
    DocumentError::BadModel { .. } => 13, DocumentError::Read { .. } => 14, DocumentError::Write { .. } => 15,
);
const DOCUMENT: usize = 16;

fn document_samples() -> Vec<DocumentError> {
    let offset = 9;
    vec![
        DocumentError::Cut { offset },
        DocumentError::Syntax {
            offset,
            expected: "a value",
        },
        DocumentError::Trailing { offset },
        DocumentError::NotAnExport {
            offset,
            expected: "messages",
        },
        DocumentError::Limit {
            what: "bytes",
            limit: 9,
            offset,
        },
        DocumentError::DuplicateKey {
            key: text(),
            offset,
        },
        DocumentError::DuplicateMessage { id: text() },
        DocumentError::DuplicatePart { id: text() },
        DocumentError::BadId {
            kind: "part",
            id: text(),
            offset,
        },
        DocumentError::WrongSession {
            expected: session(),
            found: text(),
            offset,
        },
        DocumentError::WrongMessage {
            message: text(),
            found: text(),
            offset,
        },
        DocumentError::BadRole {
            role: text(),
            offset,
        },
        DocumentError::Changed,
        DocumentError::BadModel { model: text() },
        DocumentError::Read { source: source() },
        DocumentError::Write { source: source() },
    ]
}

numbered!(StoreError, store_number:
    StoreError::Create { .. } => 0, StoreError::Busy { .. } => 1, StoreError::Newer { .. } => 2,
    StoreError::Damaged { .. } => 3, StoreError::Database { .. } => 4, StoreError::SessionBusy { .. } => 5,
    StoreError::NoSuchJob { .. } => 6, StoreError::Ambiguous { .. } => 7,
    StoreError::NoJobs => 8,
);
const STORE: usize = 9;

fn store_samples() -> Vec<StoreError> {
    vec![
        StoreError::Create {
            path: path(),
            source: source(),
        },
        StoreError::Busy { path: path() },
        StoreError::Newer { path: path() },
        StoreError::Damaged {
            path: path(),
            source: Box::new(source()),
        },
        StoreError::Database {
            path: path(),
            source: rusqlite::Error::InvalidPath(path()),
        },
        StoreError::SessionBusy {
            session: session(),
            job: JobId::generate(),
        },
        StoreError::NoSuchJob {
            text: "what was asked for".to_owned(),
        },
        StoreError::Ambiguous {
            text: "what was asked for".to_owned(),
        },
        StoreError::NoJobs,
    ]
}

numbered!(HandoffError, handoff_number:
    HandoffError::Hosts(_) => 0, HandoffError::Ssh(_) => 1, HandoffError::Agent(_) => 2, HandoffError::Document(_) => 3,
    HandoffError::Store(_) => 4, HandoffError::LocalUser { .. } => 5, HandoffError::LocalFile { .. } => 6,
    HandoffError::NoSession { .. } => 7, HandoffError::SameMachine { .. } => 8, HandoffError::AgentMissing { .. } => 9,
    HandoffError::AgentBroken { .. } => 10, HandoffError::WorkDirectory { .. } => 11,
    HandoffError::Reverted { .. } => 12, HandoffError::WrongSession { .. } => 13, HandoffError::Incomplete { .. } => 14,
    HandoffError::StateDirectory { .. } => 15, HandoffError::DiskFull { .. } => 16, HandoffError::Clock { .. } => 17,
    HandoffError::ClosedBeforeLaunch { .. } => 18, HandoffError::NeverStarted { .. } => 19,
    HandoffError::Remote { .. } => 20, HandoffError::Vanished { .. } => 21, HandoffError::NothingNew { .. } => 22,
    HandoffError::ResultMismatch { .. } => 23, HandoffError::Diverged { .. } => 24,
    HandoffError::NotVerified { .. } => 25, HandoffError::AlreadyCollected { .. } => 26, HandoffError::CalledOff => 27,
    HandoffError::Unreachable { .. } => 28, HandoffError::FingerprintMismatch { .. } => 29, HandoffError::Aborted => 30,
    HandoffError::JobBusy { .. } => 31,
    HandoffError::NotEnded { .. } => 32, HandoffError::TooManyJobs { .. } => 33,
    HandoffError::SentElsewhere { .. } => 34, HandoffError::NoSessionYet { .. } => 35,
    HandoffError::InboxClosed { .. } => 36, HandoffError::NotOwnJob { .. } => 37,
    HandoffError::NoLog { .. } => 38, HandoffError::NotWatched { .. } => 39, HandoffError::Settings { .. } => 40,
    HandoffError::NotLaunched { .. } => 41, HandoffError::AgentTooOld { .. } => 42,
);
const HANDOFF: usize = 43;

fn handoff_samples() -> Vec<HandoffError> {
    let job = JobId::generate();
    let remote_failure = |code| HandoffError::Remote {
        result: true,
        host: host(),
        phase: "run",
        reason: text(),
        code,
        tail: text(),
    };
    let mut samples = vec![
        HandoffError::LocalFile {
            path: path(),
            source: source(),
        },
        HandoffError::NoSession { directory: path() },
        HandoffError::NoSessionYet { job: job.clone() },
        HandoffError::InboxClosed {
            job: job.clone(),
            host: host(),
        },
        HandoffError::NotOwnJob { job: job.clone() },
        HandoffError::NoLog { job: job.clone() },
        HandoffError::NotLaunched {
            job: job.clone(),
            host: host(),
        },
        HandoffError::Settings {
            path: path(),
            at: Some((1, 2)),
            reason: text(),
        },
        HandoffError::NotWatched {
            job: job.clone(),
            host: host(),
        },
        HandoffError::SameMachine { host: host() },
        HandoffError::AgentMissing {
            host: host(),
            looked_in: vec![text()],
        },
        HandoffError::AgentBroken {
            host: host(),
            program: remote(),
            reason: text(),
        },
        HandoffError::AgentTooOld {
            host: host(),
            program: remote(),
            version: "1.0.9".to_owned(),
            oldest: "1.1.65",
        },
        HandoffError::WorkDirectory {
            host: host(),
            directory: remote(),
        },
        HandoffError::Reverted {
            session: session(),
            message: text(),
        },
        HandoffError::WrongSession {
            asked: session(),
            got: session(),
        },
        HandoffError::Incomplete {
            host: host(),
            file: text(),
        },
        HandoffError::StateDirectory {
            host: host(),
            directory: text(),
            reason: text(),
        },
        HandoffError::DiskFull {
            host: host(),
            free_kib: 1,
            needed_kib: 2,
        },
        HandoffError::Clock {
            host: host(),
            skew_ms: -99_000,
        },
        HandoffError::ClosedBeforeLaunch { job: job.clone() },
        HandoffError::NeverStarted {
            job: job.clone(),
            host: host(),
        },
        remote_failure(None),
        remote_failure(Some(7)),
        HandoffError::Vanished {
            job: job.clone(),
            host: host(),
            state: State::Failed,
            reason: "the host was restarted",
        },
        HandoffError::NotEnded {
            job: JobId::generate(),
            host: host(),
        },
        HandoffError::TooManyJobs {
            host: host(),
            count: 8,
            limit: 8,
        },
        HandoffError::SentElsewhere {
            job: JobId::generate(),
            sender: text(),
        },
        HandoffError::NothingNew {
            host: host(),
            tail: text(),
        },
        HandoffError::ResultMismatch { job: job.clone() },
        HandoffError::Diverged {
            session: session(),
            count: 1,
        },
        HandoffError::NotVerified {
            session: session(),
            missing: 1,
            lost: 0,
        },
        HandoffError::JobBusy { job: job.clone() },
        HandoffError::AlreadyCollected { job },
        HandoffError::CalledOff,
        HandoffError::Unreachable {
            host: host(),
            after: Duration::from_secs(9),
            source: SshError::Refused {
                host: host(),
                source: source(),
            },
        },
        HandoffError::FingerprintMismatch {
            host: host(),
            offered: text(),
            demanded: text(),
        },
        HandoffError::Aborted,
    ];
    samples.extend(hosts_samples().into_iter().map(HandoffError::Hosts));
    let ssh_config = ssh_config_samples().into_iter();
    samples.extend(ssh_config.map(|error| HandoffError::Hosts(error.into())));
    samples.extend(ssh_samples().into_iter().map(HandoffError::Ssh));
    samples.extend(agent_samples().into_iter().map(HandoffError::Agent));
    samples.extend(document_samples().into_iter().map(HandoffError::Document));
    samples.extend(store_samples().into_iter().map(HandoffError::Store));
    samples
}

fn complete<E>(samples: &[E], number: impl Fn(&E) -> usize, count: usize) {
    let there: BTreeSet<usize> = samples.iter().map(number).collect();
    assert_eq!(there, (0..count).collect(), "a variant has no sample");
}

#[test]
fn there_is_a_sample_of_every_error() {
    complete(&hosts_samples(), hosts_number, HOSTS);
    complete(&ssh_config_samples(), ssh_config_number, SSH_CONFIG);
    complete(&ssh_samples(), ssh_number, SSH);
    complete(&agent_samples(), agent_number, AGENT);
    complete(&document_samples(), document_number, DOCUMENT);
    complete(&store_samples(), store_number, STORE);
    // Nobody but its own crate can make the cause of `LocalUser`; its words hold the host's name alone.
    let but_local_user = |error: &HandoffError| match handoff_number(error) {
        number if number > 5 => number - 1,
        number => number,
    };
    complete(&handoff_samples(), but_local_user, HANDOFF - 1);
}

#[test]
fn no_error_tells_a_model_anything_private() {
    for error in handoff_samples() {
        let shown = format!("{error:?}");
        let failure = Failure {
            error,
            job: Some(JobId::generate()),
            manual: vec![text()],
        };
        let document = serde_json::to_value(error_document(&failure)).unwrap();
        let text = document.to_string();
        for part in PARTS {
            assert!(!text.contains(part), "{part} of {shown} is in {text}");
        }
        let body = document.get("error").unwrap();
        for field in ["kind", "message", "job"] {
            let value = body.get(field).and_then(|value| value.as_str());
            assert!(value.is_some_and(|value| !value.is_empty()), "{text}");
        }
    }
}

#[test]
fn the_samples_do_hold_something_private_for_the_person() {
    let telling = handoff_samples()
        .into_iter()
        .map(|error| exit::with_causes(&error))
        .filter(|text| PARTS.iter().any(|part| text.contains(part)))
        .count();
    assert!(telling > 50, "only {telling} samples would tell anything");
}

#[test]
fn no_event_tells_a_model_anything_private() {
    let events = [
        Event::Job {
            job: "j1".to_owned(),
            host: "gpu-box".to_owned(),
            session: Some(session().to_string()),
        },
        Event::Step {
            step: crate::events::Step::Connect,
            detail: text(),
        },
        Event::Progress {
            step: crate::events::Step::Send,
            done: 1,
            total: 2,
        },
        Event::Agent {
            agent: AgentEvent::Reasoning { text: text() },
        },
        Event::Agent {
            agent: AgentEvent::ToolUse {
                tool: "read".to_owned(),
                status: "completed".to_owned(),
                title: text(),
                fingerprint: 1,
            },
        },
        Event::Agent {
            agent: AgentEvent::Error { message: text() },
        },
        Event::Warning { message: text() },
        Event::Unreachable {
            attempt: 1,
            retry_in_ms: 2,
            reason: text(),
        },
        Event::Reconnected,
    ];
    for event in events {
        let seen = serde_json::to_string(&super::event(&event)).unwrap();
        for part in PARTS {
            assert!(!seen.contains(part), "{part} of {event:?} is in {seen}");
        }
    }
}
