//! A forwarded port that outlives the connections under it.
//!
//! Main type: [`Forwarding`]. Invariant: the port is the same from the first connection to the end; it is given up only
//! when dialling again cannot help.

use std::net::SocketAddr;
use std::time::Duration;

use super::link::{Redials, is_passing};
use super::{Client, HandoffError};
use crate::ssh::{ConnectOptions, Connection, ForwardTo, LocalPort, SshError, Target};

/// What a [`Forwarding`] tells while it works.
#[derive(Debug)]
#[non_exhaustive]
pub enum ForwardNews {
    /// One forwarded connection failed.
    Failed(SshError),
    /// The connection to the host was lost; it is dialled again at once.
    Lost(SshError),
    /// The host is not reached, or has again ended a connection soon; it is tried again after this time.
    Waiting {
        /// Why.
        reason: SshError,
        /// The time until the next attempt.
        retry_in: Duration,
    },
    /// The host is reached again.
    Reconnected,
}

/// A port of this machine that leads to a port or a socket behind a host.
#[derive(Debug)]
pub struct Forwarding {
    target: Target,
    options: ConnectOptions,
    local: LocalPort,
    to: ForwardTo,
    connection: Option<Connection>,
}

impl Client {
    /// Listens on a port of 127.0.0.1 (0 is a free one) and connects to the host. Nothing is carried before
    /// [`Forwarding::run`].
    ///
    /// The connection is the forward's own, so that a program which does not read holds up no handoff.
    ///
    /// # Errors
    /// [`HandoffError::Hosts`] and [`HandoffError::Ssh`].
    ///
    /// # Cancel safety
    /// Safe: the port is given up, and the connection closed.
    pub async fn forward(
        &self,
        host: &str,
        port: u16,
        to: ForwardTo,
    ) -> Result<Forwarding, HandoffError> {
        let target = self.target(&self.host(host)?)?;
        let options = self.connect_options().clone();
        let local = LocalPort::bind(port).await?;
        let connection = Connection::open(&target, &options).await?;
        Ok(Forwarding {
            target,
            options,
            local,
            to,
            connection: Some(connection),
        })
    }
}

impl Forwarding {
    /// The address that programs of this machine connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.local.address()
    }

    /// Carries connections; dials again, with growing jittered delays and without end, when the host is lost.
    ///
    /// Returns only what dialling again cannot mend, such as a rejected key or a changed host key.
    ///
    /// # Cancel safety
    /// Safe: what is carried is closed, and the port goes with this value.
    pub async fn run(&mut self, tell: impl Fn(ForwardNews)) -> HandoffError {
        let mut redials = Redials::new();
        loop {
            // It stays in its place, for a goodbye when this future is dropped.
            if let Some(connection) = self.connection.clone() {
                redials.reached();
                let failed = |error| tell(ForwardNews::Failed(error));
                let lost = self.local.serve(&connection, &self.to, failed).await;
                self.connection = None;
                match redials.lost(false) {
                    None => tell(ForwardNews::Lost(lost)),
                    Some(retry_in) => {
                        tell(ForwardNews::Waiting {
                            reason: lost,
                            retry_in,
                        });
                        tokio::time::sleep(retry_in).await;
                    }
                }
            }
            match Connection::open(&self.target, &self.options).await {
                Ok(connection) => {
                    tell(ForwardNews::Reconnected);
                    self.connection = Some(connection);
                }
                Err(reason) if is_passing(&reason) => {
                    let retry_in = redials.pause();
                    tell(ForwardNews::Waiting { reason, retry_in });
                    tokio::time::sleep(retry_in).await;
                }
                Err(error) => return error.into(),
            }
        }
    }

    /// Says goodbye to the host, and gives the port up.
    ///
    /// # Cancel safety
    /// Safe; the goodbye may then not have been sent.
    pub async fn close(self) {
        if let Some(connection) = self.connection {
            connection.close().await;
        }
    }
}
