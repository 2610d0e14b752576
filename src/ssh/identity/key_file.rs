//! Private key files.
//!
//! Main type: [`KeyFile`]. Invariant: a private key's text lives in zeroized memory, is read only where others cannot
//! read it too, and a passphrase is asked for only on the way through [`decrypt`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{Error as KeyError, PrivateKey, PublicKey, decode_secret_key};
use zeroize::Zeroizing;

use super::legacy_pem;

/// The largest key file that is read: a 16384 bit RSA key has 13 KB.
const LIMIT: u64 = 256 * 1024;

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// Others can read it, so that ssh(1) would not use it either.
    #[error("others can read it (mode {mode:04o}); 'chmod 600' takes that away")]
    Unprotected {
        /// The permission bits.
        mode: u32,
    },
    /// It is larger than any key is.
    #[error("it is too large for a key")]
    TooLarge,
    /// There is only the public half, and no agent has the private one.
    #[error("it has only the public half, and no agent has the private one")]
    PublicHalf,
    /// It is the handle of a key that lives in a security key, which only an agent can use here.
    #[error("it is a security key, which works through ssh-agent alone ('ssh-add')")]
    SecurityKey,
    /// A format or a cipher that is not read here.
    #[error("{0} is not supported; 'ssh-keygen -p' writes the key anew in OpenSSH's own format")]
    Format(&'static str),
    /// The passphrase does not open it.
    #[error("the passphrase is wrong, or the file is damaged")]
    Passphrase,
    /// It is no key, or a damaged one.
    #[error("it is no private key, or a damaged one")]
    Parse(#[source] KeyError),
}

/// A key file without any passphrase.
#[derive(Clone)]
pub(in crate::ssh) struct KeyFile {
    /// Where it is.
    pub(in crate::ssh) path: PathBuf,
    /// The public half, where the format or a `.pub` file shows it.
    pub(in crate::ssh) public: Option<PublicKey>,
    /// The private half.
    pub(in crate::ssh) secret: Secret,
}

/// The private half of a key file.
#[derive(Clone)]
pub(in crate::ssh) enum Secret {
    /// It is open.
    Plain(Arc<PrivateKey>),
    /// It is encrypted.
    Encrypted,
    /// It is in a security key.
    SecurityKey,
    /// It is somewhere else.
    Elsewhere,
}

/// Reads a key file without any passphrase. A public key, and a missing file with a `.pub` beside it, stand for a key
/// that an agent may have.
pub(in crate::ssh) async fn load(path: &Path) -> Result<KeyFile, KeyFileError> {
    let found = |public, secret| KeyFile {
        path: path.to_owned(),
        public,
        secret,
    };
    let text = match read(path).await {
        Ok(text) => text,
        Err(KeyFileError::Read(error)) if error.kind() == io::ErrorKind::NotFound => {
            return match read_public_twin(path).await {
                Some(public) => Ok(found(Some(public), Secret::Elsewhere)),
                None => Err(KeyFileError::Read(error)),
            };
        }
        Err(error) => return Err(error),
    };
    if let Ok(public) = PublicKey::from_openssh(text.trim()) {
        return Ok(found(Some(public), Secret::Elsewhere));
    }
    protected(path).await?;
    if let Ok(key) = PrivateKey::from_openssh(text.as_str()) {
        let public = Some(key.public_key().clone());
        let secret = if is_security_key(key.public_key()) {
            Secret::SecurityKey
        } else if key.is_encrypted() {
            Secret::Encrypted
        } else {
            Secret::Plain(Arc::new(key))
        };
        return Ok(found(public, secret));
    }
    if let Some(format) = unsupported(&text) {
        return Err(KeyFileError::Format(format));
    }
    if is_encrypted(&text) {
        let public = read_public_twin(path).await;
        return Ok(found(public, Secret::Encrypted));
    }
    let key = decode_secret_key(&text, None).map_err(KeyFileError::Parse)?;
    Ok(found(
        Some(key.public_key().clone()),
        Secret::Plain(Arc::new(key)),
    ))
}

/// Reads a key file with a passphrase. Key derivation is slow on purpose, so it runs on a thread of its own.
pub(in crate::ssh) async fn decrypt(
    path: &Path,
    passphrase: Zeroizing<String>,
) -> Result<PrivateKey, KeyFileError> {
    let text = read(path).await?;
    tokio::task::spawn_blocking(move || open(&text, &passphrase))
        .await
        .map_err(|error| KeyFileError::Read(io::Error::other(error)))?
}

fn open(text: &str, passphrase: &str) -> Result<PrivateKey, KeyFileError> {
    if legacy_pem::is_encrypted(text) {
        let plain = legacy_pem::decrypt(text, passphrase).ok_or(KeyFileError::Passphrase)?;
        // A wrong passphrase can leave a padding that holds; what it opens is then no key.
        return decode_secret_key(&plain, None).map_err(|_| KeyFileError::Passphrase);
    }
    let key = decode_secret_key(text, Some(passphrase)).map_err(|_| KeyFileError::Passphrase)?;
    match key.key_data() {
        KeypairData::Encrypted(_) => Err(KeyFileError::Passphrase),
        _ => Ok(key),
    }
}

fn is_security_key(key: &PublicKey) -> bool {
    key.algorithm().as_str().starts_with("sk-")
}

async fn read(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    use tokio::io::AsyncReadExt as _;
    let file = tokio::fs::File::open(path)
        .await
        .map_err(KeyFileError::Read)?;
    let size = file.metadata().await.map_err(KeyFileError::Read)?.len();
    if size > LIMIT {
        return Err(KeyFileError::TooLarge);
    }
    // Room for the whole file from the start: growing would leave copies of the secret behind.
    let room = usize::try_from(size).unwrap_or_default() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(LIMIT)
        .read_to_end(&mut bytes)
        .await
        .map_err(KeyFileError::Read)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(KeyFileError::Parse(KeyError::CouldNotReadKey)),
    }
}

/// ssh(1) does not use a private key of the user's own that a group or everybody can read.
#[cfg(unix)]
async fn protected(path: &Path) -> Result<(), KeyFileError> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = tokio::fs::metadata(path)
        .await
        .map_err(KeyFileError::Read)?;
    let mode = metadata.mode() & 0o777;
    if metadata.uid() == rustix::process::getuid().as_raw() && mode & 0o077 != 0 {
        return Err(KeyFileError::Unprotected { mode });
    }
    Ok(())
}

/// Here a key file is used whatever its list says, unlike by Win32-OpenSSH: one that was copied from elsewhere has the
/// list of its place. [`exposed_key_files`](crate::ssh::exposed_key_files) finds what `check` warns of.
#[cfg(windows)]
async fn protected(_path: &Path) -> Result<(), KeyFileError> {
    Ok(())
}

async fn read_public_twin(path: &Path) -> Option<PublicKey> {
    let mut twin = path.as_os_str().to_owned();
    twin.push(".pub");
    let text = read_public(Path::new(&twin)).await.ok()?;
    PublicKey::from_openssh(text.trim()).ok()
}

/// Reads a public key or certificate file, which is bounded as a private one is.
pub(super) async fn read_public(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    read(path).await
}

fn is_encrypted(text: &str) -> bool {
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || legacy_pem::is_encrypted(text)
        || text
            .lines()
            .any(|line| line.starts_with("Encryption: ") && !line.ends_with("none"))
}

/// What the key is written in, where that is not read here.
fn unsupported(text: &str) -> Option<&'static str> {
    if text.starts_with("SSH PRIVATE KEY FILE FORMAT 1.1") {
        return Some("a key of SSH protocol 1");
    }
    if text.contains("-----BEGIN DSA PRIVATE KEY-----") {
        return Some("a DSA key");
    }
    if text.contains("---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----") {
        return Some("the format of ssh.com");
    }
    (legacy_pem::is_encrypted(text) && !legacy_pem::is_supported(text))
        .then_some("the cipher of the key file")
}
