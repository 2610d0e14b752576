//! `handover say`: a follow-up message for a running agent.

use serde::Serialize;

use super::args::{Form, SayArgs};
use super::render::{json_line, say};
use super::{CliError, exit, send};
use crate::handoff::Client;

#[derive(Serialize)]
struct Said<'a> {
    job: &'a str,
    said: bool,
}

pub(crate) async fn run(client: &Client, args: &SayArgs) -> Result<u8, CliError> {
    let message = send::told(&args.message)?;
    let job = client.all_jobs().get(&args.job).await?;
    job.say(&message)
        .await
        .map_err(|error| crate::handoff::Failure {
            job: Some(job.id().clone()),
            ..error.into()
        })?;
    if Form::of(args.json, args.for_model) == Form::Person {
        say(&format!(
            "job {} has the message; the agent reads it after its present turn",
            job.id()
        ));
    } else {
        json_line(&Said {
            job: job.id().as_str(),
            said: true,
        });
    }
    Ok(exit::DONE)
}
