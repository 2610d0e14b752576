//! A console. Waiting at one cannot be ended from outside, so that a question whose deadline has passed is the last one
//! until somebody presses Enter.

use std::io::{self, BufRead as _};
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm_winapi::{Console, ConsoleMode, Handle};
use zeroize::Zeroizing;

use super::{Echo, Terminal};

/// The end of a hidden line is shown by whoever reads it.
pub(super) const SHOWS_ENTER: bool = true;
/// A thread waits at the console.
static READING: AtomicBool = AtomicBool::new(false);

/// The console needs no name.
pub(super) type Input = ();

/// What a console was set to.
pub(super) struct Settings {
    console: ConsoleMode,
    mode: u32,
}

impl Settings {
    /// Sets it to that again. What was typed and not read goes, unless a thread still waits for it.
    pub(super) fn restore(&self) -> io::Result<()> {
        self.console.set_mode(self.mode)?;
        if READING.load(Ordering::SeqCst) {
            return Ok(());
        }
        forget_typed()
    }
}

/// The console.
///
/// # Errors
/// When a thread still waits there for the answer to an earlier question.
pub(super) fn input() -> io::Result<Input> {
    if READING.load(Ordering::SeqCst) {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    Ok(())
}

/// Makes the console ready for a question: what was typed before goes. Whoever reads a secret hides it.
pub(super) fn prepare(_input: &Input, _echo: Echo) -> io::Result<Settings> {
    let console = ConsoleMode::from(Handle::current_in_handle()?);
    let mode = console.mode()?;
    forget_typed()?;
    Ok(Settings { console, mode })
}

/// Takes away what was typed and not read.
fn forget_typed() -> io::Result<()> {
    let console = Console::from(Handle::current_in_handle()?);
    // Reading would wait for the first event.
    while console.number_of_console_input_events()? > 0 {
        console.read_console_input()?;
    }
    Ok(())
}

/// Waits for a line on a thread of its own.
pub(super) async fn read_line(
    _input: Input,
    echo: Echo,
    _terminal: &'static Terminal,
    _number: u64,
) -> io::Result<Zeroizing<String>> {
    READING.store(true, Ordering::SeqCst);
    tokio::task::spawn_blocking(move || {
        let line = match echo {
            Echo::Hidden => rpassword::read_password().map(Zeroizing::new),
            Echo::Shown => shown_line(),
        };
        READING.store(false, Ordering::SeqCst);
        line
    })
    .await
    .map_err(io::Error::other)?
}

fn shown_line() -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::new());
    if io::stdin().lock().read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let kept = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(kept);
    Ok(line)
}
