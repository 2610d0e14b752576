//! What identifies this machine and its agent's database, to notice a host that is this very machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Probe;

/// This machine and its agent's database, in the terms of a [`Probe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalIdentity {
    machine: Option<String>,
    boot: Option<String>,
    data_dir: Option<PathBuf>,
    data_inode: Option<u64>,
}

impl LocalIdentity {
    /// Reads it; what cannot be read stays unknown.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn read() -> Self {
        // As the probe's script resolves it.
        let home = directories::BaseDirs::new();
        let home = home.as_ref().map(directories::BaseDirs::home_dir);
        let data_dir = data_directory(std::env::var_os("XDG_DATA_HOME"), home)
            .and_then(|path| path.canonicalize().ok());
        Self {
            machine: machine().await,
            boot: boot().await,
            data_inode: data_dir.as_deref().and_then(inode),
            data_dir,
        }
    }

    /// Whether the host's agent keeps its sessions in the very database of the agent here.
    ///
    /// Machines made from one image have one machine id and the same inodes: they are told apart by their boots.
    #[must_use]
    pub fn same_database(&self, probe: &Probe) -> bool {
        let there = probe.data_dir.as_ref().map(|path| Path::new(path.as_str()));
        self.same_machine(probe)
            && self.data_inode.is_some()
            && self.data_inode == probe.data_inode
            && self.data_dir.as_deref() == there
    }

    /// Whether the host is this machine, whatever its agent's database is.
    #[must_use]
    pub fn same_machine(&self, probe: &Probe) -> bool {
        self.machine.as_deref() == Some(probe.machine.as_str()) && self.may_be_same_boot(probe)
    }

    /// On Linux the probe gives the kernel's boot id with the start time of pid 1, which is another one in each
    /// container: the id is what is one on one kernel.
    fn may_be_same_boot(&self, probe: &Probe) -> bool {
        match (&self.boot, probe.boot.split(':').next()) {
            (Some(here), Some(there)) if !there.is_empty() => here == there,
            _ => true,
        }
    }
}

/// opencode keeps the XDG layout on every platform; `xdg` is the value of `XDG_DATA_HOME`.
fn data_directory(xdg: Option<OsString>, home: Option<&Path>) -> Option<PathBuf> {
    let data = match xdg.filter(|value| !value.is_empty()) {
        Some(value) => PathBuf::from(value),
        None => home?.join(".local").join("share"),
    };
    Some(data.join("opencode"))
}

#[cfg(unix)]
fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    Some(std::fs::metadata(path).ok()?.ino())
}

#[cfg(not(unix))]
fn inode(_path: &Path) -> Option<u64> {
    None
}

/// In the order of the probe's script.
#[cfg(unix)]
async fn machine() -> Option<String> {
    for file in ["/etc/machine-id", "/var/lib/dbus/machine-id"] {
        if let Ok(text) = tokio::fs::read_to_string(file).await
            && !text.is_empty()
        {
            return Some(text.lines().next().unwrap_or_default().to_owned());
        }
    }
    for name in [
        "kern.uuid",
        "kern.hostuuid",
        "machdep.dmi.system-uuid",
        "hw.uuid",
    ] {
        let text = sysctl(name).await;
        if !text.is_empty() && !text.contains("00000000-0000-0000") {
            return Some(text);
        }
    }
    Some(format!(
        "name:{}",
        gethostname::gethostname().to_string_lossy()
    ))
}

#[cfg(unix)]
async fn sysctl(name: &str) -> String {
    let output = tokio::process::Command::new("sysctl")
        .args(["-n", name])
        .output()
        .await;
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}

#[cfg(unix)]
async fn boot() -> Option<String> {
    let text = match tokio::fs::read_to_string("/proc/sys/kernel/random/boot_id").await {
        Ok(text) => text.trim().to_owned(),
        Err(_) => sysctl("kern.bootsessionuuid").await,
    };
    (!text.is_empty()).then_some(text)
}

#[cfg(not(unix))]
async fn boot() -> Option<String> {
    None
}

#[cfg(not(unix))]
async fn machine() -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_keeps_its_sessions_below_the_home_directory_on_every_platform() {
        let home = if cfg!(windows) {
            r"C:\Users\Ada Müller"
        } else {
            "/Users/ada"
        };
        let home = Path::new(home);
        let usual = home.join(".local").join("share").join("opencode");
        let found = |xdg: Option<&str>, home| data_directory(xdg.map(OsString::from), home);
        assert_eq!(found(None, Some(home)), Some(usual.clone()));
        assert_eq!(found(Some(""), Some(home)), Some(usual));
        let elsewhere = Path::new("data").join("opencode");
        assert_eq!(found(Some("data"), Some(home)), Some(elsewhere));
        assert_eq!(found(None, None), None);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn machines_of_one_image_are_two_and_one_machine_is_one() {
        use super::super::stub::Host;
        let host = Host::new("/bin/dash");
        std::fs::create_dir_all(host.home().join(".local/share/opencode")).unwrap();
        let probe = host.probe();
        let read = LocalIdentity::read().await;
        assert!(read.same_machine(&probe), "{read:?} and {probe:?}");
        let data_dir = host.home().join(".local/share/opencode");
        let here = LocalIdentity {
            data_inode: inode(&data_dir),
            data_dir: Some(data_dir),
            ..read
        };
        assert!(here.same_database(&probe));
        let cloned = LocalIdentity {
            boot: Some("0d1e6d0c-5f3c-4c7e-9d5a-000000000000".to_owned()),
            ..here.clone()
        };
        assert!(!cloned.same_machine(&probe) && !cloned.same_database(&probe));
        let unknown = LocalIdentity {
            boot: None,
            ..here.clone()
        };
        assert!(unknown.same_database(&probe), "nothing tells them apart");
        let elsewhere = LocalIdentity {
            data_dir: Some(host.home()),
            ..here.clone()
        };
        assert!(!elsewhere.same_database(&probe));
    }
}
