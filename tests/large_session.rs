//! A session of half a gigabyte goes out and comes back over a real sshd that asks for new keys all the time.
//!
//! `HANDOVER_TEST_LARGE_MB` sets its size (500).
#![cfg(target_os = "linux")]

#[path = "../benches/stage/mod.rs"]
#[expect(dead_code, reason = "the measurements use the rest of it")]
mod stage;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use stage::{HOST, SESSION, Stage, high_water_kib};

/// What the process may hold at the most, whatever the session's size: SSH windows, one message, the program itself.
const FLAT_KIB: u64 = 96 << 10;
/// The size of the session's messages, in bytes.
const MESSAGE: usize = 40_000;

#[test]
#[ignore = "needs sshd, and gigabytes of disk: tests/run"]
fn a_session_of_half_a_gigabyte_comes_back_with_flat_memory_and_progress_over_rekeys() -> Result<()>
{
    let megabytes = std::env::var("HANDOVER_TEST_LARGE_MB").ok();
    let megabytes: usize = megabytes.map_or(Ok(500), |text| text.parse())?;
    let stage = Stage::set_up_with(
        megabytes * 1_000_000,
        MESSAGE,
        "RekeyLimit 16M\nLogLevel DEBUG1",
    )?;
    stage.configure(stage.address())?;
    let (out, err) = (
        stage.local_home().join("out"),
        stage.local_home().join("err"),
    );
    let mut child = stage
        .handover(&["send", HOST, "--session", SESSION, "--round-trip", "--json"])?
        .stdout(std::fs::File::create(&out)?)
        .stderr(std::fs::File::create(&err)?)
        .spawn()?;
    let mut peak = 0;
    let status = loop {
        peak = high_water_kib(child.id()).unwrap_or(0).max(peak);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let told = std::fs::read_to_string(&out)?;
    ensure!(
        status.success(),
        "{status}\n{told}\n{}",
        std::fs::read_to_string(err)?
    );
    let events: Vec<Value> = told
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let result = events.last().context("nothing was told")?;
    ensure!(result["outcome"] == "completed", "{result}");
    ensure!(result["new_messages"] == 2, "{result}");

    ensure!(
        peak < FLAT_KIB,
        "{peak} KiB for a session of {megabytes} MB"
    );

    // Each way is told as it goes, and to its end.
    let whole = stage.session_bytes()?;
    for way in ["send", "fetch"] {
        let moved: Vec<u64> = events
            .iter()
            .filter(|event| event["event"] == "progress" && event["step"] == way)
            .filter_map(|event| event["done"].as_u64())
            .collect();
        ensure!(moved.len() > 10, "{way}: {moved:?}");
        ensure!(moved.is_sorted(), "{way}: {moved:?}");
        let last = moved.last().copied().unwrap_or_default();
        ensure!(last >= whole * 9 / 10, "{way}: {last} of {whole}");
    }

    // Both ways together, and the server asks anew after each 16 MiB of either.
    let rekeys = stage.sshd_log()?.matches("rekeying in progress").count()
        + stage.sshd_log()?.matches("set_newkeys: rekeying").count();
    ensure!(
        rekeys >= megabytes / 16,
        "{rekeys} rekeys for {megabytes} MB each way"
    );
    Ok(())
}
