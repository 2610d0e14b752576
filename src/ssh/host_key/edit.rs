//! Changing a known_hosts file that others read and write too.
//!
//! Main functions: [`locked`] and [`replace_lines`]. Invariant: a file is changed under an exclusive lock, by one write
//! at its end or by a whole new file in its place, so that a reader sees the old lines or the new ones; what is not
//! about the host stays byte for byte. ssh(1) takes no locks, so against it only the second half of this holds.
//!
//! On Windows a file that is open cannot be replaced, so it is written anew in its place, under a lock that binds readers
//! too. A machine that fails in the middle of that leaves a cut file, with the whole of it in a copy beside it
//! (`.known_hosts-*`), which is to be put back by hand.

use std::fs::File;
use std::io;
use std::path::Path;

use russh::keys::PublicKey;

use super::entry::{Line, Marker, parse_line};
use super::known_hosts::{MAX_BYTES, recorded};
use crate::private_fs;

/// How often a file may be replaced by others while its lock is waited for.
const MAX_REPLACED: usize = 100;

/// Opens a file for reading and appending (it is made, mode 0600, when missing) and locks it; what it holds comes along.
pub(super) fn locked(path: &Path) -> io::Result<(File, Vec<u8>)> {
    for _ in 0..MAX_REPLACED {
        let file = private_fs::open_append(path)?;
        file.lock()?;
        // Whoever had the lock before may have put another file in its place.
        if is_at(&file, path)? {
            let bytes = private_fs::rest_at_most(&file, MAX_BYTES)?;
            return Ok((file, bytes));
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let place = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match std::fs::metadata(path) {
        Ok(there) => Ok(place(there) == place(file.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Files are changed in their place there, see [`put`].
#[cfg(windows)]
fn is_at(_file: &File, _path: &Path) -> io::Result<bool> {
    Ok(true)
}

/// Puts `key` in the place of those keys of `name` in a file that `old` holds (as [`recorded`] writes them), and tells
/// whether there was one.
pub(super) fn replace_lines(
    path: &Path,
    name: &str,
    key: &PublicKey,
    old: &[String],
) -> io::Result<bool> {
    // The file itself: a link to it stays a link.
    let path = path.canonicalize()?;
    let (file, bytes) = locked_whole(&path)?;
    let text = key_text(key)?;
    match replaced(&bytes, name, &text, old) {
        Some(bytes) => put(file, &path, &bytes).map(|()| true),
        None => Ok(false),
    }
}

#[cfg(unix)]
fn locked_whole(path: &Path) -> io::Result<(File, Vec<u8>)> {
    locked(path)
}

/// A handle that may also cut the file, which one for appending may not.
#[cfg(windows)]
fn locked_whole(path: &Path) -> io::Result<(File, Vec<u8>)> {
    let file = private_fs::open_existing(path)?;
    file.lock()?;
    let bytes = private_fs::rest_at_most(&file, MAX_BYTES)?;
    Ok((file, bytes))
}

/// The key as a line has it.
pub(super) fn key_text(key: &PublicKey) -> io::Result<String> {
    let plain = PublicKey::from(key.key_data().clone());
    plain.to_openssh().map_err(io::Error::other)
}

#[cfg(unix)]
fn put(file: File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let mut fresh = tempfile::Builder::new()
        .prefix(".known_hosts-")
        .tempfile_in(directory)?;
    fresh
        .as_file()
        .set_permissions(file.metadata()?.permissions())?;
    fresh.write_all(bytes)?;
    fresh.as_file().sync_all()?;
    fresh.persist(path)?;
    Ok(())
}

/// A file that is open cannot be replaced there. Locks bind readers too, so none of them sees the half of it; a copy
/// stands by until all is written, and stays where this program was ended before that.
#[cfg(windows)]
fn put(mut file: File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::{Seek as _, Write as _};
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let mut copy = tempfile::Builder::new()
        .prefix(".known_hosts-")
        .tempfile_in(directory)?;
    copy.write_all(bytes)?;
    copy.as_file().sync_all()?;
    file.seek(io::SeekFrom::Start(0))?;
    file.set_len(0)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The lines with `key` in the place of the keys of `name` that `old` holds; nothing where there is none.
///
/// A line about this name alone gets the new key, the first time, and goes, after that. From a line about others too
/// only the name is taken: out of the list, or by a negation where a pattern holds it.
fn replaced(bytes: &[u8], name: &str, key: &str, old: &[String]) -> Option<Vec<u8>> {
    let mut result = Vec::with_capacity(bytes.len() + key.len());
    let (mut found, mut written) = (false, false);
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let Line::Entry(entry) = parse_line(line) else {
            result.extend_from_slice(line);
            continue;
        };
        let ours = entry.marker == Marker::None
            && entry.names.matches(name)
            && old.contains(&recorded(&entry.key));
        if !ours {
            result.extend_from_slice(line);
            continue;
        }
        found = true;
        let Some(parts) = Parts::of(line) else {
            continue;
        };
        match entry.names.without(name) {
            Some(others) => {
                result.extend_from_slice(parts.before);
                result.extend_from_slice(others.as_bytes());
                result.extend_from_slice(parts.between);
                result.extend_from_slice(parts.key);
                result.extend_from_slice(parts.after);
            }
            None if !written => {
                result.extend_from_slice(parts.before);
                result.extend_from_slice(parts.names);
                result.extend_from_slice(parts.between);
                result.extend_from_slice(key.as_bytes());
                result.extend_from_slice(parts.after);
                written = true;
            }
            None => {}
        }
    }
    found.then_some(result)
}

/// A line without a marker, cut at its fields.
struct Parts<'a> {
    before: &'a [u8],
    names: &'a [u8],
    between: &'a [u8],
    /// The key's type and the key.
    key: &'a [u8],
    /// What follows, the line's end included.
    after: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(line: &'a [u8]) -> Option<Self> {
        let (before, rest) = cut(line, false);
        let (names, rest) = cut(rest, true);
        let (between, key) = cut(rest, false);
        let (kind, rest) = cut(key, true);
        let (gap, rest) = cut(rest, false);
        let (blob, after) = cut(rest, true);
        let length = kind.len() + gap.len() + blob.len();
        Some(Self {
            before,
            names,
            between,
            key: key.get(..length)?,
            after,
        })
    }
}

/// Cuts before the first byte that is no part of a field (or that is, for `field` false).
fn cut(bytes: &[u8], field: bool) -> (&[u8], &[u8]) {
    let is_field = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let end = bytes.iter().position(|byte| is_field(byte) != field);
    bytes.split_at(end.unwrap_or(bytes.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ssh::host_key::{KnownHosts, Verdict};

    const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9dG4kjRhQTtWTVzd2t27+t0DEHBPW7iOD23TUiYLio";
    const TWO: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn old() -> Vec<String> {
        vec![recorded(&ONE.parse().unwrap())]
    }

    fn edited(lines: &str) -> Option<String> {
        let bytes = replaced(lines.as_bytes(), "box", TWO, &old())?;
        Some(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn the_line_gets_the_new_key_and_everything_else_stays() {
        for (lines, wanted) in [
            (format!("box {ONE}\n"), format!("box {TWO}\n")),
            (
                format!("# first\r\n\n  BOX\t{ONE} a comment # more\r\nodd line\nlast {ONE}"),
                format!("# first\r\n\n  BOX\t{TWO} a comment # more\r\nodd line\nlast {ONE}"),
            ),
            (format!("box {ONE}"), format!("box {TWO}")),
            (
                format!("box {ONE}\nbox {ONE}\nx {ONE}\n"),
                format!("box {TWO}\nx {ONE}\n"),
            ),
            (format!("a,box,b {ONE}\n"), format!("a,b {ONE}\n")),
            (
                format!("b?x,other {ONE}\n"),
                format!("!box,b?x,other {ONE}\n"),
            ),
            (format!("box,!bad {ONE}\n"), format!("box,!bad {TWO}\n")),
            (
                format!("b* {ONE}\nbox {ONE}\n"),
                format!("!box,b* {ONE}\nbox {TWO}\n"),
            ),
        ] {
            assert_eq!(edited(&lines).as_deref(), Some(wanted.as_str()), "{lines}");
        }
        for untouched in [
            format!("other {ONE}\n"),
            format!("@revoked box {ONE}\n@cert-authority box {ONE}\n"),
            format!("box {TWO}\n"),
            format!("# box {ONE}\n"),
            String::new(),
        ] {
            assert_eq!(edited(&untouched), None, "{untouched}");
        }
    }

    #[test]
    fn a_hashed_line_keeps_its_name() {
        let hashed = super::super::pattern::hashed_field(b"01234567890123456789", "box").unwrap();
        let wanted = format!("{hashed} {TWO}\n");
        assert_eq!(edited(&format!("{hashed} {ONE}\n")), Some(wanted));
    }

    #[cfg(unix)]
    #[test]
    fn links_and_modes_stay_and_the_file_is_replaced_whole() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("real"), directory.path().join("link"));
        std::fs::write(&file, format!("box {ONE}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let key = TWO.parse().unwrap();
        assert!(replace_lines(&link, "box", &key, &old()).unwrap());
        assert!(!replace_lines(&link, "box", &key, &old()).unwrap());
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(
            std::fs::read_to_string(&file).unwrap(),
            format!("box {TWO}\n")
        );
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn appends_and_replacements_at_the_same_time_all_arrive() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("known_hosts");
        let lines: String = (0..8).map(|place| format!("old{place} {ONE}\n")).collect();
        std::fs::write(&path, lines).unwrap();
        let key: PublicKey = TWO.parse().unwrap();
        std::thread::scope(|scope| {
            for place in 0..8 {
                let (path, key) = (&path, &key);
                scope.spawn(move || {
                    assert!(replace_lines(path, &format!("old{place}"), key, &old()).unwrap());
                });
                scope.spawn(move || {
                    super::super::append::append_blocking(path, &format!("new{place}"), key, false)
                        .unwrap();
                });
            }
        });
        let mut known = KnownHosts::default();
        known.add(&path, &std::fs::read(&path).unwrap());
        for place in 0..8 {
            for name in [format!("old{place}"), format!("new{place}")] {
                assert_eq!(known.check(&name, 22, &key), Verdict::Known, "{name}");
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_stay_as_they_are(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(replaced(&bytes, "box", TWO, &old()), None);
        }

        #[test]
        fn the_old_key_is_never_known_afterwards(
            before in "[ -~\t\r\n]{0,60}",
            names in "[box*?!,a]{1,12}",
            end in prop_oneof![Just(""), Just("\n"), Just(" more\r\n")],
        ) {
            let lines = format!("{before}\n{names} {ONE}{end}");
            let edited = replaced(lines.as_bytes(), "box", TWO, &old()).unwrap_or(lines.into_bytes());
            let mut known = KnownHosts::default();
            known.add(Path::new("file"), &edited);
            prop_assert_ne!(known.check("box", 22, &ONE.parse().unwrap()), Verdict::Known);
        }
    }
}
