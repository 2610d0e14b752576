//! What was done on a trip, read from the messages that came back.

use std::collections::BTreeMap;

use super::error::{DocumentError, shown};
use super::message::{Message, Raw};

/// The longest last text that is kept, in bytes.
const MAX_TEXT: usize = 64 << 10;

/// The most tools that are counted by name.
const MAX_TOOLS: usize = 256;

/// What the new messages of a session say was done.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct TripSummary {
    /// The assistant's last text; at most its first 64 KiB, halves of surrogate pairs replaced.
    pub last_text: Option<String>,
    /// How many tools were called.
    pub tool_calls: u64,
    /// How many times each tool was called; of the names, at most 256 are kept, each at most 80 characters.
    pub tools: BTreeMap<String, u64>,
    /// Tokens that were used.
    pub tokens: TripTokens,
    /// What it cost, in the provider's currency (US dollars with opencode's price lists).
    pub cost: f64,
    /// The name of the error that the last assistant message ended with.
    pub last_error: Option<String>,
}

/// Tokens that were used on a trip.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TripTokens {
    /// Read by the model.
    pub input: u64,
    /// Written by the model.
    pub output: u64,
    /// Written by the model while reasoning.
    pub reasoning: u64,
    /// Read from the provider's cache.
    pub cache_read: u64,
    /// Written to the provider's cache.
    pub cache_write: u64,
}

impl TripSummary {
    /// Adds an assistant message.
    pub(super) fn add(&mut self, message: &Message<'_>) -> Result<(), DocumentError> {
        let raw = &message.raw;
        for part in &message.parts {
            match &*part.kind {
                "text" => {
                    if let Some(text) = raw
                        .text(part.text.clone())
                        .filter(|text| !text.trim().is_empty())
                    {
                        let end = text.floor_char_boundary(MAX_TEXT);
                        self.last_text = text.get(..end).map(str::to_owned);
                    }
                }
                "tool" => {
                    self.tool_calls += 1;
                    let name = shown(&raw.text(part.tool.clone()).unwrap_or_default());
                    if self.tools.len() < MAX_TOOLS || self.tools.contains_key(&name) {
                        *self.tools.entry(name).or_default() += 1;
                    }
                }
                _ => {}
            }
        }
        let count = |raw: &Raw<'_>, span| {
            raw.integer(span)
                .and_then(|count| u64::try_from(count).ok())
                .unwrap_or(0)
        };
        if let Some(fields) = raw.fields(
            message.info.value("tokens"),
            ["input", "output", "reasoning", "cache"],
        )? {
            let tokens = &mut self.tokens;
            tokens.input = tokens
                .input
                .saturating_add(count(raw, fields.value("input")));
            tokens.output = tokens
                .output
                .saturating_add(count(raw, fields.value("output")));
            tokens.reasoning = tokens
                .reasoning
                .saturating_add(count(raw, fields.value("reasoning")));
            if let Some(cache) = raw.fields(fields.value("cache"), ["read", "write"])? {
                tokens.cache_read = tokens
                    .cache_read
                    .saturating_add(count(raw, cache.value("read")));
                tokens.cache_write = tokens
                    .cache_write
                    .saturating_add(count(raw, cache.value("write")));
            }
        }
        let cost = message.info.value("cost").map(|span| raw.slice(span));
        let cost: Option<f64> =
            cost.and_then(|bytes| std::str::from_utf8(bytes).ok()?.parse().ok());
        self.cost += cost
            .filter(|cost| cost.is_finite() && *cost >= 0.0)
            .unwrap_or(0.0);
        let error = raw.fields(message.info.value("error"), ["name"])?;
        self.last_error = error
            .and_then(|error| raw.text(error.value("name")))
            .map(|name| shown(&name));
        Ok(())
    }
}
