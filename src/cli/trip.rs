//! Following a handoff or a collection from the terminal: events, Ctrl-C and its like, the time limit.

use std::time::Duration;

use super::exit;
use super::interrupt::Interrupts;
use super::render::{Renderer, say};
use super::terminal;
use crate::handoff::{Ending, Failure, Running};

/// The exit code of a process that a second Ctrl-C ends.
const ABORTED: i32 = 130;

/// Shows the events to the end and tells the outcome; the first Ctrl-C and the time limit detach, the second
/// Ctrl-C ends the process.
pub(crate) async fn follow(
    mut running: Running,
    renderer: &Renderer,
    timeout: Option<Duration>,
) -> Result<u8, Failure> {
    let detacher = running.detacher();
    // Before the first event is told: whoever reads it may answer with an interrupt.
    let interrupts = Interrupts::listen();
    if let Err(error) = &interrupts {
        tracing::warn!(%error, "interrupts end the program at once");
    }
    let signals = tokio::spawn({
        let detacher = detacher.clone();
        async move {
            let Ok(mut interrupts) = interrupts else {
                return;
            };
            interrupts.next().await;
            say("detaching (Ctrl-C again to stop at once)");
            detacher.cancel();
            interrupts.next().await;
            terminal::close();
            std::process::exit(ABORTED);
        }
    });
    let clock = timeout.map(|limit| {
        let detacher = detacher.clone();
        tokio::spawn(async move {
            tokio::time::sleep(limit).await;
            detacher.cancel();
        })
    });
    while let Some(event) = running.next_event().await {
        renderer.event(&event);
    }
    let outcome = running.outcome().await;
    signals.abort();
    if let Some(clock) = clock {
        clock.abort();
    }
    let outcome = outcome?;
    renderer.outcome(&outcome);
    Ok(match outcome.ending {
        Ending::Detached => exit::DETACHED,
        _ => exit::DONE,
    })
}
