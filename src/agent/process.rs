//! One run of a local program: no shell, a deadline, bounded output.
//!
//! The invariant: the program is in a process group of its own, so that Ctrl-C at the terminal reaches only us, and the
//! whole group ends when we give it up (on Windows, where groups are for Ctrl-C alone, a console of its own without a
//! window, and a job object).

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{ChildStderr, Command};

use super::AgentError;
use super::script::tail;

/// Characters of a program's error output that go into a message.
const SAID_LIMIT: usize = 600;
/// Bytes of error output that are kept.
const STDERR_LIMIT: usize = 64 << 10;

/// How one run ended.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// The end of the error output, fit for a message.
    pub(super) said: String,
}

impl Ended {
    /// The error of a run that was to end with 0.
    pub(super) fn failed(self, command: &'static str) -> AgentError {
        AgentError::LocalFailed {
            command,
            status: self.status.to_string(),
            said: self.said,
        }
    }
}

/// Runs `program` in `directory` with its output into `stdout`, always a regular file: what opencode writes into a pipe
/// can be cut when it ends. The process and what it started are ended when the future is dropped or the deadline passes.
pub(super) async fn run(
    program: &Path,
    arguments: &[OsString],
    directory: Option<&Path>,
    stdout: File,
    command: &'static str,
    limit: Duration,
) -> Result<Ended, AgentError> {
    check_arguments(program, arguments)?;
    let mut process = Command::new(program);
    process
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(directory) = directory {
        check_directory(program, directory)?;
        // The system would blame the program for it.
        if !directory.is_dir() {
            return Err(AgentError::LocalDirectory {
                path: directory.to_owned(),
            });
        }
        process.current_dir(directory);
    }
    let start_error = |source| AgentError::LocalStart {
        program: program.to_owned(),
        source,
    };
    let mut group = Group::spawn(process).map_err(start_error)?;
    let mut stderr = group.stderr();
    let work = async {
        let mut kept = Vec::new();
        let mut chunk = [0_u8; 8192];
        if let Some(stderr) = &mut stderr {
            loop {
                // A grandchild may keep the pipe open: the program's own end is what counts.
                let count = tokio::select! {
                    read = stderr.read(&mut chunk) => read.unwrap_or(0),
                    _ = group.wait() => 0,
                };
                if count == 0 {
                    break;
                }
                kept.extend_from_slice(chunk.get(..count).unwrap_or_default());
                let surplus = kept.len().saturating_sub(STDERR_LIMIT);
                kept.drain(..surplus);
            }
        }
        let status = group.wait().await?;
        if let Some(stderr) = &mut stderr {
            // What was in the pipe when it ended.
            while let Ok(Ok(count @ 1..)) =
                tokio::time::timeout(Duration::from_millis(20), stderr.read(&mut chunk)).await
            {
                kept.extend_from_slice(chunk.get(..count).unwrap_or_default());
                if kept.len() > STDERR_LIMIT {
                    break;
                }
            }
        }
        Ok::<_, std::io::Error>(Ended {
            status,
            said: tail(&kept, SAID_LIMIT),
        })
    };
    match tokio::time::timeout(limit, work).await {
        Ok(ended) => ended.map_err(start_error),
        Err(_) => Err(AgentError::LocalTimeout { command, limit }),
    }
}

/// A running program with all that it started: opencode as npm installs it is a wrapper around the one that works. All
/// of it ends when this is dropped before the program has ended.
///
/// The terminal sends Ctrl-C to every process of its foreground group, and an import that it ended would be half an
/// import: so the program has a group of its own.
#[cfg(unix)]
struct Group(tokio::process::Child);

#[cfg(unix)]
impl Group {
    fn spawn(mut process: Command) -> std::io::Result<Self> {
        process.process_group(0).spawn().map(Self)
    }

    fn stderr(&mut self) -> Option<ChildStderr> {
        self.0.stderr.take()
    }

    async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.0.wait().await
    }
}

#[cfg(unix)]
impl Drop for Group {
    fn drop(&mut self) {
        // A program that was waited for has no id any more, and its number may be a stranger's by now.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id.and_then(rustix::process::Pid::from_raw) {
            // Gone already is as well.
            let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
        }
    }
}

/// As on Unix, with a job object that holds all that the program started.
#[cfg(windows)]
#[derive(Debug)]
struct Group(Box<dyn process_wrap::tokio::ChildWrapper>);

#[cfg(windows)]
impl Group {
    fn spawn(process: Command) -> std::io::Result<Self> {
        let mut process = process_wrap::tokio::CommandWrap::from(process);
        // The second one adds to the flag that the first one sets, and the first one lets the program go on.
        process
            .wrap(process_wrap::tokio::JobObject)
            .wrap(OwnConsole);
        process.spawn().map(Self)
    }

    fn stderr(&mut self) -> Option<ChildStderr> {
        self.0.stderr().take()
    }

    async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        // The job's own wait is for the last of its processes.
        self.0.inner_mut().wait().await
    }
}

#[cfg(windows)]
impl Drop for Group {
    fn drop(&mut self) {
        if !matches!(self.0.inner_mut().try_wait(), Ok(Some(_))) {
            // Gone already is as well.
            let _ = self.0.start_kill();
        }
    }
}

/// A console of its own, without a window: the end of ours (its window is closed, the user logs off), Ctrl-Break and
/// Ctrl-C go to all that share it.
#[cfg(windows)]
#[derive(Debug)]
struct OwnConsole;

#[cfg(windows)]
impl process_wrap::tokio::CommandWrapper for OwnConsole {
    fn pre_spawn(
        &mut self,
        process: &mut Command,
        _core: &process_wrap::tokio::CommandWrap,
    ) -> std::io::Result<()> {
        // https://learn.microsoft.com/en-us/windows/win32/procthread/process-creation-flags
        const SUSPENDED: u32 = 0x4;
        const NEW_PROCESS_GROUP: u32 = 0x200;
        const NO_WINDOW: u32 = 0x0800_0000;
        process.creation_flags(SUSPENDED | NEW_PROCESS_GROUP | NO_WINDOW);
        Ok(())
    }
}

/// A `.cmd` or `.bat` is run by the Windows command interpreter.
fn is_command_script(program: &Path) -> bool {
    program.extension().is_some_and(|extension| {
        extension.eq_ignore_ascii_case("cmd") || extension.eq_ignore_ascii_case("bat")
    })
}

/// The command interpreter cannot work in `\\server\share` or `\\?\C:\x`: it goes to the Windows directory instead, and
/// what is imported there would be bound to that.
pub(super) fn check_directory(program: &Path, directory: &Path) -> Result<(), AgentError> {
    let is_separator = |byte: &u8| matches!(byte, b'\\' | b'/');
    let start = directory.as_os_str().as_encoded_bytes().get(..2);
    if is_command_script(program) && start.is_some_and(|two| two.iter().all(is_separator)) {
        return Err(AgentError::UnsafeDirectory {
            path: directory.to_owned(),
            program: program.to_owned(),
        });
    }
    Ok(())
}

/// The command interpreter acts on characters in the arguments of a script.
pub(super) fn check_arguments(program: &Path, arguments: &[OsString]) -> Result<(), AgentError> {
    if !is_command_script(program) {
        return Ok(());
    }
    for argument in arguments {
        let text = argument.to_str();
        let acted_upon = |c: char| c.is_control() || "%!^&|<>\"".contains(c);
        if text.is_none_or(|text| text.contains(acted_upon)) {
            return Err(AgentError::UnsafeArgument {
                argument: argument.to_string_lossy().chars().take(200).collect(),
                program: program.to_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_script_gets_no_argument_that_it_would_act_upon() {
        let check = |program: &str, argument: &str| {
            check_arguments(Path::new(program), &[argument.into()]).is_ok()
        };
        assert!(check("opencode.CMD", "ses_1a"));
        assert!(check("opencode", "a&b"));
        for bad in ["a&b", "%PATH%", "a\"b", "a|b", "a^b", "a\nb"] {
            assert!(!check("opencode.cmd", bad), "{bad:?} was passed on");
        }
    }

    #[test]
    fn a_command_script_is_not_run_where_it_would_work_in_another_directory() {
        let refused = |program: &str, directory: &str| {
            let result = check_directory(Path::new(program), Path::new(directory));
            matches!(result, Err(AgentError::UnsafeDirectory { .. }))
        };
        for network in [
            r"\\server\share\project",
            "//server/share",
            r"\\?\C:\project",
            r"\\",
        ] {
            assert!(refused("npm/opencode.cmd", network), "{network}");
            assert!(refused("opencode.BAT", network), "{network}");
            assert!(!refused("opencode.exe", network), "{network}");
        }
        for plain in [r"C:\project", "/project", r"\project", "C:/a//b", "x", ""] {
            assert!(!refused("opencode.cmd", plain), "{plain}");
        }
    }

    #[tokio::test]
    async fn nothing_is_run_in_a_directory_that_a_command_script_would_leave() {
        let result = run(
            Path::new("opencode.cmd"),
            &[],
            Some(Path::new(r"\\server\share")),
            tempfile::tempfile().unwrap(),
            "import",
            Duration::from_secs(60),
        )
        .await;
        assert!(matches!(result, Err(AgentError::UnsafeDirectory { .. })));
    }

    #[cfg(unix)]
    async fn run_sh(script: &str, directory: Option<&Path>) -> (Result<Ended, AgentError>, String) {
        use std::io::{Read, Seek};
        let mut file = tempfile::tempfile().unwrap();
        let arguments = ["-c".into(), script.into()];
        let ended = run(
            Path::new("/bin/sh"),
            &arguments,
            directory,
            file.try_clone().unwrap(),
            "test",
            Duration::from_secs(60),
        )
        .await;
        let mut said = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut said).unwrap();
        (ended, said)
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn ctrl_c_at_the_terminal_does_not_reach_the_program() {
        let (ended, said) = run_sh("echo $$; ps -o pgid= -p $$", None).await;
        assert!(ended.unwrap().status.success());
        let ids: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(ids.len(), 2, "{said}");
        assert_eq!(ids[0], ids[1], "it leads a group of its own");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_program_that_is_given_up_ends_with_all_that_it_started() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().to_owned();
        let work = tokio::spawn(async move {
            run_sh(
                "sleep 300 & echo $! >part; mv part child; wait",
                Some(&directory),
            )
            .await
        });
        let wait = |what: &'static str, done: &dyn Fn() -> bool| {
            let end = std::time::Instant::now() + Duration::from_secs(30);
            while !done() {
                assert!(std::time::Instant::now() < end, "{what}");
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        let file = root.path().join("child");
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let child = std::fs::read_to_string(file).unwrap();
        work.abort();
        assert!(work.await.err().unwrap().is_cancelled());
        wait("its child lives on", &|| {
            let output = std::process::Command::new("ps")
                .args(["-o", "stat=", "-p", child.trim()])
                .output()
                .unwrap();
            let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            state.is_empty() || state.starts_with('Z')
        });
    }

    #[cfg(windows)]
    async fn run_cmd(
        script: &Path,
        arguments: &[&str],
        directory: Option<&Path>,
    ) -> (Result<Ended, AgentError>, String) {
        use std::io::{Read, Seek};
        let mut file = tempfile::tempfile().unwrap();
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let stdout = file.try_clone().unwrap();
        let limit = Duration::from_secs(120);
        let ended = run(script, &arguments, directory, stdout, "test", limit).await;
        let mut said = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut said).unwrap();
        (ended, said)
    }

    /// A command script in a directory whose name has what a careless command line would break at.
    #[cfg(windows)]
    fn command_script(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a b & (c)");
        std::fs::create_dir(&directory).unwrap();
        let script = directory.join("opencode.cmd");
        std::fs::write(&script, text).unwrap();
        (root, script)
    }

    #[cfg(windows)]
    #[tokio::test]
    async fn a_command_script_gets_its_arguments_as_they_are() {
        let (_root, script) = command_script("@echo [%~1] [%~2] [%~3]\r\n@exit /b 3\r\n");
        let arguments = ["export", "ses_1a", "two words"];
        let (ended, said) = run_cmd(&script, &arguments, None).await;
        assert_eq!(ended.unwrap().status.code(), Some(3));
        assert_eq!(said.trim_end(), "[export] [ses_1a] [two words]");
        let (refused, said) = run_cmd(&script, &["a&echo b"], None).await;
        assert!(matches!(refused, Err(AgentError::UnsafeArgument { .. })));
        assert_eq!(said, "");
    }

    #[cfg(windows)]
    #[tokio::test]
    async fn a_command_script_that_is_given_up_ends_with_what_it_started() {
        use std::os::windows::fs::OpenOptionsExt as _;
        // The script is a shell that waits for a program, and the program has the file open.
        let (root, script) =
            command_script("@echo begun>held\r\n@ping -n 600 127.0.0.1 >>held\r\n");
        let (directory, held) = (root.path().to_owned(), root.path().join("held"));
        let work = tokio::spawn(async move { run_cmd(&script, &[], Some(&directory)).await });
        let is_free = || {
            let mut alone = std::fs::OpenOptions::new();
            alone.read(true).share_mode(0).open(&held).is_ok()
        };
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while std::fs::metadata(&held).map_or(0, |file| file.len()) == 0 || is_free() {
            assert!(std::time::Instant::now() < end, "it never began");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        work.abort();
        assert!(work.await.err().unwrap().is_cancelled());
        while !is_free() {
            assert!(std::time::Instant::now() < end, "what it started lives on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn a_directory_that_is_gone_is_named_and_not_the_program() {
        let gone = Some(Path::new("/nowhere/project"));
        #[cfg(unix)]
        let (ended, _) = run_sh("true", gone).await;
        #[cfg(windows)]
        let (_root, script) = command_script("@exit\r\n");
        #[cfg(windows)]
        let (ended, _) = run_cmd(&script, &[], gone).await;
        let error = ended.err().unwrap();
        assert_eq!(
            error.to_string(),
            "the directory /nowhere/project is not there"
        );
    }
}
