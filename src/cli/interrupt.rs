//! What asks the program to stop.
//!
//! The main function is [`interrupted`].

use std::io;

/// Waits for Ctrl-C; on Windows also for Ctrl-Break, and for the end of the console, of the logon or of the system,
/// after which some seconds are left. Dropping the future loses nothing that comes later, and from the first call on
/// none of them ends the process by itself.
///
/// # Errors
/// When the system does not tell of them.
#[cfg(windows)]
pub(crate) async fn interrupted() -> io::Result<()> {
    use tokio::signal::windows;
    let mut ctrl_break = windows::ctrl_break()?;
    let mut closed = windows::ctrl_close()?;
    let mut logged_off = windows::ctrl_logoff()?;
    let mut shut_down = windows::ctrl_shutdown()?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed,
        _ = ctrl_break.recv() => Ok(()),
        _ = closed.recv() => Ok(()),
        _ = logged_off.recv() => Ok(()),
        _ = shut_down.recv() => Ok(()),
    }
}

/// Waits for Ctrl-C. Dropping the future loses nothing that comes later, and from the first call on it does not end the
/// process by itself.
///
/// # Errors
/// When the system does not tell of it.
#[cfg(not(windows))]
pub(crate) async fn interrupted() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}
