//! From a file's text to its hosts.
//!
//! The main function is [`read`]: it knows the keys, their types and what contradicts what; both kinds
//! of file go through it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::{Address, InvalidAddress};
use super::error::{HostsError, Position, Warning};
use super::file::{Text, one_line};
use super::host::{Host, RemoteOs, Source};
use super::name::HostName;
use super::tree::{Entry, Node, Value};
use super::value::InvalidValue;
use super::{json, toml};

/// The keys of a host in `hosts.toml`.
pub(super) const TOML_KEYS: &[&str] = &[
    "host",
    "user",
    "port",
    "identity_file",
    "agent",
    "model",
    "directory",
    "opencode",
    "state_dir",
    "os",
    "auto_approve",
    "max_jobs",
    "inactivity",
    "kill_on_stall",
];

/// The keys of a host in `hosts.json` and `hosts.jsonc`, those of opencode-remote-login.
pub(super) const JSON_KEYS: &[&str] = &["host", "port", "os", "agent", "model"];

/// The kind of a hosts file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// `hosts.toml`. An unknown key is an error: the file is ours.
    Toml,
    /// `hosts.json` and `hosts.jsonc`. An unknown key is a warning, and a host may be a string: the
    /// file was written for another program.
    Json,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    /// The hosts, each name once.
    pub(super) hosts: Vec<Host>,
    pub(super) warnings: Vec<Warning>,
}

/// Reads a file's bytes. `home` is the local home directory.
///
/// # Errors
///
/// [`HostsError`], every variant that has a position.
pub(super) fn read(
    format: Format,
    path: &Path,
    bytes: &[u8],
    home: &Path,
) -> Result<Definitions, HostsError> {
    let text = Text::new(path, bytes)?;
    let root = match format {
        Format::Toml => toml::parse(&text)?,
        Format::Json => json::parse(&text)?,
    };
    Reader {
        format,
        text,
        home,
        warnings: Vec::new(),
    }
    .file(root)
}

struct Reader<'a> {
    format: Format,
    text: Text<'a>,
    home: &'a Path,
    warnings: Vec<Warning>,
}

impl Reader<'_> {
    fn file(mut self, root: Node) -> Result<Definitions, HostsError> {
        let mut hosts = None;
        for entry in self.table(root, "the file")? {
            match (entry.key.as_str(), self.format) {
                ("hosts", _) => hosts = Some(self.hosts(entry.node)?),
                (_, Format::Toml) => return Err(self.unknown_key(entry, &["hosts"])),
                (_, Format::Json) => {}
            }
        }
        if hosts.is_none() && self.format == Format::Json {
            self.warn(0, "there is no \"hosts\" in the file".to_owned());
        }
        Ok(Definitions {
            hosts: hosts.unwrap_or_default(),
            warnings: self.warnings,
        })
    }

    fn hosts(&mut self, node: Node) -> Result<Vec<Host>, HostsError> {
        let entries = self.table(node, "\"hosts\"")?;
        entries.into_iter().map(|entry| self.host(entry)).collect()
    }

    fn host(&mut self, entry: Entry) -> Result<Host, HostsError> {
        let at = self.text.at(entry.at);
        let name: HostName = match entry.key.parse() {
            Ok(name) => name,
            Err(source) => return Err(HostsError::InvalidName { at, source }),
        };
        let fields = match (entry.node.value, self.format) {
            (Value::Table(fields), _) => fields,
            (value @ Value::Text(_), Format::Json) => {
                let node = Node {
                    at: entry.node.at,
                    value,
                };
                vec![Entry {
                    key: "host".to_owned(),
                    at: entry.at,
                    node,
                }]
            }
            (value, Format::Json) => {
                let message = format!("host {name} is {}, not a string or a table", value.kind());
                return Err(self.text.parse_error(entry.node.at, &message));
            }
            (value, Format::Toml) => {
                let message = format!("host {name} is {}, not a table", value.kind());
                return Err(self.text.parse_error(entry.node.at, &message));
            }
        };
        self.fields(name, at, fields)
    }

    fn fields(
        &mut self,
        name: HostName,
        at: Position,
        fields: Vec<Entry>,
    ) -> Result<Host, HostsError> {
        let known = if self.format == Format::Toml {
            TOML_KEYS
        } else {
            JSON_KEYS
        };
        // Without `host`, a host is where its name says.
        let mut address = Field {
            key: "host",
            at: at.clone(),
            value: name.as_str().to_owned(),
        };
        let mut user = None;
        let mut port = None;
        let named = name
            .as_str()
            .parse()
            .map_err(|source| HostsError::InvalidAddress {
                host: name.clone(),
                at: at.clone(),
                source,
            })?;
        let mut host = Host::new(name.clone(), named);
        host.source = Source::File(at);
        for entry in fields {
            let Some(&key) = known.iter().find(|key| **key == entry.key) else {
                if self.format == Format::Toml {
                    return Err(self.unknown_key(entry, known));
                }
                let mut message = format!("key {:?} of host {name} is ignored", entry.key);
                if TOML_KEYS.contains(&entry.key.as_str()) {
                    message.push_str("; hosts.toml has it");
                }
                self.warn(entry.at, message);
                continue;
            };
            let at = self.text.at(entry.node.at);
            let field = Field {
                key,
                at,
                value: entry.node.value,
            };
            if self.format == Format::Json && matches!(field.value, Value::Null) {
                continue;
            }
            match key {
                "host" => address = field.text(&name)?,
                "user" => user = Some(field.text(&name)?),
                "port" => port = Some(field.port(&name)?),
                "identity_file" => {
                    let home = self.home;
                    host.identity_file = Some(
                        field
                            .text(&name)?
                            .check(&name, |text| local_path(text, home))?,
                    );
                }
                "agent" => host.agent = Some(field.text(&name)?.check(&name, str::parse)?),
                "model" => host.model = Some(field.text(&name)?.check(&name, str::parse)?),
                "directory" => host.directory = Some(field.text(&name)?.check(&name, str::parse)?),
                "opencode" => host.opencode = Some(field.text(&name)?.check(&name, str::parse)?),
                "state_dir" => host.state_dir = Some(field.text(&name)?.check(&name, str::parse)?),
                "os" => host.os = field.text(&name)?.check(&name, remote_os)?,
                "max_jobs" => host.max_jobs = field.count(&name)?,
                "inactivity" => {
                    host.inactivity = Some(field.text(&name)?.check(&name, duration)?);
                }
                "kill_on_stall" => host.kill_on_stall = field.boolean(&name)?,
                _ => host.auto_approve = field.boolean(&name)?,
            }
        }
        host.address = join_address(&name, address, user, port)?;
        Ok(host)
    }

    fn table(&self, node: Node, what: &str) -> Result<Vec<Entry>, HostsError> {
        match node.value {
            Value::Table(entries) => Ok(entries),
            other => {
                let message = format!("{what} is {}, not a table", other.kind());
                Err(self.text.parse_error(node.at, &message))
            }
        }
    }

    fn unknown_key(&self, entry: Entry, known: &'static [&'static str]) -> HostsError {
        HostsError::UnknownKey {
            at: self.text.at(entry.at),
            key: entry.key,
            known,
        }
    }

    fn warn(&mut self, offset: usize, message: String) {
        self.warnings.push(Warning {
            at: self.text.at(offset),
            message: one_line(&message),
        });
    }
}

/// The value of a key, and its place.
struct Field<T> {
    key: &'static str,
    at: Position,
    value: T,
}

impl<T> Field<T> {
    fn invalid(self, host: &HostName, source: InvalidValue) -> HostsError {
        HostsError::InvalidValue {
            host: host.clone(),
            key: self.key,
            at: self.at,
            source,
        }
    }
}

impl Field<Value> {
    fn text(self, host: &HostName) -> Result<Field<String>, HostsError> {
        match self.value {
            Value::Text(value) => Ok(Field {
                key: self.key,
                at: self.at,
                value,
            }),
            _ => Err(self.wrong_type(host, "a string")),
        }
    }

    fn boolean(self, host: &HostName) -> Result<bool, HostsError> {
        match self.value {
            Value::Bool(value) => Ok(value),
            _ => Err(self.wrong_type(host, "a boolean")),
        }
    }

    fn port(self, host: &HostName) -> Result<Field<u16>, HostsError> {
        let Value::Number(number) = self.value else {
            return Err(self.wrong_type(host, "a number"));
        };
        match number
            .and_then(|number| u16::try_from(number).ok())
            .filter(|port| *port != 0)
        {
            Some(value) => Ok(Field {
                key: self.key,
                at: self.at,
                value,
            }),
            None => Err(self.invalid(host, InvalidValue::Port)),
        }
    }

    fn count(self, host: &HostName) -> Result<u32, HostsError> {
        let Value::Number(number) = self.value else {
            return Err(self.wrong_type(host, "a number"));
        };
        match number
            .and_then(|number| u32::try_from(number).ok())
            .filter(|count| (1..=1000).contains(count))
        {
            Some(count) => Ok(count),
            None => Err(self.invalid(host, InvalidValue::Count)),
        }
    }

    fn wrong_type(self, host: &HostName, expected: &'static str) -> HostsError {
        let found = self.value.kind();
        self.invalid(host, InvalidValue::WrongType { expected, found })
    }
}

impl Field<String> {
    fn check<T>(
        self,
        host: &HostName,
        check: impl FnOnce(&str) -> Result<T, InvalidValue>,
    ) -> Result<T, HostsError> {
        check(&self.value).map_err(|source| self.invalid(host, source))
    }

    fn invalid_address(self, host: &HostName, source: InvalidAddress) -> HostsError {
        HostsError::InvalidAddress {
            host: host.clone(),
            at: self.at,
            source,
        }
    }
}

fn join_address(
    name: &HostName,
    host: Field<String>,
    user: Option<Field<String>>,
    port: Option<Field<u16>>,
) -> Result<Address, HostsError> {
    let mut address: Address = match host.value.parse() {
        Ok(address) => address,
        Err(source) => return Err(host.invalid_address(name, source)),
    };
    if let Some(user) = user {
        let joined = match Address::new(address.host(), Some(&user.value), address.port()) {
            Ok(joined) => joined,
            Err(source) => return Err(user.invalid_address(name, source)),
        };
        if address.user().is_some() && address.user() != joined.user() {
            return Err(user.invalid(name, InvalidValue::Contradiction));
        }
        address = joined;
    }
    if let Some(port) = port {
        if address.port().is_some_and(|given| given != port.value) {
            return Err(port.invalid(name, InvalidValue::Contradiction));
        }
        address = Address::new(address.host(), address.user(), Some(port.value))
            .map_err(|source| host.invalid_address(name, source))?;
    }
    Ok(address)
}

fn local_path(text: &str, home: &Path) -> Result<PathBuf, InvalidValue> {
    if text.is_empty() {
        return Err(InvalidValue::Empty);
    }
    if let Some(character) = text.chars().find(|c| c.is_control()) {
        return Err(InvalidValue::ControlCharacter { character });
    }
    let in_home = text.strip_prefix("~/");
    let in_home = in_home.or_else(|| text.strip_prefix("~\\").filter(|_| cfg!(windows)));
    match in_home {
        Some(rest) => Ok(home.join(rest.trim_start_matches('/'))),
        None if Path::new(text).is_absolute() => Ok(PathBuf::from(text)),
        None => Err(InvalidValue::NotALocalPath),
    }
}

/// A time as people write it: `90s`, `10m`, `1h 30m`; at least a second.
fn duration(text: &str) -> Result<Duration, InvalidValue> {
    match humantime::parse_duration(text) {
        Ok(time) if time >= Duration::from_secs(1) => Ok(time),
        _ => Err(InvalidValue::Duration),
    }
}

/// `linux` and `macos` are accepted because opencode-remote-login's files say `linux`.
fn remote_os(text: &str) -> Result<RemoteOs, InvalidValue> {
    match text {
        "posix" | "linux" | "macos" => Ok(RemoteOs::Posix),
        "windows" => Ok(RemoteOs::Windows),
        _ => Err(InvalidValue::UnknownOs),
    }
}
