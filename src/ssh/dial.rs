//! From a target to a session whose host key has been judged.
//!
//! Main function: [`dial`]. Invariant: every wait has a deadline of its own, and no byte of authentication is sent
//! before the host key was accepted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use russh::Preferred;
use russh::client::{Config, Handle};
use russh::keys::PublicKey;
use tokio::net::TcpStream;

use super::algorithms;
use super::cause::LostCause;
use super::error::SshError;
use super::handler::{ClientHandler, HandlerError, KeyPolicy, Shared};
use super::host_key::{
    CertificateVerdict, KeyJudge, KnownHosts, Verdict, algorithm_name, fingerprint,
};
use super::link::Link;
use super::options::ConnectOptions;
use super::target::Target;

/// How long one address is ahead of the next (RFC 8305 section 5 recommends 250 ms).
const ADDRESS_STAGGER: Duration = Duration::from_millis(250);
/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;
/// The receive window of a channel: a link of 50 ms and 1 Gbit/s stays full.
const WINDOW: u32 = 8 << 20;

/// A host's key as it showed it, and what is on record about it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HostKeyInfo {
    /// The key's algorithm, such as `ssh-ed25519`.
    pub algorithm: String,
    /// The fingerprint as `SHA256:...`.
    pub fingerprint: String,
    /// The key.
    pub key: PublicKey,
    /// What is on record about the key itself.
    pub verdict: Verdict,
    /// What is on record about the certificate that the key came in.
    pub certified: Option<CertificateVerdict>,
}

/// Asks a host for its key and disconnects before any authentication.
///
/// # Errors
/// Those of dialling, and [`SshError::KnownHosts`]. A changed or revoked key is no error here: it is in the verdict.
///
/// # Cancel safety
/// Safe: dropping it closes the connection.
pub async fn scan_host_key(
    target: &Target,
    options: &ConnectOptions,
) -> Result<HostKeyInfo, SshError> {
    let known = KnownHosts::load(&options.host_key_files(target)).await?;
    let shared = Arc::new(Shared::default());
    let result = handshake(target, options, &known, &shared, KeyPolicy::Look).await;
    match (shared.offered(), result) {
        (Some(offered), _) => {
            let (name, port) = target.host_key_name();
            let key = offered.key;
            let certified = offered.certificate.map(|certificate| {
                known.check_certificate(name, port, &certificate, SystemTime::now())
            });
            Ok(HostKeyInfo {
                algorithm: algorithm_name(&key),
                fingerprint: fingerprint(&key),
                verdict: known.check(name, port, &key),
                certified,
                key,
            })
        }
        (None, Err(error)) => Err(error),
        (None, Ok(_)) => Err(SshError::Handshake {
            host: target.name.clone(),
            source: LostCause::Closed,
        }),
    }
}

/// Connects and exchanges keys.
pub(super) async fn dial(
    target: &Target,
    options: &ConnectOptions,
    shared: &Arc<Shared>,
) -> Result<Handle<ClientHandler>, SshError> {
    let known = KnownHosts::load(&options.host_key_files(target)).await?;
    let judge = KeyJudge::new(known.clone(), target, options);
    handshake(
        target,
        options,
        &known,
        shared,
        KeyPolicy::Judge(Box::new(judge)),
    )
    .await
}

async fn handshake(
    target: &Target,
    options: &ConnectOptions,
    known: &KnownHosts,
    shared: &Arc<Shared>,
    policy: KeyPolicy,
) -> Result<Handle<ClientHandler>, SshError> {
    let host = || target.name.clone();
    let after = options.deadlines.connect;
    let stream = tokio::time::timeout(after, tcp(target))
        .await
        .map_err(|_| SshError::TimedOut {
            host: host(),
            what: "the TCP connection",
            after,
        })??;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "nodelay was refused");
    }
    let stall = options
        .keepalive
        .interval
        .saturating_mul(u32::try_from(options.keepalive.misses).unwrap_or(3) + 1);
    let config = Arc::new(config(options, algorithms::preferred(target, known)?));
    let exchange = russh::client::connect_stream(
        config,
        Link::new(stream, stall),
        ClientHandler::new(shared.clone(), policy),
    );
    tokio::pin!(exchange);
    let after = options.deadlines.key_exchange;
    loop {
        match tokio::time::timeout(after, &mut exchange).await {
            Ok(Ok(handle)) => return Ok(handle),
            Ok(Err(HandlerError::HostKey(error))) => return Err(*error),
            Ok(Err(HandlerError::NotStrict { cipher })) => {
                return Err(SshError::NotStrict {
                    host: host(),
                    cipher,
                });
            }
            Ok(Err(HandlerError::Ssh(error))) => {
                return Err(SshError::Handshake {
                    host: host(),
                    source: error.into(),
                });
            }
            Ok(Err(HandlerError::Seen)) => {
                return Err(SshError::Handshake {
                    host: host(),
                    source: LostCause::ClosedHere,
                });
            }
            // The person's answer has a deadline of its own.
            Err(_) if shared.asking.load(Ordering::SeqCst) => {}
            Err(_) => {
                return Err(SshError::TimedOut {
                    host: host(),
                    what: "the key exchange",
                    after,
                });
            }
        }
    }
}

/// Resolves the name and connects to the first address that answers.
async fn tcp(target: &Target) -> Result<TcpStream, SshError> {
    let host = || target.name.clone();
    let addresses: Vec<SocketAddr> =
        tokio::net::lookup_host((target.address.as_str(), target.port))
            .await
            .map_err(|source| SshError::Resolve {
                host: host(),
                source,
            })?
            .take(MAX_ADDRESSES)
            .collect();
    let mut attempts: FuturesUnordered<_> = (0u32..)
        .zip(addresses)
        .map(|(place, address)| async move {
            tokio::time::sleep(ADDRESS_STAGGER.saturating_mul(place)).await;
            TcpStream::connect(address).await
        })
        .collect();
    let mut failure = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    while let Some(attempt) = attempts.next().await {
        match attempt {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(match failure.kind() {
        std::io::ErrorKind::ConnectionRefused => SshError::Refused {
            host: host(),
            source: failure,
        },
        _ => SshError::Unreachable {
            host: host(),
            source: failure,
        },
    })
}

fn config(options: &ConnectOptions, preferred: Preferred) -> Config {
    Config {
        window_size: WINDOW,
        preferred,
        keepalive_interval: Some(options.keepalive.interval),
        keepalive_max: options.keepalive.misses,
        nodelay: true,
        ..Config::default()
    }
}
