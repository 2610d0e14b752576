//! `handover run`: a fresh session on a host.

use super::args::{Form, RunArgs};
use super::render::Renderer;
use super::{CliError, parse, send, trip};
use crate::handoff::Client;

pub(crate) async fn run(client: &Client, args: &RunArgs) -> Result<u8, CliError> {
    let form = Form::of(args.json, args.for_model);
    if form == Form::Model {
        // The user's ssh_config was not written for a model to choose from.
        client.hosts().defined(&args.host)?;
    }
    let mut job = client
        .spawn(&args.host, send::told(&args.prompt)?)?
        .inactivity(args.watchdogs.inactivity, args.watchdogs.kill_on_stall)
        .loop_limit(args.watchdogs.loop_limit, args.watchdogs.kill_on_loop);
    if let Some(directory) = &args.dir {
        job = job.directory(parse(directory)?);
    }
    if let Some(agent) = &args.agent {
        job = job.agent(parse(agent)?);
    }
    if let Some(model) = &args.model {
        job = job.model(parse(model)?);
    }
    if let Some(title) = &args.title {
        job = job.title(title);
    }
    if let Some(parent) = &args.parent {
        job = job.parent(parse(parent)?);
    }
    if let Some(limit) = args.watchdogs.max_time {
        job = job.max_time(limit);
    }
    let renderer = Renderer::new(form);
    Ok(trip::follow(job.start(), &renderer, None).await?)
}
