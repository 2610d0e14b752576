//! Local files and directories that only the user can read.
//!
//! Everything that this program keeps holds conversations, so files are 0600 and directories 0700 from
//! the moment they exist, never tightened afterwards. On Windows the user's profile already restricts its
//! content to the user, and new files inherit that.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Creates a directory (0700) with its missing parents; one that exists is left as it is.
///
/// # Errors
/// Whatever the file system answers.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path)
}

/// Creates a new file (0600) for writing.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] when something is there, a link included, or whatever the file system
/// answers.
pub fn create_new(path: &Path) -> io::Result<File> {
    options().write(true).create_new(true).open(path)
}

/// Creates a file (0600) for writing, in the place of one that may be there.
///
/// What is there is removed first and never written through, so a link planted at `path` has no effect.
///
/// # Errors
/// Whatever the file system answers.
pub fn create(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    create_new(path)
}

/// Opens a file (0600) for reading and appending, and creates it where it is missing.
///
/// # Errors
/// Whatever the file system answers.
pub fn open_append(path: &Path) -> io::Result<File> {
    options().read(true).append(true).create(true).open(path)
}

/// Writes a whole file (0600): to a temporary name in the same directory, synced, then renamed over `path`.
///
/// # Errors
/// Whatever the file system answers; `path` then still holds what it held.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn options() -> OpenOptions {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix has modes to set"))]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options
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
