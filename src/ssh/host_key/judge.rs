//! The decision over what a server shows: let it pass, ask, or refuse.
//!
//! Main type: [`KeyJudge`]. Invariant: only an unknown key is ever asked about or accepted anew; a changed or revoked
//! one and a certificate that does not count are refused, whoever is there to ask.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use russh::keys::{Certificate, PublicKey, PublicKeyOrCertificate};

use super::{
    CertificateFault, CertificateVerdict, KnownHosts, Verdict, algorithm_name, fingerprint,
};
use crate::hosts::StrictHostKeyChecking;
use crate::ssh::SshError;
use crate::ssh::algorithms;
use crate::ssh::options::{ConnectOptions, UnknownHostKey};
use crate::ssh::target::Target;

/// Refuses a key, or the authority of its certificate, that is shorter than the host's `RequiredRSASize`.
///
/// # Errors
/// [`SshError::NoAlgorithm`].
pub(in crate::ssh) fn require_size(
    target: &Target,
    key: &PublicKey,
    certificate: Option<&Certificate>,
) -> Result<(), SshError> {
    let authority = certificate.map(Certificate::signature_key);
    let mut keys = [Some(key.key_data()), authority].into_iter().flatten();
    if keys.any(|key| algorithms::is_too_short(target, key)) {
        return Err(SshError::NoAlgorithm {
            host: target.name.clone(),
            keyword: "RequiredRSASize",
        });
    }
    Ok(())
}

/// What is on record about a certificate, and whether its authority may sign with that algorithm
/// (`CASignatureAlgorithms`).
pub(in crate::ssh) fn certificate_verdict(
    known: &KnownHosts,
    target: &Target,
    certificate: &Certificate,
) -> CertificateVerdict {
    let (name, port) = target.host_key_name();
    let verdict = known.check_certificate(name, port, certificate, SystemTime::now());
    if verdict == CertificateVerdict::Trusted
        && !algorithms::authority_may_sign(target, &certificate.signature().algorithm())
    {
        return CertificateVerdict::Faulty(CertificateFault::Signature);
    }
    verdict
}

/// What judging takes.
pub(in crate::ssh) struct KeyJudge {
    known: KnownHosts,
    target: Target,
    options: ConnectOptions,
}

impl KeyJudge {
    /// Makes a judge over the records `known`.
    pub(in crate::ssh) fn new(
        known: KnownHosts,
        target: &Target,
        options: &ConnectOptions,
    ) -> Self {
        Self {
            known,
            target: target.clone(),
            options: options.clone(),
        }
    }

    /// Judges what the server shows. `asking` is set for as long as a person is being asked.
    ///
    /// As ssh(1): a certificate that an authority on record vouches for needs no record of the key in it, and one that
    /// does not count is a plain key, which may be on record itself. Unlike there, a certificate of a trusted authority
    /// that does not count is no occasion to ask.
    ///
    /// # Errors
    /// The host key errors of [`SshError`].
    pub(in crate::ssh) async fn judge(
        &self,
        offered: &PublicKeyOrCertificate,
        asking: &AtomicBool,
    ) -> Result<(), SshError> {
        let key = offered.public_key();
        require_size(&self.target, &key, offered.certificate())?;
        let (name, port) = self.target.host_key_name();
        let plain = self.known.check(name, port, &key);
        let Some(certificate) = offered.certificate() else {
            return self.judge_key(plain, &key, asking).await;
        };
        match certificate_verdict(&self.known, &self.target, certificate) {
            CertificateVerdict::Trusted => Ok(()),
            CertificateVerdict::Revoked { file, line } => Err(self.revoked(&key, file, line)),
            CertificateVerdict::NoAuthority => self.judge_key(plain, &key, asking).await,
            CertificateVerdict::Faulty(_) if plain == Verdict::Known => Ok(()),
            CertificateVerdict::Faulty(fault) => Err(SshError::HostCertificate {
                host: self.target.name.clone(),
                fault: Box::new(fault),
                authority: authority(certificate),
            }),
        }
    }

    async fn judge_key(
        &self,
        verdict: Verdict,
        key: &PublicKey,
        asking: &AtomicBool,
    ) -> Result<(), SshError> {
        match verdict {
            Verdict::Known => Ok(()),
            Verdict::Changed {
                file,
                line,
                recorded,
            } => Err(SshError::HostKeyChanged {
                host: self.target.name.clone(),
                algorithm: algorithm_name(key).into(),
                offered: fingerprint(key).into(),
                recorded: recorded.into(),
                file,
                line,
            }),
            Verdict::Revoked { file, line } => Err(self.revoked(key, file, line)),
            Verdict::Unknown => self.unknown(key, asking).await,
        }
    }

    fn revoked(&self, key: &PublicKey, file: PathBuf, line: usize) -> SshError {
        SshError::HostKeyRevoked {
            host: self.target.name.clone(),
            algorithm: algorithm_name(key),
            fingerprint: fingerprint(key),
            file,
            line,
        }
    }

    async fn unknown(&self, key: &PublicKey, asking: &AtomicBool) -> Result<(), SshError> {
        let host = self.target.name.clone();
        let (algorithm, fingerprint) = (algorithm_name(key), fingerprint(key));
        let unknown = SshError::HostKeyUnknown {
            host: host.clone(),
            algorithm: algorithm.clone(),
            fingerprint: fingerprint.clone(),
        };
        let accepted = match self.target.settings.strict_host_key_checking {
            StrictHostKeyChecking::Yes => false,
            StrictHostKeyChecking::AcceptNew => true,
            StrictHostKeyChecking::Ask => {
                let question = UnknownHostKey {
                    host,
                    address: self.target.address.clone(),
                    port: self.target.port,
                    algorithm,
                    fingerprint,
                };
                self.ask(&question, asking).await
            }
        };
        if !accepted {
            return Err(unknown);
        }
        KnownHosts::trust(&self.target, &self.options, key).await
    }

    async fn ask(&self, question: &UnknownHostKey, asking: &AtomicBool) -> bool {
        let Some(person) = &self.options.person else {
            return false;
        };
        asking.store(true, Ordering::SeqCst);
        let accepted = match person.turn().await {
            Some(turn) => {
                let answer = turn.prompt().accept_host_key(question);
                let after = self.options.deadlines.person;
                turn.answer(after, answer).await.unwrap_or(false)
            }
            None => false,
        };
        asking.store(false, Ordering::SeqCst);
        accepted
    }
}

/// The authority's algorithm and fingerprint.
fn authority(certificate: &Certificate) -> Box<str> {
    let key = PublicKey::from(certificate.signature_key().clone());
    format!("{} {}", algorithm_name(&key), fingerprint(&key)).into()
}
