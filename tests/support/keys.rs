//! Keys of users and hosts, made without ssh-keygen(1), and files that only their owner can read.

use std::path::Path;

use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};

/// A new key.
pub(crate) fn new_key() -> PrivateKey {
    PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap()
}

/// Writes a private key as ssh-keygen(1) does.
pub(crate) fn write_key(path: &Path, key: &PrivateKey) {
    write_private(path, &key.to_openssh(LineEnding::LF).unwrap());
}

/// Writes a file that nobody but its owner can read. On Windows it has what its directory hands on: these directories
/// are in the user's profile.
pub(crate) fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path, private).unwrap();
    }
}
