//! One live connection.
//!
//! Main type: [`Connection`]. Invariant: when the link dies every waiting caller gets one and the same typed error, at
//! once; nothing here waits for the network without also waiting for that.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use russh::Disconnect;
use russh::client::Handle;
use tracing::{Instrument as _, Span};

use super::auth;
use super::cause::LostCause;
use super::channel::Slots;
use super::dial;
use super::error::SshError;
use super::exec_files::ExecFiles;
use super::handler::{ClientHandler, Shared};
use super::jump;
use super::options::{ConnectOptions, Deadlines};
use super::pool::Hold;
use super::sftp::SftpFiles;
use super::sftp_session::SftpShared;
use super::target::Target;
use super::wake;
use crate::hosts::HostName;

/// How long the session's task may take to say why it ended, once its channels have.
const CAUSE_DELAY: Duration = Duration::from_secs(2);

/// The span of what is done for a host: its name, and never its address.
pub(super) fn span(host: &HostName) -> Span {
    tracing::info_span!("connection", %host)
}

/// An authenticated SSH connection to one host. Cloning is cheap; all clones are the same connection, which ends when
/// [`Connection::close`] is called or the last clone is dropped.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
    /// What tells a pool that the connection is in use.
    _hold: Option<Arc<Hold>>,
}

pub(super) struct Inner {
    pub(super) host: HostName,
    pub(super) handle: Handle<ClientHandler>,
    pub(super) shared: Arc<Shared>,
    pub(super) deadlines: Deadlines,
    pub(super) slots: Slots,
    yielding: Mutex<Vec<Weak<SftpShared>>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("host", &self.inner.host)
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to a host, checks its key, and logs in.
    ///
    /// # Errors
    /// [`SshError::Resolve`], [`Refused`](SshError::Refused), [`Unreachable`](SshError::Unreachable),
    /// [`TimedOut`](SshError::TimedOut) and [`Handshake`](SshError::Handshake) while dialling; the host key errors
    /// ([`NotStrict`](SshError::NotStrict) among them); [`NoAlgorithm`](SshError::NoAlgorithm);
    /// [`AuthFailed`](SshError::AuthFailed), [`KeyEncrypted`](SshError::KeyEncrypted),
    /// [`UserCertificate`](SshError::UserCertificate) and [`KeyFile`](SshError::KeyFile); [`Lost`](SshError::Lost) when the server hangs up during authentication;
    /// [`JumpRefused`](SshError::JumpRefused) when a jump host does not pass the connection on. The host in the error
    /// is the one at which it failed, which may be a jump host.
    ///
    /// # Cancel safety
    /// Safe: dropping it closes what was opened. A host key that a person has just accepted stays accepted.
    pub async fn open(target: &Target, options: &ConnectOptions) -> Result<Self, SshError> {
        let work = async {
            let via = jump::through(target, options).await?;
            Self::hop(target, options, via.as_ref()).await
        };
        work.instrument(span(&target.name)).await
    }

    /// Connects to one host, from here or from another that it is reached through. The present span is to be the host's.
    pub(super) async fn hop(
        target: &Target,
        options: &ConnectOptions,
        via: Option<&Self>,
    ) -> Result<Self, SshError> {
        let options = &options.for_target(target);
        let (mut handle, shared) = dial::dial(target, options, via).await?;
        auth::authenticate(&mut handle, target, options, &shared).await?;
        tracing::debug!("connected");
        let inner = Arc::new(Inner {
            host: target.name.clone(),
            handle,
            shared,
            deadlines: options.deadlines.clone(),
            slots: Slots::new(options.max_channels.0),
            yielding: Mutex::default(),
        });
        tokio::spawn(wake::watch(Arc::downgrade(&inner)).in_current_span());
        Ok(Self { inner, _hold: None })
    }

    /// The configured name of the host.
    #[must_use]
    pub fn host(&self) -> &HostName {
        &self.inner.host
    }

    /// The banner that the server sent during authentication, at most 8 KiB of it. Remote text: escape it.
    #[must_use]
    pub fn banner(&self) -> String {
        self.inner.shared.banner()
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.shared.closed.is_cancelled() || self.inner.handle.is_closed()
    }

    /// Waits until the connection has ended, and says why.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn closed(&self) -> LostCause {
        self.inner.shared.closed.cancelled().await;
        self.inner.shared.cause()
    }

    /// Says goodbye and waits, for a second at most, until the connection has ended.
    ///
    /// # Cancel safety
    /// Safe; the goodbye may then not have been sent.
    pub async fn close(&self) {
        self.inner.shared.set_cause(LostCause::ClosedHere);
        let goodbye = async {
            // The only failure is a connection that has ended already.
            let _ = self
                .inner
                .handle
                .disconnect(Disconnect::ByApplication, "", "")
                .await;
            self.inner.shared.closed.cancelled().await;
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
    }

    /// Files over SFTP.
    ///
    /// # Errors
    /// [`SshError::SftpUnavailable`], [`ChannelRefused`](SshError::ChannelRefused), [`TimedOut`](SshError::TimedOut),
    /// [`Lost`](SshError::Lost).
    ///
    /// # Cancel safety
    /// Safe: the channel is closed.
    pub async fn sftp(&self) -> Result<SftpFiles, SshError> {
        let shared = SftpShared::open(self).await?;
        self.inner
            .yielding
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::downgrade(&shared));
        if self.inner.slots.are_waited_for() {
            // They asked before there was anything to give back.
            self.ask_idle_to_yield();
        }
        Ok(SftpFiles::new(shared))
    }

    /// Files over commands, for hosts without SFTP or where it sees another file system than the shell.
    #[must_use]
    pub fn exec_files(&self) -> ExecFiles {
        ExecFiles::new(self.clone())
    }

    /// The same connection, in whose name a pool is told when its last clone is dropped.
    pub(super) fn held(&self, hold: Arc<Hold>) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            _hold: Some(hold),
        }
    }

    /// Whether both are clones of one connection.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(super) fn deadlines(&self) -> &Deadlines {
        &self.inner.deadlines
    }

    /// The error of a caller who found the connection ended.
    pub(super) async fn lost(&self) -> SshError {
        // Channels end an instant before the session's task has said why.
        let _ = tokio::time::timeout(CAUSE_DELAY, self.inner.shared.closed.cancelled()).await;
        self.lost_now()
    }

    pub(crate) fn lost_now(&self) -> SshError {
        SshError::Lost {
            host: self.inner.host.clone(),
            source: self.inner.shared.cause(),
        }
    }

    /// Whether the server still answers; a connection that does not is over.
    pub(super) async fn still_there(&self) -> bool {
        wake::still_there(&self.inner).await
    }

    /// Waits for `work`, the end of the connection, or the deadline, whichever is first; work that is done counts, even
    /// if the connection has ended in the same instant.
    pub(super) async fn within<T>(
        &self,
        what: &'static str,
        after: Duration,
        work: impl Future<Output = Result<T, SshError>>,
    ) -> Result<T, SshError> {
        tokio::select! {
            biased;
            result = tokio::time::timeout(after, work) => match result {
                Ok(result) => result,
                Err(_) => Err(SshError::TimedOut { host: self.inner.host.clone(), what, after }),
            },
            () = self.inner.shared.closed.cancelled() => Err(self.lost_now()),
        }
    }

    /// Has idle SFTP sessions give their channel back: somebody waits for one. Those in use see that at their end.
    pub(super) fn ask_idle_to_yield(&self) {
        let mut yielding = self
            .inner
            .yielding
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        yielding.retain(|session| session.strong_count() > 0);
        for session in yielding.iter().filter_map(Weak::upgrade) {
            session.give_back();
        }
    }
}
