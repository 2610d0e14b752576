//! `handover kill`: end a job before its time.

use super::args::{Form, KillArgs};
use super::render::{json_line, say};
use super::{CliError, exit, parse};
use crate::handoff::{Client, KillEnding, Killed};
use crate::job::State;

pub(crate) async fn run(client: &Client, args: &KillArgs) -> Result<u8, CliError> {
    let mut name = args.job.clone();
    if let Some(parent) = &args.parent {
        let job = client.all_jobs().get(&name).await?;
        job.require_parent(&parse(parent)?)?;
        // The one that was judged, whatever job is the newest by now.
        name = job.id().to_string();
    }
    let killed = client.kill(name).grace(args.grace).run().await?;
    match Form::of(args.json, args.for_model) {
        // Ids, names and counts alone: nothing that a model may not see.
        Form::Json | Form::Model => json_line(&killed),
        Form::Person => person(&killed),
    }
    Ok(if killed.left == 0 {
        exit::DONE
    } else {
        exit::JOB_FAILED
    })
}

fn person(killed: &Killed) {
    let (job, host) = (&killed.job, &killed.host);
    match killed.ending {
        KillEnding::Killed => say(&format!("job {job} on {host} is ended")),
        KillEnding::Closed if killed.state != State::Killed => {
            say(&format!(
                "job {job} was never launched: there is nothing to end"
            ));
        }
        KillEnding::Closed => {
            let freed = killed.session.as_ref();
            let freed = freed.map_or_else(String::new, |session| {
                format!("; session {session} is free")
            });
            say(&format!(
                "job {job} was never launched and is closed now{freed}"
            ));
        }
        _ => say(&format!(
            "job {job} on {host} had ended already: {}",
            killed.state
        )),
    }
    if killed.left > 0 {
        say(&format!(
            "warning: {} processes of its agent could not be ended on {host}",
            killed.left
        ));
    }
    if killed.result {
        say(&format!(
            "  bring back what it did:   handover collect {job}"
        ));
    }
}
