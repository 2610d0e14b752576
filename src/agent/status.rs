//! What is there of a job, asked in one exec.
//!
//! The main type is [`JobStatus`]: the evidence, not a verdict; the job's state is decided above.

use super::{AgentError, Answer, Exit, Nonce, Phase, ScriptCall, Started};

/// Who holds the claim of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Nobody: it was never launched.
    Free,
    /// A launch, with its nonce.
    Launch(Nonce),
    /// A launch that has not written its nonce, or never will.
    Unnamed,
    /// Whoever settled it as never launched.
    Tombstone,
}

impl Claim {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "none" => Some(Self::Free),
            "empty" => Some(Self::Unnamed),
            "tombstone" => Some(Self::Tombstone),
            _ => text
                .strip_prefix("nonce:")
                .and_then(Nonce::parse)
                .map(Self::Launch),
        }
    }

    /// Reads the answer to [`JobCall::settle`](super::JobCall::settle): who holds the claim now; `None` when the
    /// job's script is not there.
    ///
    /// # Errors
    /// Those of [`ScriptCall::answer`], and [`AgentError::AnswerField`].
    pub fn parse_settled(call: &ScriptCall, stdout: &[u8]) -> Result<Option<Self>, AgentError> {
        let answer = call.answer(stdout)?;
        if answer.text("missing").is_some() {
            return Ok(None);
        }
        match Self::parse(&answer.required("claim")?) {
            Some(claim) => Ok(Some(claim)),
            None => Err(AgentError::AnswerField {
                field: "claim".to_owned(),
            }),
        }
    }
}

/// What the host knows of the process that `started` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alive {
    /// It runs; or it is gone, and its agent is being ended and exported in its place.
    Yes,
    /// It is gone, on the same machine in the same boot, and so is whoever took its place.
    No,
    /// The machine has booted since.
    Reboot,
    /// It runs on another machine that shares this home, if it runs: not to be judged from here.
    Elsewhere,
    /// There is no `started`, or the host cannot tell processes apart.
    Unknown,
}

/// The evidence of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobStatus {
    /// Who holds the claim.
    pub claim: Claim,
    /// The runner's description of itself.
    pub started: Option<Started>,
    /// Whether it lives; asked before `exit` was looked for.
    pub alive: Alive,
    /// How far it is.
    pub phase: Option<Phase>,
    /// The end.
    pub exit: Option<Exit>,
    /// Bytes of the event stream.
    pub events_size: u64,
    /// Bytes of the error output.
    pub stderr_size: u64,
    /// Bytes of the result, where one is there; with an [`exit`](Self::exit) or without.
    pub result_size: Option<u64>,
    /// The host's clock, in milliseconds since 1970.
    pub clock_ms: u64,
}

impl JobStatus {
    /// Reads the answer to [`JobCall::status`](super::JobCall::status); `None` when the job's directory is not there.
    ///
    /// # Errors
    /// Those of [`ScriptCall::answer`], of [`Started::parse`] and of [`Exit::parse`], and [`AgentError::AnswerField`].
    pub fn parse(call: &ScriptCall, stdout: &[u8]) -> Result<Option<Self>, AgentError> {
        let answer = call.answer(stdout)?;
        if answer.text("missing").is_some() {
            return Ok(None);
        }
        let phase = answer
            .text("phase")
            .map(|text| Phase::parse(text.as_bytes()))
            .transpose()?;
        Ok(Some(Self {
            claim: Claim::parse(&answer.required("claim")?).ok_or_else(|| {
                AgentError::AnswerField {
                    field: "claim".to_owned(),
                }
            })?,
            started: answer
                .file("started")
                .map(|content| Started::parse(&content))
                .transpose()?,
            alive: alive(&answer)?,
            phase,
            exit: answer
                .file("exit")
                .map(|content| Exit::parse(&content))
                .transpose()?,
            events_size: answer.number("size.events.ndjson").unwrap_or_default(),
            stderr_size: answer.number("size.stderr.log").unwrap_or_default(),
            result_size: answer.number("size.back.json"),
            clock_ms: answer.number("clock_ms").unwrap_or_default(),
        }))
    }
}

fn alive(answer: &Answer) -> Result<Alive, AgentError> {
    match answer.required("alive")?.as_str() {
        "yes" => Ok(Alive::Yes),
        "no" => Ok(Alive::No),
        "reboot" => Ok(Alive::Reboot),
        "elsewhere" => Ok(Alive::Elsewhere),
        "unknown" => Ok(Alive::Unknown),
        _ => Err(AgentError::AnswerField {
            field: "alive".to_owned(),
        }),
    }
}
