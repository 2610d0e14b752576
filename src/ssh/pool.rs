//! One connection a host, shared by every caller in the process.
//!
//! Main type: [`Pool`]. Invariant: for one [`Target`] at most one connection is being made or handed out at any time, and
//! as a jump host it carries all the hosts behind it; a failed attempt is told to everybody who waited for it and is not
//! remembered; a connection that has ended is never handed out.

use std::cmp::Reverse;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::FutureExt as _;
use futures::future::{Shared, WeakShared};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::cause::LostCause;
use super::connection::{Connection, span};
use super::error::SshError;
use super::jump;
use super::options::ConnectOptions;
use super::target::Target;

/// An attempt to connect that several callers wait for.
type Flight = Pin<Box<dyn Future<Output = Result<Connection, Arc<SshError>>> + Send>>;

/// The connections of a process. Cloning is cheap; all clones are the same pool.
///
/// [`Pool::connect`] hands out the connection to a host that is there, or makes it; callers who ask at the same time
/// wait for the same attempt. A connection that nobody holds any more stays open for
/// [`ConnectOptions::idle`] and is then closed. When the last clone of the pool is dropped, connections end with their
/// last holder.
///
/// Jump hosts are connections of the pool too: hosts behind the same one share it, and its login, and it is held for as
/// long as one of them is connected. One that has no name of its own goes by the name that it had for the first of them.
///
/// ```no_run
/// # async fn example() -> Result<(), handover::ssh::SshError> {
/// use handover::ssh::{ConnectOptions, ExecOptions, Pool, Target};
///
/// let pool = Pool::new(ConnectOptions::new("/home/ada".as_ref()));
/// let target = Target::new("box".parse().expect("a host name"), "box.example.org", 22, "ada");
/// let (one, other) = tokio::join!(pool.connect(&target), pool.connect(&target));
/// // The same connection, and one login.
/// one?.exec("true", ExecOptions::new("a test")).await?;
/// other?.exec("true", ExecOptions::new("a test")).await?;
/// pool.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    options: ConnectOptions,
    entries: Mutex<Vec<Entry>>,
    /// Cancelled when the pool is gone.
    gone: CancellationToken,
    _guard: DropGuard,
}

struct Entry {
    target: Target,
    state: State,
}

enum State {
    Dialing(WeakShared<Flight>),
    Open(Arc<Kept>),
}

/// A connection that the pool keeps.
struct Kept {
    connection: Connection,
    holders: watch::Sender<usize>,
    /// Cancelled when it is not handed out any more.
    retired: CancellationToken,
}

/// Somebody's hold on a pooled connection, shared by all clones of it.
pub(super) struct Hold {
    holders: watch::Sender<usize>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holders.send_modify(|count| *count -= 1);
    }
}

impl Kept {
    fn hold(&self) -> Connection {
        self.holders.send_modify(|count| *count += 1);
        self.connection.held(Arc::new(Hold {
            holders: self.holders.clone(),
        }))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self
            .inner
            .entries()
            .iter()
            .map(|entry| entry.target.name.clone())
            .collect();
        formatter
            .debug_struct("Pool")
            .field("hosts", &hosts)
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// An empty pool, whose connections are made with these options.
    #[must_use]
    pub fn new(options: ConnectOptions) -> Self {
        let gone = CancellationToken::new();
        Self {
            inner: Arc::new(Inner {
                options,
                entries: Mutex::default(),
                _guard: gone.clone().drop_guard(),
                gone,
            }),
        }
    }

    /// How its connections are made.
    #[must_use]
    pub fn options(&self) -> &ConnectOptions {
        &self.inner.options
    }

    /// The connection to a host: the one that is there, or a new one.
    ///
    /// Targets that differ in anything, were it only a key file, have connections of their own.
    ///
    /// # Errors
    /// Those of [`Connection::open`]; [`SshError::Shared`] around one when several callers waited for the same
    /// attempt.
    ///
    /// # Cancel safety
    /// Safe: the attempt goes on while somebody waits for it, and ends when nobody does.
    pub async fn connect(&self, target: &Target) -> Result<Connection, SshError> {
        self.connect_where(target, |other| other == target).await
    }

    /// A connection of the caller's own, which nobody else is given and which ends with its last clone. The jump hosts on
    /// the way are the pool's.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// As [`connect`](Self::connect).
    pub async fn connect_apart(&self, target: &Target) -> Result<Connection, SshError> {
        let work = open(Arc::downgrade(&self.inner), target, self.options());
        work.instrument(span(&target.name)).await
    }

    async fn connect_where(
        &self,
        target: &Target,
        is_wanted: impl Fn(&Target) -> bool,
    ) -> Result<Connection, SshError> {
        let flight = {
            let mut entries = self.inner.entries();
            entries.retain(Entry::is_of_use);
            match entries.iter().find(|entry| is_wanted(&entry.target)) {
                Some(Entry {
                    state: State::Open(kept),
                    ..
                }) => return Ok(kept.hold()),
                Some(Entry {
                    state: State::Dialing(flight),
                    ..
                }) => flight.upgrade(),
                None => None,
            }
            .unwrap_or_else(|| {
                entries.retain(|entry| !is_wanted(&entry.target));
                let flight = self.take_off(target.clone());
                // It is not finished, for nobody has asked it.
                if let Some(weak) = flight.downgrade() {
                    entries.push(Entry {
                        target: target.clone(),
                        state: State::Dialing(weak),
                    });
                }
                flight
            })
        };
        flight
            .await
            .map_err(|error| Arc::try_unwrap(error).unwrap_or_else(SshError::Shared))
    }

    /// Hands a connection out no more: the next caller gets a new one. Whoever holds it keeps it.
    pub fn retire(&self, connection: &Connection) {
        self.inner.entries().retain(|entry| match &entry.state {
            State::Open(kept) if kept.connection.is_same(connection) => {
                kept.retired.cancel();
                false
            }
            _ => true,
        });
    }

    /// Closes every connection, whoever holds it, and gives up the attempts that are under way once nobody waits for
    /// them. The pool can be used again.
    ///
    /// # Cancel safety
    /// Safe; goodbyes may then not have been sent.
    pub async fn close(&self) {
        let entries = std::mem::take(&mut *self.inner.entries());
        let mut open: Vec<(usize, Arc<Kept>)> = entries
            .into_iter()
            .filter_map(|entry| match entry.state {
                State::Open(kept) => Some((entry.target.jumps.len(), kept)),
                State::Dialing(_) => None,
            })
            .collect();
        // Those behind jump hosts first: their goodbyes go through them.
        open.sort_by_key(|(hops, _)| Reverse(*hops));
        for near in open.chunk_by(|(hops, _), (others, _)| hops == others) {
            let closing = near.iter().map(|(_, kept)| kept.connection.close());
            futures::future::join_all(closing).await;
        }
    }

    /// Begins to connect. The attempt ends when nobody waits for it any more.
    fn take_off(&self, target: Target) -> Shared<Flight> {
        let pool = Arc::downgrade(&self.inner);
        let (options, host) = (self.inner.options.clone(), target.name.clone());
        let span = span(&host);
        let work = async move {
            let opened = open(pool.clone(), &target, &options).await;
            land(&pool, &target, opened)
        };
        let attempt = AbortOnDropHandle::new(tokio::spawn(work.instrument(span)));
        let flight: Flight = Box::pin(async move {
            attempt
                .await
                // The task ends by itself alone: it is aborted only when nobody is here to see it.
                .unwrap_or_else(|_| {
                    Err(SshError::Lost {
                        host,
                        source: LostCause::ClosedHere,
                    })
                })
                .map_err(Arc::new)
        });
        flight.shared()
    }
}

/// Connects to a host, from here or through the pool's connection to the last hop on the way.
async fn open(
    pool: Weak<Inner>,
    target: &Target,
    options: &ConnectOptions,
) -> Result<Connection, SshError> {
    let Some(hop) = jump::last_hop(target) else {
        return Connection::hop(target, options, None).await;
    };
    let mut again = true;
    loop {
        let Some(inner) = pool.upgrade() else {
            return Connection::open(target, options).await;
        };
        let via = Pool { inner }
            .connect_where(&hop, |other| other.is_same_but_for_names(&hop))
            .await?;
        let error = match Connection::hop(target, options, Some(&via)).await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        // The failure may be the hop's, which was connected to at some other time: it is handed out no more then.
        let is_silent = matches!(
            error,
            SshError::TimedOut { .. }
                | SshError::Handshake {
                    source: LostCause::Silent,
                    ..
                }
        );
        // A login that was not answered in time is not begun again: somebody may have been asked.
        let may_be_the_hops = error.is_retryable_dial()
            && (is_silent || matches!(error, SshError::Lost { .. } | SshError::Handshake { .. }));
        if !again || !may_be_the_hops {
            return Err(error);
        }
        let is_gone = via.is_closed() || (is_silent && !via.still_there().await);
        if !is_gone {
            return Err(error);
        }
        tracing::debug!(hop = %via.host(), "the jump host was lost: connecting to it anew");
        again = false;
    }
}

/// Puts a new connection into the pool, or takes a failed attempt out of it.
fn land(
    pool: &Weak<Inner>,
    target: &Target,
    opened: Result<Connection, SshError>,
) -> Result<Connection, SshError> {
    let Some(pool) = pool.upgrade() else {
        return opened;
    };
    let mut entries = pool.entries();
    let place = entries
        .iter()
        .position(|entry| entry.target == *target && matches!(entry.state, State::Dialing(_)));
    let Ok(connection) = opened else {
        if let Some(place) = place {
            entries.remove(place);
        }
        return opened;
    };
    let kept = Arc::new(Kept {
        connection,
        holders: watch::Sender::new(0),
        retired: CancellationToken::new(),
    });
    let held = kept.hold();
    // No place: the pool was closed meanwhile, and the connection is the callers' alone.
    if let Some(entry) = place.and_then(|place| entries.get_mut(place)) {
        let work = keep(Arc::clone(&kept), Arc::downgrade(&pool), pool.gone.clone());
        tokio::spawn(work.instrument(span(&target.name)));
        entry.state = State::Open(kept);
    }
    Ok(held)
}

/// Waits until a connection has been idle for long enough, and closes it.
async fn keep(kept: Arc<Kept>, pool: Weak<Inner>, gone: CancellationToken) {
    let mut holders = kept.holders.subscribe();
    loop {
        tokio::select! {
            _ = kept.connection.closed() => break,
            () = gone.cancelled() => return,
            // Its sender is in `kept`.
            _ = holders.wait_for(|count| *count == 0) => {}
        }
        let idle = match pool.upgrade() {
            Some(pool) => pool.options.idle.0,
            None => return,
        };
        tokio::select! {
            _ = kept.connection.closed() => break,
            () = gone.cancelled() => return,
            () = kept.retired.cancelled() => break,
            _ = holders.wait_for(|count| *count > 0) => continue,
            () = tokio::time::sleep(idle) => {}
        }
        let Some(pool) = pool.upgrade() else {
            return;
        };
        let mut entries = pool.entries();
        // Under the lock nobody takes hold of it.
        if *kept.holders.borrow() == 0 {
            entries.retain(|entry| !entry.is(&kept));
            break;
        }
    }
    if let Some(pool) = pool.upgrade() {
        pool.entries().retain(|entry| !entry.is(&kept));
    }
    tracing::debug!("a connection that nobody uses is closed");
    kept.connection.close().await;
}

impl Inner {
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn is_of_use(&self) -> bool {
        match &self.state {
            State::Dialing(flight) => flight.upgrade().is_some(),
            State::Open(kept) => !kept.connection.is_closed(),
        }
    }

    fn is(&self, kept: &Arc<Kept>) -> bool {
        matches!(&self.state, State::Open(other) if Arc::ptr_eq(other, kept))
    }
}
