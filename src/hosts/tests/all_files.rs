//! What counts when several files say something, and what is not used at all.

use std::fs;
use std::path::PathBuf;

use super::super::{Host, Hosts, HostsError, Places, Source};
use super::told;

struct Machine {
    root: tempfile::TempDir,
    places: Places,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let environment = |key: &str| {
            let directory = match key {
                "HOME" | "USERPROFILE" => "home",
                "HANDOVER_CONFIG_DIR" => "config",
                "HANDOVER_STATE_DIR" => "state",
                "OPENCODE_CONFIG_DIR" => "opencode",
                "HANDOVER_SSH_CONFIG" => return Some("none".into()),
                _ => return None,
            };
            Some(root.path().join(directory).into_os_string())
        };
        let mut places = Places::from_lookup(environment, &root.path().join("project")).unwrap();
        places.opencode_config_dirs.push(root.path().join("old"));
        Self { root, places }
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        // As the platform writes it, since messages are compared.
        let path: PathBuf = self.root.path().join(path).components().collect();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn load(&self) -> Result<Hosts, HostsError> {
        Hosts::load(&self.places)
    }
}

#[test]
fn no_hosts_at_all_are_an_empty_list() {
    let machine = Machine::new();
    let hosts = machine.load().unwrap();
    assert!(hosts.is_empty() && hosts.iter().next().is_none());
    assert_eq!(hosts.searched().len(), 5);
    let (text, _) = told(&hosts.get("box").unwrap_err());
    assert_eq!(text, "there is no host \"box\"; none is configured");
    machine.write("config/hosts.toml", "");
    machine.write("opencode/hosts.json", "{}");
    let hosts = machine.load().unwrap();
    assert!(hosts.is_empty());
    assert_eq!(
        hosts.warnings().len(),
        1,
        "a hosts.json without \"hosts\" is worth a word"
    );
}

#[test]
fn the_nearer_definition_counts_and_the_others_stay_visible() {
    let machine = Machine::new();
    let json = |address: &str| {
        format!("{{\"hosts\": {{\"box\": \"{address}\", \"only-{address}\": \"x\"}}}}")
    };
    machine.write("old/hosts.jsonc", &json("old-jsonc"));
    machine.write("old/hosts.json", &json("old-json"));
    machine.write("opencode/hosts.jsonc", &json("jsonc"));
    machine.write("opencode/hosts.json", &json("json"));
    let toml = machine.write("config/hosts.toml", "\n[hosts.box]\nhost = 'toml'\n");

    let hosts = machine.load().unwrap();
    let host = hosts.get("box").unwrap();
    assert_eq!(host.address.host(), "toml");
    assert_eq!(host.source.to_string(), format!("{}:2", toml.display()));
    let shadowed = |hosts: &Hosts| -> Vec<String> {
        hosts
            .shadowed()
            .iter()
            .map(|host| host.address.host().to_owned())
            .collect()
    };
    assert_eq!(shadowed(&hosts), ["json", "jsonc", "old-json", "old-jsonc"]);
    assert_eq!(hosts.len(), 5);

    let inline = |address: &str| Host::new("box".parse().unwrap(), address.parse().unwrap());
    let hosts = hosts.with_inline(vec![inline("first"), inline("second")]);
    assert_eq!(hosts.get("box").unwrap().address.host(), "first");
    assert_eq!(hosts.get("box").unwrap().source, Source::Inline);
    assert_eq!(
        shadowed(&hosts),
        ["second", "toml", "json", "jsonc", "old-json", "old-jsonc"]
    );
}

#[test]
fn one_bad_file_fails_the_whole() {
    let machine = Machine::new();
    machine.write("config/hosts.toml", "[hosts.box]\n");
    let bad = machine.write("old/hosts.json", "{");
    let (text, _) = told(&machine.load().unwrap_err());
    assert!(text.starts_with(&bad.display().to_string()), "{text}");
    fs::remove_file(&bad).unwrap();
    fs::create_dir(&bad).unwrap();
    assert!(matches!(machine.load(), Err(HostsError::Read { path, .. }) if path == bad));
}

#[test]
fn an_unknown_host_is_told_with_those_that_there_are() {
    let machine = Machine::new();
    machine.write(
        "config/hosts.toml",
        "[hosts.b]\n[hosts.a]\nhost='dev@10.1.2.3'\n",
    );
    let hosts = machine.load().unwrap();
    for name in [
        "c",
        "-oProxyCommand=x",
        "a\n\u{1b}[2J",
        "",
        "$(id)",
        "\u{202e}",
    ] {
        let (text, _) = told(&hosts.get(name).unwrap_err());
        assert!(text.ends_with("configured: a, b"), "{text}");
        assert!(
            !text.contains("10.1.2.3") && !text.contains('\u{202e}'),
            "{text}"
        );
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}

#[test]
fn a_projects_own_hosts_are_listed_and_never_used() {
    let machine = Machine::new();
    machine.write("config/hosts.toml", "[hosts.box]\nhost = 'mine'\n");
    let expected = [
        machine.write("project/hosts.toml", "[hosts.box]\nhost = 'theirs'\n"),
        machine.write("project/hosts.json", "{\"hosts\": {\"more\": \"theirs\"}}"),
        machine.write("project/.opencode/hosts.jsonc", "not even JSON"),
    ];
    let hosts = machine.load().unwrap();
    assert_eq!(hosts.untrusted(), expected);
    assert_eq!(hosts.get("box").unwrap().address.host(), "mine");
    assert!(hosts.get("more").is_err() && hosts.shadowed().is_empty());
}

#[test]
fn the_users_own_directory_is_nobody_elses_project() {
    let mut machine = Machine::new();
    machine.write("config/hosts.toml", "[hosts.a]\n");
    machine.write("opencode/hosts.json", "{\"hosts\": {\"b\": \"x\"}}");
    for own in ["config", "opencode"] {
        machine.places.project_dir = machine.root.path().join("home/..").join(own);
        fs::create_dir_all(machine.root.path().join("home")).unwrap();
        let hosts = machine.load().unwrap();
        assert!(hosts.untrusted().is_empty(), "{:?}", hosts.untrusted());
        assert_eq!(hosts.len(), 2);
    }
}

#[test]
fn the_json_form_has_the_keys_of_the_file_and_where_it_is_from() {
    let machine = Machine::new();
    let path = machine.write(
        "config/hosts.toml",
        "[hosts.a]\nhost = 'dev@x:22'\nmodel = 'p/m'\n",
    );
    let json = serde_json::to_value(machine.load().unwrap()).unwrap();
    let expected = serde_json::json!([{
        "name": "a", "host": "x", "user": "dev", "port": 22, "model": "p/m",
        "os": "posix", "auto_approve": false,
        "source": {"kind": "file", "path": path.display().to_string(), "line": 1, "column": 8},
    }]);
    assert_eq!(json["hosts"], expected);
    for list in ["shadowed", "untrusted", "searched", "warnings"] {
        assert!(json[list].is_array(), "{list}");
    }
}
