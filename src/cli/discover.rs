//! `handover jobs --discover`: find jobs on the hosts that this machine has no record of.

use serde::Serialize;

use super::CliError;
use super::exit::{self, ErrorDocument};
use super::render::{data_line, json_line, person_error, say};
use super::text::{one_line, printable};
use crate::handoff::{Client, Failure, HostDiscovery};
use crate::hosts::HostName;
use crate::job::{Mode, State};
use crate::session::SessionId;

#[derive(Serialize)]
struct HostDocument {
    host: String,
    reached: bool,
    adopted: Vec<Adopted>,
    known: usize,
    refused: Vec<Refused>,
    more: bool,
    #[serde(flatten)]
    error: Option<ErrorDocument>,
}

#[derive(Serialize)]
struct Adopted {
    id: String,
    state: State,
    session: Option<String>,
    mode: Mode,
    sender: Option<String>,
}

#[derive(Serialize)]
struct Refused {
    name: String,
    reason: String,
}

/// The exit code is 0 when every host was reached, else that of the first one that was not.
pub(crate) async fn run(client: &Client, hosts: &[HostName], json: bool) -> Result<u8, CliError> {
    let found = client.discover(hosts).await?;
    let code = found
        .hosts
        .iter()
        .find_map(|host| host.error.as_ref())
        .map_or(exit::DONE, |error| exit::describe(error).code);
    if json {
        #[derive(Serialize)]
        struct Document {
            hosts: Vec<HostDocument>,
        }
        let hosts = found.hosts.into_iter().map(document).collect();
        json_line(&Document { hosts });
    } else {
        if found.hosts.is_empty() {
            say("there are no hosts to look on; 'handover hosts' says how to define one");
        }
        found.hosts.into_iter().for_each(person);
    }
    Ok(code)
}

fn document(host: HostDiscovery) -> HostDocument {
    HostDocument {
        host: host.host.to_string(),
        reached: host.error.is_none(),
        adopted: host
            .adopted
            .into_iter()
            .map(|job| Adopted {
                id: job.id.to_string(),
                state: job.state,
                session: job.session.map(|session| session.to_string()),
                mode: job.mode,
                sender: job.sender,
            })
            .collect(),
        known: host.known,
        refused: host
            .refused
            .into_iter()
            .map(|refused| Refused {
                name: refused.name,
                reason: refused.reason,
            })
            .collect(),
        more: host.more,
        error: host
            .error
            .map(|error| exit::error_document(&Failure::from(error))),
    }
}

fn person(host: HostDiscovery) {
    let name = host.host;
    for job in &host.adopted {
        let from = job.sender.as_deref().map_or_else(String::new, |sender| {
            format!(", sent by {}", one_line(sender, 60))
        });
        let session = job.session.as_ref().map_or("-", SessionId::as_str);
        data_line(&format!(
            "{}  {}  {name}  {session}{from}",
            job.id, job.state
        ));
    }
    if host.error.is_none() || !host.adopted.is_empty() || host.known > 0 {
        say(&format!(
            "{name}: {} jobs adopted, {} known before",
            host.adopted.len(),
            host.known
        ));
    }
    for refused in &host.refused {
        say(&format!(
            "  left alone: {}: {}",
            one_line(&refused.name, 80),
            printable(&refused.reason)
        ));
    }
    if host.more {
        say("  there are more directories than were looked at");
    }
    if let Some(error) = host.error {
        person_error(&Failure::from(error));
    }
}
