//! One SFTP session on a channel of a connection, opened when it is needed and given back when others need the channel.
//!
//! Main type: [`SftpShared`]. Invariant: a session is closed only when no request is under way on it, no request waits for
//! that, and the slot of its channel is given back only after the channel has ended.

use std::collections::HashMap;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelStream};
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::client::{Config, RawSftpSession};
use russh_sftp::protocol::{Packet, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::channel::{self, Slot, WholeChannel};
use super::connection::Connection;
use super::error::{SshError, bounded};
use super::path::RemotePath;

/// Requests carry no deadline of the library's: theirs would start when a request is queued behind megabytes of
/// others. Every wait here has one of its own.
const NO_LIBRARY_DEADLINE: u64 = 24 * 3600;
/// How many files are open at once. Also keeps OpenSSH's handles (a counter in four bytes) valid UTF-8, which the
/// library needs them to be; see `Remote::handle` for what other servers give.
const OPEN_FILES: usize = 48;
/// How many growing files stay open between reads.
const KEPT_OPEN: usize = 8;

/// An SFTP session that can be closed and opened again.
pub(super) struct SftpShared {
    connection: Connection,
    live: RwLock<Option<Live>>,
}

/// An open session.
pub(super) struct Live {
    /// The requests.
    pub(super) raw: RawSftpSession,
    /// Bounds the open files.
    pub(super) open_files: Semaphore,
    /// The server can rename over an existing file.
    pub(super) posix_rename: bool,
    /// The server can say how much space is left.
    pub(super) statvfs: bool,
    kept: Mutex<Kept>,
    broken: AtomicBool,
    answers: Mutex<Answers>,
}

/// The handles of growing files that are kept open.
#[derive(Default)]
struct Kept {
    /// By path, those that nobody reads from.
    idle: HashMap<String, String>,
    /// Those that have to be closed.
    excess: Vec<String>,
}

/// The answers on a session so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answers {
    /// How many there were.
    pub(super) count: u64,
    /// When the last one came, or the session began.
    pub(super) last: Instant,
}

/// The open session while a request is under way on it. Whoever lets go of it last gives the channel back, if somebody
/// waits for one.
pub(super) struct InUse<'a> {
    // In this order: what is given back must not be held any more.
    live: RwLockReadGuard<'a, Live>,
    _after: GiveBack<'a>,
}

impl Deref for InUse<'_> {
    type Target = Live;

    fn deref(&self) -> &Live {
        &self.live
    }
}

struct GiveBack<'a>(&'a SftpShared);

impl Drop for GiveBack<'_> {
    fn drop(&mut self) {
        if self.0.connection.inner().slots.are_waited_for() {
            self.0.give_back();
        }
    }
}

impl SftpShared {
    /// Opens the session, so that its absence is known at once.
    pub(super) async fn open(connection: &Connection) -> Result<Arc<Self>, SshError> {
        let live = start(connection).await?;
        Ok(Arc::new(Self {
            connection: connection.clone(),
            live: RwLock::new(Some(live)),
        }))
    }

    /// The connection.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The open session, opened again when it was given back.
    pub(super) async fn live(&self) -> Result<InUse<'_>, SshError> {
        // Others may be opening it, which takes a turn.
        let after = self.connection.deadlines().turn;
        let live = self
            .connection
            .within("a turn for SFTP", after, self.opened())
            .await?;
        Ok(InUse {
            live,
            _after: GiveBack(self),
        })
    }

    async fn opened(&self) -> Result<RwLockReadGuard<'_, Live>, SshError> {
        let usable = |live: &Option<Live>| {
            live.as_ref()
                .is_some_and(|live| !live.broken.load(Ordering::SeqCst))
        };
        loop {
            if self.connection.is_closed() {
                return Err(self.connection.lost().await);
            }
            let mut guard = self.live.read().await;
            if !usable(&guard) {
                drop(guard);
                let mut slot = self.live.write().await;
                if !usable(&slot) {
                    *slot = None;
                    *slot = Some(start(&self.connection).await?);
                }
                // Nobody can give it back in between, and so leave it to nobody.
                guard = RwLockWriteGuard::downgrade(slot);
            }
            if let Ok(live) = RwLockReadGuard::try_map(guard, Option::as_ref) {
                return Ok(live);
            }
        }
    }

    /// Closes the session if no request is under way on it. One that is under way does this at its end, when somebody
    /// still waits for a channel then.
    pub(super) fn give_back(&self) {
        if let Ok(mut live) = self.live.try_write() {
            *live = None;
        }
    }

    /// Turns a failed request on `path` into an error of ours.
    pub(super) async fn failed(
        &self,
        live: &Live,
        path: &RemotePath,
        error: SftpError,
    ) -> SshError {
        let host = self.connection.host().clone();
        let path = path.clone();
        match error {
            SftpError::Status(status) => match status.status_code {
                StatusCode::NoSuchFile => SshError::NotFound { host, path },
                StatusCode::PermissionDenied => SshError::PermissionDenied { host, path },
                code => {
                    let words = bounded(&status.error_message, 500);
                    let message = if words.is_empty() {
                        code.to_string()
                    } else {
                        words
                    };
                    SshError::Remote {
                        host,
                        path,
                        message,
                    }
                }
            },
            other => {
                // A session that has lost its stream, or its place in it, is of no more use.
                live.broken.store(true, Ordering::SeqCst);
                let closed = self.connection.inner().shared.closed.clone();
                if tokio::time::timeout(Duration::from_millis(500), closed.cancelled())
                    .await
                    .is_ok()
                {
                    return self.connection.lost_now();
                }
                SshError::Remote {
                    host,
                    path,
                    message: bounded(&other.to_string(), 500),
                }
            }
        }
    }
}

impl Live {
    /// The answers so far.
    pub(super) fn answers(&self) -> Answers {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of an answer.
    pub(super) fn answered(&self) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.count += 1;
        answers.last = Instant::now();
    }

    /// Takes the handle of a growing file that is kept open, if there is one that nobody reads from.
    pub(super) fn take_kept(&self, path: &RemotePath) -> Option<String> {
        self.kept().idle.remove(path.as_str())
    }

    /// The handles that have to be closed, for whoever can wait for that.
    pub(super) fn take_excess(&self) -> Vec<String> {
        std::mem::take(&mut self.kept().excess)
    }

    fn keep(&self, path: &RemotePath, handle: String) {
        let mut kept = self.kept();
        if kept.idle.len() >= KEPT_OPEN
            && let Some(other) = kept.idle.keys().next().cloned()
        {
            let evicted = kept.idle.remove(&other);
            kept.excess.extend(evicted);
        }
        // Two may have read the same file.
        let second = kept.idle.insert(path.as_str().to_owned(), handle);
        kept.excess.extend(second);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle of a growing file while it is read from: nobody else can use or close it, and it is kept open again
/// however the read ends, also when that is given up.
pub(super) struct Reading<'a> {
    live: &'a Live,
    path: &'a RemotePath,
    handle: Option<String>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(live: &'a Live, path: &'a RemotePath, handle: String) -> Self {
        Self {
            live,
            path,
            handle: Some(handle),
        }
    }

    pub(super) fn handle(&self) -> &str {
        self.handle.as_deref().unwrap_or_default()
    }

    /// Gives the handle away, which is not kept then.
    pub(super) fn into_handle(mut self) -> Option<String> {
        self.handle.take()
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.live.keep(self.path, handle);
        }
    }
}

async fn start(connection: &Connection) -> Result<Live, SshError> {
    start_on(connection, channel::open(connection).await?).await
}

/// A session beside the one that there is, if the connection has a channel to spare.
pub(super) async fn start_spare(connection: &Connection) -> Result<Option<Live>, SshError> {
    match channel::open_spare(connection).await? {
        Some(opened) => start_on(connection, opened).await.map(Some),
        None => Ok(None),
    }
}

async fn start_on(connection: &Connection, opened: (Channel<Msg>, Slot)) -> Result<Live, SshError> {
    let unavailable = || SshError::SftpUnavailable {
        host: connection.host().clone(),
    };
    let after = connection.deadlines().channel_open;
    let mut whole = WholeChannel::new(connection, opened);
    connection
        .within("starting SFTP", after, async move {
            let Some(channel) = whole.channel() else {
                return Err(connection.lost().await);
            };
            channel
                .request_subsystem(true, "sftp")
                .await
                .map_err(|_| connection.lost_now())?;
            loop {
                match channel.wait().await {
                    Some(ChannelMsg::Success) => break,
                    Some(ChannelMsg::WindowAdjusted { .. }) => {}
                    None if connection.is_closed() => return Err(connection.lost().await),
                    _ => return Err(unavailable()),
                }
            }
            let Some((channel, slot)) = whole.into_parts() else {
                return Err(connection.lost().await);
            };
            let ended = CancellationToken::new();
            let stream = SlottedStream {
                stream: channel.into_stream(),
                _slot: slot,
                _ended: ended.clone().drop_guard(),
            };
            let config = Config {
                // One data reply of the largest read, with room for its header.
                max_packet_len: 320 * 1024,
                request_timeout_secs: NO_LIBRARY_DEADLINE,
                ..Config::default()
            };
            let raw = RawSftpSession::new_with_config(stream, config);
            // The library gives the stream up at the first reply that is none (start-up files of the account that
            // talk), and leaves whoever waits for an answer waiting.
            let version = tokio::select! {
                biased;
                version = raw.init() => version.ok(),
                () = ended.cancelled() => None,
            };
            let version = match version {
                Some(version) => version,
                None if connection.is_closed() => return Err(connection.lost().await),
                None => return Err(unavailable()),
            };
            Ok(Live {
                raw,
                open_files: Semaphore::new(OPEN_FILES),
                posix_rename: version.extensions.contains_key("posix-rename@openssh.com"),
                statvfs: version.extensions.contains_key("statvfs@openssh.com"),
                kept: Mutex::default(),
                broken: AtomicBool::new(false),
                answers: Mutex::new(Answers {
                    count: 0,
                    last: Instant::now(),
                }),
            })
        })
        .await
}

/// Renames, over an existing file when the server can.
pub(super) async fn rename(live: &Live, from: &str, to: &str) -> Result<(), SftpError> {
    if !live.posix_rename {
        return rename_aside(live, from, to).await;
    }
    let mut data = Vec::with_capacity(from.len() + to.len() + 8);
    for text in [from, to] {
        data.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        data.extend_from_slice(text.as_bytes());
    }
    match live.raw.extended("posix-rename@openssh.com", data).await? {
        Packet::Status(status) if status.status_code == StatusCode::Ok => Ok(()),
        Packet::Status(status) => Err(SftpError::Status(status)),
        _ => Err(SftpError::UnexpectedPacket),
    }
}

/// Renames on a server that may refuse to do so over an existing file (draft-ietf-secsh-filexfer-02 section 6.5): that
/// one is put aside as `TO.old` until the new one has its name, so that one of them is there whatever happens.
async fn rename_aside(live: &Live, from: &str, to: &str) -> Result<(), SftpError> {
    let refused = match live.raw.rename(from, to).await {
        Ok(_) => return Ok(()),
        Err(refused @ SftpError::Status(_)) => refused,
        Err(error) => return Err(error),
    };
    let old = format!("{to}.old");
    if live.raw.rename(to, &*old).await.is_err() {
        // Nothing is in the way but, at most, the rest of an earlier attempt, whose new file has its name.
        if live.raw.lstat(to).await.is_err() || live.raw.remove(&*old).await.is_err() {
            return Err(refused);
        }
        live.raw.rename(to, &*old).await?;
    }
    if let Err(error) = live.raw.rename(from, to).await {
        // What fails here leaves the old file where it can be found.
        let _ = live.raw.rename(&*old, to).await;
        return Err(error);
    }
    if let Err(error) = live.raw.remove(old).await {
        tracing::debug!(%error, "an old file was left under another name");
    }
    Ok(())
}

/// A channel's stream that holds its slot until both its ends are done with, and says then that it has ended.
struct SlottedStream {
    stream: ChannelStream<Msg>,
    _slot: Slot,
    _ended: DropGuard,
}

impl AsyncRead for SlottedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for SlottedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
