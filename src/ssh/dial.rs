//! From a target to a session whose host key has been judged.
//!
//! Main functions: [`dial`] and [`scan_host_key`]. Invariant: every wait has a deadline of its own, and no byte of authentication is sent
//! before the host key was accepted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use russh::client::{Config, Handle};
use russh::keys::PublicKey;
use russh::{Limits, Preferred};

use super::algorithms;
use super::cause::LostCause;
use super::connection::Connection;
use super::error::SshError;
use super::handler::{ClientHandler, HandlerError, KeyPolicy, Shared};
use super::host_key::{
    CertificateVerdict, HostKeyFault, KeyJudge, KnownHosts, OfferedAlgorithms, RecordedKey,
    Verdict, algorithm_name, certificate_verdict, check_signature, fingerprint, require_size,
};
use super::jump;
use super::link::Link;
use super::options::{ConnectOptions, RekeyLimit};
use super::target::Target;

/// How often, and how long apart, a server is dialled again that closes the connection before it has shown a key: it
/// has as many logins under way as it allows (`MaxStartups`). Half a minute at most together.
const TURNED_AWAY_RETRIES: usize = 12;
/// See [`TURNED_AWAY_RETRIES`].
const TURNED_AWAY_DELAY: Duration = Duration::from_millis(100);
/// See [`TURNED_AWAY_RETRIES`].
const TURNED_AWAY_MAX_DELAY: Duration = Duration::from_secs(2);
/// The time between `ConnectionAttempts` (ssh_config(5)).
const ATTEMPT_DELAY: Duration = Duration::from_secs(1);
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
    /// The other keys on record, where the key is a changed one.
    pub others: Vec<RecordedKey>,
}

/// Asks a host for its key and disconnects before any authentication. A server that turns callers away is dialled again,
/// as for a connection.
///
/// # Errors
/// Those of dialling, [`SshError::HostKeyRefused`], and [`SshError::KnownHosts`]. A changed or revoked key is no error
/// here: it is in the verdict. The algorithm of the server's signature is not looked at; a connection does that.
///
/// # Cancel safety
/// Safe: dropping it closes the connection.
pub async fn scan_host_key(
    target: &Target,
    options: &ConnectOptions,
) -> Result<HostKeyInfo, SshError> {
    let via = jump::through(target, options).await?;
    let options = &options.for_target(target);
    let Dialled {
        known,
        shared,
        result,
    } = repeatedly(target, options, via.as_ref(), Purpose::Look).await?;
    match (shared.offered(), result) {
        (_, Err(error @ SshError::HostKeyRefused { .. })) => Err(error),
        (Some(offered), _) => {
            let (name, port) = target.host_key_name();
            let key = offered.key;
            let certificate = offered.certificate.as_ref();
            require_size(target, &key, certificate)?;
            let certified =
                certificate.map(|certificate| certificate_verdict(&known, target, certificate));
            Ok(HostKeyInfo {
                algorithm: algorithm_name(&key),
                fingerprint: fingerprint(&key),
                verdict: known.check(name, port, &key),
                certified,
                others: known.others(name, port, &key),
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

/// Connects and exchanges keys, from here or from the last hop.
pub(super) async fn dial(
    target: &Target,
    options: &ConnectOptions,
    via: Option<&Connection>,
) -> Result<(Handle<ClientHandler>, Arc<Shared>), SshError> {
    let dialled = repeatedly(target, options, via, Purpose::Connect).await?;
    Ok((dialled.result?, dialled.shared))
}

/// What a server is dialled for.
#[derive(Clone, Copy)]
enum Purpose {
    /// A session, once its key is judged good.
    Connect,
    /// Its key.
    Look,
}

/// The last attempt at a server.
struct Dialled {
    /// What was on record at its beginning.
    known: KnownHosts,
    shared: Arc<Shared>,
    result: Result<Handle<ClientHandler>, SshError>,
}

/// Dials, and dials a server again that turns callers away for the moment.
async fn repeatedly(
    target: &Target,
    options: &ConnectOptions,
    via: Option<&Connection>,
    purpose: Purpose,
) -> Result<Dialled, SshError> {
    let mut retries = Retries::new(target);
    loop {
        // Read again each time: while a person was asked, others may have written to them.
        let known = KnownHosts::load(&options.host_key_files(target)).await?;
        let policy = match purpose {
            Purpose::Connect => {
                KeyPolicy::Judge(Box::new(KeyJudge::new(known.clone(), target, options)))
            }
            Purpose::Look => KeyPolicy::Look,
        };
        let shared = Arc::new(Shared::through(via));
        let result = handshake(target, options, via, &known, &shared, policy).await;
        if let Err(error) = &result
            && let Some(delay) = retries.delay(error, shared.offered().is_some())
        {
            tracing::debug!(host = %target.name, %error, ?delay, "dialling again");
            tokio::time::sleep(delay).await;
            continue;
        }
        return Ok(Dialled {
            known,
            shared,
            result,
        });
    }
}

/// How often dialling is repeated, and when.
struct Retries {
    /// `ConnectionAttempts` that are left.
    attempts: u32,
    /// The delays after a server has turned a caller away before it showed a key.
    turned_away: Box<dyn Iterator<Item = Duration> + Send>,
}

impl Retries {
    fn new(target: &Target) -> Self {
        let delays = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(TURNED_AWAY_DELAY)
            .with_max_delay(TURNED_AWAY_MAX_DELAY)
            .with_max_times(TURNED_AWAY_RETRIES)
            .build();
        Self {
            attempts: target
                .settings
                .connection_attempts
                .unwrap_or(1)
                .saturating_sub(1),
            turned_away: Box::new(delays),
        }
    }

    /// When to dial again after `error`; `None` when that cannot help. Once a key was shown, nothing is repeated: what
    /// was decided about it stands.
    fn delay(&mut self, error: &SshError, key_shown: bool) -> Option<Duration> {
        if key_shown {
            return None;
        }
        match error {
            SshError::Handshake {
                source: LostCause::Closed | LostCause::Io(_),
                ..
            } => self.turned_away.next(),
            error if error.is_retryable_dial() && self.attempts > 0 => {
                self.attempts -= 1;
                Some(ATTEMPT_DELAY)
            }
            _ => None,
        }
    }
}

async fn handshake(
    target: &Target,
    options: &ConnectOptions,
    via: Option<&Connection>,
    known: &KnownHosts,
    shared: &Arc<Shared>,
    policy: KeyPolicy,
) -> Result<Handle<ClientHandler>, SshError> {
    let host = || target.name.clone();
    let refused = |fault| SshError::HostKeyRefused {
        host: target.name.clone(),
        fault,
    };
    let stream = jump::reach(target, via, options.deadlines.connect).await?;
    let stall = options
        .keepalive
        .interval
        .saturating_mul(u32::try_from(options.keepalive.misses).unwrap_or(3) + 1);
    let preferred = algorithms::preferred(target, known)?;
    let offered = OfferedAlgorithms::new(&preferred);
    let config = Arc::new(config(options, preferred));
    let exchange = russh::client::connect_stream(
        config,
        Link::new(stream, stall, Arc::clone(&shared.heard)),
        ClientHandler::new(shared.clone(), policy, offered),
    );
    tokio::pin!(exchange);
    let abandoned = shared.abandoned.clone().drop_guard();
    let after = options.deadlines.key_exchange;
    loop {
        match tokio::time::timeout(after, &mut exchange).await {
            Ok(Ok(handle)) => {
                require_agreed_signature(&handle, shared).map_err(refused)?;
                abandoned.disarm();
                return Ok(handle);
            }
            Ok(Err(HandlerError::HostKey(error))) => return Err(*error),
            Ok(Err(HandlerError::Refused(fault))) => return Err(refused(fault)),
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

/// Refuses a key exchange that was signed with another algorithm than was agreed.
fn require_agreed_signature(
    handle: &Handle<ClientHandler>,
    shared: &Shared,
) -> Result<(), HostKeyFault> {
    match (handle.agent_session_binding(), shared.agreed()) {
        (Some(binding), Some(agreed)) => check_signature(binding.signature(), &agreed),
        // Every exchange that is offered has both.
        (_, agreed) => Err(HostKeyFault::Signature {
            used: String::new(),
            agreed: agreed.map_or_else(String::new, |agreed| agreed.to_string()),
        }),
    }
}

fn config(options: &ConnectOptions, preferred: Preferred) -> Config {
    let bytes = options.rekey.bytes.min(RekeyLimit::MAX_BYTES);
    Config {
        limits: Limits::new(bytes, bytes, options.rekey.after),
        window_size: WINDOW,
        preferred,
        keepalive_interval: Some(options.keepalive.interval),
        keepalive_max: options.keepalive.misses,
        nodelay: true,
        ..Config::default()
    }
}
