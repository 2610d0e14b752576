//! Files on a host, whatever carries them.
//!
//! Main type: [`Files`]. Invariant: a file shows under its own name only when it is whole and has mode 0600; what is
//! read is bounded by the caller.

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use tokio::io::AsyncWriteExt as _;

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
/// [`NoSpace`](SshError::NoSpace), [`TooLarge`](SshError::TooLarge), [`Remote`](SshError::Remote)), and over SFTP with
/// [`SshError::SftpUnavailable`] when the server's file handles are none that the library carries. Every method is
/// safe to cancel; a cancelled write may leave a `.part` file and, where the server cannot rename over an existing file,
/// the old one as `.old` alone.
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

    /// Fetches a file into a new local file of mode 0600 and returns its size in bytes. It is written to `LOCAL.part`,
    /// synced, and then renamed.
    ///
    /// # Errors
    /// [`SshError::TooLarge`] before anything is fetched; [`SshError::Local`] when `local` or its `.part` exists or cannot be written.
    /// On any error, and when it is cancelled, the `.part` is removed again.
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

/// A local file that is being fetched: `NAME.part`, which goes with this value, until it is whole. Nobody else can read
/// it, and it takes no other file's place.
pub(super) struct NewLocal {
    // Closed before the name goes.
    file: tokio::fs::File,
    part: tempfile::TempPath,
    path: PathBuf,
}

impl NewLocal {
    /// Creates the `.part` of a file that must not exist.
    pub(super) async fn create(path: &Path) -> Result<Self, SshError> {
        let mut part = path.to_owned().into_os_string();
        part.push(".part");
        let (path, part) = (path.to_owned(), PathBuf::from(part));
        let failed = {
            let path = path.clone();
            |source| SshError::Local { path, source }
        };
        let created = tokio::task::spawn_blocking(move || {
            if path.symlink_metadata().is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let file = tokio::fs::File::from_std(private_fs::create_new(&part)?);
            let part = tempfile::TempPath::try_from_path(part)?;
            Ok(Self { file, part, path })
        });
        let created = created.await.map_err(io::Error::other);
        created.and_then(|created| created).map_err(failed)
    }

    /// Writes at the end.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), SshError> {
        // To the end of it: what is still being written keeps the file open, and Windows then lets nobody remove it.
        let written = async {
            self.file.write_all(bytes).await?;
            self.file.flush().await
        };
        written.await.map_err(|source| SshError::Local {
            path: self.path.clone(),
            source,
        })
    }

    /// Gives the whole file its name, unless another has it by now.
    pub(super) async fn finish(self) -> Result<(), SshError> {
        let Self { file, part, path } = self;
        let synced = file.sync_all().await;
        let file = file.into_std().await;
        let failed = {
            let path = path.clone();
            |source| SshError::Local { path, source }
        };
        let named = tokio::task::spawn_blocking(move || {
            drop(file);
            synced?;
            private_fs::persist_new(part, &path)
        });
        let named = named.await.map_err(io::Error::other);
        named.and_then(|named| named).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fetched_file_has_its_name_when_it_is_whole_and_takes_no_others_place() {
        let directory = tempfile::tempdir().unwrap();
        let (path, part) = (
            directory.path().join("file"),
            directory.path().join("file.part"),
        );
        let mut cancelled = NewLocal::create(&path).await.unwrap();
        cancelled.write(b"a prefix").await.unwrap();
        assert!(part.exists() && !path.exists());
        drop(cancelled);
        assert!(!part.exists() && !path.exists());

        let mut whole = NewLocal::create(&path).await.unwrap();
        whole.write(b"the whole").await.unwrap();
        whole.finish().await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"the whole");
        assert!(NewLocal::create(&path).await.is_err());
        assert!(!part.exists());

        std::fs::remove_file(&path).unwrap();
        let late = NewLocal::create(&path).await.unwrap();
        std::fs::write(&path, "another's").unwrap();
        let error = late.finish().await.unwrap_err();
        assert!(
            matches!(&error, SshError::Local { source, .. } if source.kind() == io::ErrorKind::AlreadyExists),
            "{error:?}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"another's");
        assert!(!part.exists());
    }
}
