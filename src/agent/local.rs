//! The agent on this machine.
//!
//! The main type is [`LocalAgent`]. The invariant: no shell between us and it, its output always goes to a regular
//! file, and success is what it says, never its exit status alone.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::AgentError;
use super::process::{self, Ended};
use super::script::tail;
use crate::private_fs;
use crate::session::SessionId;

/// How long the program may take to tell its version.
const VERSION_LIMIT: Duration = Duration::from_secs(30);
/// How long a list may take.
const LIST_LIMIT: Duration = Duration::from_secs(60);
/// How long an export or an import may take: hundreds of megabytes, and a database migration before them.
const TRANSFER_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Bytes of a list that are read.
const OUTPUT_LIMIT: u64 = 32 << 20;
/// Sessions that are asked for; the newest of one directory is among the newest of all.
const SESSION_COUNT: &str = "1000";

/// The opencode program of this machine.
#[derive(Debug, Clone)]
pub struct LocalAgent {
    program: PathBuf,
}

/// A session as the agent lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEntry {
    /// Its id.
    pub id: SessionId,
    /// Its title.
    pub title: String,
    /// The directory that it is bound to.
    pub directory: PathBuf,
    /// When it changed last, in milliseconds since 1970.
    pub updated_ms: u64,
}

impl LocalAgent {
    /// Finds the program: the configured one, else `opencode` on the PATH (on Windows with every ending of PATHEXT).
    ///
    /// # Errors
    /// [`AgentError::LocalNotThere`] or [`AgentError::LocalMissing`].
    pub fn find(configured: Option<&Path>) -> Result<Self, AgentError> {
        let program = match configured {
            Some(path) => which::which(path).map_err(|_| AgentError::LocalNotThere {
                path: path.to_owned(),
            })?,
            None => {
                which::which("opencode").map_err(|source| AgentError::LocalMissing { source })?
            }
        };
        Ok(Self { program })
    }

    /// Where the program is.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Asks for its version.
    ///
    /// Dropping the future ends the program; so it is for every method here.
    ///
    /// # Errors
    /// [`AgentError::LocalStart`], [`AgentError::LocalFailed`], [`AgentError::LocalTimeout`]; every method can fail so.
    pub async fn version(&self) -> Result<String, AgentError> {
        let output = self
            .output("--version", &["--version".into()], None, VERSION_LIMIT)
            .await?;
        Ok(tail(
            output.lines().last().unwrap_or_default().as_bytes(),
            100,
        ))
    }

    /// Exports a session to a new file of mode 0600. The caller must still read it to its end: only then is it whole.
    ///
    /// # Errors
    /// Those of [`version`](Self::version), and [`AgentError::Io`] when the file is there already or cannot be made.
    /// After any error no file is left.
    ///
    /// # Cancel safety
    /// Dropping the future ends the program and removes the file.
    pub async fn export(&self, session: &SessionId, to: &Path) -> Result<(), AgentError> {
        let file = private_fs::create_new(to).map_err(|source| AgentError::Io {
            path: to.to_owned(),
            source,
        })?;
        let unfinished = Unfinished(Some(to));
        let arguments = ["export".into(), session.as_str().into()];
        let ended = self
            .run(&arguments, None, file, "export", TRANSFER_LIMIT)
            .await?;
        if !ended.status.success() {
            return Err(ended.failed("export"));
        }
        unfinished.keep();
        Ok(())
    }

    /// Whether a document at this path can be [imported](Self::import): not every path can be given to a command script
    /// of Windows. Nothing is run and nothing is read.
    ///
    /// # Errors
    /// [`AgentError::UnsafeArgument`].
    pub fn can_import_from(&self, file: &Path) -> Result<(), AgentError> {
        process::check_arguments(&self.program, &[file.as_os_str().to_owned()])
    }

    /// Whether a session can be imported in this directory: a command script of Windows cannot work in a network path.
    /// Nothing is run and nothing is read.
    ///
    /// # Errors
    /// [`AgentError::UnsafeDirectory`].
    pub fn can_import_in(&self, directory: &Path) -> Result<(), AgentError> {
        process::check_directory(&self.program, directory)
    }

    /// Imports a document, in the directory to which the session is to be bound.
    ///
    /// # Errors
    /// Those of [`version`](Self::version), and [`AgentError::ImportUnconfirmed`] when the agent does not say that it
    /// imported this session, whatever its exit status.
    ///
    /// # Cancel safety
    /// Dropping the future ends the program; what it had imported by then is in the agent. To be repeated freely.
    pub async fn import(
        &self,
        file: &Path,
        session: &SessionId,
        directory: &Path,
    ) -> Result<(), AgentError> {
        let stdout = temporary()?;
        let kept = stdout.try_clone().map_err(|source| AgentError::Io {
            path: file.to_owned(),
            source,
        })?;
        let arguments = ["import".into(), file.as_os_str().to_owned()];
        let ended = self
            .run(
                &arguments,
                Some(directory),
                stdout,
                "import",
                TRANSFER_LIMIT,
            )
            .await?;
        let output = read_back(kept)?;
        let confirmation = format!("Imported session: {session}");
        if output.lines().any(|line| line.trim_end() == confirmation) {
            return Ok(());
        }
        if !ended.status.success() {
            return Err(ended.failed("import"));
        }
        // Old versions report a failure on standard output and write unrelated warnings to the other.
        let said = Some(tail(output.as_bytes(), 300))
            .filter(|said| !said.is_empty())
            .unwrap_or(ended.said);
        Err(AgentError::ImportUnconfirmed {
            session: session.to_string(),
            said,
        })
    }

    /// The session of a directory that changed last.
    ///
    /// # Errors
    /// Those of [`version`](Self::version), and [`AgentError::LocalAnswer`] when the list cannot be read.
    ///
    /// # Cancel safety
    /// Dropping the future ends the program.
    pub async fn newest_session(
        &self,
        directory: &Path,
    ) -> Result<Option<SessionEntry>, AgentError> {
        let arguments: Vec<OsString> = [
            "session",
            "list",
            "--format",
            "json",
            "--max-count",
            SESSION_COUNT,
        ]
        .map(OsString::from)
        .into();
        let output = self
            .output("session list", &arguments, Some(directory), LIST_LIMIT)
            .await?;
        newest(&output, directory)
    }

    async fn output(
        &self,
        command: &'static str,
        arguments: &[OsString],
        directory: Option<&Path>,
        limit: Duration,
    ) -> Result<String, AgentError> {
        let stdout = temporary()?;
        let kept = stdout.try_clone().map_err(|source| AgentError::Io {
            path: std::env::temp_dir(),
            source,
        })?;
        let ended = self
            .run(arguments, directory, stdout, command, limit)
            .await?;
        if !ended.status.success() {
            return Err(ended.failed(command));
        }
        read_back(kept)
    }

    async fn run(
        &self,
        arguments: &[OsString],
        directory: Option<&Path>,
        stdout: File,
        command: &'static str,
        limit: Duration,
    ) -> Result<Ended, AgentError> {
        process::run(&self.program, arguments, directory, stdout, command, limit).await
    }
}

/// Removes a file that was not finished, on an error and on a dropped future alike.
struct Unfinished<'a>(Option<&'a Path>);

impl Unfinished<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn temporary() -> Result<File, AgentError> {
    tempfile::tempfile().map_err(|source| AgentError::Io {
        path: std::env::temp_dir(),
        source,
    })
}

fn read_back(mut file: File) -> Result<String, AgentError> {
    let io = |source| AgentError::Io {
        path: std::env::temp_dir(),
        source,
    };
    file.rewind().map_err(io)?;
    let mut bytes = Vec::new();
    file.take(OUTPUT_LIMIT)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn newest(list: &str, directory: &Path) -> Result<Option<SessionEntry>, AgentError> {
    #[derive(Deserialize)]
    struct Entry {
        id: SessionId,
        #[serde(default)]
        title: String,
        directory: PathBuf,
        updated: f64,
    }
    // Notices can precede the list, and an empty one is no text at all.
    let Some(start) = list.find('[') else {
        return Ok(None);
    };
    let json = list.get(start..).unwrap_or_default().trim_end();
    let entries: Vec<Entry> =
        serde_json::from_str(json).map_err(|source| AgentError::LocalAnswer {
            command: "session list",
            source: Some(source),
        })?;
    let resolved = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let wanted = resolved(directory);
    Ok(entries
        .into_iter()
        .filter(|entry| resolved(&entry.directory) == wanted)
        .max_by(|one, other| one.updated.total_cmp(&other.updated))
        .map(|entry| SessionEntry {
            id: entry.id,
            title: entry.title,
            directory: entry.directory,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the cast saturates"
            )]
            updated_ms: entry.updated as u64,
        }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_session_is_one_of_the_directory() {
        let here = tempfile::tempdir().unwrap();
        let path = serde_json::to_string(here.path()).unwrap();
        let list = format!(
            r#"notice
[{{"id":"ses_1","title":"old","updated":5,"created":1,"projectId":"global","directory":{path}}},
{{"id":"ses_2","title":"new","updated":7,"created":1,"projectId":"global","directory":{path}}},
{{"id":"ses_3","title":"elsewhere","updated":9,"created":1,"projectId":"global","directory":"/elsewhere"}}]
"#
        );
        let entry = newest(&list, here.path()).unwrap().unwrap();
        assert_eq!((entry.id.as_str(), entry.updated_ms), ("ses_2", 7));
        assert_eq!(newest("", here.path()).unwrap(), None);
        assert_eq!(newest("[]", here.path()).unwrap(), None);
        assert!(newest("[{", here.path()).is_err());
    }

    #[test]
    fn a_command_script_imports_from_no_path_that_it_would_act_upon() {
        let agent = |program: &str| LocalAgent {
            program: program.into(),
        };
        let refused = |program: &str, file: &str| {
            let result = agent(program).can_import_from(Path::new(file));
            matches!(result, Err(AgentError::UnsafeArgument { .. }))
        };
        assert!(refused("npm/opencode.cmd", "C:/R&D/import.json"));
        assert!(!refused("npm/opencode.cmd", "C:/Ada Müller/import.json"));
        assert!(!refused("npm/opencode.exe", "C:/R&D/import.json"));
    }

    /// An agent that says this on its two outputs and ends with this code, whatever it is asked for.
    fn stand_in(root: &Path, out: &str, error: &str, code: i32) -> LocalAgent {
        std::fs::write(root.join("said.out"), out).unwrap();
        std::fs::write(root.join("said.err"), error).unwrap();
        let program = script(root, code);
        LocalAgent::find(Some(&program)).unwrap()
    }

    #[cfg(windows)]
    fn script(root: &Path, code: i32) -> PathBuf {
        let program = root.join("opencode.cmd");
        let text = format!(
            "@type \"%~dp0said.out\"\r\n@type \"%~dp0said.err\" 1>&2\r\n@exit /b {code}\r\n"
        );
        std::fs::write(&program, text).unwrap();
        program
    }

    #[cfg(unix)]
    fn script(root: &Path, code: i32) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let program = root.join("opencode");
        // Written and closed by another process: no thread that forks meanwhile can hold it open for writing.
        let status = std::process::Command::new("sh")
            .args(["-c", "printf '%s' \"$2\" >\"$1\"", "sh"])
            .arg(&program)
            .arg(format!(
                "#!/bin/sh\ncd \"${{0%/*}}\" && cat said.out && cat said.err >&2\nexit {code}\n"
            ))
            .status()
            .unwrap();
        assert!(status.success());
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    #[tokio::test]
    async fn an_import_counts_only_when_the_agent_names_the_session() {
        let root = tempfile::tempdir().unwrap();
        let session: SessionId = "ses_1a".parse().unwrap();
        let cases = [
            ("Imported session: ses_1a\n", "", 0, true),
            ("notice\nImported session: ses_1a\n", "", 0, true),
            ("Imported session: ses_1ab\n", "", 0, false),
            ("File not found\n", "", 0, false),
            ("", "bad\n", 1, false),
        ];
        for (out, error, code, imported) in cases {
            let agent = stand_in(root.path(), out, error, code);
            let result = agent
                .import(&root.path().join("-f $x"), &session, root.path())
                .await;
            assert_eq!(result.is_ok(), imported, "{out}{error}: {result:?}");
        }
    }

    #[tokio::test]
    async fn an_export_is_a_private_file_and_a_failed_one_leaves_none() {
        let root = tempfile::tempdir().unwrap();
        // Made anew as a private one: see private_root in src/private_fs/windows.rs.
        std::fs::remove_dir(root.path()).unwrap();
        private_fs::create_dir_all(root.path()).unwrap();
        let (session, file): (SessionId, _) =
            ("ses_1a".parse().unwrap(), root.path().join("out.json"));
        let agent = stand_in(root.path(), "{}", "Exporting session: ses_1a\n", 0);
        agent.export(&session, &file).await.unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"{}");
        let made = std::fs::File::open(&file).unwrap();
        assert!(!private_fs::others_may_read(&made).unwrap());
        drop(made);
        assert!(matches!(
            agent.export(&session, &file).await,
            Err(AgentError::Io { .. })
        ));
        assert!(
            file.exists(),
            "a file that was there before is not ours to remove"
        );
        std::fs::remove_file(&file).unwrap();
        let agent = stand_in(root.path(), "{\"half", "Session not found\n", 1);
        let error = agent.export(&session, &file).await.unwrap_err();
        assert!(error.to_string().contains("Session not found"), "{error}");
        assert!(!file.exists());
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let path = Path::new("/nowhere/opencode");
        assert!(
            matches!(LocalAgent::find(Some(path)), Err(AgentError::LocalNotThere { path: named }) if named == path)
        );
    }
}
