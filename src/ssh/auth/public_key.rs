//! Offering keys and certificates.
//!
//! Invariant: the server is asked whether it would take a key before a person is asked to open it.

use std::path::Path;
use std::sync::Arc;

use russh::client::AuthResult;
use russh::keys::agent::AgentIdentity;
use russh::keys::{Algorithm, Certificate, HashAlg, PrivateKey, PublicKey};
use tokio::time::error::Elapsed;

use super::signer::{AgentSigner, KeySigner, ProbeOnly, SignError};
use super::{AttemptOutcome, Login, MAX_FAILURES, Offer};
use crate::ssh::SshError;
use crate::ssh::algorithms;
use crate::ssh::error::with_causes;
use crate::ssh::identity::{
    self, Candidate, Holder, KeyFile, KeyFileError, Secret, Sources, agent_source, connect_agent,
};
use crate::ssh::person::Person;

/// How often a person may mistype a passphrase, as in ssh(1).
const MAX_PASSPHRASES: usize = 3;
/// How many files keep their place when an agent is full of keys for other hosts.
const ROOM_FOR_FILES: usize = 2;

/// What a server says of RSA signatures (RFC 8308, `server-sig-algs`).
#[derive(Debug, Clone, Copy)]
pub(super) enum ServerHash {
    /// Nothing.
    Unsaid,
    /// This is the best that it takes.
    Best(HashAlg),
    /// It takes SHA-1 alone, which is not made here.
    Sha1Only,
}

/// What the server sees of a candidate.
struct Shown {
    key: PublicKey,
    certificate: Option<Certificate>,
    hash: Option<HashAlg>,
}

impl Login<'_> {
    /// Reads the key files and asks the agent.
    pub(super) async fn find_candidates(&mut self) {
        let mut sources = Sources {
            identities_only: self.target.settings.identities_only,
            ..Sources::default()
        };
        for path in &self.target.settings.certificate_files {
            match identity::load_certificate(path).await {
                Ok(certificate) => sources.certificates.push(certificate),
                Err(error) => self.note(
                    path.display().to_string(),
                    AttemptOutcome::Unusable(with_causes(&error)),
                ),
            }
        }
        let explicit = !self.target.identity_files.is_empty();
        let paths = if explicit {
            self.target.identity_files.clone()
        } else if self.target.settings.no_identity_files {
            Vec::new()
        } else {
            let directory = self.options.identity_dir.as_deref();
            directory.map(identity::default_files).unwrap_or_default()
        };
        for path in paths {
            let (file, certificate) = identity::load(&path).await;
            match certificate {
                None => {}
                Some(Ok(certificate)) => {
                    let known = |other: &identity::CertificateFile| other.path == certificate.path;
                    if !sources.certificates.iter().any(known) {
                        sources.certificates.push(certificate);
                    }
                }
                Some(Err((path, error))) => self.note(
                    path.display().to_string(),
                    AttemptOutcome::Unusable(with_causes(&error)),
                ),
            }
            match file {
                Ok(file) => sources.files.push(file),
                Err(KeyFileError::Read(error))
                    if !explicit && error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => self.unusable(&path, error, explicit),
            }
        }
        sources.held = self.agent_keys().await;
        let candidates = sources.order();
        for (path, error) in candidates.unusable {
            self.unusable(&path, error, explicit);
        }
        self.candidates = with_room(candidates.ordered, candidates.in_files).into();
    }

    fn unusable(&mut self, path: &Path, error: KeyFileError, explicit: bool) {
        self.note(
            path.display().to_string(),
            AttemptOutcome::Unusable(with_causes(&error)),
        );
        if explicit && self.bad_file.is_none() {
            self.bad_file = Some((path.to_owned(), error));
        }
    }

    async fn agent_keys(&mut self) -> Vec<AgentIdentity> {
        let source = agent_source(&self.target.settings.identity_agent, &self.options.agent);
        let binding = self.handle.agent_session_binding().cloned();
        let work = connect_agent(&source, binding.as_ref());
        let failure = match tokio::time::timeout(self.options.deadlines.auth, work).await {
            Ok(Ok(Some((agent, held)))) => {
                self.agent = Some(agent);
                if held.unreadable > 0 {
                    let count = held.unreadable;
                    self.note_agent(format!("{count} of its keys cannot be read"));
                }
                return held.keys;
            }
            Ok(Ok(None)) => return Vec::new(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        self.note_agent(failure);
        Vec::new()
    }

    /// Offers the next key; nothing when there is none, or when the server's last try is better left to a person. Where
    /// nobody can use it the server is left to end the login, as by ssh(1).
    pub(super) async fn offer_next_key(&mut self) -> Result<Option<Offer>, SshError> {
        if self.failures >= MAX_FAILURES && self.leaves_a_try_to_a_person() {
            return Ok(None);
        }
        let Some(candidate) = self.candidates.pop_front() else {
            return Ok(None);
        };
        let label = candidate.label.clone();
        let fault = candidate.fault();
        self.offering = Some(label.clone());
        let offer = self.offer(candidate).await;
        let offer = offer?;
        self.offering = None;
        let outcome = match offer {
            Offer::LoggedIn => return Ok(Some(Offer::LoggedIn)),
            Offer::Not(AttemptOutcome::Rejected) => match fault {
                Some(fault) => {
                    self.expired
                        .get_or_insert_with(|| (label.clone(), fault.clone()));
                    AttemptOutcome::Certificate(fault)
                }
                None => AttemptOutcome::Rejected,
            },
            Offer::Not(outcome) => outcome,
        };
        self.note(label, outcome.clone());
        Ok(Some(Offer::Not(outcome)))
    }

    async fn offer(&mut self, candidate: Candidate) -> Result<Offer, SshError> {
        let shown = match candidate.public() {
            Some(key) => match self.shown(key, candidate.certificate.as_deref()).await? {
                Ok(shown) => Some(shown),
                Err(outcome) => return Ok(Offer::Not(outcome)),
            },
            None => None,
        };
        match (candidate.holder, shown) {
            (Holder::Agent(identity), Some(shown)) => {
                let Some(mut agent) = self.agent.take() else {
                    return Ok(Offer::Not(AttemptOutcome::Unusable("no agent".to_owned())));
                };
                let deadlines = &self.options.deadlines;
                let signer = AgentSigner {
                    agent: &mut agent,
                    identity: &identity,
                    // It may ask the person itself, for a touch of the key or a yes (ssh-add(1), `-c`).
                    after: match self.options.person {
                        Some(_) => deadlines.person,
                        None => deadlines.auth,
                    },
                    signatures: &self.signatures.clone(),
                };
                let answer = self.send(shown, signer).await;
                // A late signature would be taken for the answer to the next request.
                if !matches!(answer, Ok(Err(SignError::AgentSilent))) {
                    self.agent = Some(agent);
                }
                self.signed(answer).await
            }
            (Holder::File(file), shown) => match (&file.secret, shown) {
                (Secret::Plain(key), Some(shown)) => {
                    let answer = self.send(shown, KeySigner(key.clone())).await;
                    self.signed(answer).await
                }
                (_, shown) => {
                    let certificate = candidate.certificate.as_deref();
                    self.offer_encrypted(&file, certificate, shown).await
                }
            },
            (Holder::Agent(_), None) => Ok(Offer::Not(AttemptOutcome::Unusable(
                "the agent shows no key".to_owned(),
            ))),
        }
    }

    async fn offer_encrypted(
        &mut self,
        file: &KeyFile,
        certificate: Option<&Certificate>,
        shown: Option<Shown>,
    ) -> Result<Offer, SshError> {
        if let Some(shown) = shown {
            match self.send(shown, ProbeOnly).await {
                Ok(Err(SignError::Wanted)) => {}
                answer => match self.signed(answer).await? {
                    Offer::Not(outcome) => return Ok(Offer::Not(outcome)),
                    // Nothing was signed, so a server that lets us in checks nothing.
                    Offer::LoggedIn => {
                        return Ok(Offer::Not(AttemptOutcome::Unusable(
                            "accepted without a signature".to_owned(),
                        )));
                    }
                },
            }
        }
        let key = match self.open(&file.path).await? {
            Ok(key) => Arc::new(key),
            Err(outcome) => return Ok(Offer::Not(outcome)),
        };
        match self.shown(key.public_key().clone(), certificate).await? {
            Ok(shown) => {
                let answer = self.send(shown, KeySigner(key)).await;
                self.signed(answer).await
            }
            Err(outcome) => Ok(Offer::Not(outcome)),
        }
    }

    /// Opens a key file: with the passphrase that has opened it before, or with the person's.
    async fn open(&mut self, path: &Path) -> Result<Result<PrivateKey, AttemptOutcome>, SshError> {
        let mut outcome = AttemptOutcome::Encrypted;
        if let Some(person) = self.person() {
            if let Some(key) = opened_again(&person, path).await {
                return Ok(Ok(key));
            }
            match self.turn(&person).await? {
                Some(turn) => {
                    // While this waited for its turn, the file may have been opened for another host.
                    if let Some(key) = opened_again(&person, path).await {
                        return Ok(Ok(key));
                    }
                    for _ in 0..MAX_PASSPHRASES {
                        let asked = turn.prompt().passphrase(path);
                        let Some(passphrase) = self.answered(&turn, asked).await else {
                            // Whoever has been asked needs not be told that nobody can be.
                            if outcome == AttemptOutcome::Encrypted {
                                outcome = AttemptOutcome::NotAnswered;
                            }
                            break;
                        };
                        match identity::decrypt(path, passphrase.clone()).await {
                            Ok(key) => {
                                person.remember(path, passphrase);
                                return Ok(Ok(key));
                            }
                            Err(error) => outcome = AttemptOutcome::Unusable(with_causes(&error)),
                        }
                    }
                }
                None => self.is_alone = true,
            }
        }
        if outcome == AttemptOutcome::Encrypted {
            self.locked.get_or_insert_with(|| path.to_owned());
        }
        Ok(Err(outcome))
    }

    /// What the server is to see, or why this key is not offered at all.
    async fn shown(
        &mut self,
        key: PublicKey,
        certificate: Option<&Certificate>,
    ) -> Result<Result<Shown, AttemptOutcome>, SshError> {
        let name = |algorithm: Algorithm| match certificate {
            Some(_) => algorithm.to_certificate_type(),
            None => algorithm.as_str().to_owned(),
        };
        let left_out =
            || AttemptOutcome::Unusable("PubkeyAcceptedAlgorithms leaves it out".to_owned());
        if algorithms::is_too_short(self.target, key.key_data()) {
            let reason = "it is shorter than RequiredRSASize".to_owned();
            return Ok(Err(AttemptOutcome::Unusable(reason)));
        }
        let algorithm = key.algorithm();
        let hash = if algorithm.clone().is_rsa() {
            let hashes = [HashAlg::Sha512, HashAlg::Sha256];
            let wanted: Vec<HashAlg> = hashes
                .into_iter()
                .filter(|hash| {
                    let name = name(Algorithm::Rsa { hash: Some(*hash) });
                    self.accepted.contains(&name)
                })
                .collect();
            let Some(&first) = wanted.first() else {
                return Ok(Err(left_out()));
            };
            match self.server_hash().await? {
                ServerHash::Best(best) if wanted.contains(&best) => Some(best),
                // One that lists the stronger hash has the weaker one too, and one that lists nothing may have both.
                ServerHash::Best(_) | ServerHash::Unsaid => Some(first),
                ServerHash::Sha1Only => {
                    return Ok(Err(AttemptOutcome::Unusable(
                        "the server takes RSA keys only with SHA-1 signatures".to_owned(),
                    )));
                }
            }
        } else if self.accepted.contains(&name(algorithm)) {
            None
        } else {
            return Ok(Err(left_out()));
        };
        Ok(Ok(Shown {
            key,
            certificate: certificate.cloned(),
            hash,
        }))
    }

    /// What the server says of RSA signatures.
    async fn server_hash(&mut self) -> Result<ServerHash, SshError> {
        if let Some(known) = self.rsa {
            return Ok(known);
        }
        let hash = match self.handle.best_supported_rsa_hash().await {
            Ok(None) => ServerHash::Unsaid,
            Ok(Some(Some(best))) => ServerHash::Best(best),
            Ok(Some(None)) => ServerHash::Sha1Only,
            Err(_) => return Err(self.ended().await),
        };
        self.rsa = Some(hash);
        Ok(hash)
    }

    /// Shows a key or certificate, and signs when the server would take it.
    async fn send<S: russh::Signer<Error = SignError>>(
        &mut self,
        shown: Shown,
        mut signer: S,
    ) -> Result<Result<AuthResult, SignError>, Elapsed> {
        let user = self.target.user.clone();
        let after = self.options.deadlines.auth;
        let signatures = self.signatures.clone();
        let Shown {
            key,
            certificate,
            hash,
        } = shown;
        match certificate {
            Some(certificate) => {
                let work =
                    self.handle
                        .authenticate_certificate_with(user, certificate, hash, &mut signer);
                signatures.not_counted(after, work).await
            }
            None => {
                let work = self
                    .handle
                    .authenticate_publickey_with(user, key, hash, &mut signer);
                signatures.not_counted(after, work).await
            }
        }
    }

    async fn signed(
        &mut self,
        answer: Result<Result<AuthResult, SignError>, Elapsed>,
    ) -> Result<Offer, SshError> {
        self.answer(answer.map(|result| result.map_err(|error| with_causes(&error))))
            .await
    }
}

/// Opens a key file with the passphrase that has opened it before; one that does not any more is forgotten.
async fn opened_again(person: &Person, path: &Path) -> Option<PrivateKey> {
    let passphrase = person.passphrase(path)?;
    match identity::decrypt(path, passphrase).await {
        Ok(key) => Some(key),
        Err(error) => {
            tracing::debug!(%error, "a key file has changed since it was opened");
            person.forget(path);
            None
        }
    }
}

/// Lets the first files have a place among those that can be offered, before the agent's last keys.
fn with_room(mut ordered: Vec<Candidate>, in_files: usize) -> Vec<Candidate> {
    let is_file = |candidate: &Candidate| matches!(candidate.holder, Holder::File(_));
    if in_files == 0 || ordered.len() <= MAX_FAILURES {
        return ordered;
    }
    let first_file = ordered
        .iter()
        .position(|candidate| is_file(candidate) && candidate.certificate.is_none());
    let room = MAX_FAILURES - in_files.min(ROOM_FOR_FILES);
    match first_file {
        Some(first) if first > room => {
            let files: Vec<_> = ordered.drain(first..first + in_files).collect();
            let rest = ordered.split_off(room);
            ordered.extend(files);
            ordered.extend(rest);
            ordered
        }
        _ => ordered,
    }
}
