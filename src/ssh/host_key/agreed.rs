//! What a server shows and signs with, held against what was offered and agreed.
//!
//! Main type: [`OfferedAlgorithms`]. Invariant: as ssh(1), no key counts that is of another kind than the agreed
//! algorithm's, and no signature of another algorithm: the library verifies whatever a server shows, by whatever
//! algorithm the signature names.

use russh::Preferred;
use russh::keys::{Algorithm, PublicKeyOrCertificate};

use crate::ssh::algorithms::same_kind;

/// Why a host key is refused, whatever is on record about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostKeyFault {
    /// It is of a kind that was not offered.
    #[error("it is of the kind {shown}, which was not offered")]
    NotOffered {
        /// The key's kind.
        shown: String,
    },
    /// It is of another kind than was agreed.
    #[error("it is of the kind {shown}, and {agreed} was agreed")]
    NotAgreed {
        /// The key's kind.
        shown: String,
        /// The agreed algorithm.
        agreed: String,
    },
    /// It is an RSA key that is shorter than any that ssh(1) takes, or than `RequiredRSASize`.
    #[error("it is an RSA key of less than {required} bits")]
    TooShort {
        /// The length in bits that is required.
        required: u32,
    },
    /// The authority of its certificate is such a key.
    #[error("the authority of its certificate is an RSA key of less than {required} bits")]
    AuthorityTooShort {
        /// The length in bits that is required.
        required: u32,
    },
    /// The server signed with another algorithm than was agreed.
    #[error("its signature is of the kind {used:?}, and {agreed} was agreed")]
    Signature {
        /// The algorithm that the signature names.
        used: String,
        /// The agreed algorithm.
        agreed: String,
    },
}

impl HostKeyFault {
    /// What helps.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::TooShort { .. } => {
                "the host needs a longer key, or one of another kind: \
                 ssh-keygen -t ed25519 -f /etc/ssh/ssh_host_ed25519_key"
            }
            Self::AuthorityTooShort { .. } => {
                "the host needs a certificate of a longer authority's key, or of one of another kind"
            }
            Self::NotOffered { .. } | Self::NotAgreed { .. } | Self::Signature { .. } => {
                "the host shows or signs with a key that was not asked for; if nobody is in between, update its SSH \
                 server"
            }
        }
    }
}

/// The host key algorithms that were offered to a server.
#[derive(Debug, Clone)]
pub(in crate::ssh) struct OfferedAlgorithms {
    plain: Vec<Algorithm>,
    certificates: Vec<Algorithm>,
}

impl OfferedAlgorithms {
    /// Those of the lists that a connection is negotiated from.
    pub(in crate::ssh) fn new(preferred: &Preferred) -> Self {
        Self {
            plain: preferred.key.to_vec(),
            certificates: preferred.host_key_certificates.to_vec(),
        }
    }

    /// Whether a server may show this, before it is known what was agreed.
    ///
    /// # Errors
    /// [`HostKeyFault::NotOffered`].
    pub(in crate::ssh) fn check(&self, shown: &PublicKeyOrCertificate) -> Result<(), HostKeyFault> {
        let key = shown.public_key();
        let offered = match shown.certificate() {
            Some(_) => &self.certificates,
            None => &self.plain,
        };
        let kind = key.algorithm();
        // Where a plain key was agreed, a certificate is parsed as one.
        let disguised = key.key_data().certificate().is_some();
        if disguised || !offered.iter().any(|offered| same_kind(offered, &kind)) {
            return Err(HostKeyFault::NotOffered {
                shown: if disguised || shown.certificate().is_some() {
                    kind.to_certificate_type()
                } else {
                    kind.to_string()
                },
            });
        }
        Ok(())
    }
}

/// Holds the kind of the key that a server showed against the agreed algorithm.
///
/// # Errors
/// [`HostKeyFault::NotAgreed`].
pub(in crate::ssh) fn check_kind(
    shown: &Algorithm,
    agreed: &Algorithm,
) -> Result<(), HostKeyFault> {
    if same_kind(shown, agreed) {
        return Ok(());
    }
    Err(HostKeyFault::NotAgreed {
        shown: shown.to_string(),
        agreed: agreed.to_string(),
    })
}

/// Holds the algorithm that a signature names against the agreed one. `signature`: the blob of RFC 4253, section 6.6,
/// which begins with the name.
///
/// # Errors
/// [`HostKeyFault::Signature`].
pub(in crate::ssh) fn check_signature(
    signature: &[u8],
    agreed: &Algorithm,
) -> Result<(), HostKeyFault> {
    let used = signature
        .split_first_chunk()
        .and_then(|(length, rest)| rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?))
        .unwrap_or_default();
    if used == agreed.as_str().as_bytes() {
        return Ok(());
    }
    Err(HostKeyFault::Signature {
        used: String::from_utf8_lossy(used).into_owned(),
        agreed: agreed.to_string(),
    })
}
