//! `handover collect`: bring a job's session back.

use super::args::CollectArgs;
use super::render::Renderer;
use super::{CliError, trip};
use crate::handoff::Client;

pub(crate) async fn run(client: &Client, args: &CollectArgs) -> Result<u8, CliError> {
    let collection = client
        .collect(args.job.as_str())
        .import(args.import)
        .forget(args.waiting.forget)
        .merge(args.waiting.merge);
    let renderer = Renderer::new(args.waiting.form());
    Ok(trip::follow(collection.start(), &renderer, args.waiting.timeout).await?)
}
