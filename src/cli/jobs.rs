//! `handover jobs`: what this machine has sent, after a quick look at the hosts of what has not ended.

use comfy_table::{Table, presets};

use super::args::{Form, JobsArgs};
use super::job_view::{JobView, ago, kind_word, state_words};
use super::render::{data_line, json_line, say};
use super::text::{one_line, printable};
use super::{CliError, discover, exit, parse};
use crate::handoff::Client;
use crate::hosts::HostName;
use crate::job::{Attributes, JobKind, JobRecord, State};
use crate::session::SessionId;

pub(crate) async fn run(client: &Client, args: &JobsArgs) -> Result<u8, CliError> {
    let host: Option<HostName> = args.host.as_deref().map(parse).transpose()?;
    if args.discover {
        return discover::run(client, host.as_slice(), args.json).await;
    }
    let session: Option<SessionId> = args.session.as_deref().map(parse).transpose()?;
    let states: Vec<Wanted> = args
        .state
        .iter()
        .map(|name| wanted(name))
        .collect::<Result<_, _>>()?;
    let all = client.jobs().await?;
    if let Some(host) = &host
        && !all.iter().any(|job| &job.host == host)
    {
        // A mistyped name is no empty list; a host that is configured no more may still have jobs.
        client.host(host.as_str())?;
    }
    let asked_for: Vec<JobRecord> = all
        .into_iter()
        .filter(|job| host.as_ref().is_none_or(|host| &job.host == host))
        .filter(|job| {
            session.as_ref().is_none_or(|session| {
                job.session.as_ref() == Some(session) || job.parent.as_ref() == Some(session)
            })
        })
        .collect();
    let form = Form::of(args.json, args.for_model);
    let now = if args.offline {
        asked_for
    } else {
        look(client, asked_for, form).await
    };
    let jobs: Vec<JobRecord> = now
        .into_iter()
        .filter(|job| args.all || !states.is_empty() || job.state.is_live() || job.is_uncollected())
        .filter(|job| states.is_empty() || states.iter().any(|wanted| wanted.holds(job)))
        .collect();
    if form != Form::Person {
        json_line(
            &jobs
                .iter()
                .map(|job| JobView::new(job, form))
                .collect::<Vec<_>>(),
        );
        return Ok(exit::DONE);
    }
    if jobs.is_empty() {
        say(if args.all || !states.is_empty() {
            "no jobs"
        } else {
            "no live jobs and no results to collect; the others: handover jobs --all"
        });
        return Ok(exit::DONE);
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["JOB", "STATE", "HOST", "SESSION", "MODE", "AGE", "WHAT"]);
    for job in &jobs {
        let what = job.title.as_ref().or(job.prompt.as_ref());
        table.add_row([
            job.id.to_string(),
            state_words(job),
            job.host.to_string(),
            job.session
                .as_ref()
                .map_or_else(|| "-".to_owned(), ToString::to_string),
            mode(job),
            ago(job.created_ms()),
            what.map_or_else(String::new, |text| one_line(text, 40)),
        ]);
    }
    data_line(&table.trim_fmt());
    if args.offline {
        say("the states are as last seen: no host was asked");
    }
    Ok(exit::DONE)
}

/// The jobs as their hosts show them now; what a host met is told, and is no failure of the list.
async fn look(client: &Client, jobs: Vec<JobRecord>, form: Form) -> Vec<JobRecord> {
    let seen = client.all_jobs().look(jobs).await;
    for (host, error) in seen.unreached {
        tracing::info!(%host, error = exit::with_causes(&error), "not looked at");
        if form == Form::Model {
            continue;
        }
        say(&format!(
            "warning: {host} was not looked at to the end, its jobs are as last seen: {}",
            printable(&exit::with_causes(&error))
        ));
        if let Some(hint) = exit::describe(&error).hint {
            say(&format!("hint: {}", printable(&hint)));
        }
    }
    seen.jobs
}

fn mode(job: &JobRecord) -> String {
    match job.kind {
        JobKind::Spawn => kind_word(job.kind),
        _ => job.mode.to_string(),
    }
}

/// What `--state` asks for: the column of that name holds both.
enum Wanted {
    State(State),
    Attribute(&'static str),
}

impl Wanted {
    fn holds(&self, job: &JobRecord) -> bool {
        match self {
            Self::State(state) => job.state == *state,
            Self::Attribute(name) => job.attributes.names().contains(name),
        }
    }
}

fn wanted(name: &str) -> Result<Wanted, CliError> {
    let lower = name.to_ascii_lowercase();
    let states = State::ALL.into_iter();
    let attributes = Attributes::NAMES.into_iter();
    let state = states.clone().find(|state| state.name() == lower);
    let attribute = attributes.clone().find(|name| *name == lower);
    state
        .map(Wanted::State)
        .or(attribute.map(Wanted::Attribute))
        .ok_or_else(|| {
            let names: Vec<&str> = states.map(State::name).chain(attributes).collect();
            CliError::Usage(format!(
                "{name:?} is no state; the states are {}",
                names.join(", ")
            ))
        })
}
