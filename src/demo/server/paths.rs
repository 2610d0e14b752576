//! Where the paths that SFTP clients name lie in the file system.
//!
//! The main type is [`View`].

use std::io;
use std::path::{Component, Path, PathBuf};

/// What SFTP clients see: the real file system, or one directory of it as `/`.
#[derive(Debug, Clone)]
pub(super) struct View {
    home: PathBuf,
    root: Option<PathBuf>,
}

impl View {
    pub(super) fn new(home: PathBuf, root: Option<PathBuf>) -> Self {
        Self { home, root }
    }

    /// The real path of what a client names: absolute, or relative to the home (in a rooted view: to its `/`).
    pub(super) fn real(&self, path: &str) -> PathBuf {
        match &self.root {
            None => self.home.join(path),
            Some(root) => {
                let mut real = root.clone();
                let mut depth = 0_usize;
                for component in Path::new(path).components() {
                    match component {
                        Component::Normal(name) => {
                            real.push(name);
                            depth += 1;
                        }
                        Component::ParentDir if depth > 0 => {
                            real.pop();
                            depth -= 1;
                        }
                        _ => {}
                    }
                }
                real
            }
        }
    }

    /// The canonical path of what a client names, as the client sees it. As with OpenSSH, all but the last
    /// component must exist.
    pub(super) fn canonical(&self, path: &str) -> io::Result<PathBuf> {
        let real = self.real(path);
        let canonical = match (real.canonicalize(), real.parent(), real.file_name()) {
            (Err(error), Some(parent), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
                parent.canonicalize()?.join(name)
            }
            (result, _, _) => result?,
        };
        let Some(root) = &self.root else {
            return Ok(canonical);
        };
        let inside = canonical
            .strip_prefix(root.canonicalize()?)
            .map_err(|_| io::ErrorKind::PermissionDenied)?;
        Ok(Path::new("/").join(inside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_is_meant_from_the_home() {
        let view = View::new(PathBuf::from("/home/ada"), None);
        assert_eq!(view.real("x/y"), Path::new("/home/ada/x/y"));
        assert_eq!(view.real("/x/y"), Path::new("/x/y"));
    }

    #[test]
    fn no_path_leads_above_the_root_of_a_rooted_view() {
        let view = View::new(PathBuf::from("/home/ada"), Some(PathBuf::from("/srv/jail")));
        for (path, real) in [
            ("/", "/srv/jail"),
            (".", "/srv/jail"),
            ("../../etc/passwd", "/srv/jail/etc/passwd"),
            ("/a/../../b", "/srv/jail/b"),
        ] {
            assert_eq!(view.real(path), Path::new(real));
        }
    }

    #[test]
    fn the_canonical_path_is_told_as_the_client_sees_it() {
        let temporary = tempfile::tempdir().unwrap();
        std::fs::create_dir(temporary.path().join("a")).unwrap();
        let view = View::new(PathBuf::from("/"), Some(temporary.path().to_owned()));
        assert_eq!(view.canonical("a").unwrap(), Path::new("/a"));
        assert_eq!(
            view.canonical("a/missing").unwrap(),
            Path::new("/a/missing")
        );
        assert!(view.canonical("missing/missing").is_err());
    }
}
