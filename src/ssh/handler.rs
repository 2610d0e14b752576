//! What this side does when the server speaks first.
//!
//! Main type: [`ClientHandler`]. Invariant: only a key that was judged good gets past the first key exchange, and no
//! channel that the server opens is ever accepted. The algorithm of the exchange's signature is judged by who dials,
//! before anything else is sent, since the library shows it afterwards: by then a person may have been asked about the
//! key. The library shows the key of the first exchange alone: later ones happen inside what that one has encrypted, so
//! nobody but the server that was judged can answer them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use russh::client::{ChannelOpenHandle, DisconnectReason, Handler, Msg, Session};
use russh::keys::{Algorithm, Certificate, PublicKey, PublicKeyOrCertificate};
use russh::{ChannelOpenFailure, Names};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use super::algorithms::needs_strict_exchange;
use super::cause::LostCause;
use super::connection::Connection;
use super::error::{SshError, bounded};
use super::host_key::{HostKeyFault, KeyJudge, OfferedAlgorithms, check_kind};
use crate::hosts::HostName;

/// How long a stream that ended through a jump host waits for the end of that host's connection, its likely cause.
const HOP_CAUSE_DELAY: Duration = Duration::from_millis(250);
/// How much of the server's banner is kept.
const BANNER_LIMIT: usize = 8 * 1024;

/// What the handler and the connection share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Cancelled when the session's task has ended.
    pub(super) closed: CancellationToken,
    /// A person is being asked about the host key.
    pub(super) asking: AtomicBool,
    /// Cancelled when nobody waits for the key exchange any more: the session's task would go on by itself.
    pub(super) abandoned: CancellationToken,
    /// Grows with whatever comes from the server.
    pub(super) heard: Arc<AtomicU64>,
    cause: Mutex<Option<LostCause>>,
    banner: Mutex<String>,
    offered: Mutex<Option<Offered>>,
    agreed: Mutex<Option<Algorithm>>,
    /// The jump host that the connection goes through.
    via: Option<(HostName, Arc<Shared>)>,
}

/// What the server showed.
#[derive(Debug, Clone)]
pub(super) struct Offered {
    /// The key.
    pub(super) key: PublicKey,
    /// The certificate that it came in.
    pub(super) certificate: Option<Certificate>,
}

impl Shared {
    /// What a connection has that goes through `via`.
    pub(super) fn through(via: Option<&Connection>) -> Self {
        Self {
            via: via.map(|hop| (hop.host().clone(), hop.inner().shared.clone())),
            ..Self::default()
        }
    }

    /// Why the connection ended.
    pub(super) fn cause(&self) -> LostCause {
        let own = self
            .cause
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .unwrap_or(LostCause::Closed);
        match &self.via {
            // A stream that ended with the hop under it: the hop knows more.
            Some((host, hop))
                if matches!(own, LostCause::Closed | LostCause::Io(_))
                    && hop.closed.is_cancelled() =>
            {
                LostCause::Jump {
                    host: host.clone(),
                    source: Box::new(hop.cause()),
                }
            }
            _ => own,
        }
    }

    /// Keeps the first reason.
    pub(super) fn set_cause(&self, cause: LostCause) {
        self.cause
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(cause);
    }

    /// The server's banner so far.
    pub(super) fn banner(&self) -> String {
        self.banner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The host key algorithm that was agreed upon.
    pub(super) fn agreed(&self) -> Option<Algorithm> {
        self.agreed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The key that the server showed, of a kind that was offered to it.
    pub(super) fn offered(&self) -> Option<Offered> {
        self.offered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What to do with a key that the server shows.
pub(super) enum KeyPolicy {
    /// Judge it, and ask the person when it is unknown.
    Judge(Box<KeyJudge>),
    /// Look at it and go away.
    Look,
}

/// A failure inside the session's task.
#[derive(Debug)]
pub(super) enum HandlerError {
    /// The library's own.
    Ssh(russh::Error),
    /// The host key was refused.
    HostKey(Box<SshError>),
    /// The host key is refused whatever is on record.
    Refused(HostKeyFault),
    /// The server knows no strict key exchange, which the agreed cipher needs.
    NotStrict {
        /// The cipher.
        cipher: String,
    },
    /// The key was seen, which is all that was wanted.
    Seen,
}

impl From<russh::Error> for HandlerError {
    fn from(error: russh::Error) -> Self {
        Self::Ssh(error)
    }
}

/// The session's callbacks.
pub(super) struct ClientHandler {
    shared: Arc<Shared>,
    policy: KeyPolicy,
    algorithms: OfferedAlgorithms,
    /// The library's task has none.
    span: Span,
}

impl ClientHandler {
    /// Makes the callbacks of one connection, which log in the present span.
    pub(super) fn new(
        shared: Arc<Shared>,
        policy: KeyPolicy,
        algorithms: OfferedAlgorithms,
    ) -> Self {
        Self {
            shared,
            policy,
            algorithms,
            span: Span::current(),
        }
    }

    /// Refuses a channel and says why.
    async fn refuse(&self, reply: ChannelOpenHandle) -> Result<(), HandlerError> {
        self.span
            .in_scope(|| tracing::debug!("refusing a channel that the server opens"));
        reply
            .reject(ChannelOpenFailure::AdministrativelyProhibited)
            .await;
        Ok(())
    }
}

impl Drop for ClientHandler {
    fn drop(&mut self) {
        self.shared.closed.cancel();
    }
}

impl Handler for ClientHandler {
    type Error = HandlerError;

    async fn auth_banner(
        &mut self,
        banner: &str,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let mut kept = self
            .shared
            .banner
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let room = BANNER_LIMIT.saturating_sub(kept.len());
        let mut end = banner.len().min(room);
        while !banner.is_char_boundary(end) {
            end -= 1;
        }
        kept.push_str(banner.get(..end).unwrap_or_default());
        Ok(())
    }

    async fn check_server_key(
        &mut self,
        offered: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        // First of all: nobody is asked about a key of such a kind.
        self.algorithms
            .check(offered)
            .map_err(HandlerError::Refused)?;
        self.shared
            .offered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(Offered {
                key: offered.public_key().clone(),
                certificate: offered.certificate().cloned(),
            });
        match &self.policy {
            // What was agreed is known in a moment.
            KeyPolicy::Look => Ok(true),
            KeyPolicy::Judge(judge) => {
                let judged = judge.judge(offered, &self.shared.asking);
                let judged = tokio::select! {
                    biased;
                    judged = judged.instrument(self.span.clone()) => judged,
                    // A question is over then, and the next one's turn has come.
                    () = self.shared.abandoned.cancelled() => {
                        return Err(russh::Error::Disconnect.into());
                    }
                };
                match judged {
                    Ok(()) => Ok(true),
                    Err(error) => Err(HandlerError::HostKey(Box::new(error))),
                }
            }
        }
    }

    async fn kex_done(
        &mut self,
        _shared_secret: Option<&[u8]>,
        names: &Names,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(offered) = self.shared.offered() {
            check_kind(&offered.key.algorithm(), &names.key).map_err(HandlerError::Refused)?;
        }
        self.shared
            .agreed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(|| names.key.clone());
        if matches!(self.policy, KeyPolicy::Look) {
            return Err(HandlerError::Seen);
        }
        let macs = [names.client_mac.as_ref(), names.server_mac.as_ref()];
        if !names.strict_kex() && needs_strict_exchange(names.cipher.as_ref(), macs) {
            return Err(HandlerError::NotStrict {
                cipher: names.cipher.as_ref().to_owned(),
            });
        }
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _channel: russh::Channel<Msg>,
        _connected_address: &str,
        _connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse(reply).await
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _channel: russh::Channel<Msg>,
        _socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse(reply).await
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _channel: russh::Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse(reply).await
    }

    async fn should_accept_unknown_server_channel(
        &mut self,
        _id: russh::ChannelId,
        _channel_type: &str,
    ) -> bool {
        false
    }

    async fn server_channel_open_unknown(
        &mut self,
        _channel: russh::Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse(reply).await
    }

    async fn server_channel_open_session(
        &mut self,
        _channel: russh::Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse(reply).await
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: russh::Channel<Msg>,
        _host_to_connect: &str,
        _port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse(reply).await
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: russh::Channel<Msg>,
        _socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse(reply).await
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: russh::Channel<Msg>,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse(reply).await
    }

    async fn disconnected(
        &mut self,
        reason: DisconnectReason<Self::Error>,
    ) -> Result<(), Self::Error> {
        match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                self.shared.set_cause(LostCause::Disconnected {
                    reason: format!("{:?}", info.reason_code),
                    message: bounded(&info.message, 200),
                });
            }
            DisconnectReason::Error(HandlerError::Ssh(error)) => {
                self.shared.set_cause(error.into());
                if let Some((_, hop)) = &self.shared.via {
                    // The channel ends an instant before the hop's own session has said why.
                    let _ = tokio::time::timeout(HOP_CAUSE_DELAY, hop.closed.cancelled()).await;
                }
            }
            DisconnectReason::Error(_) => {}
        }
        self.shared.closed.cancel();
        Ok(())
    }
}
