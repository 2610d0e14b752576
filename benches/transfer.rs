//! How fast a large file moves each way: ours beside OpenSSH's `sftp`, in one run.
//!
//! Both go to the same sshd through the same proxy, which delays every byte, with one login before the clock starts
//! for ours and within it for `sftp`; the time of a login alone, measured the same way, is taken off the latter. Each
//! figure is the median of several runs, in turns, so that a busy machine slows both.
//!
//! `HANDOVER_BENCH_MIB` (256) and `HANDOVER_BENCH_RUNS` (3) change the size and the number of runs.

#![expect(clippy::print_stdout, reason = "the table is what this is for")]

#[expect(
    dead_code,
    reason = "a measurement needs delay, and none of the counts and faults"
)]
#[path = "../tests/support/proxy.rs"]
mod proxy;
#[expect(dead_code, reason = "no session is handed over here")]
mod stage;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use handover::ssh::{AgentSource, ConnectOptions, Connection, Files as _, RemotePath, Target};

use proxy::Proxy;
use stage::{HOST, Stage, median};

/// The size of the file.
const MIB: u64 = 256;
/// Runs a figure, for each side.
const RUNS: usize = 3;
/// The delays, each way.
const DELAYS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(25)];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn main() -> anyhow::Result<()> {
    if !stage::is_asked_for() {
        return Ok(());
    }
    let size = number("HANDOVER_BENCH_MIB").unwrap_or(MIB) << 20;
    let runs = number("HANDOVER_BENCH_RUNS").map_or(RUNS, |runs| runs.max(1) as usize);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let stage = Stage::set_up(10_000, 1_000)?;
    let local = stage.local_home().join("large");
    fill(&local, size)?;
    println!("{} MiB, {runs} runs each: MB/s, median", size >> 20);
    println!("| RTT ms | way | ours | sftp | ours / sftp |");
    println!("|---|---|---|---|---|");
    for delay in DELAYS {
        let proxy = runtime.block_on(Proxy::start(stage.address()))?;
        proxy.delay(delay);
        stage.configure(proxy.address())?;
        for up in [true, false] {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..runs {
                ours.push(runtime.block_on(move_ours(
                    &stage,
                    proxy.address(),
                    &local,
                    size,
                    up,
                ))?);
                theirs.push(move_theirs(&stage, proxy.address(), &local, size, up)?);
            }
            let speed = |times| size as f64 / 1e6 / median(times).as_secs_f64();
            let (ours, theirs) = (speed(ours), speed(theirs));
            println!(
                "| {} | {} | {ours:.1} | {theirs:.1} | {:.2} |",
                2 * delay.as_millis(),
                if up { "up" } else { "down" },
                ours / theirs
            );
        }
    }
    Ok(())
}

/// Bytes that do not compress, in a file.
fn fill(path: &Path, size: u64) -> anyhow::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..size / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes())?;
    }
    file.flush()?;
    Ok(())
}

fn whole(path: &Path, size: u64) -> anyhow::Result<()> {
    let found = std::fs::metadata(path)?.len();
    ensure!(found == size, "{} has {found} bytes", path.display());
    std::fs::remove_file(path)?;
    Ok(())
}

/// One transfer by our library, over a connection that is there.
async fn move_ours(
    stage: &Stage,
    address: SocketAddr,
    local: &Path,
    size: u64,
    up: bool,
) -> anyhow::Result<Duration> {
    let login = stage.login();
    let user = login.split('@').next().unwrap_or_default();
    let mut target = Target::new(HOST.parse()?, "127.0.0.1", address.port(), user);
    target.identity_files.push(stage.key());
    let mut options = ConnectOptions::default().agent(AgentSource::None);
    options.known_hosts = vec![stage.local_home().join("config/known_hosts")];
    let connection = Connection::open(&target, &options).await?;
    let files = connection.sftp().await?;
    let there = stage.remote_home().join("moved");
    let begun = Instant::now();
    let taken = if up {
        let path: RemotePath = there.to_str().context("a path of text")?.parse()?;
        files.upload(local, &path, &|_| {}).await?;
        let taken = begun.elapsed();
        whole(&there, size)?;
        taken
    } else {
        let path: RemotePath = local.to_str().context("a path of text")?.parse()?;
        files.download(&path, &there, size, &|_| {}).await?;
        let taken = begun.elapsed();
        whole(&there, size)?;
        taken
    };
    connection.close().await;
    Ok(taken)
}

/// One transfer by OpenSSH, without its login.
fn move_theirs(
    stage: &Stage,
    address: SocketAddr,
    local: &Path,
    size: u64,
    up: bool,
) -> anyhow::Result<Duration> {
    let there = stage.remote_home().join("moved");
    let line = if up {
        format!("put {} {}", local.display(), there.display())
    } else {
        format!("get {} {}", local.display(), there.display())
    };
    let with = sftp(stage, address, &line)?;
    whole(&there, size)?;
    let login = sftp(stage, address, "pwd")?;
    Ok(with.saturating_sub(login))
}

/// The time that `sftp` takes with one line of commands.
fn sftp(stage: &Stage, address: SocketAddr, line: &str) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let mut child = stage
        .openssh("sftp", address)
        .arg("-b")
        .arg("-")
        .arg(stage.login())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let mut stdin = child.stdin.take().context("sftp's standard input")?;
    writeln!(stdin, "{line}")?;
    drop(stdin);
    ensure!(child.wait()?.success(), "sftp failed at {line}");
    Ok(begun.elapsed())
}
