//! A session as an agent has stored it, byte for byte.
//!
//! The main type is [`History`].

use std::path::{Path, PathBuf};

use handover::session::SessionId;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// A stored session.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct History {
    pub(crate) info: Value,
    pub(crate) messages: Vec<Message>,
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) role: String,
    /// Its bytes.
    pub(crate) raw: String,
    pub(crate) parts: Vec<Value>,
    pub(crate) info: Value,
}

#[derive(Deserialize)]
struct Document {
    info: Value,
    messages: Vec<Box<RawValue>>,
}

impl History {
    /// Where the stand-in agent keeps a session.
    pub(crate) fn file(data_home: &Path, session: &SessionId) -> PathBuf {
        data_home
            .join("opencode/standin")
            .join(format!("{session}.json"))
    }

    /// Reads a session.
    pub(crate) fn read(data_home: &Path, session: &SessionId) -> Self {
        let file = Self::file(data_home, session);
        let text = std::fs::read_to_string(&file).unwrap();
        let document: Document = serde_json::from_str(&text).unwrap();
        let messages = document
            .messages
            .iter()
            .map(|raw| message(raw.get()))
            .collect();
        Self {
            info: document.info,
            messages,
        }
    }

    /// The texts of all its messages, one a line.
    pub(crate) fn text(&self) -> String {
        let texts: Vec<String> = self.messages.iter().map(Message::text).collect();
        texts.join("\n")
    }

    /// How many times the agent was launched with the continuation of a handoff.
    pub(crate) fn launches(&self) -> usize {
        let opened = |message: &&Message| {
            message.role == "user" && message.text().starts_with("[Environment]")
        };
        self.messages.iter().filter(opened).count()
    }

    /// The last user message.
    pub(crate) fn last_user(&self) -> &Message {
        let mut users = self
            .messages
            .iter()
            .filter(|message| message.role == "user");
        users.next_back().unwrap()
    }
}

impl Message {
    /// Its texts, one a line.
    pub(crate) fn text(&self) -> String {
        let texts: Vec<&str> = self
            .parts
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect();
        texts.join("\n")
    }

    /// How many parts of a type it has.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.parts
            .iter()
            .filter(|part| part["type"] == kind)
            .count()
    }
}

fn message(raw: &str) -> Message {
    // Half a surrogate pair is fine as bytes and nothing that a text can hold.
    let readable = raw.replace("\\ud83d", "?");
    let value: Value = serde_json::from_str(&readable).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Message {
        id: text(&value["info"]["id"]),
        role: text(&value["info"]["role"]),
        parts: value["parts"].as_array().unwrap().clone(),
        info: value["info"].clone(),
        raw: raw.to_owned(),
    }
}

/// Checks that a session has every old message as it was, byte for byte and in its place, and every new one
/// once; gives the new ones.
pub(crate) fn grown(before: &History, after: &History) -> Vec<Message> {
    let kept = after.messages.get(..before.messages.len());
    let kept = kept.expect("no message is lost");
    for (old, now) in before.messages.iter().zip(kept) {
        assert_eq!(old.raw, now.raw, "an old message is as it was");
    }
    let mut ids: Vec<&str> = after
        .messages
        .iter()
        .map(|message| message.id.as_str())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(
        ids.len(),
        after.messages.len(),
        "every message is there once"
    );
    for (old, now) in before.info.as_object().unwrap() {
        if old != "time" {
            assert_eq!(now, &after.info[old], "the session's {old} is as it was");
        }
    }
    let new = after.messages[before.messages.len()..].to_vec();
    for message in &new {
        assert_eq!(message.count("patch"), 0, "no patch part has travelled");
        for part in &message.parts {
            assert!(part.get("snapshot").is_none(), "no snapshot has travelled");
        }
    }
    new
}
