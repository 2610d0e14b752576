//! What asks the program to stop.
//!
//! Main type: [`Interrupts`]. Invariant: from its making on, none of them ends the process by itself.

use std::io;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
#[cfg(windows)]
use tokio::signal::windows;

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
}

impl Interrupts {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the system does not tell of them.
    pub(crate) fn listen() -> io::Result<Self> {
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
