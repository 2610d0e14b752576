//! Files on a host, whatever carries them.
//!
//! Main type: [`Files`]. Invariant: a file shows under its own name only when it is whole and has mode 0600; what is
//! read is bounded by the caller.

use std::path::Path;

use async_trait::async_trait;

use super::error::SshError;
use super::path::RemotePath;
use crate::private_fs;

/// Told how many bytes of a file have moved so far.
pub type Progress<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// Files on one host.
///
/// Every method fails with [`SshError::Lost`] when the connection dies, with [`SshError::TimedOut`] when nothing moves
/// for the progress deadline, and with the file errors ([`NotFound`](SshError::NotFound),
/// [`AlreadyExists`](SshError::AlreadyExists), [`PermissionDenied`](SshError::PermissionDenied),
/// [`NoSpace`](SshError::NoSpace), [`TooLarge`](SshError::TooLarge), [`Remote`](SshError::Remote)). Every method is
/// safe to cancel; a cancelled write may leave a `.part` file.
#[async_trait]
pub trait Files: Send + Sync {
    /// Makes a directory of mode 0700 in one that exists.
    ///
    /// # Errors
    /// [`SshError::AlreadyExists`] when anything has that name.
    async fn create_dir(&self, path: &RemotePath) -> Result<(), SshError>;

    /// Sends a local file. It is written to `REMOTE.part` (an older one is replaced) and renamed over `remote`.
    ///
    /// # Errors
    /// [`SshError::Local`] when the local file cannot be read.
    async fn upload(
        &self,
        local: &Path,
        remote: &RemotePath,
        progress: Progress<'_>,
    ) -> Result<u64, SshError>;

    /// Writes a small file whole: to `PATH.part`, then renamed over `path`.
    async fn write(&self, path: &RemotePath, bytes: &[u8]) -> Result<(), SshError>;

    /// Fetches a file into a new local file of mode 0600 and returns its size in bytes.
    ///
    /// # Errors
    /// [`SshError::TooLarge`] before anything is fetched; [`SshError::Local`] when `local` exists or cannot be written.
    /// On any error the local file is removed again.
    async fn download(
        &self,
        remote: &RemotePath,
        local: &Path,
        max_bytes: u64,
        progress: Progress<'_>,
    ) -> Result<u64, SshError>;

    /// Reads a whole file.
    ///
    /// # Errors
    /// [`SshError::TooLarge`] when it has more than `max_bytes`.
    async fn read(&self, path: &RemotePath, max_bytes: u64) -> Result<Vec<u8>, SshError>;

    /// Reads what a growing file has from `offset` on: at most `max_bytes` (and at most 256 KiB a call), empty at its
    /// end. The file may be kept open between calls, so one that is replaced by another must not be read like this.
    async fn read_from(
        &self,
        path: &RemotePath,
        offset: u64,
        max_bytes: u64,
    ) -> Result<Vec<u8>, SshError>;

    /// A file's size in bytes; `None` when it does not exist.
    async fn size(&self, path: &RemotePath) -> Result<Option<u64>, SshError>;

    /// Removes a file.
    ///
    /// # Errors
    /// [`SshError::NotFound`] when there is none.
    async fn remove_file(&self, path: &RemotePath) -> Result<(), SshError>;
}

/// The name under which a file is written until it is whole.
pub(super) fn part_of(path: &RemotePath) -> String {
    format!("{}.part", path.as_str())
}

/// The most that one [`Files::read_from`] returns.
pub(super) const READ_FROM_LIMIT: u64 = 256 * 1024;

/// Creates a local file that nobody else can read and that did not exist.
pub(super) async fn create_local(path: &Path) -> Result<tokio::fs::File, SshError> {
    let new = path.to_owned();
    let created = tokio::task::spawn_blocking(move || private_fs::create_new(&new)).await;
    created
        .unwrap_or_else(|stopped| Err(std::io::Error::other(stopped)))
        .map(tokio::fs::File::from_std)
        .map_err(|source| SshError::Local {
            path: path.to_owned(),
            source,
        })
}
