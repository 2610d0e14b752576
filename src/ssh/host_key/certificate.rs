//! Host certificates, and what both kinds of certificates can be faulted for.
//!
//! Main type: [`CertificateFault`]. Invariant: a certificate counts only when everything in it is understood and holds:
//! its kind, its time, its principal, no critical option that is not known, and the authority's signature over it
//! (OpenSSH's PROTOCOL.certkeys).

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate};

/// Why a certificate does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateFault {
    /// Its time is over.
    Expired {
        /// The first second at which it was not valid any more.
        at: SystemTime,
    },
    /// Its time has not begun. This machine's clock may be behind.
    NotYetValid {
        /// The first second at which it is valid.
        from: SystemTime,
    },
    /// It was made for other names.
    WrongPrincipal,
    /// It has a critical option that is not known here.
    CriticalOption,
    /// It is a user's where a host's is due, or the other way round.
    WrongKind,
    /// The authority's signature does not hold, or was made with SHA-1 or DSA, or in a way that
    /// `CASignatureAlgorithms` leaves out.
    Signature,
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |time: &SystemTime| humantime::format_rfc3339_seconds(*time);
        match self {
            Self::Expired { at: time } => write!(formatter, "it expired at {}", at(time)),
            Self::NotYetValid { from } => write!(formatter, "it is not valid before {}", at(from)),
            Self::WrongPrincipal => formatter.write_str("it was made for another name"),
            Self::CriticalOption => {
                formatter.write_str("it has a critical option that is not known")
            }
            Self::WrongKind => formatter.write_str("it is of the wrong kind"),
            Self::Signature => formatter.write_str("its signature does not hold"),
        }
    }
}

impl CertificateFault {
    /// The same without times, for those who are told names and kinds alone.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "has expired",
            Self::NotYetValid { .. } => "is not valid yet",
            Self::WrongPrincipal => "was made for another name",
            Self::CriticalOption => "has a critical option that is not known",
            Self::WrongKind => "is of the wrong kind",
            Self::Signature => "has a signature that does not hold",
        }
    }
}

/// What is on record about a host certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateVerdict {
    /// An authority that is trusted for this host vouches for it.
    Trusted,
    /// The authority is trusted for this host, but the certificate does not count.
    Faulty(CertificateFault),
    /// No authority on record for this host has signed it: the key in it is a host key like any other.
    NoAuthority,
    /// The authority, or the key in it, is revoked for this host.
    Revoked {
        /// The file that says so.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

/// What is wrong with a host certificate for `name`, whose authority is trusted.
pub(super) fn host_fault(
    certificate: &Certificate,
    name: &str,
    now: SystemTime,
) -> Option<CertificateFault> {
    if certificate.cert_type() != CertType::Host {
        return Some(CertificateFault::WrongKind);
    }
    if let Some(fault) = time_fault(certificate, now) {
        return Some(fault);
    }
    let name = name.to_ascii_lowercase();
    let principals = certificate.valid_principals();
    // PROTOCOL.certkeys: no principal at all means any of its kind. ssh(1) does not read a host's as patterns.
    if !principals.is_empty() && !principals.contains(&name) {
        return Some(CertificateFault::WrongPrincipal);
    }
    // No critical option is defined for hosts.
    if certificate.critical_options().iter().next().is_some() {
        return Some(CertificateFault::CriticalOption);
    }
    (!signature_holds(certificate)).then_some(CertificateFault::Signature)
}

/// Whether a certificate's time is over or has not begun.
pub(in crate::ssh) fn time_fault(
    certificate: &Certificate,
    now: SystemTime,
) -> Option<CertificateFault> {
    let seconds = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    if seconds < certificate.valid_after() {
        return Some(CertificateFault::NotYetValid {
            from: time(certificate.valid_after()),
        });
    }
    (seconds >= certificate.valid_before()).then(|| CertificateFault::Expired {
        at: time(certificate.valid_before()),
    })
}

/// The time, kept within what a date can be written for.
fn time(seconds: u64) -> SystemTime {
    const END_OF_9999: u64 = 253_402_300_799;
    UNIX_EPOCH + Duration::from_secs(seconds.min(END_OF_9999))
}

fn signature_holds(certificate: &Certificate) -> bool {
    let algorithm = certificate.signature().algorithm();
    let sound = !matches!(algorithm, Algorithm::Rsa { hash: None } | Algorithm::Dsa);
    sound && certificate.verify_signature().is_ok()
}

/// The key inside a certificate and its authority's.
pub(super) fn keys(certificate: &Certificate) -> [&KeyData; 2] {
    [certificate.public_key(), certificate.signature_key()]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::certificate::Builder;

    use super::*;
    use crate::ssh::host_key::KnownHosts;

    fn key() -> PrivateKey {
        PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap()
    }

    /// A certificate of `authority` that is valid from second 100 to second 200.
    fn certificate(
        authority: &PrivateKey,
        subject: &PrivateKey,
        kind: CertType,
        names: &[&str],
    ) -> Certificate {
        let public = subject.public_key();
        let mut builder =
            Builder::new_with_random_nonce(&mut rand::rng(), public, 100, 200).unwrap();
        builder.cert_type(kind).unwrap().key_id("a test").unwrap();
        for name in names {
            builder.valid_principal(*name).unwrap();
        }
        if names.is_empty() {
            builder.all_principals_valid().unwrap();
        }
        builder.sign(authority).unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn known(lines: &str) -> KnownHosts {
        let mut known = KnownHosts::default();
        known.add(Path::new("known_hosts"), lines.as_bytes());
        known
    }

    #[test]
    fn everything_in_a_certificate_must_hold() {
        use CertificateFault as Fault;
        let (authority, subject) = (key(), key());
        let line = authority.public_key().to_openssh().unwrap();
        let known = known(&format!("@cert-authority * {line}"));
        let judge = |certificate: &Certificate, name: &str, port: u16, seconds: u64| {
            known.check_certificate(name, port, certificate, at(seconds))
        };
        let good = certificate(&authority, &subject, CertType::Host, &["box"]);
        for (name, seconds, wanted) in [
            ("box", 100, None),
            ("BOX", 199, None),
            ("box", 99, Some(Fault::NotYetValid { from: at(100) })),
            ("box", 200, Some(Fault::Expired { at: at(200) })),
            ("other", 150, Some(Fault::WrongPrincipal)),
        ] {
            let wanted = wanted.map_or(CertificateVerdict::Trusted, CertificateVerdict::Faulty);
            for port in [22, 2222] {
                assert_eq!(
                    judge(&good, name, port, seconds),
                    wanted,
                    "{name} at {seconds}"
                );
            }
        }
        let users = certificate(&authority, &subject, CertType::User, &["box"]);
        assert_eq!(
            judge(&users, "box", 22, 150),
            CertificateVerdict::Faulty(Fault::WrongKind)
        );
        let stranger = certificate(&subject, &subject, CertType::Host, &["box"]);
        assert_eq!(
            judge(&stranger, "box", 22, 150),
            CertificateVerdict::NoAuthority
        );

        // One bit of what was signed is another one: the name, which is followed by the times.
        let bytes = good.to_bytes().unwrap();
        let place = bytes
            .windows(3)
            .position(|window| window == b"box")
            .unwrap();
        let mut forged = bytes;
        *forged.get_mut(place + 2).unwrap() = b'y';
        let forged = Certificate::from_bytes(&forged).unwrap();
        assert_eq!(
            judge(&forged, "boy", 22, 150),
            CertificateVerdict::Faulty(Fault::Signature)
        );
    }

    #[test]
    fn a_fault_can_be_told_whatever_its_time() {
        for seconds in [0, 1, u64::MAX] {
            let words = CertificateFault::Expired { at: time(seconds) }.to_string();
            assert!(words.starts_with("it expired at "), "{words}");
        }
    }

    proptest! {
        #[test]
        fn a_revoked_authority_or_key_beats_every_other_line(
            names in "[ -~]{0,40}",
            of_the_key in any::<bool>(),
            first in any::<bool>(),
        ) {
            let (authority, subject) = (key(), key());
            let certificate = certificate(&authority, &subject, CertType::Host, &[]);
            let line = authority.public_key().to_openssh().unwrap();
            let revoked = if of_the_key { &subject } else { &authority };
            let revoked = format!("@revoked box {}", revoked.public_key().to_openssh().unwrap());
            let rest = format!("@cert-authority {names} {line}\n@cert-authority * {line}");
            let lines = if first { format!("{revoked}\n{rest}") } else { format!("{rest}\n{revoked}") };
            let verdict = known(&lines).check_certificate("box", 2222, &certificate, at(150));
            let is_revoked = matches!(verdict, CertificateVerdict::Revoked { .. });
            prop_assert!(is_revoked, "{:?}", verdict);
        }
    }
}
