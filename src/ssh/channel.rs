//! Session channels, and taking turns when a server allows few.
//!
//! Main type: [`SessionChannel`]. Invariant: a channel is closed however its user ends, and its slot is given back only
//! when the server has closed it too (or after a grace period), so that the count here never runs ahead of the
//! server's.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{Instrument as _, Span};

use super::connection::{Connection, span};
use super::error::SshError;

/// How long a closed channel's slot is held for a server that does not confirm.
const CLOSE_GRACE: Duration = Duration::from_secs(5);
/// The limit of channels from which one is spared: SFTP and a command must never wait for an idle one.
const SPARE_FROM: usize = 3;
/// How often a refused channel is asked for again when no other is open here: the server may still be closing one.
const LONELY_RETRIES: u32 = 6;

/// The channels that one connection may have open.
#[derive(Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    limit: Mutex<usize>,
    /// How many wait for a channel that somebody has.
    waiting: AtomicUsize,
}

/// Somebody who waits for a channel.
struct Waiting<'a>(&'a Slots);

impl<'a> Waiting<'a> {
    fn new(slots: &'a Slots) -> Self {
        slots.waiting.fetch_add(1, Ordering::SeqCst);
        Self(slots)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Slots {
    /// At most `limit` channels, at least one.
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.max(1);
        Self {
            free: Arc::new(Semaphore::new(limit)),
            limit: Mutex::new(limit),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Whether somebody waits: whoever has a channel that can be done without gives it back.
    pub(super) fn are_waited_for(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// How many the server is known, or supposed, to allow.
    fn limit(&self) -> usize {
        *self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that the server allows fewer; false when only one is left.
    fn shrink(&self, slot: OwnedSemaphorePermit) -> bool {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        if *limit > 1 && self.free.available_permits() + 1 < *limit {
            *limit -= 1;
            slot.forget();
            tracing::debug!(limit = *limit, "the server allows fewer channels");
            return true;
        }
        false
    }
}

/// A slot that is taken.
pub(super) type Slot = OwnedSemaphorePermit;

/// Opens a session channel in turn.
pub(super) async fn open(connection: &Connection) -> Result<(Channel<Msg>, Slot), SshError> {
    let slots = &connection.inner().slots;
    let mut lonely = 0;
    loop {
        let slot = turn(connection).await?;
        let after = connection.deadlines().channel_open;
        let opening = connection.within("opening a channel", after, async {
            Ok(open_once(connection).await)
        });
        let reason = match opening.await? {
            Ok(channel) => return Ok((channel, slot)),
            Err(russh::Error::ChannelOpenFailure(reason)) => reason,
            Err(_) => return Err(connection.lost().await),
        };
        let busy = matches!(
            reason,
            ChannelOpenFailure::ConnectFailed | ChannelOpenFailure::ResourceShortage
        );
        if busy && slots.shrink(slot) {
            continue;
        }
        if !busy || lonely == LONELY_RETRIES {
            let reason = format!("{reason:?}");
            return Err(SshError::ChannelRefused {
                host: connection.host().clone(),
                reason,
            });
        }
        tokio::time::sleep(Duration::from_millis(20 << lonely)).await;
        lonely += 1;
    }
}

/// Takes a slot; when there is none, has those asked who can do without theirs, and waits, for as long as a turn may
/// take.
async fn turn(connection: &Connection) -> Result<Slot, SshError> {
    let slots = &connection.inner().slots;
    if let Ok(slot) = slots.free.clone().try_acquire_owned() {
        return Ok(slot);
    }
    // Before the question: a session that is used or opened meanwhile sees this, or is asked.
    let _waiting = Waiting::new(slots);
    connection.ask_idle_to_yield();
    let free = slots.free.clone().acquire_owned();
    let after = connection.deadlines().turn;
    connection
        .within("a turn for a channel", after, async {
            free.await.map_err(|_| connection.lost_now())
        })
        .await
}

/// Opens a session channel only if there is one to spare: nobody is asked to give one back, and a refusal is no error.
pub(super) async fn open_spare(
    connection: &Connection,
) -> Result<Option<(Channel<Msg>, Slot)>, SshError> {
    if connection.inner().slots.limit() < SPARE_FROM {
        return Ok(None);
    }
    let Ok(slot) = connection.inner().slots.free.clone().try_acquire_owned() else {
        return Ok(None);
    };
    let after = connection.deadlines().channel_open;
    let opened = connection.within("opening a channel", after, async {
        Ok(open_once(connection).await)
    });
    match opened.await? {
        Ok(channel) => Ok(Some((channel, slot))),
        Err(russh::Error::ChannelOpenFailure(_)) => Ok(None),
        Err(_) => Err(connection.lost().await),
    }
}

/// Opens one session channel.
async fn open_once(connection: &Connection) -> Result<Channel<Msg>, russh::Error> {
    open_with(connection, async |connection: Connection| {
        connection.inner().handle.channel_open_session().await
    })
    .await
}

/// Opens one channel in a task of its own: when the caller goes away meanwhile, it is closed as soon as it is there.
///
/// Only session channels need a slot: servers count those alone (`MaxSessions` in sshd_config(5)).
pub(super) async fn open_with<F>(
    connection: &Connection,
    open: impl FnOnce(Connection) -> F,
) -> Result<Channel<Msg>, russh::Error>
where
    F: Future<Output = Result<Channel<Msg>, russh::Error>> + Send + 'static,
{
    let (give, take) = tokio::sync::oneshot::channel();
    let opening = open(connection.clone());
    let work = async move {
        if let Err(Ok(unwanted)) = give.send(opening.await) {
            // It cannot be asked for twice: where this fails the connection is gone.
            let _ = unwanted.close().await;
        }
    };
    tokio::spawn(work.instrument(span(connection.host())));
    take.await.unwrap_or(Err(russh::Error::Disconnect))
}

/// An open session channel in two halves.
pub(super) struct SessionChannel {
    halves: Option<(ChannelReadHalf, ChannelWriteHalf<Msg>)>,
    slot: Option<Slot>,
    closed: bool,
    span: Span,
}

impl SessionChannel {
    /// Opens one.
    pub(super) async fn open(connection: &Connection) -> Result<Self, SshError> {
        Ok(Self::new(connection, open(connection).await?))
    }

    /// Opens one if there is one to spare.
    pub(super) async fn open_spare(connection: &Connection) -> Result<Option<Self>, SshError> {
        let opened = open_spare(connection).await?;
        Ok(opened.map(|opened| Self::new(connection, opened)))
    }

    fn new(connection: &Connection, (channel, slot): (Channel<Msg>, Slot)) -> Self {
        Self {
            halves: Some(channel.split()),
            slot: Some(slot),
            closed: false,
            span: span(connection.host()),
        }
    }

    /// Both halves. The state is `None` only while the channel is dropped.
    pub(super) fn halves(&mut self) -> Option<(&mut ChannelReadHalf, &ChannelWriteHalf<Msg>)> {
        self.halves.as_mut().map(|(read, write)| (read, &*write))
    }

    /// Takes note that the server has closed its side.
    pub(super) fn set_closed(&mut self) {
        self.closed = true;
    }
}

/// An open session channel in one piece, on its way to become a stream: it is closed when it is dropped before.
pub(super) struct WholeChannel {
    connection: Connection,
    opened: Option<(Channel<Msg>, Slot)>,
}

impl WholeChannel {
    pub(super) fn new(connection: &Connection, opened: (Channel<Msg>, Slot)) -> Self {
        Self {
            connection: connection.clone(),
            opened: Some(opened),
        }
    }

    /// The channel. It is `None` only while this is dropped.
    pub(super) fn channel(&mut self) -> Option<&mut Channel<Msg>> {
        self.opened.as_mut().map(|(channel, _)| channel)
    }

    /// The channel and its slot, which are the caller's to close and to give back.
    pub(super) fn into_parts(mut self) -> Option<(Channel<Msg>, Slot)> {
        self.opened.take()
    }
}

impl Drop for WholeChannel {
    fn drop(&mut self) {
        if let Some(opened) = self.opened.take() {
            drop(SessionChannel::new(&self.connection, opened));
        }
    }
}

impl Drop for SessionChannel {
    fn drop(&mut self) {
        let (Some((mut read, write)), false) = (self.halves.take(), self.closed) else {
            return;
        };
        let slot = self.slot.take();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let work = async move {
            // Draining goes on until the server confirms: one unread channel would stop the whole connection.
            let close = async {
                // It fails where the connection is gone, and reading ends with that.
                let _ = write.close().await;
                while let Some(message) = read.wait().await {
                    if matches!(message, ChannelMsg::Close) {
                        break;
                    }
                }
            };
            // A server that does not confirm in that time keeps no slot here.
            let _ = tokio::time::timeout(CLOSE_GRACE, close).await;
            drop(slot);
        };
        runtime.spawn(work.instrument(self.span.clone()));
    }
}
