//! A job as `jobs`, `status`, `wait` and `watch` tell it: one form for all of them.
//!
//! The main type is [`JobView`]. The form is public API of `--json`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::args::Form;
use crate::events::Tokens;
use crate::job::{JobKind, JobRecord, Mode, State, now_ms};
use crate::session::SessionId;

/// What a program sees of a job.
#[derive(Serialize)]
pub(crate) struct JobView<'a> {
    id: &'a str,
    kind: JobKind,
    state: State,
    attributes: Vec<&'static str>,
    host: &'a str,
    session: Option<&'a str>,
    mode: Mode,
    created: String,
    collected: bool,
    parent: Option<&'a str>,
    title: Option<&'a str>,
    prompt: Option<&'a str>,
    #[serde(flatten)]
    places: Option<Places<'a>>,
    agent: Option<&'a str>,
    model: Option<&'a str>,
    history: Vec<Entered>,
    duration_ms: u64,
    last_event: Option<String>,
    tokens: Tokens,
    cost: f64,
    tool_calls: u64,
    /// The numbers are the least that they can be: the log is longer than what is counted.
    usage_partial: bool,
    exit_code: Option<u8>,
    signal: Option<u8>,
    undelivered: u32,
    notice: Option<&'a str>,
    result: Option<&'a str>,
}

/// What a model does not see: paths of the host, and errors in words that can hold anything.
#[derive(Serialize)]
struct Places<'a> {
    directory: Option<&'a str>,
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct Entered {
    state: State,
    at: String,
}

impl<'a> JobView<'a> {
    pub(crate) fn new(job: &'a JobRecord, form: Form) -> Self {
        Self {
            id: job.id.as_str(),
            kind: job.kind,
            state: job.state,
            attributes: job.attributes.names(),
            host: job.host.as_str(),
            session: job.session.as_ref().map(SessionId::as_str),
            mode: job.mode,
            created: timestamp(job.created_ms()),
            collected: job.collected_ms.is_some(),
            parent: job.parent.as_ref().map(SessionId::as_str),
            title: job.title.as_deref(),
            prompt: job.prompt.as_deref(),
            places: (form != Form::Model).then_some(Places {
                directory: job.directory.as_deref(),
                error: job.error.as_deref(),
            }),
            agent: job.agent.as_deref(),
            model: job.model.as_deref(),
            history: job
                .history
                .iter()
                .map(|entry| Entered {
                    state: entry.state,
                    at: timestamp(entry.at_ms),
                })
                .collect(),
            duration_ms: job.duration_ms(),
            last_event: job.usage.last_event_ms.map(timestamp),
            tokens: job.usage.tokens,
            cost: job.usage.cost,
            tool_calls: job.usage.tool_calls,
            usage_partial: job.usage.partial,
            exit_code: job.exit_code,
            signal: job.signal,
            undelivered: job.undelivered,
            notice: job.notice.as_deref(),
            result: job.result.as_deref(),
        }
    }
}

/// The state with what is odd about it, for a table.
pub(crate) fn state_words(job: &JobRecord) -> String {
    let mut words = vec![job.state.name()];
    words.extend(job.attributes.names());
    if job.is_uncollected() {
        words.push("not collected");
    }
    words.join(", ")
}

/// The kind for a person: the verb that makes such a job.
pub(crate) fn kind_word(kind: JobKind) -> String {
    match kind {
        JobKind::Spawn => "run".to_owned(),
        other => other.to_string(),
    }
}

pub(crate) fn timestamp(ms: u64) -> String {
    let time: SystemTime = UNIX_EPOCH + Duration::from_millis(ms);
    humantime::format_rfc3339_millis(time).to_string()
}

/// The time since then, in whole seconds.
pub(crate) fn ago(ms: u64) -> String {
    seconds(now_ms().saturating_sub(ms))
}

pub(crate) fn seconds(ms: u64) -> String {
    humantime::format_duration(Duration::from_secs(ms / 1000)).to_string()
}
