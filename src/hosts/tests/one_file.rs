//! What is accepted in one file, and what is refused, and where.

use std::path::Path;

use proptest::prelude::*;

use super::super::definition::{self, Format, JSON_KEYS, TOML_KEYS};
use super::super::{Address, Host, HostsError, RemoteOs};
use super::told;

const EXAMPLE: &str = include_str!("../../../hosts.example.toml");

fn read(format: Format, text: &str) -> Result<Vec<Host>, HostsError> {
    let definitions = definition::read(format, Path::new("f"), text.as_bytes(), Path::new("/h"))?;
    Ok(definitions.hosts)
}

fn toml_host(fields: &str) -> Result<Host, HostsError> {
    let mut hosts = read(Format::Toml, &format!("[hosts.box]\n{fields}\n"))?;
    Ok(hosts.remove(0))
}

#[test]
fn the_example_is_valid_and_explains_every_key() {
    let hosts = read(Format::Toml, EXAMPLE).unwrap();
    let full = hosts
        .iter()
        .find(|host| host.name.as_str() == "gpu")
        .unwrap();
    let serde_json::Value::Object(set) = serde_json::to_value(full).unwrap() else {
        panic!("a host is no object");
    };
    let mut keys: Vec<&str> = set.keys().map(String::as_str).collect();
    keys.retain(|key| !matches!(*key, "name" | "source"));
    keys.sort_unstable();
    let mut known = TOML_KEYS.to_vec();
    known.sort_unstable();
    assert_eq!(keys, known, "a key of a host is not set in the example");
    for key in TOML_KEYS {
        let line = EXAMPLE
            .lines()
            .position(|line| line.starts_with(&format!("{key} =")))
            .unwrap();
        let before = EXAMPLE.lines().nth(line - 1).unwrap();
        assert!(before.starts_with('#'), "{key} is not explained");
    }
    assert!(JSON_KEYS.iter().all(|key| TOML_KEYS.contains(key)));
}

#[test]
fn a_host_without_an_address_is_where_its_name_says() {
    let host = toml_host("").unwrap();
    assert_eq!(
        (
            host.address.host(),
            host.address.user(),
            host.address.port()
        ),
        ("box", None, None)
    );
    assert_eq!((host.os, host.auto_approve), (RemoteOs::Posix, false));
    assert_eq!(
        (host.max_jobs, host.inactivity, host.kill_on_stall),
        (8, None, false)
    );
    let host = toml_host("max_jobs = 3\ninactivity = '1h 30m'\nkill_on_stall = true").unwrap();
    assert_eq!(
        (host.max_jobs, host.inactivity, host.kill_on_stall),
        (3, Some(std::time::Duration::from_secs(5400)), true)
    );
    let host = toml_host("user = 'dev'\nport = 0x16").unwrap();
    assert_eq!(host.address, "dev@box:22".parse().unwrap());
}

#[test]
fn user_and_port_may_repeat_and_not_contradict_the_address() {
    let same = toml_host("host = 'dev@a:22'\nuser = 'dev'\nport = 22").unwrap();
    assert_eq!(same.address, "dev@a:22".parse().unwrap());
    for fields in [
        "host = 'dev@a'\nuser = 'root'",
        "host = 'a:22'\nport = 2222",
    ] {
        let (text, at) = told(&toml_host(fields).unwrap_err());
        assert!(text.contains("contradicts"), "{text}");
        assert_eq!(at.unwrap().0, 3, "{text}");
    }
}

#[test]
fn an_identity_file_is_absolute_or_in_the_local_home() {
    let host = toml_host("identity_file = '~/.ssh/a b'").unwrap();
    assert_eq!(host.identity_file.unwrap(), Path::new("/h/.ssh/a b"));
    for (text, path) in [
        ("'~\\.ssh\\a b'", "/h/.ssh/a b"),
        ("'C:\\Users\\ada\\a b'", "C:\\Users\\ada\\a b"),
    ] {
        let host = toml_host(&format!("identity_file = {text}"));
        assert_eq!(host.is_ok(), cfg!(windows), "{text}");
        if let Ok(host) = host {
            assert_eq!(host.identity_file.unwrap(), Path::new(path));
        }
    }
    for bad in ["''", "'id'", "'~dev/id'", "'~'", "'-i'", "\"/a\\u0000\""] {
        assert!(
            toml_host(&format!("identity_file = {bad}")).is_err(),
            "{bad} was accepted"
        );
    }
}

#[test]
fn hostile_values_are_refused_with_their_place_and_not_repeated() {
    let hostile = ["-oProxyCommand=x", "a\nb", "a\u{1b}[31m", "a\u{0}"];
    let shell = ["$(touch x)", "`touch x`", "a'b", "a\"b", "a b", "a;b"];
    for key in [
        "host",
        "user",
        "agent",
        "model",
        "directory",
        "opencode",
        "state_dir",
        "os",
    ] {
        let address = matches!(key, "host" | "user" | "os");
        for value in hostile.iter().chain(shell.iter().filter(|_| address)) {
            let quoted = serde_json::to_string(value).unwrap();
            let (text, at) = told(&toml_host(&format!("{key} = {quoted}")).expect_err(value));
            assert_eq!(at, Some((2, key.len() + 4)), "{key} = {quoted}: {text}");
            assert!(
                !text.contains(value) && !text.chars().any(char::is_control),
                "{text:?}"
            );
            assert!(text.contains("box"), "{text} does not name the host");
        }
    }
    for value in shell {
        let quoted = serde_json::to_string(value).unwrap();
        let agent = toml_host(&format!("agent = {quoted}"))
            .unwrap()
            .agent
            .unwrap();
        assert_eq!(agent.as_str(), value, "carried as data, verbatim");
    }
}

#[test]
fn hostile_names_are_refused_in_every_format() {
    for name in [
        "-oProxyCommand=x",
        "a b",
        "a\nb",
        "$(id)",
        "`id`",
        "a'b",
        "a\"b",
        "../x",
        "a/b",
        "",
        "ü",
    ] {
        let quoted = serde_json::to_string(name).unwrap();
        let toml = read(Format::Toml, &format!("[hosts.{quoted}]")).unwrap_err();
        let json = read(Format::Json, &format!("{{\"hosts\":{{{quoted}:\"a\"}}}}")).unwrap_err();
        for error in [toml, json] {
            assert!(matches!(error, HostsError::InvalidName { .. }), "{error}");
            assert!(!told(&error).0.contains('\n'));
        }
    }
}

#[test]
fn whatever_is_wrong_in_a_toml_file_is_told_with_its_place() {
    for (text, line, column, words) in [
        ("[hosts.box]\nhost = \n", 2, 8, "string"),
        ("[hosts.box\n", 1, 11, "]"),
        ("\u{feff}[hosts.box]\r\n\r\nhots = 'a'\r\n", 3, 1, "hots"),
        ("[host.box]\n", 1, 2, "\"host\""),
        ("[hosts.box.sub]\n", 1, 12, "\"sub\""),
        ("[hosts]\nbox = 'dev@10.1.2.3'\n", 2, 7, "not a table"),
        ("hosts = 3\n", 1, 9, "not a table"),
        ("[hosts.box]\nport = 65536\n", 2, 8, "65535"),
        ("[hosts.box]\nport = 0\n", 2, 8, "65535"),
        ("[hosts.box]\nport = 1.5\n", 2, 8, "65535"),
        ("[hosts.box]\nport = '22'\n", 2, 8, "a string, and a number"),
        ("[hosts.box]\nauto_approve = 'yes'\n", 2, 16, "a boolean"),
        ("[hosts.box]\nmax_jobs = 0\n", 2, 12, "1 to 1000"),
        (
            "[hosts.box]\nmax_jobs = '8'\n",
            2,
            12,
            "a string, and a number",
        ),
        ("[hosts.box]\ninactivity = 'soon'\n", 2, 14, "not a time"),
        ("[hosts.box]\ninactivity = '10ms'\n", 2, 14, "not a time"),
        (
            "[hosts.box]\ninactivity = 600\n",
            2,
            14,
            "a number, and a string",
        ),
        ("[hosts.box]\nkill_on_stall = 1\n", 2, 17, "a boolean"),
        ("[hosts.box]\nagent = []\n", 2, 9, "a list"),
        ("[hosts.box]\nos = 'beos'\n", 2, 6, "windows"),
        ("[hosts.box]\nhost = 'a'\nhost = 'b'\n", 3, 1, "duplicate"),
        ("[hosts.box]\n[hosts.box]\n", 2, 8, "duplicate"),
        ("[hosts.box]\nmodel = 'gpt'\n", 2, 9, "provider/model"),
        (
            "[hosts.box]\n  directory = 'work'\n",
            2,
            15,
            "must start with",
        ),
    ] {
        let (message, at) = told(&read(Format::Toml, text).expect_err(text));
        assert!(message.contains(words), "{text:?}: {message}");
        assert!(!message.contains("10.1.2.3"), "{message}");
        assert_eq!(at, Some((line, column)), "{text:?}: {message}");
        assert!(
            message.starts_with(&format!("f:{line}:{column}: ")),
            "{message}"
        );
    }
}

#[test]
fn whatever_is_wrong_in_a_json_file_is_told_with_its_place() {
    for (text, line, column, words) in [
        ("", 1, 1, "no JSON value"),
        ("// nothing\n", 1, 1, "no JSON value"),
        ("[]", 1, 1, "a list, not a table"),
        ("{\n  \"hosts\": {\n", 2, 12, "unterminated object"),
        (
            "\u{feff}{\r\n  \"hosts\": {\r\n    \"a\" \"b\"\r\n  }\r\n}",
            3,
            9,
            "colon",
        ),
        ("{\"hosts\": []}", 1, 11, "not a table"),
        (
            "{\"hosts\": {\"a\": 1}}",
            1,
            17,
            "a number, not a string or a table",
        ),
        (
            "{\"hosts\": {\"a\": {\"host\": 1}}}",
            1,
            26,
            "a string is wanted",
        ),
        (
            "{\"hosts\": {\"a\": {\"port\": \"22\"}}}",
            1,
            26,
            "a number is wanted",
        ),
        (
            "{\"hosts\": {\"a\": {\"os\": \"beos\"}}}",
            1,
            24,
            "'windows'",
        ),
        (
            "{\"hosts\": {\"a\": \"x\", \"a\": \"y\"}}",
            1,
            22,
            "duplicate",
        ),
        ("{\"hosts\": {\"a\": \"x y\"}}", 1, 17, "' '"),
        ("{'hosts': {}}", 1, 2, "single-quoted"),
        ("{\"hosts\": {\"a\": \"x\" \"b\": \"y\"}}", 1, 20, "comma"),
    ] {
        let (message, at) = told(&read(Format::Json, text).expect_err(text));
        assert!(message.contains(words), "{text:?}: {message}");
        assert_eq!(at, Some((line, column)), "{text:?}: {message}");
    }
}

#[test]
fn a_json_file_may_have_comments_trailing_commas_and_other_keys() {
    let text = "\u{feff}{ // of opencode-remote-login\r\n \"$schema\": [1, {\"x\": {}}],\r\n \"hosts\": {\r\n\
        \"a\": \"dev@10.0.0.5\", /* a string */\r\n\
        \"b\": { \"host\": \"b.example\", \"port\": 2222, \"os\": \"linux\", \"agent\": \"build\",\r\n\
        \"model\": \"opencode/big-pickle\", \"shell\": 1, \"auto_approve\": true, },\r\n\
        \"c\": { \"os\": \"windows\", \"agent\": null } } , }\r\n";
    let read = definition::read(
        Format::Json,
        Path::new("f"),
        text.as_bytes(),
        Path::new("/h"),
    )
    .unwrap();
    let [a, b, c] = read.hosts.as_slice() else {
        panic!("{:?}", read.hosts)
    };
    assert_eq!(a.address, "dev@10.0.0.5".parse().unwrap());
    assert_eq!(b.address, "b.example:2222".parse().unwrap());
    assert_eq!(b.agent.as_ref().unwrap().as_str(), "build");
    assert_eq!(b.model.as_ref().unwrap().as_str(), "opencode/big-pickle");
    assert!(!b.auto_approve, "another program's file approved something");
    assert_eq!((b.os, c.os), (RemoteOs::Posix, RemoteOs::Windows));
    assert!(matches!(
        c.require_supported(),
        Err(HostsError::NotYet { .. })
    ));
    assert!(b.require_supported().is_ok());
    let warnings: Vec<String> = read.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("f:6:") && warnings[0].contains("\"shell\""),
        "{warnings:?}"
    );
    assert!(warnings[1].contains("hosts.toml"), "{warnings:?}");
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    for (format, text) in [
        (Format::Json, "[".repeat(500_000)),
        (Format::Json, "{\"a\":".repeat(100_000)),
        (Format::Toml, format!("a = {}", "[".repeat(500_000))),
        (Format::Toml, format!("a = {}", "{a=".repeat(200_000))),
        (Format::Toml, format!("[{}a]", "a.".repeat(200_000))),
        (Format::Toml, format!("{}a = 1", "a.".repeat(200_000))),
    ] {
        assert!(read(format, &text).is_err());
    }
}

fn either_format() -> impl Strategy<Value = Format> {
    prop_oneof![Just(Format::Toml), Just(Format::Json)]
}

proptest! {
    #[test]
    fn no_bytes_panic_the_reader(format in either_format(), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = definition::read(format, Path::new("f"), &bytes, Path::new("/h"));
    }

    #[test]
    fn no_text_of_the_formats_own_pieces_panics_the_reader(
        format in either_format(),
        pieces in proptest::collection::vec(prop_oneof![
            4 => "[\\[\\]{}:,=.\"'\\\\/*#\r\n -]{1,3}",
            2 => prop_oneof![
                Just("hosts".to_owned()), Just("[hosts.a]\n".to_owned()), Just("host".to_owned()),
                Just("\"hosts\":{".to_owned()), Just("port = 22\n".to_owned()), Just("\\ud83d".to_owned()),
                Just("\"\"\"".to_owned()), Just("// ".to_owned()), Just("/*".to_owned()), Just("1e9".to_owned()),
            ],
            1 => "\\PC{0,3}",
        ], 0..40),
    ) {
        let text = pieces.concat();
        if let Err(error) = read(format, &text) {
            let (_, at) = told(&error);
            let (line, column) = at.expect("an error of a file has a place");
            prop_assert!(line >= 1 && column >= 1 && line <= text.matches('\n').count() + 1);
        }
    }

    #[test]
    fn an_address_that_is_accepted_reads_back_as_itself(text in "[a-z0-9@:.%\\[\\]$ -]{0,12}") {
        if let Ok(address) = text.parse::<Address>() {
            prop_assert_eq!(address.for_person().parse::<Address>(), Ok(address));
        }
    }
}
