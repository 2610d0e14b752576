//! The machine there, which is this one: a home directory of its own, with the stand-in agent in it.
//!
//! The main type is [`Machine`]. On Windows `machine_elsewhere.rs` is in the place of this file, which is then part of
//! the program that plays the machine.

use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use handover::demo::server::DemoServer;
use handover::demo::server::ServerOptions;
use handover::demo::standin;
use tempfile::TempDir;

/// A machine with a home directory, and a directory `jail` beside that.
pub(crate) struct Machine {
    root: TempDir,
}

impl Machine {
    /// Makes one, whose agent is this program.
    pub(crate) fn new(program: &Path) -> Self {
        let root = tempfile::Builder::new()
            .prefix("handover-test-there-")
            .tempdir()
            .unwrap();
        let machine = Self { root };
        let bin = machine.home().join(".opencode/bin");
        standin::install(&bin, program, None).unwrap();
        std::fs::create_dir(machine.reach("jail")).unwrap();
        machine
    }

    /// The home directory, as the machine names it.
    pub(crate) fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// How a path beside the home directory is reached from here.
    pub(crate) fn reach(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Where the processes of the machine are shown.
    pub(crate) fn processes() -> &'static Path {
        Path::new("/proc")
    }

    /// Runs a program there to its end; whether it has succeeded.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> bool {
        let status = Command::new(program).args(arguments).status();
        status.unwrap().success()
    }

    /// Starts the SSH server.
    pub(crate) async fn start(&self, options: ServerOptions) -> DemoServer {
        DemoServer::start(options).await.unwrap()
    }
}
