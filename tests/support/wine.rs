//! A Windows machine of a person who has `handover.exe`, played by Wine.
//!
//! The main type is [`Windows`]: a Wine prefix of its own, whose user has a profile directory with a space and letters
//! beyond ASCII in its name. Nothing of this machine's configuration reaches what runs in it.

use std::ffi::{OsStr, OsString};
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::support::client::{Finished, finish};

/// The directory with `handover.exe`, the stand-in `opencode.exe`, and `console.exe`, which watches a console.
const PROGRAMS: &str = "HANDOVER_TEST_WINDOWS_BIN";
/// A prefix that `wineboot` made, with the DLL that this Wine lacks.
const PREFIX: &str = "HANDOVER_TEST_WINDOWS_PREFIX";

/// What runs Wine.
const WINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/windows/wine");
/// The user.
const USER: &str = "Ada Müller 漢";
/// Where the programs are.
const INSTALLED: &str = "Program Files/handover";

/// The command script that npm writes for a package whose program is an `.exe`.
const NPM_SCRIPT: &str = "@ECHO off\r\nGOTO start\r\n:find_dp0\r\nSET dp0=%~dp0\r\nEXIT /b\r\n:start\r\nSETLOCAL\r\n\
    CALL :find_dp0\r\n\"%dp0%\\node_modules\\opencode-ai\\bin\\opencode.exe\"   %*\r\n";

/// How the local agent is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LocalAgent {
    /// `opencode.exe`, found in the search path.
    Exe,
    /// `opencode.cmd` as npm writes it, found in the search path.
    Cmd,
}

/// A Windows machine; all that runs on it ends with it.
pub(crate) struct Windows {
    root: TempDir,
    agent: LocalAgent,
}

impl Windows {
    /// A machine with `handover.exe` and a local agent.
    pub(crate) fn new(agent: LocalAgent) -> Result<Self> {
        let named = |variable: &str| -> Result<PathBuf> {
            let path = std::env::var_os(variable).map(PathBuf::from);
            path.filter(|path| path.is_dir()).with_context(|| {
                format!("{variable} names no directory: run these tests through tests/run")
            })
        };
        let (programs, base) = (named(PROGRAMS)?, named(PREFIX)?);
        let root = tempfile::Builder::new()
            .prefix("handover-wine-")
            .tempdir()?;
        let windows = Self { root, agent };
        let prefix = windows.root.path().join("prefix");
        let drive = prefix.join("drive_c");
        std::fs::create_dir_all(drive.join(INSTALLED))?;
        std::fs::create_dir_all(prefix.join("dosdevices"))?;
        std::fs::create_dir_all(windows.root.path().join("unix-home"))?;
        symlink("../drive_c", prefix.join("dosdevices/c:"))?;
        symlink("/", prefix.join("dosdevices/z:"))?;
        for file in ["system.reg", "user.reg", "userdef.reg", ".update-timestamp"] {
            std::fs::copy(base.join(file), prefix.join(file)).with_context(|| file.to_owned())?;
        }
        // Hundreds of megabytes that nobody writes to.
        symlink(base.join("drive_c/windows"), drive.join("windows"))?;
        for directory in [
            "AppData/Roaming",
            "AppData/Local/Microsoft/WindowsApps",
            "Temp",
            ".ssh",
            "my project",
        ] {
            std::fs::create_dir_all(windows.profile(directory))?;
        }
        // A real profile lets nobody else in. Nor is this one's group or world to have anything to hand on: Wine merges
        // that into lists that are to inherit nothing.
        for private in ["AppData/Roaming", "AppData/Local", "Temp"] {
            std::fs::set_permissions(windows.profile(private), Permissions::from_mode(0o700))?;
        }
        for program in ["handover.exe", "console.exe"] {
            std::fs::copy(programs.join(program), windows.installed(program))?;
        }
        let tools = windows.tools();
        match agent {
            LocalAgent::Exe => {
                std::fs::create_dir_all(&tools)?;
                for program in ["opencode.exe", "handover.exe"] {
                    std::fs::copy(programs.join(program), tools.join(program))?;
                }
            }
            LocalAgent::Cmd => {
                let inner = tools.join("node_modules/opencode-ai/bin");
                std::fs::create_dir_all(&inner)?;
                for program in ["opencode.exe", "handover.exe"] {
                    std::fs::copy(programs.join(program), inner.join(program))?;
                }
                // npm puts a shell script of the same name beside it, which Windows cannot run.
                std::fs::write(tools.join("opencode"), "#!/bin/sh\nexit 1\n")?;
                std::fs::write(tools.join("opencode.cmd"), NPM_SCRIPT)?;
            }
        }
        Ok(windows)
    }

    /// A path below the user's profile directory.
    pub(crate) fn profile(&self, path: &str) -> PathBuf {
        self.root
            .path()
            .join("prefix/drive_c/users")
            .join(USER)
            .join(path)
    }

    /// A path below the profile directory, as a Windows program names it.
    pub(crate) fn profile_there(path: &str) -> String {
        format!("C:\\users\\{USER}\\{}", path.replace('/', "\\"))
    }

    /// A path below the directory of `handover.exe`.
    pub(crate) fn installed(&self, name: &str) -> PathBuf {
        self.root
            .path()
            .join("prefix/drive_c")
            .join(INSTALLED)
            .join(name)
    }

    /// The directory with the local agent.
    fn tools(&self) -> PathBuf {
        self.profile("AppData/Roaming/npm")
    }

    /// The program of the local agent itself.
    pub(crate) fn opencode(&self) -> PathBuf {
        match self.agent {
            LocalAgent::Exe => self.tools().join("opencode.exe"),
            LocalAgent::Cmd => self
                .tools()
                .join("node_modules/opencode-ai/bin/opencode.exe"),
        }
    }

    /// A command that runs a Windows program in the project's directory.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, program: &Path, arguments: &[A]) -> Command {
        let mut command = Command::new(WINE);
        self.environment(&mut command);
        command
            .arg(program)
            .args(arguments)
            .current_dir(self.profile("my project"))
            .stdin(Stdio::null());
        command
    }

    fn environment(&self, command: &mut Command) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.root.path().join("unix-home"))
            .env("USER", USER)
            .env("LANG", "C.UTF-8")
            .env("RUST_BACKTRACE", "1")
            .env("WINEPREFIX", self.root.path().join("prefix"))
            .env("WINEDEBUG", "-all")
            .env("WINEDLLOVERRIDES", "mscoree,mshtml,winemenubuilder.exe=")
            .env(
                "WINEPATH",
                ["AppData/Roaming/npm", "AppData/Local/Microsoft/WindowsApps"]
                    .map(Self::profile_there)
                    .join(";"),
            );
    }

    /// Runs `handover.exe` with these arguments in the project's directory, to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Finished> {
        finish(self.whole(arguments), None, self.root.path())
    }

    /// The same, with one more variable.
    pub(crate) fn run_with(
        &self,
        (name, value): (&str, &str),
        arguments: &[&str],
    ) -> Result<Finished> {
        let mut command = self.whole(arguments);
        command.env(name, value);
        finish(command, None, self.root.path())
    }

    /// A command that runs `handover.exe` to its end, by console.exe, which knows the exit code also where Wine fails
    /// in the end.
    fn whole(&self, arguments: &[&str]) -> Command {
        self.command(&self.installed("console.exe"), &self.words(arguments))
    }

    /// `handover.exe` with these arguments, in the console that its standard streams are.
    pub(crate) fn at_console(&self, arguments: &[&str], output: &Path) -> Result<Command> {
        let console = self.installed("console.exe");
        self.in_console(console.as_os_str(), &self.words(arguments), output)
    }

    /// What console.exe is told.
    fn words(&self, arguments: &[&str]) -> Vec<OsString> {
        let mut words = ["-", "none", "-"].map(OsString::from).to_vec();
        words.push(self.installed("handover.exe").into());
        words.extend(arguments.iter().map(OsString::from));
        words
    }

    /// Starts `handover.exe` with these arguments, its output going to the file `output`.
    pub(crate) fn start(&self, arguments: &[&str], output: &Path) -> Result<Child> {
        spawn(self.whole(arguments), output)
    }

    /// The same, to be killed: the process is that of `handover.exe` itself.
    pub(crate) fn start_to_kill(&self, arguments: &[&str], output: &Path) -> Result<Child> {
        let command = self.command(&self.installed("handover.exe"), arguments);
        spawn(command, output)
    }

    /// Starts `handover.exe` with these arguments, its standard input a pipe, its output going to the file `output`.
    pub(crate) fn start_with_input(&self, arguments: &[&str], output: &Path) -> Result<Child> {
        let mut command = self.whole(arguments);
        command.stdin(Stdio::piped());
        spawn(command, output)
    }

    /// A command that runs a Windows program in a console, which `script` plays, in the project's directory; its standard
    /// input is the keyboard, and what paints the console goes to the file `output`.
    pub(crate) fn in_console<A: AsRef<OsStr>>(
        &self,
        program: &OsStr,
        arguments: &[A],
        output: &Path,
    ) -> Result<Command> {
        let mut command = Command::new("script");
        self.environment(&mut command);
        // Return is a key of its own; Ctrl-C is a signal, which Wine hands on as its event. The words go by the
        // environment, since `script` hands its command to a shell.
        let mut line = String::from("stty -echo -icrnl cols 160 rows 50 && exec");
        let arguments = arguments.iter().map(AsRef::as_ref);
        let words = [OsStr::new(WINE), program].into_iter().chain(arguments);
        for (number, word) in words.enumerate() {
            line.push_str(&format!(" \"$HANDOVER_WORD_{number}\""));
            command.env(format!("HANDOVER_WORD_{number}"), word);
        }
        command
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm")
            .args(["-q", "-e", "-c", &line, "/dev/null"])
            .current_dir(self.profile("my project"))
            .stdin(Stdio::piped())
            .stdout(std::fs::File::create(output)?)
            .stderr(Stdio::null());
        Ok(command)
    }

    /// Makes a session of one turn in the project's directory, and gives its id.
    pub(crate) fn new_session(&self) -> Result<String> {
        let command = self.command(
            &self.opencode(),
            &["run", "--format", "json", "hello there"],
        );
        let finished = finish(command, None, self.root.path())?.expect_code(0)?;
        let events = finished.events()?;
        let session = events
            .iter()
            .find_map(|event| event["sessionID"].as_str())
            .with_context(|| finished.stdout.clone())?;
        Ok(session.to_owned())
    }

    /// The local agent's export of a session.
    pub(crate) fn export(&self, session: &str) -> Result<serde_json::Value> {
        let command = self.command(&self.opencode(), &["export", session]);
        let finished = finish(command, None, self.root.path())?.expect_code(0)?;
        serde_json::from_str(&finished.stdout).context("the export is no JSON")
    }

    /// Writes `hosts.toml` where Windows keeps it, as a Windows editor would: a byte order mark, and `\r\n`.
    pub(crate) fn write_hosts(&self, text: &str) -> Result<()> {
        let directory = self.profile("AppData/Roaming/handover/config");
        std::fs::create_dir_all(&directory)?;
        std::fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
        let text = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        std::fs::write(directory.join("hosts.toml"), text).context("write hosts.toml")
    }

    /// A file for what a program prints.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        for argument in ["-k", "-w"] {
            let mut command = Command::new("wineserver");
            self.environment(&mut command);
            let ended = command
                .arg(argument)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            drop(ended);
        }
    }
}

fn spawn(mut command: Command, output: &Path) -> Result<Child> {
    let file = std::fs::File::create(output)?;
    command.stdout(file).stderr(Stdio::null());
    command.spawn().context("start wine")
}

/// Fails unless the two sets of characters that steer a terminal are absent.
pub(crate) fn without_escapes(text: &str) -> Result<()> {
    ensure!(!text.contains('\u{1b}'), "an escape sequence in {text:?}");
    Ok(())
}
