//! Commands: a process behind a channel, as sshd runs it.
//!
//! The main function is [`run`]. A process is never ended from here: when the channel goes, its pipes close.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use russh::server::{Handle, Msg};
use russh::{Channel, ChannelWriteHalf, Sig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::channel::{Input, drain};
use super::state::Shared;

/// How much of a process' output is read at a time; a channel packet of russh holds as much.
const CHUNK: usize = 32 * 1024;
/// The code of extended data that is standard error (RFC 4254, section 5.2).
const STDERR: u32 = 1;
/// The exit status of a shell for a program that it could not run.
const CANNOT_RUN: u32 = 127;

/// Runs a command (`None`: the login shell itself) on a channel until the command has ended and both its
/// outputs are at their end, or until the channel is closed.
pub(super) async fn run(
    shared: Arc<Shared>,
    channel: Channel<Msg>,
    handle: Handle,
    command: Option<Vec<u8>>,
    closed: CancellationToken,
) {
    let (reader, writer) = channel.split();
    let (sender, input) = mpsc::unbounded_channel();
    shared.tasks.spawn(drain(reader, sender, closed.clone()));
    tokio::select! {
        () = closed.cancelled() => {}
        result = converse(&shared, &writer, &handle, command, input, &closed) => {
            if let Err(error) = result {
                tracing::debug!(%error, "a command of the demonstration server lost its channel");
            }
        }
    }
    // The client may have closed it already, or the connection may be gone.
    let _ = writer.close().await;
    closed.cancel();
}

async fn converse(
    shared: &Shared,
    writer: &ChannelWriteHalf<Msg>,
    handle: &Handle,
    command: Option<Vec<u8>>,
    input: Input,
    closed: &CancellationToken,
) -> Result<(), russh::Error> {
    let options = &shared.options;
    if let Some(text) = &options.refuse_exec {
        writer.data_bytes(text.clone().into_bytes()).await?;
        writer.exit_status(1).await?;
        return writer.eof().await;
    }
    if let Some(noise) = &options.banner_noise {
        writer.data_bytes(noise.clone().into_bytes()).await?;
    }
    let mut child = match spawn(shared, command) {
        Ok(child) => child,
        Err(error) => {
            let text = format!("{}: {error}\n", options.login_shell.display());
            writer
                .extended_data_bytes(STDERR, text.into_bytes())
                .await?;
            writer.exit_status(CANNOT_RUN).await?;
            return writer.eof().await;
        }
    };
    if let Some(stdin) = child.stdin.take() {
        shared.tasks.spawn(feed(stdin, input, closed.clone()));
    }
    relay(&mut child, writer, handle).await?;
    writer.eof().await
}

fn spawn(shared: &Shared, command: Option<Vec<u8>>) -> std::io::Result<Child> {
    let options = &shared.options;
    let mut process = Command::new(&options.login_shell);
    if let Some(command) = command {
        process.arg("-c").arg(OsString::from_vec(command));
    }
    process
        .current_dir(&options.home)
        .env_clear()
        .env("HOME", &options.home)
        .env("PATH", &options.path)
        .env("SHELL", &options.login_shell)
        .env("USER", &options.user)
        .env("LOGNAME", &options.user)
        .env("LANG", "C.UTF-8")
        .envs(
            options
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that Ctrl-C at the terminal of this process does not reach it.
        .process_group(0)
        .kill_on_drop(false)
        .spawn()
}

/// Writes what the client sends to the process, and closes its standard input after the last of it.
async fn feed(mut stdin: ChildStdin, mut input: Input, closed: CancellationToken) {
    let copy = async {
        while let Some(data) = input.recv().await {
            if stdin.write_all(&data).await.is_err() {
                // The process does not read any more; sshd throws the rest away, too.
                return;
            }
        }
    };
    tokio::select! {
        () = closed.cancelled() => {}
        () = copy => {}
    }
}

/// Sends both outputs and the exit status. One writer for all: a client that does not read holds up this
/// command alone.
async fn relay(
    child: &mut Child,
    writer: &ChannelWriteHalf<Msg>,
    handle: &Handle,
) -> Result<(), russh::Error> {
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut running = true;
    while running || stdout.is_some() || stderr.is_some() {
        tokio::select! {
            count = read(&mut stdout, &mut out), if stdout.is_some() => {
                match out.get(..count) {
                    Some(data) if !data.is_empty() => writer.data_bytes(data.to_vec()).await?,
                    _ => stdout = None,
                }
            }
            count = read(&mut stderr, &mut err), if stderr.is_some() => {
                match err.get(..count) {
                    Some(data) if !data.is_empty() => writer.extended_data_bytes(STDERR, data.to_vec()).await?,
                    _ => stderr = None,
                }
            }
            status = child.wait(), if running => {
                running = false;
                report(status?, writer, handle).await?;
            }
        }
    }
    Ok(())
}

/// Reads some; 0 at the end and for a pipe that cannot be read.
async fn read(pipe: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> usize {
    match pipe {
        Some(pipe) => pipe.read(buffer).await.unwrap_or(0),
        None => 0,
    }
}

async fn report(
    status: ExitStatus,
    writer: &ChannelWriteHalf<Msg>,
    handle: &Handle,
) -> Result<(), russh::Error> {
    if let Some(signal) = status.signal() {
        let sent = handle
            .exit_signal_request(
                writer.id(),
                signal_name(signal),
                status.core_dumped(),
                String::new(),
                String::new(),
            )
            .await;
        return sent.map_err(|()| russh::Error::SendError);
    }
    let code = status.code().and_then(|code| u32::try_from(code).ok());
    writer.exit_status(code.unwrap_or(CANNOT_RUN)).await
}

/// The name of a signal in the protocol (RFC 4254, section 6.10). The numbers are the ones that all Unix
/// systems share; others go by number under a local name, as the RFC has it.
fn signal_name(signal: i32) -> Sig {
    match signal {
        1 => Sig::HUP,
        2 => Sig::INT,
        3 => Sig::QUIT,
        4 => Sig::ILL,
        6 => Sig::ABRT,
        8 => Sig::FPE,
        9 => Sig::KILL,
        11 => Sig::SEGV,
        13 => Sig::PIPE,
        14 => Sig::ALRM,
        15 => Sig::TERM,
        other => Sig::Custom(format!("{other}@handover")),
    }
}
