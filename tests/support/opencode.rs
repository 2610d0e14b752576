//! Drives the real opencode in a home directory of its own, and compares its exports.
//!
//! The main type is [`Opencode`]. What it runs never sees the machine's own opencode data.

use std::collections::HashSet;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::support::client::{Finished, finish, isolated};

const SERVE_DEADLINE: Duration = Duration::from_secs(60);

/// The program that the environment variable `variable` names.
///
/// # Errors
/// When the variable is not set or names no file: these tests do not pass by being skipped.
pub(crate) fn program(variable: &str) -> Result<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    let path =
        path.with_context(|| format!("{variable} is not set: run these tests through tests/run"))?;
    ensure!(path.is_file(), "{variable} is no file: {}", path.display());
    Ok(path.canonicalize()?)
}

/// One opencode: a program and a home directory.
pub(crate) struct Opencode {
    program: PathBuf,
    home: PathBuf,
}

impl Opencode {
    /// The opencode of `program` with the home directory `home`, which must exist.
    pub(crate) fn new(program: &Path, home: &Path) -> Self {
        Self {
            program: program.to_owned(),
            home: home.to_owned(),
        }
    }

    fn command(
        &self,
        directory: &Path,
        arguments: &[&str],
        input: Option<&Path>,
    ) -> Result<Finished> {
        let mut command = isolated(&self.program, &self.home);
        command.args(arguments).current_dir(directory);
        finish(command, input, &self.home)
    }

    /// Sends `message` to the session `session` (a new one without it) in `directory`; the session's id.
    pub(crate) fn run(
        &self,
        directory: &Path,
        session: Option<&str>,
        message: &str,
    ) -> Result<String> {
        let prompt = tempfile::NamedTempFile::new_in(&self.home)?;
        std::fs::write(prompt.path(), message)?;
        let flag = session.map(|id| format!("--session={id}"));
        let mut arguments = vec!["run", "--format", "json"];
        arguments.extend(flag.as_deref());
        let finished = self
            .command(directory, &arguments, Some(prompt.path()))?
            .expect_code(0)?;
        let events = finished
            .stdout
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let id = events
            .filter_map(|event| event["sessionID"].as_str().map(str::to_owned))
            .next_back();
        id.with_context(|| {
            format!(
                "the run printed no event: {}\n{}",
                finished.stdout, finished.stderr
            )
        })
    }

    /// The export of a session.
    pub(crate) fn export(&self, directory: &Path, session: &str) -> Result<Value> {
        let finished = self
            .command(directory, &["export", session], None)?
            .expect_code(0)?;
        serde_json::from_str(&finished.stdout).context("the export is no JSON")
    }

    /// Imports `document` in `directory`, and the session is then bound to it.
    pub(crate) fn import(&self, directory: &Path, document: &Value) -> Result<String> {
        let file = tempfile::Builder::new()
            .suffix(".json")
            .tempfile_in(&self.home)?;
        serde_json::to_writer(file.as_file(), document)?;
        let path = file.path().to_string_lossy();
        let finished = self
            .command(directory, &["import", &path], None)?
            .expect_code(0)?;
        let id = finished
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("Imported session: "));
        Ok(id
            .with_context(|| format!("nothing imported: {}\n{}", finished.stdout, finished.stderr))?
            .trim()
            .to_owned())
    }

    /// The ids of the sessions of `directory`.
    pub(crate) fn sessions(&self, directory: &Path) -> Result<Vec<String>> {
        let finished = self
            .command(directory, &["session", "list", "--format", "json"], None)?
            .expect_code(0)?;
        if finished.stdout.trim().is_empty() {
            return Ok(Vec::new());
        }
        let list: Vec<Value> =
            serde_json::from_str(&finished.stdout).context("the session list is no JSON")?;
        Ok(list
            .iter()
            .filter_map(|session| session["id"].as_str().map(str::to_owned))
            .collect())
    }

    /// Starts `opencode serve` in `directory`.
    pub(crate) fn serve(&self, directory: &Path) -> Result<Server> {
        let scratch = tempfile::Builder::new()
            .prefix("serve-")
            .tempdir_in(&self.home)?;
        let log = scratch.path().join("log");
        let mut command = isolated(&self.program, &self.home);
        command
            .args(["serve", "--hostname", "127.0.0.1", "--port", "0"])
            .current_dir(directory)
            .stdout(File::create(&log)?)
            .stderr(Stdio::null());
        let mut server = Server {
            child: command.spawn()?,
            address: None,
            directory: directory.to_owned(),
        };
        let deadline = Instant::now() + SERVE_DEADLINE;
        while server.address.is_none() {
            ensure!(Instant::now() < deadline, "opencode serve does not answer");
            if let Some(status) = server.child.try_wait()? {
                bail!("opencode serve ended: {status}");
            }
            std::thread::sleep(Duration::from_millis(20));
            let printed = std::fs::read_to_string(&log)?;
            // The line must be whole, or the port may be cut.
            let line = printed
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'));
            let url = line
                .filter_map(|line| line.split("listening on http://").nth(1))
                .next();
            server.address = url.map(str::trim).map(str::parse).transpose()?;
        }
        Ok(server)
    }
}

/// A running `opencode serve`; it ends when dropped.
pub(crate) struct Server {
    child: Child,
    address: Option<SocketAddr>,
    directory: PathBuf,
}

impl Server {
    /// What `/undo` does: takes the session back to before `message`, and the files with it.
    pub(crate) fn revert(&self, session: &str, message: &str) -> Result<()> {
        self.post(
            &format!("/session/{session}/revert"),
            &json!({"messageID": message}),
        )
        .map(drop)
    }

    /// Posts `body` to `path`; the answer.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<String> {
        let address = self.address.context("the server has no address")?;
        let body = Bytes::from(body.to_string());
        let directory = self
            .directory
            .to_str()
            .context("a directory that is no text")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let request = Request::post(path)
                .header("host", address.to_string())
                .header("content-type", "application/json")
                .header("x-opencode-directory", directory)
                .body(Full::new(body))?;
            let answer = sender.send_request(request);
            let response = tokio::time::timeout(SERVE_DEADLINE, answer)
                .await
                .context("no answer to the request")??;
            let status = response.status();
            let text = response.into_body().collect().await?.to_bytes();
            let text = String::from_utf8_lossy(&text).into_owned();
            ensure!(status.is_success(), "{path}: {status} {text}");
            Ok(text)
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Checks that `after` is `before` and more: every old message unchanged and in its place, every id once, and no
/// `patch` part and no `snapshot` in what is new. The new messages.
pub(crate) fn grown(before: &Value, after: &Value) -> Result<Vec<Value>> {
    let (old, all) = (messages(before)?, messages(after)?);
    let mut ids = HashSet::new();
    for message in all {
        let parts = message["parts"]
            .as_array()
            .context("a message without parts")?;
        for id in
            std::iter::once(&message["info"]["id"]).chain(parts.iter().map(|part| &part["id"]))
        {
            let id = id.as_str().context("something without an id")?;
            ensure!(ids.insert(id), "{id} is there twice");
        }
    }
    ensure!(
        all.len() >= old.len(),
        "{} messages became {}",
        old.len(),
        all.len()
    );
    let (kept, new) = all.split_at(old.len());
    for (was, is) in old.iter().zip(kept) {
        ensure!(
            was == is,
            "an old message changed\n-- was\n{was:#}\n-- is\n{is:#}"
        );
    }
    for message in new {
        ensure!(
            !holds_snapshot(message),
            "a patch or snapshot of the other machine came back\n{message:#}"
        );
    }
    Ok(new.to_vec())
}

/// The messages of an export.
pub(crate) fn messages(export: &Value) -> Result<&[Value]> {
    Ok(export["messages"]
        .as_array()
        .context("an export without messages")?
        .as_slice())
}

/// Whether any `patch` part or `snapshot` field is in `value`.
pub(crate) fn holds_snapshot(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(holds_snapshot),
        Value::Object(fields) => {
            fields
                .get("type")
                .is_some_and(|kind| kind == "patch" || kind == "snapshot")
                || fields.contains_key("snapshot")
                || fields.values().any(holds_snapshot)
        }
        _ => false,
    }
}
