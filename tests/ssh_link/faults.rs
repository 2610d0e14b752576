//! Links that are cut, stall, fall silent or sleep, and keys that are exchanged anew.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt as _;
use handover::ssh::{
    Connection, ExecOptions, Files, Pool, RekeyLimit, RemotePath, SshError, Target,
};

use crate::proxy::{Cut, Direction, Proxy, Repeat};
use crate::sshd::{Sshd, SshdOptions, wait_for};
use crate::support::{AT_ONCE, behind, connect, count, known, run, start, user};

/// The cuts in each direction.
const CUTS: u64 = 20;
/// How many of them are under way at the same time.
const ABREAST: usize = 4;

async fn proxy(sshd: &Sshd) -> Proxy {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, sshd.port()));
    Proxy::start(address).await.unwrap()
}

fn remote(sshd: &Sshd, name: &str) -> RemotePath {
    sshd.path(name).to_str().unwrap().parse().unwrap()
}

/// Connects, runs a command, and moves a file each way.
async fn work(pool: &Pool, target: &Target, sshd: &Sshd, name: &str) -> Result<(), SshError> {
    let connection = pool.connect(target).await?;
    let output = connection
        .exec("echo there", ExecOptions::new("a test"))
        .await?;
    assert_eq!(output.stdout, b"there\n");
    let files = connection.sftp().await?;
    let path = remote(sshd, name);
    files.write(&path, &[7; 100_000]).await?;
    let back = sshd.path(&format!("{name}.back"));
    let size = files.download(&path, &back, 1 << 20, &|_| {}).await;
    let read = fs::read(&back);
    match size {
        Ok(size) => assert_eq!((size, read.unwrap().len()), (100_000, 100_000)),
        // A download that was cut leaves nothing.
        Err(error) => {
            assert!(read.is_err());
            return Err(error);
        }
    }
    fs::remove_file(back).unwrap();
    files.remove_file(&path).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_link_cut_after_any_byte_is_one_typed_error_and_the_next_attempt_gets_through() {
    let sshd = start(&["MaxStartups 100".to_owned()]);
    let whole = proxy(&sshd).await;
    let (target, options) = behind(&sshd, whole.address().port());
    work(&Pool::new(options), &target, &sshd, "whole")
        .await
        .unwrap();
    let sizes = [Direction::ToServer, Direction::ToClient].map(|way| (way, whole.bytes(way)));
    let rows = sizes
        .into_iter()
        .flat_map(|(way, size)| (0..CUTS).map(move |row| (way, row * size / CUTS)));
    let cut = async |(way, at): (Direction, u64)| {
        let proxy = proxy(&sshd).await;
        let (target, options) = behind(&sshd, proxy.address().port());
        let pool = Pool::new(options);
        let name = format!("{way:?}{at}");
        let cut = if at % 2 == 0 { Cut::Reset } else { Cut::Close };
        proxy.cut_after(way, at, cut, Repeat::Once);
        let first = tokio::time::timeout(AT_ONCE * 2, work(&pool, &target, &sshd, &name))
            .await
            .unwrap();
        if let Err(error) = first {
            assert!(
                error.is_connection_loss() || matches!(error, SshError::Handshake { .. }),
                "{way:?} {at}: {error:?}"
            );
            assert!(error.is_retryable_dial(), "{way:?} {at}: {error:?}");
            // What was written is there whole or not at all.
            if let Ok(written) = fs::read(sshd.path(&name)) {
                assert_eq!(written.len(), 100_000);
            }
            work(&pool, &target, &sshd, &name).await.unwrap();
        }
        proxy.cuts()
    };
    let cuts: Vec<u64> = futures::stream::iter(rows.map(cut))
        .buffer_unordered(ABREAST)
        .collect()
        .await;
    assert!(cuts.iter().sum::<u64>() + 2 >= 2 * CUTS, "{cuts:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_link_that_all_but_stands_still_has_a_deadline_with_a_name() {
    let sshd = start(&[]);
    let local = sshd.path("local");
    fs::write(&local, vec![7; 8 << 20]).unwrap();
    for upload in [true, false] {
        for sftp in [true, false] {
            let proxy = proxy(&sshd).await;
            let (target, mut options) = behind(&sshd, proxy.address().port());
            options.deadlines.progress = Duration::from_secs(4);
            let connection = Connection::open(&target, &options).await.unwrap();
            let files: Box<dyn Files> = if sftp {
                Box::new(connection.sftp().await.unwrap())
            } else {
                Box::new(connection.exec_files())
            };
            let begun = AtomicU64::new(0);
            let last = Mutex::new(Instant::now());
            let slow = |_: u64| {
                if begun.fetch_add(1, Ordering::SeqCst) == 3 {
                    proxy.rate(1);
                }
                *last.lock().unwrap() = Instant::now();
            };
            let (path, back) = (remote(&sshd, "slow"), sshd.path("slow.back"));
            let moving = async {
                if upload {
                    files.upload(&local, &path, &slow).await
                } else {
                    let from = remote(&sshd, "local");
                    files.download(&from, &back, 1 << 30, &slow).await
                }
            };
            let error = tokio::time::timeout(AT_ONCE * 2, moving)
                .await
                .unwrap()
                .unwrap_err();
            assert!(
                matches!(error, SshError::TimedOut { what, .. } if what.ends_with("load")),
                "upload {upload}, sftp {sftp}: {error:?}"
            );
            assert!(!back.exists());
            // Tidying up waits for nothing that does not move either.
            let since = last.lock().unwrap().elapsed();
            assert!(since < Duration::from_millis(6500), "{since:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn what_moves_slowly_over_sftp_outlives_the_deadline_of_what_stands_still() {
    let sshd = start(&[]);
    let local = sshd.path("local");
    // All of it is on its way at once, and the answer to its close comes last.
    fs::write(&local, vec![7; 3 << 20]).unwrap();
    let proxy = proxy(&sshd).await;
    let (target, mut options) = behind(&sshd, proxy.address().port());
    options.deadlines.progress = Duration::from_secs(3);
    let connection = Connection::open(&target, &options).await.unwrap();
    let files = connection.sftp().await.unwrap();
    proxy.rate(300_000);
    let begun = Instant::now();
    let (path, other) = (remote(&sshd, "slow"), remote(&sshd, "other"));
    let (sent, written) = tokio::join!(
        files.upload(&local, &path, &|_| {}),
        // Behind the others on the same channel.
        async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            files.write(&other, b"small").await
        }
    );
    assert_eq!(sent.unwrap(), 3 << 20);
    written.unwrap();
    assert!(begun.elapsed() > options.deadlines.progress * 2);
    assert_eq!(fs::read(sshd.path("slow")).unwrap(), vec![7; 3 << 20]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_command_waits_for_its_turn_behind_a_long_upload_that_others_read_beside() {
    let sshd = start(&["MaxSessions 1".to_owned()]);
    let (local, log) = (sshd.path("local"), sshd.path("log"));
    fs::write(&local, vec![7; 32 << 20]).unwrap();
    fs::write(&log, "a line\n").unwrap();
    let proxy = proxy(&sshd).await;
    let (target, mut options) = behind(&sshd, proxy.address().port());
    options.deadlines.channel_open = Duration::from_secs(8);
    let connection = Connection::open(&target, &options).await.unwrap();
    let files = connection.sftp().await.unwrap();
    proxy.rate(1_600_000);
    let (path, log) = (remote(&sshd, "long"), remote(&sshd, "log"));
    let (begun, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let progress = |bytes: u64| begun.store(bytes, Ordering::SeqCst);
    let started = async || {
        while begun.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let upload = async {
        let sent = files.upload(&local, &path, &progress).await;
        done.store(true, Ordering::SeqCst);
        sent
    };
    let command = async {
        started().await;
        run(&connection, "echo in turn").await
    };
    let reads = async {
        started().await;
        // The command waits by now.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let read = files.read_from(&log, 0, 100).await.unwrap();
        (read, done.load(Ordering::SeqCst))
    };
    let since = Instant::now();
    let (sent, said, (read, too_late)) = tokio::join!(upload, command, reads);
    assert_eq!(sent.unwrap(), 32 << 20);
    assert_eq!(
        (said.as_str(), read.as_slice()),
        ("in turn\n", &b"a line\n"[..])
    );
    assert!(!too_late, "the read waited for the end of the upload");
    assert!(since.elapsed() > options.deadlines.channel_open * 2);
    assert_eq!(files.read(&log, 100).await.unwrap(), b"a line\n");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn keys_are_exchanged_anew_by_data_and_by_time_from_either_side() {
    let by_time = RekeyLimit {
        after: Duration::from_millis(300),
        ..RekeyLimit::default()
    };
    let by_data = RekeyLimit {
        bytes: 1 << 20,
        ..RekeyLimit::default()
    };
    for (theirs, ours) in [
        ("default 1s", RekeyLimit::default()),
        ("1M", RekeyLimit::default()),
        ("default none", by_time),
        ("default none", by_data),
        ("1M 1s", by_time),
    ] {
        let sshd = start(&[format!("RekeyLimit {theirs}"), "LogLevel DEBUG1".to_owned()]);
        let (target, mut options) = behind(&sshd, sshd.port());
        options.rekey = ours;
        let connection = Connection::open(&target, &options).await.unwrap();
        let files = connection.sftp().await.unwrap();
        let begun = SystemTime::now();
        let mut rounds = 0u8;
        // The first exchange counts too.
        while count(&sshd, "SSH2_MSG_NEWKEYS received") < 4 {
            assert!(begun.elapsed().unwrap() < AT_ONCE * 3, "{theirs}, {ours:?}");
            rounds = rounds.wrapping_add(1);
            let path = remote(&sshd, "rekeyed");
            files.write(&path, &vec![rounds; 400_000]).await.unwrap();
            let back = files.read(&path, 1 << 20).await.unwrap();
            assert!(back.len() == 400_000 && back.iter().all(|byte| *byte == rounds));
            assert_eq!(run(&connection, "echo there").await, "there\n");
        }
    }
}

/// Ends the program with its handle.
struct Running(std::process::Child);

impl Running {
    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.0.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_machine_that_wakes_connects_again_once() {
    let sshd = start(&[]);
    let proxy = proxy(&sshd).await;
    let port = proxy.address().port();
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    fs::create_dir_all(at(".ssh")).unwrap();
    fs::write(at(".ssh/known_hosts"), known(&sshd, port)).unwrap();
    // The keepalive alone would take a quarter of an hour.
    fs::write(at("ssh_config"), "Host *\nServerAliveInterval 300\n").unwrap();
    fs::create_dir(at("config")).unwrap();
    let hosts = format!(
        "[hosts.box]\nhost = \"{}@127.0.0.1\"\nport = {port}\nidentity_file = {:?}\n",
        user(),
        sshd.path("id_ed25519")
    );
    fs::write(at("config/hosts.toml"), hosts).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_handover"))
        .args(["forward", "box", "0:9"])
        .env_clear()
        .env("HOME", home.path())
        .env("HANDOVER_CONFIG_DIR", at("config"))
        .env("HANDOVER_STATE_DIR", at("state"))
        .env("HANDOVER_SSH_CONFIG", at("ssh_config"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(at("stderr")).unwrap())
        .spawn()
        .unwrap();
    let running = Running(child);
    let stderr = || fs::read_to_string(at("stderr")).unwrap();
    assert!(
        wait_for(AT_ONCE, || stderr().contains("Ctrl-C ends it")),
        "{}",
        stderr()
    );
    running.signal("-STOP");
    proxy.silence();
    // The sleep itself: it has to be longer than what a busy machine does to a timer.
    tokio::time::sleep(Duration::from_secs(9)).await;
    running.signal("-CONT");
    assert!(
        wait_for(AT_ONCE * 2, || stderr().contains("was lost")),
        "{}",
        stderr()
    );
    proxy.resume();
    assert!(
        wait_for(AT_ONCE * 2, || stderr().contains("connected again")),
        "{}",
        stderr()
    );
    assert_eq!(stderr().matches("was lost").count(), 1, "{}", stderr());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_server_without_sessions_for_us_says_so_and_lives_on() {
    // What is refused is told apart from what is lost.
    for (config, wanted) in [
        ("ForceCommand internal-sftp", true),
        ("ForceCommand echo no shell here", false),
    ] {
        let sshd = Sshd::start(&SshdOptions {
            config: vec![config.to_owned()],
            ..SshdOptions::default()
        });
        let connection = connect(&sshd, sshd.port()).await;
        let output = connection
            .exec("echo there", ExecOptions::new("a test").deadline(AT_ONCE))
            .await;
        let ran = output.is_ok_and(|output| output.stdout == b"there\n");
        assert!(!ran, "{config}");
        assert!(!connection.is_closed());
        let path = remote(&sshd, "authorized_keys");
        let read = match connection.sftp().await {
            Ok(files) => files.read(&path, 1 << 20).await.map(drop),
            Err(error) => Err(error),
        };
        assert_eq!(read.is_ok(), wanted, "{config}: {read:?}");
    }
}
