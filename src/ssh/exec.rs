//! Running one command.
//!
//! Main type: [`ExecOutput`]. Invariant: output beyond the limits is read and thrown away, so that a talkative command
//! neither fills memory here nor blocks the connection.

use std::time::Duration;

use russh::{ChannelMsg, Sig};
use tokio::sync::Notify;

use super::channel::SessionChannel;
use super::connection::Connection;
use super::error::SshError;
use super::movement::Movement;

/// How much is fed at once: what every server takes in a packet, so that a slow one shows that it takes something.
pub(super) const PIECE: usize = 32 * 1024;

/// How a command is run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ExecOptions {
    /// What the command is for: the name of its deadline.
    pub what: &'static str,
    /// What it reads on its standard input, which is then closed.
    pub stdin: Vec<u8>,
    /// How many bytes of standard output are kept.
    pub stdout_limit: usize,
    /// How many bytes of standard error are kept.
    pub stderr_limit: usize,
    /// The time from the request to the end of the command.
    pub deadline: Duration,
}

impl ExecOptions {
    /// A command named `what` that reads nothing: 1 MiB of output and 64 KiB of errors are kept, 30 s.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        Self {
            what,
            stdin: Vec::new(),
            stdout_limit: 1 << 20,
            stderr_limit: 64 << 10,
            deadline: Duration::from_secs(30),
        }
    }

    /// Sets what the command reads.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Sets how many bytes of output and of errors are kept.
    #[must_use]
    pub fn limits(mut self, stdout: usize, stderr: usize) -> Self {
        self.stdout_limit = stdout;
        self.stderr_limit = stderr;
        self
    }

    /// Sets the deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitStatus {
    /// With this exit status.
    Code(u32),
    /// By this signal, named as in RFC 4254 section 6.10 (`TERM`, `KILL`).
    Signal(String),
    /// The server did not say.
    Unknown,
}

impl ExitStatus {
    /// Whether it is exit status 0.
    #[must_use]
    pub fn success(&self) -> bool {
        *self == Self::Code(0)
    }
}

/// What a command left.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecOutput {
    /// How it ended.
    pub status: ExitStatus,
    /// The first bytes of standard output.
    pub stdout: Vec<u8>,
    /// The first bytes of standard error.
    pub stderr: Vec<u8>,
    /// Whether there was more standard output than was kept.
    pub stdout_truncated: bool,
    /// Whether there was more standard error than was kept.
    pub stderr_truncated: bool,
}

/// Some of what a command writes, as it comes. Remote bytes: escape them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExecChunk<'a> {
    /// On its standard output.
    Stdout(&'a [u8]),
    /// On its standard error.
    Stderr(&'a [u8]),
}

impl Connection {
    /// Runs `command` in the user's login shell, feeds it, and waits for its end.
    ///
    /// The command must be a constant: parameters belong on its standard input.
    ///
    /// # Errors
    /// [`SshError::TimedOut`] (the channel is closed, the command may go on), [`ChannelRefused`](SshError::ChannelRefused),
    /// [`ExecRefused`](SshError::ExecRefused), [`Lost`](SshError::Lost) (whether it ran is unknown). A command that
    /// fails is no error: it is in the status.
    ///
    /// # Cancel safety
    /// Safe: the channel is closed, which most commands notice at their next output.
    pub async fn exec(&self, command: &str, options: ExecOptions) -> Result<ExecOutput, SshError> {
        self.exec_with(command, options, |_| {}).await
    }

    /// As [`exec`](Self::exec), and tells what the command writes as it comes, all of it and in order, also what the
    /// limits do not keep. No more is under way than a channel's window, and nothing comes while `on_output` runs, which
    /// must not block.
    ///
    /// # Errors
    /// Those of [`exec`](Self::exec).
    ///
    /// # Cancel safety
    /// As [`exec`](Self::exec).
    pub async fn exec_with(
        &self,
        command: &str,
        options: ExecOptions,
        mut on_output: impl FnMut(ExecChunk<'_>) + Send,
    ) -> Result<ExecOutput, SshError> {
        let (what, deadline) = (options.what, options.deadline);
        let mut channel = SessionChannel::open(self).await?;
        let mut program = Program::new(self, &mut channel, command, &options);
        let stdin = std::future::ready(options.stdin.clone());
        let work = program.run(stdin, &mut on_output);
        let output = self.within(what, deadline, work).await?;
        channel.set_closed();
        Ok(output)
    }

    /// As [`exec`](Self::exec), with a deadline that counts from the last time that something moved: input that was
    /// taken, or output that is kept.
    pub(super) async fn exec_while_moving(
        &self,
        command: &str,
        options: ExecOptions,
    ) -> Result<ExecOutput, SshError> {
        let mut channel = SessionChannel::open(self).await?;
        let mut program = Program::new(self, &mut channel, command, &options);
        let stdin = std::future::ready(options.stdin.clone());
        let movement = Movement::default();
        program.movement = Some(&movement);
        let mut unheard = |_: ExecChunk<'_>| {};
        let work = program.run(stdin, &mut unheard);
        let output = self.while_moving(options.what, options.deadline, &movement, work);
        let output = output.await?;
        channel.set_closed();
        Ok(output)
    }

    /// Runs `command` ahead of its input, which spares two round trips once the input is known: as
    /// [`exec`](Self::exec), with `input` in the place of the options' own, and the deadline counted from the moment
    /// that it is there.
    ///
    /// `None`, and nothing has run, when the server or the limit of channels has no channel to spare. A command that
    /// ends before its input is there is no error either.
    ///
    /// # Errors
    /// Those of [`exec`](Self::exec).
    ///
    /// # Cancel safety
    /// As [`exec`](Self::exec): before the input is there, the command reads an empty one.
    pub async fn exec_ahead(
        &self,
        command: &str,
        options: ExecOptions,
        input: impl Future<Output = Vec<u8>>,
    ) -> Result<Option<ExecOutput>, SshError> {
        let Some(mut channel) = SessionChannel::open_spare(self).await? else {
            return Ok(None);
        };
        let there = Notify::new();
        let input = async {
            let input = input.await;
            there.notify_one();
            input
        };
        let mut unheard = |_: ExecChunk<'_>| {};
        let mut program = Program::new(self, &mut channel, command, &options);
        let work = program.run(input, &mut unheard);
        let too_late = async {
            there.notified().await;
            tokio::time::sleep(options.deadline).await;
        };
        let output = tokio::select! {
            biased;
            output = work => output?,
            () = too_late => {
                let (host, what, after) = (self.host().clone(), options.what, options.deadline);
                return Err(SshError::TimedOut { host, what, after });
            }
            _ = self.closed() => return Err(self.lost_now()),
        };
        channel.set_closed();
        Ok(Some(output))
    }
}

/// A command on its channel.
struct Program<'a> {
    connection: &'a Connection,
    channel: &'a mut SessionChannel,
    command: &'a str,
    options: &'a ExecOptions,
    /// Told of what moves.
    movement: Option<&'a Movement>,
}

impl<'a> Program<'a> {
    fn new(
        connection: &'a Connection,
        channel: &'a mut SessionChannel,
        command: &'a str,
        options: &'a ExecOptions,
    ) -> Self {
        Self {
            connection,
            channel,
            command,
            options,
            movement: None,
        }
    }

    async fn run(
        &mut self,
        stdin: impl Future<Output = Vec<u8>>,
        on_output: &mut (dyn FnMut(ExecChunk<'_>) + Send),
    ) -> Result<ExecOutput, SshError> {
        let connection = self.connection;
        let moved = || {
            if let Some(movement) = self.movement {
                movement.happened();
            }
        };
        let mut kept = Kept::new(self.options);
        let Some((read, write)) = self.channel.halves() else {
            return Err(connection.lost().await);
        };
        // A reply is wanted but not waited for: it costs no round trip and tells a refusal from a silent command.
        write
            .exec(true, self.command)
            .await
            .map_err(|_| connection.lost_now())?;
        let feed = async {
            for piece in stdin.await.chunks(PIECE) {
                // A command that ends without reading its input is none of our failures.
                if write.data_bytes(piece.to_vec()).await.is_err() {
                    break;
                }
                moved();
            }
            let _ = write.eof().await;
        };
        tokio::pin!(feed);
        let mut fed = false;
        loop {
            let message = tokio::select! {
                () = &mut feed, if !fed => {
                    fed = true;
                    continue;
                }
                message = read.wait() => message,
            };
            match message {
                None => return Err(connection.lost().await),
                Some(ChannelMsg::Close) => break,
                Some(ChannelMsg::Failure) => {
                    return Err(SshError::ExecRefused {
                        host: connection.host().clone(),
                        what: self.options.what,
                    });
                }
                // What was sent has been read there.
                Some(ChannelMsg::WindowAdjusted { .. }) => moved(),
                Some(message) => {
                    if kept.take(message, on_output) {
                        moved();
                    }
                }
            }
        }
        Ok(kept.output)
    }
}

/// Output within its limits.
struct Kept {
    output: ExecOutput,
    stdout_limit: usize,
    stderr_limit: usize,
}

impl Kept {
    fn new(options: &ExecOptions) -> Self {
        Self {
            output: ExecOutput {
                status: ExitStatus::Unknown,
                stdout: Vec::new(),
                stderr: Vec::new(),
                stdout_truncated: false,
                stderr_truncated: false,
            },
            stdout_limit: options.stdout_limit,
            stderr_limit: options.stderr_limit,
        }
    }

    /// Whether something of it was kept.
    fn take(
        &mut self,
        message: ChannelMsg,
        on_output: &mut (dyn FnMut(ExecChunk<'_>) + Send),
    ) -> bool {
        let output = &mut self.output;
        let length = |output: &ExecOutput| output.stdout.len() + output.stderr.len();
        let before = length(output);
        match message {
            ChannelMsg::Data { data } => {
                on_output(ExecChunk::Stdout(&data));
                output.stdout_truncated |=
                    append_bounded(&mut output.stdout, &data, self.stdout_limit);
            }
            ChannelMsg::ExtendedData { data, ext: 1 } => {
                on_output(ExecChunk::Stderr(&data));
                output.stderr_truncated |=
                    append_bounded(&mut output.stderr, &data, self.stderr_limit);
            }
            other => {
                if let Some(status) = status_of(&other) {
                    output.status = status;
                }
            }
        }
        length(output) > before
    }
}

/// The exit status that a message carries.
pub(super) fn status_of(message: &ChannelMsg) -> Option<ExitStatus> {
    match message {
        ChannelMsg::ExitStatus { exit_status } => Some(ExitStatus::Code(*exit_status)),
        ChannelMsg::ExitSignal {
            signal_name: Sig::Custom(name),
            ..
        } => Some(ExitStatus::Signal(
            name.chars().filter(|c| !c.is_control()).take(40).collect(),
        )),
        ChannelMsg::ExitSignal { signal_name, .. } => {
            Some(ExitStatus::Signal(format!("{signal_name:?}")))
        }
        _ => None,
    }
}

/// Appends what fits below `limit`; true when something did not.
pub(super) fn append_bounded(kept: &mut Vec<u8>, data: &[u8], limit: usize) -> bool {
    let room = limit.saturating_sub(kept.len()).min(data.len());
    kept.extend_from_slice(data.get(..room).unwrap_or_default());
    room < data.len()
}
