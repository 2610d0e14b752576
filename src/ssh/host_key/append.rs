//! Writing a trusted key down.
//!
//! Main function: [`append`]. Invariant: one write under an exclusive lock; a crash leaves at worst one line that does
//! not parse, which counts for nothing, and links and modes of the file stay as its owner made them.

use std::io::{self, Write as _};
use std::path::Path;

use rand::RngExt as _;
use russh::keys::PublicKey;

use super::edit::{key_text, locked};
use super::entry::{Line, Marker, parse_line};
use super::pattern::hashed_field;
use crate::private_fs;
use crate::ssh::SshError;

/// Appends `key` under `name` to `file`; the name is hashed when `hashed` says so or another one there is.
pub(super) async fn append(
    file: &Path,
    name: String,
    key: &PublicKey,
    hashed: bool,
) -> Result<(), SshError> {
    let (path, key) = (file.to_owned(), key.clone());
    let failed = |source| SshError::KnownHosts {
        path: file.to_owned(),
        source,
    };
    tokio::task::spawn_blocking(move || append_blocking(&path, &name, &key, hashed))
        .await
        .map_err(|error| failed(io::Error::other(error)))?
        .map_err(failed)
}

/// Does the work of [`append`].
pub(super) fn append_blocking(
    path: &Path,
    name: &str,
    key: &PublicKey,
    mut hashed: bool,
) -> io::Result<()> {
    if let Some(directory) = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
    {
        private_fs::create_dir_all(directory)?;
    }
    let (mut file, bytes) = locked(path)?;
    for line in bytes.split(|&byte| byte == b'\n') {
        let Line::Entry(entry) = parse_line(line) else {
            continue;
        };
        hashed |= entry.names.is_hashed();
        if entry.marker == Marker::None
            && entry.key.key_data() == key.key_data()
            && entry.names.matches(name)
        {
            return Ok(());
        }
    }
    let names = if hashed {
        let salt: [u8; 20] = rand::rng().random();
        hashed_field(&salt, name).ok_or(io::ErrorKind::InvalidData)?
    } else {
        name.to_owned()
    };
    let key = key_text(key)?;
    let start = if bytes.is_empty() || bytes.ends_with(b"\n") {
        ""
    } else {
        "\n"
    };
    file.write_all(format!("{start}{names} {key}\n").as_bytes())?;
    // `UserKnownHostsFile /dev/null` is a way to forget, and cannot be synced.
    if file.metadata()?.is_file() {
        file.sync_all()?;
    }
    Ok(())
}
