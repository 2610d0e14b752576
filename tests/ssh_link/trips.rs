//! Round trips: what a connection and a command cost on a long link.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use handover::ssh::Connection;

use crate::proxy::Proxy;
use crate::support::{behind, run, start};

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
