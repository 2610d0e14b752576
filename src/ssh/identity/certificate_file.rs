//! User certificate files.
//!
//! Main type: [`CertificateFile`]. Invariant: what is read is a certificate in OpenSSH's text form; whether it is any
//! good is the server's to say.

use std::path::{Path, PathBuf};

use russh::keys::{Certificate, Error as KeyError};

use super::key_file::{KeyFileError, read_public};

/// A certificate and where it lies.
pub(in crate::ssh) struct CertificateFile {
    /// The file.
    pub(in crate::ssh) path: PathBuf,
    /// What is in it.
    pub(in crate::ssh) certificate: Certificate,
}

/// Where the certificate of a key file lies when nothing else is said (ssh_config(5), `IdentityFile`).
pub(super) fn beside(key: &Path) -> PathBuf {
    let mut path = key.as_os_str().to_owned();
    path.push("-cert.pub");
    path.into()
}

/// Reads a certificate file.
pub(super) async fn load(path: &Path) -> Result<CertificateFile, KeyFileError> {
    let text = read_public(path).await?;
    let certificate = Certificate::from_openssh(text.trim())
        .map_err(|error| KeyFileError::Parse(KeyError::SshKey(error)))?;
    Ok(CertificateFile {
        path: path.to_owned(),
        certificate,
    })
}
