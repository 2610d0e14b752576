//! One process a job: whoever follows a job, or brings it back, holds its lock.
//!
//! The lock is the operating system's, on a file of the state directory, so it ends with the process that holds it.

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::HandoffError;
use super::local_files::local;
use crate::hosts::Places;
use crate::job::JobId;
use crate::private_fs;

/// The lock of a job, held until this is dropped.
#[derive(Debug)]
pub(crate) struct JobLock {
    path: PathBuf,
    file: Option<File>,
    /// The file is to go once it is closed.
    left_over: AtomicBool,
}

impl JobLock {
    /// Takes the lock of a job; `None` when another process has it.
    pub(crate) fn take(places: &Places, job: &JobId) -> Result<Option<Self>, HandoffError> {
        let directory = places.job_dir(job.as_str());
        let path = directory.with_extension("lock");
        if let Some(parent) = path.parent() {
            private_fs::create_dir_all(parent).map_err(|source| local(parent, source))?;
        }
        let file = private_fs::open_append(&path).map_err(|source| local(&path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self {
                path,
                file: Some(file),
                left_over: AtomicBool::new(false),
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(local(&path, source)),
        }
    }

    /// Gives the lock back for good: the job is done with on this machine.
    pub(crate) fn retire(&self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            // Not every file system of Windows removes what is open.
            tracing::debug!(%error, "the lock file stays until it is closed");
            self.left_over.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for JobLock {
    fn drop(&mut self) {
        drop(self.file.take());
        if self.left_over.load(Ordering::Relaxed)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::debug!(%error, "the lock file stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_has_one_holder_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let places = Places::from_lookup(
            |key| {
                (key == "HOME" || key == "USERPROFILE").then(|| home.path().as_os_str().to_owned())
            },
            home.path(),
        )
        .unwrap();
        let job = JobId::generate();
        let held = JobLock::take(&places, &job).unwrap().unwrap();
        assert!(JobLock::take(&places, &job).unwrap().is_none());
        drop(held);
        let again = JobLock::take(&places, &job).unwrap().unwrap();
        let path = again.path.clone();
        again.retire();
        drop(again);
        assert!(!path.exists());
        assert!(JobLock::take(&places, &job).unwrap().is_some());
    }
}
