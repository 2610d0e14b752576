//! A program at a terminal of its own, which a test watches and types at.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::sshd::wait_for;

/// A bound for what a person would see at once, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(60);

/// A terminal, and the program that has it.
pub(crate) struct Terminal {
    person: File,
    /// The program's side, which keeps the terminal alive after the program.
    program: File,
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
    before: String,
}

impl Terminal {
    /// Starts a program with a new terminal as its controlling one (setsid(1)).
    pub(crate) fn start(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap();
        let program_side = OpenOptions::new()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let before = settings(&program_side);
        let end = || program_side.try_clone().unwrap();
        let child = Command::new("setsid")
            .arg("--ctty")
            .arg(program)
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .envs(environment.iter().copied())
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let person = File::from(person);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut screen, sink) = (person.try_clone().unwrap(), seen.clone());
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            // The end of the terminal is an error to whoever reads it.
            while let Ok(count @ 1..) = screen.read(&mut chunk) {
                sink.lock().unwrap().extend(chunk.get(..count).unwrap());
            }
        });
        Self {
            person,
            program: program_side,
            child,
            seen,
            before,
        }
    }

    /// What was to be seen so far.
    pub(crate) fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Waits until `words` were to be seen `times` times.
    pub(crate) fn wait_for(&self, words: &str, times: usize) {
        let found = wait_for(AT_ONCE, || self.seen().matches(words).count() >= times);
        assert!(found, "{words}: {}", self.seen());
    }

    /// Types.
    pub(crate) fn type_in(&mut self, keys: &str) {
        self.person.write_all(keys.as_bytes()).unwrap();
    }

    /// Whether what is typed is shown.
    pub(crate) fn echoes(&self) -> bool {
        let modes = tcgetattr(&self.program).unwrap().local_modes;
        modes.contains(LocalModes::ECHO)
    }

    /// The program's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end of the program, after which the terminal must be as it was before it.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let mut status = None;
        wait_for(AT_ONCE, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let Some(status) = status else {
            self.child.kill().unwrap();
            panic!("it does not end: {}", self.seen());
        };
        assert_eq!(settings(&self.program), self.before);
        (status, self.seen())
    }
}

fn settings(terminal: &File) -> String {
    format!("{:?}", tcgetattr(terminal).unwrap())
}
