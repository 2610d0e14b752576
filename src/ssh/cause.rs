//! Why a connection died.
//!
//! Main type: [`LostCause`]. Invariant: it is cheap to clone, because every waiting caller gets the same one.

use std::io;
use std::sync::Arc;

use crate::hosts::HostName;

/// The reason for which a connection died.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LostCause {
    /// The server, or something between, closed the TCP connection.
    #[error("the other side closed the connection")]
    Closed,
    /// The server said goodbye.
    #[error("the server disconnected (reason {reason}: {message:?})")]
    Disconnected {
        /// The reason as RFC 4253 section 11.1 names it.
        reason: String,
        /// The server's own words, at most 200 characters of them.
        message: String,
    },
    /// Keepalive messages stayed unanswered.
    #[error("the server did not answer keepalive messages")]
    Silent,
    /// The connection to the jump host, through which this one went, died.
    #[error("the connection to jump host {host} was lost")]
    Jump {
        /// The jump host.
        host: HostName,
        /// Why.
        #[source]
        source: Box<LostCause>,
    },
    /// This side closed the connection.
    #[error("the connection was closed here")]
    ClosedHere,
    /// The operating system reported an error.
    #[error("the link failed")]
    Io(#[source] Arc<io::Error>),
    /// The server broke the protocol.
    #[error("the SSH protocol failed")]
    Protocol(#[source] Arc<russh::Error>),
}

impl From<russh::Error> for LostCause {
    fn from(error: russh::Error) -> Self {
        match error {
            russh::Error::KeepaliveTimeout | russh::Error::InactivityTimeout => Self::Silent,
            russh::Error::Disconnect
            | russh::Error::HUP
            | russh::Error::SendError
            | russh::Error::RecvError => Self::Closed,
            russh::Error::IO(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Closed
            }
            russh::Error::IO(source) => Self::Io(Arc::new(source)),
            other => Self::Protocol(Arc::new(other)),
        }
    }
}
