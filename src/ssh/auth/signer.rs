//! Who signs a login, and who only finds out whether a signature is wanted.
//!
//! Main types: [`KeySigner`], [`AgentSigner`], [`ProbeOnly`]. Invariant: an RSA signature is made with the hash that
//! was asked for, never with SHA-1.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use russh::keys::agent::AgentIdentity;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode as _;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::ssh_key::{self, Signature};
use russh::keys::{HashAlg, PrivateKey};
use tokio::time::error::Elapsed;

use crate::ssh::identity::Agent;

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
pub(super) enum SignError {
    /// The connection has ended.
    #[error("the connection ended")]
    Closed,
    /// A signature is wanted, and none was to be made.
    #[error("a signature is wanted")]
    Wanted,
    /// The agent said nothing until the deadline.
    #[error("the agent did not answer")]
    AgentSilent,
    /// The agent refused, or is gone.
    #[error("the agent did not sign")]
    Agent(#[source] russh::keys::Error),
    /// The key cannot sign that way.
    #[error("the key does not sign")]
    Key(#[source] ssh_key::Error),
}

impl From<russh::SendError> for SignError {
    fn from(_: russh::SendError) -> Self {
        Self::Closed
    }
}

/// Signs with a private key that is here.
pub(super) struct KeySigner(pub(super) Arc<PrivateKey>);

impl russh::Signer for KeySigner {
    type Error = SignError;

    fn auth_sign(
        &mut self,
        _key: &AgentIdentity,
        hash: Option<HashAlg>,
        mut data: Vec<u8>,
    ) -> impl Future<Output = Result<Vec<u8>, Self::Error>> + Send {
        let signed = sign(&self.0, hash, &data).and_then(|blob| {
            blob.encode(&mut data)?;
            Ok(data)
        });
        std::future::ready(signed.map_err(SignError::Key))
    }
}

fn sign(key: &PrivateKey, hash: Option<HashAlg>, data: &[u8]) -> Result<Vec<u8>, ssh_key::Error> {
    let signature: Signature = match (key.key_data(), hash) {
        (KeypairData::Rsa(_), None) => {
            return Err(ssh_key::Error::AlgorithmUnsupported {
                algorithm: key.algorithm(),
            });
        }
        (KeypairData::Rsa(pair), hash) => (pair, hash).try_sign(data)?,
        (pair, _) => pair.try_sign(data)?,
    };
    let mut blob = Vec::new();
    signature.encode(&mut blob)?;
    Ok(blob)
}

/// Lets an agent sign with one of its keys, whichever key or certificate the server was shown.
pub(super) struct AgentSigner<'a> {
    /// The agent.
    pub(super) agent: &'a mut Agent,
    /// What the agent knows the key by.
    pub(super) identity: &'a AgentIdentity,
    /// The time that a signature may take.
    pub(super) after: Duration,
    /// What is told of it.
    pub(super) signatures: &'a Signatures,
}

/// How many of the agent's signatures have begun and ended, both counted. Clones count together.
#[derive(Clone, Default)]
pub(super) struct Signatures(Arc<AtomicUsize>);

impl Signatures {
    /// Waits for the server with a deadline in which the agent's time, which has its own, does not count.
    pub(super) async fn not_counted<T>(
        &self,
        after: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        tokio::pin!(work);
        loop {
            let before = self.0.load(Ordering::SeqCst);
            match tokio::time::timeout(after, &mut work).await {
                Err(_) if self.is_under_way() || self.0.load(Ordering::SeqCst) != before => {}
                result => return result,
            }
        }
    }

    fn is_under_way(&self) -> bool {
        self.0.load(Ordering::SeqCst) % 2 == 1
    }

    fn count(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl russh::Signer for AgentSigner<'_> {
    type Error = SignError;

    async fn auth_sign(
        &mut self,
        _key: &AgentIdentity,
        hash: Option<HashAlg>,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, Self::Error> {
        self.signatures.count();
        let work = self.agent.sign_request(self.identity, hash, data);
        let signed = tokio::time::timeout(self.after, work).await;
        self.signatures.count();
        signed
            .map_err(|_| SignError::AgentSilent)?
            .map_err(SignError::Agent)
    }
}

/// A signer that never signs: being asked to is the answer.
pub(super) struct ProbeOnly;

impl russh::Signer for ProbeOnly {
    type Error = SignError;

    fn auth_sign(
        &mut self,
        _key: &AgentIdentity,
        _hash: Option<HashAlg>,
        _data: Vec<u8>,
    ) -> impl Future<Output = Result<Vec<u8>, Self::Error>> + Send {
        std::future::ready(Err(SignError::Wanted))
    }
}
