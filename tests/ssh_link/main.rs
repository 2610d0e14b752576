//! What lies between here and a host, against real OpenSSH servers: jump hosts, servers that turn callers away,
//! connections that are shared, commands that are given up, forwards, links that die, and servers that mean harm.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod cancel;
#[cfg(unix)]
mod dropped;
#[cfg(unix)]
mod faults;
#[cfg(unix)]
mod forward;
mod hostile;
#[cfg(unix)]
mod jump;
#[path = "../support/keys.rs"]
mod keys;
mod login;
#[cfg(unix)]
mod pool;
#[cfg(unix)]
#[path = "../support/proxy.rs"]
mod proxy;
mod shut_window;
mod slow;
mod spans;
#[cfg(unix)]
#[path = "../support/sshd.rs"]
mod sshd;
#[cfg(unix)]
mod support;
#[cfg(unix)]
mod trips;
