//! `handover hosts`: what is configured, and where each definition came from.

use super::args::HostsArgs;
use super::render::{data_line, json_line, say};
use super::text::printable;
use super::{exit, model};
use crate::handoff::Client;
use crate::hosts::{Address, Host, HostName, Hosts, ResolvedHost, Source, SshConfigNote};
use comfy_table::{Table, presets};
use serde::Serialize;

pub(crate) fn run(client: &Client, args: &HostsArgs) -> u8 {
    let hosts = client.hosts();
    if args.for_model {
        json_line(&model::listing(client));
        return exit::DONE;
    }
    let resolved = if args.all {
        resolve(client)
    } else {
        Vec::new()
    };
    if args.json {
        if args.all {
            json_line(&All {
                hosts,
                ssh_config: hosts.in_ssh_config().collect(),
                resolved,
            });
        } else {
            json_line(hosts);
        }
        return exit::DONE;
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["HOST", "ADDRESS", "SET", "DEFINED IN"]);
    let mut listed = 0;
    for (index, host) in every(client, args.all).enumerate() {
        let address = match resolved.get(index) {
            Some(resolved) => resolved.for_person(host),
            None => host.address.for_person(),
        };
        table.add_row([
            host.name.to_string(),
            printable(&address).into_owned(),
            printable(&what_is_set(host)).into_owned(),
            host.source.to_string(),
        ]);
        listed += 1;
    }
    let more = hosts.in_ssh_config().count();
    if listed > 0 {
        data_line(&table.trim_fmt());
    } else {
        say(&format!(
            "no hosts; define one in {} ([hosts.NAME] with host = \"user@address\")",
            client.places().hosts_file().display()
        ));
    }
    if !args.all && hosts.is_empty() && more > 0 {
        say(&format!(
            "{more} in the ssh_config can be used by name: handover hosts --all"
        ));
    }
    for entry in &resolved {
        if let Some(error) = &entry.error {
            say(&format!("not usable: {}: {}", entry.name, printable(error)));
        }
    }
    for host in hosts.shadowed() {
        say(&format!(
            "not used: {} in {}, which comes after the one above",
            host.name, host.source
        ));
    }
    for file in hosts.untrusted() {
        say(&format!("not trusted and not used: {}", file.display()));
    }
    for warning in hosts.warnings() {
        say(&format!("warning: {}", printable(&warning.to_string())));
    }
    exit::DONE
}

/// Everything that `--all --json` tells.
#[derive(Serialize)]
struct All<'a> {
    #[serde(flatten)]
    hosts: &'a Hosts,
    /// The hosts that only the ssh_config names.
    ssh_config: Vec<&'a Host>,
    /// Every host, the defined ones first, with what the ssh_config says of it.
    resolved: Vec<Resolved<'a>>,
}

/// Where a host is once the ssh_config has been read, or why it cannot be used.
#[derive(Serialize)]
struct Resolved<'a> {
    name: &'a HostName,
    #[serde(flatten)]
    place: Option<Address>,
    /// The hosts on the way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    via: Vec<String>,
    /// What stands in the ssh_config for this host and has not its effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    without_effect: Vec<SshConfigNote>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Resolved<'_> {
    fn for_person(&self, host: &Host) -> String {
        let defined = host.address.for_person();
        let Some(place) = &self.place else {
            return defined;
        };
        let place = place.for_person();
        let mut text = if place == defined || matches!(host.source, Source::SshConfig(_)) {
            place
        } else {
            format!("{defined} = {place}")
        };
        if !self.via.is_empty() {
            text.push_str(" via ");
            text.push_str(&self.via.join(", "));
        }
        text
    }
}

fn every(client: &Client, all: bool) -> impl Iterator<Item = &Host> {
    let hosts = client.hosts();
    let more = all.then(|| hosts.in_ssh_config()).into_iter().flatten();
    hosts.iter().chain(more)
}

fn resolve(client: &Client) -> Vec<Resolved<'_>> {
    let place = |host: &ResolvedHost| Address::new(&host.host, host.user.as_deref(), host.port);
    every(client, true)
        .map(|host| match client.resolve(host) {
            Ok(resolved) => Resolved {
                name: &host.name,
                // What an ssh_config has is checked as an address is.
                place: place(&resolved).ok(),
                via: resolved
                    .jumps
                    .iter()
                    .filter_map(|hop| place(hop).ok())
                    .map(|hop| hop.for_person())
                    .collect(),
                without_effect: resolved
                    .jumps
                    .iter()
                    .flat_map(|hop| &hop.notes)
                    .chain(&resolved.notes)
                    .cloned()
                    .collect(),
                error: None,
            },
            Err(error) => Resolved {
                name: &host.name,
                place: None,
                via: Vec::new(),
                without_effect: Vec::new(),
                error: Some(exit::with_causes(&error)),
            },
        })
        .collect()
}

fn what_is_set(host: &Host) -> String {
    let values = [
        ("agent", host.agent.as_ref().map(ToString::to_string)),
        ("model", host.model.as_ref().map(ToString::to_string)),
        (
            "directory",
            host.directory.as_ref().map(ToString::to_string),
        ),
        ("opencode", host.opencode.as_ref().map(ToString::to_string)),
        (
            "state_dir",
            host.state_dir.as_ref().map(ToString::to_string),
        ),
        (
            "identity_file",
            host.identity_file
                .as_ref()
                .map(|path| path.display().to_string()),
        ),
        ("auto_approve", host.auto_approve.then(|| "true".to_owned())),
        (
            "max_jobs",
            (host.max_jobs != Host::MAX_JOBS).then(|| host.max_jobs.to_string()),
        ),
        (
            "inactivity",
            host.inactivity
                .map(|time| humantime::format_duration(time).to_string()),
        ),
        (
            "kill_on_stall",
            host.kill_on_stall.then(|| "true".to_owned()),
        ),
    ];
    let set: Vec<String> = values
        .into_iter()
        .filter_map(|(key, value)| value.map(|value| format!("{key}={value}")))
        .collect();
    set.join(" ")
}
