//! Moving large files over a command's standard input and output.
//!
//! Main functions: [`upload`] and [`download`]. Invariant: memory stays flat, whatever the file's size, and a deadline
//! runs whenever it is the host's turn.

use std::path::Path;

use russh::ChannelMsg;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use super::channel::SessionChannel;
use super::error::SshError;
use super::exec::{PIECE, append_bounded};
use super::exec_files::{Call, find, number};
use super::files::{NewLocal, Progress};
use super::movement::Movement;

/// How much of a local file is read at once.
const CHUNK: usize = 256 * 1024;
/// What is waited for in a download.
const DOWNLOAD: &str = "a download";
/// How much output may come before the first mark, after the last byte, and on standard error.
const TALK_LIMIT: usize = 256 * 1024;

/// Sends `size` bytes of `file` to a command that reads them after its parameters.
pub(super) async fn upload(
    call: &Call<'_>,
    command: &str,
    local: &Path,
    mut file: File,
    size: u64,
    progress: Progress<'_>,
) -> Result<u64, SshError> {
    let mut channel = SessionChannel::open(call.connection).await?;
    let result = feed_file(
        call,
        &mut channel,
        command,
        local,
        &mut file,
        size,
        progress,
    )
    .await;
    if result.is_ok() {
        channel.set_closed();
    }
    result
}

async fn feed_file(
    call: &Call<'_>,
    channel: &mut SessionChannel,
    command: &str,
    local: &Path,
    file: &mut File,
    size: u64,
    progress: Progress<'_>,
) -> Result<u64, SshError> {
    let connection = call.connection;
    let after = connection.deadlines().progress;
    let Some((read, write)) = channel.halves() else {
        return Err(connection.lost().await);
    };
    write
        .exec(true, command)
        .await
        .map_err(|_| connection.lost_now())?;
    let movement = Movement::default();
    let feed = async {
        // A command that has ended takes nothing more; its last words say why.
        let send = async |bytes: &[u8]| {
            let taken = write.data_bytes(bytes.to_vec()).await.is_ok();
            if taken {
                movement.happened();
            }
            taken
        };
        let mut going = send(&call.head()).await;
        let mut sent = 0u64;
        let mut chunk = vec![0; CHUNK];
        while going && sent < size {
            let want = usize::try_from(size - sent).unwrap_or(CHUNK).min(CHUNK);
            let chunk = chunk.get_mut(..want).unwrap_or_default();
            file.read_exact(chunk)
                .await
                .map_err(|source| SshError::Local {
                    path: local.to_owned(),
                    source,
                })?;
            for piece in chunk.chunks(PIECE) {
                going = going && send(piece).await;
                sent += piece.len() as u64;
                progress(sent);
            }
        }
        let _ = write.eof().await;
        Ok::<_, SshError>(())
    };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let work = async {
        tokio::pin!(feed);
        let mut fed = false;
        loop {
            let message = tokio::select! {
                result = &mut feed, if !fed => {
                    result?;
                    fed = true;
                    continue;
                }
                message = read.wait() => message,
            };
            let heard = stdout.len() + stderr.len();
            match message {
                None => return Err(connection.lost().await),
                Some(ChannelMsg::Close) => return Ok(()),
                Some(ChannelMsg::Failure) => return Err(refused(call)),
                Some(ChannelMsg::Data { data }) => {
                    append_bounded(&mut stdout, &data, TALK_LIMIT);
                }
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    append_bounded(&mut stderr, &data, TALK_LIMIT);
                }
                // What was sent has been read there.
                Some(ChannelMsg::WindowAdjusted { .. }) => movement.happened(),
                Some(_) => {}
            }
            if stdout.len() + stderr.len() > heard {
                movement.happened();
            }
        }
    };
    connection
        .while_moving("an upload", after, &movement, work)
        .await?;
    match call.split_trailer(&stdout) {
        Some((_, 0)) => Ok(size),
        Some(_) => Err(call.failed(&stderr)),
        None => Err(call.remote("the command's answer was cut", &stderr)),
    }
}

fn refused(call: &Call<'_>) -> SshError {
    SshError::ExecRefused {
        host: call.connection.host().clone(),
        what: "a file transfer",
    }
}

/// Fetches the output of a command that prints a file's size in a line, and then the file.
pub(super) async fn download(
    call: &Call<'_>,
    command: &str,
    local: &Path,
    max_bytes: u64,
    progress: Progress<'_>,
) -> Result<u64, SshError> {
    let connection = call.connection;
    let after = connection.deadlines().progress;
    let mut channel = SessionChannel::open(connection).await?;
    let Some((read, write)) = channel.halves() else {
        return Err(connection.lost().await);
    };
    let mut incoming = Incoming {
        call,
        local,
        max_bytes,
        file: None,
        waiting: Vec::new(),
        left: 0,
        size: 0,
    };
    let mut stderr = Vec::new();
    let late = || SshError::TimedOut {
        host: connection.host().clone(),
        what: DOWNLOAD,
        after,
    };
    let result = {
        // The window may be shut until the server has accepted the command: what it says is read meanwhile.
        let ask = async {
            // A command that takes nothing has been refused, or has ended: what it says last tells why.
            if write.exec(true, command).await.is_ok()
                && write.data_bytes(call.head()).await.is_ok()
            {
                let _ = write.eof().await;
            }
        };
        tokio::pin!(ask);
        let mut asked = false;
        // Only what moves of the file puts it off: talk without end would hold this up for ever.
        let mut due = Instant::now() + after;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Err(late());
            }
            let next = async {
                loop {
                    tokio::select! {
                        () = &mut ask, if !asked => asked = true,
                        message = read.wait() => return Ok(message),
                    }
                }
            };
            let message = match connection.within(DOWNLOAD, left, next).await {
                Ok(message) => message,
                Err(SshError::TimedOut { .. }) => break Err(late()),
                Err(error) => break Err(error),
            };
            match message {
                None => break Err(connection.lost().await),
                Some(ChannelMsg::Close) => break incoming.finish(&stderr).await,
                Some(ChannelMsg::Failure) => break Err(refused(call)),
                Some(ChannelMsg::Data { data }) => {
                    let before = incoming.state();
                    if let Err(error) = incoming.take(&data, progress).await {
                        break Err(error);
                    }
                    if incoming.state() != before {
                        due = Instant::now() + after;
                    }
                }
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    append_bounded(&mut stderr, &data, TALK_LIMIT);
                }
                Some(_) => {}
            }
        }
    };
    if result.is_ok() {
        channel.set_closed();
    }
    result
}

/// The output so far.
struct Incoming<'a> {
    call: &'a Call<'a>,
    local: &'a Path,
    max_bytes: u64,
    /// The local file, once the size has arrived.
    file: Option<NewLocal>,
    /// What came before the size was known, and after the last byte of the file.
    waiting: Vec<u8>,
    left: u64,
    size: u64,
}

impl Incoming<'_> {
    /// Whether the size is known, and how much of the file is missing.
    fn state(&self) -> (bool, u64) {
        (self.file.is_some(), self.left)
    }

    async fn take(&mut self, data: &[u8], progress: Progress<'_>) -> Result<(), SshError> {
        if self.file.is_some() {
            return self.content(data, progress).await;
        }
        if append_bounded(&mut self.waiting, data, TALK_LIMIT) {
            return Err(self.call.remote("too much output before the file", &[]));
        }
        let mark = format!("{}\n", self.call.nonce);
        let Some(at) = find(&self.waiting, mark.as_bytes()) else {
            return Ok(());
        };
        let framed = self.waiting.get(at + mark.len()..).unwrap_or_default();
        let Some(end) = framed.iter().position(|&byte| byte == b'\n') else {
            return Ok(());
        };
        // No size means that the command failed: its trailer follows.
        let Some(size) = number(framed.get(..end).unwrap_or_default()) else {
            return Ok(());
        };
        if size > self.max_bytes {
            return Err(self.call.too_large(self.max_bytes));
        }
        let rest = framed.get(end + 1..).unwrap_or_default().to_vec();
        self.file = Some(NewLocal::create(self.local).await?);
        (self.size, self.left) = (size, size);
        self.waiting.clear();
        self.content(&rest, progress).await
    }

    async fn content(&mut self, data: &[u8], progress: Progress<'_>) -> Result<(), SshError> {
        let now = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(data.len());
        let (bytes, rest) = data.split_at(now);
        if let Some(file) = &mut self.file
            && !bytes.is_empty()
        {
            file.write(bytes).await?;
            self.left -= now as u64;
            progress(self.size - self.left);
        }
        append_bounded(&mut self.waiting, rest, TALK_LIMIT);
        Ok(())
    }

    async fn finish(&mut self, stderr: &[u8]) -> Result<u64, SshError> {
        let code = self.call.split_trailer(&self.waiting).map(|(_, code)| code);
        match (self.file.take(), code) {
            (_, Some(code)) if code != 0 => Err(self.call.failed(stderr)),
            (Some(file), Some(_)) if self.left == 0 => {
                file.finish().await?;
                Ok(self.size)
            }
            _ => Err(self.call.remote("the command's answer was cut", stderr)),
        }
    }
}
