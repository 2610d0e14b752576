//! Where things are on this machine.
//!
//! The main type is [`Places`]. Nothing is created or read here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::error::HostsError;

/// The name of our directory below the platform's.
const NAME: &str = "handover";
/// The variable that names another ssh_config.
pub(super) const SSH_CONFIG: &str = "HANDOVER_SSH_CONFIG";

/// The directories of this machine that matter, all absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Places {
    /// The home directory.
    pub home: PathBuf,
    /// Where our configuration is: `HANDOVER_CONFIG_DIR`, else the platform's place
    /// (`$XDG_CONFIG_HOME/handover` or `~/.config/handover`; on macOS
    /// `~/Library/Application Support/handover`; on Windows `%APPDATA%\handover\config`).
    pub config_dir: PathBuf,
    /// Where our state is: `HANDOVER_STATE_DIR`, else the platform's place
    /// (`$XDG_STATE_HOME/handover` or `~/.local/state/handover`; on macOS
    /// `~/Library/Application Support/handover`; on Windows `%LOCALAPPDATA%\handover`).
    pub state_dir: PathBuf,
    /// Where hosts files of opencode-remote-login are looked for, the first one first:
    /// `OPENCODE_CONFIG_DIR` alone, or `$XDG_CONFIG_HOME/opencode` (`~/.config/opencode`) on every
    /// platform and after it, on macOS and Windows, that plugin's own place.
    pub opencode_config_dirs: Vec<PathBuf>,
    /// The user's OpenSSH configuration, `~/.ssh/config`, or the file that `HANDOVER_SSH_CONFIG` names in its place
    /// (`none`: none, and not the system's either). `None`: none is read.
    pub ssh_config: Option<PathBuf>,
    /// Whether `HANDOVER_SSH_CONFIG` names that file, which must be there then: without it hosts would be reached and
    /// trusted as nobody has said.
    pub ssh_config_is_named: bool,
    /// The system's OpenSSH configuration, `/etc/ssh/ssh_config`, on Windows `%ProgramData%\ssh\ssh_config`. `None`,
    /// as with `HANDOVER_SSH_CONFIG`: none is read.
    pub system_ssh_config: Option<PathBuf>,
    /// The working directory, whose own hosts files are not trusted.
    pub project_dir: PathBuf,
}

/// Whose conventions hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Platform {
    Xdg,
    MacOs,
    Windows,
}

impl Platform {
    const THIS: Self = if cfg!(windows) {
        Self::Windows
    } else if cfg!(target_os = "macos") {
        Self::MacOs
    } else {
        Self::Xdg
    };
}

impl Places {
    /// The places of this process: its environment, its working directory, and the system where the
    /// environment is silent.
    ///
    /// # Errors
    ///
    /// [`HostsError::NoHome`] and [`HostsError::NoWorkingDirectory`].
    pub fn from_env() -> Result<Self, HostsError> {
        let project_dir = std::env::current_dir().map_err(HostsError::NoWorkingDirectory)?;
        let system = directories::BaseDirs::new();
        let lookup = |key: &str| {
            let given = std::env::var_os(key).filter(|value| !value.is_empty());
            given.or_else(|| {
                let system = system.as_ref()?;
                let directory = match key {
                    "HOME" | "USERPROFILE" => system.home_dir(),
                    "APPDATA" => system.config_dir(),
                    "LOCALAPPDATA" => system.data_local_dir(),
                    _ => return None,
                };
                Some(directory.as_os_str().to_owned())
            })
        };
        Self::from_lookup(lookup, &project_dir)
    }

    /// The places as an environment names them; `project_dir` is the working directory, absolute.
    ///
    /// An empty variable counts as unset, and so does a relative one of XDG (as its specification
    /// says); any other relative path is one below `project_dir`.
    ///
    /// # Errors
    ///
    /// [`HostsError::NoHome`], when the environment does not name it.
    pub fn from_lookup(
        lookup: impl Fn(&str) -> Option<OsString>,
        project_dir: &Path,
    ) -> Result<Self, HostsError> {
        Self::on(Platform::THIS, lookup, project_dir)
    }

    fn on(
        platform: Platform,
        lookup: impl Fn(&str) -> Option<OsString>,
        project_dir: &Path,
    ) -> Result<Self, HostsError> {
        let variable = |key: &str| lookup(key).filter(|value| !value.is_empty());
        let directory = |key: &str| variable(key).map(|value| project_dir.join(value));
        let xdg = |key: &str| {
            variable(key)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };

        let home_key = if platform == Platform::Windows {
            "USERPROFILE"
        } else {
            "HOME"
        };
        let home = directory(home_key).ok_or(HostsError::NoHome)?;
        let application_support = home.join("Library").join("Application Support");
        let roaming = directory("APPDATA").unwrap_or_else(|| home.join("AppData").join("Roaming"));
        let xdg_config = xdg("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));

        let config_dir = directory("HANDOVER_CONFIG_DIR").unwrap_or_else(|| match platform {
            Platform::Xdg => xdg_config.join(NAME),
            Platform::MacOs => application_support.join(NAME),
            Platform::Windows => roaming.join(NAME).join("config"),
        });
        let state_dir = directory("HANDOVER_STATE_DIR").unwrap_or_else(|| match platform {
            Platform::Xdg => xdg("XDG_STATE_HOME")
                .unwrap_or_else(|| home.join(".local").join("state"))
                .join(NAME),
            Platform::MacOs => application_support.join(NAME),
            Platform::Windows => directory("LOCALAPPDATA")
                .unwrap_or_else(|| home.join("AppData").join("Local"))
                .join(NAME),
        });
        let opencode_config_dirs = match directory("OPENCODE_CONFIG_DIR") {
            Some(only) => vec![only],
            None => {
                let old = match platform {
                    Platform::Xdg => None,
                    Platform::MacOs => Some(application_support.join("opencode")),
                    Platform::Windows => Some(roaming.join("opencode")),
                };
                let mut directories = vec![xdg_config.join("opencode")];
                directories.extend(old.filter(|old| !directories.contains(old)));
                directories
            }
        };
        let named = variable(SSH_CONFIG);
        let ssh_config_is_named = named.as_ref().is_some_and(|named| named != "none");
        let (ssh_config, system_ssh_config) = match named {
            Some(none) if none == "none" => (None, None),
            Some(only) => (Some(project_dir.join(only)), None),
            None => {
                let system = match platform {
                    Platform::Windows => directory("ProgramData")
                        .unwrap_or_else(|| PathBuf::from("C:\\ProgramData"))
                        .join("ssh")
                        .join("ssh_config"),
                    Platform::Xdg | Platform::MacOs => PathBuf::from("/etc/ssh/ssh_config"),
                };
                (Some(home.join(".ssh").join("config")), Some(system))
            }
        };
        Ok(Self {
            home,
            config_dir,
            state_dir,
            opencode_config_dirs,
            ssh_config,
            ssh_config_is_named,
            system_ssh_config,
            project_dir: project_dir.to_owned(),
        })
    }

    /// Our hosts file.
    #[must_use]
    pub fn hosts_file(&self) -> PathBuf {
        self.config_dir.join("hosts.toml")
    }

    /// Our own file of host keys, which is written to.
    #[must_use]
    pub fn known_hosts_file(&self) -> PathBuf {
        self.config_dir.join("known_hosts")
    }

    /// OpenSSH's directory of the user, `~/.ssh`.
    #[must_use]
    pub fn ssh_dir(&self) -> PathBuf {
        self.home.join(".ssh")
    }

    /// The directory of our log files.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.state_dir.join("logs")
    }

    /// The store of job records, in a directory of its own: the database makes files beside it, which on Windows get
    /// the access control list of their directory, and the state directory can be one that was there before.
    #[must_use]
    pub fn store_file(&self) -> PathBuf {
        self.state_dir.join("store").join("jobs.db")
    }

    /// The directory of a job's local files; `job_id` is the text of a checked job id.
    #[must_use]
    pub fn job_dir(&self, job_id: &str) -> PathBuf {
        debug_assert!(!job_id.is_empty() && !job_id.contains(['/', '\\', '.']));
        self.state_dir.join("jobs").join(job_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(platform: Platform, environment: &[(&str, &str)]) -> Result<Places, HostsError> {
        let lookup = |key: &str| {
            environment
                .iter()
                .find(|(name, _)| *name == key)
                .map(|(_, value)| value.into())
        };
        Places::on(platform, lookup, Path::new("/project"))
    }

    #[test]
    fn each_platform_has_its_places() {
        let home = [
            ("HOME", "/h"),
            ("USERPROFILE", "/h"),
            ("APPDATA", "/r"),
            ("LOCALAPPDATA", "/l"),
            ("ProgramData", "/p"),
        ];
        for (platform, config, state, opencode) in [
            (
                Platform::Xdg,
                "/h/.config/handover",
                "/h/.local/state/handover",
                vec!["/h/.config/opencode"],
            ),
            (
                Platform::MacOs,
                "/h/Library/Application Support/handover",
                "/h/Library/Application Support/handover",
                vec![
                    "/h/.config/opencode",
                    "/h/Library/Application Support/opencode",
                ],
            ),
            (
                Platform::Windows,
                "/r/handover/config",
                "/l/handover",
                vec!["/h/.config/opencode", "/r/opencode"],
            ),
        ] {
            let places = places(platform, &home).unwrap();
            assert_eq!(places.config_dir, Path::new(config));
            assert_eq!(places.state_dir, Path::new(state));
            let expected: Vec<PathBuf> = opencode.iter().map(PathBuf::from).collect();
            assert_eq!(places.opencode_config_dirs, expected);
            assert_eq!(places.ssh_dir(), Path::new("/h/.ssh"));
            assert_eq!(
                places.ssh_config.as_deref(),
                Some(Path::new("/h/.ssh/config"))
            );
            let system = if platform == Platform::Windows {
                "/p/ssh/ssh_config"
            } else {
                "/etc/ssh/ssh_config"
            };
            assert_eq!(places.system_ssh_config.as_deref(), Some(Path::new(system)));
            assert!(!places.ssh_config_is_named);
        }
    }

    // Elsewhere than on Unix these paths are not absolute.
    #[cfg(unix)]
    #[test]
    fn the_environment_overrides_and_empty_counts_as_unset() {
        let set = [
            ("HOME", "/h"),
            ("XDG_CONFIG_HOME", "/xc"),
            ("XDG_STATE_HOME", "/xs"),
            ("OPENCODE_CONFIG_DIR", ""),
            ("HANDOVER_CONFIG_DIR", ""),
        ];
        let xdg = places(Platform::Xdg, &set).unwrap();
        assert_eq!(xdg.hosts_file(), Path::new("/xc/handover/hosts.toml"));
        assert_eq!(xdg.store_file(), Path::new("/xs/handover/store/jobs.db"));
        assert_eq!(xdg.opencode_config_dirs, [Path::new("/xc/opencode")]);

        let set = [
            ("HOME", "/h"),
            ("XDG_CONFIG_HOME", "relative"),
            ("HANDOVER_CONFIG_DIR", "conf"),
            ("HANDOVER_STATE_DIR", "/s"),
            ("OPENCODE_CONFIG_DIR", "/oc"),
        ];
        for platform in [Platform::Xdg, Platform::MacOs] {
            let ours = places(platform, &set).unwrap();
            assert_eq!(
                ours.known_hosts_file(),
                Path::new("/project/conf/known_hosts")
            );
            assert_eq!(ours.job_dir("j1"), Path::new("/s/jobs/j1"));
            assert_eq!(ours.log_dir(), Path::new("/s/logs"));
            assert_eq!(ours.opencode_config_dirs, [Path::new("/oc")]);
        }
        assert!(matches!(
            places(Platform::Xdg, &[("HOME", "")]),
            Err(HostsError::NoHome)
        ));
    }

    #[cfg(windows)]
    #[test]
    fn the_environment_of_windows_overrides_and_empty_counts_as_unset() {
        let profile = ("USERPROFILE", r"C:\Users\Ada Müller");
        let plain = places(Platform::Windows, &[profile, ("APPDATA", "")]).unwrap();
        assert_eq!(
            plain.hosts_file(),
            Path::new(r"C:\Users\Ada Müller\AppData\Roaming\handover\config\hosts.toml")
        );
        assert_eq!(
            plain.log_dir(),
            Path::new(r"C:\Users\Ada Müller\AppData\Local\handover\logs")
        );
        assert_eq!(plain.ssh_dir(), Path::new(r"C:\Users\Ada Müller\.ssh"));
        let set = [
            profile,
            ("APPDATA", r"D:\r"),
            ("LOCALAPPDATA", r"D:\l"),
            ("XDG_CONFIG_HOME", r"E:\x"),
            ("HANDOVER_STATE_DIR", "below"),
        ];
        let ours = places(Platform::Windows, &set).unwrap();
        assert_eq!(
            ours.known_hosts_file(),
            Path::new(r"D:\r\handover\config\known_hosts")
        );
        assert_eq!(
            ours.store_file(),
            Path::new(r"/project\below\store\jobs.db")
        );
        assert_eq!(
            ours.opencode_config_dirs,
            [Path::new(r"E:\x\opencode"), Path::new(r"D:\r\opencode")]
        );
        let home = [("HOME", r"C:\msys")];
        assert!(matches!(
            places(Platform::Windows, &home),
            Err(HostsError::NoHome)
        ));
    }

    #[test]
    fn another_ssh_config_stands_in_place_of_both() {
        for (value, expected) in [
            ("own", Some("/project/own")),
            ("/x/c", Some("/x/c")),
            ("none", None),
        ] {
            let set = [
                ("HOME", "/h"),
                ("USERPROFILE", "/h"),
                ("HANDOVER_SSH_CONFIG", value),
            ];
            for platform in [Platform::Xdg, Platform::Windows] {
                let places = places(platform, &set).unwrap();
                assert_eq!(places.ssh_config.as_deref(), expected.map(Path::new));
                assert_eq!(places.ssh_config_is_named, expected.is_some());
                assert_eq!(places.system_ssh_config, None);
            }
        }
    }

    #[test]
    fn our_places_are_those_that_the_platform_crate_names() {
        let (Some(project), Some(base)) = (
            directories::ProjectDirs::from("", "", NAME),
            directories::BaseDirs::new(),
        ) else {
            return;
        };
        let lookup = |key: &str| match key {
            "HOME" | "USERPROFILE" => Some(base.home_dir().into()),
            "APPDATA" => Some(base.config_dir().into()),
            "LOCALAPPDATA" => Some(base.data_local_dir().into()),
            xdg if xdg.starts_with("XDG_") => std::env::var_os(xdg),
            _ => None,
        };
        let places = Places::from_lookup(lookup, Path::new("/project")).unwrap();
        assert_eq!(places.config_dir, project.config_dir());
        if let Some(state) = project.state_dir() {
            assert_eq!(places.state_dir, state);
        }
    }
}
