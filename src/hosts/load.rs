//! All hosts, from all places.
//!
//! The main type is [`Hosts`]. Every definition is kept: the one that counts, and those that it shadows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::definition::{self, Format};
use super::error::{HostsError, Warning};
use super::file;
use super::host::{Host, Source};
use super::name::HostName;
use super::places::Places;
use super::ssh_config::{LocalMachine, ResolvedHost, SshConfig};

/// The hosts that are configured, and what was found beside them.
///
/// Serialises as one object: `hosts`, `shadowed`, `untrusted`, `searched`, `warnings`, all of them lists.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Hosts {
    #[serde(serialize_with = "values")]
    hosts: BTreeMap<HostName, Host>,
    shadowed: Vec<Host>,
    #[serde(serialize_with = "file::paths_as_text")]
    untrusted: Vec<PathBuf>,
    #[serde(serialize_with = "file::paths_as_text")]
    searched: Vec<PathBuf>,
    warnings: Vec<Warning>,
    #[serde(skip)]
    ssh_config: Arc<SshConfig>,
    /// The hosts that the ssh_config alone names, also where a definition has the name.
    #[serde(skip)]
    aliases: BTreeMap<HostName, Host>,
}

impl Hosts {
    /// Reads every hosts file that there is, and the ssh_config. No file at all is an empty list.
    ///
    /// # Errors
    ///
    /// [`HostsError::Read`] and [`HostsError::TooLarge`] for a file that is there and cannot be read,
    /// and every variant with a position for one that is not what it should be;
    /// [`HostsError::SshConfig`] for the ssh_config. One such file fails the whole: without it, a name could mean another host.
    pub fn load(places: &Places) -> Result<Self, HostsError> {
        let mut hosts = Self::default();
        for (format, path) in hosts_files(places) {
            if let Some(bytes) = file::read(&path)? {
                let definitions = definition::read(format, &path, &bytes, &places.home)?;
                hosts.warnings.extend(definitions.warnings);
                definitions
                    .hosts
                    .into_iter()
                    .for_each(|host| hosts.add(host));
            }
            hosts.searched.push(path);
        }
        hosts.untrusted = project_files(places, &hosts.searched);
        hosts.ssh_config = Arc::new(SshConfig::load(places, &LocalMachine::of(places))?);
        for (name, at) in hosts.ssh_config.hosts() {
            let address = name.as_str().parse();
            let address = address.map_err(|source| HostsError::InvalidAddress {
                host: name.clone(),
                at: at.clone(),
                source,
            })?;
            let mut host = Host::new(name.clone(), address);
            host.source = Source::SshConfig(at.clone());
            hosts.aliases.insert(name.clone(), host);
        }
        Ok(hosts)
    }

    /// Puts hosts of the caller's over those of the files; of two with one name, the first counts.
    #[must_use]
    pub fn with_inline(mut self, inline: Vec<Host>) -> Self {
        let from_files = std::mem::take(&mut self.hosts);
        let shadowed = std::mem::take(&mut self.shadowed);
        for host in inline.into_iter().chain(from_files.into_values()) {
            self.add(host);
        }
        self.shadowed.extend(shadowed);
        self
    }

    /// Adds a definition that gives way to those that are there.
    fn add(&mut self, host: Host) {
        if self.hosts.contains_key(&host.name) {
            self.shadowed.push(host);
        } else {
            self.hosts.insert(host.name.clone(), host);
        }
    }

    /// The host of this name: a defined one, else one that the ssh_config names.
    ///
    /// # Errors
    ///
    /// [`HostsError::UnknownHost`], with the names that are defined; also for a text that is no name.
    pub fn get(&self, name: &str) -> Result<&Host, HostsError> {
        self.defined(name).or_else(|unknown| {
            let parsed = name.parse::<HostName>().ok();
            parsed
                .and_then(|name| self.aliases.get(&name))
                .ok_or(unknown)
        })
    }

    /// The host of this name, unless the ssh_config alone names it.
    ///
    /// # Errors
    ///
    /// As [`Hosts::get`].
    pub fn defined(&self, name: &str) -> Result<&Host, HostsError> {
        let parsed = name.parse::<HostName>().ok();
        parsed
            .and_then(|name| self.hosts.get(&name))
            .ok_or_else(|| HostsError::UnknownHost {
                name: name.to_owned(),
                known: self.hosts.keys().cloned().collect(),
            })
    }

    /// The hosts that only the ssh_config names, ordered by name: those of its `Host` lines without a wildcard. The
    /// address of each is its name.
    pub fn in_ssh_config(&self) -> impl Iterator<Item = &Host> {
        let alone = |host: &&Host| !self.hosts.contains_key(&host.name);
        self.aliases.values().filter(alone)
    }

    /// What the ssh_config says of a host; what the host's definition says beats it. Any host is resolved, those of
    /// [`Hosts::with_inline`] too.
    ///
    /// # Errors
    ///
    /// [`HostsError::SshConfig`].
    pub fn resolve(&self, host: &Host, local: &LocalMachine) -> Result<ResolvedHost, HostsError> {
        let mut resolved = self.ssh_config.resolve(&host.name, &host.address, local)?;
        if let Some(file) = &host.identity_file {
            resolved.identity_files = vec![file.clone()];
            resolved.settings.no_identity_files = false;
        }
        // A definition beats the alias.
        resolved.rename_hops(|name| self.hosts.contains_key(name));
        Ok(resolved)
    }

    /// The hosts that are defined, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }

    /// Whether no host is defined.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// How many hosts are defined.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Definitions that have no effect because one of higher precedence has the name, in order of
    /// precedence.
    #[must_use]
    pub fn shadowed(&self) -> &[Host] {
        &self.shadowed
    }

    /// The project's own hosts files, which are not used and were not opened.
    #[must_use]
    pub fn untrusted(&self) -> &[PathBuf] {
        &self.untrusted
    }

    /// The files that were looked for, in order of precedence, whether there or not.
    #[must_use]
    pub fn searched(&self) -> &[PathBuf] {
        &self.searched
    }

    /// What stands in the files and has no effect.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// The files that are read, in order of precedence.
///
/// `hosts.json` comes before `hosts.jsonc`: opencode-remote-login lets it win, and a name must not
/// change its meaning for somebody who comes from there.
fn hosts_files(places: &Places) -> Vec<(Format, PathBuf)> {
    let mut files = vec![(Format::Toml, places.hosts_file())];
    for directory in &places.opencode_config_dirs {
        files.push((Format::Json, directory.join("hosts.json")));
        files.push((Format::Json, directory.join("hosts.jsonc")));
    }
    files
}

/// The hosts files of the working directory and its `.opencode` that are none of the user's own.
fn project_files(places: &Places, own: &[PathBuf]) -> Vec<PathBuf> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let own: Vec<PathBuf> = own.iter().map(|path| real(path)).collect();
    let directories = [
        places.project_dir.clone(),
        places.project_dir.join(".opencode"),
    ];
    directories
        .iter()
        .flat_map(|directory| {
            ["hosts.toml", "hosts.json", "hosts.jsonc"].map(|name| directory.join(name))
        })
        .filter(|path| {
            path.symlink_metadata()
                .is_ok_and(|metadata| !metadata.is_dir())
        })
        .filter(|path| !own.contains(&real(path)))
        .collect()
}

fn values<S: serde::Serializer>(
    hosts: &BTreeMap<HostName, Host>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(hosts.values())
}
