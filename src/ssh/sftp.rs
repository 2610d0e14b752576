//! Files over SFTP.
//!
//! Main type: [`SftpFiles`]. Invariant: only names that were given here are used; of the server's replies only sizes,
//! codes and bytes count, all of them bounded.

use std::fmt;
use std::future::{Future, pending};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};
use tokio::time::Instant;

use super::error::SshError;
use super::files::{Files, Progress, READ_FROM_LIMIT, part_of};
use super::path::RemotePath;
use super::sftp_session::{Live, Reading, SftpShared, rename};
use super::sftp_transfer as transfer;

/// How long the answer to a close is waited for that nothing depends on, at most.
const QUIET_CLOSE: Duration = Duration::from_secs(5);
/// The part of the progress deadline that tidying up may take once nothing moves any more.
const TIDYING: u32 = 5;
/// How many answers a request waits out: the transfers that go on beside it have no more ahead of it.
const AHEAD: u64 = 4 * transfer::IN_FLIGHT as u64;

/// Files over the SFTP subsystem of a connection. Cloning is cheap; all clones share one channel, which is given back
/// while it is idle and somebody else waits for one.
#[derive(Clone)]
pub struct SftpFiles {
    shared: Arc<SftpShared>,
}

impl fmt::Debug for SftpFiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SftpFiles")
            .field("connection", self.shared.connection())
            .finish()
    }
}

/// An open remote file.
pub(super) struct Remote<'a> {
    pub(super) shared: &'a SftpShared,
    pub(super) live: &'a Live,
    pub(super) path: &'a RemotePath,
}

impl Remote<'_> {
    /// Waits for one request within the progress deadline, which counts from the last answer on the session: on a slow
    /// link megabytes of other requests may be ahead of this one.
    pub(super) async fn request<T>(
        &self,
        what: &'static str,
        work: impl Future<Output = Result<T, SftpError>>,
    ) -> Result<T, SshError> {
        let connection = self.shared.connection();
        let after = connection.deadlines().progress;
        let (before, mut since) = (self.live.answers().count, Instant::now());
        let mut work = pin!(work);
        let answer = loop {
            let over = async {
                match since.checked_add(after) {
                    Some(over) => tokio::time::sleep_until(over).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = &mut work => break answer,
                _ = connection.closed() => return Err(connection.lost_now()),
                () = over => {}
            }
            let answers = self.live.answers();
            if answers.last <= since || answers.count - before > AHEAD {
                let host = connection.host().clone();
                return Err(SshError::TimedOut { host, what, after });
            }
            since = answers.last;
        };
        self.live.answered();
        match answer {
            Ok(value) => Ok(value),
            Err(error) => Err(self.shared.failed(self.live, self.path, error).await),
        }
    }

    /// The handle in an answer.
    ///
    /// # Errors
    /// [`SshError::SftpUnavailable`] for one that is not UTF-8: the library has replaced bytes of it, and whatever is
    /// done with it would hit another file or none.
    pub(super) fn handle(&self, handle: String) -> Result<String, SshError> {
        if handle.contains(char::REPLACEMENT_CHARACTER) {
            let host = self.shared.connection().host().clone();
            return Err(SshError::SftpUnavailable { host });
        }
        Ok(handle)
    }

    /// Opens `NAME.part` for writing: made now, mode 0600, whatever was there before.
    pub(super) async fn open_part(&self, part: &str) -> Result<String, SshError> {
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE;
        let open = || self.live.raw.open(part, flags, mode(0o600));
        let first = self.request("creating a file", async {
            match open().await {
                Ok(handle) => Ok(Some(handle.handle)),
                // Version 3 has no code for "exists": anything but a clear reason may be an older part.
                Err(SftpError::Status(status)) if status.status_code == StatusCode::Failure => {
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        });
        if let Some(handle) = first.await? {
            return self.handle(handle);
        }
        let again = self.request("creating a file", async {
            if let Err(error) = self.live.raw.remove(part).await
                && !matches!(&error, SftpError::Status(status) if status.status_code == StatusCode::NoSuchFile)
            {
                return Err(error);
            }
            open().await.map(|handle| handle.handle)
        });
        self.handle(again.await?)
    }

    /// How long what nothing depends on may take where nothing moves.
    fn tidying(&self) -> Duration {
        self.shared.connection().deadlines().progress / TIDYING
    }

    /// Closes and removes what a failed write left, and says whether the disk is full.
    pub(super) async fn abandon(
        &self,
        part: &str,
        handle: Option<String>,
        error: SshError,
    ) -> SshError {
        if error.is_connection_loss() {
            return error;
        }
        let full = matches!(error, SshError::Remote { .. }) && self.is_full(part).await;
        let cleanup = self.request("removing a partial file", async {
            let close = async {
                if let Some(handle) = handle {
                    let _ = self.live.raw.close(handle).await;
                }
            };
            // Polled in this order, so both are on their way even if nobody waits for the answers.
            let ((), removed) = futures::join!(close, self.live.raw.remove(part));
            removed
        });
        let patience = match error {
            SshError::TimedOut { .. } => self.tidying(),
            _ => Duration::MAX,
        };
        match tokio::time::timeout(patience, cleanup).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a partial file was left"),
            Err(_) => tracing::debug!("a partial file may be left: nothing moves"),
        }
        if full {
            let host = self.shared.connection().host().clone();
            return SshError::NoSpace {
                host,
                path: self.path.clone(),
            };
        }
        error
    }

    async fn is_full(&self, path: &str) -> bool {
        if !self.live.statvfs {
            return false;
        }
        let answer = self
            .request("asking for free space", self.live.raw.statvfs(path))
            .await;
        answer.is_ok_and(|space| {
            space.blocks_avail == 0 || space.inodes_avail == 0 && space.inodes > 0
        })
    }

    /// Closes a handle whose data is not needed any more. A failure changes nothing, and nobody waits long for it.
    pub(super) async fn close_quietly(&self, handle: String) {
        let close = self.live.raw.close(handle);
        let _ = tokio::time::timeout(QUIET_CLOSE.min(self.tidying()), close).await;
    }

    /// The error for an answer that makes no sense.
    pub(super) fn nonsense(&self, message: &str) -> SshError {
        let host = self.shared.connection().host().clone();
        SshError::Remote {
            host,
            path: self.path.clone(),
            message: message.to_owned(),
        }
    }

    /// The error for a file beyond its limit.
    pub(super) fn too_large(&self, limit: u64) -> SshError {
        SshError::TooLarge {
            host: self.shared.connection().host().clone(),
            path: self.path.clone(),
            limit,
        }
    }
}

/// Attributes that hold a mode and nothing else.
fn mode(bits: u32) -> FileAttributes {
    FileAttributes {
        permissions: Some(bits),
        ..FileAttributes::empty()
    }
}

impl SftpFiles {
    pub(super) fn new(shared: Arc<SftpShared>) -> Self {
        Self { shared }
    }

    async fn size_of(remote: &Remote<'_>) -> Result<Option<u64>, SshError> {
        match remote
            .request(
                "asking for a file's size",
                remote.live.raw.stat(remote.path.as_str()),
            )
            .await
        {
            Ok(attributes) => match attributes.attrs.size {
                Some(size) => Ok(Some(size)),
                None => Err(remote.nonsense("the server did not say how large the file is")),
            },
            Err(SshError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Files for SftpFiles {
    async fn create_dir(&self, path: &RemotePath) -> Result<(), SshError> {
        let live = self.shared.live().await?;
        let remote = Remote {
            shared: &self.shared,
            live: &live,
            path,
        };
        match remote
            .request(
                "making a directory",
                live.raw.mkdir(path.as_str(), mode(0o700)),
            )
            .await
        {
            Ok(_) => Ok(()),
            Err(error @ SshError::Remote { .. }) => {
                // Version 3 has no code for "exists": look.
                let found = remote
                    .request("looking at a directory", live.raw.lstat(path.as_str()))
                    .await;
                match found {
                    Ok(_) => {
                        let host = self.shared.connection().host().clone();
                        Err(SshError::AlreadyExists {
                            host,
                            path: path.clone(),
                        })
                    }
                    Err(_) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn upload(
        &self,
        local: &Path,
        path: &RemotePath,
        progress: Progress<'_>,
    ) -> Result<u64, SshError> {
        let live = self.shared.live().await?;
        transfer::upload(
            &Remote {
                shared: &self.shared,
                live: &live,
                path,
            },
            local,
            progress,
        )
        .await
    }

    async fn write(&self, path: &RemotePath, bytes: &[u8]) -> Result<(), SshError> {
        let live = self.shared.live().await?;
        let remote = Remote {
            shared: &self.shared,
            live: &live,
            path,
        };
        let _turn = live.open_files.acquire().await;
        let part = part_of(path);
        let handle = remote.open_part(&part).await?;
        if let Err(unsent) = transfer::write_all(&remote, &handle, bytes).await {
            let (handle, error) = unsent.with(handle);
            return Err(remote.abandon(&part, handle, error).await);
        }
        match remote
            .request("renaming a file", rename(&live, &part, path.as_str()))
            .await
        {
            Ok(()) => Ok(()),
            Err(error) => Err(remote.abandon(&part, None, error).await),
        }
    }

    async fn download(
        &self,
        path: &RemotePath,
        local: &Path,
        max_bytes: u64,
        progress: Progress<'_>,
    ) -> Result<u64, SshError> {
        let live = self.shared.live().await?;
        let remote = Remote {
            shared: &self.shared,
            live: &live,
            path,
        };
        transfer::download(&remote, local, max_bytes, progress).await
    }

    async fn read(&self, path: &RemotePath, max_bytes: u64) -> Result<Vec<u8>, SshError> {
        let live = self.shared.live().await?;
        let remote = Remote {
            shared: &self.shared,
            live: &live,
            path,
        };
        let _turn = live.open_files.acquire().await;
        let handle = transfer::open_read(&remote).await?;
        if let Some(bytes) = transfer::read_small(&remote, &handle, max_bytes).await? {
            return Ok(bytes);
        }
        let handle = transfer::open_read(&remote).await?;
        let result = transfer::read_whole(&remote, &handle, max_bytes).await;
        remote.close_quietly(handle).await;
        result
    }

    async fn read_from(
        &self,
        path: &RemotePath,
        offset: u64,
        max_bytes: u64,
    ) -> Result<Vec<u8>, SshError> {
        let live = self.shared.live().await?;
        let remote = Remote {
            shared: &self.shared,
            live: &live,
            path,
        };
        let handle = match live.take_kept(path) {
            Some(handle) => handle,
            None => transfer::open_read(&remote).await?,
        };
        let reading = Reading::new(&live, path, handle);
        let limit = max_bytes.min(READ_FROM_LIMIT);
        let result = transfer::read_range(&remote, reading.handle(), offset, limit).await;
        let failed = match &result {
            Ok(_) => {
                drop(reading);
                None
            }
            Err(_) => reading.into_handle(),
        };
        for handle in live.take_excess().into_iter().chain(failed) {
            remote.close_quietly(handle).await;
        }
        result
    }

    async fn size(&self, path: &RemotePath) -> Result<Option<u64>, SshError> {
        let live = self.shared.live().await?;
        Self::size_of(&Remote {
            shared: &self.shared,
            live: &live,
            path,
        })
        .await
    }

    async fn remove_file(&self, path: &RemotePath) -> Result<(), SshError> {
        let live = self.shared.live().await?;
        let remote = Remote {
            shared: &self.shared,
            live: &live,
            path,
        };
        if let Some(handle) = live.take_kept(path) {
            remote.close_quietly(handle).await;
        }
        remote
            .request("removing a file", live.raw.remove(path.as_str()))
            .await
            .map(drop)
    }
}
