//! Logging in: which method comes next, what was tried, and when to stop.
//!
//! Main function: [`authenticate`]. Invariant: where a person could still go on, keys take no more than
//! [`MAX_FAILURES`] of the failures that a server allows; SHA-1 signs nothing; and a passphrase is asked for only when
//! the server has said that it would take that key.

mod attempt;
mod interactive;
mod public_key;
mod signer;

use std::collections::VecDeque;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use russh::client::{AuthResult, Handle};
use russh::{MethodKind, MethodSet};

pub use attempt::{Attempt, AttemptOutcome};

pub(super) use attempt::describe;

use super::algorithms;
use super::cause::LostCause;
use super::error::{AUTHENTICATION, SshError};
use super::handler::{ClientHandler, Shared};
use super::host_key::CertificateFault;
use super::identity::{Agent, Candidate, KeyFileError};
use super::options::ConnectOptions;
use super::person::{Person, Turn};
use super::target::Target;

/// OpenSSH servers disconnect at the sixth failure (`MaxAuthTries 6`), which is left to a person.
const MAX_FAILURES: usize = 5;
/// How long the session's task may take to say why it ended.
const CAUSE_DELAY: Duration = Duration::from_secs(2);

/// Logs in.
///
/// The methods are tried in the configured order, which is OpenSSH's unless something else is configured: keys, then
/// the server's questions, then a password. The last two are for a person alone.
pub(super) async fn authenticate(
    handle: &mut Handle<ClientHandler>,
    target: &Target,
    options: &ConnectOptions,
    shared: &Shared,
) -> Result<(), SshError> {
    let mut login = Login {
        methods: methods(target)?,
        handle,
        target,
        options,
        shared,
        tried: Vec::new(),
        offered: None,
        failures: 0,
        rejected_answers: 0,
        accepted: algorithms::public_keys(target)?,
        rsa: None,
        agent: None,
        signatures: signer::Signatures::default(),
        offering: None,
        candidates: VecDeque::new(),
        locked: None,
        is_alone: false,
        expired: None,
        asides: 0,
        bad_file: None,
    };
    login.run().await
}

/// A way to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    PublicKey,
    KeyboardInteractive,
    Password,
}

impl Method {
    const ALL: [Self; 3] = [Self::PublicKey, Self::KeyboardInteractive, Self::Password];

    fn kind(self) -> MethodKind {
        match self {
            Self::PublicKey => MethodKind::PublicKey,
            Self::KeyboardInteractive => MethodKind::KeyboardInteractive,
            Self::Password => MethodKind::Password,
        }
    }

    fn name(self) -> &'static str {
        (&self.kind()).into()
    }
}

/// The methods in the order in which they are tried.
fn methods(target: &Target) -> Result<Vec<Method>, SshError> {
    let Some(names) = &target.settings.preferred_authentications else {
        return Ok(Method::ALL.to_vec());
    };
    let known = |name: &String| Method::ALL.into_iter().find(|method| method.name() == name);
    let methods: Vec<Method> = names.iter().filter_map(known).collect();
    if methods.is_empty() {
        return Err(SshError::NoAlgorithm {
            host: target.name.clone(),
            keyword: "PreferredAuthentications",
        });
    }
    Ok(methods)
}

/// What came of one attempt.
enum Offer {
    LoggedIn,
    Not(AttemptOutcome),
}

/// One login under way.
struct Login<'a> {
    /// The methods in the order in which they are tried.
    methods: Vec<Method>,
    handle: &'a mut Handle<ClientHandler>,
    target: &'a Target,
    options: &'a ConnectOptions,
    shared: &'a Shared,
    tried: Vec<Attempt>,
    /// The methods that the server would go on with, once it has said so.
    offered: Option<MethodSet>,
    /// The wrong answers so far.
    failures: usize,
    /// The person's answers that the server has rejected.
    rejected_answers: usize,
    /// The public key algorithms that may be used.
    accepted: Vec<String>,
    /// What the server says of RSA signatures, once asked.
    rsa: Option<public_key::ServerHash>,
    agent: Option<Agent>,
    /// The agent's signatures so far.
    signatures: signer::Signatures,
    /// The key that the server has not answered yet.
    offering: Option<String>,
    /// The keys that are left to offer.
    candidates: VecDeque<Candidate>,
    /// The first key file that the server would take, had there been a passphrase.
    locked: Option<PathBuf>,
    /// A question has stayed without an answer until its deadline: nobody is asked any more.
    is_alone: bool,
    /// The first certificate that was rejected and is out of time.
    expired: Option<(String, CertificateFault)>,
    /// How many of the attempts are about the agent itself, and about no key.
    asides: usize,
    /// The first key file that was asked for by name and cannot be used.
    bad_file: Option<(PathBuf, KeyFileError)>,
}

impl Login<'_> {
    async fn run(&mut self) -> Result<(), SshError> {
        let methods = self.methods.clone();
        if methods.contains(&Method::PublicKey) {
            self.find_candidates().await;
        }
        // Without a key to begin with, only the server can say what it wants (RFC 4252 section 5.2).
        if (methods.first() != Some(&Method::PublicKey) || self.candidates.is_empty())
            && self.ask_for_methods().await?
        {
            return Ok(());
        }
        let mut done: Vec<Method> = Vec::new();
        loop {
            let next = methods
                .iter()
                .find(|method| !done.contains(method) && self.allows(**method));
            let Some(&method) = next else { break };
            let offer = match method {
                Method::PublicKey => self.offer_next_key().await?,
                Method::KeyboardInteractive => self.converse().await?,
                Method::Password => self.offer_password().await?,
            };
            match offer {
                Some(Offer::LoggedIn) => return Ok(()),
                // The rest of what the server wants may be any method, this one with another key too.
                Some(Offer::Not(AttemptOutcome::Partial)) => {
                    done.clear();
                }
                Some(Offer::Not(_)) => {}
                None => done.push(method),
            }
            if method == Method::PublicKey && self.candidates.is_empty() {
                done.push(method);
            }
        }
        Err(self.failure())
    }

    /// Whether the server would go on with a method, as far as it has said.
    fn allows(&self, method: Method) -> bool {
        self.offered
            .as_ref()
            .is_none_or(|methods| methods.contains(&method.kind()))
    }

    /// Asks the server what it wants; true when it wants nothing.
    async fn ask_for_methods(&mut self) -> Result<bool, SshError> {
        let user = self.target.user.clone();
        let after = self.options.deadlines.auth;
        let answer = tokio::time::timeout(after, self.handle.authenticate_none(user)).await;
        let answer = answer.map(|result| result.map_err(|error| error.to_string()));
        let logged_in = matches!(answer, Ok(Ok(AuthResult::Success)));
        if answer.is_ok() && !logged_in && self.handle.is_closed() {
            return Err(self.ended().await);
        }
        let failures = self.failures;
        let offer = self.answer(answer).await?;
        // RFC 4252 section 5.2: asking is no failure.
        self.failures = failures;
        Ok(matches!(offer, Offer::LoggedIn))
    }

    /// Who can still be asked.
    fn person(&self) -> Option<Person> {
        self.options.person.clone().filter(|_| !self.is_alone)
    }

    /// Waits until nobody else asks the person; nothing as for [`Person::turn`].
    ///
    /// # Errors
    /// When the connection ends meanwhile: nobody is asked for a login that is over.
    async fn turn<'p>(&mut self, person: &'p Person) -> Result<Option<Turn<'p>>, SshError> {
        tokio::select! {
            biased;
            () = self.shared.closed.cancelled() => Err(self.ended().await),
            turn = person.turn() => Ok(turn),
        }
    }

    /// Waits for the person's answer; nothing when there is none.
    async fn answered<T>(
        &mut self,
        turn: &Turn<'_>,
        answer: impl Future<Output = Option<T>>,
    ) -> Option<T> {
        match turn.answer(self.options.deadlines.person, answer).await {
            Ok(answer) => answer,
            Err(_) => self.nobody(),
        }
    }

    /// The answer of nobody.
    fn nobody<T>(&mut self) -> Option<T> {
        self.is_alone = true;
        None
    }

    /// Whether a person could still log in where keys cannot.
    fn leaves_a_try_to_a_person(&self) -> bool {
        let mut methods = self.methods.iter();
        self.person().is_some()
            && methods.any(|method| *method != Method::PublicKey && self.allows(*method))
    }

    /// Notes what became of the agent itself.
    fn note_agent(&mut self, reason: String) {
        self.asides += 1;
        self.note("agent".to_owned(), AttemptOutcome::Unusable(reason));
    }

    fn note(&mut self, key: String, outcome: AttemptOutcome) {
        self.tried.push(Attempt { key, outcome });
    }

    fn failure(&mut self) -> SshError {
        let host = self.target.name.clone();
        for candidate in std::mem::take(&mut self.candidates) {
            self.note(candidate.label, AttemptOutcome::NotOffered);
        }
        if let Some(path) = self.locked.take() {
            return SshError::KeyEncrypted { host, path };
        }
        let tried = std::mem::take(&mut self.tried);
        if let Some((certificate, fault)) = self.expired.take() {
            return SshError::UserCertificate {
                host,
                certificate,
                fault: Box::new(fault),
                tried,
            };
        }
        match self.bad_file.take() {
            // What the agent could not do was never asked for by name.
            Some((path, source)) if tried.len() == self.asides + 1 => SshError::KeyFile {
                path,
                source: Box::new(source),
            },
            _ => SshError::AuthFailed {
                host,
                tried,
                methods: self.offered_names(),
            },
        }
    }

    fn offered_names(&self) -> Vec<String> {
        let methods = self.offered.iter().flat_map(|methods| methods.iter());
        methods.map(String::from).collect()
    }

    /// What the server's answer means.
    async fn answer(
        &mut self,
        answer: Result<Result<AuthResult, String>, tokio::time::error::Elapsed>,
    ) -> Result<Offer, SshError> {
        match answer {
            Err(_) => Err(SshError::TimedOut {
                host: self.target.name.clone(),
                what: AUTHENTICATION,
                after: self.options.deadlines.auth,
            }),
            Ok(Ok(AuthResult::Success)) => Ok(Offer::LoggedIn),
            // A disconnect looks like a failure with no way on, and is the answer to what was offered last.
            Ok(_) if self.handle.is_closed() => {
                self.failures += 1;
                Err(self.ended().await)
            }
            Ok(Ok(AuthResult::Failure {
                remaining_methods,
                partial_success,
            })) => {
                let outcome = self.refused(remaining_methods, partial_success).await?;
                Ok(Offer::Not(outcome))
            }
            Ok(Err(reason)) => Ok(Offer::Not(AttemptOutcome::Unusable(super::error::bounded(
                &reason, 200,
            )))),
        }
    }

    /// Takes a refusal in: what the server would go on with, and one failure more.
    async fn refused(
        &mut self,
        methods: MethodSet,
        partial: bool,
    ) -> Result<AttemptOutcome, SshError> {
        if partial {
            self.offered = Some(methods);
            return Ok(AttemptOutcome::Partial);
        }
        self.failures += 1;
        if methods.is_empty() {
            return Err(self.ended().await);
        }
        self.offered = Some(methods);
        Ok(AttemptOutcome::Rejected)
    }

    /// Why the server ended the connection: a login that it has refused before is refused for good. Where it has
    /// refused a person's answer, it need not say so: some hang up without a word, and the person would be asked all
    /// over again.
    async fn ended(&mut self) -> SshError {
        // Whether the wait is over or not, the cause is what is known by then.
        let _ = tokio::time::timeout(CAUSE_DELAY, self.shared.closed.cancelled()).await;
        let cause = self.shared.cause();
        let said_so = match &cause {
            LostCause::Disconnected { .. } => true,
            LostCause::Protocol(error) => matches!(**error, russh::Error::NoAuthMethod),
            LostCause::Closed => self.rejected_answers > 0,
            _ => false,
        };
        if said_so && self.failures > 0 {
            if let Some(key) = self.offering.take() {
                self.note(key, AttemptOutcome::Rejected);
            }
            self.note("the server".to_owned(), AttemptOutcome::Ended);
            return self.failure();
        }
        SshError::Lost {
            host: self.target.name.clone(),
            source: cause,
        }
    }
}
