//! The demonstration server itself: it listens, accepts, counts and stops.
//!
//! The main type is [`DemoServer`].

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use russh::keys::{Algorithm, PrivateKey, PublicKey};
use russh::server::Config;
use russh::{MethodKind, MethodSet};
use tokio::net::{TcpListener, TcpStream};

use super::connection::Connection;
use super::state::{Identity, Shared};
use super::{DemoError, ServerOptions};

/// How long [`DemoServer::stop`] waits for its own tasks after it has shut every socket.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// An SSH and SFTP server on a loopback port.
///
/// Dropping it stops it without waiting; [`stop`](Self::stop) waits.
pub struct DemoServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl DemoServer {
    /// Starts a server on a free port of 127.0.0.1.
    ///
    /// Must be called within a tokio runtime, on which the server then runs. Dropping the future leaves
    /// nothing behind.
    ///
    /// # Errors
    /// [`DemoError::HostKey`] or [`DemoError::Listen`]; [`DemoError::NoPosixShell`] where there is none.
    pub async fn start(mut options: ServerOptions) -> Result<Self, DemoError> {
        let key = match options.host_key.take() {
            Some(key) => key,
            None => PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)
                .map_err(DemoError::HostKey)?,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(DemoError::Listen)?;
        let address = listener.local_addr().map_err(DemoError::Listen)?;
        let shared = Arc::new(Shared::new(options, identity(key)));
        shared
            .tasks
            .spawn(accept_until_stopped(listener, Arc::clone(&shared)));
        Ok(Self { address, shared })
    }

    /// The address that the server listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The host key that new connections are shown.
    #[must_use]
    pub fn host_key(&self) -> PublicKey {
        self.shared.identity().public
    }

    /// Gives the server another host key, for the connections to come.
    pub fn set_host_key(&self, key: PrivateKey) {
        self.shared.set_identity(identity(key));
    }

    /// How many TCP connections have been accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.get()
    }

    /// How many commands have been asked for, refused ones included.
    #[must_use]
    pub fn execs(&self) -> u64 {
        self.shared.execs.get()
    }

    /// How many SFTP sessions have been opened.
    #[must_use]
    pub fn sftp_sessions(&self) -> u64 {
        self.shared.sftp_sessions.get()
    }

    /// How many of the channels that [`ServerOptions::open_forwarded_channel`] opened were accepted, and how
    /// many refused. A sound client accepts none.
    #[must_use]
    pub fn forwarded_channels(&self) -> (u64, u64) {
        (
            self.shared.forwarded_accepted.get(),
            self.shared.forwarded_refused.get(),
        )
    }

    /// Drops every live connection and goes on listening. Processes go on, without their pipes.
    pub fn kill_connections(&self) {
        self.shared.shut_sockets();
    }

    /// Stops listening, drops every connection and waits until the server's own tasks have ended, at most
    /// five seconds. Processes that were started go on, without their pipes.
    ///
    /// # Cancel safety
    /// Dropping the future stops the server without waiting.
    pub async fn stop(self) {
        self.shared.stopping.cancel();
        self.shared.shut_sockets();
        self.shared.tasks.close();
        // Past the deadline the tasks end by themselves: their sockets are gone.
        let _ = tokio::time::timeout(STOP_DEADLINE, self.shared.tasks.wait()).await;
    }
}

impl Drop for DemoServer {
    fn drop(&mut self) {
        self.shared.stopping.cancel();
        self.shared.shut_sockets();
    }
}

impl std::fmt::Debug for DemoServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("DemoServer")
            .field("address", &self.address)
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

fn identity(key: PrivateKey) -> Identity {
    let public = key.public_key().clone();
    let config = Config {
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        // No attacker is to be slowed down on loopback, and a client that offers several keys should not wait.
        auth_rejection_time: Duration::from_millis(20),
        auth_rejection_time_initial: Some(Duration::ZERO),
        inactivity_timeout: None,
        nodelay: true,
        keys: vec![key],
        ..Config::default()
    };
    Identity {
        public,
        config: Arc::new(config),
    }
}

async fn accept_until_stopped(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let accepted = tokio::select! {
            () = shared.stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let number = shared.connections.add();
                shared
                    .tasks
                    .spawn(serve(stream, number, Arc::clone(&shared)));
            }
            Err(error) => {
                tracing::debug!(%error, "the demonstration server could not accept a connection");
                // Out of descriptors, most likely: others must be closed before the next one can come.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, number: u64, shared: Arc<Shared>) {
    if let Err(error) = serve_connection(stream, number, &shared).await {
        tracing::debug!(%error, number, "a connection to the demonstration server ended");
    }
    shared.remove_socket(number);
    if shared.options.kills_at_logout {
        super::logout::end_processes(&shared.options.home);
    }
}

async fn serve_connection(
    stream: TcpStream,
    number: u64,
    shared: &Arc<Shared>,
) -> Result<(), russh::Error> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    shared.add_socket(number, stream.try_clone()?);
    if shared.stopping.is_cancelled() {
        // `stop` may have shut the sockets just before this one was listed.
        return Ok(());
    }
    let stream = TcpStream::from_std(stream)?;
    let config = shared.identity().config;
    let connection = Connection::new(Arc::clone(shared));
    let running = russh::server::run_stream(config, stream, connection).await?;
    running.await
}
