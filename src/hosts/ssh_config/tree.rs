//! An ssh_config with everything that it includes.
//!
//! Main type: [`File`]; [`Reader`] reads one. Invariant: what is there and cannot be read, or may have been written by
//! somebody else, is an error and never an absent file; depth, number and size of the files are bounded.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{InvalidSshValue, SshConfigError};
use super::local::LocalMachine;
use super::owner;
use super::pattern::host_line_matches;
use super::syntax::{BadLine, Item, Line, parse};
use super::token;
use crate::hosts::error::{HostsError, Position};
use crate::hosts::file;

/// How deep files include files, as in OpenSSH.
const MAX_DEPTH: usize = 16;
/// How many files one configuration includes.
const MAX_FILES: usize = 1024;

/// A file and its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: Arc<Path>,
    pub(super) lines: Vec<Line>,
}

/// Reads one configuration file, and those that it includes.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    /// What a `~`, tokens and variables in an `Include` mean.
    pub(super) local: &'a LocalMachine,
    /// The directory of relative `Include`s.
    pub(super) base: &'a Path,
    files: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(local: &'a LocalMachine, base: &'a Path) -> Self {
        Self {
            local,
            base,
            files: 0,
        }
    }

    /// Reads a file; `None` when there is none. `guarded`: its owner and permissions must be good.
    ///
    /// # Errors
    ///
    /// [`HostsError::Read`] and [`HostsError::TooLarge`], and of [`SshConfigError`] all that name no host.
    pub(super) fn read(&mut self, path: &Path, guarded: bool) -> Result<Option<File>, HostsError> {
        self.read_at(path, guarded, 0)
    }

    fn read_at(
        &mut self,
        path: &Path,
        guarded: bool,
        depth: usize,
    ) -> Result<Option<File>, HostsError> {
        let Some((bytes, metadata)) = file::read_with_metadata(path)? else {
            return Ok(None);
        };
        if guarded && !owner::is_trusted(&metadata) {
            let path = path.to_owned();
            return Err(SshConfigError::Permissions { path }.into());
        }
        let path: Arc<Path> = path.into();
        let mut lines =
            parse(&bytes).map_err(|BadLine { line, problem }| SshConfigError::Syntax {
                at: at(&path, line, 1),
                source: problem,
            })?;
        for line in &mut lines {
            let at = at(&path, line.line, line.column);
            if let Item::Include {
                patterns,
                files,
                unread,
            } = &mut line.item
            {
                for pattern in patterns {
                    match self.expand(pattern) {
                        Ok(found) => self.include(found, &at, depth, files)?,
                        Err(reason) => drop(unread.get_or_insert(reason)),
                    }
                }
            }
        }
        Ok(Some(File { path, lines }))
    }

    fn include(
        &mut self,
        found: glob::Paths,
        at: &Position,
        depth: usize,
        files: &mut Vec<File>,
    ) -> Result<(), HostsError> {
        let too_many = |what, limit| SshConfigError::Includes {
            at: at.clone(),
            what,
            limit,
        };
        for path in found {
            let path = path.map_err(|error| SshConfigError::List {
                at: at.clone(),
                source: error.into(),
            })?;
            if depth >= MAX_DEPTH {
                return Err(too_many("levels of Include", MAX_DEPTH).into());
            }
            if self.files >= MAX_FILES {
                return Err(too_many("included files", MAX_FILES).into());
            }
            self.files += 1;
            // As in ssh(1), a directory that a pattern happens to match is nothing to read.
            if path.is_dir() {
                continue;
            }
            files.extend(self.read_at(&path, true, depth + 1)?);
        }
        Ok(())
    }

    /// The paths that a pattern stands for, in order.
    fn expand(&self, pattern: &str) -> Result<glob::Paths, InvalidSshValue> {
        let pattern = &*token::include(pattern, self.local)?;
        let in_home = pattern.strip_prefix("~/");
        let in_home = in_home.or_else(|| pattern.strip_prefix("~\\").filter(|_| cfg!(windows)));
        // What stands in front of the user's pattern is no pattern.
        let below = |directory: &Path, rest: &str| {
            let directory = directory.to_string_lossy();
            format!("{}/{rest}", glob::Pattern::escape(&directory))
        };
        let pattern = match in_home {
            Some(rest) => below(&self.local.home, rest),
            None if pattern.starts_with('~') => return Err(InvalidSshValue::OtherHome),
            None if is_rooted(pattern) => pattern.to_owned(),
            None => below(self.base, pattern),
        };
        let options = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        glob::glob_with(&pattern, options).map_err(|_| InvalidSshValue::Pattern)
    }
}

impl File {
    /// Calls `found` with every name that a `Host` line names without a wildcard and that the line applies to, and
    /// with the place of the line.
    pub(super) fn literal_hosts(&self, found: &mut dyn FnMut(&str, Position)) {
        self.literals(&|_| true, found);
    }

    fn literals(&self, outer: &dyn Fn(&str) -> bool, found: &mut dyn FnMut(&str, Position)) {
        let mut block: Option<&Item> = None;
        for line in &self.lines {
            match &line.item {
                item @ (Item::Host(_) | Item::Match(_)) => block = Some(item),
                Item::Include { files, .. } => {
                    let inner = |name: &str| {
                        outer(name)
                            && match block {
                                None => true,
                                Some(Item::Host(patterns)) => host_line_matches(patterns, name),
                                Some(Item::Match(criteria)) => criteria.are_unconditional(),
                                Some(_) => false,
                            }
                    };
                    for file in files {
                        file.literals(&inner, found);
                    }
                }
                Item::Setting(_) => {}
            }
            if let Item::Host(patterns) = &line.item {
                for name in patterns.iter().filter_map(|pattern| pattern.literal()) {
                    if host_line_matches(patterns, name) && outer(name) {
                        found(name, at(&self.path, line.line, line.column));
                    }
                }
            }
        }
    }

    /// Whether a `Match final` stands in it or in what it includes.
    pub(super) fn asks_for_second_pass(&self) -> bool {
        self.lines.iter().any(|line| match &line.item {
            Item::Match(criteria) => criteria.ask_for_second_pass(),
            Item::Include { files, .. } => files.iter().any(Self::asks_for_second_pass),
            Item::Host(_) | Item::Setting(_) => false,
        })
    }
}

/// Whether a path does not depend on a directory; on Windows, `/x` does not either for OpenSSH.
fn is_rooted(path: &str) -> bool {
    path.starts_with('/') || Path::new(path).is_absolute()
}

/// A place in a file.
pub(super) fn at(path: &Path, line: usize, column: usize) -> Position {
    Position {
        path: PathBuf::from(path),
        line,
        column,
    }
}
