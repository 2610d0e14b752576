//! Reading a hosts file: bounded, as UTF-8, with positions.
//!
//! The main type is [`Text`]: a file's text without its byte order mark, and where in it an offset is.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::{HostsError, Position};

/// The size of the largest file that is read, in bytes: thousands of hosts, and no surprise.
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// A file's text, and where in it an offset is.
pub(super) struct Text<'a> {
    path: &'a Path,
    text: &'a str,
}

impl<'a> Text<'a> {
    /// Takes a file's bytes for text.
    ///
    /// # Errors
    ///
    /// [`HostsError::Parse`] at the first byte that is not UTF-8.
    pub(super) fn new(path: &'a Path, bytes: &'a [u8]) -> Result<Self, HostsError> {
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self { path, text }),
            Err(error) => {
                let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let text = std::str::from_utf8(valid).unwrap_or_default();
                let message = "the file is not UTF-8 text".to_owned();
                Err(HostsError::Parse {
                    at: Text { path, text }.at(text.len()),
                    message,
                })
            }
        }
    }

    pub(super) fn as_str(&self) -> &'a str {
        self.text
    }

    /// The position of the character at a byte offset; an offset past the end is the end.
    pub(super) fn at(&self, offset: usize) -> Position {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
        }
    }

    /// A [`HostsError::Parse`] at a byte offset; `message` becomes one line in lower case.
    pub(super) fn parse_error(&self, offset: usize, message: &str) -> HostsError {
        let mut characters = message.trim().chars();
        let first = characters.next().into_iter().flat_map(char::to_lowercase);
        let message: String = first.chain(characters).collect();
        HostsError::Parse {
            at: self.at(offset),
            message: one_line(&message),
        }
    }
}

/// Replaces control characters by their escapes.
pub(super) fn one_line(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut line, c| {
            if c.is_control() {
                line.extend(c.escape_default())
            } else {
                line.push(c)
            }
            line
        })
}

/// Serialises a path as text; bytes that are not Unicode are replaced.
pub(super) fn path_as_text<S: serde::Serializer>(
    path: &Path,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Serialises paths as [`path_as_text`] does one.
pub(super) fn paths_as_text<S: serde::Serializer>(
    paths: &[PathBuf],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.display().to_string()))
}

/// Reads a file; `None` when there is none.
///
/// # Errors
///
/// [`HostsError::Read`] when it is there and cannot be read, [`HostsError::TooLarge`] when it is
/// larger than [`MAX_BYTES`].
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, HostsError> {
    Ok(read_with_metadata(path)?.map(|(bytes, _)| bytes))
}

/// Reads a file as [`read`] does, and what the system says of that very file.
///
/// # Errors
///
/// As [`read`].
pub(super) fn read_with_metadata(path: &Path) -> Result<Option<(Vec<u8>, Metadata)>, HostsError> {
    let failed = |source| HostsError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        // A file where a directory should be is as good as an absent directory.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(HostsError::TooLarge {
            path: path.to_owned(),
            limit: MAX_BYTES,
        });
    }
    Ok(Some((bytes, metadata)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let bytes = "\u{feff}a\r\nbü x\n".as_bytes();
        let text = Text::new(Path::new("f"), bytes).unwrap();
        assert_eq!(text.as_str(), "a\r\nbü x\n");
        for (offset, line, column) in [(0, 1, 1), (3, 2, 1), (6, 2, 3), (9, 3, 1), (99, 3, 1)] {
            let at = text.at(offset);
            assert_eq!((at.line, at.column), (line, column), "offset {offset}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error_with_their_place() {
        let Err(HostsError::Parse { at, .. }) = Text::new(Path::new("f"), b"ab\nc\xff") else {
            panic!("it was accepted");
        };
        assert_eq!((at.line, at.column), (2, 2));
    }

    #[test]
    fn a_file_beyond_the_bound_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts.toml");
        std::fs::write(&path, vec![b'#'; MAX_BYTES as usize]).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().len() as u64, MAX_BYTES);
        std::fs::write(&path, vec![b'#'; MAX_BYTES as usize + 1]).unwrap();
        assert!(matches!(read(&path), Err(HostsError::TooLarge { .. })));
        assert!(read(&path.join("below-a-file")).unwrap().is_none());
        assert!(matches!(
            read(directory.path()),
            Err(HostsError::Read { .. })
        ));
    }
}
