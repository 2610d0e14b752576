//! The sessions of the stand-in agent, one file each, in the form of an export document.
//!
//! The main types are [`Store`] and [`Session`]. Invariants: a message and a part are kept byte for byte as
//! they came; both are in the order of their ids, and no id is there twice; a file is replaced whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::StandinError;
use super::shape;

/// A message: its `info`, and its parts by id.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) info: Box<RawValue>,
    pub(super) parts: BTreeMap<String, Box<RawValue>>,
}

/// A session as an export document tells it.
#[derive(Debug, Clone)]
pub(super) struct Session {
    info: BTreeMap<String, Box<RawValue>>,
    pub(super) messages: BTreeMap<String, Message>,
}

#[derive(Deserialize)]
struct Document {
    info: BTreeMap<String, Box<RawValue>>,
    messages: Vec<DocumentMessage>,
}

#[derive(Deserialize)]
struct DocumentMessage {
    info: Box<RawValue>,
    parts: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Identified {
    id: String,
}

fn id_of(raw: &RawValue) -> Result<String, serde_json::Error> {
    Ok(serde_json::from_str::<Identified>(raw.get())?.id)
}

impl Session {
    /// Reads an export document.
    pub(super) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let document: Document = serde_json::from_str(text)?;
        let mut messages = BTreeMap::new();
        for message in document.messages {
            let mut parts = BTreeMap::new();
            for part in message.parts {
                parts.insert(id_of(&part)?, part);
            }
            let id = id_of(&message.info)?;
            messages.insert(
                id,
                Message {
                    info: message.info,
                    parts,
                },
            );
        }
        Ok(Self {
            info: document.info,
            messages,
        })
    }

    pub(super) fn id(&self) -> String {
        self.text("id")
    }

    /// A new session without messages.
    pub(super) fn new(info: Map<String, Value>) -> serde_json::Result<Self> {
        let mut session = Self {
            info: BTreeMap::new(),
            messages: BTreeMap::new(),
        };
        for (key, value) in info {
            session.set(&key, &value)?;
        }
        Ok(session)
    }

    /// A text of the session's `info`; empty when it is not there.
    pub(super) fn text(&self, key: &str) -> String {
        match self.get(key) {
            Value::String(text) => text,
            _ => String::new(),
        }
    }

    /// A value of the session's `info`; null when it is not there, or is nothing that Rust can hold.
    pub(super) fn get(&self, key: &str) -> Value {
        let raw = self.info.get(key).map_or("null", |raw| raw.get());
        serde_json::from_str(raw).unwrap_or_default()
    }

    /// Sets a value of the session's `info`; the others keep their bytes.
    pub(super) fn set(&mut self, key: &str, value: &Value) -> serde_json::Result<()> {
        self.info.insert(key.to_owned(), shape::value_bytes(value)?);
        Ok(())
    }

    /// Sets when the session was last changed.
    pub(super) fn touch(&mut self, updated: u64) -> serde_json::Result<()> {
        let mut time = match self.get("time") {
            Value::Object(time) => time,
            _ => Map::new(),
        };
        time.insert("updated".to_owned(), updated.into());
        self.set("time", &Value::Object(time))
    }

    /// Adds what the other one has and this one has not, by id; what exists is left alone.
    pub(super) fn unite(&mut self, other: Self) {
        for (id, message) in other.messages {
            match self.messages.get_mut(&id) {
                None => {
                    self.messages.insert(id, message);
                }
                Some(mine) => {
                    for (id, part) in message.parts {
                        mine.parts.entry(id).or_insert(part);
                    }
                }
            }
        }
    }

    /// Writes the export document, indented by two as opencode does.
    pub(super) fn write(&self, mut out: impl Write) -> io::Result<()> {
        write!(out, "{{\n  \"info\": {{")?;
        let mut info_comma = "";
        for (key, value) in &self.info {
            let key = serde_json::to_string(key)?;
            write!(out, "{info_comma}\n    {key}: {value}")?;
            info_comma = ",";
        }
        write!(out, "\n  }},\n  \"messages\": [")?;
        let mut comma = "";
        for message in self.messages.values() {
            write!(
                out,
                "{comma}\n    {{\n      \"info\": {},\n      \"parts\": [",
                message.info
            )?;
            comma = ",";
            let mut part_comma = "";
            for part in message.parts.values() {
                write!(out, "{part_comma}\n        {part}")?;
                part_comma = ",";
            }
            let end = if message.parts.is_empty() {
                ""
            } else {
                "\n      "
            };
            write!(out, "{end}]\n    }}")?;
        }
        let end = if self.messages.is_empty() { "" } else { "\n  " };
        write!(out, "{end}]\n}}")
    }
}

/// The directory of the sessions.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
}

/// Keeps other processes of the stand-in agent from writing, until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Store {
    /// Opens the store in this directory, which is made when it is missing.
    pub(super) fn open(directory: &Path) -> Result<Self, StandinError> {
        fs::create_dir_all(directory).map_err(StandinError::file(directory))?;
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// Waits until no other process writes.
    pub(super) fn lock(&self) -> Result<Lock, StandinError> {
        let path = self.directory.join("lock");
        let file = File::create(&path).map_err(StandinError::file(&path))?;
        file.lock().map_err(StandinError::file(&path))?;
        Ok(Lock { _file: file })
    }

    /// Reads a session.
    pub(super) fn load(&self, id: &str) -> Result<Session, StandinError> {
        let path = self.path(id)?;
        match fs::read_to_string(&path) {
            Ok(text) => {
                Session::parse(&text).map_err(|source| StandinError::Document { path, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StandinError::NoSession { id: id.to_owned() })
            }
            Err(source) => Err(StandinError::File { path, source }),
        }
    }

    /// Writes a session, whole or not at all.
    pub(super) fn save(&self, session: &Session, _lock: &Lock) -> Result<(), StandinError> {
        let path = self.path(&session.id())?;
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            let mut buffered = io::BufWriter::new(file.as_file_mut());
            session.write(&mut buffered)?;
            buffered.flush()?;
            drop(buffered);
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(StandinError::file(&path))
    }

    /// Removes a session.
    pub(super) fn delete(&self, id: &str) -> Result<(), StandinError> {
        let path = self.path(id)?;
        fs::remove_file(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StandinError::NoSession { id: id.to_owned() },
            _ => StandinError::File { path, source },
        })
    }

    /// Reads all sessions.
    pub(super) fn all(&self) -> Result<Vec<Session>, StandinError> {
        let mut sessions = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(StandinError::file(&self.directory))? {
            let entry = entry.map_err(StandinError::file(&self.directory))?;
            if let Some(id) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.strip_suffix(".json"))
            {
                sessions.push(self.load(id)?);
            }
        }
        Ok(sessions)
    }

    /// The file of a session; an id that is none names no file.
    fn path(&self, id: &str) -> Result<PathBuf, StandinError> {
        match id.parse::<crate::session::SessionId>() {
            Ok(_) => Ok(self.directory.join(format!("{id}.json"))),
            Err(_) => Err(StandinError::NoSession { id: id.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXTURES: [&str; 7] = [
        include_str!("../../../tests/fixtures/sessions/1.1.65-plain.json"),
        include_str!("../../../tests/fixtures/sessions/1.2.27-plain.json"),
        include_str!("../../../tests/fixtures/sessions/1.15.13-plain.json"),
        include_str!("../../../tests/fixtures/sessions/1.18.33-plain.json"),
        include_str!("../../../tests/fixtures/sessions/1.18.33-after-remote-run.json"),
        include_str!("../../../tests/fixtures/sessions/1.18.33-remote_login-running.json"),
        include_str!(
            "../../../tests/fixtures/sessions/1.18.33-remote_login-pending-with-history.json"
        ),
    ];

    fn written(session: &Session) -> String {
        let mut bytes = Vec::new();
        session.write(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_messages_of_every_fixture_are_written_as_they_were_read() {
        for text in FIXTURES {
            let written = written(&Session::parse(text).unwrap());
            let messages = |text: &str| {
                text.split_once("\"messages\"")
                    .unwrap()
                    .1
                    .trim_end()
                    .to_owned()
            };
            assert_eq!(messages(&written), messages(text));
            let values = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(values(&written), values(text));
        }
    }

    #[test]
    fn half_a_surrogate_and_a_huge_number_keep_their_bytes() {
        let part =
            r#"{ "id":"prt_1", "text":"\ud83d \u0041", "n": 1e999, "m":12345678901234567890123 }"#;
        let text = format!(
            r#"{{"info":{{"id":"ses_1","x":{part}}},"messages":[{{"info":{{"id":"msg_1"}},"parts":[{part}]}}]}}"#
        );
        let written = written(&Session::parse(&text).unwrap());
        assert_eq!(written.matches(part).count(), 2, "{written}");
    }

    #[test]
    fn messages_and_parts_are_in_the_order_of_their_ids() {
        let text = r#"{"info":{"id":"ses_1"},"messages":[
            {"info":{"id":"msg_2"},"parts":[{"id":"prt_3"},{"id":"prt_2"}]},{"info":{"id":"msg_1"},"parts":[]}]}"#;
        let session = Session::parse(text).unwrap();
        assert_eq!(
            session.messages.keys().collect::<Vec<_>>(),
            ["msg_1", "msg_2"]
        );
        assert_eq!(
            session.messages["msg_2"].parts.keys().collect::<Vec<_>>(),
            ["prt_2", "prt_3"]
        );
    }

    #[test]
    fn a_union_leaves_what_exists_alone_and_adds_the_rest() {
        let mut mine = Session::parse(
            r#"{"info":{"id":"ses_1","title":"mine"},"messages":[
                {"info":{"id":"msg_1","v":1},"parts":[{"id":"prt_1","v":1}]}]}"#,
        )
        .unwrap();
        let theirs = Session::parse(
            r#"{"info":{"id":"ses_1","title":"theirs"},"messages":[
                {"info":{"id":"msg_1","v":2},"parts":[{"id":"prt_1","v":2},{"id":"prt_2","v":2}]},
                {"info":{"id":"msg_2","v":2},"parts":[]}]}"#,
        )
        .unwrap();
        mine.unite(theirs);
        assert_eq!(mine.text("title"), "mine");
        assert_eq!(mine.messages["msg_1"].info.get(), r#"{"id":"msg_1","v":1}"#);
        assert_eq!(
            mine.messages["msg_1"].parts["prt_1"].get(),
            r#"{"id":"prt_1","v":1}"#
        );
        assert_eq!(
            mine.messages["msg_1"].parts["prt_2"].get(),
            r#"{"id":"prt_2","v":2}"#
        );
        assert_eq!(mine.messages["msg_2"].info.get(), r#"{"id":"msg_2","v":2}"#);
    }

    #[test]
    fn a_session_is_found_again_until_it_is_deleted() {
        let temporary = tempfile::tempdir().unwrap();
        let store = Store::open(temporary.path()).unwrap();
        let session = Session::parse(FIXTURES[3]).unwrap();
        store.save(&session, &store.lock().unwrap()).unwrap();
        assert_eq!(
            written(&store.load(&session.id()).unwrap()),
            written(&session)
        );
        assert_eq!(store.all().unwrap().len(), 1);
        store.delete(&session.id()).unwrap();
        assert!(matches!(
            store.load(&session.id()),
            Err(StandinError::NoSession { .. })
        ));
        assert!(matches!(
            store.load("../ses_x"),
            Err(StandinError::NoSession { .. })
        ));
    }
}
