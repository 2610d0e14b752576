//! The keys that could be offered: those of an agent and those in files, plain and certified, in order.
//!
//! Main type: [`Candidate`]. Invariant: making the list signs nothing and asks nobody; the order is that of OpenSSH
//! (certificates; an agent's keys that are configured too; its other keys; keys in files alone).

mod agent;
mod certificate_file;
mod exposed;
mod held;
mod key_file;
mod legacy_pem;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use russh::keys::agent::AgentIdentity;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Certificate, PublicKey};

pub(super) use agent::{Agent, connect as connect_agent, source as agent_source};
pub(super) use certificate_file::CertificateFile;
pub(crate) use exposed::exposed_key_files;
pub use key_file::KeyFileError;
pub(super) use key_file::{KeyFile, Secret, decrypt};

use super::host_key::{CertificateFault, time_fault};

/// The default identity files, in the order in which `ssh -G` prints them and they are offered.
const DEFAULT_FILES: [&str; 5] = [
    "id_rsa",
    "id_ecdsa",
    "id_ecdsa_sk",
    "id_ed25519",
    "id_ed25519_sk",
];
/// How many characters of an agent's comment are shown.
const COMMENT_LIMIT: usize = 100;

/// A key that can be offered.
pub(super) struct Candidate {
    /// What a person knows it by.
    pub(super) label: String,
    /// The certificate that is shown in the key's place.
    pub(super) certificate: Option<Box<Certificate>>,
    /// Who signs.
    pub(super) holder: Holder,
}

/// Who has the private half.
pub(super) enum Holder {
    /// The agent, which knows it by this.
    Agent(Box<AgentIdentity>),
    /// A file.
    File(Box<KeyFile>),
}

/// What the list is made from.
#[derive(Default)]
pub(super) struct Sources {
    /// The key files, in order.
    pub(super) files: Vec<KeyFile>,
    /// The certificates that are configured, and those beside the key files.
    pub(super) certificates: Vec<CertificateFile>,
    /// The agent's keys, in its order.
    pub(super) held: Vec<AgentIdentity>,
    /// Of the agent's keys only those that are configured too.
    pub(super) identities_only: bool,
}

/// A list of candidates in order, and what could not become one.
#[derive(Default)]
pub(super) struct Candidates {
    /// In the order in which they are offered.
    pub(super) ordered: Vec<Candidate>,
    /// How many of the last ones are in files alone.
    pub(super) in_files: usize,
    /// The files and certificates that nobody can sign for.
    pub(super) unusable: Vec<(PathBuf, KeyFileError)>,
}

impl Candidate {
    /// The public key, when it is known.
    pub(super) fn public(&self) -> Option<PublicKey> {
        match (&self.certificate, &self.holder) {
            (Some(certificate), _) => Some(PublicKey::from(certificate.public_key().clone())),
            (None, Holder::Agent(identity)) => Some(identity.public_key().into_owned()),
            (None, Holder::File(file)) => file.public.clone(),
        }
    }

    /// Whether its certificate's time is over, or has not begun.
    pub(super) fn fault(&self) -> Option<CertificateFault> {
        let certificate = self.certificate.as_ref()?;
        time_fault(certificate, SystemTime::now())
    }
}

impl Sources {
    /// Puts them in order.
    pub(super) fn order(self) -> Candidates {
        let mut result = Candidates::default();
        let mut certified = Vec::new();
        for file in &self.certificates {
            match self.certified(file) {
                Some(holder) => certified.push(Candidate {
                    label: format!("{} (certificate)", file.path.display()),
                    certificate: Some(Box::new(file.certificate.clone())),
                    holder,
                }),
                None => result
                    .unusable
                    .push((file.path.clone(), KeyFileError::PublicHalf)),
            }
        }
        let (mut matching, mut others) = (Vec::new(), Vec::new());
        for identity in &self.held {
            let configured = self.is_configured(identity.public_key().key_data());
            if !configured && self.identities_only {
                continue;
            }
            match identity {
                AgentIdentity::Certificate { certificate, .. } => {
                    let known = certified
                        .iter()
                        .any(|candidate| candidate.certificate.as_deref() == Some(certificate));
                    if !known {
                        certified.push(Candidate {
                            label: format!("agent certificate {}", comment(identity)),
                            certificate: Some(Box::new(certificate.clone())),
                            holder: Holder::Agent(Box::new(identity.clone())),
                        });
                    }
                }
                AgentIdentity::PublicKey { key, .. } => {
                    let place = self.place(key.key_data());
                    let label = format!("agent key {}{}", comment(identity), kind(Some(key)));
                    let candidate = Candidate {
                        label,
                        certificate: None,
                        holder: Holder::Agent(Box::new(identity.clone())),
                    };
                    match place {
                        Some(place) => matching.push((place, candidate)),
                        None => others.push(candidate),
                    }
                }
            }
        }
        matching.sort_by_key(|(place, _)| *place);
        // The server may still take one that is out of time by this machine's clock, so it is tried, but last.
        let (fresh, stale): (Vec<_>, Vec<_>) = certified
            .into_iter()
            .partition(|candidate| candidate.fault().is_none());
        result.ordered.extend(fresh);
        result
            .ordered
            .extend(matching.into_iter().map(|(_, candidate)| candidate));
        result.ordered.append(&mut others);
        let before = result.ordered.len();
        for file in &self.files {
            if self
                .agent_holder(file.public.as_ref().map(PublicKey::key_data))
                .is_some()
            {
                continue;
            }
            match file.secret {
                Secret::Plain(_) | Secret::Encrypted => result.ordered.push(Candidate {
                    label: format!("{}{}", file.path.display(), kind(file.public.as_ref())),
                    certificate: None,
                    holder: Holder::File(Box::new(file.clone())),
                }),
                Secret::SecurityKey => result
                    .unusable
                    .push((file.path.clone(), KeyFileError::SecurityKey)),
                Secret::Elsewhere => result
                    .unusable
                    .push((file.path.clone(), KeyFileError::PublicHalf)),
            }
        }
        result.in_files = result.ordered.len() - before;
        result.ordered.extend(stale);
        result
    }

    /// Who signs for the key in a certificate.
    fn certified(&self, file: &CertificateFile) -> Option<Holder> {
        let wanted = file.certificate.public_key();
        if let Some(identity) = self.agent_holder(Some(wanted)) {
            return Some(Holder::Agent(Box::new(identity.clone())));
        }
        self.files
            .iter()
            .find(|key| {
                let same = match &key.public {
                    Some(public) => public.key_data() == wanted,
                    // An encrypted key that does not show its public half has its certificate beside it.
                    None => certificate_file::beside(&key.path) == file.path,
                };
                same && matches!(key.secret, Secret::Plain(_) | Secret::Encrypted)
            })
            .map(|key| Holder::File(Box::new(key.clone())))
    }

    fn agent_holder(&self, wanted: Option<&KeyData>) -> Option<&AgentIdentity> {
        let wanted = wanted?;
        self.held.iter().find(|identity| {
            matches!(identity, AgentIdentity::PublicKey { key, .. } if key.key_data() == wanted)
        })
    }

    fn place(&self, key: &KeyData) -> Option<usize> {
        self.files.iter().position(|file| {
            file.public
                .as_ref()
                .is_some_and(|public| public.key_data() == key)
        })
    }

    fn is_configured(&self, key: &KeyData) -> bool {
        self.place(key).is_some()
            || self
                .certificates
                .iter()
                .any(|file| file.certificate.public_key() == key)
    }
}

fn kind(key: Option<&PublicKey>) -> String {
    key.map_or_else(String::new, |key| {
        format!(" ({})", key.algorithm().as_str())
    })
}

/// The agent's comment, which whoever made the key wrote.
fn comment(identity: &AgentIdentity) -> String {
    let kept = identity.comment().chars().filter(|c| !c.is_control());
    kept.take(COMMENT_LIMIT).collect()
}

/// The default identity files of a directory.
pub(super) fn default_files(directory: &Path) -> Vec<PathBuf> {
    DEFAULT_FILES
        .iter()
        .map(|name| directory.join(name))
        .collect()
}

/// Reads a key file without any passphrase, and the certificate beside it.
///
/// # Errors
/// Why the key file cannot be used, beside the certificate that was found all the same.
pub(super) async fn load(
    path: &Path,
) -> (
    Result<KeyFile, KeyFileError>,
    Option<Result<CertificateFile, (PathBuf, KeyFileError)>>,
) {
    let beside = certificate_file::beside(path);
    let certificate = match load_certificate(&beside).await {
        Err(KeyFileError::Read(error)) if error.kind() == std::io::ErrorKind::NotFound => None,
        Ok(certificate) => Some(Ok(certificate)),
        Err(error) => Some(Err((beside, error))),
    };
    (key_file::load(path).await, certificate)
}

/// Reads a certificate file.
pub(super) async fn load_certificate(path: &Path) -> Result<CertificateFile, KeyFileError> {
    certificate_file::load(path).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_files_have_the_order_that_openssh_prints() {
        let names = [
            "id_rsa",
            "id_ecdsa",
            "id_ecdsa_sk",
            "id_ed25519",
            "id_ed25519_sk",
        ];
        assert_eq!(
            default_files(Path::new("ssh")),
            names.map(|name| Path::new("ssh").join(name))
        );
    }
}
