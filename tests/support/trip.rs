//! Two machines with the real agent, ready for a handoff from one to the other.
//!
//! The main type is [`Trip`].

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::opencode::{Opencode, grown, program};
use crate::provider::Provider;
use crate::remote::Remote;
use crate::support::client::{Client, Finished};

/// The variable that names the program of the current opencode.
pub(crate) const CURRENT: &str = "HANDOVER_TEST_OPENCODE";

/// A local opencode with a project, and the host `far` where another opencode is.
pub(crate) struct Trip {
    /// What answers as the model, for both sides.
    pub(crate) provider: Provider,
    /// The far side.
    pub(crate) remote: Remote,
    /// The near side's agent.
    pub(crate) local: Opencode,
    /// The near side's `handover`.
    pub(crate) client: Client,
    /// The near side's work directory, a git repository.
    pub(crate) project: PathBuf,
    /// The near side's home directory.
    pub(crate) home: TempDir,
}

impl Trip {
    /// A pair whose far side runs the opencode that the environment variable `far` names.
    pub(crate) fn new(far: &str) -> Result<Self> {
        let (near, far) = (program(CURRENT)?, program(far)?);
        let provider = Provider::start()?;
        let home = tempfile::Builder::new().prefix("local-").tempdir()?;
        provider.configure(home.path())?;
        let project = home.path().join("project");
        ensure!(
            Command::new("git")
                .args(["init", "-q"])
                .arg(&project)
                .status()?
                .success(),
            "git init"
        );
        std::fs::write(project.join("precious.txt"), "mine\n")?;
        let remote = Remote::start(&far, &provider)?;
        let client = Client::new(home.path(), &near);
        client.write_hosts(&remote.hosts_entry("far", ""))?;
        client.trust("far")?;
        Ok(Self {
            provider,
            remote,
            local: Opencode::new(&near, home.path()),
            client,
            project,
            home,
        })
    }

    /// A session with a history: a plain turn, and one that wrote a local file.
    pub(crate) fn session(&self) -> Result<String> {
        let id = self.local.run(&self.project, None, "hello there")?;
        let path = self.project.join("notes.txt");
        let call = json!({"filePath": path, "content": "noted\n"});
        self.local.run(
            &self.project,
            Some(&id),
            &format!("please write\nTOOL:write {call}"),
        )?;
        ensure!(
            std::fs::read_to_string(path)? == "noted\n",
            "the local tool call wrote nothing"
        );
        Ok(id)
    }

    /// The near side's export of a session.
    pub(crate) fn export(&self, session: &str) -> Result<Value> {
        self.local.export(&self.project, session)
    }

    /// Runs `handover send far --json` for a session, with more arguments.
    pub(crate) fn send(&self, session: &str, more: &[&str]) -> Result<Finished> {
        let mut arguments = vec!["send", "far", "--session", session, "--json"];
        arguments.extend(more);
        self.client.run(&self.project, &arguments)
    }

    /// A round trip that must complete: the session before and after it, and its new messages.
    pub(crate) fn round_trip(
        &self,
        session: &str,
        more: &[&str],
    ) -> Result<(Value, Value, Vec<Value>)> {
        let before = self.export(session)?;
        let mut arguments = vec!["--round-trip"];
        arguments.extend(more);
        let result = self.send(session, &arguments)?.expect_code(0)?.last()?;
        ensure!(
            result["event"] == "result" && result["outcome"] == "completed",
            "{result}"
        );
        let after = self.export(session)?;
        let new = grown(&before, &after)?;
        ensure!(
            result["new_messages"] == new.len(),
            "{} new messages, and the result is {result}",
            new.len()
        );
        Ok((before, after, new))
    }

    /// What a session says of itself that no trip may change.
    pub(crate) fn identity(export: &Value) -> Value {
        let info = &export["info"];
        json!([
            info["id"],
            info["directory"],
            info["projectID"],
            info["title"],
            info["agent"],
            info["model"]
        ])
    }
}
