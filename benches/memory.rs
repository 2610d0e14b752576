//! The most memory that our process holds while a large session goes out and comes back.
//!
//! The figure is the high-water mark of the resident set (`VmHWM` of proc(5)), so this measures on Linux. The agents
//! on both sides and the server are processes of their own and do not count.

#![expect(clippy::print_stdout, reason = "the table is what this is for")]

#[expect(dead_code, reason = "nothing here is compared with OpenSSH")]
mod stage;

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::bail;

use stage::{HOST, SESSION, Stage, high_water_kib};

/// The sessions' sizes.
const SIZES: [usize; 3] = [1_300_000, 100_000_000, 500_000_000];
/// The size of their messages.
const MESSAGE: usize = 40_000;
/// How often the mark is read; it never falls, so only growth in the last instant is missed.
const INTERVAL: Duration = Duration::from_millis(5);

fn main() -> anyhow::Result<()> {
    if !stage::is_asked_for() {
        return Ok(());
    }
    println!("a round trip on loopback: the peak resident memory of our process");
    println!("| session | peak | time |");
    println!("|---|---|---|");
    for size in SIZES {
        let stage = Stage::set_up(size, MESSAGE)?;
        stage.configure(stage.address())?;
        let log = stage.local_home().join("talk");
        let begun = Instant::now();
        let mut child = stage
            .handover(&["send", HOST, "--session", SESSION, "--round-trip", "--json"])?
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()?;
        let mut peak_kib = 0;
        let status = loop {
            peak_kib = high_water_kib(child.id()).unwrap_or(0).max(peak_kib);
            if let Some(status) = child.try_wait()? {
                break status;
            }
            std::thread::sleep(INTERVAL);
        };
        if !status.success() {
            bail!("{status}: {}", std::fs::read_to_string(log)?);
        }
        println!(
            "| {:.1} MB | {:.1} MB | {:.1} s |",
            stage.session_bytes()? as f64 / 1e6,
            peak_kib as f64 * 1024.0 / 1e6,
            begun.elapsed().as_secs_f64()
        );
    }
    Ok(())
}
