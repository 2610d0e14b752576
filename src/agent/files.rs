//! The files that a client puts into a job's directory.
//!
//! The main type is [`JobSpec`]. The invariant: one value a file, so that no value is ever part of a script.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::AgentError;
use super::probe::check_job_id;
use super::record::PROTOCOL;
use super::script::check_parameter;
use crate::hosts::HostName;
use crate::session::SessionId;
use crate::ssh::RemotePath;

/// The names of the files in a job's directory; what each means is in the protocol's table.
pub mod names {
    /// The job's description, by the client.
    pub const JOB: &str = "job.json";
    /// The patched export, by the client; the runner deletes it after the import.
    pub const SESSION: &str = "session.json";
    /// The message that the agent gets, by the client.
    pub const PROMPT: &str = "prompt.txt";
    /// The constant script, by the client.
    pub const SCRIPT: &str = "run.sh";
    /// One value a file, by the client.
    pub const PARAMS: &str = "params";
    /// The lock of the launch, a directory.
    pub const CLAIM: &str = "claim";
    /// In the claim: the job was closed before it was launched.
    pub const TOMBSTONE: &str = "tombstone";
    /// The runner's description of itself.
    pub const STARTED: &str = "started";
    /// How far the runner is.
    pub const PHASE: &str = "phase";
    /// The agent's event stream.
    pub const EVENTS: &str = "events.ndjson";
    /// The agent's error output, and the runner's own words.
    pub const STDERR: &str = "stderr.log";
    /// Follow-up messages: what is renamed into it as `NAME.txt` is taken; when the rename fails, the message was
    /// refused.
    pub const INBOX: &str = "inbox";
    /// A follow-up message until the job's script moves it into the inbox, where its name is `NUMBER.NAME.txt`: the
    /// script numbers messages in the order in which they are delivered.
    #[must_use]
    pub fn message(name: &str) -> String {
        format!("say-{name}.txt")
    }
    /// Asks for the end: lines `reason=` and `grace=`, by a client or by the runner's own time limit.
    pub const KILL: &str = "kill";
    /// The result.
    pub const RESULT: &str = "back.json";
    /// The end, written last.
    pub const EXIT: &str = "exit";
    /// What the probe wrote, to be compared over SFTP.
    pub const VISIBLE: &str = "visible";
}

const RUN_SCRIPT: &str = concat!(
    "#!/bin/sh\n",
    include_str!("scripts/frame.sh"),
    include_str!("scripts/login_env.sh"),
    include_str!("scripts/identity.sh"),
    include_str!("scripts/family.sh"),
    include_str!("scripts/lock.sh"),
    include_str!("scripts/kill.sh"),
    include_str!("scripts/guard.sh"),
    include_str!("scripts/runner.sh"),
    include_str!("scripts/launch.sh"),
    include_str!("scripts/say.sh"),
    include_str!("scripts/removal.sh"),
    include_str!("scripts/verbs.sh")
);

/// Bytes of `job.json`.
const JOB_LIMIT: usize = 64 << 10;

/// The constant script of every job: the content of [`names::SCRIPT`].
#[must_use]
pub fn runner_script() -> &'static str {
    RUN_SCRIPT
}

/// Whether a session is expected back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It goes on there.
    OneWay,
    /// It comes back when the agent is done.
    RoundTrip,
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::OneWay => "one-way",
            Self::RoundTrip => "round-trip",
        })
    }
}

/// What a job does on its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobKind {
    /// A session of this machine goes on there.
    #[default]
    Handoff,
    /// A fresh session is made there.
    Spawn,
}

impl fmt::Display for JobKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Handoff => "handoff",
            Self::Spawn => "spawn",
        })
    }
}

/// What a job is made of.
#[derive(Debug, Clone)]
pub struct JobSpec<'a> {
    /// The job's id.
    pub job: &'a str,
    /// Whether a session moves, or is made there.
    pub kind: JobKind,
    /// The session that moves; `None` for a spawned job.
    pub session: Option<&'a SessionId>,
    /// The title of a session that is made there; one line.
    pub title: Option<&'a str>,
    /// The configured host's name.
    pub host: &'a HostName,
    /// Whether it is expected back.
    pub mode: Mode,
    /// The work directory, as the probe resolved it.
    pub directory: &'a RemotePath,
    /// The agent's program, as the probe found it.
    pub opencode: &'a RemotePath,
    /// The agent to run as.
    pub agent: Option<&'a str>,
    /// The model to use, `PROVIDER/MODEL`.
    pub model: Option<&'a str>,
    /// Whether permissions are granted without asking.
    pub auto_approve: bool,
    /// The name of the machine that sends.
    pub sender: &'a str,
    /// What tells the sending client from every other, whatever their machines are called.
    pub client: Option<&'a str>,
    /// The session whose agent asked for the job, if one did.
    pub parent: Option<&'a SessionId>,
    /// When the job was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// The time of the newest message sent, in milliseconds since 1970: the runner waits until its clock is past it.
    pub newest_ms: u64,
    /// The message for the agent; may have any number of lines.
    pub prompt: &'a str,
    /// What the host keeps by itself.
    pub limits: JobLimits,
    /// What whoever looks after the job keeps.
    pub terms: JobTerms,
}

/// What was agreed on a job that its host neither reads nor keeps: for whoever looks after it from outside.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JobTerms {
    /// Milliseconds without an event after which the running agent is stalled.
    pub inactivity_ms: Option<u64>,
    /// Calls of one tool with the same input in a row from which on the agent is looping.
    pub loop_limit: Option<u32>,
    /// Whoever finds the job stalled ends it.
    pub kill_on_stall: bool,
    /// Whoever finds the job looping ends it.
    pub kill_on_loop: bool,
    /// The host's session is deleted after it came back.
    pub forget: bool,
    /// The beginning of what the agent was told, on one line.
    pub prompt: Option<String>,
}

/// What the host keeps of a job by itself, whoever watches or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobLimits {
    /// How long the job may take, from its start on; then its agent is ended, in whole seconds.
    pub max_time: Option<Duration>,
    /// How many live jobs there may be on the host; above it the launch is refused.
    pub max_jobs: Option<u32>,
}

/// One file to be written, mode 0600.
#[derive(Clone, PartialEq, Eq)]
pub struct JobFile {
    /// Its name in the job's directory; `params/` is there already.
    pub name: &'static str,
    /// Its content.
    pub content: Vec<u8>,
}

impl std::fmt::Debug for JobFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("JobFile")
            .field("name", &self.name)
            .field("bytes", &self.content.len())
            .finish()
    }
}

impl JobSpec<'_> {
    /// Makes every file but `session.json`, which the caller streams; `session_size` is its size in bytes, 0 for a
    /// spawned job, which has none.
    ///
    /// # Errors
    /// [`AgentError::Parameter`] when the id, the agent or the model cannot be used.
    pub fn files(&self, session_size: u64) -> Result<Vec<JobFile>, AgentError> {
        check_job_id(self.job)?;
        check_name("the agent", self.agent)?;
        check_name("the model", self.model)?;
        check_parameter("the sender", self.sender)?;
        check_parameter("the client", self.client.unwrap_or_default())?;
        check_parameter("the title", self.title.unwrap_or_default())?;
        let record = JobRecord {
            protocol: PROTOCOL,
            job: self.job.to_owned(),
            kind: self.kind,
            session: self.session.cloned(),
            title: self.title.map(str::to_owned),
            host: self.host.clone(),
            mode: self.mode,
            directory: self.directory.clone(),
            opencode: self.opencode.clone(),
            agent: self.agent.map(str::to_owned),
            model: self.model.map(str::to_owned),
            auto_approve: self.auto_approve,
            sender: self.sender.to_owned(),
            client: self.client.map(str::to_owned),
            parent: self.parent.cloned(),
            created_ms: self.created_ms,
            terms: self.terms.clone(),
        };
        let json = serde_json::to_vec_pretty(&record).map_err(|_| AgentError::Record {
            name: names::JOB,
            reason: "it cannot be written",
        })?;
        // A part of a second counts as one: nothing is ended before its time.
        let max_time = self.limits.max_time.map_or_else(String::new, |time| {
            (time.as_secs() + u64::from(time.subsec_nanos() > 0)).to_string()
        });
        let max_jobs = self
            .limits
            .max_jobs
            .map_or_else(String::new, |count| count.to_string());
        let file = |name, content: &str| JobFile {
            name,
            content: content.as_bytes().to_vec(),
        };
        Ok(vec![
            JobFile {
                name: names::JOB,
                content: json,
            },
            file(names::PROMPT, self.prompt),
            file(names::SCRIPT, RUN_SCRIPT),
            file("params/job", self.job),
            file("params/kind", &self.kind.to_string()),
            file("params/session", self.session.map_or("", SessionId::as_str)),
            file("params/title", self.title.unwrap_or_default()),
            file("params/directory", self.directory.as_str()),
            file("params/opencode", self.opencode.as_str()),
            file("params/agent", self.agent.unwrap_or_default()),
            file("params/model", self.model.unwrap_or_default()),
            file("params/auto", if self.auto_approve { "1" } else { "" }),
            file("params/newest_ms", &self.newest_ms.to_string()),
            file("params/size", &session_size.to_string()),
            file("params/max_time", &max_time),
            file("params/max_jobs", &max_jobs),
        ])
    }
}

/// Refuses a name that the agent's command line could take for an option.
fn check_name(what: &'static str, name: Option<&str>) -> Result<(), AgentError> {
    let Some(name) = name else { return Ok(()) };
    check_parameter(what, name)?;
    if name.is_empty() || name.starts_with('-') || name.len() > 256 {
        let value = name.chars().take(80).collect();
        return Err(AgentError::Parameter {
            what,
            value,
            reason: "it is empty, too long, or starts with '-'",
        });
    }
    Ok(())
}

/// The content of `job.json`: enough for any client to take the job over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// The version of the job directory's protocol.
    pub protocol: u32,
    /// The job's id.
    pub job: String,
    /// Whether the session was moved, or made on the host.
    #[serde(default)]
    pub kind: JobKind,
    /// The session that moved; `None` for a spawned job.
    pub session: Option<SessionId>,
    /// The title asked for.
    #[serde(default)]
    pub title: Option<String>,
    /// The host's name at the sender.
    pub host: HostName,
    /// Whether it is expected back.
    pub mode: Mode,
    /// The work directory.
    pub directory: RemotePath,
    /// The agent's program.
    pub opencode: RemotePath,
    /// The agent to run as.
    pub agent: Option<String>,
    /// The model to use.
    pub model: Option<String>,
    /// Whether permissions are granted without asking.
    pub auto_approve: bool,
    /// The name of the machine that sent.
    pub sender: String,
    /// What tells the sending client from every other.
    #[serde(default)]
    pub client: Option<String>,
    /// The session whose agent asked for the job, if one did.
    #[serde(default)]
    pub parent: Option<SessionId>,
    /// When the job was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// What whoever looks after the job keeps; nothing in those of earlier versions.
    #[serde(default)]
    pub terms: JobTerms,
}

impl JobRecord {
    /// Reads the content of `job.json`.
    ///
    /// # Errors
    /// [`AgentError::Record`] when it is damaged, [`AgentError::Newer`] for a later protocol.
    pub fn parse(content: &[u8]) -> Result<Self, AgentError> {
        #[derive(Deserialize)]
        struct Version {
            protocol: u32,
        }
        let damaged = |reason| AgentError::Record {
            name: names::JOB,
            reason,
        };
        if content.len() > JOB_LIMIT {
            return Err(damaged("it is too long"));
        }
        let version: Version =
            serde_json::from_slice(content).map_err(|_| damaged("no protocol version"))?;
        if version.protocol > PROTOCOL {
            return Err(AgentError::Newer {
                name: names::JOB,
                found: version.protocol,
                known: PROTOCOL,
            });
        }
        let record: Self =
            serde_json::from_slice(content).map_err(|_| damaged("a field is missing or wrong"))?;
        check_job_id(&record.job).map_err(|_| damaged("its id is not one of ours"))?;
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_built_in_with_the_line_ends_that_a_posix_shell_reads() {
        assert!(runner_script().starts_with("#!/bin/sh\n"));
        assert!(!runner_script().contains('\r'), "see .gitattributes");
    }

    #[test]
    fn a_job_record_is_read_back_and_hostile_names_are_refused() {
        let (session, host) = ("ses_1a".parse().unwrap(), "box".parse().unwrap());
        let (directory, opencode) = ("/w/a b".parse().unwrap(), "/bin/opencode".parse().unwrap());
        let spec = JobSpec {
            job: "j000000000-000000",
            kind: JobKind::Handoff,
            session: Some(&session),
            title: None,
            host: &host,
            mode: Mode::RoundTrip,
            directory: &directory,
            opencode: &opencode,
            agent: Some("build"),
            model: None,
            auto_approve: false,
            sender: "laptop",
            client: Some("0f"),
            parent: None,
            created_ms: 1,
            newest_ms: 2,
            prompt: "go on\n",
            limits: JobLimits::default(),
            terms: JobTerms {
                kill_on_stall: true,
                ..JobTerms::default()
            },
        };
        let files = spec.files(9).unwrap();
        let job = files.iter().find(|file| file.name == names::JOB).unwrap();
        let record = JobRecord::parse(&job.content).unwrap();
        assert_eq!(
            (record.session, record.mode, record.agent.as_deref()),
            (Some(session.clone()), Mode::RoundTrip, Some("build"))
        );
        assert_eq!(record.terms, spec.terms);
        let mut old: serde_json::Value = serde_json::from_slice(&job.content).unwrap();
        old.as_object_mut().unwrap().remove("terms").unwrap();
        let old = JobRecord::parse(old.to_string().as_bytes()).unwrap();
        assert_eq!(old.terms, JobTerms::default());
        for bad in ["", "-x", "a\nb"] {
            assert!(
                JobSpec {
                    agent: Some(bad),
                    ..spec.clone()
                }
                .files(9)
                .is_err(),
                "{bad:?} was accepted"
            );
            assert!(
                JobSpec {
                    model: Some(bad),
                    ..spec.clone()
                }
                .files(9)
                .is_err(),
                "{bad:?} was accepted"
            );
        }
        let newer = String::from_utf8(job.content.clone())
            .unwrap()
            .replace("\"protocol\": 1", "\"protocol\": 2");
        assert!(matches!(
            JobRecord::parse(newer.as_bytes()),
            Err(AgentError::Newer { found: 2, .. })
        ));
    }
}
