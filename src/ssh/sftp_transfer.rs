//! Moving bytes over SFTP with many requests in flight.
//!
//! Main functions: [`upload`] and [`download`]. Invariant: at most [`IN_FLIGHT`] requests of [`BLOCK`] bytes are on
//! their way in a channel, and no reply is taken that is longer than what was asked for.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, FuturesUnordered};
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::connection::{Connection, span};
use super::error::SshError;
use super::files::{NewLocal, Progress, part_of};
use super::sftp::Remote;
use super::sftp_session::{Live, rename, start_spare};

/// What every server takes in one request (draft-ietf-secsh-filexfer-02 section 3).
const BLOCK: usize = 32 * 1024;
/// 4 MiB under way keep a link of 50 ms and 600 Mbit/s full.
pub(super) const IN_FLIGHT: usize = 128;
/// The time of a round trip from which an upload is worth a second channel.
const FAR: Duration = Duration::from_millis(8);
/// The size from which it is: what is in flight on a long link, some times over.
const LARGE: u64 = 16 << 20;
/// How much of a local file is read at once.
const CHUNK: usize = 1 << 20;

/// Opens a remote file for reading.
pub(super) async fn open_read(remote: &Remote<'_>) -> Result<String, SshError> {
    let open = remote.live.raw.open(
        remote.path.as_str(),
        OpenFlags::READ,
        FileAttributes::empty(),
    );
    remote.handle(remote.request("opening a file", open).await?.handle)
}

/// Writes `bytes` from the start of the file and closes it: the close is sent with the writes.
pub(super) async fn write_all(
    remote: &Remote<'_>,
    handle: &str,
    bytes: &[u8],
) -> Result<(), Unsent> {
    let raw = &remote.live.raw;
    if bytes.len() > BLOCK {
        let mut blocks = bytes.chunks(BLOCK).zip((0u64..).step_by(BLOCK));
        let mut writes = FuturesUnordered::new();
        loop {
            while writes.len() < IN_FLIGHT
                && let Some((block, offset)) = blocks.next()
            {
                writes.push(raw.write(handle, offset, block.to_vec()));
            }
            if writes.is_empty() {
                break;
            }
            remote
                .request("writing a file", async { writes.next().await.transpose() })
                .await
                .map_err(Unsent::Open)?;
        }
        return remote
            .request("closing a file", raw.close(handle))
            .await
            .map(drop)
            .map_err(Unsent::Closed);
    }
    remote
        .request("writing a file", async {
            // Polled in this order, so the close follows the write on the wire.
            let (written, closed) =
                futures::join!(raw.write(handle, 0, bytes.to_vec()), raw.close(handle));
            written.and(closed)
        })
        .await
        .map(drop)
        .map_err(Unsent::Closed)
}

/// Sends a local file.
pub(super) async fn upload(
    remote: &Remote<'_>,
    local: &Path,
    progress: Progress<'_>,
) -> Result<u64, SshError> {
    let _turn = remote.live.open_files.acquire().await;
    let broken = |source| SshError::Local {
        path: local.to_owned(),
        source,
    };
    let mut file = tokio::fs::File::open(local).await.map_err(broken)?;
    let size = file.metadata().await.map_err(broken)?.len();
    let part = part_of(remote.path);
    let asked = Instant::now();
    let handle = remote.open_part(&part).await?;
    let far = asked.elapsed() >= FAR && size >= LARGE;
    let second = far.then(|| open_second(remote.shared.connection().clone(), part.clone()));
    let sent = match send(remote, &handle, local, &mut file, second, progress).await {
        Ok(sent) => sent,
        Err(unsent) => {
            let (handle, error) = unsent.with(handle);
            return Err(remote.abandon(&part, handle, error).await);
        }
    };
    let renamed = remote
        .request(
            "renaming a file",
            rename(remote.live, &part, remote.path.as_str()),
        )
        .await;
    match renamed {
        Ok(()) => Ok(sent),
        Err(error) => Err(remote.abandon(&part, None, error).await),
    }
}

/// Why a file was not sent, and what has become of its handle.
pub(super) enum Unsent {
    Open(SshError),
    /// Closing it again could hit another file that has got its number since.
    Closed(SshError),
}

impl Unsent {
    /// The handle if it is still to be closed, and the error.
    pub(super) fn with(self, handle: String) -> (Option<String>, SshError) {
        match self {
            Self::Open(error) => (Some(handle), error),
            Self::Closed(error) => (None, error),
        }
    }
}

/// A second session that writes to the same file: a server's window for one channel (2 MiB for OpenSSH) is soon full
/// on a long link.
struct Second {
    live: Live,
    handle: String,
}

/// Opens the second way into a file, if the server has a channel to spare. It is a task of its own, so that a channel
/// which comes too late is closed.
fn open_second(connection: Connection, part: String) -> JoinHandle<Option<Second>> {
    let span = span(connection.host());
    let work = async move {
        let live = match start_spare(&connection).await {
            Ok(live) => live?,
            Err(error) => {
                tracing::debug!(%error, "no second channel for an upload");
                return None;
            }
        };
        let after = connection.deadlines().progress;
        let open = live
            .raw
            .open(&part, OpenFlags::WRITE, FileAttributes::empty());
        let opened = connection
            .within("opening a file", after, async { Ok(open.await) })
            .await;
        match opened {
            Ok(Ok(opened)) if !opened.handle.contains(char::REPLACEMENT_CHARACTER) => {
                Some(Second {
                    handle: opened.handle,
                    live,
                })
            }
            _ => None,
        }
    };
    tokio::spawn(work.instrument(span))
}

/// Sends the content and closes the file: the close follows the last writes without waiting for their answers.
async fn send(
    remote: &Remote<'_>,
    handle: &str,
    local: &Path,
    file: &mut tokio::fs::File,
    second: Option<JoinHandle<Option<Second>>>,
    progress: Progress<'_>,
) -> Result<u64, Unsent> {
    let raw = &remote.live.raw;
    let mut chunk = vec![0; CHUNK];
    let slots = &remote.shared.connection().inner().slots;
    let mut other: Option<Arc<Second>> = None;
    let (mut waiting, mut lanes) = (second, [0usize; 2]);
    // Whether a write of the second session failed; the first one writes that block then.
    let broken = &AtomicBool::new(false);
    let mut took_two = false;
    let mut writes = FuturesUnordered::new();
    let (mut offset, mut done) = (0u64, 0u64);
    loop {
        let got = file.read(&mut chunk).await.map_err(|source| {
            Unsent::Open(SshError::Local {
                path: local.to_owned(),
                source,
            })
        })?;
        for block in chunk.get(..got).unwrap_or_default().chunks(BLOCK) {
            let lane = loop {
                if slots.are_waited_for() {
                    // It ends with the last answer that is on its way.
                    other = None;
                    waiting = None;
                }
                if broken.load(Ordering::Relaxed) {
                    other = None;
                }
                let [first, second] = lanes;
                match &other {
                    Some(other) if second < first.min(IN_FLIGHT) => break Some(Arc::clone(other)),
                    _ if first < IN_FLIGHT => break None,
                    _ => {}
                }
                tokio::select! {
                    biased;
                    opened = opened(&mut waiting) => {
                        waiting = None;
                        other = opened.map(Arc::new);
                    }
                    stepped = step(remote, &mut writes, &mut done, progress) => {
                        stepped.map(|lane| count(&mut lanes, lane)).map_err(Unsent::Open)?;
                    }
                }
            };
            let (data, size, at) = (block.to_vec(), block.len() as u64, offset);
            let place = usize::from(lane.is_some());
            took_two |= lane.is_some();
            writes.push(async move {
                if let Some(second) = &lane {
                    let sent = second.live.raw.write(&*second.handle, at, data.clone());
                    match sent.await {
                        Ok(_) => return Ok((place, size)),
                        Err(error) => {
                            broken.store(true, Ordering::Relaxed);
                            tracing::debug!(%error, "the second channel of an upload failed");
                        }
                    }
                }
                raw.write(handle, at, data).await.map(|_| (place, size))
            });
            if let Some(flying) = lanes.get_mut(place) {
                *flying += 1;
            }
            offset += size;
        }
        if got == 0 {
            break;
        }
    }
    while took_two && !writes.is_empty() {
        // A block may have to be written again, which the close must not overtake.
        step(remote, &mut writes, &mut done, progress)
            .await
            .map_err(Unsent::Open)?;
    }
    let rest = async {
        while !writes.is_empty() {
            step(remote, &mut writes, &mut done, progress).await?;
        }
        Ok(())
    };
    // Polled in this order, so that the close follows the writes on the wire. The second session closes its file by
    // its own end, after its last answer.
    let (written, closed) =
        futures::join!(rest, remote.request("closing a file", raw.close(handle)));
    written.and(closed.map(drop)).map_err(Unsent::Closed)?;
    Ok(done)
}

/// Waits for the second session, for ever when there is none to come.
async fn opened(waiting: &mut Option<JoinHandle<Option<Second>>>) -> Option<Second> {
    match waiting {
        Some(task) => task.await.ok().flatten(),
        None => std::future::pending().await,
    }
}

fn count(lanes: &mut [usize; 2], lane: Option<usize>) {
    if let Some(flying) = lane.and_then(|lane| lanes.get_mut(lane)) {
        *flying = flying.saturating_sub(1);
    }
}

/// Waits for one answer; the lane that has room again.
async fn step<F>(
    remote: &Remote<'_>,
    writes: &mut FuturesUnordered<F>,
    done: &mut u64,
    progress: Progress<'_>,
) -> Result<Option<usize>, SshError>
where
    F: Future<Output = Result<(usize, u64), SftpError>>,
{
    let answered = remote
        .request("an upload", async { writes.next().await.transpose() })
        .await?;
    Ok(answered.map(|(lane, size)| {
        *done += size;
        progress(*done);
        lane
    }))
}

/// Fetches a remote file into a new local one.
pub(super) async fn download(
    remote: &Remote<'_>,
    local: &Path,
    max_bytes: u64,
    progress: Progress<'_>,
) -> Result<u64, SshError> {
    let _turn = remote.live.open_files.acquire().await;
    let handle = open_read(remote).await?;
    let result = fetch_into(remote, &handle, local, max_bytes, progress).await;
    remote.close_quietly(handle).await;
    result
}

async fn fetch_into(
    remote: &Remote<'_>,
    handle: &str,
    local: &Path,
    max_bytes: u64,
    progress: Progress<'_>,
) -> Result<u64, SshError> {
    let size = size_within(remote, handle, max_bytes).await?;
    let mut file = NewLocal::create(local).await?;
    let mut fetch = Fetch::new(remote, handle, 0, size);
    let mut done = 0;
    while let Some(block) = fetch.next_full("a download").await? {
        file.write(&block).await?;
        done += block.len() as u64;
        progress(done);
    }
    file.finish().await?;
    Ok(size)
}

/// Reads a file of at most one block and closes it, all in one round trip; `None` when it is longer, or grows.
pub(super) async fn read_small(
    remote: &Remote<'_>,
    handle: &str,
    max_bytes: u64,
) -> Result<Option<Vec<u8>>, SshError> {
    let raw = &remote.live.raw;
    let (size, data) = remote
        .request("reading a file", async {
            // Polled in this order, so the close follows the others on the wire.
            let (attributes, data, _) = futures::join!(
                raw.fstat(handle),
                raw.read(handle, 0, u32::try_from(BLOCK).unwrap_or(0)),
                raw.close(handle)
            );
            let data = match data {
                Ok(data) => data.data,
                Err(SftpError::Status(status)) if status.status_code == StatusCode::Eof => {
                    Vec::new()
                }
                Err(error) => return Err(error),
            };
            Ok((attributes?.attrs.size, data))
        })
        .await?;
    match size {
        Some(size) if size > max_bytes => Err(remote.too_large(max_bytes)),
        Some(size) if size == data.len() as u64 => Ok(Some(data)),
        Some(_) => Ok(None),
        None => Err(remote.nonsense("the server did not say how large the file is")),
    }
}

/// Reads a whole file into memory.
pub(super) async fn read_whole(
    remote: &Remote<'_>,
    handle: &str,
    max_bytes: u64,
) -> Result<Vec<u8>, SshError> {
    let size = size_within(remote, handle, max_bytes).await?;
    let mut fetch = Fetch::new(remote, handle, 0, size);
    let mut bytes = Vec::new();
    while let Some(block) = fetch.next_full("reading a file").await? {
        bytes.extend_from_slice(&block);
    }
    Ok(bytes)
}

/// Reads what there is of a range: the blocks up to the first that is not full.
pub(super) async fn read_range(
    remote: &Remote<'_>,
    handle: &str,
    offset: u64,
    max_bytes: u64,
) -> Result<Vec<u8>, SshError> {
    let mut fetch = Fetch::new(remote, handle, offset, max_bytes);
    let mut bytes = Vec::new();
    while let Some(block) = fetch.next("reading a file").await? {
        let full = block.bytes.len() == block.wanted;
        bytes.extend_from_slice(&block.bytes);
        // What lies behind a short block was read at another instant: the next call gets it.
        if !full {
            break;
        }
    }
    Ok(bytes)
}

async fn size_within(remote: &Remote<'_>, handle: &str, max_bytes: u64) -> Result<u64, SshError> {
    let attributes = remote
        .request("asking for a file's size", remote.live.raw.fstat(handle))
        .await?;
    match attributes.attrs.size {
        Some(size) if size > max_bytes => Err(remote.too_large(max_bytes)),
        Some(size) => Ok(size),
        None => Err(remote.nonsense("the server did not say how large the file is")),
    }
}

/// The blocks of a range, asked for ahead of their turn.
struct Fetch<'a> {
    remote: &'a Remote<'a>,
    handle: &'a str,
    /// Where the next request begins.
    next: u64,
    end: u64,
    blocks: FuturesOrdered<BoxFuture<'a, Result<Block, SftpError>>>,
}

impl<'a> Fetch<'a> {
    fn new(remote: &'a Remote<'a>, handle: &'a str, offset: u64, length: u64) -> Self {
        let end = offset.saturating_add(length);
        Self {
            remote,
            handle,
            next: offset,
            end,
            blocks: FuturesOrdered::new(),
        }
    }

    async fn next(&mut self, what: &'static str) -> Result<Option<Block>, SshError> {
        while self.blocks.len() < IN_FLIGHT && self.next < self.end {
            let wanted = usize::try_from(self.end - self.next)
                .unwrap_or(BLOCK)
                .min(BLOCK);
            self.blocks.push_back(Box::pin(read_block(
                self.remote,
                self.handle,
                self.next,
                wanted,
            )));
            self.next += wanted as u64;
        }
        let blocks = &mut self.blocks;
        self.remote
            .request(what, async { blocks.next().await.transpose() })
            .await
    }

    async fn next_full(&mut self, what: &'static str) -> Result<Option<Vec<u8>>, SshError> {
        match self.next(what).await? {
            Some(block) if block.bytes.len() == block.wanted => Ok(Some(block.bytes)),
            Some(_) => Err(self
                .remote
                .nonsense("the file became shorter while it was read")),
            None => Ok(None),
        }
    }
}

struct Block {
    wanted: usize,
    bytes: Vec<u8>,
}

/// Reads one block, asking again for what a short reply left out; shorter only at the end of the file.
async fn read_block(
    remote: &Remote<'_>,
    handle: &str,
    offset: u64,
    wanted: usize,
) -> Result<Block, SftpError> {
    let mut bytes: Vec<u8> = Vec::new();
    while bytes.len() < wanted {
        let rest = wanted - bytes.len();
        let at = offset.saturating_add(bytes.len() as u64);
        match remote
            .live
            .raw
            .read(handle, at, u32::try_from(rest).unwrap_or(0))
            .await
        {
            Ok(data) if data.data.len() > rest => {
                return Err(SftpError::UnexpectedBehavior(
                    "more data than was asked for".to_owned(),
                ));
            }
            Ok(data) if data.data.is_empty() => break,
            Ok(data) if bytes.is_empty() => bytes = data.data,
            Ok(data) => bytes.extend_from_slice(&data.data),
            Err(SftpError::Status(status)) if status.status_code == StatusCode::Eof => break,
            Err(error) => return Err(error),
        }
    }
    Ok(Block { wanted, bytes })
}
