//! Hands the newest session of the current directory to a host and waits for its return.
//!
//! Run it with `cargo run --example embed -- HOST "What the agent is to do there"`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example talks to its terminal"
)]

use futures::StreamExt as _;
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

    // What is watched is a stream: here of the one job, as it is at its end.
    let jobs = client.all_jobs();
    let job = jobs.get(outcome.job.as_str()).await?.record().clone();
    let cost: Vec<f64> = jobs
        .watch(vec![job])
        .map(|update| update.record.usage.cost)
        .collect()
        .await;
    println!("cost: {cost:?}");
    Ok(())
}
