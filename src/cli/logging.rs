//! Logging: a file in the state directory, and stderr when asked.
//!
//! No secret, key or message content is ever put into a tracing event, at any level.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::private_fs;

/// A log larger than this becomes `handover.log.1` when the next process starts.
const ROTATE_AT: u64 = 4 << 20;

/// What the log file keeps, whatever is asked of stderr.
const FILE_FILTER: &str = "handover=info,warn";

/// Starts logging to `directory/handover.log`, where there is to be one, and, by `verbose` and `HANDOVER_LOG`, to
/// stderr.
///
/// Returns what a person should know when the file cannot be written: logging never stops the work.
pub(crate) fn start(directory: Option<&Path>, verbose: u8) -> Option<String> {
    let mut problem = None;
    let opened = directory.and_then(|directory| {
        open(directory)
            .inspect_err(|error| {
                let directory = directory.display();
                problem = Some(format!("no log is written to {directory}: {error}"));
            })
            .ok()
    });
    let (file, not_rotated) = opened.unzip();
    let own = std::env::var("HANDOVER_LOG").unwrap_or_default();
    let filter = |text: &str| EnvFilter::builder().parse_lossy(text);
    let to_file = file.map(|file| {
        tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(Arc::new(file))
            .with_filter(filter(FILE_FILTER))
    });
    let to_stderr = stderr_filter(verbose, &own).map(|text| {
        tracing_subscriber::fmt::layer()
            .with_ansi(console::Term::stderr().features().colors_supported())
            .with_writer(io::stderr)
            .with_filter(filter(&text))
    });
    if tracing_subscriber::registry()
        .with(to_file)
        .with(to_stderr)
        .try_init()
        .is_err()
    {
        return Some("logging was started before; this start has no effect".to_owned());
    }
    if let Some(error) = not_rotated.flatten() {
        tracing::warn!(%error, "the log is too large and cannot be renamed; it goes on");
    }
    problem
}

/// The filter of what goes to stderr: what the flags ask for, and the user's own on top of it.
fn stderr_filter(verbose: u8, own: &str) -> Option<String> {
    let level = match verbose {
        0 => "",
        1 => "handover=info,warn",
        _ => "handover=debug,info",
    };
    match (level.is_empty(), own.is_empty()) {
        (true, true) => None,
        (true, false) => Some(own.to_owned()),
        (false, true) => Some(level.to_owned()),
        (false, false) => Some(format!("{level},{own}")),
    }
}

/// Opens the log, and gives why a large one could not be renamed first.
fn open(directory: &Path) -> io::Result<(File, Option<io::Error>)> {
    private_fs::create_dir_all(directory)?;
    let path = directory.join("handover.log");
    let large = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > ROTATE_AT);
    let renamed = if large {
        std::fs::rename(&path, directory.join("handover.log.1"))
    } else {
        Ok(())
    };
    Ok((private_fs::open_append(&path)?, renamed.err()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_cannot_be_renamed_goes_on() {
        let root = tempfile::tempdir().unwrap();
        let log = root.path().join("handover.log");
        let old = root.path().join("handover.log.1");
        std::fs::create_dir_all(old.join("in the way")).unwrap();
        private_fs::open_append(&log)
            .unwrap()
            .set_len(ROTATE_AT + 1)
            .unwrap();
        let (file, problem) = open(root.path()).unwrap();
        assert!(problem.is_some());
        assert_eq!(file.metadata().unwrap().len(), ROTATE_AT + 1);
        // Windows does not rename what is open.
        drop(file);
        std::fs::remove_dir_all(&old).unwrap();
        let (file, problem) = open(root.path()).unwrap();
        assert!(problem.is_none(), "{problem:?}");
        assert_eq!(file.metadata().unwrap().len(), 0);
    }
}
