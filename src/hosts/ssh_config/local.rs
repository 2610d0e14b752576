//! What an ssh_config may ask of this machine: names, the home, environment variables.
//!
//! Main type: [`LocalMachine`].

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::hosts::places::Places;

/// This machine as tokens, `~` and `${...}` in an ssh_config mean it.
#[derive(Clone)]
#[non_exhaustive]
pub struct LocalMachine {
    /// The home directory: `~` and `%d`.
    pub home: PathBuf,
    /// The directory of relative `IdentityFile`s and `CertificateFile`s.
    pub working_directory: PathBuf,
    /// The local user: `%u`, `Match localuser`, and the user on a host that names none. `None` when it is not known.
    pub user: Option<String>,
    /// The local user's number: `%i`.
    pub user_id: Option<u32>,
    /// The name of this machine: `%l`, and up to its first dot `%L`.
    pub name: String,
    environment: Arc<Lookup>,
}

/// The environment variable of a name, when it is set.
type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

impl LocalMachine {
    /// This machine, with the home and the working directory of `places`.
    #[must_use]
    pub fn of(places: &Places) -> Self {
        #[cfg(unix)]
        let user_id = Some(rustix::process::getuid().as_raw());
        #[cfg(not(unix))]
        let user_id = None;
        Self {
            home: places.home.clone(),
            working_directory: places.project_dir.clone(),
            user: whoami::username().ok(),
            user_id,
            name: gethostname::gethostname().to_string_lossy().into_owned(),
            environment: Arc::new(|name| std::env::var(name).ok()),
        }
    }

    /// Takes environment variables from elsewhere than the environment.
    #[must_use]
    pub fn with_environment(
        mut self,
        lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.environment = Arc::new(lookup);
        self
    }

    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name)
    }
}

impl fmt::Debug for LocalMachine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LocalMachine")
            .field("home", &self.home)
            .field("working_directory", &self.working_directory)
            .field("user", &self.user)
            .field("user_id", &self.user_id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
