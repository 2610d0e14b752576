//! Key files that others may read.
//!
//! The main function is [`exposed_key_files`]. On Unix such a file of the user's own is not used at all, as ssh(1) has
//! it; on Windows, where lists differ much, a person is warned.

use std::path::{Path, PathBuf};

use super::default_files;
use crate::private_fs;
use crate::ssh::options::ConnectOptions;
use crate::ssh::target::Target;

/// The key files for a target that others on this machine may read, of those that are there.
pub(crate) async fn exposed_key_files(target: &Target, options: &ConnectOptions) -> Vec<PathBuf> {
    let paths = if target.identity_files.is_empty() && !target.settings.no_identity_files {
        let directory = options.identity_dir.as_deref();
        directory.map(default_files).unwrap_or_default()
    } else {
        target.identity_files.clone()
    };
    let mut exposed = Vec::new();
    for path in paths {
        // What is not there, or cannot be read, was judged when it was to be offered.
        if let Ok(file) = tokio::fs::File::open(&path).await
            && is_exposed(&path, file).await
        {
            exposed.push(path);
        }
    }
    exposed
}

async fn is_exposed(path: &Path, file: tokio::fs::File) -> bool {
    let file = file.into_std().await;
    private_fs::others_may_read(&file).unwrap_or_else(|error| {
        tracing::debug!(path = %path.display(), %error, "who may read this key file is unknown");
        false
    })
}
