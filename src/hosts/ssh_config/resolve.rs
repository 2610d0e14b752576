//! From a name and an ssh_config to what a connection needs.
//!
//! Main types: [`ResolvedHost`], what comes out, and [`Resolver`]. The configuration is gone through once, and once
//! more where a `Match final` stands in it.

use std::path::PathBuf;

use super::SshConfig;
use super::criteria::{Subject, Verdict};
use super::error::{InvalidSshValue, SshConfigError};
use super::keyword::find;
use super::local::LocalMachine;
use super::note::SshConfigNote;
use super::numeric::canonical;
use super::options::{Options, Placed, Proxy};
use super::pattern::{host_line_matches, list_matches};
use super::syntax::{Item, Setting};
use super::token::{Tokens, host_name, is_rooted, jump};
use super::tree::{File, at};
use super::value;
use crate::hosts::address::Address;
use crate::hosts::error::Position;
use crate::hosts::name::HostName;
use crate::hosts::settings::{IdentityAgent, SshSettings};

/// The most hosts that a way may lead through.
const MAX_HOPS: usize = 8;
/// SSH's port (RFC 4253, section 4.2).
const SSH_PORT: u16 = 22;
/// The methods that a person's connection tries, in ssh(1)'s order.
const METHODS: [&str; 3] = ["publickey", "keyboard-interactive", "password"];

/// A host as the ssh_config has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResolvedHost {
    /// What errors call it, and `handover trust` knows it by. A host on the way goes by its alias, which is a name on a
    /// `Host` line with a `Hostname` of its own, where that leads to it by the same way; any other is called after the
    /// host that it leads to, `NAME.jumpN`: what stands in a `ProxyJump` may be an address, which no error says.
    pub name: HostName,
    /// The DNS name in lower case, or the IP address in the form under which ssh(1) has its host keys on record.
    pub host: String,
    /// The port, when one is configured.
    pub port: Option<u16>,
    /// The user, when one is configured.
    pub user: Option<String>,
    /// The private key files, when some are configured.
    pub identity_files: Vec<PathBuf>,
    /// Everything else.
    pub settings: SshSettings,
    /// The hosts on the way, the one dialled from here first; they have none themselves.
    pub jumps: Vec<ResolvedHost>,
    /// What has not the effect that it has for ssh(1), for this host alone.
    pub notes: Vec<SshConfigNote>,
    /// The name under which the configuration was asked.
    asked: String,
}

impl ResolvedHost {
    /// Takes their names from the hosts on the way of which `is_taken` says that they mean another host.
    pub(in crate::hosts) fn rename_hops(&mut self, is_taken: impl Fn(&HostName) -> bool) {
        for (index, hop) in self.jumps.iter_mut().enumerate() {
            if is_taken(&hop.name) {
                hop.name = hop_name(&self.name, index);
            }
        }
    }
}

/// What a hop is called that has no name of its own.
fn hop_name(host: &HostName, index: usize) -> HostName {
    let name = format!("{host}.jump{}", index + 1);
    name.parse().unwrap_or_else(|_| host.clone())
}

/// Resolves one host, and the hosts on the way to it.
pub(super) struct Resolver<'a> {
    pub(super) config: &'a SshConfig,
    pub(super) local: &'a LocalMachine,
    /// The host that was asked for.
    pub(super) name: &'a HostName,
}

impl Resolver<'_> {
    /// Resolves the host with the whole way to it.
    pub(super) fn resolve(&self, address: &Address) -> Result<ResolvedHost, SshConfigError> {
        let mut trail = Vec::new();
        let mut host = self.with_way(address, &mut trail)?;
        let names: Vec<HostName> = host
            .jumps
            .iter()
            .enumerate()
            .map(|(index, hop)| {
                self.alias(hop, &host.jumps[..index])
                    .unwrap_or_else(|| hop_name(self.name, index))
            })
            .collect();
        for (hop, name) in host.jumps.iter_mut().zip(names) {
            hop.name = name;
        }
        Ok(host)
    }

    /// The alias of a hop, when there is one that means this hop by this way, `before`.
    fn alias(&self, hop: &ResolvedHost, before: &[ResolvedHost]) -> Option<HostName> {
        let alias = self.config.literal(&hop.asked)?;
        if hop.host.eq_ignore_ascii_case(&hop.asked) || canonical(&hop.asked).is_some() {
            return None;
        }
        let address = Address::new(&hop.asked, None, None).ok()?;
        // One that cannot be resolved by itself cannot be asked for either.
        let alone = self.with_way(&address, &mut Vec::new()).ok()?;
        let same = ResolvedHost {
            jumps: before.to_vec(),
            ..hop.clone()
        };
        (alone == same).then_some(alias)
    }

    /// `trail`: what is being resolved, the host that was asked for first.
    fn with_way(
        &self,
        address: &Address,
        trail: &mut Vec<Address>,
    ) -> Result<ResolvedHost, SshConfigError> {
        trail.push(address.clone());
        let (mut host, way) = self.one(address, None)?;
        let Some(Placed { value: hops, at }) = way else {
            return Ok(host);
        };
        let endless = || SshConfigError::JumpLoop {
            host: self.name.clone(),
            at: at.clone(),
        };
        let mut jumps: Vec<ResolvedHost> = Vec::new();
        for (index, hop) in hops.iter().enumerate() {
            let mut resolved = if index == 0 {
                if trail.contains(hop) || trail.len() >= MAX_HOPS {
                    return Err(endless());
                }
                self.with_way(hop, trail)?
            } else {
                // ssh(1) names the hop in front on the command line, which beats the hop's own configuration.
                self.one(hop, Some(Proxy::Decided))?.0
            };
            jumps.append(&mut resolved.jumps);
            jumps.push(resolved);
        }
        if hops.iter().any(|hop| is_itself(hop, &host)) || jumps.len() > MAX_HOPS {
            return Err(endless());
        }
        host.jumps = jumps;
        Ok(host)
    }

    /// Resolves one host without the way to it; gives the hops of its `ProxyJump` too.
    #[expect(clippy::type_complexity, reason = "used in the function above alone")]
    fn one(
        &self,
        address: &Address,
        proxy: Option<Proxy>,
    ) -> Result<(ResolvedHost, Option<Placed<Vec<Address>>>), SshConfigError> {
        let original_host = address.host();
        let mut options = Options::new(address.user(), address.port(), proxy);
        self.pass(original_host, false, &mut options)?;
        let host = self.host_name(original_host, &options)?;
        // After the first pass, as there: its `Match` lines saw the address as it was typed.
        let host = canonical(&host).unwrap_or(host);
        if self.config.second_pass {
            options.final_host = Some(host.clone());
            self.pass(original_host, true, &mut options)?;
        }
        self.finish(original_host, host, options)
    }

    fn pass(
        &self,
        original_host: &str,
        second_pass: bool,
        options: &mut Options,
    ) -> Result<(), SshConfigError> {
        let mut pass = Pass {
            resolver: self,
            original_host,
            // As ssh(1): `Host` lines are held against the name that was asked for, and the second time against the
            // one that has come of it.
            block_host: options
                .final_host
                .clone()
                .unwrap_or_else(|| original_host.to_owned()),
            second_pass,
            options,
        };
        self.config
            .files
            .iter()
            .try_for_each(|file| pass.walk(file, true, false))
    }

    /// The host name with its tokens expanded, in lower case unless it is an address.
    fn host_name(&self, original_host: &str, options: &Options) -> Result<String, SshConfigError> {
        let lower = |name: String| match canonical(&name) {
            Some(_) => name,
            None => name.to_ascii_lowercase(),
        };
        if let Some(host) = &options.final_host {
            return Ok(host.clone());
        }
        let Some(placed) = &options.host_name else {
            return Ok(lower(original_host.to_owned()));
        };
        let expanded = host_name(&placed.value, original_host);
        let checked = expanded.and_then(|name| Ok(Address::new(&name, None, None)?));
        match checked {
            Ok(address) => Ok(lower(address.host().to_owned())),
            Err(source) => Err(self.invalid("Hostname", &placed.at, source)),
        }
    }

    #[expect(clippy::type_complexity, reason = "as above")]
    fn finish(
        &self,
        original_host: &str,
        host: String,
        options: Options,
    ) -> Result<(ResolvedHost, Option<Placed<Vec<Address>>>), SshConfigError> {
        if let Some((keyword, reason, at)) = options.refused {
            return Err(self.unsupported(keyword, at, reason));
        }
        let jump_words = match &options.proxy {
            Some(Proxy::Jump(placed)) => Some(placed),
            Some(Proxy::Command(Placed { value, at })) if !is_none(value) => {
                return Err(self.unsupported(
                    "ProxyCommand",
                    at.clone(),
                    "no command is run; name the hosts that the way leads through with ProxyJump",
                ));
            }
            Some(Proxy::Decided | Proxy::Command(_)) | None => None,
        };
        let jump_text = match jump_words.filter(|placed| !is_none(&placed.value)) {
            Some(Placed { value, at }) => Some(Placed {
                value: value::one(value)
                    .map_err(|source| self.invalid("ProxyJump", at, source))?
                    .to_owned(),
                at: at.clone(),
            }),
            None => None,
        };
        let user = options.user.as_deref();
        let tokens = Tokens {
            local: self.local,
            host: &host,
            original_host,
            key_alias: options.host_key_alias.as_deref().unwrap_or(original_host),
            port: options.port.unwrap_or(SSH_PORT),
            user: user.or(self.local.user.as_deref()),
            jump: jump_text.as_ref().map_or("", |placed| &placed.value),
        };
        let way = match &jump_text {
            Some(placed) => Some(self.hops(placed, &tokens)?),
            None => None,
        };
        let values = Values {
            resolver: self,
            tokens: &tokens,
        };
        let (identity_files, no_identity_files) = values.identities(&options.identity_files)?;
        let settings = SshSettings {
            host_key_alias: options.host_key_alias.clone(),
            identities_only: options.identities_only.unwrap_or_default(),
            no_identity_files,
            certificate_files: values.keys("CertificateFile", &options.certificate_files)?,
            identity_agent: values.agent(options.identity_agent.as_ref())?,
            user_known_hosts_files: values
                .known_hosts("UserKnownHostsFile", options.user_known_hosts.as_ref())?,
            global_known_hosts_files: values
                .known_hosts("GlobalKnownHostsFile", options.global_known_hosts.as_ref())?,
            strict_host_key_checking: options.strict.unwrap_or_default(),
            hash_known_hosts: options.hash_known_hosts.unwrap_or_default(),
            preferred_authentications: methods(&options),
            host_key_algorithms: options.host_key_algorithms,
            ciphers: options.ciphers,
            pubkey_accepted_algorithms: options.pubkey_algorithms,
            kex_algorithms: options.kex_algorithms,
            macs: options.macs,
            ca_signature_algorithms: options.ca_signatures,
            required_rsa_size: options.rsa_size,
            // For ssh(1) zero is no bound; every wait of ours has one.
            connect_timeout: options.connect_timeout.filter(|time| !time.is_zero()),
            connection_attempts: options.connection_attempts,
            server_alive_interval: options.alive_interval,
            server_alive_count_max: options.alive_count_max,
        };
        let asked = original_host.to_owned();
        let resolved = ResolvedHost {
            name: self.name.clone(),
            port: options.port,
            user: options.user,
            identity_files,
            settings,
            jumps: Vec::new(),
            notes: options.notes,
            host,
            asked,
        };
        Ok((resolved, way))
    }

    fn hops(
        &self,
        placed: &Placed<String>,
        tokens: &Tokens<'_>,
    ) -> Result<Placed<Vec<Address>>, SshConfigError> {
        let hop = |text: &str| value::hop(&jump(text, tokens)?);
        let hops =
            value::list(&placed.value).and_then(|hops| hops.iter().map(|text| hop(text)).collect());
        match hops {
            Ok(value) => Ok(Placed {
                value,
                at: placed.at.clone(),
            }),
            Err(source) => Err(self.invalid("ProxyJump", &placed.at, source)),
        }
    }

    fn invalid(
        &self,
        keyword: &'static str,
        at: &Position,
        source: InvalidSshValue,
    ) -> SshConfigError {
        SshConfigError::Value {
            host: self.name.clone(),
            keyword,
            at: at.clone(),
            source,
        }
    }

    fn unsupported(
        &self,
        keyword: &'static str,
        at: Position,
        reason: &'static str,
    ) -> SshConfigError {
        SshConfigError::Unsupported {
            host: self.name.clone(),
            keyword,
            at,
            reason,
        }
    }
}

/// Whether a hop is the very host that it leads to, as ssh(1) judges it: by name, port and user.
fn is_itself(hop: &Address, host: &ResolvedHost) -> bool {
    let named = hop.host() == host.host || hop.host() == host.asked;
    let user = hop.user().or(host.user.as_deref());
    named
        && hop.port().unwrap_or(SSH_PORT) == host.port.unwrap_or(SSH_PORT)
        && user == host.user.as_deref()
}

/// One way through the configuration.
struct Pass<'a> {
    resolver: &'a Resolver<'a>,
    original_host: &'a str,
    block_host: String,
    second_pass: bool,
    options: &'a mut Options,
}

impl Pass<'_> {
    /// `active`: whether the lines before the first block apply; `never`: whether nothing in the file can.
    fn walk(&mut self, file: &File, active: bool, never: bool) -> Result<(), SshConfigError> {
        let mut active = active;
        for line in &file.lines {
            let at = || at(&file.path, line.line, line.column);
            match &line.item {
                Item::Host(patterns) => {
                    active = !never && host_line_matches(patterns, &self.block_host);
                }
                Item::Match(_) if never => active = false,
                Item::Match(criteria) => {
                    let host = self.resolver.host_name(self.original_host, self.options)?;
                    let local_user = self.resolver.local.user.as_deref();
                    let verdict = criteria.judge(&Subject {
                        host: &host,
                        original_host: self.original_host,
                        user: self.options.user.as_deref().or(local_user),
                        local_user,
                        second_pass: self.second_pass,
                    });
                    let host = self.resolver.name.clone();
                    active = match verdict {
                        Verdict::Applies => true,
                        Verdict::DoesNot => false,
                        Verdict::Undecided(criterion) => {
                            return Err(SshConfigError::Undecided {
                                host,
                                criterion,
                                at: at(),
                            });
                        }
                        Verdict::LocalUserUnknown => {
                            return Err(SshConfigError::LocalUser { host, at: at() });
                        }
                    };
                }
                Item::Include { files, unread, .. } => {
                    if let Some(reason) = unread.as_ref().filter(|_| active) {
                        let reason = reason.clone();
                        return Err(self.resolver.invalid("Include", &at(), reason));
                    }
                    for file in files {
                        self.walk(file, active, never || !active)?;
                    }
                }
                Item::Setting(setting) if active => self.setting(setting, at())?,
                Item::Setting(_) => {}
            }
        }
        Ok(())
    }

    fn setting(&mut self, setting: &Setting, at: Position) -> Result<(), SshConfigError> {
        let Some(keyword) = find(&setting.keyword) else {
            let ignored = self.options.ignore_unknown.as_deref();
            if ignored.is_some_and(|list| list_matches(&list.to_lowercase(), &setting.keyword)) {
                return Ok(());
            }
            return Err(SshConfigError::UnknownKeyword {
                host: self.resolver.name.clone(),
                keyword: setting.keyword.clone(),
                at,
            });
        };
        self.options
            .apply(keyword, &setting.words, at.clone())
            .map_err(|source| self.resolver.invalid(keyword.name, &at, source))
    }
}

/// Values with tokens, for one host.
struct Values<'a> {
    resolver: &'a Resolver<'a>,
    tokens: &'a Tokens<'a>,
}

impl Values<'_> {
    /// Key and certificate files; a relative one is one in the working directory, as in ssh(1).
    fn keys(
        &self,
        keyword: &'static str,
        files: &[Placed<String>],
    ) -> Result<Vec<PathBuf>, SshConfigError> {
        let directory = &self.resolver.local.working_directory;
        files
            .iter()
            .filter(|file| !is_none(std::slice::from_ref(&file.value)))
            .map(|Placed { value, at }| match self.tokens.path(value) {
                Ok(path) => Ok(directory.join(path)),
                Err(source) => Err(self.resolver.invalid(keyword, at, source)),
            })
            .collect()
    }

    /// The key files, and whether there are to be none.
    fn identities(&self, files: &[Placed<String>]) -> Result<(Vec<PathBuf>, bool), SshConfigError> {
        let paths = self.keys("IdentityFile", files)?;
        let none = paths.is_empty() && !files.is_empty();
        Ok((paths, none))
    }

    /// known_hosts files. One that depends on the working directory is refused: it could be a project's.
    fn known_hosts(
        &self,
        keyword: &'static str,
        files: Option<&Placed<Vec<String>>>,
    ) -> Result<Option<Vec<PathBuf>>, SshConfigError> {
        let Some(Placed { value, at }) = files else {
            return Ok(None);
        };
        let path = |text: &String| {
            // The manual has tokens for the user's files alone.
            let path = match keyword {
                "UserKnownHostsFile" => self.tokens.path(text)?,
                _ => PathBuf::from(text),
            };
            is_rooted(&path)
                .then_some(path)
                .ok_or(InvalidSshValue::Relative)
        };
        let paths: Result<Vec<PathBuf>, InvalidSshValue> = value.iter().map(path).collect();
        paths
            .map(Some)
            .map_err(|source| self.resolver.invalid(keyword, at, source))
    }

    fn agent(&self, agent: Option<&Placed<String>>) -> Result<IdentityAgent, SshConfigError> {
        let Some(Placed { value, at }) = agent else {
            return Ok(IdentityAgent::Environment);
        };
        if is_none(std::slice::from_ref(value)) {
            return Ok(IdentityAgent::None);
        }
        let variable = value
            .strip_prefix('$')
            .filter(|name| !name.starts_with('{'));
        if value == "SSH_AUTH_SOCK" || variable == Some("SSH_AUTH_SOCK") {
            return Ok(IdentityAgent::Environment);
        }
        let path = match variable {
            Some(name) => match self.resolver.local.variable(name) {
                Some(path) => Ok(PathBuf::from(path)),
                // As ssh(1): a variable that is not set names no agent.
                None => return Ok(IdentityAgent::None),
            },
            None => self.tokens.path(value),
        };
        let rooted = path.and_then(|path| {
            is_rooted(&path)
                .then_some(path)
                .ok_or(InvalidSshValue::Relative)
        });
        rooted
            .map(IdentityAgent::Socket)
            .map_err(|source| self.resolver.invalid("IdentityAgent", at, source))
    }
}

/// The methods to try: those that are preferred, without those that are turned off.
fn methods(options: &Options) -> Option<Vec<String>> {
    let off = [
        ("publickey", options.pubkey),
        ("keyboard-interactive", options.keyboard_interactive),
        ("password", options.password),
    ];
    let is_off = |name: &str| {
        off.iter()
            .any(|(method, on)| *method == name && *on == Some(false))
    };
    let all = || METHODS.map(str::to_owned).to_vec();
    let any_off = METHODS.iter().any(|method| is_off(method));
    let mut methods = match &options.preferred {
        Some(preferred) => preferred.clone(),
        None if any_off => all(),
        None => return None,
    };
    methods.retain(|method| !is_off(method));
    Some(methods)
}

fn is_none(words: &[String]) -> bool {
    matches!(words, [only] if only.eq_ignore_ascii_case("none"))
}
