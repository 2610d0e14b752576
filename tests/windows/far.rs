//! A host with the stand-in agent.
//!
//! The main type is [`Far`].

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use handover::demo::standin;

use crate::DEADLINE;
use crate::sshd::{Sshd, SshdOptions, wait_for};
use crate::wine::{LocalAgent, Windows};

/// A host with the stand-in agent, and sessions of its own.
pub(crate) struct Far(Sshd);

impl Far {
    pub(crate) fn start() -> Result<Self> {
        let sshd = Sshd::start(&SshdOptions::default());
        let program = Path::new(env!("CARGO_BIN_EXE_handover"));
        standin::install(&sshd.path("home/.opencode/bin"), program, None)?;
        std::fs::create_dir(sshd.path("home/work"))?;
        Ok(Self(sshd))
    }

    /// The user's key where OpenSSH keeps it, and the hosts file.
    pub(crate) fn introduce(&self, windows: &Windows) -> Result<()> {
        self.give_key(windows)?;
        let home = self.path("home");
        windows.write_hosts(&format!(
            "# a person's own\n[hosts.far]\nhost = \"{}@127.0.0.1\"\nport = {}\n\
             opencode = \"{}/.opencode/bin/opencode\"\ndirectory = \"{}/work\"\n",
            user(),
            self.port(),
            home.display(),
            home.display(),
        ))
    }

    /// The user's key where OpenSSH keeps it; the path of it.
    pub(crate) fn give_key(&self, windows: &Windows) -> Result<PathBuf> {
        let key = windows.profile(".ssh/id_ed25519");
        std::fs::copy(self.0.path("id_ed25519"), &key)?;
        Ok(key)
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.port()
    }

    /// A file of its directory; `home` is the user's.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    /// A file of the agent's work directory.
    pub(crate) fn in_work(&self, name: &str) -> PathBuf {
        self.0.path("home/work").join(name)
    }

    /// Waits for a file of the agent's work directory.
    pub(crate) fn has_made(&self, name: &str) -> Result<()> {
        ensure!(
            wait_for(DEADLINE, || self.in_work(name).exists()),
            "the agent did not make {name}"
        );
        Ok(())
    }
}

/// Whoever runs the tests, who is the user there too.
pub(crate) fn user() -> String {
    let output = Command::new("id").arg("-un").output();
    output.map_or_else(
        |_| "root".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// A machine and a host that it trusts.
pub(crate) fn ready(agent: LocalAgent) -> Result<(Windows, Far)> {
    let (windows, far) = (Windows::new(agent)?, Far::start()?);
    far.introduce(&windows)?;
    windows.run(&["trust", "far", "--yes"])?.expect_code(0)?;
    Ok((windows, far))
}
