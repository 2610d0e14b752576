//! `handover hosts`: what is configured, and where each definition came from.

use super::args::HostsArgs;
use super::render::{data_line, json_line, say};
use super::text::printable;
use super::{exit, model};
use crate::handoff::Client;
use crate::hosts::Host;
use comfy_table::{Table, presets};

pub(crate) fn run(client: &Client, args: &HostsArgs) -> u8 {
    let hosts = client.hosts();
    if args.for_model {
        json_line(&model::listing(client));
        return exit::DONE;
    }
    if args.json {
        json_line(hosts);
        return exit::DONE;
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["HOST", "ADDRESS", "SET", "DEFINED IN"]);
    for host in hosts.iter() {
        table.add_row([
            host.name.to_string(),
            printable(&host.address.for_person()).into_owned(),
            printable(&what_is_set(host)).into_owned(),
            host.source.to_string(),
        ]);
    }
    if !hosts.is_empty() {
        data_line(&table.trim_fmt());
    } else {
        say(&format!(
            "no hosts; define one in {} ([hosts.NAME] with host = \"user@address\")",
            client.places().hosts_file().display()
        ));
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
