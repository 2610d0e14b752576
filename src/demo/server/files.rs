//! What the SFTP subsystem does to files, as blocking work.
//!
//! Every function takes real paths or open files; what they return is in the protocol's own types.

use std::fs::{self, File, FileTimes, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use russh_sftp::protocol::{File as Listed, FileAttributes, OpenFlags};

/// The bits of a mode that `chmod` takes.
pub(super) const MODE_BITS: u32 = 0o7777;

pub(super) fn attributes(metadata: &Metadata) -> FileAttributes {
    let mut attributes = FileAttributes::from(metadata);
    // The conversion calls whatever is no directory a regular file.
    attributes.permissions = Some(metadata.mode());
    attributes
}

pub(super) fn open_file(path: &Path, flags: OpenFlags, mode: Option<u32>) -> io::Result<File> {
    let mut options = OpenOptions::from(flags);
    if let Some(mode) = mode {
        options.mode(mode & MODE_BITS);
    }
    let file = options.open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(file)
}

pub(super) fn apply(file: &File, wanted: &FileAttributes) -> io::Result<()> {
    if let Some(size) = wanted.size {
        file.set_len(size)?;
    }
    if let Some(mode) = wanted.permissions {
        file.set_permissions(fs::Permissions::from_mode(mode & MODE_BITS))?;
    }
    if let (Some(accessed), Some(modified)) = (wanted.atime, wanted.mtime) {
        let times = FileTimes::new()
            .set_accessed(time(accessed))
            .set_modified(time(modified));
        file.set_times(times)?;
    }
    Ok(())
}

fn time(seconds: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(seconds))
}

/// As [`apply`], on a path: a mode alone needs no right to open the file.
pub(super) fn apply_to_path(path: &Path, wanted: &FileAttributes) -> io::Result<()> {
    if wanted.size.is_none() && wanted.mtime.is_none() {
        return match wanted.permissions {
            Some(mode) => fs::set_permissions(path, fs::Permissions::from_mode(mode & MODE_BITS)),
            None => Ok(()),
        };
    }
    let file = OpenOptions::new()
        .read(true)
        .write(wanted.size.is_some())
        .open(path)?;
    apply(&file, wanted)
}

pub(super) fn list(path: &Path) -> io::Result<Vec<Listed>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // A file removed since is no part of the listing.
        if let Ok(metadata) = entry.metadata() {
            let name = entry.file_name().to_string_lossy().into_owned();
            names.push(Listed::new(name, attributes(&metadata)));
        }
    }
    Ok(names)
}

pub(super) fn read_at(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut data = vec![0; length];
    let count = file.read_at(&mut data, offset)?;
    if count == 0 && length > 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    data.truncate(count);
    Ok(data)
}
