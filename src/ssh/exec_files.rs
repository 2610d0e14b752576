//! Files over commands.
//!
//! Main type: [`ExecFiles`]. Invariant: the commands are constants that every login shell passes on as they are (no
//! `!`, no backslash, no newline inside single quotes); parameters arrive as lines on standard input. What counts of
//! the output stands between two marks that are different each time, so rc files may print what they like.

use std::fmt::Write as _;
use std::path::Path;

use async_trait::async_trait;
use rand::RngExt as _;

use super::connection::Connection;
use super::error::{SshError, bounded};
use super::exec::{ExecOptions, ExecOutput};
use super::exec_transfer as transfer;
use super::files::{Files, Progress, READ_FROM_LIMIT};
use super::path::RemotePath;

/// How much may be printed around what counts: messages of the day, banners of rc files.
const NOISE_LIMIT: usize = 256 * 1024;

macro_rules! framed {
    ($body:literal) => {
        concat!(
            "sh -c 'LC_ALL=C; export LC_ALL; umask 077; IFS= read -r n; IFS= read -r p; IFS= read -r a; ",
            "echo \"$n\"; echo \"$n\" >&2; ",
            $body,
            "; r=$?; echo; echo \"$n $r\"'"
        )
    };
}

const CREATE_DIR: &str = framed!("mkdir \"$p\"");
const READ: &str = framed!(
    "if s=$(wc -c < \"$p\"); then s=$((s)); echo \"$s\"; if [ \"$s\" -gt \"$a\" ]; then true; \
     elif [ \"$s\" -gt 0 ]; then head -c \"$s\" < \"$p\"; fi; else false; fi"
);
/// Opened once, so that a file which is renamed over meanwhile is read as one of its two contents.
const READ_SMALL: &str = framed!("true < \"$p\" && head -c \"$((a + 1))\" < \"$p\"");
const READ_FROM: &str =
    framed!("true < \"$p\" && tail -c \"+${a%% *}\" \"$p\" | head -c \"${a##* }\"");
const SIZE: &str = framed!("s=$(wc -c < \"$p\") && echo $((s))");
const REMOVE: &str = framed!("rm \"$p\" < /dev/null");
/// The size in the third line is the proof that the input came whole: a lost connection looks like its end.
const WRITE: &str = framed!(
    "t=\"$p.part\"; rm -f \"$t\"; set -C; if [ -d \"$p\" ]; then echo \"Is a directory\" >&2; false; \
     else cat > \"$t\" && [ $(wc -c < \"$t\") -eq \"$a\" ] && mv -f \"$t\" \"$p\"; fi || { rm -f \"$t\"; false; }"
);

/// Files over one command a request, for hosts where SFTP is missing or shows another file system than the shell.
///
/// Needs what POSIX has, and `head -c`.
#[derive(Debug, Clone)]
pub struct ExecFiles {
    connection: Connection,
}

/// One request's parameters and marks.
pub(super) struct Call<'a> {
    pub(super) connection: &'a Connection,
    pub(super) path: &'a RemotePath,
    pub(super) nonce: String,
    argument: String,
}

impl<'a> Call<'a> {
    fn new(connection: &'a Connection, path: &'a RemotePath, argument: String) -> Self {
        let random: [u8; 16] = rand::rng().random();
        let nonce = random.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        Self {
            connection,
            path,
            nonce,
            argument,
        }
    }

    /// The lines that the command reads first.
    pub(super) fn head(&self) -> Vec<u8> {
        format!(
            "{}\n{}\n{}\n",
            self.nonce,
            self.path.as_str(),
            self.argument
        )
        .into_bytes()
    }

    async fn run(
        &self,
        what: &'static str,
        command: &str,
        body: &[u8],
        limit: usize,
    ) -> Result<Vec<u8>, SshError> {
        let mut stdin = self.head();
        stdin.extend_from_slice(body);
        let options = ExecOptions::new(what)
            .stdin(stdin)
            .limits(limit.saturating_add(NOISE_LIMIT), NOISE_LIMIT)
            .deadline(self.connection.deadlines().progress);
        let output = self.connection.exec_while_moving(command, options).await?;
        self.body(&output)
    }

    fn body(&self, output: &ExecOutput) -> Result<Vec<u8>, SshError> {
        let start = format!("{}\n", self.nonce);
        let Some(at) = find(&output.stdout, start.as_bytes()) else {
            return Err(self.remote("the shell did not run the command", &output.stderr));
        };
        let framed = output.stdout.get(at + start.len()..).unwrap_or_default();
        let (body, code) = self
            .split_trailer(framed)
            .ok_or_else(|| self.remote("the command's answer was cut", &output.stderr))?;
        if code == 0 {
            Ok(body.to_vec())
        } else {
            Err(self.failed(&output.stderr))
        }
    }

    /// Splits `\nNONCE CODE\n` from the end of what followed the first mark.
    pub(super) fn split_trailer<'b>(&self, framed: &'b [u8]) -> Option<(&'b [u8], u32)> {
        let mark = format!("\n{} ", self.nonce);
        let at = rfind(framed, mark.as_bytes())?;
        let rest = framed.get(at + mark.len()..)?;
        let end = rest.iter().position(|&byte| byte == b'\n')?;
        let code = std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()?;
        Some((framed.get(..at)?, code))
    }

    /// The error that the tools' words stand for, in the C locale.
    pub(super) fn failed(&self, stderr: &[u8]) -> SshError {
        let (host, path) = (self.connection.host().clone(), self.path.clone());
        let words = self.words(stderr);
        // The path is in most messages, and may hold any words.
        let plain = words.replace(self.path.as_str(), "").to_ascii_lowercase();
        let says = |text: &str| plain.contains(text);
        if says("no space left") || says("quota exceeded") {
            SshError::NoSpace { host, path }
        } else if says("file exists") {
            SshError::AlreadyExists { host, path }
        } else if says("no such file") || says("nonexistent") {
            SshError::NotFound { host, path }
        } else if says("permission denied") || says("operation not permitted") {
            SshError::PermissionDenied { host, path }
        } else {
            let message = if words.is_empty() {
                "the command failed".to_owned()
            } else {
                words
            };
            SshError::Remote {
                host,
                path,
                message,
            }
        }
    }

    /// An error of the exchange itself.
    pub(super) fn remote(&self, reason: &str, stderr: &[u8]) -> SshError {
        let words = self.words(stderr);
        let message = if words.is_empty() {
            reason.to_owned()
        } else {
            format!("{reason}: {words}")
        };
        SshError::Remote {
            host: self.connection.host().clone(),
            path: self.path.clone(),
            message,
        }
    }

    /// The error for a file beyond its limit.
    pub(super) fn too_large(&self, limit: u64) -> SshError {
        SshError::TooLarge {
            host: self.connection.host().clone(),
            path: self.path.clone(),
            limit,
        }
    }

    fn words(&self, stderr: &[u8]) -> String {
        let mark = format!("{}\n", self.nonce);
        let ours = match find(stderr, mark.as_bytes()) {
            Some(at) => stderr.get(at + mark.len()..).unwrap_or_default(),
            None => stderr,
        };
        bounded(&String::from_utf8_lossy(ours), 500)
    }
}

impl ExecFiles {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    fn call<'a>(&'a self, path: &'a RemotePath, argument: impl ToString) -> Call<'a> {
        Call::new(&self.connection, path, argument.to_string())
    }
}

#[async_trait]
impl Files for ExecFiles {
    async fn create_dir(&self, path: &RemotePath) -> Result<(), SshError> {
        self.call(path, "")
            .run("making a directory", CREATE_DIR, &[], 0)
            .await
            .map(drop)
    }

    async fn upload(
        &self,
        local: &Path,
        remote: &RemotePath,
        progress: Progress<'_>,
    ) -> Result<u64, SshError> {
        let broken = |source| SshError::Local {
            path: local.to_owned(),
            source,
        };
        let file = tokio::fs::File::open(local).await.map_err(broken)?;
        let size = file.metadata().await.map_err(broken)?.len();
        let call = self.call(remote, size);
        transfer::upload(&call, WRITE, local, file, size, progress).await
    }

    async fn write(&self, path: &RemotePath, bytes: &[u8]) -> Result<(), SshError> {
        self.call(path, bytes.len())
            .run("writing a file", WRITE, bytes, 0)
            .await
            .map(drop)
    }

    async fn download(
        &self,
        remote: &RemotePath,
        local: &Path,
        max_bytes: u64,
        progress: Progress<'_>,
    ) -> Result<u64, SshError> {
        transfer::download(
            &self.call(remote, max_bytes),
            READ,
            local,
            max_bytes,
            progress,
        )
        .await
    }

    async fn read(&self, path: &RemotePath, max_bytes: u64) -> Result<Vec<u8>, SshError> {
        let call = self.call(path, max_bytes);
        let limit = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        let body = call
            .run("reading a file", READ_SMALL, &[], limit.saturating_add(1))
            .await?;
        if body.len() > limit {
            return Err(call.too_large(max_bytes));
        }
        Ok(body)
    }

    async fn read_from(
        &self,
        path: &RemotePath,
        offset: u64,
        max_bytes: u64,
    ) -> Result<Vec<u8>, SshError> {
        let length = max_bytes.min(READ_FROM_LIMIT);
        if length == 0 {
            return Ok(Vec::new());
        }
        // tail counts from 1.
        let call = self.call(path, format!("{} {length}", offset.saturating_add(1)));
        let mut bytes = call
            .run(
                "reading a file",
                READ_FROM,
                &[],
                usize::try_from(length).unwrap_or(usize::MAX),
            )
            .await?;
        bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(bytes)
    }

    async fn size(&self, path: &RemotePath) -> Result<Option<u64>, SshError> {
        let call = self.call(path, "");
        match call.run("asking for a file's size", SIZE, &[], 0).await {
            Ok(body) => match number(&body) {
                Some(size) => Ok(Some(size)),
                None => Err(call.remote("the host did not say how large the file is", &[])),
            },
            Err(SshError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn remove_file(&self, path: &RemotePath) -> Result<(), SshError> {
        self.call(path, "")
            .run("removing a file", REMOVE, &[], 0)
            .await
            .map(drop)
    }
}

/// A decimal number with nothing but blanks around it.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// Where `wanted` first stands.
pub(super) fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len())
        .position(|window| window == wanted)
}

fn rfind(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len())
        .rposition(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_hold_nothing_that_a_login_shell_would_change() {
        for command in [CREATE_DIR, READ, READ_SMALL, READ_FROM, SIZE, REMOVE, WRITE] {
            assert!(!command.contains(['!', '\\', '\n', '`']), "{command}");
            assert_eq!(command.matches('\'').count(), 2, "{command}");
        }
    }

    #[test]
    fn a_number_may_be_padded_and_nothing_else() {
        assert_eq!(number(b"      12\n"), Some(12));
        assert_eq!(number(b"12 13"), None);
        assert_eq!(number(b""), None);
        assert_eq!(number(b"\xff"), None);
    }
}
