//! The announcement of a job's end: a program of the user's gets the record.
//!
//! The main function is [`Client::announce`](super::Client::announce). The invariant: at most one announcement a job,
//! whatever processes find its end and however often they are started again. It is claimed in the store before the
//! program starts; a process that dies in between leaves an end that is not announced, for a second announcement of
//! the same end could do the same thing twice, and the job itself is listed all the same.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::failpoint::{FailPoint, reach};
use super::lock::JobLock;
use super::{Client, HandoffError};
use crate::hosts::Places;
use crate::job::{JobRecord, State};

/// The largest configuration file that is read, in bytes.
const FILE_LIMIT: u64 = 64 << 10;
/// How long the program is waited for; it may go on for longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `config.toml` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The program that is told of a job's end, and its arguments.
    #[serde(default)]
    on_finish: Vec<String>,
}

impl Settings {
    /// Reads the file; one that is not there says nothing.
    pub(crate) fn load(path: &Path) -> Result<Self, HandoffError> {
        let refused = |reason: String| HandoffError::Settings {
            path: path.to_owned(),
            at: None,
            reason,
        };
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(refused(error.to_string())),
        };
        let mut text = String::new();
        let mut bounded = std::io::Read::take(file, FILE_LIMIT + 1);
        std::io::Read::read_to_string(&mut bounded, &mut text)
            .map_err(|error| refused(error.to_string()))?;
        if text.len() as u64 > FILE_LIMIT {
            return Err(refused(format!("it is larger than {FILE_LIMIT} bytes")));
        }
        let settings: Self = toml::from_str(&text).map_err(|error| HandoffError::Settings {
            path: path.to_owned(),
            at: Some(place(&text, error.span().map_or(0, |span| span.start))),
            reason: error.message().to_owned(),
        })?;
        if settings.on_finish.first().is_some_and(String::is_empty) {
            return Err(refused("on_finish names no program".to_owned()));
        }
        Ok(settings)
    }
}

/// The line and the column of a byte, from 1.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

/// Where the file is.
pub(crate) fn settings_file(config_dir: &Path) -> PathBuf {
    config_dir.join("config.toml")
}

impl Client {
    /// Announces the jobs that have ended and were not announced. What goes wrong is written to the log: the jobs do
    /// not depend on it.
    ///
    /// Not to be cancelled: what was claimed would stay unannounced.
    pub async fn announce(&self) {
        let places = self.places().clone();
        let is_due = move |record: &JobRecord| is_due(&places, record);
        let ended = match self.store().claim_announcements(is_due).await {
            Ok(ended) => ended,
            Err(error) => {
                tracing::warn!(%error, "ended jobs are not announced");
                return;
            }
        };
        if !ended.is_empty() {
            reach(FailPoint::AnnouncementClaimed);
        }
        let program = &self.settings().on_finish;
        if let Some((name, arguments)) = program.split_first() {
            let tellings = ended.iter().map(|record| tell(name, arguments, record));
            futures::future::join_all(tellings).await;
        }
    }
}

/// Whether a job's end can be told. One that is being brought back just now has its end yet to come.
fn is_due(places: &Places, record: &JobRecord) -> bool {
    match record.state {
        State::Returning => match JobLock::take(places, &record.id) {
            Ok(lock) => lock.is_some(),
            Err(error) => {
                tracing::warn!(job = %record.id, %error, "whether it is followed is not known");
                true
            }
        },
        state => state.is_ended(),
    }
}

/// The record as it is told: of a session that nobody brings back the agent's work is done all the same.
fn told_record(record: &JobRecord) -> JobRecord {
    let mut record = record.clone();
    if record.state == State::Returning {
        record.enter(State::Completed);
    }
    record
}

async fn tell(program: &str, arguments: &[String], record: &JobRecord) {
    let told = async {
        let document = serde_json::to_vec(&told_record(record))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(&document).await?;
        }
        child.wait().await
    };
    match tokio::time::timeout(PATIENCE, told).await {
        Ok(Ok(status)) => tracing::info!(job = %record.id, %status, "on_finish"),
        Ok(Err(error)) => tracing::warn!(job = %record.id, %error, "on_finish"),
        Err(_) => tracing::info!(job = %record.id, "on_finish goes on"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_told_with_its_place_and_a_file_that_cannot_be_read_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = settings_file(directory.path());
        for (text, place) in [
            ("# \u{fc}\non_finish = \"x\"\n", "config.toml:2:13: "),
            ("\nonfinish = []\n", "config.toml:2:1: "),
            ("\u{feff}# a\r\nonfinish = []\r\n", "config.toml:2:1: "),
            ("on_finish = [\n", "config.toml:"),
        ] {
            std::fs::write(&path, text).unwrap();
            let said = Settings::load(&path).unwrap_err().to_string();
            assert!(said.contains(place), "{said}");
        }
        std::fs::write(&path, b"\xff").unwrap();
        let refused = Settings::load(&path);
        assert!(matches!(
            refused,
            Err(HandoffError::Settings { at: None, .. })
        ));
    }

    #[test]
    fn the_file_is_read_and_mistakes_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = settings_file(directory.path());
        assert_eq!(Settings::load(&path).unwrap(), Settings::default());
        for good in [
            "on_finish = [\"notify-send\", \"done\"]\n",
            // As editors on Windows write it.
            "\u{feff}# what tells me\r\non_finish = [\r\n  \"notify-send\",\r\n  \"done\",\r\n]\r\n",
        ] {
            std::fs::write(&path, good).unwrap();
            assert_eq!(
                Settings::load(&path).unwrap().on_finish,
                ["notify-send", "done"]
            );
        }
        for bad in [
            "on_finish = \"sh -c x\"",
            "onfinish = []",
            "on_finish = [\"\"]",
            "[",
        ] {
            std::fs::write(&path, bad).unwrap();
            let refused = Settings::load(&path);
            assert!(
                matches!(refused, Err(HandoffError::Settings { .. })),
                "{bad}"
            );
        }
    }
}
