//! The program as a person or a script runs it.
//!
//! The main types are [`Started`] and [`Ran`]. Every wait has a deadline.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// What every wait in these tests is bounded by; none takes a quarter of it on an idle machine. Under Wine a program
/// takes its time to start.
const DEADLINE: Duration = Duration::from_secs(if cfg!(windows) { 270 } else { 90 });
/// The exit code of a program that was killed.
const KILLED: Option<i32> = if cfg!(windows) { Some(1) } else { None };

/// A run of the program that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A run of the program that goes on.
pub(crate) struct Started {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    seen: String,
}

impl Ran {
    /// Runs a command to its end.
    pub(crate) async fn of(mut command: Command) -> Self {
        let output = bounded("the program", command.output()).await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Runs a command that reads this text from its standard input.
    pub(crate) async fn fed(mut command: Command, text: &str) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).await.unwrap();
        drop(stdin);
        let output = bounded("the program", child.wait_with_output())
            .await
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Checks the exit code; gives itself.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        self
    }

    /// Every line of standard output, each of which is a JSON document.
    #[track_caller]
    pub(crate) fn documents(&self) -> Vec<Value> {
        let document = |line: &str| match serde_json::from_str(line) {
            Ok(value) => value,
            Err(error) => panic!("{line:?} is no JSON: {error}"),
        };
        self.out.lines().map(document).collect()
    }

    /// The last line of standard output, a JSON document: the result or the error.
    #[track_caller]
    pub(crate) fn document(&self) -> Value {
        match self.documents().pop() {
            Some(document) => document,
            None => panic!("nothing on standard output\n{}", self.err),
        }
    }

    /// Checks that the last line of standard output is an error of this kind; gives its body.
    #[track_caller]
    pub(crate) fn error(&self, kind: &str) -> Value {
        let error = self.document()["error"].clone();
        assert_eq!(error["kind"], kind, "{}\n{}", self.out, self.err);
        error
    }
}

impl Started {
    /// Starts a command.
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            lines,
            seen: String::new(),
        }
    }

    /// Reads standard output (`--json`) until a document holds for this; gives it.
    pub(crate) async fn document(&mut self, mut holds: impl FnMut(&Value) -> bool) -> Value {
        let read = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.seen.push_str(&line);
                self.seen.push('\n');
                let document: Value = serde_json::from_str(&line).unwrap();
                if holds(&document) {
                    return Some(document);
                }
            }
            None
        };
        match bounded("the document", read).await {
            Some(document) => document,
            None => panic!("the program has ended: {}", self.seen),
        }
    }

    /// Waits until the program tells of a step; gives the job, when it was told on the way.
    pub(crate) async fn step(&mut self, step: &str) -> String {
        self.document(|document| document["step"] == step).await;
        let first: Value = serde_json::from_str(self.seen.lines().next().unwrap()).unwrap();
        first["job"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the agent there has said something.
    pub(crate) async fn says(&mut self, text: &str) {
        self.document(|document| document["agent"]["text"] == text)
            .await;
    }

    /// Kills it.
    pub(crate) async fn killed(mut self) {
        self.child.start_kill().unwrap();
        assert_eq!(self.ended().await.code, KILLED);
    }

    /// Leaves the job that it follows: by Ctrl-C; on Windows, where that is an event of a console, which these tests
    /// have none of, by killing it.
    pub(crate) async fn left(self) {
        #[cfg(unix)]
        {
            self.signal("INT").await;
            self.ended().await.exits(10);
        }
        #[cfg(windows)]
        self.killed().await;
    }

    /// Sends a signal, by its name (`INT`).
    #[cfg(unix)]
    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().await;
        assert!(sent.unwrap().success());
    }

    /// Waits for the end.
    pub(crate) async fn ended(mut self) -> Ran {
        let rest = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.seen.push_str(&line);
                self.seen.push('\n');
            }
            let mut err = String::new();
            let mut stderr = self.child.stderr.take().unwrap();
            stderr.read_to_string(&mut err).await.unwrap();
            let code = self.child.wait().await.unwrap().code();
            Ran {
                code,
                out: self.seen,
                err,
            }
        };
        bounded("the end of the program", rest).await
    }
}

/// Waits for work, within the deadline.
pub(crate) async fn bounded<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what} takes too long"),
    }
}
