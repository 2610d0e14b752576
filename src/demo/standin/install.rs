//! Puts a program called `opencode` into a directory, which is the stand-in agent.

use std::io;
use std::path::{Path, PathBuf};

/// Writes an `opencode` into `directory` (made with mode 0700 when missing) that runs `handover_program`
/// with the hidden subcommand of the stand-in agent, and gives its path. With `data_home` the agent keeps its
/// sessions there, whatever the environment says.
///
/// # Errors
/// When the file cannot be written, or a path cannot be quoted in a script of this platform.
#[cfg(unix)]
pub fn install(
    directory: &Path,
    handover_program: &Path,
    data_home: Option<&Path>,
) -> io::Result<PathBuf> {
    use std::io::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let mut script = b"#!/bin/sh\n".to_vec();
    let quote = |script: &mut Vec<u8>, path: &Path| {
        script.push(b'\'');
        for &byte in path.as_os_str().as_bytes() {
            match byte {
                b'\'' => script.extend_from_slice(br"'\''"),
                byte => script.push(byte),
            }
        }
        script.push(b'\'');
    };
    if let Some(data_home) = data_home {
        script.extend_from_slice(b"XDG_DATA_HOME=");
        quote(&mut script, data_home);
        script.extend_from_slice(b"\nexport XDG_DATA_HOME\n");
    }
    script.extend_from_slice(b"exec ");
    quote(&mut script, handover_program);
    script.extend_from_slice(b" stand-in-agent \"$@\"\n");
    let path = directory.join("opencode");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o700)
        .open(&path)?;
    file.write_all(&script)?;
    Ok(path)
}

/// Writes an `opencode.cmd` into `directory` (made when missing) that runs `handover_program` with the hidden
/// subcommand of the stand-in agent, and gives its path. With `data_home` the agent keeps its sessions there,
/// whatever the environment says.
///
/// # Errors
/// When the file cannot be written, or a path cannot be quoted in a batch file: beyond ASCII, that can only name what
/// both paths have in common, since such a file is read in the code page of whoever runs it.
#[cfg(not(unix))]
pub fn install(
    directory: &Path,
    handover_program: &Path,
    data_home: Option<&Path>,
) -> io::Result<PathBuf> {
    let plain = |path: &Path| {
        let path = from_here(directory, path);
        path.to_str()
            .filter(|text| text.is_ascii() && !text.contains(['"', '%', '\r', '\n']))
            .map(|text| text.replacen(HERE, "%~dp0", 1))
            .ok_or(io::ErrorKind::InvalidInput)
    };
    let mut script = String::new();
    if let Some(data_home) = data_home {
        script.push_str(&format!("@set \"XDG_DATA_HOME={}\"\r\n", plain(data_home)?));
    }
    script.push_str(&format!(
        "@\"{}\" stand-in-agent %*\r\n",
        plain(handover_program)?
    ));
    std::fs::create_dir_all(directory)?;
    let path = directory.join("opencode.cmd");
    std::fs::write(&path, script)?;
    Ok(path)
}

/// Stands for the directory of a batch file, in which it is `%~dp0`; no path can have it.
#[cfg(not(unix))]
const HERE: &str = "<here>\\";

/// The path from a directory on, where both are on one drive.
#[cfg(not(unix))]
fn from_here(directory: &Path, path: &Path) -> PathBuf {
    let common = directory
        .ancestors()
        .find(|ancestor| path.starts_with(ancestor) && !ancestor.as_os_str().is_empty());
    let Some(common) = common else {
        return path.to_owned();
    };
    let below = |path: &Path| path.strip_prefix(common).unwrap_or(path).to_owned();
    let mut way = PathBuf::from(HERE);
    way.extend(below(directory).components().map(|_| ".."));
    way.join(below(path))
}

#[cfg(all(test, not(unix)))]
mod tests {
    use super::*;

    #[test]
    fn a_batch_file_names_what_is_near_it_by_the_way_there() {
        let temporary = tempfile::tempdir().unwrap();
        let home = temporary.path().join("Ada Müller 漢");
        let program = Path::new(r"Q:\handover.exe");
        let data = home.join(".local").join("share");
        let installed = install(&home.join("bin"), program, Some(&data)).unwrap();
        assert_eq!(
            std::fs::read_to_string(installed).unwrap(),
            "@set \"XDG_DATA_HOME=%~dp0..\\.local\\share\"\r\n\
             @\"Q:\\handover.exe\" stand-in-agent %*\r\n"
        );
        for odd in [r"Q:\漢\handover.exe", r"Q:\100%\handover.exe"] {
            let refused = install(&home.join("bin"), Path::new(odd), None).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{odd}");
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_program_path_with_quotes_and_dollars_is_run_as_it_is() {
        let temporary = tempfile::tempdir().unwrap();
        let odd = temporary.path().join("it's $(touch x) \"odd\"");
        std::fs::create_dir(&odd).unwrap();
        let program = odd.join("echo");
        std::os::unix::fs::symlink("/bin/echo", &program).unwrap();
        let installed = install(&temporary.path().join("bin"), &program, None).unwrap();
        let output = Command::new("/bin/sh")
            .arg(installed)
            .args(["a  b", "$c"])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "stand-in-agent a  b $c\n"
        );
    }
}
