//! `handover demo`: a whole round trip with nothing installed.

use super::args::{DemoArgs, Form};
use super::render::{Renderer, say};
use super::{CliError, trip};
use crate::agent::Mode;
use crate::demo::server::DemoError;
use crate::demo::stage::{HOST, Stage, StageError};
use crate::handoff::HandoffError;

/// What the stand-in agent on the demonstration's host is told; the lines that begin with RULE are obeyed.
const MESSAGE: &str = "\
Write the release notes and tell where they are.
RULE say I am on the other machine now and start with the notes.
RULE write NOTES.md The session moved, went on, and came back.
RULE sleep 1
RULE say NOTES.md is written; the work is done here.";

/// Sets the stage up, makes the round trip that `send --round-trip` makes, shows it, and takes all down.
pub(crate) async fn run(args: &DemoArgs) -> Result<u8, CliError> {
    let program = std::env::current_exe().map_err(|source| HandoffError::LocalFile {
        path: "the running program".into(),
        source,
    })?;
    let stage = Stage::set_up(&program).await.map_err(stage_error)?;
    if !args.json {
        say(
            "an SSH server and a stand-in agent run in a temporary directory; nothing else is touched",
        );
    }
    let before = message_count(&stage).await;
    let trip = trip::follow(
        stage
            .client()
            .handoff(HOST)?
            .session(stage.session().clone())
            .mode(Mode::RoundTrip)
            .directory(super::parse("~/work")?)
            .message(MESSAGE)
            .start(),
        &Renderer::new(Form::of(args.json, false)),
        None,
    )
    .await;
    let after = message_count(&stage).await;
    stage.take_down().await.map_err(stage_error)?;
    let code = trip?;
    if !args.json {
        if let (Some(before), Some(after)) = (before, after) {
            say(&format!(
                "the session had {before} messages here before, and has {after} now"
            ));
        }
        say("everything of the demonstration is removed");
    }
    Ok(code)
}

async fn message_count(stage: &Stage) -> Option<usize> {
    stage.client().message_count(stage.session()).await.ok()
}

fn stage_error(error: StageError) -> CliError {
    match error {
        StageError::Server(DemoError::NoPosixShell) => {
            CliError::Usage(DemoError::NoPosixShell.to_string())
        }
        StageError::Handoff(error) => error.into(),
        StageError::Ssh(error) => HandoffError::from(error).into(),
        other => CliError::Other(Box::new(other)),
    }
}
