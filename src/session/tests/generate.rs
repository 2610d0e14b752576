//! Documents as they could be: any JSON in every place that is not looked at, any white space, any order of keys.

use proptest::prelude::*;
use proptest::sample::select;

pub(super) const SESSION: &str = "ses_e047041e1ffeCSECY1pqraW9he";

/// A generated document, in the pieces that the tests compare.
#[derive(Debug, Clone)]
pub(super) struct Document {
    pub(super) text: String,
    /// The messages' bytes.
    pub(super) messages: Vec<String>,
    /// Whether nothing in the document has to be taken out.
    pub(super) clean: bool,
}

fn white() -> impl Strategy<Value = &'static str> {
    select(vec!["", "", " ", "\n", "\n    ", "\t", "\r\n"])
}

/// JSON as it is written, not as it is read.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        select(vec![
            "null",
            "true",
            "0",
            "-0.0",
            "1e400",
            "-1E-400",
            "123456789012345678901234567890",
            "1.10",
            r#""""#,
            r#""\ud83d""#,
            r#""\ude00\ud83d""#,
            r#""\u0041\/\b\"\\""#,
            r#""}]{[,:\"\\""#,
            r#""\u0000\u007f""#,
            "\"\u{2028}\u{1f600}\"",
            r#""patch""#,
            r#""snapshot""#,
        ])
        .prop_map(str::to_owned),
        "[ -!#-\\[\\]-~äß語]{0,12}".prop_map(|text| format!("\"{text}\"")),
        any::<f64>()
            .prop_filter("JSON has no such number", |n| n.is_finite())
            .prop_map(|n| format!("{n:e}")),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            (prop::collection::vec((white(), inner.clone(), white()), 0..4)).prop_map(|items| {
                let items: Vec<_> = items
                    .into_iter()
                    .map(|(a, item, b)| format!("{a}{item}{b}"))
                    .collect();
                format!("[{}]", items.join(","))
            }),
            prop::collection::vec((white(), inner, white()), 0..4).prop_map(|items| {
                let keys = ["snapshot", "id", "i\\u0064", "\\ud83d"];
                let items: Vec<_> = items
                    .into_iter()
                    .zip(keys)
                    .map(|((a, item, b), key)| format!("{a}\"{key}\"{b}:{a}{item}{b}"))
                    .collect();
                format!("{{{}}}", items.join(","))
            }),
        ]
    })
}

/// An object of these fields in any order, with unknown ones among them.
fn object(fields: Vec<(&'static str, String)>) -> impl Strategy<Value = String> {
    let unknown = prop::collection::vec(value(), 0..3);
    (Just(fields), unknown, white(), white(), white())
        .prop_map(|(fields, unknown, a, b, c)| {
            let keys = ["zz", "", "\\ud83d\\n"];
            let unknown = unknown
                .into_iter()
                .zip(keys)
                .map(|(value, key)| format!("{a}\"{key}\"{b}:{c}{value}{a}"));
            fields
                .into_iter()
                .map(|(key, value)| format!("{b}\"{key}\"{a}:{value}{c}"))
                .chain(unknown)
                .collect::<Vec<_>>()
        })
        .prop_shuffle()
        .prop_map(|fields| format!("{{{}}}", fields.join(",")))
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn part(message: String, id: String) -> impl Strategy<Value = (String, bool)> {
    let kinds = select(vec![
        "text",
        "text",
        "reasoning",
        "step-start",
        "file",
        "patch",
        "snapshot",
    ]);
    (kinds, value(), prop::option::weighted(0.2, value())).prop_flat_map(
        move |(kind, text, snapshot)| {
            let clean = snapshot.is_none() && kind != "patch" && kind != "snapshot";
            let mut fields = vec![
                ("type", quoted(kind)),
                ("id", quoted(&id)),
                ("sessionID", quoted(SESSION)),
                ("messageID", quoted(&message)),
                ("text", text),
            ];
            fields.extend(snapshot.map(|value| ("snapshot", value)));
            (object(fields), Just(clean))
        },
    )
}

fn message(index: usize) -> impl Strategy<Value = (String, bool)> {
    let id = format!("msg_1fb8fbee{index:04x}NCuh47pqrCCv8P");
    let parts: Vec<_> = (0..4)
        .map(|part_index| {
            part(
                id.clone(),
                format!("prt_1fb8fbef{index:02x}{part_index:02x}9IzpusZmiIDO2Z"),
            )
        })
        .collect();
    (any::<bool>(), parts, 0..5_usize, white(), value()).prop_flat_map(
        move |(user, mut parts, count, space, other)| {
            parts.truncate(count);
            let clean = parts.iter().all(|(_, clean)| *clean);
            let list: Vec<_> = parts
                .into_iter()
                .map(|(part, _)| format!("{space}{part}{space}"))
                .collect();
            let list = format!(
                "[{}]",
                if list.is_empty() {
                    space.to_owned()
                } else {
                    list.join(",")
                }
            );
            let role = quoted(if user { "user" } else { "assistant" });
            let time = format!("{{{space}\"created\":{space}1795221864174,\"completed\":1.5e3}}");
            let info = object(vec![
                ("id", quoted(&id)),
                ("role", role),
                ("sessionID", quoted(SESSION)),
                ("time", time),
                ("tokens", other),
            ]);
            (info, Just((list, clean))).prop_flat_map(|(info, (list, clean))| {
                (object(vec![("info", info), ("parts", list)]), Just(clean))
            })
        },
    )
}

/// A complete document of up to four ended messages.
pub(super) fn document() -> impl Strategy<Value = Document> {
    let messages: Vec<_> = (0..4).map(message).collect();
    let info = value().prop_flat_map(|other| {
        object(vec![
            ("id", quoted(SESSION)),
            ("directory", quoted("/home/ada")),
            ("title", other),
        ])
    });
    (messages, 0..5_usize, info, white(), white()).prop_flat_map(
        |(mut messages, count, info, a, b)| {
            messages.truncate(count);
            let clean = messages.iter().all(|(_, clean)| *clean);
            let messages: Vec<_> = messages.into_iter().map(|(message, _)| message).collect();
            let list = messages.join(&format!("{a},{b}"));
            let top = object(vec![
                ("info", info),
                ("messages", format!("[{a}{list}{b}]")),
            ]);
            (top, Just(messages), Just(clean), Just(a), Just(b)).prop_map(
                |(top, messages, clean, a, b)| Document {
                    text: format!("{a}{top}{b}"),
                    messages,
                    clean,
                },
            )
        },
    )
}
