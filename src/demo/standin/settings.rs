//! Where the stand-in agent keeps its files, and the settings that make it fail.
//!
//! The main type is [`Settings`].

use std::collections::HashMap;
use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::StandinError;

/// The largest settings file that is read; they are a few lines.
const MAX_SETTINGS: u64 = 64 * 1024;

/// The directory of the sessions, and the settings in force.
#[derive(Debug)]
pub(super) struct Settings {
    directory: PathBuf,
    file: HashMap<String, String>,
}

impl Settings {
    /// Reads the settings of this process' environment.
    pub(super) fn load() -> Result<Self, StandinError> {
        let data_home = absolute("XDG_DATA_HOME")
            .or_else(|| {
                Some(
                    absolute("HOME")
                        .or_else(|| absolute("USERPROFILE"))?
                        .join(".local/share"),
                )
            })
            .ok_or(StandinError::NoHome)?;
        let directory = directory(&data_home);
        let file = read_file(&directory.join("settings"));
        Ok(Self { directory, file })
    }

    /// The settings of a test.
    #[cfg(test)]
    pub(super) fn of(data_home: &Path, settings: &[(&str, &str)]) -> Self {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            directory: directory(data_home),
            file: settings.iter().map(pair).collect(),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.file.get(name).cloned().or_else(|| env::var(name).ok())
    }

    pub(super) fn seconds(&self, name: &str, default: u64) -> Duration {
        let seconds = self.get(name).and_then(|text| text.trim().parse().ok());
        Duration::from_secs(seconds.unwrap_or(default))
    }

    /// How far the clock is ahead, in milliseconds.
    pub(super) fn clock_offset(&self) -> i64 {
        let seconds: Option<i64> = self
            .get("STANDIN_CLOCK")
            .and_then(|text| text.trim().parse().ok());
        seconds.unwrap_or(0).saturating_mul(1000)
    }

    /// Waits as long as something that never ends may last here.
    pub(super) fn hang(&self) {
        std::thread::sleep(self.seconds("STANDIN_HANG_SECONDS", 600));
    }

    /// Waits until something holds, as long as something that never ends may last here.
    pub(super) fn until(&self, holds: impl Fn() -> bool) {
        let end = std::time::Instant::now() + self.seconds("STANDIN_HANG_SECONDS", 600);
        while !holds() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits as long as something slow takes.
    pub(super) fn sleep(&self) {
        std::thread::sleep(self.seconds("STANDIN_SLEEP_SECONDS", 3));
    }
}

/// The directory of the sessions under a data home.
pub(super) fn directory(data_home: &Path) -> PathBuf {
    data_home.join("opencode").join("standin")
}

fn absolute(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

/// The `NAME=VALUE` lines of a file; none where there is no such file.
fn read_file(path: &Path) -> HashMap<String, String> {
    let small = path
        .metadata()
        .is_ok_and(|metadata| metadata.len() <= MAX_SETTINGS);
    let text = if small {
        std::fs::read_to_string(path).unwrap_or_default()
    } else {
        String::new()
    };
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}
