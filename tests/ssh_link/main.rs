//! What lies between here and a host, against real OpenSSH servers: jump hosts, servers that turn callers away,
//! connections that are shared, commands that are given up, forwards, links that die, and servers that mean harm.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod cancel;
mod faults;
mod forward;
mod hostile;
mod jump;
mod pool;
#[path = "../support/proxy.rs"]
mod proxy;
mod shut_window;
mod slow;
mod spans;
#[path = "../support/sshd.rs"]
mod sshd;
mod support;
mod trips;
