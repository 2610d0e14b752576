//! What asks the program to stop.
//!
//! Main type: [`Interrupts`]. Invariant: from its making on, none of them ends the process by itself. After
//! [`end_the_program`] what ends the process leaves the terminal as it was found.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
#[cfg(windows)]
use tokio::signal::windows;

use super::exit::INTERRUPTED;
use super::terminal;

/// How many listen for themselves.
static LISTENERS: AtomicUsize = AtomicUsize::new(0);
/// The exit status of a process that SIGTERM has ended, as a shell tells it.
#[cfg(unix)]
const TERMINATED: u8 = 128 + 15;

/// Whether a verb listens for interrupts and does with them what it wants; else they end the program.
pub(crate) fn is_heard() -> bool {
    LISTENERS.load(Ordering::SeqCst) > 0
}

/// Has interrupts end the program in order from now on, for as long as no verb listens for itself; on Unix SIGTERM too,
/// whoever listens.
///
/// # Errors
/// When the system does not tell of them.
pub(crate) fn end_the_program() -> io::Result<()> {
    let mut interrupts = Interrupts::notice()?;
    #[cfg(unix)]
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        loop {
            #[cfg(unix)]
            let code = tokio::select! {
                () = interrupts.next() => INTERRUPTED,
                _ = terminated.recv() => TERMINATED,
            };
            #[cfg(windows)]
            let code = {
                interrupts.next().await;
                INTERRUPTED
            };
            if code == INTERRUPTED && is_heard() {
                continue;
            }
            terminal::close();
            std::process::exit(code.into());
        }
    });
    Ok(())
}

/// Ctrl-C; on Windows also Ctrl-Break, and the end of the console, of the logon or of the system, after which some
/// seconds are left.
pub(crate) struct Interrupts {
    #[cfg(unix)]
    pressed: Signal,
    #[cfg(windows)]
    pressed: windows::CtrlC,
    #[cfg(windows)]
    ctrl_break: windows::CtrlBreak,
    #[cfg(windows)]
    closed: windows::CtrlClose,
    #[cfg(windows)]
    logged_off: windows::CtrlLogoff,
    #[cfg(windows)]
    shut_down: windows::CtrlShutdown,
    /// Whether they are in the place of whatever would end the program.
    listens: bool,
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        if self.listens {
            LISTENERS.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Interrupts {
    /// Listens for as long as this is there, in the place of whatever would end the program.
    ///
    /// # Errors
    /// When the system does not tell of them.
    pub(crate) fn listen() -> io::Result<Self> {
        let mut interrupts = Self::notice()?;
        interrupts.listens = true;
        LISTENERS.fetch_add(1, Ordering::SeqCst);
        Ok(interrupts)
    }

    /// Notices them beside whoever does something about them.
    ///
    /// # Errors
    /// When the system does not tell of them.
    pub(crate) fn notice() -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            pressed: signal(SignalKind::interrupt())?,
            #[cfg(windows)]
            pressed: windows::ctrl_c()?,
            #[cfg(windows)]
            ctrl_break: windows::ctrl_break()?,
            #[cfg(windows)]
            closed: windows::ctrl_close()?,
            #[cfg(windows)]
            logged_off: windows::ctrl_logoff()?,
            #[cfg(windows)]
            shut_down: windows::ctrl_shutdown()?,
            listens: false,
        })
    }

    /// Waits for the next one. Dropping the future loses none.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        self.pressed.recv().await;
        #[cfg(windows)]
        tokio::select! {
            _ = self.pressed.recv() => {}
            _ = self.ctrl_break.recv() => {}
            _ = self.closed.recv() => {}
            _ = self.logged_off.recv() => {}
            _ = self.shut_down.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_interrupt_ends_the_program_again_once_nobody_listens_for_it() {
        let _noticed = Interrupts::notice().unwrap();
        assert!(!is_heard());
        let [first, second] = [Interrupts::listen().unwrap(), Interrupts::listen().unwrap()];
        drop(first);
        assert!(is_heard());
        drop(second);
        assert!(!is_heard());
    }
}
