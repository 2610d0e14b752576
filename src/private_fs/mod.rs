//! Local files and directories that only the user can read.
//!
//! Everything that this program keeps holds conversations, so on Unix files are 0600 and directories 0700 from the
//! moment they exist, never tightened afterwards; on Windows their access control list names the user and the system
//! alone, and a directory hands it on to what is made in it.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as platform;
#[cfg(windows)]
use windows as platform;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempPath;

/// How long another program may have a file open that is to be replaced; that happens on Windows alone.
const BUSY_LIMIT: Duration = Duration::from_secs(3);
/// The pause between two attempts at it.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Creates a directory that only the user can read, with its missing parents; one that exists is left as it is.
///
/// # Errors
/// Whatever the file system answers.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    platform::create_dir_all(path)
}

/// Creates a new file that only the user can read, for writing.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] when something is there, a link included, or whatever the file system
/// answers.
pub fn create_new(path: &Path) -> io::Result<File> {
    platform::create_new(path)
}

/// Creates a file that only the user can read, for writing, in the place of one that may be there.
///
/// What is there is removed first and never written through, so a link planted at `path` has no effect.
///
/// # Errors
/// Whatever the file system answers.
pub fn create(path: &Path) -> io::Result<File> {
    patiently(|| {
        none_is_fine(std::fs::remove_file(path))?;
        create_new(path)
    })
}

/// Opens a file for reading and appending; where it is missing, creates one that only the user can read.
///
/// # Errors
/// Whatever the file system answers.
pub fn open_append(path: &Path) -> io::Result<File> {
    platform::open_append(path)
}

/// Reads a whole file. On Windows a lock keeps others from reading too: for as long as one may last, it is waited for.
///
/// # Errors
/// Whatever the file system answers.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(path, u64::MAX)
}

/// Reads a whole file as [`read`] does, if it has no more than `limit` bytes.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`], or whatever the file system answers.
pub fn read_at_most(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut attempts = Attempts::start();
    loop {
        match File::open(path).and_then(|file| rest_at_most(file, limit)) {
            Err(error) if platform::is_locked(&error) && attempts.another(&error) => {}
            read => return read,
        }
    }
}

/// Reads what is left of an open file, if that is no more than `limit` bytes.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`], or whatever the file system answers.
pub fn rest_at_most(file: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Writes a whole file that only the user can read: to a temporary name in the same directory, synced, then renamed
/// over `path`. Where another program keeps that from being replaced, it is tried again for a few seconds.
///
/// # Errors
/// Whatever the file system answers; `path` then still holds what it held.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .make_in(directory, create_new)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    // Closed before it is renamed, for Windows. `rename` also gets past a reader there, which `persist` does not.
    let file = file.into_temp_path();
    rename(&file, path)
}

/// Renames a file, over what has that name. Where another program keeps that from being done, it is tried again for a
/// few seconds.
///
/// # Errors
/// Whatever the file system answers.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    patiently(|| std::fs::rename(from, to))
}

/// Opens a file that is there, to be read and written anew. One that another program has for itself alone is waited
/// for, for a few seconds.
///
/// # Errors
/// Whatever the file system answers.
#[cfg(windows)]
pub(crate) fn open_existing(path: &Path) -> io::Result<File> {
    platform::open_existing(path)
}

/// Gives a file its name, unless something has that name already. Where another program keeps the file from being
/// renamed, it is tried again for a few seconds.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`], or whatever the file system answers; the file is then removed.
pub fn persist_new(file: TempPath, path: &Path) -> io::Result<()> {
    let mut file = Some(file);
    patiently(|| {
        let Some(unnamed) = file.take() else {
            return Ok(());
        };
        unnamed.persist_noclobber(path).map_err(|refused| {
            file = Some(refused.path);
            refused.error
        })
    })
}

/// Removes a file; one that is not there is no error. Where another program keeps it from being removed, it is tried
/// again for a few seconds.
///
/// # Errors
/// Whatever the file system answers.
pub fn remove_file(path: &Path) -> io::Result<()> {
    none_is_fine(patiently(|| std::fs::remove_file(path)))
}

/// Removes a directory with what is in it; one that is not there is no error. Tried again as for [`remove_file`].
///
/// # Errors
/// Whatever the file system answers; some of it may be gone then.
pub fn remove_dir_all(path: &Path) -> io::Result<()> {
    none_is_fine(patiently(|| std::fs::remove_dir_all(path)))
}

/// Whether anybody but the user, and whoever administers this machine, may read the file.
///
/// # Errors
/// Whatever the file system answers.
pub fn others_may_read(file: &File) -> io::Result<bool> {
    platform::others_may_read(file)
}

fn none_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Does what another program may keep from being done for a moment.
fn patiently<T>(mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut attempts = Attempts::start();
    loop {
        match act() {
            Err(error) if attempts.another(&error) => {}
            done => return done,
        }
    }
}

/// Attempts at what another program may keep from being done for a moment.
struct Attempts(Instant);

impl Attempts {
    fn start() -> Self {
        Self(Instant::now() + BUSY_LIMIT)
    }

    /// Whether this failure may pass; pauses when it may.
    fn another(&mut self, error: &io::Error) -> bool {
        let again = platform::is_passing(error) && Instant::now() < self.0;
        if again {
            std::thread::sleep(BUSY_PAUSE);
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    fn mode(path: &Path) -> u32 {
        use std::os::unix::fs::PermissionsExt;
        std::fs::symlink_metadata(path)
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    }

    #[cfg(unix)]
    #[test]
    fn files_and_directories_are_private_from_creation() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a/b");
        create_dir_all(&directory).unwrap();
        create_new(&directory.join("new")).unwrap();
        write_atomic(&directory.join("atomic"), b"x").unwrap();
        for _ in 0..2 {
            open_append(&directory.join("log"))
                .unwrap()
                .write_all(b"x")
                .unwrap();
        }
        assert_eq!(std::fs::read(directory.join("log")).unwrap(), b"xx");
        assert_eq!(mode(&directory.join("log")), 0o600);
        assert_eq!(mode(&root.path().join("a")), 0o700);
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join("new")), 0o600);
        assert_eq!(mode(&directory.join("atomic")), 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_read_is_noticed() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let file = create_new(&root.path().join("key")).unwrap();
        assert!(!others_may_read(&file).unwrap());
        file.set_permissions(std::fs::Permissions::from_mode(0o640))
            .unwrap();
        assert!(others_may_read(&file).unwrap());
    }

    #[test]
    fn a_file_is_replaced_while_somebody_reads_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        write_atomic(&path, b"old").unwrap();
        let mut reader = File::open(&path).unwrap();
        write_atomic(&path, b"new").unwrap();
        let mut old = String::new();
        reader.read_to_string(&mut old).unwrap();
        assert_eq!(old, "old");
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        create(&path).unwrap().write_all(b"made").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"made");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_new_name_takes_no_others_place_and_what_is_gone_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let part = |text: &str| {
            write_atomic(&at("part"), text.as_bytes()).unwrap();
            TempPath::try_from_path(at("part")).unwrap()
        };
        persist_new(part("one"), &at("file")).unwrap();
        let refused = persist_new(part("two"), &at("file")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(at("file")).unwrap(), b"one");
        assert!(!at("part").exists());
        create_dir_all(&at("a/b")).unwrap();
        for _ in 0..2 {
            remove_file(&at("file")).unwrap();
            remove_dir_all(&at("a")).unwrap();
        }
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_beyond_its_bound_is_refused_and_not_cut() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read_at_most(&path, 5).unwrap(), b"12345");
        let error = read_at_most(&path, 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[cfg(unix)]
    #[test]
    fn a_planted_link_is_replaced_and_never_written_through() {
        let root = tempfile::tempdir().unwrap();
        let (victim, link) = (root.path().join("victim"), root.path().join("link"));
        std::fs::write(&victim, "kept").unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        assert_eq!(
            create_new(&link).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        create(&link).unwrap().write_all(b"ours").unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "kept");
        assert_eq!(std::fs::read_to_string(&link).unwrap(), "ours");
    }
}
