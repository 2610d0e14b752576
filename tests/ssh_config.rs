//! What our reader makes of an ssh_config, held against what `ssh -G` says of the same file.
//!
//! `ssh -G` prints what it would connect with, and not always in the form that it would use; what is put right here
//! before both are compared:
//!
//! - defaults: where nothing is configured ours is silent, and `ssh` prints the port, the user, the identity files and
//!   so on that it has by default. Those of a file without a line are taken for "nothing is configured"; default lists
//!   of algorithms are what `+`, `-` and `^` are applied to.
//! - `IdentityFile` and `CertificateFile` are printed as they stand in the file. `~`, tokens and variables are put in
//!   here, with what `ssh` itself printed as the host, the user and the port. `none` is left out. (Tokens in
//!   `UserKnownHostsFile` and `IdentityAgent` are put in by `ssh`.)
//! - `IdentityAgent $NAME` is printed as it stands.
//! - `StrictHostKeyChecking no` is `false` for `ssh` and `ask` for us. `PubkeyAuthentication no` and its like are flags
//!   for `ssh`, and take methods out of the list for us.
//! - `ConnectTimeout 0` and `none` are no bound, `ServerAliveInterval 0` is what is there without it.
//! - `ProxyJump` is printed as it stands; each hop is asked of `ssh -G` by itself, as `ssh` does when it runs itself for
//!   the hop: with its own `ProxyJump` for the first hop alone.
//! - The home is the one of the user database, whatever `HOME` says: ours is given that one.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

#[path = "support/login.rs"]
#[expect(dead_code, reason = "shared with other test binaries")]
mod login;
#[path = "support/sshd.rs"]
#[expect(dead_code, reason = "shared with other test binaries")]
mod sshd;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use handover::hosts::{
    Address, AlgorithmList, HostName, IdentityAgent, ListChange, LocalMachine, Places,
    ResolvedHost, SshConfig, StrictHostKeyChecking,
};

/// Keywords in lower case, as `ssh -G` prints them, and what is compared of each.
type Facts = BTreeMap<&'static str, Vec<String>>;

/// The variables that both sides have.
const ENVIRONMENT: [(&str, &str); 2] = [("KEYS", "/keys dir/%h"), ("SOCK", "/run/agent.sock")];

/// A directory with configurations, and this machine's user.
struct Bench {
    directory: tempfile::TempDir,
    home: PathBuf,
    defaults: Printed,
}

/// What `ssh -G` printed.
#[derive(Clone, Default)]
struct Printed(BTreeMap<String, Vec<String>>);

impl Printed {
    fn all(&self, keyword: &str) -> Vec<String> {
        self.0.get(keyword).cloned().unwrap_or_default()
    }

    fn one(&self, keyword: &str) -> String {
        self.all(keyword).first().cloned().unwrap_or_default()
    }
}

impl Bench {
    fn new() -> Self {
        let user = whoami::username().unwrap();
        let database = std::fs::read_to_string("/etc/passwd").unwrap();
        let line = database
            .lines()
            .find(|line| line.split(':').next() == Some(user.as_str()))
            .expect("the user is in /etc/passwd");
        let home = PathBuf::from(line.split(':').nth(5).unwrap());
        let mut bench = Self {
            directory: tempfile::tempdir().unwrap(),
            home,
            defaults: Printed::default(),
        };
        bench.write("config", "");
        bench.defaults = bench.ssh("x", None, None).expect("an empty file is good");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file; `@/` in it stands for the directory.
    fn write(&self, name: &str, text: &str) {
        let directory = format!("{}/", self.directory.path().display());
        let path = self.path(name);
        std::fs::write(&path, text.replace("@/", &directory)).unwrap();
        // Whatever the umask, nobody else may write it.
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, private).unwrap();
    }

    /// What `ssh -G` says of a host; its complaint, where it has one.
    fn ssh(&self, host: &str, user: Option<&str>, port: Option<u16>) -> Result<Printed, String> {
        let mut command = Command::new("ssh");
        command.arg("-G").arg("-F").arg(self.path("config"));
        if let Some(user) = user {
            command.arg("-l").arg(user);
        }
        if let Some(port) = port {
            command.arg("-p").arg(port.to_string());
        }
        let output = command
            .arg("--")
            .arg(host)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .envs(ENVIRONMENT)
            .current_dir(self.directory.path())
            .stdin(std::process::Stdio::null())
            .output()
            .expect("ssh can be run");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let mut printed = Printed::default();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
            let values = printed.0.entry(keyword.to_owned()).or_default();
            values.push(value.to_owned());
        }
        Ok(printed)
    }

    /// What our reader says of it.
    fn ours(
        &self,
        host: &str,
        user: Option<&str>,
        port: Option<u16>,
    ) -> Result<ResolvedHost, String> {
        let lookup = |key: &str| -> Option<OsString> {
            match key {
                "HOME" => Some(self.home.clone().into()),
                "HANDOVER_SSH_CONFIG" => Some(self.path("config").into()),
                _ => None,
            }
        };
        let places = Places::from_lookup(lookup, self.directory.path()).unwrap();
        let local = LocalMachine::of(&places).with_environment(|name| {
            let found = ENVIRONMENT.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        let config = SshConfig::load(&places, &local).map_err(|error| error.to_string())?;
        let name: HostName = "asked".parse().unwrap();
        let address = Address::new(host, user, port).unwrap();
        config
            .resolve(&name, &address, &local)
            .map_err(|error| error.to_string())
    }

    /// What `ssh` says, in the form that is compared: the hops, and the host last. `levels`: how deep hops may have
    /// hops; `ssh` itself would go on for ever.
    fn expected(
        &self,
        host: &str,
        user: Option<&str>,
        port: Option<u16>,
        levels: usize,
    ) -> Result<Vec<Facts>, String> {
        if levels == 0 {
            return Err("a circle".to_owned());
        }
        let printed = self.ssh(host, user, port)?;
        let mut way = Vec::new();
        let jump = printed.one("proxyjump");
        for (index, hop) in jump.split(',').filter(|hop| !hop.is_empty()).enumerate() {
            let hop = self.expand(hop, &printed, host);
            let address: Address = hop
                .trim_start_matches("ssh://")
                .parse()
                .expect("a hop of these tests");
            let (host, user, port) = (address.host(), address.user(), address.port());
            if index == 0 {
                way = self.expected(host, user, port, levels - 1)?;
            } else {
                way.push(self.facts_of_ssh(&self.ssh(host, user, port)?, host));
            }
        }
        way.push(self.facts_of_ssh(&printed, host));
        Ok(way)
    }

    fn facts_of_ssh(&self, printed: &Printed, asked: &str) -> Facts {
        let configured = |keyword: &'static str| {
            let (value, default) = (printed.all(keyword), self.defaults.all(keyword));
            (keyword, if value == default { Vec::new() } else { value })
        };
        let files = |keyword: &'static str| {
            let (keyword, files) = configured(keyword);
            let real = files.iter().filter(|file| *file != "none");
            let paths = real.map(|file| {
                let path = self.expand(file, printed, asked);
                self.directory.path().join(path).display().to_string()
            });
            (keyword, paths.collect::<Vec<_>>())
        };
        let mut facts = Facts::from([
            files("identityfile"),
            files("certificatefile"),
            configured("userknownhostsfile"),
            configured("globalknownhostsfile"),
            configured("hostkeyalias"),
            configured("identitiesonly"),
            configured("hashknownhosts"),
            configured("stricthostkeychecking"),
            configured("requiredrsasize"),
            configured("connecttimeout"),
            configured("connectionattempts"),
            configured("serveraliveinterval"),
            configured("serveralivecountmax"),
            configured("identityagent"),
        ]);
        for keyword in [
            "hostname",
            "user",
            "port",
            "ciphers",
            "hostkeyalgorithms",
            "pubkeyacceptedalgorithms",
            "kexalgorithms",
            "macs",
            "casignaturealgorithms",
        ] {
            facts.insert(keyword, printed.all(keyword));
        }
        let none = configured("identityfile")
            .1
            .iter()
            .all(|file| file == "none")
            && !configured("identityfile").1.is_empty();
        facts.insert("no identity files", vec![none.to_string()]);
        if facts["stricthostkeychecking"] == ["false"] {
            facts.insert("stricthostkeychecking", Vec::new());
        }
        if printed.one("connecttimeout") == "0" {
            facts.insert("connecttimeout", Vec::new());
        }
        // Files are printed on one line; no name of these tests holds a blank.
        for keyword in ["userknownhostsfile", "globalknownhostsfile"] {
            let line = facts[keyword].concat();
            let files = line.split_whitespace().map(str::to_owned);
            facts.insert(keyword, files.collect());
        }
        match printed.one("identityagent").as_str() {
            "$SOCK" => drop(facts.insert("identityagent", vec!["/run/agent.sock".to_owned()])),
            "$UNSET" => drop(facts.insert("identityagent", vec!["none".to_owned()])),
            "SSH_AUTH_SOCK" | "$SSH_AUTH_SOCK" => drop(facts.insert("identityagent", Vec::new())),
            _ => {}
        }
        let preferred = printed.one("preferredauthentications");
        let off = |method: &str| {
            let keyword = match method {
                "publickey" => "pubkeyauthentication",
                "password" => "passwordauthentication",
                "keyboard-interactive" => "kbdinteractiveauthentication",
                _ => return false,
            };
            matches!(printed.one(keyword).as_str(), "no" | "false")
        };
        let all = ["publickey", "keyboard-interactive", "password"];
        let methods: Vec<&str> = if preferred.is_empty() {
            all.to_vec()
        } else {
            preferred.split(',').collect()
        };
        let kept = methods.into_iter().filter(|method| !off(method));
        facts.insert("methods", kept.map(str::to_owned).collect());
        facts
    }

    /// Puts in what stands in a value, with `ssh`'s own words for the host.
    fn expand(&self, value: &str, printed: &Printed, asked: &str) -> String {
        let home = self.home.display().to_string();
        let mut text = String::new();
        let value = value.strip_prefix("~/").map_or(value.to_owned(), |rest| {
            text = format!("{home}/");
            rest.to_owned()
        });
        let value = ENVIRONMENT.iter().fold(value, |value, (name, content)| {
            value.replace(&format!("${{{name}}}"), &content.replace('%', "%%"))
        });
        let mut characters = value.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                text.push(character);
                continue;
            }
            match characters.next().expect("a token") {
                '%' => text.push('%'),
                'h' => text.push_str(&printed.one("hostname")),
                'n' => text.push_str(asked),
                'r' => text.push_str(&printed.one("user")),
                'p' => text.push_str(&printed.one("port")),
                'd' => text.push_str(&home),
                'u' => text.push_str(&whoami::username().unwrap()),
                other => panic!("%{other} is no token of these tests"),
            }
        }
        text
    }

    fn facts_of_ours(&self, host: &ResolvedHost) -> Facts {
        let paths = |files: &[PathBuf]| -> Vec<String> {
            files
                .iter()
                .map(|file| file.display().to_string())
                .collect()
        };
        let known = |files: &Option<Vec<PathBuf>>| match files {
            None => Vec::new(),
            Some(files) if files.is_empty() => vec!["none".to_owned()],
            Some(files) => paths(files),
        };
        let flag = |on: bool| {
            if on {
                vec!["yes".to_owned()]
            } else {
                Vec::new()
            }
        };
        let number = |number: Option<u64>, default: u64| {
            let number = number.filter(|number| *number != default);
            number
                .map(|number| number.to_string())
                .into_iter()
                .collect()
        };
        let settings = &host.settings;
        let local = whoami::username().unwrap();
        let strict = match settings.strict_host_key_checking {
            StrictHostKeyChecking::Yes => vec!["true".to_owned()],
            StrictHostKeyChecking::AcceptNew => vec!["accept-new".to_owned()],
            _ => Vec::new(),
        };
        let agent = match &settings.identity_agent {
            IdentityAgent::None => vec!["none".to_owned()],
            IdentityAgent::Socket(path) => vec![path.display().to_string()],
            _ => Vec::new(),
        };
        let methods = settings.preferred_authentications.clone();
        let methods = methods.unwrap_or_else(|| {
            ["publickey", "keyboard-interactive", "password"]
                .map(str::to_owned)
                .to_vec()
        });
        Facts::from([
            ("hostname", vec![host.host.clone()]),
            ("user", vec![host.user.clone().unwrap_or(local)]),
            ("port", vec![host.port.unwrap_or(22).to_string()]),
            ("identityfile", paths(&host.identity_files)),
            (
                "no identity files",
                vec![settings.no_identity_files.to_string()],
            ),
            ("certificatefile", paths(&settings.certificate_files)),
            (
                "userknownhostsfile",
                known(&settings.user_known_hosts_files),
            ),
            (
                "globalknownhostsfile",
                known(&settings.global_known_hosts_files),
            ),
            (
                "hostkeyalias",
                settings.host_key_alias.clone().into_iter().collect(),
            ),
            ("identitiesonly", flag(settings.identities_only)),
            ("hashknownhosts", flag(settings.hash_known_hosts)),
            ("stricthostkeychecking", strict),
            ("identityagent", agent),
            ("methods", methods),
            (
                "kexalgorithms",
                self.assembled("kexalgorithms", &settings.kex_algorithms),
            ),
            ("macs", self.assembled("macs", &settings.macs)),
            (
                "casignaturealgorithms",
                self.assembled("casignaturealgorithms", &settings.ca_signature_algorithms),
            ),
            (
                "requiredrsasize",
                number(settings.required_rsa_size.map(u64::from), 1024),
            ),
            (
                "connecttimeout",
                number(settings.connect_timeout.map(|time| time.as_secs()), 0),
            ),
            (
                "connectionattempts",
                number(settings.connection_attempts.map(u64::from), 1),
            ),
            (
                "serveraliveinterval",
                number(settings.server_alive_interval.map(|time| time.as_secs()), 0),
            ),
            (
                "serveralivecountmax",
                number(settings.server_alive_count_max.map(u64::from), 3),
            ),
            ("ciphers", self.assembled("ciphers", &settings.ciphers)),
            (
                "hostkeyalgorithms",
                self.assembled("hostkeyalgorithms", &settings.host_key_algorithms),
            ),
            (
                "pubkeyacceptedalgorithms",
                self.assembled(
                    "pubkeyacceptedalgorithms",
                    &settings.pubkey_accepted_algorithms,
                ),
            ),
        ])
    }

    /// The list that comes of the default one; the patterns of these tests end in `*`.
    fn assembled(&self, keyword: &str, list: &Option<AlgorithmList>) -> Vec<String> {
        let default = self.defaults.one(keyword);
        let default: Vec<&str> = default.split(',').collect();
        let Some(list) = list else {
            return vec![default.join(",")];
        };
        let names: Vec<&str> = list.names.iter().map(String::as_str).collect();
        let named = |name: &&str| {
            let matches = |pattern: &&str| match pattern.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == pattern,
            };
            names.iter().any(matches)
        };
        let mut assembled: Vec<&str> = match list.change {
            ListChange::Replace => names.clone(),
            ListChange::Append => default.iter().chain(&names).copied().collect(),
            ListChange::Prepend => names.iter().chain(&default).copied().collect(),
            ListChange::Remove => default
                .iter()
                .filter(|name| !named(name))
                .copied()
                .collect(),
        };
        let mut seen = Vec::new();
        assembled.retain(|name| {
            let new = !seen.contains(name);
            seen.push(*name);
            new
        });
        vec![assembled.join(",")]
    }

    /// Compares what both say of a host; `config` is what was written.
    #[track_caller]
    fn compare(&self, config: &str, host: &str, user: Option<&str>, port: Option<u16>) {
        let told = format!("{host} {user:?} {port:?} with\n{config}");
        let expected = match self.expected(host, user, port, 8) {
            Ok(expected) => expected,
            Err(complaint) if complaint == "a circle" || complaint.contains("jumphost loop") => {
                let ours = self.ours(host, user, port);
                assert!(ours.unwrap_err().contains("does not end"), "{told}");
                return;
            }
            Err(complaint) => panic!("ssh -G refuses {told}\n{complaint}"),
        };
        let ours = match self.ours(host, user, port) {
            Ok(ours) => ours,
            Err(error) => panic!("we refuse {told}\n{error}"),
        };
        let way = ours.jumps.iter().chain([&ours]);
        let way: Vec<Facts> = way.map(|host| self.facts_of_ours(host)).collect();
        assert_eq!(way.len(), expected.len(), "another way to {told}");
        for (ours, expected) in way.iter().zip(&expected) {
            for (keyword, value) in expected {
                assert_eq!(&ours[keyword], value, "{keyword} of {told}");
            }
            assert_eq!(ours.len(), expected.len());
        }
    }
}

/// Configurations that somebody thought of.
const BY_HAND: &[&str] = &[
    "",
    "Host box\n  Hostname Box.Example\n  User dev\n  Port 2222\n",
    "Host box web\nUser a\nHost *\nUser b\nPort 5\n",
    "Host * !box\n  User notbox\nHost !web b?x\n  User first\n  Port 3\n",
    "HOST=box\nUSER=dev\n  port = 22022\n\thostname\t\"quoted.example\"\n",
    "Host box # web\n  User dev # root\n  IdentityFile /a#b\n",
    "Host box\r\n  User dev\r\n  Port 7\r\n\r\n",
    "Hostname %h.lan\nHost box\nHostname never\n",
    "Host b*\n  Hostname %h.%h.example\nMatch host box.box.example\n  User matched\nMatch host box\n  Port 1\n",
    "Match originalhost box\n  User o\nMatch !originalhost box\n  User n\n",
    "Match host BOX,web\n  User upper\nMatch originalhost WEB\n  Port 4\n",
    "Match user root,dev\n  Port 11\nHost *\n  User dev\nMatch user dev\n  ConnectTimeout 5\n",
    "Match localuser nobody-has-this\n  User x\nMatch !localuser nobody-has-this\n  User y\n",
    "Match all\n  User everybody\nMatch !all\n  Port 9\n",
    "Match host \"*,!box\" user *\n  User listed\n",
    "Match final\n  User late\nHost box\n  User early\n",
    "Host box\n  Hostname real.example\nMatch final host real.example\n  Port 99\n  Hostname other\nMatch host other\n  User no\n",
    "Match !final\n  User early\nMatch final all\n  Port 9\n",
    "Match canonical\n  User never\nMatch canonical final\n  Port 1\nMatch canonical all\n  ConnectTimeout 3\n",
    "Host box\nMatch final host box originalhost box user *\n  IdentityFile /final\nHost box\n  IdentityFile /early\n",
    "Include @/one @/two\nUser top\nHost box\n  Port 1\n",
    "Host box\n  Include @/one\n  Port 1\nHost *\n  Include @/two\n",
    "Include @/glob*\nHost *\n  User last\n",
    "Include @/missing @/nothing*\nUser x\n",
    "Match host web\n  Include @/final\nHost *\n  User x\n",
    "IdentityFile ~/.ssh/%h-%r\nIdentityFile /a/%n/%p/%u/%d/%%\nIdentityFile ~/.ssh/%h-%r\nHost box\nUser dev\nPort 9\n",
    "IdentityFile none\n",
    "IdentityFile none\nHost box\n  IdentityFile /k\n",
    "IdentityFile ${KEYS}/id\nIdentityFile \"/with blank/x\"\nIdentityFile /with\\ blank/y\nIdentityFile relative/z\n",
    "CertificateFile ~/cert-%h\nCertificateFile /c/two\nIdentitiesOnly yes\n",
    "IdentityAgent none\n",
    "IdentityAgent SSH_AUTH_SOCK\n",
    "IdentityAgent ${SOCK}.%n\nIdentityAgent none\n",
    "IdentityAgent ~/a/%r/%h\nUser dev\n",
    "IdentityAgent $SOCK\n",
    "IdentityAgent $UNSET\n",
    "UserKnownHostsFile ~/k /k/%h/%n/%r/%p/%u/%i/%L/%l/%k/%C ${SOCK}\nGlobalKnownHostsFile /g1 /g2\nUserKnownHostsFile /later\n",
    "UserKnownHostsFile none\nGlobalKnownHostsFile none\n",
    "Host box\n  HostKeyAlias Gate-Way\n  UserKnownHostsFile /k/%k\n",
    "StrictHostKeyChecking yes\n",
    "StrictHostKeyChecking off\nHashKnownHosts yes\n",
    "Host box\nStrictHostKeyChecking accept-new\nHost *\nStrictHostKeyChecking no\n",
    "Ciphers aes256-ctr,aes128-ctr\nHostKeyAlgorithms ssh-ed25519\nPubkeyAcceptedAlgorithms rsa-sha2-512\n",
    "Ciphers ^aes256-ctr\nHostKeyAlgorithms +ssh-rsa\nPubkeyAcceptedKeyTypes ^ssh-ed25519\n",
    "Ciphers -chacha*,aes128-ctr\nHostKeyAlgorithms -ecdsa*\nPubkeyAcceptedAlgorithms -rsa*,sk-ssh*\n",
    "KexAlgorithms ^curve25519-sha256\nMACs -umac*,hmac-sha1\nCASignatureAlgorithms ssh-ed25519\nRequiredRSASize 2048\n",
    "KexAlgorithms -diffie*\nMACs hmac-sha2-256\nCASignatureAlgorithms -rsa*\nRequiredRSASize 4096\n",
    "Protocol 2,1\nRSAAuthentication yes\nUseRoaming no\nCipher 3des\nCompressionLevel 9\nUser x\n",
    "ConnectTimeout 1h2m3s\nServerAliveInterval 1M30\nServerAliveCountMax 7\nConnectionAttempts 4\n",
    "ConnectTimeout none\nConnectTimeout 9\nServerAliveInterval none\nServerAliveInterval 2\n",
    "ConnectTimeout 0\nConnectTimeout 9\nServerAliveInterval 0\nServerAliveInterval 2\nServerAliveCountMax 0\n",
    "PreferredAuthentications password,publickey\nPasswordAuthentication no\n",
    "PubkeyAuthentication no\nChallengeResponseAuthentication no\n",
    "PubkeyAuthentication unbound\nKbdInteractiveAuthentication yes\n",
    "Host box\n  ProxyJump gw\nHost gw\n  User jumper\n  Port 2200\n  IdentityFile ~/gw\n",
    "Host box\n  ProxyJump a,eve@b:2222,ssh://c.x:44\nHost a\n  ProxyJump zero\nHost b c.*\n  ProxyJump not-used\n  User own\n",
    "Host box\n  ProxyJump %r@gw-%h # comment\n  User dev\n",
    "Host box\n  ProxyJump none\nHost *\n  ProxyJump gw\nHost gw\n  Port 1\nHost web\n  ProxyJump none\nMatch originalhost gw\n",
    "Host box\n  ProxyJump [::1]:22\nMatch host ::1\n  User six\n",
    "Host box\n  Hostname 2001:DB8:0:0::0005\nMatch host 2001:db8::5\n  IdentityFile /of/%h\n",
    "Host box\n  Hostname 127.1\n  ProxyJump 0x7f.2\nMatch host 127.0.0.*\n  User six\n",
    "Host box\n  Hostname 10.0.0.09\nMatch final host 10.0.0.09\n  User six\n",
    "Host box\n  ProxyCommand none\n  ProxyJump gw\n",
    "Host box\n  ProxyJump gw\n  ProxyCommand nc %h %p\n",
    "Port 022\nHost 1?.0.0.1 10.0.0.*\nUser ip\n",
    "\u{feff}",
    "IgnoreUnknown Colo?r,USE*\nColour green\nUseKeychain yes\nUser x\n",
    "Host box\nUser \"do\\\\main\"\n",
    "\"Host\" \"box\"\n\"User\" \"dev\"\n",
    "Host 'box' \"web\"\nUser both\n",
    "   \t\nHost\tbox\n\tUser\tdev\t\n# end",
];

#[test]
#[ignore = "needs ssh"]
fn configurations_by_hand_mean_what_they_mean_to_ssh() {
    let bench = Bench::new();
    bench.write(
        "one",
        "User one\nHost web\n  Port 11\nHost box\n  ConnectTimeout 1\n",
    );
    bench.write(
        "two",
        "Match host box\n  HostKeyAlias two\n  Include @/three\nMatch all\n  Port 12\n",
    );
    bench.write("three", "ServerAliveInterval 3\n");
    bench.write("globA", "User a\n");
    bench.write("globB", "User b\nPort 13\n");
    bench.write("final", "Match final\n  Port 14\n");
    for config in BY_HAND {
        bench.write("config", config);
        // ssh takes a byte order mark for a part of the first keyword.
        if config.starts_with('\u{feff}') {
            assert!(bench.ours("box", None, None).is_ok());
            continue;
        }
        for (host, user, port) in [
            ("box", None, None),
            ("web", Some("root"), None),
            ("10.0.0.1", None, Some(4444)),
            ("Box", Some("dev"), Some(22)),
        ] {
            bench.compare(config, host, user, port);
        }
    }
}

#[test]
#[ignore = "needs ssh"]
fn what_ssh_refuses_we_refuse() {
    let bench = Bench::new();
    for line in [
        "Port 0",
        "Port x",
        "Port 65536",
        "Port",
        "Port 1 2",
        "User \"a",
        "User 'a",
        "User \"\"",
        "Host \"\"",
        "Match",
        "Match host",
        "Match all host x",
        "Match user x host y all",
        "ConnectTimeout 1x",
        "ConnectTimeout -1",
        "ConnectionAttempts x",
        "ServerAliveCountMax 1m",
        "StrictHostKeyChecking maybe",
        "IdentitiesOnly 1",
        "HashKnownHosts perhaps",
        "UserKnownHostsFile none /x",
        "UserKnownHostsFile ${UNSET}/x",
        "UserKnownHostsFile /%q",
        "Hostname %p",
        "Hostname a b",
        "ProxyJump a,,b",
        "ProxyJump @b",
        "ProxyJump b:0",
        "ProxyJump ::1",
        "Colour green",
        "Include \"\"",
        "PreferredAuthentications a b",
        "Match version x",
        "IdentityAgent ${UNSET}",
    ] {
        let config = format!("Host *\n{line}\n");
        bench.write("config", &config);
        assert!(bench.ssh("box", None, None).is_err(), "ssh takes {line:?}");
        assert!(bench.ours("box", None, None).is_err(), "we take {line:?}");
    }
}

/// A sequence of numbers that a seed begins (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % bound
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

fn setting(dice: &mut Dice, may_jump: bool) -> String {
    let (keyword, values): (&str, &[&str]) = match dice.below(if may_jump { 22 } else { 21 }) {
        0 => ("User", &["ada", "bob", "\"eve\"", "root"]),
        1 => ("Port", &["22", "2222", "022", "65535"]),
        2 | 3 => (
            "HostName",
            &["real.example", "%h.lan", "10.0.0.9", "Web", "::1", "a%h"],
        ),
        4 => (
            "IdentityFile",
            &["~/k/%h", "/k/%r", "none", "${KEYS}/x", "\"/a b/c\"", "rel"],
        ),
        5 => ("IdentitiesOnly", &["yes", "no", "TRUE", "False"]),
        6 => ("CertificateFile", &["~/c", "/c/%p"]),
        7 => (
            "IdentityAgent",
            &["none", "SSH_AUTH_SOCK", "$SOCK", "~/a%n", "${SOCK}"],
        ),
        8 => (
            "UserKnownHostsFile",
            &["~/u", "/u/%h /v/%k", "none", "/%C/%n/%p"],
        ),
        9 => ("GlobalKnownHostsFile", &["/g", "/g /h", "none"]),
        10 => ("HostKeyAlias", &["alias", "Alias2", "a.b"]),
        11 => (
            "StrictHostKeyChecking",
            &["yes", "no", "ask", "accept-new", "off"],
        ),
        12 => ("HashKnownHosts", &["yes", "no"]),
        13 => (
            "HostKeyAlgorithms",
            &[
                "+ssh-rsa",
                "-ecdsa*",
                "^rsa-sha2-512",
                "ssh-ed25519,rsa-sha2-256",
            ],
        ),
        14 => (
            "Ciphers",
            &["-aes*", "^aes256-ctr", "aes128-ctr", "+aes128-cbc"],
        ),
        15 => (
            "PubkeyAcceptedAlgorithms",
            &["+ssh-rsa", "-sk-*", "ssh-ed25519"],
        ),
        16 => ("ConnectTimeout", &["5", "1m", "none", "0", "1h1"]),
        17 => ("ConnectionAttempts", &["1", "3"]),
        18 => ("ServerAliveInterval", &["0", "15", "1m30s", "none"]),
        19 => ("ServerAliveCountMax", &["0", "3", "5"]),
        20 => (
            "PreferredAuthentications",
            &["publickey", "password,publickey", "hostbased,publickey"],
        ),
        _ => (
            "ProxyJump",
            &["gw1", "ann@gw2:2022", "gw1,gw2", "none", "ssh://gw2:23"],
        ),
    };
    let keyword = match dice.below(4) {
        0 => keyword.to_lowercase(),
        1 => keyword.to_uppercase(),
        _ => keyword.to_owned(),
    };
    let value = dice.one(values);
    let between = dice.one(&[" ", " ", "=", " = ", "\t"]);
    let end = dice.one(&["", "", " ", " # box", "\r"]);
    format!("  {keyword}{between}{value}{end}\n")
}

/// A block, and whether its hosts are none that a way leads through.
fn header(dice: &mut Dice) -> (String, bool) {
    match dice.below(6) {
        0 => (
            format!(
                "Host {}\n",
                dice.one(&["box", "web", "box web", "web !box", "!box web"])
            ),
            true,
        ),
        1 => (
            format!(
                "Host {}\n",
                dice.one(&[
                    "*", "b*", "?ox", "* !box", "10.0.0.?", "gw*", "gw1", "!web *"
                ])
            ),
            false,
        ),
        2 => {
            let line = dice.one(&[
                "all",
                "!all",
                "host box",
                "host *.lan",
                "host real.example,Web",
                "!host box",
                "host=box",
                "host \"b*,!x\"",
            ]);
            (format!("Match {line}\n"), false)
        }
        3 => {
            let line = dice.one(&[
                "user ada",
                "user root,bob host *",
                "!user eve",
                "localuser nobody",
                "!localuser nobody",
                "originalhost box",
                "originalhost WEB,gw1",
                "!originalhost w* user *",
            ]);
            (format!("Match {line}\n"), false)
        }
        4 => (
            format!(
                "Match {}\n",
                dice.one(&[
                    "final",
                    "!final",
                    "final host box",
                    "final all",
                    "final user ada"
                ])
            ),
            false,
        ),
        _ => (format!("host={}\n", dice.one(&["box", "web", "Box"])), true),
    }
}

fn generated(dice: &mut Dice, depth: usize) -> String {
    let mut text = String::new();
    for _ in 0..dice.below(3) {
        text.push_str(&setting(dice, false));
    }
    for _ in 0..1 + dice.below(6) {
        let (line, may_jump) = header(dice);
        text.push_str(&line);
        for _ in 0..dice.below(5) {
            text.push_str(&setting(dice, may_jump));
        }
        if depth > 0 && dice.below(5) == 0 {
            text.push_str(dice.one(&[
                "Include @/part0\n",
                "  include \"@/part1\"\n",
                "Include @/part*\n",
            ]));
        }
    }
    text
}

#[test]
#[ignore = "needs ssh"]
fn generated_configurations_mean_what_they_mean_to_ssh() {
    let bench = Bench::new();
    for seed in 1..=60 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let parts = [generated(&mut dice, 0), generated(&mut dice, 0)];
        let config = generated(&mut dice, 1);
        for (index, part) in parts.iter().enumerate() {
            bench.write(&format!("part{index}"), part);
        }
        bench.write("config", &config);
        let told = format!(
            "seed {seed}\n{config}--- part0\n{}--- part1\n{}",
            parts[0], parts[1]
        );
        for (host, user, port) in [
            ("box", None, None),
            ("web", None, None),
            ("Box", Some("ada"), None),
            ("10.0.0.7", None, Some(99)),
        ] {
            bench.compare(&told, host, user, port);
        }
    }
}

#[test]
#[ignore = "needs ssh"]
fn a_file_that_others_can_write_is_refused_as_ssh_refuses_it() {
    let bench = Bench::new();
    // ssh does not look at a file that -F names, and at every one that it includes.
    bench.write("config", "Include @/part\n");
    bench.write("part", "User x\n");
    let mode = |mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(Path::new(&bench.path("part")), mode).unwrap();
    };
    for (bits, good) in [(0o644, true), (0o646, false), (0o602, false), (0o600, true)] {
        mode(bits);
        assert_eq!(bench.ssh("box", None, None).is_ok(), good, "ssh {bits:o}");
        assert_eq!(bench.ours("box", None, None).is_ok(), good, "we {bits:o}");
    }
}

/// One file, with which `ssh` and `handover` reach the same host in the same way.
#[test]
#[ignore = "needs sshd"]
fn the_way_that_a_file_describes_is_gone_by_both() {
    let [outer, inner] = [(), ()].map(|()| {
        sshd::Sshd::start(&sshd::SshdOptions {
            config: vec!["LogLevel DEBUG1".to_owned()],
            ..sshd::SshdOptions::default()
        })
    });
    let bench = Bench::new();
    let known = [
        outer.known_hosts_line(&format!("[127.0.0.1]:{}", outer.port()), "ed25519"),
        inner.known_hosts_line("behind", "ed25519"),
    ];
    bench.write("known hosts", &known.concat());
    bench.write(
        "more",
        "Host outer\n  ConnectTimeout 50\nMatch final\n  HostKeyAlgorithms ssh-ed25519\n",
    );
    let config = format!(
        "Include @/more\nHost inner outer\n  Hostname 127.0.0.1\n  UserKnownHostsFile \"@/known hosts\"\n\
         GlobalKnownHostsFile none\n  IdentityAgent none\n  StrictHostKeyChecking yes\n  IdentitiesOnly yes\n\
         KexAlgorithms curve25519-sha256\n  MACs hmac-sha2-512\n  Ciphers aes128-ctr\n\
         Host inner\n  HostKeyAlias behind\n  Port {}\n  ProxyJump outer\n  IdentityFile {}\n\
         Host outer\n  Port {}\n  IdentityFile {}\n",
        inner.port(),
        inner.path("id_rsa").display(),
        outer.port(),
        outer.path("id_ecdsa").display(),
    );
    bench.write("config", &config);
    let logins = |server: &sshd::Sshd| {
        let log = server.log();
        let accepted = log
            .iter()
            .filter(|line| line.contains("Accepted publickey"));
        accepted.count()
    };
    let environment = |command: &mut Command| {
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", bench.path("home"))
            .env("HANDOVER_SSH_CONFIG", bench.path("config"))
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap()
    };
    std::fs::create_dir(bench.path("home")).unwrap();

    let mut ssh = Command::new("ssh");
    ssh.arg("-F")
        .arg(bench.path("config"))
        .args(["-oBatchMode=yes", "inner", "echo through"]);
    let output = environment(&mut ssh);
    assert_eq!(
        output.stdout,
        b"through\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!((logins(&outer), logins(&inner)), (1, 1));

    let mut handover = Command::new(env!("CARGO_BIN_EXE_handover"));
    handover.args(["check", "inner", "--json"]);
    let output = environment(&mut handover);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    for found in [
        "\"name\":\"host key\",\"status\":\"ok\"",
        "\"name\":\"authentication\",\"status\":\"ok\"",
        "\"name\":\"shell\",\"status\":\"ok\"",
    ] {
        assert!(told.contains(found), "{found}: {told}");
    }
    assert!(logins(&outer) > 1 && logins(&inner) > 1, "through both");
    for line in outer.log().iter().chain(&inner.log()) {
        let Some((_, agreed)) = line.split_once("kex: ") else {
            continue;
        };
        let as_configured = [
            "algorithm: curve25519-sha256 ",
            "host key algorithm: ssh-ed25519 ",
            "client->server cipher: aes128-ctr MAC: hmac-sha2-512 ",
            "server->client cipher: aes128-ctr MAC: hmac-sha2-512 ",
        ];
        let so = as_configured.iter().any(|said| agreed.starts_with(said));
        assert!(so, "{line}");
    }
}

#[test]
#[ignore = "needs ssh"]
fn the_local_user_is_known_by_its_name() {
    let bench = Bench::new();
    let user = whoami::username().unwrap();
    let start = &user[..1];
    for lists in [
        user.clone(),
        format!("nobody,{user}"),
        format!("{start}*"),
        format!("!nobody,{user}"),
    ] {
        let config = format!(
            "Match localuser {lists}\n  User x\nMatch !localuser {lists}\n  User y\n\
             Match localuser {lists} host box\n  Port 1022\nMatch localuser !{user},*\n  Port 2022\n"
        );
        bench.write("config", &config);
        bench.compare(&config, "box", None, None);
        let ours = bench.ours("box", None, None).unwrap();
        assert_eq!(
            (ours.user.as_deref(), ours.port),
            (Some("x"), Some(1022)),
            "{config}"
        );
    }
}

/// The key that gets in is the agent's.
#[test]
#[ignore = "needs sshd"]
fn an_agent_that_a_file_turns_off_is_not_asked_and_the_key_files_are_offered() {
    let sshd = sshd::Sshd::start(&sshd::SshdOptions::default());
    let agent = login::Agent::start(&sshd.path(""));
    agent.add(&sshd.path("id_ed25519"));
    let bench = Bench::new();
    let names = format!("[127.0.0.1]:{}", sshd.port());
    bench.write("known", &sshd.known_hosts_line(&names, "ed25519"));
    std::fs::create_dir(bench.path("home")).unwrap();
    for (agent_line, file, wanted) in [
        ("", "stranger", true),
        ("IdentityAgent SSH_AUTH_SOCK", "stranger", true),
        ("IdentityAgent none", "stranger", false),
        ("IdentityAgent none", "id_rsa", true),
    ] {
        let config = format!(
            "Host inside\n  Hostname 127.0.0.1\n  Port {}\n  UserKnownHostsFile @/known\n  GlobalKnownHostsFile none\n\
             StrictHostKeyChecking yes\n  IdentityFile {}\n{agent_line}\n",
            sshd.port(),
            sshd.path(file).display()
        );
        bench.write("config", &config);
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program)
                .args(arguments)
                .env_clear()
                .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
                .env("HOME", bench.path("home"))
                .env("HANDOVER_SSH_CONFIG", bench.path("config"))
                .env("SSH_AUTH_SOCK", &agent.socket)
                .stdin(std::process::Stdio::null())
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let file = bench.path("config").display().to_string();
        let said = run(
            "ssh",
            &["-F", &file, "-oBatchMode=yes", "inside", "echo in"],
        );
        assert_eq!(said == "in\n", wanted, "ssh: {config}");
        let said = run(
            env!("CARGO_BIN_EXE_handover"),
            &["check", "inside", "--json"],
        );
        let accepted = said.contains("\"name\":\"authentication\",\"status\":\"ok\"");
        assert_eq!(accepted, wanted, "{config}: {said}");
        assert!(said.contains("\"authentication\""), "{config}: {said}");
    }
}
