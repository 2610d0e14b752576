//! What this machine's platform has its own way for.

use std::ffi::OsString;
use std::path::Path;

/// The program.
#[cfg(unix)]
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_handover");
/// The program, which was built on the machine whose root is this drive.
#[cfg(windows)]
pub(crate) const PROGRAM: &str = concat!("Z:", env!("CARGO_BIN_EXE_handover"));

/// What every program needs to find in its environment, with this home directory.
#[cfg(unix)]
pub(crate) fn environment(home: &Path) -> Vec<(&'static str, OsString)> {
    vec![
        ("HOME", home.as_os_str().to_owned()),
        ("PATH", OsString::from("/usr/local/bin:/usr/bin:/bin")),
    ]
}

/// What every program needs to find in its environment, with this profile directory.
#[cfg(windows)]
pub(crate) fn environment(home: &Path) -> Vec<(&'static str, OsString)> {
    let mut environment = vec![
        ("USERPROFILE", home.as_os_str().to_owned()),
        ("APPDATA", home.join("AppData/Roaming").into_os_string()),
        ("LOCALAPPDATA", home.join("AppData/Local").into_os_string()),
    ];
    for system in ["SystemRoot", "ComSpec", "PATH", "PATHEXT", "TEMP", "TMP"] {
        environment.extend(std::env::var_os(system).map(|value| (system, value)));
    }
    environment
}

/// A program that says nothing and fails, in this directory; and how its end is told.
pub(crate) fn failing_program(directory: &Path) -> (std::path::PathBuf, &'static str) {
    if cfg!(windows) {
        let program = directory.join("false.cmd");
        std::fs::write(&program, "@exit 1\r\n").unwrap();
        (program, "(exit code: 1)")
    } else {
        ("/bin/false".into(), "(exit status: 1)")
    }
}
