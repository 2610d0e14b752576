//! Hands the newest session of the current directory to a host and waits for its return.
//!
//! Run it with `cargo run --example embed -- HOST "What the agent is to do there"`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example talks to its terminal"
)]

use handover::events::{AgentEvent, Event};
use handover::handoff::{Client, ClientOptions};
use handover::job::Mode;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(host), Some(message)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: embed HOST MESSAGE");
    };
    let client = Client::open(ClientOptions::from_env()?)?;
    let mut handoff = client
        .handoff(&host)?
        .mode(Mode::RoundTrip)
        .message(message)
        .start();
    while let Some(event) = handoff.next_event().await {
        match event {
            Event::Step { step, detail } => eprintln!("{step:?} {detail}"),
            Event::Agent {
                agent: AgentEvent::Text { text },
            } => eprintln!("agent: {text:?}"),
            _ => {}
        }
    }
    let outcome = handoff.outcome().await?;
    println!("{:?}: {:?}", outcome.ending, outcome.trip);
    Ok(())
}
