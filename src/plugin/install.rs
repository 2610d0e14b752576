//! Putting the plugin where opencode finds it, and taking it away.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::file::is_ours;
use super::{Plugin, PluginError};
use crate::hosts::Places;
use crate::private_fs;

/// The plugin's name in the directory.
const FILE: &str = "handover.ts";
/// The most that is read of a file that is there, in bytes; the plugin is far smaller.
const READ_LIMIT: u64 = 1 << 20;
/// The plugin that has a tool of the same name.
const OTHER_PLUGIN: &str = "opencode-remote-login";

/// For whom the plugin is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// For the user: opencode's configuration directory (`~/.config/opencode` on every platform,
    /// `OPENCODE_CONFIG_DIR` and `XDG_CONFIG_HOME` are honoured).
    User,
    /// For one project: the `.opencode` of the working directory.
    Project,
}

/// What an installation changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    /// It was not there.
    New,
    /// Another version, or one that runs another program, was there.
    Renewed,
    /// It was there as it is.
    Unchanged,
}

/// What a removal changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It was there.
    Removed,
    /// It was not there.
    NotThere,
}

impl Plugin {
    /// Writes the plugin into the directory that opencode loads plugins from; says where, and what that changed.
    ///
    /// # Errors
    /// [`PluginError::NotOurs`], [`PluginError::Read`] and [`PluginError::Write`].
    pub fn install(
        &self,
        places: &Places,
        scope: Scope,
    ) -> Result<(PathBuf, Installed), PluginError> {
        let path = place(places, scope);
        let there = read(&path)?;
        let installed = match &there {
            None => Installed::New,
            Some(content) if content == self.text().as_bytes() => Installed::Unchanged,
            Some(_) => Installed::Renewed,
        };
        if installed != Installed::Unchanged {
            let write = |source| PluginError::Write {
                path: path.clone(),
                source,
            };
            if let Some(directory) = path.parent() {
                private_fs::create_dir_all(directory).map_err(write)?;
            }
            private_fs::write_atomic(&path, self.text().as_bytes()).map_err(write)?;
        }
        Ok((path, installed))
    }
}

/// Removes the plugin, of any version; says from where, and whether it was there.
///
/// # Errors
/// [`PluginError::NotOurs`], [`PluginError::Read`] and [`PluginError::Remove`].
pub fn uninstall(places: &Places, scope: Scope) -> Result<(PathBuf, Removed), PluginError> {
    let path = place(places, scope);
    if read(&path)?.is_none() {
        return Ok((path, Removed::NotThere));
    }
    match private_fs::remove_file(&path) {
        Ok(()) => Ok((path, Removed::Removed)),
        Err(source) => Err(PluginError::Remove { path, source }),
    }
}

/// The configuration files of opencode that name the plugin whose tool has the same name.
#[must_use]
pub fn competitors(places: &Places) -> Vec<PathBuf> {
    let directories = places
        .opencode_config_dirs
        .iter()
        .cloned()
        .chain([places.project_dir.clone()]);
    directories
        .flat_map(|directory| ["opencode.json", "opencode.jsonc"].map(|name| directory.join(name)))
        .filter(|path| {
            let bytes = bounded(path).unwrap_or_default();
            String::from_utf8_lossy(&bytes).contains(OTHER_PLUGIN)
        })
        .collect()
}

fn place(places: &Places, scope: Scope) -> PathBuf {
    let directory = match scope {
        // The first is where opencode itself looks; others are those of older programs.
        Scope::User => places.opencode_config_dirs.first().cloned(),
        Scope::Project => None,
    };
    directory
        .unwrap_or_else(|| places.project_dir.join(".opencode"))
        .join("plugin")
        .join(FILE)
}

/// What is at the plugin's place, if that is a plugin of ours.
fn read(path: &Path) -> Result<Option<Vec<u8>>, PluginError> {
    let unreadable = |source| PluginError::Read {
        path: path.to_owned(),
        source,
    };
    let regular = match path.symlink_metadata() {
        Ok(metadata) => metadata.is_file(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let content = if regular {
        bounded(path).map_err(unreadable)?
    } else {
        Vec::new()
    };
    if is_ours(&content) {
        Ok(Some(content))
    } else {
        Err(PluginError::NotOurs {
            path: path.to_owned(),
        })
    }
}

fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?
        .take(READ_LIMIT)
        .read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn places(root: &Path, more: &[(&str, PathBuf)]) -> Places {
        let lookup = |key: &str| -> Option<OsString> {
            let given = more.iter().find(|(name, _)| *name == key);
            given
                .map(|(_, path)| path.clone().into())
                .or_else(|| matches!(key, "HOME" | "USERPROFILE").then(|| root.join("home").into()))
        };
        Places::from_lookup(lookup, &root.join("project")).unwrap()
    }

    fn plugin() -> Plugin {
        Plugin::of(Path::new("/usr/bin/handover")).unwrap()
    }

    #[test]
    fn it_goes_where_opencode_looks() {
        let root = tempfile::tempdir().unwrap();
        let at = |more: &[(&str, PathBuf)], scope| place(&places(root.path(), more), scope);
        let own = root.path().join("own");
        let end = Path::new("plugin").join(FILE);
        assert_eq!(
            at(&[], Scope::User),
            root.path().join("home/.config/opencode").join(&end)
        );
        assert_eq!(
            at(&[("XDG_CONFIG_HOME", own.clone())], Scope::User),
            own.join("opencode").join(&end)
        );
        assert_eq!(
            at(&[("OPENCODE_CONFIG_DIR", own.clone())], Scope::User),
            own.join(&end)
        );
        assert_eq!(
            at(&[("OPENCODE_CONFIG_DIR", own)], Scope::Project),
            root.path().join("project/.opencode").join(&end)
        );
    }

    #[test]
    fn installing_twice_is_harmless_and_an_older_one_is_renewed() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path(), &[]);
        let (path, first) = plugin().install(&places, Scope::User).unwrap();
        assert_eq!(first, Installed::New);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), plugin().text());
        let again = plugin().install(&places, Scope::User).unwrap();
        assert_eq!(again, (path.clone(), Installed::Unchanged));
        std::fs::write(&path, "// handover plugin 0.0.1: an older one\n").unwrap();
        let renewed = plugin().install(&places, Scope::User).unwrap();
        assert_eq!(renewed, (path.clone(), Installed::Renewed));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), plugin().text());
    }

    #[test]
    fn a_file_that_is_not_ours_is_neither_written_over_nor_removed() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path(), &[]);
        let path = place(&places, Scope::User);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        for content in ["export default {}\n", ""] {
            std::fs::write(&path, content).unwrap();
            let refused = plugin().install(&places, Scope::User);
            assert!(matches!(refused, Err(PluginError::NotOurs { .. })));
            let refused = uninstall(&places, Scope::User);
            assert!(matches!(refused, Err(PluginError::NotOurs { .. })));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_ours() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path(), &[]);
        let path = place(&places, Scope::User);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let target = root.path().join("target");
        std::fs::write(&target, plugin().text()).unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        let refused = plugin().install(&places, Scope::User);
        assert!(matches!(refused, Err(PluginError::NotOurs { .. })));
    }

    #[test]
    fn uninstalling_removes_it_and_only_it() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path(), &[]);
        let (path, _) = plugin().install(&places, Scope::Project).unwrap();
        let neighbour = path.with_file_name("other.ts");
        std::fs::write(&neighbour, "kept").unwrap();
        let removed = uninstall(&places, Scope::Project).unwrap();
        assert_eq!(removed, (path.clone(), Removed::Removed));
        assert!(!path.exists() && neighbour.exists());
        let again = uninstall(&places, Scope::Project).unwrap();
        assert_eq!(again, (path, Removed::NotThere));
    }

    #[test]
    fn the_plugin_with_a_tool_of_the_same_name_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path(), &[]);
        assert!(competitors(&places).is_empty());
        let config = root.path().join("home/.config/opencode/opencode.json");
        std::fs::create_dir_all(config.parent().unwrap()).unwrap();
        std::fs::write(&config, r#"{"plugin":["opencode-remote-login@0.2.1"]}"#).unwrap();
        assert_eq!(competitors(&places), [config]);
    }
}
