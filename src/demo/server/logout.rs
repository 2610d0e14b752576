//! A host that ends an account's processes when its last connection closes, as `KillUserProcesses=yes` of logind does.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// Ends every process whose environment has this home directory; does nothing where there is no `/proc`.
///
/// Only processes that the server started have it: the home is the server's own.
pub(super) fn end_processes(home: &Path) {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return;
    };
    let mark = [b"HOME=", home.as_os_str().as_bytes()].concat();
    for process in processes.flatten() {
        let pid = process.file_name();
        let Some(pid) = number(&pid).filter(|pid| pid.as_raw_pid() != own_pid()) else {
            continue;
        };
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        let ours = environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == mark);
        if ours && let Err(error) = kill_process(pid, Signal::KILL) {
            tracing::debug!(%error, "a process had ended already");
        }
    }
}

fn number(name: &OsStr) -> Option<Pid> {
    Pid::from_raw(name.to_str()?.parse().ok()?)
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}
