//! What lies between here and a host, against real OpenSSH servers: jump hosts, servers that turn callers away,
//! connections that are shared, forwards, links that die, and servers that mean harm.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

#[cfg(unix)]
mod faults;
#[cfg(unix)]
mod forward;
mod hostile;
#[cfg(unix)]
mod jump;
#[path = "../support/keys.rs"]
mod keys;
#[cfg(unix)]
mod pool;
#[cfg(unix)]
#[path = "../support/proxy.rs"]
mod proxy;
mod shut_window;
#[cfg(unix)]
#[path = "../support/sshd.rs"]
#[expect(dead_code, reason = "shared with other test binaries")]
mod sshd;
#[cfg(unix)]
mod support;
#[cfg(unix)]
mod trips;
