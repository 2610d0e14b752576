//! A job's files on this machine: what was sent of it, and what came back, until it is collected.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::HandoffError;
use crate::hosts::Places;
use crate::job::JobId;
use crate::private_fs;

/// The session as it was exported; removed once the job has been launched.
pub(crate) const EXPORT: &str = "export.json";
/// The document as it was sent; removed once the job has been launched.
pub(crate) const SENT: &str = "sent.json";
/// The result as it was downloaded; kept until it has been imported and read back.
pub(crate) const BACK: &str = "back.json";
/// The document that is imported here, made of the result.
pub(crate) const IMPORT: &str = "import.json";
/// The local session before the import.
pub(crate) const BEFORE: &str = "before.json";
/// The local session after the import.
pub(crate) const AFTER: &str = "after.json";
/// The identifiers of the messages that were sent, one a line.
const SENT_IDS: &str = "sent-ids";
/// The identifiers of the messages that were here before the first import of a job that another machine has sent, one a
/// line.
const FOUND_IDS: &str = "found-ids";

/// What tells this client from every other: it goes into `job.json`, and is compared when a job is found on a host.
const CLIENT_ID: &str = "client-id";
/// Its length in hexadecimal digits.
const CLIENT_ID_DIGITS: usize = 32;

/// This client's own identifier; it is made the first time.
pub(crate) fn client_id(places: &Places) -> Result<String, HandoffError> {
    if let Some(id) = known_client_id(places)? {
        return Ok(id);
    }
    let path = places.state_dir.join(CLIENT_ID);
    private_fs::create_dir_all(&places.state_dir).map_err(|source| local(&path, source))?;
    let id = format!("{:032x}", rand::random::<u128>());
    private_fs::write_atomic(&path, id.as_bytes()).map_err(|source| local(&path, source))?;
    // Of two that were made at once the later one stays.
    Ok(known_client_id(places)?.unwrap_or(id))
}

/// This client's own identifier, where it has one.
pub(crate) fn known_client_id(places: &Places) -> Result<Option<String>, HandoffError> {
    let path = places.state_dir.join(CLIENT_ID);
    let bytes = match private_fs::read(&path) {
        Ok(bytes) => bytes,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(local(&path, source)),
    };
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    let whole = text.len() == CLIENT_ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    Ok(whole.then_some(text))
}

/// Makes the job's directory.
pub(crate) fn make(places: &Places, job: &JobId) -> Result<PathBuf, HandoffError> {
    let directory = places.job_dir(job.as_str());
    private_fs::create_dir_all(&directory).map_err(|source| local(&directory, source))?;
    Ok(directory)
}

/// Notes which messages were sent: the others of the result are new.
pub(crate) fn remember_sent(directory: &Path, message_ids: &[String]) -> Result<(), HandoffError> {
    let path = directory.join(SENT_IDS);
    private_fs::write_atomic(&path, message_ids.join("\n").as_bytes())
        .map_err(|source| local(&path, source))
}

/// Whether it is known here which messages of a job were sent.
pub(crate) fn knows_sent(places: &Places, job: &JobId) -> bool {
    places.job_dir(job.as_str()).join(SENT_IDS).is_file()
}

/// Which messages were sent.
pub(crate) fn sent_ids(directory: &Path) -> Result<HashSet<String>, HandoffError> {
    ids(&directory.join(SENT_IDS))
}

/// Which messages were here before anything of the job was imported: those that are here now, unless an earlier
/// collection has noted others before it was cut off.
pub(crate) fn found_ids(directory: &Path, now: &[String]) -> Result<HashSet<String>, HandoffError> {
    let path = directory.join(FOUND_IDS);
    if !path.is_file() {
        private_fs::write_atomic(&path, now.join("\n").as_bytes())
            .map_err(|source| local(&path, source))?;
    }
    ids(&path)
}

fn ids(path: &Path) -> Result<HashSet<String>, HandoffError> {
    let text = std::fs::read_to_string(path).map_err(|source| local(path, source))?;
    Ok(text.lines().map(ToOwned::to_owned).collect())
}

/// Removes a file; one that is not there is no error.
pub(crate) fn remove(path: &Path) -> Result<(), HandoffError> {
    private_fs::remove_file(path).map_err(|source| local(path, source))
}

/// Removes the job's directory with what is in it.
pub(crate) fn remove_all(places: &Places, job: &JobId) -> Result<(), HandoffError> {
    let directory = places.job_dir(job.as_str());
    private_fs::remove_dir_all(&directory).map_err(|source| local(&directory, source))
}

pub(crate) fn local(path: &Path, source: std::io::Error) -> HandoffError {
    HandoffError::LocalFile {
        path: path.to_owned(),
        source,
    }
}
