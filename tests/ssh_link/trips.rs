//! Round trips: what a connection and a command cost on a long link.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use handover::ssh::{Connection, ExecOptions, Files as _, RemotePath};

use crate::proxy::Proxy;
use crate::support::{behind, count, run, start};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_cold_command_takes_ten_round_trips_and_a_warm_one_two() {
    let sshd = start(&[]);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, sshd.port()));
    let proxy = Proxy::start(address).await.unwrap();
    // Long beside what this machine takes to answer, so that what was sent together arrives together.
    proxy.delay(Duration::from_millis(150));
    let (target, options) = behind(&sshd, proxy.address().port());
    let connection = Connection::open(&target, &options).await.unwrap();
    assert_eq!(run(&connection, "echo cold").await, "cold\n");
    // The proxy does not see the one that TCP's own greeting takes.
    let cold = 1 + proxy.flights();
    assert!(cold <= 10, "{cold} round trips for a cold command");
    tokio::time::sleep(Duration::from_millis(600)).await;
    let before = proxy.flights();
    assert_eq!(run(&connection, "echo warm").await, "warm\n");
    let warm = proxy.flights() - before;
    assert!(warm <= 2, "{warm} round trips for a warm command");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_large_upload_over_a_long_link_takes_two_channels_and_gives_one_up_to_who_waits() {
    let content: Vec<u8> = (0..5u32 << 20)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    for sessions in [10, 2] {
        let sshd = start(&[format!("MaxSessions {sessions}")]);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, sshd.port()));
        let proxy = Proxy::start(address).await.unwrap();
        proxy.delay(Duration::from_millis(10));
        let (target, options) = behind(&sshd, proxy.address().port());
        let connection = Connection::open(&target, &options).await.unwrap();
        let files = connection.sftp().await.unwrap();
        let local = sshd.path("large");
        fs::write(&local, &content).unwrap();
        let path: RemotePath = sshd.path("moved").to_str().unwrap().parse().unwrap();
        let moved = AtomicU64::new(0);
        let note = |bytes: u64| moved.store(bytes, Ordering::SeqCst);
        let command = async {
            while moved.load(Ordering::SeqCst) < 8 << 20 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            connection
                .exec("echo meanwhile", ExecOptions::new("a test"))
                .await
                .unwrap()
                .stdout
        };
        let (sent, output) = tokio::join!(files.upload(&local, &path, &note), command);
        assert_eq!(sent.unwrap(), content.len() as u64);
        assert_eq!(output, b"meanwhile\n");
        assert!(fs::read(sshd.path("moved")).unwrap() == content);
        assert_eq!(count(&sshd, "subsystem 'sftp'"), 2);
    }
}
