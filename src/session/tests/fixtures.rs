//! Real exports of several versions.

use serde_json::{Value, json};

use super::super::{CallState, digests, part_ids};
use super::*;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/sessions/",
            $name
        ))
        .as_slice()
    };
}

pub(super) const RUNNING: &[u8] = fixture!("1.18.33-remote_login-running.json");
pub(super) const PENDING: &[u8] = fixture!("1.18.33-remote_login-pending-with-history.json");
pub(super) const AFTER_RUN: &[u8] = fixture!("1.18.33-after-remote-run.json");
pub(super) const OLD: &[u8] = fixture!("1.2.27-plain.json");
pub(super) const ALL: [(&str, &[u8]); 7] = [
    ("1.1.65", fixture!("1.1.65-plain.json")),
    ("1.2.27", OLD),
    ("1.15.13", fixture!("1.15.13-plain.json")),
    ("1.18.33", fixture!("1.18.33-plain.json")),
    ("1.18.33", AFTER_RUN),
    ("1.18.33", RUNNING),
    ("1.18.33", PENDING),
];

fn parsed(document: &[u8]) -> Value {
    serde_json::from_slice(document).unwrap()
}

/// The same value without what must not travel.
fn without_snapshots(mut document: Value) -> Value {
    for message in document["messages"].as_array_mut().unwrap() {
        let parts = message["parts"].as_array_mut().unwrap();
        parts.retain(|part| part["type"] != "patch" && part["type"] != "snapshot");
        for part in parts {
            part.as_object_mut().unwrap().remove("snapshot");
        }
    }
    document
}

#[test]
fn every_version_is_understood() {
    for (version, document) in ALL {
        let found = looked(document);
        let value = parsed(document);
        assert_eq!(found.session.as_str(), value["info"]["id"]);
        assert_eq!(
            found.directory,
            value["info"]["directory"].as_str().unwrap()
        );
        assert_eq!(found.title, value["info"]["title"].as_str().unwrap());
        assert_eq!(found.version.as_deref(), Some(version));
        assert_eq!(found.agent.as_deref(), Some("build"), "{version}");
        assert_eq!(found.model.as_deref(), Some("mock/m"), "{version}");
        assert_eq!(found.bytes, document.len() as u64);
        let ids: Vec<_> = value["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["info"]["id"].clone())
            .collect();
        assert_eq!(json!(found.message_ids), json!(ids));
        let newest = value["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["info"]["time"]["created"].as_i64());
        assert_eq!(found.newest_created_ms, newest.max().unwrap());
        assert_eq!(found.raw_user_agent(), Some("\"build\""));
        assert_eq!(
            parsed(found.raw_user_model().unwrap().as_bytes()),
            json!({"providerID": "mock", "modelID": "m"})
        );
        assert_eq!(found.reverted_to, None);
    }
}

#[test]
fn the_unfinished_handoff_call_is_found_pending_and_running() {
    for (document, state) in [(PENDING, CallState::Pending), (RUNNING, CallState::Running)] {
        let found = looked(document);
        let call = found.running_call.unwrap();
        assert_eq!((call.state, call.tool.as_str()), (state, "remote_login"));
        assert!(found.unfinished);
        assert_eq!(Some(&call.message_id), found.message_ids.last());
    }
    assert!(
        ALL[..5]
            .iter()
            .all(|(_, document)| looked(document).running_call.is_none())
    );
    assert!(
        ALL[..5]
            .iter()
            .all(|(_, document)| !looked(document).unfinished)
    );
}

#[test]
fn an_ended_session_is_only_freed_of_snapshots() {
    for (_, document) in &ALL[..5] {
        let (written, sent) = sent(document);
        assert_eq!(parsed(&written), without_snapshots(parsed(document)));
        assert_eq!(
            (sent.call, sent.settled, sent.bytes),
            (None, false, written.len() as u64)
        );
        if !document.windows(10).any(|bytes| bytes == b"\"snapshot\"") {
            assert_eq!(&written, document);
        }
    }
}

#[test]
fn the_calling_message_ends_as_the_agent_would_have_ended_it() {
    for (document, arguments, input) in [
        (PENDING, None, json!({})),
        (
            PENDING,
            Some(json!({"host": "box", "n": 1})),
            json!({"host": "box", "n": 1}),
        ),
        (RUNNING, None, json!({"host": "box", "mode": "round-trip"})),
        (
            RUNNING,
            Some(json!({"host": "other"})),
            json!({"host": "other"}),
        ),
    ] {
        let output = "Here is \"box\".\nGo on.";
        let outgoing = Outgoing {
            output: output.into(),
            arguments,
            now_ms: NOW,
            ..Outgoing::default()
        };
        let (written, sent) = sent_with(document, &outgoing);
        let (value, before) = (parsed(&written), without_snapshots(parsed(document)));
        let (message, was) = (
            value["messages"].as_array().unwrap().last().unwrap(),
            before["messages"].as_array().unwrap().last().unwrap(),
        );
        assert_eq!(value["info"], before["info"]);
        assert_eq!(message["info"]["finish"], "tool-calls");
        assert_eq!(message["info"]["time"]["completed"], NOW);
        let mut info = message["info"].clone();
        info.as_object_mut().unwrap().remove("finish");
        info["time"].as_object_mut().unwrap().remove("completed");
        assert_eq!(info, was["info"]);

        let parts = message["parts"].as_array().unwrap();
        assert_eq!(
            parts
                .iter()
                .filter(|part| part["type"] == "step-finish")
                .count(),
            1
        );
        let state = &parts[1]["state"];
        assert_eq!(
            (&state["status"], &state["input"], &state["output"]),
            (&json!("completed"), &input, &json!(output))
        );
        assert_eq!(state["time"]["end"], NOW);
        assert_eq!(state["metadata"], json!({}));
        assert!(state["title"].is_string() && state["time"]["start"].as_i64().unwrap() <= NOW);
        // The keys of a completed call that opencode itself wrote.
        let mut keys: Vec<_> = state.as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(
            keys,
            ["input", "metadata", "output", "status", "time", "title"]
        );

        let step = parts.last().unwrap();
        assert_eq!(
            (&step["type"], &step["reason"]),
            (&json!("step-finish"), &json!("tool-calls"))
        );
        assert_eq!(
            (&step["tokens"], &step["cost"]),
            (&was["info"]["tokens"], &was["info"]["cost"])
        );
        assert_eq!(
            (&step["sessionID"], &step["messageID"]),
            (&was["info"]["sessionID"], &was["info"]["id"])
        );
        assert!(
            parts[..2]
                .iter()
                .all(|part| part["id"].as_str() < step["id"].as_str())
        );
        assert_eq!(
            sent.call.unwrap().message_id,
            was["info"]["id"].as_str().unwrap()
        );
    }
}

#[test]
fn preparing_what_was_prepared_changes_nothing() {
    for (_, document) in ALL {
        let outgoing = Outgoing {
            output: "x".into(),
            agent: Some("plan".into()),
            model: Some("other/some/model".into()),
            now_ms: NOW,
            ..Outgoing::default()
        };
        let (once, first) = sent_with(document, &outgoing);
        let (twice, second) = sent_with(
            &once,
            &Outgoing {
                now_ms: NOW + 5,
                ..outgoing
            },
        );
        assert_eq!(
            String::from_utf8_lossy(&once),
            String::from_utf8_lossy(&twice)
        );
        assert_eq!(first.sha256, second.sha256);
    }
}

#[test]
fn agent_and_model_are_set_whether_or_not_the_version_has_them() {
    for (_, document) in ALL {
        let outgoing = Outgoing {
            agent: Some("a\"b".into()),
            model: Some("p/m/x".into()),
            now_ms: NOW,
            ..Outgoing::default()
        };
        let value = parsed(&sent_with(document, &outgoing).0);
        assert_eq!(value["info"]["agent"], "a\"b");
        assert_eq!(
            value["info"]["model"],
            json!({"id": "m/x", "providerID": "p"})
        );
    }
    let same = Outgoing {
        agent: Some("build".into()),
        model: Some("mock/m".into()),
        ..Outgoing::default()
    };
    assert_eq!(
        parsed(&sent_with(AFTER_RUN, &same).0)["info"],
        parsed(AFTER_RUN)["info"],
        "what fits is left"
    );
    for bad in ["", "m", "/m", "p/"] {
        let outgoing = Outgoing {
            model: Some(bad.into()),
            ..Outgoing::default()
        };
        let error = prepare_outgoing(OLD, Vec::new(), &looked(OLD), &outgoing, &Limits::default())
            .unwrap_err();
        assert!(matches!(error, DocumentError::BadModel { .. }), "{bad:?}");
    }
}

#[test]
fn other_unfinished_calls_become_errors_and_the_chosen_call_is_answered() {
    let text = String::from_utf8(RUNNING.to_vec()).unwrap();
    let part = r#"{"type":"tool","tool":"TOOL","callID":"CALL","state":{"status":"running","input":{"a":1e400},"metadata":{"output":"half"},"time":{"start":5}},"id":"prt_1fb7602ec001JsgmijLNNWpSpW","sessionID":"ses_e048a0761ffeIw5s06Bi63sORL","messageID":"msg_1fb75fe03001eK5oWLPuwmpTXL"}"#;
    let at = text.rfind("\n      ]").unwrap();
    let with = |tool: &str, call: &str| {
        format!(
            "{},{}{}",
            &text[..at],
            part.replace("TOOL", tool).replace("CALL", call),
            &text[at..]
        )
    };

    let bash = sent(with("bash", "call_2").as_bytes()).0;
    let bash = String::from_utf8(bash).unwrap();
    assert!(bash.contains(r#""state":{"status":"error","input":{"a":1e400},"error":"interrupted by the handoff","metadata":{"output":"half"},"time":{"end":1795300000000,"start":5}}"#), "{bash}");

    let document = with("handover_remote_login", "call_2");
    let (_, first) = sent(document.as_bytes());
    assert_eq!(first.call.unwrap().call_id, "call_1795220177603");
    let outgoing = Outgoing {
        call_id: Some("call_2".into()),
        now_ms: NOW,
        ..Outgoing::default()
    };
    let (written, second) = sent_with(document.as_bytes(), &outgoing);
    assert_eq!(second.call.unwrap().call_id, "call_2");
    assert!(!String::from_utf8(written).unwrap().contains("\"running\""));
}

#[test]
fn an_interrupted_text_is_ended_without_a_call() {
    let text = String::from_utf8(OLD.to_vec()).unwrap();
    let text = text
        .replace(",\n          \"completed\": 1795219779653", "")
        .replace(",\n        \"finish\": \"stop\"", "");
    let end = text
        .rfind(",\n        {\n          \"type\": \"step-finish\"")
        .unwrap();
    let text = format!("{}\n      ]\n    }}\n  ]\n}}\n", &text[..end]);
    assert!(looked(text.as_bytes()).unfinished);
    let (written, sent) = sent(text.as_bytes());
    let value = parsed(&written);
    let message = &value["messages"][1];
    assert!(sent.settled && sent.call.is_none());
    assert_eq!(message["info"]["time"]["completed"], NOW);
    assert_eq!(message["parts"][2]["type"], "step-finish");
}

#[test]
fn a_session_goes_out_and_comes_back_with_only_what_is_new() {
    let value = parsed(AFTER_RUN);
    let mut before = value.clone();
    before["messages"].as_array_mut().unwrap().truncate(2);
    let local = serde_json::to_vec_pretty(&before).unwrap();
    let local = String::from_utf8(local)
        .unwrap()
        .replace("\"modelID\": \"m\"", "\"modelID\":   \"local\"");
    let (_, sent) = sent(local.as_bytes());
    let remote = String::from_utf8(AFTER_RUN.to_vec())
        .unwrap()
        .replace("/home/dev/project\",\n    \"path", "/x\",\n    \"path");

    let (written, returned) =
        returned(remote.as_bytes(), local.as_bytes(), &sent.message_ids).unwrap();
    let back = parsed(&written);
    assert_eq!(back["info"], parsed(local.as_bytes())["info"]);
    let messages = back["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 3);
    assert_eq!(returned.new_message_ids.len(), 3);
    assert_eq!(
        (
            returned.assistant_messages,
            returned.out_of_order,
            returned.absent,
            returned.settled
        ),
        (2, 0, 0, 0)
    );
    assert_eq!(messages[0]["info"]["model"]["modelID"], "local");
    assert_eq!(
        messages[1], value["messages"][3],
        "an assistant message keeps what really ran"
    );
    assert_eq!(messages[2], value["messages"][4]);

    let summary = returned.summary;
    assert!(summary.last_text.unwrap().starts_with("mock reply to: "));
    assert_eq!(
        (summary.tool_calls, summary.tools.get("invalid")),
        (1, Some(&1))
    );
    assert_eq!((summary.tokens.input, summary.tokens.output), (20, 10));

    let ids = &returned.new_message_ids;
    let new = ids.iter().cloned().collect();
    let parts = |document| part_ids(document, &new, &Limits::default()).unwrap();
    assert!(parts(local.as_bytes()).is_empty());
    let with_parts: std::collections::HashSet<_> = parts(AFTER_RUN)
        .into_iter()
        .map(|(message, _)| message)
        .collect();
    assert_eq!(with_parts, new);
    let (a, b) = (
        digests(AFTER_RUN, &Limits::default()).unwrap(),
        digests(remote.as_bytes(), &Limits::default()).unwrap(),
    );
    assert_eq!(a, b);
    assert_ne!(
        digests(local.as_bytes(), &Limits::default()).unwrap()[0],
        a[0]
    );
}

#[test]
fn nothing_synthetic_returns() {
    for document in [PENDING, RUNNING] {
        let (remote, sent) = sent(document);
        let (written, returned) = returned(&remote, document, &sent.message_ids).unwrap();
        assert!(returned.new_message_ids.is_empty());
        assert_eq!(parsed(&written)["messages"], json!([]));
        assert!(!String::from_utf8(written).unwrap().contains("step-finish"));
    }
}

#[test]
fn a_message_that_the_remote_run_left_unfinished_comes_back_ended() {
    let sent_ids: Vec<String> = looked(PENDING).message_ids[..4].to_vec();
    let (written, returned) = returned(PENDING, PENDING, &sent_ids).unwrap();
    let back = parsed(&written);
    assert_eq!(returned.settled, 1);
    assert_eq!(back["messages"][0]["parts"][1]["state"]["status"], "error");
    assert_eq!(back["messages"][0]["info"]["finish"], "tool-calls");
    assert!(!String::from_utf8(written).unwrap().contains("\"snapshot\""));
}

#[test]
fn an_undone_conversation_is_noticed_and_its_snapshot_stays() {
    let text = String::from_utf8(OLD.to_vec()).unwrap();
    let text = text.replacen(
        "\"slug\"",
        "\"revert\": {\"messageID\": \"msg_1fb6fee45001B2eXWLWZqbBfmO\", \"snapshot\": \"4b82\"}, \"slug\"",
        1,
    );
    assert_eq!(
        looked(text.as_bytes()).reverted_to.as_deref(),
        Some("msg_1fb6fee45001B2eXWLWZqbBfmO")
    );
    let written = String::from_utf8(sent(text.as_bytes()).0).unwrap();
    assert_eq!(written, text.replace(", \"snapshot\": \"4b82\"", ""));
}

#[test]
fn file_differences_do_not_travel() {
    let text = String::from_utf8(AFTER_RUN.to_vec()).unwrap();
    let full = text.replace(
        "\"diffs\": []",
        "\"diffs\": [ {\"file\": \"a\", \"patch\": \"+x\"} ]",
    );
    assert_ne!(text, full);
    let written = sent(full.as_bytes()).0;
    assert_eq!(written, sent(text.as_bytes()).0);
    let (back, _) = returned(full.as_bytes(), AFTER_RUN, &[]).unwrap();
    assert_eq!(
        parsed(&back)["messages"][0]["info"]["summary"]["diffs"],
        json!([])
    );
}

#[test]
fn a_document_that_changed_after_it_was_inspected_is_refused() {
    let other = prepare_outgoing(
        OLD,
        Vec::new(),
        &looked(RUNNING),
        &Outgoing::default(),
        &Limits::default(),
    );
    assert!(matches!(other.unwrap_err(), DocumentError::Changed));
    let mut longer = looked(OLD);
    longer.message_ids.push("msg_more".into());
    let other = prepare_outgoing(
        OLD,
        Vec::new(),
        &longer,
        &Outgoing::default(),
        &Limits::default(),
    );
    assert!(matches!(other.unwrap_err(), DocumentError::Changed));
}
