//! What a command of the stand-in agent sees of the process that it runs in.
//!
//! The main type is [`Process`]: commands touch no global of the process, so that tests can run many at once.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use super::StandinError;
use super::settings::Settings;

/// The longest message that is read from standard input.
const MAX_MESSAGE: u64 = 64 << 20;

/// The directory, the settings and the streams of a command.
pub(super) struct Process<'a> {
    pub(super) directory: PathBuf,
    pub(super) settings: Settings,
    pub(super) input: &'a mut dyn Read,
    pub(super) out: &'a mut dyn Write,
    pub(super) errors: &'a mut dyn Write,
}

impl Process<'_> {
    /// Reads standard input to its end.
    pub(super) fn read(&mut self) -> Result<String, StandinError> {
        let mut bytes = Vec::new();
        let read = self.input.take(MAX_MESSAGE).read_to_end(&mut bytes);
        read.map_err(StandinError::Stream)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Prints at once.
    pub(super) fn print(&mut self, bytes: &[u8]) -> Result<(), StandinError> {
        put(self.out, bytes).map_err(StandinError::Stream)
    }

    /// Prints on standard error.
    pub(super) fn print_error(&mut self, bytes: &[u8]) -> Result<(), StandinError> {
        put(self.errors, bytes).map_err(StandinError::Stream)
    }
}

fn put(stream: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)?;
    stream.flush()
}
