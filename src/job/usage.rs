//! What a job's event log amounts to so far: tokens, cost, tool calls, and what the watchdogs need.
//!
//! The main type is [`Usage`]. The invariant: it counts whole lines up to [`Usage::position`], so that whoever goes on
//! from there counts nothing twice and leaves nothing out.

use serde::{Deserialize, Serialize};

use crate::events::{AgentEvent, Tokens};

/// The longest result text that is kept in a record, in bytes.
pub(crate) const RESULT_LIMIT: usize = 2 << 10;

/// What was counted of a job's event log.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Bytes of the log whose events are counted: where counting goes on.
    pub position: u64,
    /// Tokens used.
    pub tokens: Tokens,
    /// Cost in US dollars, as the agent reports it.
    pub cost: f64,
    /// Tool calls that have ended.
    pub tool_calls: u64,
    /// When the newest event was seen to come, in milliseconds since 1970 by this machine's clock.
    pub last_event_ms: Option<u64>,
    /// The beginning of the agent's last text.
    pub last_text: Option<String>,
    /// The tool of the last call.
    pub last_tool: Option<String>,
    /// How many times that tool was called with the same input, one call after the other.
    pub repeats: u32,
    /// The most calls of one tool with the same input in a row.
    pub longest_run: u32,
    /// The tool of that run.
    pub longest_tool: Option<String>,
    /// The newest event is an error of the agent, after which it has not gone on.
    pub failing: bool,
    /// The log holds more than was read of it: the numbers are the least that they can be.
    pub partial: bool,
    /// What tells the last call from one with another tool or input.
    last_call: Option<u64>,
}

impl Usage {
    /// Whether the agent has answered at all: said something, called a tool, or used a model.
    #[must_use]
    pub fn shows_answer(&self) -> bool {
        self.last_text.is_some() || self.tool_calls > 0 || self.tokens != Tokens::default()
    }

    /// Counts an event.
    pub fn take(&mut self, event: &AgentEvent) {
        self.failing = matches!(event, AgentEvent::Error { .. });
        match event {
            AgentEvent::Text { text } if !text.trim().is_empty() => {
                let end = text.floor_char_boundary(RESULT_LIMIT);
                self.last_text = text.get(..end).map(str::to_owned);
            }
            AgentEvent::ToolUse {
                tool, fingerprint, ..
            } => {
                self.tool_calls += 1;
                if self.last_call == Some(*fingerprint) {
                    self.repeats = self.repeats.saturating_add(1);
                } else {
                    self.last_call = Some(*fingerprint);
                    self.last_tool = Some(tool.chars().take(80).collect());
                    self.repeats = 1;
                }
                if self.repeats > self.longest_run {
                    self.longest_run = self.repeats;
                    self.longest_tool.clone_from(&self.last_tool);
                }
            }
            AgentEvent::StepFinish { cost, tokens, .. } => {
                self.cost += cost;
                self.tokens = self.tokens + *tokens;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(fingerprint: u64) -> AgentEvent {
        AgentEvent::ToolUse {
            tool: "bash".into(),
            status: "completed".into(),
            title: String::new(),
            fingerprint,
        }
    }

    #[test]
    fn the_same_call_in_a_row_is_counted_and_another_one_begins_anew() {
        let mut usage = Usage::default();
        for fingerprint in [1, 1, 2, 2, 2] {
            usage.take(&call(fingerprint));
            usage.take(&AgentEvent::StepFinish {
                reason: "tool-calls".into(),
                cost: 0.5,
                tokens: Tokens {
                    input: 1,
                    ..Tokens::default()
                },
            });
        }
        assert_eq!((usage.tool_calls, usage.repeats, usage.cost), (5, 3, 2.5));
        assert_eq!(usage.tokens.input, 5);
        usage.take(&call(1));
        assert_eq!((usage.repeats, usage.longest_run), (1, 3));
    }

    #[test]
    fn a_text_a_tool_call_or_a_step_is_an_answer_and_an_error_is_none() {
        let mut usage = Usage::default();
        usage.take(&AgentEvent::Error {
            message: "overloaded".into(),
        });
        usage.take(&AgentEvent::Text { text: " ".into() });
        assert!(!usage.shows_answer());
        let step = AgentEvent::StepFinish {
            reason: "stop".into(),
            cost: 0.0,
            tokens: Tokens {
                output: 1,
                ..Tokens::default()
            },
        };
        for event in [AgentEvent::Text { text: "on".into() }, call(1), step] {
            let mut usage = Usage::default();
            usage.take(&event);
            assert!(usage.shows_answer(), "{event:?}");
        }
    }

    #[test]
    fn an_error_counts_until_the_agent_goes_on() {
        let mut usage = Usage::default();
        usage.take(&AgentEvent::Error {
            message: "overloaded".into(),
        });
        assert!(usage.failing);
        usage.take(&AgentEvent::Text { text: "on".into() });
        assert!(!usage.failing);
        assert_eq!(usage.last_text.as_deref(), Some("on"));
    }
}
