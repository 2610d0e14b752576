//! A terminal by termios(3): as ssh(1) does, only the echo is taken away, and the terminal goes on to edit the line and
//! to turn Ctrl-C into a signal.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr, ttyname,
};
use zeroize::Zeroizing;

use super::{Echo, Terminal};

/// The end of a hidden line is not seen.
pub(super) const SHOWS_ENTER: bool = false;
/// The longest line: what the terminal itself keeps of one (Linux).
const LIMIT: usize = 4096;
/// `_POSIX_VDISABLE`: no character has the function.
const NO_CHARACTER: u8 = if cfg!(any(target_os = "linux", target_os = "android")) {
    0
} else {
    0xff
};

/// Where lines come from.
pub(super) type Input = OwnedFd;

/// What a terminal was set to.
pub(super) struct Settings {
    input: OwnedFd,
    termios: Termios,
}

impl Settings {
    /// Sets it to that again. What was typed and not read goes: it may be half a secret.
    pub(super) fn restore(&self) -> io::Result<()> {
        Ok(tcsetattr(
            &self.input,
            OptionalActions::Flush,
            &self.termios,
        )?)
    }
}

/// Standard input, which is known to be a terminal.
pub(super) fn input() -> io::Result<Input> {
    let stdin = io::stdin();
    // A terminal may have no name where we are, as that of a container's exec has none in the container.
    reopened(stdin.as_fd()).or_else(|_| stdin.as_fd().try_clone_to_owned())
}

/// The terminal in a description of its own that waits for nothing: where another program takes the line that was
/// there, reading it says so, and everybody else's reads still wait.
pub(super) fn reopened(terminal: BorrowedFd<'_>) -> io::Result<Input> {
    let name = ttyname(terminal, Vec::new())?;
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(open(name, flags, Mode::empty())?)
}

/// Makes the terminal ready for a question: what was typed before goes, and a secret is hidden. Keys that would stop or
/// end the process with the echo off have no function meanwhile, but for Ctrl-C, which is listened for.
pub(super) fn prepare(input: &Input, echo: Echo) -> io::Result<Settings> {
    let termios = tcgetattr(input)?;
    let mut asking = termios.clone();
    if echo == Echo::Hidden {
        asking
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ECHONL);
        for key in [SpecialCodeIndex::VQUIT, SpecialCodeIndex::VSUSP] {
            asking.special_codes[key] = NO_CHARACTER;
        }
    }
    let input = input.try_clone()?;
    tcsetattr(&input, OptionalActions::Flush, &asking)?;
    Ok(Settings { input, termios })
}

/// Waits for a line on a thread that ends with the future.
pub(super) async fn read_line(
    input: Input,
    _echo: Echo,
    terminal: &'static Terminal,
    number: u64,
) -> io::Result<Zeroizing<String>> {
    // The end that is here goes when the future is dropped, which is what the thread sees.
    let (over, _here) = io::pipe()?;
    tokio::task::spawn_blocking(move || {
        while is_there(&input, &over)? {
            // The end of the question takes the line away, and reading would then wait for the next one.
            match terminal.while_open(number, || read_now(&input)) {
                Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Some(line) => return line,
                None => break,
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    })
    .await
    .map_err(io::Error::other)?
}

/// Waits until there is a line, or the question is over; whether there is one.
fn is_there(input: &Input, over: &PipeReader) -> io::Result<bool> {
    loop {
        let mut ends = [
            PollFd::new(input, PollFlags::IN),
            PollFd::new(over, PollFlags::IN),
        ];
        match poll(&mut ends, None) {
            Ok(_) => {
                let [_, over] = &ends;
                return Ok(over.revents().is_empty());
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads the line that is there.
fn read_now(input: &Input) -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(vec![0; LIMIT]);
    let count = loop {
        match rustix::io::read(input, line.as_mut_slice()) {
            Err(Errno::INTR) => {}
            read => break read?,
        }
    };
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let text = std::str::from_utf8(line.get(..count).unwrap_or_default())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let line = text.split(['\n', '\r']).next().unwrap_or_default();
    Ok(Zeroizing::new(line.to_owned()))
}
