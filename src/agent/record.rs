//! What the runner writes into a job's directory: `started`, `phase` and `exit`.
//!
//! The invariant: a file counts only when it is whole (its last line is `end=1`), so one that a full disk cut short is
//! damaged and never a result.

use serde::{Deserialize, Serialize};

use super::script::printable;
use super::{AgentError, names};

/// The version of the job directory's protocol.
pub(super) const PROTOCOL: u32 = 1;
/// Bytes of a record; true ones have a few hundred.
const RECORD_LIMIT: usize = 16 << 10;

/// How far the runner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The session is being imported.
    Importing,
    /// The agent runs.
    Running,
    /// The session is being exported.
    Exporting,
}

impl Phase {
    /// Reads the content of `phase`.
    ///
    /// # Errors
    /// [`AgentError::Record`] when it is none of the known ones.
    pub fn parse(content: &[u8]) -> Result<Self, AgentError> {
        match content.trim_ascii() {
            b"importing" => Ok(Self::Importing),
            b"running" => Ok(Self::Running),
            b"exporting" => Ok(Self::Exporting),
            _ => Err(AgentError::Record {
                name: names::PHASE,
                reason: "no known phase",
            }),
        }
    }
}

/// The process that runs a job, as it described itself in `started`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its process id.
    pub pid: u32,
    /// What tells it from a later process with the same id; empty when the host could not say.
    pub start: String,
    /// The boot in which it runs, as [`Probe::boot`](super::Probe::boot) names it.
    pub boot: String,
    /// The machine on which it runs, as [`Probe::machine`](super::Probe::machine) names it.
    pub machine: String,
}

impl Started {
    /// Reads the content of `started`.
    ///
    /// # Errors
    /// [`AgentError::Record`] when it is cut or names no process.
    pub fn parse(content: &[u8]) -> Result<Self, AgentError> {
        let record = Record::parse(names::STARTED, content)?;
        Ok(Self {
            pid: record
                .number("pid")?
                .ok_or(record.damaged("no process id"))?,
            start: record.text("start").unwrap_or_default(),
            boot: record.text("boot").unwrap_or_default(),
            machine: record.text("machine").unwrap_or_default(),
        })
    }
}

/// Why a runner ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ExitReason {
    /// The agent ended with 0 and the result is there.
    Completed,
    /// The agent ended with another code; the result is there.
    AgentFailed,
    /// The agent was ended by a signal; the result is there.
    AgentSignalled,
    /// The agent's program was not there any more.
    AgentMissing,
    /// The work directory could not be made or entered.
    WorkdirFailed,
    /// The agent did not import the session.
    ImportFailed,
    /// The host's clock did not pass the newest message within a minute.
    Clock,
    /// There is no result: the agent's export failed or was cut.
    ExportFailed,
    /// The runner was asked to end, by a signal.
    Stopped,
    /// The runner itself was ended on the host, and its agent after it, by the guard beside it or whoever looked at the
    /// job next; the result as for [`Killed`](Self::Killed).
    RunnerDied,
    /// Somebody ended the job; the result, where there is one, is what the agent had done by then.
    Killed,
    /// The job's time limit ended it; the result as for [`Killed`](Self::Killed).
    MaxTime,
    /// It was ended because nothing had come from the agent for too long; the result as for [`Killed`](Self::Killed).
    KilledStalled,
    /// It was ended because the agent went in circles; the result as for [`Killed`](Self::Killed).
    KilledLooping,
    /// Another reason, of the script's own making.
    Other,
}

impl ExitReason {
    /// Whether the job was ended before its time.
    #[must_use]
    pub fn is_kill(self) -> bool {
        matches!(
            self,
            Self::Killed | Self::MaxTime | Self::KilledStalled | Self::KilledLooping
        )
    }
}

/// The end of a job, as `exit` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The phase that was reached.
    pub phase: Phase,
    /// Why the runner ended.
    pub reason: ExitReason,
    /// The agent's exit code, if it ran; above 128 it is 128 and the signal's number, as shells report it.
    pub code: Option<u8>,
    /// The size of the result in bytes; `None` when there is no result.
    pub size: Option<u64>,
    /// The SHA-256 of the result, 64 lower-case hexadecimal digits; there whenever the size is.
    pub sha256: Option<String>,
    /// Follow-up messages that nobody read.
    pub undelivered: u32,
    /// Processes of the agent that lived on although the job was killed: 0 but for what the kernel will not end.
    pub left: u32,
    /// When it ended by the host's clock, in milliseconds since 1970.
    pub ended_ms: u64,
}

impl Exit {
    /// The signal that ended the agent, if its code says so.
    #[must_use]
    pub fn signal(&self) -> Option<u8> {
        self.code.filter(|code| *code > 128).map(|code| code - 128)
    }

    /// Whether there is a result to fetch.
    #[must_use]
    pub fn has_result(&self) -> bool {
        self.size.is_some()
    }

    /// Reads the content of `exit`.
    ///
    /// # Errors
    /// [`AgentError::Record`] when it is cut or contradicts itself, [`AgentError::Newer`] for a later protocol.
    pub fn parse(content: &[u8]) -> Result<Self, AgentError> {
        let record = Record::parse(names::EXIT, content)?;
        let protocol: u32 = record
            .number("protocol")?
            .ok_or(record.damaged("no protocol version"))?;
        if protocol > PROTOCOL {
            return Err(AgentError::Newer {
                name: names::EXIT,
                found: protocol,
                known: PROTOCOL,
            });
        }
        let size: Option<u64> = record.number("size")?;
        let sha256 = record.text("sha256").filter(|sum| !sum.is_empty());
        let hex =
            |sum: &String| sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
        if size.is_some() != sha256.is_some() || !sha256.iter().all(hex) || size == Some(0) {
            return Err(record.damaged("its size and its sum do not fit"));
        }
        let reason = match record.text("reason").as_deref() {
            Some("completed") => ExitReason::Completed,
            Some("agent-failed") => ExitReason::AgentFailed,
            Some("agent-signalled") => ExitReason::AgentSignalled,
            Some("agent-missing") => ExitReason::AgentMissing,
            Some("workdir-failed") => ExitReason::WorkdirFailed,
            Some("import-failed") => ExitReason::ImportFailed,
            Some("clock") => ExitReason::Clock,
            Some("export-failed") => ExitReason::ExportFailed,
            Some("stopped") => ExitReason::Stopped,
            Some("runner-died") => ExitReason::RunnerDied,
            Some("killed") => ExitReason::Killed,
            Some("max-time") => ExitReason::MaxTime,
            Some("stalled") => ExitReason::KilledStalled,
            Some("looping") => ExitReason::KilledLooping,
            Some(_) => ExitReason::Other,
            None => return Err(record.damaged("no reason")),
        };
        if reason == ExitReason::Completed && size.is_none() {
            return Err(record.damaged("it claims a result and names none"));
        }
        let phase = record.text("phase").unwrap_or_default();
        Ok(Self {
            phase: Phase::parse(phase.as_bytes()).map_err(|_| record.damaged("no known phase"))?,
            reason,
            code: record.number("code")?,
            size,
            sha256,
            undelivered: record.number("undelivered")?.unwrap_or_default(),
            left: record.number("left")?.unwrap_or_default(),
            ended_ms: record.number("ended_ms")?.unwrap_or_default(),
        })
    }
}

/// The lines `key=value` of one file.
struct Record {
    name: &'static str,
    fields: Vec<(String, String)>,
}

impl Record {
    fn parse(name: &'static str, content: &[u8]) -> Result<Self, AgentError> {
        let damaged = |reason| AgentError::Record { name, reason };
        if content.len() > RECORD_LIMIT {
            return Err(damaged("it is too long"));
        }
        if !content.ends_with(b"\nend=1\n") {
            return Err(damaged("it is cut"));
        }
        let fields = content
            .split(|byte| *byte == b'\n')
            .filter_map(|line| {
                let at = line.iter().position(|byte| *byte == b'=')?;
                let (key, value) = line.split_at(at);
                Some((printable(key, 64), printable(value.get(1..)?, 1024)))
            })
            .collect();
        Ok(Self { name, fields })
    }

    fn damaged(&self, reason: &'static str) -> AgentError {
        AgentError::Record {
            name: self.name,
            reason,
        }
    }

    fn text(&self, key: &str) -> Option<String> {
        self.fields
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.clone())
    }

    /// A number; none when the field is missing or empty.
    fn number<N: std::str::FromStr>(&self, key: &str) -> Result<Option<N>, AgentError> {
        match self.text(key).filter(|text| !text.is_empty()) {
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| self.damaged("a number that is none")),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole() -> String {
        let sum = "ab".repeat(32);
        format!(
            "protocol=1\nphase=exporting\nreason=agent-failed\ncode=7\nsize=12\nsha256={sum}\nundelivered=0\nended_ms=5\nend=1\n"
        )
    }

    #[test]
    fn an_exit_is_read_and_one_cut_at_any_byte_is_damaged() {
        let exit = Exit::parse(whole().as_bytes()).unwrap();
        assert_eq!(
            (exit.phase, exit.reason, exit.code, exit.size),
            (Phase::Exporting, ExitReason::AgentFailed, Some(7), Some(12))
        );
        for cut in 0..whole().len() {
            assert!(
                Exit::parse(&whole().as_bytes()[..cut]).is_err(),
                "accepted when cut at {cut}"
            );
        }
    }

    #[test]
    fn an_exit_that_contradicts_itself_is_damaged() {
        for (from, to) in [
            ("size=12", "size="),
            ("sha256=ab", "sha256=zz"),
            ("size=12", "size=0"),
            ("size=12", "size=-1"),
            ("code=7", "code=700"),
            ("phase=exporting", "phase=x"),
        ] {
            assert!(
                Exit::parse(whole().replace(from, to).as_bytes()).is_err(),
                "{to} was accepted"
            );
        }
        assert!(matches!(
            Exit::parse(whole().replace("protocol=1", "protocol=2").as_bytes()),
            Err(AgentError::Newer { found: 2, .. })
        ));
    }

    #[test]
    fn a_code_above_128_names_its_signal() {
        let exit = Exit::parse(whole().replace("code=7", "code=137").as_bytes()).unwrap();
        assert_eq!(exit.signal(), Some(9));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut ended = bytes.clone();
            ended.extend_from_slice(b"\nend=1\n");
            for content in [bytes, ended] {
                let _ = (Exit::parse(&content), Started::parse(&content), Phase::parse(&content));
            }
        }
    }
}
