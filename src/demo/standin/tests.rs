//! The stand-in agent as a whole: its commands, one after the other, on one data directory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;
use tempfile::TempDir;

use super::StandinError;
use super::binding::resolved;
use super::command::dispatch;
use super::process::Process;
use super::settings::Settings;
use super::{PendingCall, Seed, seed_session};

/// A directory with a seeded session bound to it.
struct Place {
    temporary: TempDir,
    session: String,
}

/// How a command ended.
struct Ended {
    result: Result<ExitCode, StandinError>,
    out: Vec<u8>,
    errors: Vec<u8>,
}

impl Ended {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    fn events(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn kinds(&self) -> Vec<String> {
        self.events()
            .iter()
            .map(|event| event["type"].as_str().unwrap().to_owned())
            .collect()
    }

    fn code(&self) -> ExitCode {
        *self.result.as_ref().unwrap()
    }
}

impl Place {
    fn new() -> Self {
        Self::seeded(&Seed::default())
    }

    fn seeded(seed: &Seed) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        std::fs::create_dir(temporary.path().join("work")).unwrap();
        let work = temporary.path().join("work");
        let session = seed_session(temporary.path(), &work, seed).unwrap();
        Self {
            session: session.to_string(),
            temporary,
        }
    }

    fn work(&self) -> PathBuf {
        resolved(&self.temporary.path().join("work")).unwrap()
    }

    fn call_in(
        &self,
        directory: &Path,
        settings: &[(&str, &str)],
        arguments: &[&str],
        input: &str,
    ) -> Ended {
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let mut process = Process {
            directory: directory.to_owned(),
            settings: Settings::of(self.temporary.path(), settings),
            input: &mut input.as_bytes(),
            out: &mut out,
            errors: &mut errors,
        };
        let result = dispatch(&mut process, &arguments);
        Ended {
            result,
            out,
            errors,
        }
    }

    fn call(&self, arguments: &[&str], input: &str) -> Ended {
        self.call_in(&self.work(), &[], arguments, input)
    }

    fn run(&self, message: &str) -> Ended {
        let session = format!("--session={}", self.session);
        self.call(&["run", &session, "--format", "json"], message)
    }

    fn export(&self) -> String {
        self.call(&["export", &self.session], "").text()
    }

    fn document(&self) -> Value {
        serde_json::from_str(&self.export()).unwrap()
    }
}

fn messages(document: &Value) -> Vec<Value> {
    document["messages"].as_array().unwrap().clone()
}

#[test]
fn a_run_without_rules_answers_and_is_in_the_next_export() {
    let place = Place::new();
    std::fs::write(place.work().join("notes.txt"), "x").unwrap();
    let before = messages(&place.document());
    let ended = place.run("[Task]\nFix the test.\n");
    assert_eq!(ended.code(), ExitCode::SUCCESS);
    assert_eq!(ended.kinds(), ["step_start", "text", "step_finish"]);
    let events = ended.events();
    let text = events[1]["part"]["text"].as_str().unwrap();
    assert!(
        text.contains("Fix the test.") && text.contains("notes.txt"),
        "{text}"
    );
    assert_eq!(events[2]["part"]["tokens"]["total"], 15);
    let after = messages(&place.document());
    assert_eq!(after[..before.len()], before[..]);
    let new = &after[before.len()..];
    assert_eq!(new.len(), 2);
    assert_eq!(new[0]["info"]["role"], "user");
    assert_eq!(new[1]["info"]["finish"], "stop");
    assert_eq!(new[1]["info"]["parentID"], new[0]["info"]["id"]);
    assert_eq!(new[1]["parts"][1]["text"], text);
}

#[test]
fn each_rule_does_what_the_table_says() {
    let place = Place::new();
    let ended = place.run("RULE write made.txt some text\nRULE say bye");
    assert_eq!(
        ended.kinds(),
        [
            "step_start",
            "tool_use",
            "step_finish",
            "step_start",
            "text",
            "step_finish"
        ]
    );
    assert_eq!(ended.events()[1]["part"]["state"]["status"], "completed");
    assert_eq!(ended.events()[2]["part"]["reason"], "tool-calls");
    let made = std::fs::read_to_string(place.work().join("made.txt")).unwrap();
    assert_eq!(made, "some text");

    let ended = place.run("RULE lines 3\nRULE exit 7");
    assert_eq!(ended.code(), ExitCode::from(7));
    assert_eq!(
        ended.kinds().iter().filter(|kind| *kind == "text").count(),
        3
    );

    let before = place.export();
    let ended = place.run("RULE exit-before 9");
    assert_eq!(
        (ended.code(), ended.text()),
        (ExitCode::from(9), String::new())
    );
    assert_eq!(place.export(), before);

    let count = messages(&place.document()).len();
    let ended = place.run("RULE nothing");
    assert_eq!(
        (ended.code(), ended.text()),
        (ExitCode::SUCCESS, String::new())
    );
    let after = messages(&place.document());
    assert_eq!(after.len(), count + 1);
    assert_eq!(after.last().unwrap()["info"]["role"], "user");

    let ended = place.run("RULE big 100000");
    assert_eq!(
        ended.events()[1]["part"]["text"].as_str().unwrap().len(),
        100_000
    );

    let ended = place.run("RULE error no credit");
    assert_eq!(ended.code(), ExitCode::FAILURE);
    assert_eq!(ended.events()[1]["error"]["data"]["message"], "no credit");

    let ended = place.run("RULE noise");
    assert!(std::str::from_utf8(&ended.out).is_err());
    assert_eq!(
        ended.errors.iter().filter(|byte| **byte == b'\n').count(),
        5
    );
}

#[test]
fn patches_and_snapshots_are_there_only_when_asked_for() {
    let place = Place::new();
    place.run("RULE say plain");
    assert!(!place.export().contains("snapshot"));
    place.run("RULE patch\nRULE write a b");
    let document = place.export();
    assert!(document.contains("\"type\": \"patch\"") && document.contains("\"snapshot\":"));
}

#[test]
fn half_a_surrogate_is_written_as_an_escape_in_the_event_and_in_the_export() {
    let place = Place::new();
    let ended = place.run("RULE surrogate");
    assert!(ended.text().contains(r#"half a face: \ud83d""#));
    assert!(place.export().contains(r#"half a face: \ud83d""#));
}

#[test]
fn a_hanging_turn_has_stored_what_there_was() {
    let place = Place::new();
    let session = format!("--session={}", place.session);
    let arguments = ["run", &session, "--format", "json"];
    let settings = [("STANDIN_HANG_SECONDS", "0")];
    let ended = place.call_in(
        &place.work(),
        &settings,
        &arguments,
        "RULE say one\nRULE hang",
    );
    assert_eq!(ended.code(), ExitCode::SUCCESS);
    assert!(place.export().contains("\"one\""));
}

#[cfg(unix)]
#[test]
fn a_child_is_in_a_process_group_of_its_own() {
    let place = Place::new();
    place.run("RULE child 0");
    let pid = std::fs::read_to_string(place.work().join("standin-child.pid")).unwrap();
    assert!(pid.parse::<u32>().unwrap() > 1);
}

#[test]
fn a_message_from_a_clock_that_is_behind_gets_no_answer() {
    let place = Place::new();
    let session = format!("--session={}", place.session);
    let arguments = ["run", &session, "--format", "json"];
    let settings = [("STANDIN_CLOCK", "-3600")];
    let ended = place.call_in(&place.work(), &settings, &arguments, "hello");
    assert_eq!(
        (ended.code(), ended.text()),
        (ExitCode::SUCCESS, String::new())
    );
}

#[test]
fn an_unknown_model_or_session_fails_as_opencode_does() {
    let place = Place::new();
    let session = format!("--session={}", place.session);
    let arguments = ["run", &session, "--format", "json", "--model", "a/b"];
    let ended = place.call(&arguments, "hello");
    assert_eq!(
        (ended.code(), ended.kinds()),
        (ExitCode::FAILURE, vec!["error".to_owned()])
    );
    let ended = place.call(&["run", "--session=ses_none"], "hello");
    assert!(matches!(ended.result, Err(StandinError::NoSession { .. })));
    let ended = place.call(&["export", "ses_none"], "");
    assert!(ended.result.is_err() && ended.out.is_empty() && !ended.errors.is_empty());
}

#[test]
fn an_import_binds_the_session_to_its_directory_and_keeps_the_rest_of_the_row() {
    let place = Place::seeded(&Seed {
        title: "mine".to_owned(),
        ..Seed::default()
    });
    let changed = place.export().replace("\"mine\"", "\"theirs\"");
    let other = place.temporary.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let other = other.canonicalize().unwrap();
    std::fs::write(other.join("in.json"), changed).unwrap();
    let ended = place.call_in(&other, &[], &["import", "in.json"], "");
    assert_eq!(
        ended.text(),
        format!("Imported session: {}\n", place.session)
    );
    let document = place.document();
    assert_eq!(document["info"]["title"], "mine");
    assert_eq!(
        document["info"]["directory"].as_str().unwrap(),
        other.to_str().unwrap()
    );
    assert_eq!(document["info"]["projectID"], "global");
}

#[test]
fn a_round_trip_through_another_store_adds_only_what_was_answered_there() {
    let (here, there) = (Place::new(), Place::new());
    let sent = here.export();
    std::fs::write(there.work().join("in.json"), &sent).unwrap();
    there.call(&["import", "in.json"], "");
    let session = format!("--session={}", here.session);
    there.call(
        &["run", &session, "--format", "json"],
        "RULE say from there",
    );
    let back = there.call(&["export", &here.session], "").text();
    std::fs::write(here.work().join("back.json"), &back).unwrap();
    here.call(&["import", "back.json"], "");
    let ids = |text: &str| -> BTreeSet<String> {
        let document: Value = serde_json::from_str(text).unwrap();
        let id = |message: &Value| message["info"]["id"].as_str().unwrap().to_owned();
        messages(&document).iter().map(id).collect()
    };
    assert_eq!(ids(&here.export()), ids(&back));
    assert_eq!(ids(&back).len(), ids(&sent).len() + 2);
    let old = sent
        .split_once("\"messages\"")
        .unwrap()
        .1
        .trim_end_matches(['\n', '}', ' ', ']']);
    assert!(
        here.export().contains(old),
        "the old messages have other bytes"
    );
}

#[test]
fn failures_of_export_and_import_are_had_by_asking() {
    let place = Place::new();
    let with = |name, value, arguments: &[&str]| {
        place.call_in(&place.work(), &[(name, value)], arguments, "")
    };
    let export = ["export", place.session.as_str()];
    assert!(with("STANDIN_EXPORT", "fail", &export).result.is_err());
    let cut = with("STANDIN_EXPORT", "cut", &export);
    assert!(cut.result.is_ok() && serde_json::from_str::<Value>(&cut.text()).is_err());
    assert!(
        !with("STANDIN_EXPORT", "wrong-session", &export)
            .text()
            .contains(&place.session)
    );
    assert!(
        with("STANDIN_EXPORT", "deep", &export)
            .text()
            .contains("[[[[")
    );
    std::fs::write(place.work().join("in.json"), place.export()).unwrap();
    let import = ["import", "in.json"];
    assert!(with("STANDIN_IMPORT", "fail", &import).result.is_err());
    let silent = with("STANDIN_IMPORT", "silent", &import);
    assert!(silent.result.is_ok() && silent.out.is_empty());
}

#[test]
fn the_list_has_the_newest_session_first_and_is_empty_without_any() {
    let place = Place::new();
    let work = place.work();
    let newer = seed_session(
        place.temporary.path(),
        &work,
        &Seed {
            turns: 1,
            call: PendingCall::Running,
            ..Seed::default()
        },
    )
    .unwrap();
    let rows: Value = serde_json::from_str(
        &place
            .call(&["session", "list", "--format", "json"], "")
            .text(),
    )
    .unwrap();
    let rows = rows.as_array().unwrap().clone();
    assert_eq!(rows.len(), 2);
    assert!(rows[0]["updated"].as_u64() >= rows[1]["updated"].as_u64());
    assert_eq!(
        rows[0]["directory"].as_str().unwrap(),
        work.to_str().unwrap()
    );
    for id in [newer.as_str(), &place.session] {
        assert!(place.call(&["session", "delete", id], "").result.is_ok());
    }
    let ended = place.call(&["session", "list", "--format", "json", "-n", "1"], "");
    assert!(ended.result.is_ok() && ended.out.is_empty());
}

#[test]
fn a_run_without_a_session_begins_one() {
    let place = Place::new();
    let ended = place.call(&["run", "--title", "fresh", "hello", "there"], "");
    assert!(ended.text().contains("hello there"));
    let list = place
        .call(&["session", "list", "--format", "json"], "")
        .text();
    assert!(list.contains("\"fresh\""));
}
