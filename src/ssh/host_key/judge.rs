//! The decision over what a server shows: let it pass, ask, or refuse.
//!
//! Main type: [`KeyJudge`]. Invariant: only an unknown key is ever asked about or accepted anew; a changed or revoked
//! one and a certificate that does not count are refused, whoever is there to ask.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use russh::keys::{Certificate, PublicKey, PublicKeyOrCertificate};

use super::{
    CertificateFault, CertificateVerdict, HostKeyFault, KnownHosts, Verdict, algorithm_name,
    fingerprint,
};
use crate::hosts::StrictHostKeyChecking;
use crate::ssh::SshError;
use crate::ssh::algorithms;
use crate::ssh::options::{ConnectOptions, UnknownHostKey};
use crate::ssh::target::Target;

/// Refuses a key, or the authority of its certificate, that is shorter than the host's `RequiredRSASize`.
///
/// # Errors
/// [`SshError::HostKeyRefused`].
pub(in crate::ssh) fn require_size(
    target: &Target,
    key: &PublicKey,
    certificate: Option<&Certificate>,
) -> Result<(), SshError> {
    let is_short = |key| algorithms::is_too_short(target, key);
    let required = algorithms::required_rsa_size(target);
    let fault = if is_short(key.key_data()) {
        HostKeyFault::TooShort { required }
    } else if certificate.is_some_and(|certificate| is_short(certificate.signature_key())) {
        HostKeyFault::AuthorityTooShort { required }
    } else {
        return Ok(());
    };
    Err(SshError::HostKeyRefused {
        host: target.name.clone(),
        fault,
    })
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
        if self.is_on_record(verdict, key)? {
            return Ok(());
        }
        self.unknown(key, asking).await
    }

    /// Whether a key is on record; one that is refused is an error.
    fn is_on_record(&self, verdict: Verdict, key: &PublicKey) -> Result<bool, SshError> {
        match verdict {
            Verdict::Known => Ok(true),
            Verdict::Unknown => Ok(false),
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
        let answer = match self.target.settings.strict_host_key_checking {
            StrictHostKeyChecking::Yes => Answer::No,
            StrictHostKeyChecking::AcceptNew => Answer::Yes,
            StrictHostKeyChecking::Ask => {
                let question = UnknownHostKey {
                    host,
                    address: self.target.address.clone(),
                    port: self.target.port,
                    algorithm,
                    fingerprint,
                };
                asking.store(true, Ordering::SeqCst);
                let answer = self.ask(key, &question).await;
                asking.store(false, Ordering::SeqCst);
                answer?
            }
        };
        match answer {
            Answer::No => Err(unknown),
            Answer::Yes => KnownHosts::trust(&self.target, &self.options, key).await,
            Answer::OnRecord => Ok(()),
        }
    }

    async fn ask(&self, key: &PublicKey, question: &UnknownHostKey) -> Result<Answer, SshError> {
        let Some(person) = &self.options.person else {
            return Ok(Answer::No);
        };
        let Some(turn) = person.turn().await else {
            return Ok(Answer::No);
        };
        // While this waited for its turn, this host's key may have been accepted: the same one, or another.
        let known = KnownHosts::load(&self.options.host_key_files(&self.target)).await?;
        let (name, port) = self.target.host_key_name();
        if self.is_on_record(known.check(name, port, key), key)? {
            return Ok(Answer::OnRecord);
        }
        let accepted = turn.prompt().accept_host_key(question);
        let accepted = turn.answer(self.options.deadlines.person, accepted).await;
        Ok(match accepted {
            Ok(true) => Answer::Yes,
            Ok(false) | Err(_) => Answer::No,
        })
    }
}

/// What comes of an unknown key.
enum Answer {
    /// It is accepted, and to be written down.
    Yes,
    /// It is not accepted.
    No,
    /// It was written down meanwhile.
    OnRecord,
}

/// The authority's algorithm and fingerprint.
fn authority(certificate: &Certificate) -> Box<str> {
    let key = PublicKey::from(certificate.signature_key().clone());
    format!("{} {}", algorithm_name(&key), fingerprint(&key)).into()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use async_trait::async_trait;
    use zeroize::Zeroizing;

    use super::*;
    use crate::ssh::options::Prompt;

    const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9dG4kjRhQTtWTVzd2t27+t0DEHBPW7iOD23TUiYLio";
    const TWO: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    /// Accepts every key.
    struct Yes;

    #[async_trait]
    impl Prompt for Yes {
        async fn passphrase(&self, _key_file: &Path) -> Option<Zeroizing<String>> {
            None
        }

        async fn accept_host_key(&self, _key: &UnknownHostKey) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn a_key_that_was_accepted_while_others_waited_for_their_turn_is_on_record_for_them() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("known_hosts");
        let options = ConnectOptions::default()
            .trusted_hosts(file.clone())
            .prompt(Arc::new(Yes));
        let target = Target::new("box".parse().unwrap(), "box", 22, "dev");
        // All of them looked before anything was on record.
        let judged = async |line: &str| {
            let judge = KeyJudge::new(KnownHosts::default(), &target, &options);
            let key: PublicKey = line.parse().unwrap();
            judge
                .judge(&PublicKeyOrCertificate::from(key), &AtomicBool::new(false))
                .await
        };
        judged(ONE).await.unwrap();
        judged(ONE).await.unwrap();
        let error = judged(TWO).await.unwrap_err();
        assert!(
            matches!(error, SshError::HostKeyChanged { .. }),
            "{error:?}"
        );
        assert_eq!(
            std::fs::read_to_string(&file).unwrap(),
            format!("box {ONE}\n")
        );
    }
}
