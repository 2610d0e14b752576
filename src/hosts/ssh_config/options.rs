//! What applies to one host, collected line by line.
//!
//! Main type: [`Options`]. Invariant: the first value of a keyword counts, and no later one changes it; only
//! `IdentityFile` and `CertificateFile` add up.

use std::time::Duration;

use super::error::InvalidSshValue;
use super::keyword::{Class, Honoured, Keyword};
use super::note::SshConfigNote;
use super::value;
use crate::hosts::address::{Address, InvalidAddress};
use crate::hosts::error::Position;
use crate::hosts::settings::{AlgorithmList, StrictHostKeyChecking};

/// A value that is judged once everything has been read, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) at: Position,
}

/// How the host is reached.
#[derive(Debug, Clone)]
pub(super) enum Proxy {
    /// As somebody else has decided: the hop in front of it is known.
    Decided,
    /// `ProxyJump`, its words.
    Jump(Placed<Vec<String>>),
    /// `ProxyCommand`, its words.
    Command(Placed<Vec<String>>),
}

/// Everything that has been read for one host; `None` where nothing was.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    pub(super) host_name: Option<Placed<String>>,
    /// What the first pass made of `Hostname`; no later one counts.
    pub(super) final_host: Option<String>,
    pub(super) user: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) proxy: Option<Proxy>,
    pub(super) identity_files: Vec<Placed<String>>,
    pub(super) certificate_files: Vec<Placed<String>>,
    pub(super) identities_only: Option<bool>,
    pub(super) identity_agent: Option<Placed<String>>,
    pub(super) user_known_hosts: Option<Placed<Vec<String>>>,
    pub(super) global_known_hosts: Option<Placed<Vec<String>>>,
    pub(super) host_key_alias: Option<String>,
    pub(super) strict: Option<StrictHostKeyChecking>,
    pub(super) hash_known_hosts: Option<bool>,
    pub(super) host_key_algorithms: Option<AlgorithmList>,
    pub(super) ciphers: Option<AlgorithmList>,
    pub(super) pubkey_algorithms: Option<AlgorithmList>,
    pub(super) kex_algorithms: Option<AlgorithmList>,
    pub(super) macs: Option<AlgorithmList>,
    pub(super) ca_signatures: Option<AlgorithmList>,
    pub(super) rsa_size: Option<u32>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) connection_attempts: Option<u32>,
    pub(super) alive_interval: Option<Duration>,
    pub(super) alive_count_max: Option<u32>,
    pub(super) preferred: Option<Vec<String>>,
    pub(super) pubkey: Option<bool>,
    pub(super) password: Option<bool>,
    pub(super) keyboard_interactive: Option<bool>,
    pub(super) ignore_unknown: Option<String>,
    /// What has no effect.
    pub(super) notes: Vec<SshConfigNote>,
    /// The first keyword for which the host is refused, its reason and its place.
    pub(super) refused: Option<(&'static str, &'static str, Position)>,
    /// The keywords of which nothing but the first value matters, as far as they have occurred.
    seen: Vec<&'static str>,
}

/// Sets a value unless there is one.
fn first<T>(slot: &mut Option<T>, value: T) {
    if slot.is_none() {
        *slot = Some(value);
    }
}

impl Options {
    /// With what beats the configuration.
    pub(super) fn new(user: Option<&str>, port: Option<u16>, proxy: Option<Proxy>) -> Self {
        Self {
            user: user.map(str::to_owned),
            port,
            proxy,
            ..Self::default()
        }
    }

    /// Takes a line that applies.
    ///
    /// # Errors
    ///
    /// [`InvalidSshValue`], also where an earlier value counts, as in ssh(1).
    pub(super) fn apply(
        &mut self,
        keyword: &'static Keyword,
        words: &[String],
        at: Position,
    ) -> Result<(), InvalidSshValue> {
        match keyword.class {
            Class::Honoured(honoured) => self.honour(honoured, words, at)?,
            Class::Ignored(satisfied) => {
                if self.is_first(keyword) && !says(satisfied, words) {
                    self.notes.push(SshConfigNote::ignored(keyword.name, at));
                }
            }
            Class::Refused { satisfied, reason } => {
                if self.is_first(keyword) && !says(satisfied, words) {
                    first(&mut self.refused, (keyword.name, reason, at));
                }
            }
        }
        Ok(())
    }

    fn is_first(&mut self, keyword: &'static Keyword) -> bool {
        let first = !self.seen.contains(&keyword.name);
        if first {
            self.seen.push(keyword.name);
        }
        first
    }

    fn honour(
        &mut self,
        keyword: Honoured,
        words: &[String],
        at: Position,
    ) -> Result<(), InvalidSshValue> {
        let text = || value::one(words).map(str::to_owned);
        let placed = |value| Placed {
            value,
            at: at.clone(),
        };
        let line = Placed {
            value: words.to_vec(),
            at: at.clone(),
        };
        match keyword {
            Honoured::HostName => first(&mut self.host_name, placed(text()?)),
            Honoured::User => first(&mut self.user, user(text()?)?),
            Honoured::Port => first(&mut self.port, value::port(words)?),
            Honoured::IdentityFile => add(&mut self.identity_files, placed(text()?)),
            Honoured::CertificateFile => add(&mut self.certificate_files, placed(text()?)),
            Honoured::IdentitiesOnly => first(&mut self.identities_only, value::flag(words)?),
            Honoured::IdentityAgent => first(&mut self.identity_agent, placed(text()?)),
            Honoured::UserKnownHostsFile => {
                let value = value::files(words)?;
                first(&mut self.user_known_hosts, Placed { value, at });
            }
            Honoured::GlobalKnownHostsFile => {
                let value = value::files(words)?;
                first(&mut self.global_known_hosts, Placed { value, at });
            }
            Honoured::HostKeyAlias => first(&mut self.host_key_alias, key_alias(text()?)?),
            Honoured::StrictHostKeyChecking => {
                let (strict, turned_off) = value::strict(words)?;
                if self.strict.is_none() && turned_off {
                    self.notes.push(SshConfigNote::asks(at));
                }
                first(&mut self.strict, strict);
            }
            Honoured::HashKnownHosts => first(&mut self.hash_known_hosts, value::flag(words)?),
            Honoured::HostKeyAlgorithms => {
                first(&mut self.host_key_algorithms, value::algorithms(words)?)
            }
            Honoured::Ciphers => first(&mut self.ciphers, value::algorithms(words)?),
            Honoured::PubkeyAcceptedAlgorithms => {
                first(&mut self.pubkey_algorithms, value::algorithms(words)?)
            }
            Honoured::KexAlgorithms => first(&mut self.kex_algorithms, value::algorithms(words)?),
            Honoured::Macs => first(&mut self.macs, value::algorithms(words)?),
            Honoured::CASignatureAlgorithms => {
                first(&mut self.ca_signatures, value::algorithms(words)?)
            }
            Honoured::RequiredRsaSize => first(&mut self.rsa_size, value::number(words, 0)?),
            Honoured::ConnectTimeout => {
                if let Some(time) = value::time(words)? {
                    first(&mut self.connect_timeout, time);
                }
            }
            Honoured::ConnectionAttempts => {
                first(&mut self.connection_attempts, value::number(words, 1)?)
            }
            Honoured::ServerAliveInterval => {
                if let Some(time) = value::time(words)? {
                    first(&mut self.alive_interval, time);
                }
            }
            Honoured::ServerAliveCountMax => {
                first(&mut self.alive_count_max, value::number(words, 0)?)
            }
            Honoured::PreferredAuthentications => {
                first(&mut self.preferred, value::list(&text()?)?)
            }
            Honoured::PubkeyAuthentication => first(&mut self.pubkey, value::pubkey_flag(words)?),
            Honoured::PasswordAuthentication => first(&mut self.password, value::flag(words)?),
            Honoured::KbdInteractiveAuthentication => {
                first(&mut self.keyboard_interactive, value::flag(words)?)
            }
            Honoured::IgnoreUnknown => first(&mut self.ignore_unknown, text()?),
            // Whichever of the two comes first counts.
            Honoured::ProxyJump => first(&mut self.proxy, Proxy::Jump(line)),
            Honoured::ProxyCommand => first(&mut self.proxy, Proxy::Command(line)),
        }
        Ok(())
    }
}

/// Adds a file that is not there yet.
fn add(files: &mut Vec<Placed<String>>, file: Placed<String>) {
    if !files.iter().any(|known| known.value == file.value) {
        files.push(file);
    }
}

/// Whether a line says one of these words.
fn says(satisfied: &[&str], words: &[String]) -> bool {
    let word = words.first().map_or("", String::as_str);
    satisfied.iter().any(|one| one.eq_ignore_ascii_case(word))
}

fn user(text: String) -> Result<String, InvalidSshValue> {
    Address::new("host", Some(&text), None)?;
    Ok(text)
}

/// A name for a known_hosts file: no pattern, no list, no marker, no second line.
fn key_alias(text: String) -> Result<String, InvalidSshValue> {
    let odd =
        |c: char| !c.is_ascii_graphic() || matches!(c, ',' | '*' | '?' | '!' | '|' | '@' | '#');
    match text.chars().find(|&c| odd(c)) {
        Some(character) => Err(InvalidAddress::Character { character }.into()),
        None => Ok(text.to_ascii_lowercase()),
    }
}
