//! What a configuration says of a host.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::super::{
    HostName, Hosts, HostsError, IdentityAgent, Places, SshSettings, StrictHostKeyChecking,
};
use super::*;

/// A machine with its files, and a local user of its own.
struct Machine {
    root: tempfile::TempDir,
    places: Places,
}

impl Machine {
    fn new(config: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("home");
        let lookup = |key: &str| matches!(key, "HOME" | "USERPROFILE").then(|| home.clone().into());
        let mut places = Places::from_lookup(lookup, &root.path().join("project")).unwrap();
        places.system_ssh_config = Some(root.path().join("etc/ssh_config"));
        let machine = Self { root, places };
        machine.write("home/.ssh/config", config);
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        // As the platform writes it, since messages are compared.
        self.root.path().join(path).components().collect()
    }

    /// What an absolute path of a configuration is here: on Windows one without a drive is on the drive of the project.
    fn absolute(&self, path: &str) -> PathBuf {
        self.places.project_dir.join(path)
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Whatever the umask, nobody else may write it.
        crate::private_fs::write_atomic(&path, text.as_bytes()).unwrap();
        path
    }

    fn local(&self) -> LocalMachine {
        let mut local = LocalMachine::of(&self.places).with_environment(|name| match name {
            // A pattern, as in ssh(1).
            "INCLUDED" => Some("sub?1?".to_owned()),
            "KEYS" => Some("/keys/%h".to_owned()),
            "SOCK" => Some("/run/agent".to_owned()),
            _ => None,
        });
        local.user = Some("ada".to_owned());
        local.user_id = Some(1000);
        local.name = "desk.example".to_owned();
        local
    }

    fn load(&self) -> SshConfig {
        SshConfig::load(&self.places, &self.local()).unwrap()
    }

    fn resolve(&self, address: &str) -> Result<ResolvedHost, SshConfigError> {
        let name: HostName = "asked".parse().unwrap();
        self.load()
            .resolve(&name, &address.parse().unwrap(), &self.local())
    }

    fn names(&self) -> Vec<String> {
        let config = self.load();
        config.hosts().map(|(name, _)| name.to_string()).collect()
    }
}

fn resolve(config: &str, address: &str) -> ResolvedHost {
    Machine::new(config).resolve(address).unwrap()
}

fn refused(config: &str, address: &str) -> String {
    let machine = Machine::new(config);
    let error = machine.resolve(address).unwrap_err();
    let mut text = error.to_string();
    if let Some(cause) = std::error::Error::source(&error) {
        text = format!("{text}: {cause}");
    }
    let file = machine.path("home/.ssh/config");
    assert!(text.starts_with(&format!("{}:", file.display())), "{text}");
    text.replace(&file.display().to_string(), "config")
}

#[test]
fn a_host_gets_what_applies_to_it_and_the_first_value_counts() {
    let config = "Port 2200\nHost box *.example !old.example\n  Hostname %h.lan.Example\n  User dev\n  Port 1\n\
                  Host old.example\n  User old\nHost *\n  User nobody\n  ConnectTimeout 1m\n";
    let host = resolve(config, "box");
    assert_eq!(
        (host.host.as_str(), host.user.as_deref(), host.port),
        ("box.lan.example", Some("dev"), Some(2200))
    );
    assert_eq!(host.settings.connect_timeout, Some(Duration::from_secs(60)));
    assert_eq!(resolve(config, "old.example").user.as_deref(), Some("old"));
    let given = resolve(config, "root@box:22");
    assert_eq!(
        (given.user.as_deref(), given.port),
        (Some("root"), Some(22))
    );
    let bare = resolve("", "Box");
    assert_eq!(
        (bare.host.as_str(), bare.user, bare.port),
        ("box", None, None)
    );
    assert_eq!(bare.settings, SshSettings::default());
}

#[test]
fn the_systems_file_comes_after_the_users() {
    let machine = Machine::new("Host box\n  User dev\n");
    machine.write(
        "etc/ssh_config",
        "Include more.d/*.conf\nHost *\n  User sys\n  Port 7\n",
    );
    machine.write("etc/more.d/a.conf", "HostKeyAlias from-include\n");
    let host = machine.resolve("box").unwrap();
    assert_eq!((host.user.as_deref(), host.port), (Some("dev"), Some(7)));
    assert_eq!(
        host.settings.host_key_alias.as_deref(),
        Some("from-include")
    );
}

#[test]
fn a_match_final_is_read_again_with_the_real_name() {
    let config = "Host box\n  Hostname real\nMatch host real\n  Port 7\nMatch final host real\n  User late\n\
                  Match final\n  Hostname other\n";
    let host = resolve(config, "box");
    assert_eq!(
        (host.host.as_str(), host.user.as_deref(), host.port),
        ("real", Some("late"), Some(7))
    );
    assert_eq!(resolve("Match final\n Hostname other", "box").host, "box");
}

#[test]
fn an_include_belongs_to_its_block_and_does_not_end_it() {
    let machine = Machine::new(
        "Host box\n  Include conf.d/*.conf ~/.ssh/missing\n  Port 7\nHost other\n  Include conf.d/b.conf\n",
    );
    machine.write(
        "home/.ssh/conf.d/a.conf",
        "User first\nHost nobody\n  Port 1\n",
    );
    machine.write(
        "home/.ssh/conf.d/b.conf",
        "User second\nHost other\n  HostKeyAlias nested\n",
    );
    machine.write("home/.ssh/conf.d/.c.conf", "bad \"");
    machine.write("home/.ssh/conf.d/d.txt", "bad \"");
    fs::create_dir(machine.path("home/.ssh/conf.d/e.conf")).unwrap();
    let host = machine.resolve("box").unwrap();
    assert_eq!((host.user.as_deref(), host.port), (Some("first"), Some(7)));
    let host = machine.resolve("other").unwrap();
    assert_eq!(host.settings.host_key_alias.as_deref(), Some("nested"));
    assert_eq!(machine.resolve("third").unwrap().user, None);
    assert_eq!(
        machine.names(),
        ["box", "other"],
        "no block lets 'nobody' through"
    );
}

#[test]
fn files_that_include_themselves_and_files_without_end_are_refused() {
    let machine = Machine::new("Include config\n");
    let error = SshConfig::load(&machine.places, &machine.local())
        .unwrap_err()
        .to_string();
    assert!(error.contains("config:1:1: more than 16 levels"), "{error}");
    let machine = Machine::new("Include config config config\n");
    assert!(SshConfig::load(&machine.places, &machine.local()).is_err());
    machine.write("home/.ssh/config", &"Include one\n".repeat(2000));
    machine.write("home/.ssh/one", "User x\n");
    let error = SshConfig::load(&machine.places, &machine.local())
        .unwrap_err()
        .to_string();
    assert!(error.contains("more than 1024 included files"), "{error}");
}

#[test]
fn an_include_that_cannot_be_followed_concerns_the_hosts_that_it_applies_to_alone() {
    let machine = Machine::new("");
    for (pattern, wanted) in [
        ("~root/x", InvalidSshValue::OtherHome),
        ("/a/[b", InvalidSshValue::Pattern),
        ("conf.d/%h", InvalidSshValue::Token { token: 'h' }),
        ("%", InvalidSshValue::Token { token: ' ' }),
        (
            "${NOT_SET}/x",
            InvalidSshValue::Variable {
                name: "NOT_SET".to_owned(),
            },
        ),
        ("${KEYS", InvalidSshValue::VariableOpen),
    ] {
        let text = format!("Host box near\nInclude {pattern}\nUser ada\nHost far\nUser grace\n");
        machine.write("home/.ssh/config", &text);
        assert_eq!(machine.names(), ["box", "far", "near"], "{pattern}");
        assert_eq!(
            machine.resolve("far").unwrap().user.as_deref(),
            Some("grace")
        );
        let error = machine.resolve("box").unwrap_err();
        let SshConfigError::Value {
            keyword,
            at,
            source,
            ..
        } = error
        else {
            panic!("{pattern}: {error:?}");
        };
        assert_eq!((keyword, at.line, source), ("Include", 2, wanted));
    }
}

#[test]
fn an_include_may_hold_variables_and_the_tokens_of_this_machine() {
    for (pattern, file) in [
        ("${INCLUDED}/conf", "home/.ssh/sub[1]/conf"),
        ("${INCLUDED}/*.d", "home/.ssh/sub[1]/a.d"),
        ("~/${INCLUDED}", "home/sub[1]"),
        ("%d/of-home", "home/of-home"),
        ("%u.conf", "home/.ssh/ada.conf"),
        ("by/%i", "home/.ssh/by/1000"),
        ("by/%L-%l", "home/.ssh/by/desk-desk.example"),
        ("100%%", "home/.ssh/100%"),
    ] {
        let machine = Machine::new(&format!("Include {pattern}\nPort 7\n"));
        machine.write(file, "Port 2222\n");
        let host = machine.resolve("box").unwrap();
        assert_eq!(host.port, Some(2222), "{pattern}");
    }
}

#[test]
fn a_missing_file_is_empty_and_an_unreadable_one_an_error() {
    let machine = Machine::new("Host box\n");
    fs::remove_file(machine.path("home/.ssh/config")).unwrap();
    assert_eq!(machine.load(), SshConfig::default());
    fs::create_dir(machine.path("home/.ssh/config")).unwrap();
    assert!(matches!(
        SshConfig::load(&machine.places, &machine.local()),
        Err(HostsError::Read { .. })
    ));
    let large = vec![b'\n'; (1 << 20) + 1];
    let machine = Machine::new("");
    crate::private_fs::write_atomic(&machine.path("home/.ssh/config"), &large).unwrap();
    assert!(matches!(
        SshConfig::load(&machine.places, &machine.local()),
        Err(HostsError::TooLarge { .. })
    ));
}

#[test]
fn a_file_that_was_asked_for_by_name_must_be_there() {
    let mut machine = Machine::new("Host box\n  Port 7\n");
    let named = machine.path("named");
    machine.places.ssh_config = Some(named.clone());
    machine.places.ssh_config_is_named = true;
    let error = Hosts::load(&machine.places).unwrap_err();
    let told = format!(
        "there is no {}, which HANDOVER_SSH_CONFIG names",
        named.display()
    );
    assert_eq!(error.to_string(), told);
    machine.write("named", "");
    assert!(Hosts::load(&machine.places).is_ok());
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;

    let machine = Machine::new("Include more\nHost box\n");
    machine.write("home/.ssh/more", "Port 7\n");
    machine.write("etc/ssh_config", "User x\n");
    for (file, bad) in [
        ("config", true),
        ("more", true),
        ("../../etc/ssh_config", false),
    ] {
        let path = machine.path("home/.ssh").join(file);
        for (mode, is_refused) in [(0o602, bad), (0o620, bad), (0o644, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = matches!(
                SshConfig::load(&machine.places, &machine.local()),
                Err(HostsError::SshConfig(SshConfigError::Permissions { path: named })) if named == path
            );
            assert_eq!(refused, is_refused, "{file} {mode:o}");
        }
    }
}

#[test]
fn tokens_variables_and_the_home_are_put_in_once() {
    let config = "Host box\n  Hostname real\n  User dev\n  Port 2222\n  HostKeyAlias Key\n\
        IdentityFile ~/.ssh/%h_%n_%r_%u_%p_%i_%k_%L_%l_%%\n  IdentityFile ${KEYS}/%%h\n  IdentityFile none\n\
        IdentityFile rel/x\n  CertificateFile %d/c\n  IdentityAgent ${SOCK}.%n\n\
        UserKnownHostsFile ~/k1 /k/%h\n  GlobalKnownHostsFile /g/%h /g2\n";
    let machine = Machine::new(config);
    let host = machine.resolve("box").unwrap();
    let home = machine.path("home");
    assert_eq!(
        host.identity_files,
        [
            home.join(".ssh/real_box_dev_ada_2222_1000_key_desk_desk.example_%"),
            machine.absolute("/keys/%h/%h"),
            machine.path("project/rel/x"),
        ]
    );
    let settings = host.settings;
    assert!(!settings.no_identity_files);
    assert_eq!(settings.certificate_files, [home.join("c")]);
    assert_eq!(
        settings.identity_agent,
        IdentityAgent::Socket("/run/agent.box".into())
    );
    assert_eq!(
        settings.user_known_hosts_files.unwrap(),
        [home.join("k1"), PathBuf::from("/k/real")]
    );
    assert_eq!(
        settings.global_known_hosts_files.unwrap(),
        [PathBuf::from("/g/%h"), PathBuf::from("/g2")],
        "the manual has tokens for the user's files alone"
    );
    let none = resolve(
        "IdentityFile none\nIdentityAgent none\nUserKnownHostsFile none",
        "box",
    );
    assert!(none.settings.no_identity_files && none.identity_files.is_empty());
    assert_eq!(none.settings.identity_agent, IdentityAgent::None);
    assert_eq!(none.settings.user_known_hosts_files, Some(Vec::new()));
    for (agent, expected) in [
        ("SSH_AUTH_SOCK", IdentityAgent::Environment),
        ("$SSH_AUTH_SOCK", IdentityAgent::Environment),
        ("$SOCK", IdentityAgent::Socket("/run/agent".into())),
        ("$UNSET", IdentityAgent::None),
    ] {
        let host = resolve(&format!("IdentityAgent {agent}"), "box");
        assert_eq!(host.settings.identity_agent, expected, "{agent}");
    }
}

#[cfg(windows)]
#[test]
fn paths_with_drives_and_pipes_are_what_windows_makes_of_them() {
    let machine = Machine::new(
        "Include ~\\.ssh\\more\r\nInclude \"~/.ssh/b c/*\"\r\nHost box\r\n  IdentityFile C:\\Users\\Ada\\.ssh\\k\r\n  \
         IdentityFile \"C:\\Users\\Ada Müller\\k\"\r\n  IdentityFile ~\\k\r\n  IdentityFile C:/k\r\n  \
         UserKnownHostsFile C:\\known ~\\own\r\n  IdentityAgent \\\\.\\pipe\\openssh-ssh-agent\r\n",
    );
    machine.write("home/.ssh/more", "User ada\r\n");
    machine.write("home/.ssh/b c/one", "Host box\r\n  Port 2222\r\n");
    let drive = machine.write("conf/drive", "Host box\r\n  HostKeyAlias drive\r\n");
    let other = drive.with_file_name("*").to_string_lossy().into_owned();
    let config = fs::read_to_string(machine.path("home/.ssh/config")).unwrap();
    machine.write(
        "home/.ssh/config",
        &format!("Include \"{other}\"\r\n{config}"),
    );
    let box_ = machine.resolve("box").unwrap();
    let settings = &box_.settings;
    let home = &machine.places.home;
    assert_eq!(
        box_.identity_files,
        [
            PathBuf::from(r"C:\Users\Ada\.ssh\k"),
            PathBuf::from(r"C:\Users\Ada Müller\k"),
            home.join("k"),
            PathBuf::from("C:/k"),
        ]
    );
    assert_eq!(
        settings.user_known_hosts_files,
        Some(vec![PathBuf::from(r"C:\known"), home.join("own")])
    );
    let IdentityAgent::Socket(pipe) = &settings.identity_agent else {
        panic!("{:?}", settings.identity_agent);
    };
    // As OpenSSH reads it; whoever opens it knows which pipe is meant.
    assert_eq!(pipe, std::path::Path::new(r"\.\pipe\openssh-ssh-agent"));
    assert_eq!(settings.host_key_alias.as_deref(), Some("drive"));
    assert_eq!((box_.port, box_.user.as_deref()), (Some(2222), Some("ada")));
}

#[test]
fn values_that_have_no_meaning_are_told_with_their_line_where_they_apply() {
    for (line, words) in [
        (
            "Port 0",
            "config:2:3: Port for host asked cannot be used: a port is",
        ),
        ("Port 70000", "a port is"),
        ("User a b", "goes on after the value"),
        ("User \"\"", "the value is empty"),
        ("User $(id)", "a user must not hold"),
        ("Hostname %p", "'%p'"),
        ("Hostname a;b", "an address must not hold"),
        ("IdentityFile %q", "'%q'"),
        ("IdentityFile a%", "'% '"),
        ("IdentityFile ${UNSET}/x", "\"UNSET\" is not set"),
        ("IdentityFile ${X", "is not closed"),
        ("IdentityFile ~bob/x", "another user"),
        ("UserKnownHostsFile known_hosts", "neither absolute nor"),
        ("GlobalKnownHostsFile ~/x", "neither absolute nor"),
        ("UserKnownHostsFile none /x", "'none' stands with"),
        ("StrictHostKeyChecking maybe", "none of the words"),
        ("HashKnownHosts 1", "neither 'yes' nor 'no'"),
        ("ConnectTimeout 1x", "a time is written"),
        ("ConnectionAttempts 0", "not a number"),
        ("Ciphers +a,,b", "an empty part"),
        ("ProxyJump a,,b", "an empty part"),
        ("ProxyJump ::1", "a hop is written"),
        ("ProxyJump %k", "'%k'"),
        ("HostKeyAlias a,b", "','"),
        (
            "ProxyCommand nc %h %p",
            "ProxyCommand for host asked is not supported: no command is run; name the hosts that the way leads through with ProxyJump",
        ),
        (
            "RevokedHostKeys /x",
            "RevokedHostKeys for host asked is not supported",
        ),
        ("CanonicalizeHostname yes", "write its full name"),
        ("BindAddress 10.0.0.1", "by another address"),
        ("Colour green", "unknown keyword \"colour\""),
    ] {
        let text = refused(&format!("Host box\n  {line}\n"), "box");
        assert!(text.contains(words), "{line}: {text}");
        assert!(!text.contains("10.0.0.1"), "{text}");
        let other = Machine::new(&format!("Host box\n  {line}\n")).resolve("other");
        assert!(other.is_ok(), "{line} for another host: {other:?}");
    }
}

#[test]
fn a_match_that_cannot_be_told_refuses_the_hosts_that_it_could_apply_to() {
    let config = "Match host box exec \"true\"\n  User x\nMatch final tagged work\n  Port 1\n";
    let text = refused(config, "box");
    assert!(
        text.contains("config:1:1: whether this Match applies") && text.contains("\"exec\""),
        "{text}"
    );
    let text = refused(config, "other");
    assert!(
        text.contains("config:3:1") && text.contains("\"tagged\""),
        "{text}"
    );
    let inner = Machine::new("Host box\n  Include never\n");
    inner.write("home/.ssh/never", "Match exec true\n  User x\n");
    assert!(
        inner.resolve("other").is_ok(),
        "a file that is never active decides nothing"
    );
    assert!(inner.resolve("box").is_err());
}

#[test]
fn unknown_keywords_pass_where_they_are_to_be_ignored() {
    assert!(
        resolve("IgnoreUnknown Use*,Col?ur\nColour green\nUser x", "box")
            .user
            .is_some()
    );
    let late = Machine::new("Colour green\nIgnoreUnknown *\n").resolve("box");
    assert!(matches!(late, Err(SshConfigError::UnknownKeyword { .. })));
}

#[test]
fn what_has_no_effect_is_named_once_unless_it_says_what_is_so() {
    let config = "Host box\n  ForwardAgent no\n  PermitLocalCommand yes\n  LocalForward 1 a:1\n  LocalForward 2 a:2\n\
                  StrictHostKeyChecking off\n  Compression yes\nHost *\n  ForwardAgent yes\n  StrictHostKeyChecking no\n\
                  RevokedHostKeys none\n";
    let host = resolve(config, "box");
    let notes: Vec<(&str, usize)> = host
        .notes
        .iter()
        .map(|note| (note.keyword, note.at.line))
        .collect();
    assert_eq!(
        notes,
        [
            ("PermitLocalCommand", 3),
            ("LocalForward", 4),
            ("StrictHostKeyChecking", 6),
            ("Compression", 7)
        ]
    );
    assert_eq!(
        host.settings.strict_host_key_checking,
        StrictHostKeyChecking::Ask
    );
    let new = resolve("StrictHostKeyChecking accept-new", "box");
    assert_eq!(
        new.settings.strict_host_key_checking,
        StrictHostKeyChecking::AcceptNew
    );
    assert!(new.notes.is_empty());
}

#[test]
fn methods_that_are_turned_off_are_not_tried() {
    for (config, expected) in [
        ("", None),
        ("PasswordAuthentication yes", None),
        (
            "PreferredAuthentications password,publickey",
            Some("password,publickey"),
        ),
        (
            "PasswordAuthentication no",
            Some("publickey,keyboard-interactive"),
        ),
        (
            "PubkeyAuthentication no\nPreferredAuthentications publickey,password",
            Some("password"),
        ),
        (
            "ChallengeResponseAuthentication no",
            Some("publickey,password"),
        ),
        ("PubkeyAuthentication unbound", None),
    ] {
        let methods = resolve(config, "box").settings.preferred_authentications;
        assert_eq!(
            methods.map(|list| list.join(",")).as_deref(),
            expected,
            "{config}"
        );
    }
}

#[test]
fn the_way_leads_through_every_hop_with_its_own_configuration() {
    let config = "Host box\n  User dev\n  Port 7\n  ProxyJump gw,eve@10.9.8.7:2222,ssh://inner.%h\n\
                  Host gw\n  Hostname gw.example\n  User jumper\n  ProxyJump outer\n  HostKeyAlias gate\n\
                  Host outer\n  Port 2200\nHost inner.*\n  ProxyJump ignored\n  IdentityFile /i\n";
    let machine = Machine::new(config);
    let host = machine.resolve("box").unwrap();
    let way: Vec<_> = host
        .jumps
        .iter()
        .map(|hop| {
            (
                hop.name.as_str(),
                hop.host.as_str(),
                hop.user.as_deref(),
                hop.port,
            )
        })
        .collect();
    assert_eq!(
        way,
        [
            ("asked.jump1", "outer", None, Some(2200)),
            ("gw", "gw.example", Some("jumper"), None),
            ("asked.jump3", "10.9.8.7", Some("eve"), Some(2222)),
            ("asked.jump4", "inner.box", None, None),
        ]
    );
    assert_eq!(
        host.jumps[1].settings.host_key_alias.as_deref(),
        Some("gate")
    );
    assert_eq!(host.jumps[3].identity_files, [machine.absolute("/i")]);
    assert!(host.jumps.iter().all(|hop| hop.jumps.is_empty()));
    for direct in [
        "ProxyJump none\nProxyJump gw",
        "ProxyCommand none\nProxyJump gw",
        "ProxyJump none\nProxyCommand nc %h",
    ] {
        assert!(resolve(direct, "box").jumps.is_empty(), "{direct}");
    }
    let first = "Host box\n  ProxyJump gw\n  ProxyCommand nc\n";
    assert_eq!(resolve(first, "box").jumps.len(), 1);
}

#[test]
fn a_hop_goes_by_its_alias_where_that_means_it_and_by_no_address() {
    for (config, names) in [
        (
            "Host gw\n  Hostname gw.example\nHost box\n  ProxyJump gw\n",
            "gw",
        ),
        // What is no alias is an address, though a `Host` line has it.
        (
            "Host bastion.corp.example\n  User ada\nHost box\n  ProxyJump bastion.corp.example\n",
            "asked.jump1",
        ),
        (
            "Host 10.0.0.9\n  User ada\nHost box\n  ProxyJump 10.0.0.9\n",
            "asked.jump1",
        ),
        (
            "Host 10.0.0.9\n  Hostname 10.0.0.10\nHost box\n  ProxyJump 10.0.0.9\n",
            "asked.jump1",
        ),
        (
            "Host gw.example\n  Hostname %h\nHost box\n  ProxyJump gw.example\n",
            "asked.jump1",
        ),
        (
            "Host 127.1\n  User ada\nHost box\n  ProxyJump 127.1\n",
            "asked.jump1",
        ),
        // By itself, b is dialled from here.
        (
            "Host a b\n  Hostname %h.example\nHost box\n  ProxyJump a,b\n",
            "a asked.jump2",
        ),
        (
            "Host a b\n  Hostname %h.example\nHost b\n  ProxyJump a\nHost box\n  ProxyJump a,b\n",
            "a b",
        ),
        (
            "Host a b\n  Hostname %h.example\nHost b\n  ProxyCommand nc\nHost box\n  ProxyJump a,b\n",
            "a asked.jump2",
        ),
        (
            "Host b\n  Hostname b.example\nHost box\n  ProxyJump b:2222\n",
            "asked.jump1",
        ),
        (
            "Host b\n  Hostname b.example\n  User ada\nHost box\n  ProxyJump eve@b\n",
            "asked.jump1",
        ),
    ] {
        let host = resolve(config, "box");
        let called: Vec<&str> = host.jumps.iter().map(|hop| hop.name.as_str()).collect();
        assert_eq!(called.join(" "), names, "{config}");
    }
}

#[test]
fn a_way_without_end_is_refused() {
    for config in [
        "Host *\n  ProxyJump gw\n",
        "Host box\n  ProxyJump a\nHost a\n  ProxyJump b\nHost b\n  ProxyJump box\n",
        "Host box\n  ProxyJump a,box\n",
        "Host box\n  Hostname real\n  ProxyJump real\n",
        "Host box\n  User dev\n  ProxyJump dev@box:22\n",
        "Host *\n  ProxyJump x.%h\n",
    ] {
        let text = refused(config, "box");
        assert!(
            text.contains("the ProxyJump of host asked does not end"),
            "{config}: {text}"
        );
    }
    let again = "Host box\n  ProxyJump a,b,root@box\nHost a b\n  Hostname 10.0.0.1\n";
    assert_eq!(
        resolve(again, "box").jumps.len(),
        3,
        "one address in two networks"
    );
    let config = "Host gw\n  ProxyJump none\nHost *\n  ProxyJump gw\n";
    assert_eq!(resolve(config, "box").jumps.len(), 1);
    assert!(resolve(config, "gw").jumps.is_empty());
}

#[test]
fn the_names_are_those_that_a_host_line_means() {
    let machine = Machine::new(
        "Host box b? *.x !no web box\nhost=eq\nHost gone !gone\nHost user@x a/b -x \"q\"\nMatch all\n  Include more\n\
         Match user x\n  Include more2\n",
    );
    machine.write("home/.ssh/more", "Host more\n");
    machine.write("home/.ssh/more2", "Host more2\n");
    assert_eq!(machine.names(), ["box", "eq", "more", "q", "web"]);
    let config = machine.load();
    let places: BTreeMap<_, _> = config.hosts().collect();
    assert_eq!(places[&"box".parse::<HostName>().unwrap()].line, 1);
}

#[test]
fn whatever_is_no_line_fails_the_whole() {
    for (config, line) in [
        ("Host a\n  User \"x\n", 2),
        ("Port\n", 1),
        ("\nMatch host\n", 2),
        ("User \u{0}", 1),
    ] {
        let machine = Machine::new(config);
        let error = SshConfig::load(&machine.places, &machine.local())
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with(&format!("config:{line}:1")),
            "{config:?}: {error}"
        );
    }
}

/// A line of a configuration that is often one.
fn line() -> impl Strategy<Value = String> {
    let keyword = prop_oneof![
        Just("Host"),
        Just("Match"),
        Just("User"),
        Just("Port"),
        Just("Hostname"),
        Just("IdentityFile"),
        Just("ProxyJump"),
        Just("ProxyCommand"),
        Just("IdentityAgent"),
        Just("UserKnownHostsFile"),
        Just("ConnectTimeout"),
        Just("Ciphers"),
        Just("StrictHostKeyChecking"),
        Just("ForwardAgent"),
        Just("Colour"),
        Just("IgnoreUnknown"),
        Just("HostKeyAlias"),
        Just("RevokedHostKeys"),
    ];
    let value = prop_oneof![
        4 => prop_oneof![
            Just("box"), Just("*"), Just("!box *"), Just("all"), Just("final"), Just("host box"), Just("user root"),
            Just("22"), Just("none"), Just("%h.lan"), Just("~/%r"), Just("gw"), Just("gw,box"), Just("yes"), Just("+x"),
            Just("exec true"), Just("${HOME}"), Just("\"a b\" # c"), Just("1m"),
        ].prop_map(str::to_owned),
        1 => "[ -~]{0,12}",
        1 => "\\PC{0,6}",
    ];
    (
        keyword,
        prop_oneof![Just(" "), Just("="), Just("\t")],
        value,
    )
        .prop_map(|(keyword, space, value)| format!("{keyword}{space}{value}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn resolving_never_panics_and_gives_the_same_again(lines in proptest::collection::vec(line(), 0..12)) {
        let machine = Machine::new(&lines.join("\n"));
        if let Ok(config) = SshConfig::load(&machine.places, &machine.local()) {
            let name: HostName = "box".parse().unwrap();
            let ask = || config.resolve(&name, &"box".parse().unwrap(), &machine.local());
            prop_assert_eq!(format!("{:?}", ask()), format!("{:?}", ask()));
        }
    }

    #[test]
    fn bytes_of_any_kind_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let machine = Machine::new("");
        crate::private_fs::write_atomic(&machine.path("home/.ssh/config"), &bytes).unwrap();
        if SshConfig::load(&machine.places, &machine.local()).is_ok() {
            let _ = machine.resolve("box");
        }
    }

    #[test]
    fn no_later_line_changes_a_value(
        first in "[a-z]{1,8}", later in proptest::collection::vec("[a-z]{1,8}", 0..6), port in 1u16..,
    ) {
        let mut config = format!("User {first}\nPort {port}\nHostKeyAlias {first}\n");
        for other in &later {
            config.push_str(&format!("Host *\n  User {other}\n  Port 9\n  HostKeyAlias {other}\n"));
        }
        let host = resolve(&config, "box");
        prop_assert_eq!(host.user, Some(first.clone()));
        prop_assert_eq!(host.port, Some(port));
        prop_assert_eq!(host.settings.host_key_alias, Some(first));
    }
}
