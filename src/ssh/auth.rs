//! Which keys are offered, in which order, and what became of each.
//!
//! Main type: [`Attempt`]. Invariant: at most [`MAX_OFFERS`] keys are offered on one connection, and a passphrase is
//! asked for only when the server has said that it would take that key.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::MethodKind;
use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::{Error as KeyError, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};

use super::algorithms;
use super::error::{SshError, bounded};
use super::handler::{ClientHandler, Shared};
use super::identity::{self, Agent, Candidate};
use super::options::ConnectOptions;
use super::target::Target;

/// OpenSSH servers disconnect at the sixth failure (`MaxAuthTries 6`).
const MAX_OFFERS: usize = 5;
/// How often a person may mistype a passphrase, as in ssh(1).
const MAX_PASSPHRASES: usize = 3;

/// One key and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// What a person knows the key by: its file, or the agent's comment.
    pub key: String,
    /// What became of it.
    pub outcome: AttemptOutcome,
}

/// What became of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptOutcome {
    /// The server does not accept it for this user.
    Rejected,
    /// The server takes it, and wants another method besides.
    Partial,
    /// It is encrypted, and there was no passphrase.
    Encrypted,
    /// It cannot be used, for this reason.
    Unusable(String),
    /// It was not offered, because servers disconnect after too many.
    NotOffered,
}

impl fmt::Display for Attempt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.key)?;
        match &self.outcome {
            AttemptOutcome::Rejected => formatter.write_str("rejected"),
            AttemptOutcome::Partial => formatter.write_str("accepted, but not enough"),
            AttemptOutcome::Encrypted => formatter.write_str("encrypted"),
            AttemptOutcome::Unusable(reason) => write!(formatter, "unusable, {reason}"),
            AttemptOutcome::NotOffered => formatter.write_str("not offered, too many keys"),
        }
    }
}

/// The attempts on one line.
pub(super) fn describe(tried: &[Attempt]) -> String {
    if tried.is_empty() {
        return "there is none".to_owned();
    }
    tried
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Logs in with the first key that the server takes.
pub(super) async fn authenticate(
    handle: &mut Handle<ClientHandler>,
    target: &Target,
    options: &ConnectOptions,
    shared: &Shared,
) -> Result<(), SshError> {
    let mut login = Login {
        handle,
        target,
        options,
        shared,
        tried: Vec::new(),
        methods: Vec::new(),
        accepted: algorithms::public_keys(target)?,
        rsa: None,
    };
    let mut bad_file = None;
    let (mut agent, candidates) = login.candidates(&mut bad_file).await?;
    let mut locked = None;
    let mut offers = 0;
    for candidate in candidates {
        let label = candidate.label();
        if offers == MAX_OFFERS {
            login.note(label, AttemptOutcome::NotOffered);
            continue;
        }
        offers += 1;
        let outcome = match candidate {
            Candidate::Agent { identity } => login.offer_agent(agent.as_mut(), &identity).await?,
            Candidate::Plain { key, .. } => login.offer_private(key).await?,
            Candidate::Encrypted { path, public } => {
                let outcome = login.offer_encrypted(&path, public).await?;
                if matches!(outcome, Offer::Not(AttemptOutcome::Encrypted)) {
                    locked.get_or_insert(path);
                }
                outcome
            }
        };
        match outcome {
            Offer::LoggedIn => return Ok(()),
            Offer::Not(outcome) => login.note(label, outcome),
        }
        if !login.methods.is_empty() && !login.methods.iter().any(|method| method == "publickey") {
            break;
        }
    }
    Err(login.failure(locked, bad_file))
}

/// What came of one offer.
enum Offer {
    LoggedIn,
    Not(AttemptOutcome),
}

/// One login under way.
struct Login<'a> {
    handle: &'a mut Handle<ClientHandler>,
    target: &'a Target,
    options: &'a ConnectOptions,
    shared: &'a Shared,
    tried: Vec<Attempt>,
    methods: Vec<String>,
    /// The public key algorithms that may be used.
    accepted: Vec<String>,
    /// The hash for RSA signatures, once asked for.
    rsa: Option<Option<HashAlg>>,
}

impl Login<'_> {
    fn note(&mut self, key: String, outcome: AttemptOutcome) {
        self.tried.push(Attempt { key, outcome });
    }

    fn failure(self, locked: Option<PathBuf>, bad_file: Option<(PathBuf, KeyError)>) -> SshError {
        let host = self.target.name.clone();
        if let Some(path) = locked {
            return SshError::KeyEncrypted { host, path };
        }
        match bad_file {
            Some((path, source)) if self.tried.len() == 1 => SshError::KeyFile { path, source },
            _ => SshError::AuthFailed {
                host,
                tried: self.tried,
                methods: self.methods,
            },
        }
    }

    /// The keys to offer, in order, and the agent that signs for some of them.
    async fn candidates(
        &mut self,
        bad_file: &mut Option<(PathBuf, KeyError)>,
    ) -> Result<(Option<Agent>, Vec<Candidate>), SshError> {
        let explicit = !self.target.identity_files.is_empty();
        let paths = if explicit {
            self.target.identity_files.clone()
        } else {
            self.options
                .identity_dir
                .as_deref()
                .map(identity::default_files)
                .unwrap_or_default()
        };
        let mut files = Vec::new();
        for path in paths {
            match identity::load(&path).await {
                Ok(candidate) => files.push(candidate),
                Err(KeyError::IO(error))
                    if !explicit && error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    self.note(
                        path.display().to_string(),
                        AttemptOutcome::Unusable(error.to_string()),
                    );
                    if explicit {
                        bad_file.get_or_insert((path, error));
                    }
                }
            }
        }
        let (agent, mut held) = self.agent_keys().await?;
        let mut ordered = Vec::new();
        if explicit {
            for file in files {
                let same = held
                    .iter()
                    .position(|key| key.public().is_some() && same_key(key, &file));
                ordered.push(same.map_or(file, |place| held.remove(place)));
            }
            ordered.append(&mut held);
        } else {
            files.retain(|file| !held.iter().any(|key| same_key(key, file)));
            // An agent full of keys for other hosts leaves room for the first two files.
            let room = MAX_OFFERS.saturating_sub(files.len().min(2));
            let rest = held.split_off(held.len().min(room));
            ordered.append(&mut held);
            ordered.append(&mut files);
            ordered.extend(rest);
        }
        Ok((agent, ordered))
    }

    async fn agent_keys(&mut self) -> Result<(Option<Agent>, Vec<Candidate>), SshError> {
        let binding = self.handle.agent_session_binding().cloned();
        let source = &self.options.agent;
        let work = async {
            let Some(mut agent) = identity::connect_agent(source).await? else {
                return Ok((None, Vec::new()));
            };
            if let Some(binding) = &binding {
                // Agents without the extension answer with a failure, which changes nothing.
                let _ = agent.bind_session(binding, false).await;
            }
            let keys = agent.request_identities().await?;
            Ok::<_, KeyError>((Some(agent), keys))
        };
        match tokio::time::timeout(self.options.deadlines.auth, work).await {
            Ok(Ok((agent, keys))) => {
                let keys = keys
                    .into_iter()
                    .filter(|key| matches!(key, AgentIdentity::PublicKey { .. }));
                Ok((
                    agent,
                    keys.map(|identity| Candidate::Agent {
                        identity: Box::new(identity),
                    })
                    .collect(),
                ))
            }
            Ok(Err(error)) => {
                self.note(
                    "agent".to_owned(),
                    AttemptOutcome::Unusable(error.to_string()),
                );
                Ok((None, Vec::new()))
            }
            Err(_) => {
                self.note(
                    "agent".to_owned(),
                    AttemptOutcome::Unusable("no answer".to_owned()),
                );
                Ok((None, Vec::new()))
            }
        }
    }

    async fn offer_private(&mut self, key: Arc<PrivateKey>) -> Result<Offer, SshError> {
        let hash = match self.hash_for(key.public_key()).await? {
            Ok(hash) => hash,
            Err(outcome) => return Ok(Offer::Not(outcome)),
        };
        let user = self.target.user.clone();
        let key = PrivateKeyWithHashAlg::new(key, hash);
        let after = self.options.deadlines.auth;
        let answer =
            tokio::time::timeout(after, self.handle.authenticate_publickey(user, key)).await;
        self.answer(answer.map(|result| result.map_err(|error| error.to_string())))
    }

    async fn offer_agent(
        &mut self,
        agent: Option<&mut Agent>,
        key: &AgentIdentity,
    ) -> Result<Offer, SshError> {
        let (Some(agent), AgentIdentity::PublicKey { key, .. }) = (agent, key) else {
            return Ok(Offer::Not(AttemptOutcome::Unusable("no agent".to_owned())));
        };
        let hash = match self.hash_for(key).await? {
            Ok(hash) => hash,
            Err(outcome) => return Ok(Offer::Not(outcome)),
        };
        let user = self.target.user.clone();
        let after = self.options.deadlines.auth;
        let answer = tokio::time::timeout(
            after,
            self.handle
                .authenticate_publickey_with(user, key.clone(), hash, agent),
        )
        .await;
        self.answer(
            answer.map(|result| result.map_err(|error| format!("the agent did not sign: {error}"))),
        )
    }

    async fn offer_encrypted(
        &mut self,
        path: &Path,
        public: Option<PublicKey>,
    ) -> Result<Offer, SshError> {
        if let Some(public) = public {
            match self.probe(public).await? {
                Probe::WouldTake => {}
                Probe::No(outcome) => return Ok(Offer::Not(outcome)),
            }
        }
        let Some(prompt) = self.options.prompt.clone() else {
            return Ok(Offer::Not(AttemptOutcome::Encrypted));
        };
        let mut reason = AttemptOutcome::Encrypted;
        for _ in 0..MAX_PASSPHRASES {
            let answer =
                tokio::time::timeout(self.options.deadlines.person, prompt.passphrase(path)).await;
            let Ok(Some(passphrase)) = answer else { break };
            match identity::decrypt(path, passphrase).await {
                Ok(key) => return self.offer_private(Arc::new(key)).await,
                Err(error) => reason = AttemptOutcome::Unusable(error.to_string()),
            }
        }
        Ok(Offer::Not(reason))
    }

    /// Asks whether the server would take a key, without signing anything.
    async fn probe(&mut self, key: PublicKey) -> Result<Probe, SshError> {
        let hash = match self.hash_for(&key).await? {
            Ok(hash) => hash,
            Err(outcome) => return Ok(Probe::No(outcome)),
        };
        let user = self.target.user.clone();
        let after = self.options.deadlines.auth;
        let answer = tokio::time::timeout(
            after,
            self.handle
                .authenticate_publickey_with(user, key, hash, &mut ProbeOnly),
        )
        .await;
        if matches!(answer, Ok(Err(ProbeEnd::WouldTake))) {
            return Ok(Probe::WouldTake);
        }
        match self
            .answer(answer.map(|result| result.map_err(|_| "the connection ended".to_owned())))?
        {
            Offer::Not(outcome) => Ok(Probe::No(outcome)),
            // Nothing was signed, so a server that lets us in checks nothing.
            Offer::LoggedIn => Ok(Probe::No(AttemptOutcome::Unusable(
                "accepted without a signature".to_owned(),
            ))),
        }
    }

    /// The signature hash for a key; SHA-1 is never used.
    async fn hash_for(
        &mut self,
        key: &PublicKey,
    ) -> Result<Result<Option<HashAlg>, AttemptOutcome>, SshError> {
        if !key.algorithm().is_rsa() {
            let name = key.algorithm();
            let accepted = self
                .accepted
                .iter()
                .any(|accepted| accepted == name.as_str());
            return Ok(if accepted {
                Ok(None)
            } else {
                Err(AttemptOutcome::Unusable(
                    "PubkeyAcceptedAlgorithms leaves its algorithm out".to_owned(),
                ))
            });
        }
        let hash = match self.rsa {
            Some(hash) => hash,
            None => {
                let answer = self
                    .handle
                    .best_supported_rsa_hash()
                    .await
                    .map_err(|_| self.lost())?;
                // A server that does not list its algorithms (RFC 8308) is offered the one that most have.
                let hash = answer.unwrap_or(Some(HashAlg::Sha512));
                self.rsa = Some(hash);
                hash
            }
        };
        Ok(hash.map(Some).ok_or_else(|| {
            AttemptOutcome::Unusable(
                "the server takes RSA keys only with SHA-1 signatures".to_owned(),
            )
        }))
    }

    fn answer(
        &mut self,
        answer: Result<Result<AuthResult, String>, tokio::time::error::Elapsed>,
    ) -> Result<Offer, SshError> {
        let after = self.options.deadlines.auth;
        let host = self.target.name.clone();
        match answer {
            Err(_) => Err(SshError::TimedOut {
                host,
                what: "authentication",
                after,
            }),
            Ok(Ok(AuthResult::Success)) => Ok(Offer::LoggedIn),
            // A disconnect looks like a failure with no way on.
            Ok(_) if self.handle.is_closed() => Err(self.lost()),
            Ok(Ok(AuthResult::Failure {
                remaining_methods,
                partial_success,
            })) => {
                self.methods = remaining_methods
                    .iter()
                    .map(|method: &MethodKind| method.into())
                    .map(str::to_owned)
                    .collect();
                let outcome = if partial_success {
                    AttemptOutcome::Partial
                } else {
                    AttemptOutcome::Rejected
                };
                Ok(Offer::Not(outcome))
            }
            Ok(Err(reason)) => Ok(Offer::Not(AttemptOutcome::Unusable(bounded(&reason, 200)))),
        }
    }

    fn lost(&self) -> SshError {
        SshError::Lost {
            host: self.target.name.clone(),
            source: self.shared.cause(),
        }
    }
}

fn same_key(left: &Candidate, right: &Candidate) -> bool {
    match (left.public(), right.public()) {
        (Some(left), Some(right)) => left.key_data() == right.key_data(),
        _ => false,
    }
}

enum Probe {
    WouldTake,
    No(AttemptOutcome),
}

/// A signer that never signs: being asked to is the answer.
struct ProbeOnly;

enum ProbeEnd {
    WouldTake,
    Closed,
}

impl From<russh::SendError> for ProbeEnd {
    fn from(_: russh::SendError) -> Self {
        Self::Closed
    }
}

impl russh::Signer for ProbeOnly {
    type Error = ProbeEnd;

    fn auth_sign(
        &mut self,
        _key: &AgentIdentity,
        _hash: Option<HashAlg>,
        _data: Vec<u8>,
    ) -> impl Future<Output = Result<Vec<u8>, Self::Error>> + Send {
        std::future::ready(Err(ProbeEnd::WouldTake))
    }
}
