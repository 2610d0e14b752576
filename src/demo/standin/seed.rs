//! Sessions with a past, for demonstrations and tests.
//!
//! The main type is [`Seed`].

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::StandinError;
use super::binding::{Binding, resolved};
use super::ids::Clock;
use super::settings;
use super::shape::{self, Origin};
use super::store::{Message, Session, Store};
use crate::session::SessionId;

/// The call of `remote_login` with which a seeded session ends, as an export of a running turn shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PendingCall {
    /// None: the last turn has ended.
    #[default]
    None,
    /// A call whose arguments are not known yet.
    Pending,
    /// A call that runs, for the host `box`, as a round trip.
    Running,
}

/// What a seeded session holds.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Seed {
    /// Its title.
    pub title: String,
    /// Its agent. Default `build`.
    pub agent: String,
    /// Its model, as `PROVIDER/MODEL`. Default `standin/m`.
    pub model: String,
    /// How many turns of user and assistant it has. Default 2.
    pub turns: usize,
    /// How many bytes of text each assistant message has besides. Default 0.
    pub padding: usize,
    /// The call at its end.
    pub call: PendingCall,
}

impl Default for Seed {
    fn default() -> Self {
        Self {
            title: "Fix the failing test".to_owned(),
            agent: "build".to_owned(),
            model: "standin/m".to_owned(),
            turns: 2,
            padding: 0,
            call: PendingCall::None,
        }
    }
}

/// The milliseconds between two messages of a seeded session.
const STEP: u64 = 500;

/// Makes a session that is bound to `directory`, whose newest message is some seconds old, in the stand-in
/// agent's store under `data_home` (`$XDG_DATA_HOME`, or `.local/share` of a home).
///
/// # Errors
/// When the store cannot be written, or `directory` does not exist.
pub fn seed_session(
    data_home: &Path,
    directory: &Path,
    seed: &Seed,
) -> Result<SessionId, StandinError> {
    let directory = resolved(directory).map_err(StandinError::file(directory))?;
    let binding = Binding::of(&directory);
    let store = Store::open(&settings::directory(data_home))?;
    let mut clock = Clock::new(0);
    let messages = 2 * (seed.turns as u64 + 1);
    let start = clock.now().saturating_sub((messages + 4) * STEP);
    let id = clock.session_at(start);
    let info = shape::session(&id, &seed.title, &seed.agent, &seed.model, start);
    let mut builder = Builder {
        session: Session::new(info).map_err(StandinError::document(&id))?,
        clock,
        time: start,
        binding,
        seed,
    };
    builder.fill().map_err(StandinError::document(&id))?;
    store.save(&builder.session, &store.lock()?)?;
    id.parse().map_err(|_| StandinError::NoSession { id })
}

struct Builder<'a> {
    session: Session,
    clock: Clock,
    time: u64,
    binding: Binding,
    seed: &'a Seed,
}

impl Builder<'_> {
    fn fill(&mut self) -> serde_json::Result<()> {
        self.binding.apply(&mut self.session)?;
        for turn in 1..=self.seed.turns {
            let user = self.user(&format!("Please do step {turn} of the task."))?;
            let mut text = format!("Step {turn} is done.");
            if self.seed.padding > 0 {
                text.push(' ');
                text.push_str(
                    &"lorem ipsum ".repeat(self.seed.padding / 12 + 1)[..self.seed.padding],
                );
            }
            let said = json!({"type": "text", "text": text, "time": {"start": self.time, "end": self.time}});
            let ended = json!({"type": "step-finish", "reason": "stop", "tokens": shape::tokens(10, 5), "cost": 0});
            self.assistant(
                &user,
                vec![json!({"type": "step-start"}), said, ended],
                true,
            )?;
        }
        let state = match self.seed.call {
            PendingCall::None => return Ok(()),
            PendingCall::Pending => json!({"status": "pending", "input": {}, "raw": ""}),
            PendingCall::Running => {
                json!({"status": "running", "input": {"host": "box", "mode": "round-trip"},
                "time": {"start": self.time + STEP}})
            }
        };
        let user = self.user("Go on with this on the other host.")?;
        let call = json!({"type": "tool", "tool": "remote_login", "callID": "call_seeded", "state": state});
        self.assistant(&user, vec![json!({"type": "step-start"}), call], false)
    }

    fn user(&mut self, text: &str) -> serde_json::Result<String> {
        let id = self.clock.message_at(self.time);
        let info = shape::user(
            &id,
            &self.session.id(),
            self.time,
            &self.seed.agent,
            &self.seed.model,
        );
        self.put(
            id.clone(),
            &info,
            vec![json!({"type": "text", "text": text})],
        )?;
        Ok(id)
    }

    fn assistant(
        &mut self,
        parent: &str,
        parts: Vec<Value>,
        ended: bool,
    ) -> serde_json::Result<()> {
        let id = self.clock.message_at(self.time);
        let origin = Origin {
            session: &self.session.id(),
            parent,
            agent: &self.seed.agent,
            model: &self.seed.model,
            directory: &self.binding.directory,
            root: &self.binding.root,
        };
        let mut info = shape::assistant(&id, self.time, origin);
        if ended {
            shape::finish(&mut info, "stop", self.time + STEP / 2, 0.0);
        }
        self.put(id, &info, parts)
    }

    fn put(&mut self, id: String, info: &Value, parts: Vec<Value>) -> serde_json::Result<()> {
        let mut bytes = BTreeMap::new();
        for part in parts {
            let part_id = self.clock.part_at(self.time);
            let part = shape::place(part, &part_id, &id, &self.session.id());
            bytes.insert(part_id, shape::part_bytes(&part)?);
        }
        let message = Message {
            info: shape::info_bytes(info)?,
            parts: bytes,
        };
        self.session.messages.insert(id, message);
        self.session.touch(self.time)?;
        self.time += STEP;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seeded_session_has_the_past_and_the_call_that_were_asked_for() {
        let temporary = tempfile::tempdir().unwrap();
        let mut seed = Seed {
            padding: 100,
            ..Seed::default()
        };
        for (call, messages, status) in [
            (PendingCall::None, 4, ""),
            (PendingCall::Pending, 6, "pending"),
            (PendingCall::Running, 6, "running"),
        ] {
            seed.call = call;
            let id = seed_session(temporary.path(), temporary.path(), &seed).unwrap();
            let store = Store::open(&settings::directory(temporary.path())).unwrap();
            let session = store.load(id.as_str()).unwrap();
            assert_eq!(session.messages.len(), messages);
            let last = session.messages.values().next_back().unwrap();
            assert_eq!(last.info.get().contains("\"finish\""), status.is_empty());
            let part = last.parts.values().next_back().unwrap().get();
            assert!(
                part.contains(&format!("\"status\": \"{status}\"")) || status.is_empty(),
                "{part}"
            );
        }
    }
}
