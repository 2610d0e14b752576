//! The agent's turn: the messages that it adds to a session, and the events that it prints.
//!
//! The main type is [`Turn`]. What has been printed can still be missing in the store until
//! [`Turn::save`]; what is in the store never goes away.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::StandinError;
use super::binding::Binding;
use super::ids::Clock;
use super::process::Process;
use super::shape::{self, Origin};
use super::store::{Message, Session, Store};

/// What one step costs, in dollars: something that a summary can show.
const STEP_COST: f64 = 0.0015;
/// A tree object as it looks in a `snapshot` field.
const SNAPSHOT: &str = "7d3c1f0b9a2e4d5c6b7a8f9e0d1c2b3a4f5e6d7c";

/// A message under way.
struct Draft {
    id: String,
    info: Value,
    parts: Vec<(String, Value)>,
}

/// The agent's turn in a session.
pub(super) struct Turn<'a, 'p> {
    pub(super) store: &'a Store,
    pub(super) clock: &'a mut Clock,
    pub(super) process: &'a mut Process<'p>,
    pub(super) binding: &'a Binding,
    pub(super) session: String,
    pub(super) agent: String,
    pub(super) model: String,
    /// Whether events are printed as JSON; else only texts are.
    pub(super) json: bool,
    drafts: Vec<Draft>,
    user: String,
    snapshots: bool,
}

impl<'a, 'p> Turn<'a, 'p> {
    /// Begins with a user message. It is not in the store yet.
    pub(super) fn begin(
        store: &'a Store,
        clock: &'a mut Clock,
        process: &'a mut Process<'p>,
        binding: &'a Binding,
        session: &Session,
        (agent, model): (&str, &str),
        text: &str,
    ) -> Self {
        let user = clock.message();
        let info = shape::user(&user, &session.id(), clock.now(), agent, model);
        let draft = Draft {
            id: user.clone(),
            info,
            parts: Vec::new(),
        };
        let mut turn = Self {
            store,
            clock,
            process,
            binding,
            session: session.id(),
            agent: agent.to_owned(),
            model: model.to_owned(),
            json: false,
            drafts: vec![draft],
            user,
            snapshots: false,
        };
        turn.add(json!({"type": "text", "text": text}));
        turn
    }

    /// The id of the user message.
    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// From here on, steps name snapshots.
    pub(super) fn name_snapshots(&mut self) {
        self.snapshots = true;
    }

    /// Begins an assistant message.
    pub(super) fn begin_step(&mut self) -> Result<(), StandinError> {
        let id = self.clock.message();
        let origin = Origin {
            session: &self.session,
            parent: &self.user,
            agent: &self.agent,
            model: &self.model,
            directory: &self.binding.directory,
            root: &self.binding.root,
        };
        let info = shape::assistant(&id, self.clock.now(), origin);
        self.drafts.push(Draft {
            id,
            info,
            parts: Vec::new(),
        });
        let mut part = json!({"type": "step-start"});
        if self.snapshots {
            part["snapshot"] = json!(SNAPSHOT);
        }
        self.tell("step_start", part)
    }

    /// Ends the assistant message.
    pub(super) fn finish_step(&mut self, reason: &str) -> Result<(), StandinError> {
        let now = self.clock.now();
        let mut part = json!({"type": "step-finish", "reason": reason, "tokens": shape::tokens(10, 5), "cost": STEP_COST});
        if self.snapshots {
            part["snapshot"] = json!(SNAPSHOT);
        }
        if let Some(draft) = self.drafts.last_mut() {
            shape::finish(&mut draft.info, reason, now, STEP_COST);
        }
        self.tell("step_finish", part)
    }

    /// Says a text.
    pub(super) fn say(&mut self, text: &str) -> Result<(), StandinError> {
        let now = self.clock.now();
        if !self.json {
            self.print(text.as_bytes())?;
        }
        self.tell(
            "text",
            json!({"type": "text", "text": text, "time": {"start": now, "end": now}}),
        )
    }

    /// Tells of a tool call that has ended.
    pub(super) fn tool(&mut self, tool: &str, state: Value) -> Result<(), StandinError> {
        let call = format!("call_{}", self.clock.part());
        self.tell(
            "tool_use",
            json!({"type": "tool", "tool": tool, "callID": call, "state": state}),
        )
    }

    /// Adds a part that no event tells of.
    pub(super) fn add(&mut self, part: Value) -> Value {
        let id = self.clock.part();
        let Some(draft) = self.drafts.last_mut() else {
            return part;
        };
        let part = shape::place(part, &id, &draft.id, &self.session);
        draft.parts.push((id, part.clone()));
        part
    }

    fn tell(&mut self, kind: &str, part: Value) -> Result<(), StandinError> {
        let part = self.add(part);
        self.event(kind, "part", &part)
    }

    /// Prints an event.
    pub(super) fn event(
        &mut self,
        kind: &str,
        key: &str,
        value: &Value,
    ) -> Result<(), StandinError> {
        if !self.json {
            return Ok(());
        }
        // The order of keys is opencode's: what names the session comes before what a tool can have written.
        let (kind, session) = (json!(kind), json!(self.session));
        let timestamp = self.clock.now();
        let event = format!(
            r#"{{"type":{kind},"timestamp":{timestamp},"sessionID":{session},"{key}":{value}}}"#
        );
        self.print(shape::halved(event).as_bytes())
    }

    /// Prints a line.
    pub(super) fn print(&mut self, line: &[u8]) -> Result<(), StandinError> {
        self.process.print(&[line, b"\n"].concat())
    }

    /// Brings the store up to what has been printed.
    pub(super) fn save(&mut self) -> Result<(), StandinError> {
        let lock = self.store.lock()?;
        let mut session = self.store.load(&self.session)?;
        self.bring_up(&mut session)
            .map_err(StandinError::document(&self.session))?;
        self.store.save(&session, &lock)
    }

    fn bring_up(&self, session: &mut Session) -> serde_json::Result<()> {
        for draft in &self.drafts {
            let mut parts = BTreeMap::new();
            for (id, part) in &draft.parts {
                parts.insert(id.clone(), shape::part_bytes(part)?);
            }
            let info = shape::info_bytes(&draft.info)?;
            session
                .messages
                .insert(draft.id.clone(), Message { info, parts });
        }
        let (provider, model) = shape::model_halves(&self.model);
        let model = json!({"id": model, "providerID": provider, "variant": "default"});
        session.set("agent", &json!(self.agent))?;
        session.set("model", &model)?;
        session.touch(self.clock.now())
    }
}
