//! Back-files that another machine made up.

use super::fixtures::AFTER_RUN;
use super::*;

/// Brings `text` back for the session of the fixture, whose first two messages were sent.
fn back(text: &str) -> Result<Returned, DocumentError> {
    let local = looked(AFTER_RUN);
    returned(text.as_bytes(), AFTER_RUN, &local.message_ids[..2]).map(|(_, returned)| returned)
}

fn original() -> String {
    String::from_utf8(AFTER_RUN.to_vec()).unwrap()
}

/// The fixture with the `nth` occurrence of `from` replaced.
fn with(nth: usize, from: &str, to: &str) -> String {
    let text = original();
    let (at, _) = text.match_indices(from).nth(nth).unwrap();
    format!("{}{to}{}", &text[..at], &text[at + from.len()..])
}

const SESSION: &str = "ses_e04a15031ffe5Au24JLaO9EOlS";
const OTHER: &str = "ses_e04a15031ffe5Au24JLaO9EOlX";

#[test]
fn the_honest_document_comes_back() {
    assert_eq!(back(&original()).unwrap().new_message_ids.len(), 3);
}

#[test]
fn another_session_is_refused_wherever_it_is_named() {
    let places = original().matches(SESSION).count();
    // The parts of the two messages that were sent are not looked at: they are not taken.
    let skipped = 4;
    let mut refused = 0;
    for nth in 0..places {
        match back(&with(nth, SESSION, OTHER)) {
            Err(DocumentError::WrongSession { found, .. }) => {
                assert_eq!(found, OTHER);
                refused += 1;
            }
            Err(other) => panic!("{other}"),
            Ok(_) => {}
        }
    }
    assert_eq!(refused, places - skipped);
}

#[test]
fn keys_that_appear_twice_are_refused_however_they_are_spelt() {
    for (nth, from, to) in [
        (
            0,
            "\"messages\":",
            "\"info\": {\"id\": \"ses_x\"}, \"messages\":",
        ),
        (0, "\"messages\":", "\"messages\": [], \"messages\":"),
        (0, "\"messages\":", "\"m\\u0065ssages\": [], \"messages\":"),
        (0, "\"slug\":", "\"id\": \"ses_x\", \"slug\":"),
        (3, "\"parts\":", "\"parts\": [], \"parts\":"),
        (3, "\"parts\":", "\"info\": {}, \"parts\":"),
        (3, "\"role\":", "\"\\u0069d\": \"msg_x\", \"role\":"),
        (3, "\"role\":", "\"role\": \"user\", \"role\":"),
        (0, "\"tool\":", "\"messageID\": \"msg_x\", \"tool\":"),
        (0, "\"tool\":", "\"zz\": 1, \"zz\": 2, \"tool\":"),
        (0, "\"status\":", "\"status\": \"running\", \"status\":"),
    ] {
        let error = back(&with(nth, from, to)).unwrap_err();
        assert!(
            matches!(error, DocumentError::DuplicateKey { .. }),
            "{to}: {error}"
        );
    }
}

#[test]
fn ids_that_appear_twice_are_refused() {
    let text = original().replace(
        "msg_1fb5f29d20014s0GwPqIaJRHs0",
        "msg_1fb5eb04b001ilHQ3kl425DWSw",
    );
    assert!(matches!(
        back(&text).unwrap_err(),
        DocumentError::DuplicateMessage { .. }
    ));
    let text = original().replace(
        "prt_1fb5f3239001A5N9UyhPD26LCb",
        "prt_1fb5f319b001KSHKPs7j2omOx7",
    );
    assert!(matches!(
        back(&text).unwrap_err(),
        DocumentError::DuplicatePart { .. }
    ));
}

#[test]
fn ids_of_another_form_are_refused() {
    let huge = format!("msg_{}", "a".repeat(500));
    for bad in [
        "",
        "x",
        "msg_",
        "msg_../../x",
        "msg_a b",
        "msg_\\u0000",
        "msg_\\ud83d",
        "$(x)",
        "ses_x",
        &huge,
    ] {
        let text = original().replace("msg_1fb5f31d8001NiYkw5wGoDSqXi", bad);
        let error = back(&text).unwrap_err();
        assert!(
            matches!(
                error,
                DocumentError::BadId {
                    kind: "message",
                    ..
                }
            ),
            "{bad}: {error}"
        );
        let text = original().replace("prt_1fb5f3239001A5N9UyhPD26LCb", bad);
        let error = back(&text).unwrap_err();
        assert!(
            matches!(error, DocumentError::BadId { kind: "part", .. }),
            "{bad}: {error}"
        );
        assert!(error.to_string().len() < 600);
    }
}

#[test]
fn a_part_of_another_message_is_refused() {
    let text = with(
        2,
        "\"messageID\": \"msg_1fb5f31d8001NiYkw5wGoDSqXi\"",
        "\"messageID\": \"msg_1fb5eb04b001ilHQ3kl425DWSw\"",
    );
    assert!(matches!(
        back(&text).unwrap_err(),
        DocumentError::WrongMessage { .. }
    ));
}

#[test]
fn only_the_user_and_the_assistant_speak() {
    for nth in 0..3 {
        let text = with(nth, "\"role\": \"assistant\"", "\"role\": \"system\"");
        assert!(matches!(
            back(&text).unwrap_err(),
            DocumentError::BadRole { .. }
        ));
    }
}

#[test]
fn what_is_no_export_is_refused() {
    for text in [
        "[]",
        "{}",
        "null",
        "\"x\"",
        "1",
        "{\"info\":1,\"messages\":[]}",
        "{\"messages\":[]}",
        &format!("{{\"info\":{{\"id\":\"{SESSION}\"}}}}"),
        &format!("{{\"info\":{{\"id\":\"{SESSION}\"}},\"messages\":{{}}}}"),
        &format!("{{\"info\":{{\"id\":\"{SESSION}\"}},\"messages\":[1]}}"),
        &format!(
            "{{\"info\":{{\"id\":\"{SESSION}\"}},\"messages\":[{{\"info\":{{}},\"parts\":[]}}]}}"
        ),
        &format!("{{\"info\":{{\"id\":\"{SESSION}\"}},\"messages\":[{{\"parts\":[]}}]}}"),
    ] {
        let error = back(text).unwrap_err();
        assert!(
            matches!(
                error,
                DocumentError::NotAnExport { .. } | DocumentError::Syntax { .. }
            ),
            "{text}: {error}"
        );
    }
    for (from, to) in [
        ("\"parts\": [", "\"parts\": [7, "),
        ("\"type\": \"tool\"", "\"type\": 7"),
        ("\"state\": {", "\"state\": 7, \"was\": {"),
    ] {
        let error = back(&original().replace(from, to)).unwrap_err();
        assert!(
            matches!(error, DocumentError::NotAnExport { .. }),
            "{to}: {error}"
        );
    }
}

#[test]
fn what_is_no_json_is_refused_where_it_is() {
    for (from, to) in [
        ("\"cost\": 0,", "\"cost\": 00,"),
        ("\"cost\": 0,", "\"cost\": NaN,"),
        ("\"cost\": 0,", "\"cost\": 0,,"),
        ("\"cost\": 0,", "'cost': 0,"),
        ("hi there", "hi\nthere"),
        ("{\n          \"type\"", "[\n          \"type\""),
        ("\"cost\": 0,", "\"cost\" 0,"),
        ("\"cost\": 0,", "\"cost\": \"\\q\","),
        ("\"cost\": 0,", "\"cost\": \"\\u12g4\","),
        ("hello there", "hello\u{1}there"),
    ] {
        let text = original().replace(from, to);
        if text != original() {
            assert!(
                matches!(back(&text).unwrap_err(), DocumentError::Syntax { .. }),
                "{to}"
            );
        }
    }
    let mut bytes = AFTER_RUN.to_vec();
    let at = original().find("hello there").unwrap();
    bytes[at] = 0xff;
    let error = inspect(bytes.as_slice(), &Limits::default()).unwrap_err();
    assert!(
        matches!(error, DocumentError::Syntax { offset, .. } if offset == at as u64),
        "{error}"
    );
}

#[test]
fn depth_is_bounded() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for levels in [600, 200_000] {
            let deep = format!("{}0{}", open.repeat(levels), close.repeat(levels));
            for text in [
                with(0, "\"slug\": ", &format!("\"deep\": {deep}, \"slug\": ")),
                with(
                    0,
                    "\"input\": {",
                    &format!("\"input\": {{\"deep\": {deep}, "),
                ),
                format!("{{\"deep\": {deep},{}", &original()[1..]),
            ] {
                let error = back(&text).unwrap_err();
                assert!(
                    matches!(
                        error,
                        DocumentError::Limit {
                            what: "levels of nesting",
                            ..
                        }
                    ),
                    "{error}"
                );
            }
        }
        let deep = format!("{}0{}", open.repeat(400), close.repeat(400));
        assert!(
            back(&with(
                0,
                "\"slug\": ",
                &format!("\"deep\": {deep}, \"slug\": ")
            ))
            .is_ok()
        );
    }
}

#[test]
fn size_is_bounded() {
    let whole = AFTER_RUN.len() as u64;
    for (limits, limited) in [
        (
            Limits::with_document(whole - 1),
            Some("bytes in the document"),
        ),
        (Limits::with_document(whole), None),
        (
            Limits {
                message: 300,
                ..Limits::default()
            },
            Some("bytes in one message"),
        ),
        (
            Limits {
                messages: 4,
                ..Limits::default()
            },
            Some("messages"),
        ),
        (
            Limits {
                messages: 5,
                ..Limits::default()
            },
            None,
        ),
        (
            Limits {
                parts: 2,
                ..Limits::default()
            },
            Some("parts in a message"),
        ),
    ] {
        match (inspect(AFTER_RUN, &limits), limited) {
            (Err(DocumentError::Limit { what, .. }), Some(limited)) => assert_eq!(what, limited),
            (result, limited) => assert!(result.is_ok() && limited.is_none(), "{limited:?}"),
        }
    }
    let keys: String = (0..2_000).map(|key| format!("\"k{key}\": 0, ")).collect();
    for place in ["\"slug\": ", "\"role\": ", "\"tool\": ", "\"messages\": "] {
        let error = back(&with(0, place, &format!("{keys}{place}"))).unwrap_err();
        assert!(
            matches!(
                error,
                DocumentError::Limit {
                    what: "fields in an object",
                    ..
                }
            ),
            "{place}: {error}"
        );
    }
}

#[test]
fn a_message_that_sorts_before_what_was_sent_is_told() {
    let text = original().replace(
        "msg_1fb5f31d8001NiYkw5wGoDSqXi",
        "msg_0fb5f31d8001NiYkw5wGoDSqXi",
    );
    let returned = back(&text).unwrap();
    assert_eq!((returned.out_of_order, returned.absent), (1, 0));
    let ids = [looked(AFTER_RUN).message_ids, vec!["msg_gone".to_owned()]].concat();
    assert_eq!(
        super::returned(AFTER_RUN, AFTER_RUN, &ids)
            .unwrap()
            .1
            .absent,
        1
    );
}
