//! How long it takes until an agent works on another host: ours beside plain ssh and scp, in one run.
//!
//! Each figure is the median of several runs, from the start of the first process to the end of the last one, cold: no
//! connection and no state is left from an earlier run. Both sides export the same session with the same stub agent
//! and go through the same proxy, which delays every byte and counts connections. The proxy answers a TCP connect at
//! once, so the physical link's first round trip is missing, once for each connection.

#![expect(clippy::print_stdout, reason = "the table is what this is for")]

#[expect(
    dead_code,
    reason = "a measurement needs delay and counts, and none of the faults"
)]
#[path = "../tests/support/proxy.rs"]
mod proxy;
#[expect(dead_code, reason = "other measurements use the rest of it")]
mod stage;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use proxy::Proxy;
use stage::{HOST, SESSION, Stage, done, median};

/// The session's size: what a session of a working day exports.
const SIZE: usize = 1_300_000;
/// The size of its messages.
const MESSAGE: usize = 6_500;
/// Runs a figure, for each side; `HANDOVER_BENCH_RUNS` overrides.
const RUNS: usize = 7;
/// The delays, each way.
const DELAYS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(25)];

/// The remote script of the old way: the agent goes on when the connection has ended.
const OLD_SCRIPT: &str = "cd ~/work\nnohup opencode run --session=SESSION --format json <prompt.txt \
                          >events.ndjson 2>stderr.log &\n";

/// One figure of one side.
struct Figure {
    median: Duration,
    fastest: Duration,
    connections: u64,
    round_trips: u64,
}

fn main() -> anyhow::Result<()> {
    if !stage::is_asked_for() {
        return Ok(());
    }
    let runs = std::env::var("HANDOVER_BENCH_RUNS")
        .ok()
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(RUNS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let stage = Stage::set_up(SIZE, MESSAGE)?;
    std::fs::write(
        stage.local_home().join("script.sh"),
        OLD_SCRIPT.replace("SESSION", SESSION),
    )?;
    std::fs::write(stage.remote_home().join("work/prompt.txt"), "go on\n")?;
    println!(
        "dispatch of a {} byte session, {runs} runs each: median (fastest), connections, round trips",
        stage.session_bytes()?
    );
    println!("| RTT ms | ours | ssh and scp | ratio |");
    println!("|---|---|---|---|");
    let mut steps = Vec::new();
    for delay in DELAYS {
        let proxy = runtime.block_on(Proxy::start(stage.address()))?;
        proxy.delay(delay);
        stage.configure(proxy.address())?;
        // In turns, so that a busy machine slows both.
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let mut counts = [(0, 0); 2];
        for _ in 0..runs {
            for (place, times) in [&mut ours, &mut theirs].into_iter().enumerate() {
                let before = (proxy.connections(), proxy.flights());
                times.push(if place == 0 {
                    send(&stage)?
                } else {
                    old_way(&stage, proxy.address())?
                });
                if let Some(count) = counts.get_mut(place) {
                    *count = (proxy.connections() - before.0, proxy.flights() - before.1);
                }
                stage.settle();
            }
        }
        let [ours, theirs] = [figure(ours, counts[0]), figure(theirs, counts[1])];
        println!(
            "| {} | {} | {} | {:.2} |",
            2 * delay.as_millis(),
            show(&ours),
            show(&theirs),
            ours.median.as_secs_f64() / theirs.median.as_secs_f64()
        );
        steps.push((delay, timeline(&stage)?));
        stage.settle();
    }
    for (delay, steps) in steps {
        println!(
            "\nours at {} ms RTT, one run: {}",
            2 * delay.as_millis(),
            steps.join(", ")
        );
    }
    Ok(())
}

fn figure(times: Vec<Duration>, (connections, round_trips): (u64, u64)) -> Figure {
    Figure {
        fastest: times.iter().min().copied().unwrap_or_default(),
        median: median(times),
        connections,
        round_trips,
    }
}

fn show(figure: &Figure) -> String {
    format!(
        "{} ms ({}), {}, {}",
        figure.median.as_millis(),
        figure.fastest.as_millis(),
        figure.connections,
        figure.round_trips
    )
}

/// One dispatch by our program.
fn send(stage: &Stage) -> anyhow::Result<Duration> {
    let mut command = stage.handover(&["send", HOST, "--session", SESSION, "--one-way"])?;
    let begun = Instant::now();
    done(&mut command)?;
    Ok(begun.elapsed())
}

/// One dispatch by ssh and scp, a connection a command.
fn old_way(stage: &Stage, address: SocketAddr) -> anyhow::Result<Duration> {
    let home = stage.local_home();
    let _ = std::fs::remove_file(home.join("imported"));
    let ssh = |line: &str| done(stage.openssh("ssh", address).arg(stage.login()).arg(line));
    let scp = |file: &str, to: &str| {
        let to = format!("{}:{}/{to}", stage.login(), stage.remote_home().display());
        done(stage.openssh("scp", address).arg(home.join(file)).arg(to))
    };
    let begun = Instant::now();
    let export = std::fs::File::create(home.join("session.json"))?;
    let exported = Command::new(home.join("bin").join("opencode"))
        .args(["export", SESSION])
        .env("HOME", &home)
        .stdout(export)
        .status()?;
    if !exported.success() {
        bail!("the stub did not export");
    }
    let remote = format!("{}/session.json", stage.remote_home().display());
    scp("session.json", "session.json")?;
    ssh(&format!("opencode import {remote}"))?;
    ssh(&format!("rm -f {remote}"))?;
    scp("script.sh", "script.sh")?;
    ssh(&format!("bash {}/script.sh", stage.remote_home().display()))?;
    Ok(begun.elapsed())
}

/// When each step of one dispatch began, in milliseconds from the start of the process.
fn timeline(stage: &Stage) -> anyhow::Result<Vec<String>> {
    let mut command =
        stage.handover(&["send", HOST, "--session", SESSION, "--one-way", "--json"])?;
    let begun = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let mut steps = Vec::new();
    for line in lines {
        let event: serde_json::Value = serde_json::from_str(&line?)?;
        if event["event"] == "progress" {
            continue;
        }
        if let Some(name) = event["step"].as_str().or(event["event"].as_str()) {
            steps.push(format!("{name} {}", begun.elapsed().as_millis()));
        }
    }
    child.wait()?;
    steps.push(format!("end {}", begun.elapsed().as_millis()));
    Ok(steps)
}
