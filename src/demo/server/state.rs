//! What the connections of one server share: the options, the host key, the counters, the live sockets.
//!
//! The main type is [`Shared`]. Plain mutexes: no lock is held across an await.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::keys::PublicKey;
use russh::server::Config;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ServerOptions;

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The host key as clients see it, and the russh configuration that holds its private half.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) public: PublicKey,
    pub(super) config: Arc<Config>,
}

/// What the connections of one server share.
pub(super) struct Shared {
    pub(super) options: ServerOptions,
    identity: Mutex<Identity>,
    /// A second handle of every live socket, by connection number, to shut it down with.
    sockets: Mutex<HashMap<u64, TcpStream>>,
    pub(super) connections: Counter,
    pub(super) execs: Counter,
    pub(super) sftp_sessions: Counter,
    pub(super) forwarded_accepted: Counter,
    pub(super) forwarded_refused: Counter,
    /// Fires when the server stops.
    pub(super) stopping: CancellationToken,
    /// Every task that the server has spawned.
    pub(super) tasks: TaskTracker,
}

impl Shared {
    pub(super) fn new(options: ServerOptions, identity: Identity) -> Self {
        Self {
            options,
            identity: Mutex::new(identity),
            sockets: Mutex::default(),
            connections: Counter::default(),
            execs: Counter::default(),
            sftp_sessions: Counter::default(),
            forwarded_accepted: Counter::default(),
            forwarded_refused: Counter::default(),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    pub(super) fn identity(&self) -> Identity {
        lock(&self.identity).clone()
    }

    pub(super) fn set_identity(&self, identity: Identity) {
        *lock(&self.identity) = identity;
    }

    pub(super) fn add_socket(&self, number: u64, socket: TcpStream) {
        lock(&self.sockets).insert(number, socket);
    }

    pub(super) fn remove_socket(&self, number: u64) {
        lock(&self.sockets).remove(&number);
    }

    /// Shuts every live socket down in both directions; what is in flight is lost.
    pub(super) fn shut_sockets(&self) {
        for socket in lock(&self.sockets).values() {
            // A socket that the peer has already closed is what was asked for.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Locks; what these mutexes guard stays whole if a holder panics, so poison means nothing.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
