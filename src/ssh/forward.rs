//! A port of this machine that leads to a port or a socket behind a host, as `ssh -L`.
//!
//! Main types: [`LocalPort`] and [`Forward`]. Invariant: only programs of this machine reach the port, for it is bound
//! to 127.0.0.1 and nothing else; what goes wrong with one forwarded connection ends that one alone.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use russh::Channel;
use russh::client::Msg;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::channel;
use super::connection::{Connection, span};
use super::error::SshError;

/// The most connections that one port carries at a time; more wait to be accepted. Servers do not count them.
const MAX_CARRIED: usize = 64;
/// How many failures wait to be asked for; later ones are in the log alone.
const KEPT_FAILURES: usize = 16;
/// The pause after the system refused to accept a connection: it is out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// The longest name of a host in the DNS (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 255;
/// Longer than every system's paths of sockets.
const MAX_PATH: usize = 1024;

/// Where a forward ends, as the host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardTo {
    /// A TCP port.
    Port {
        /// A name or an address that means something on the host; `localhost` is the host itself.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket, by its absolute path.
    Socket(String),
}

/// A text that names no end of a forward.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a port, HOST:PORT, or the absolute path of a socket")]
pub struct InvalidForwardTo {
    text: String,
}

impl FromStr for ForwardTo {
    type Err = InvalidForwardTo;

    /// Reads `PORT` (of the host itself), `HOST:PORT`, `[ADDRESS]:PORT` or `/PATH`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidForwardTo {
            text: text.chars().take(MAX_PATH).collect(),
        };
        if text.chars().any(char::is_control) {
            return Err(invalid());
        }
        if text.starts_with('/') {
            return if text.len() <= MAX_PATH {
                Ok(Self::Socket(text.to_owned()))
            } else {
                Err(invalid())
            };
        }
        let (host, port) = match text.rsplit_once(':') {
            None => ("localhost", text),
            Some((host, port)) => match host.strip_prefix('[') {
                Some(rest) => (rest.strip_suffix(']').ok_or_else(invalid)?, port),
                None if host.contains(':') => return Err(invalid()),
                None => (host, port),
            },
        };
        let port = parse_port(port).filter(|port| *port != 0);
        let port = port.ok_or_else(invalid)?;
        if host.is_empty() || host.len() > MAX_NAME || host.contains(char::is_whitespace) {
            return Err(invalid());
        }
        Ok(Self::Port {
            host: host.to_owned(),
            port,
        })
    }
}

/// Digits alone: a sign or a blank is a mistake.
fn parse_port(text: &str) -> Option<u16> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

impl fmt::Display for ForwardTo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { host, port } if host.contains(':') => write!(formatter, "[{host}]:{port}"),
            Self::Port { host, port } => write!(formatter, "{host}:{port}"),
            Self::Socket(path) => formatter.write_str(path),
        }
    }
}

/// A port of 127.0.0.1 that is listened on. It stays the same while connections to the host come and go.
#[derive(Debug)]
pub struct LocalPort {
    listener: TcpListener,
    address: SocketAddr,
}

impl LocalPort {
    /// Listens on a port of 127.0.0.1; 0 is a free one.
    ///
    /// # Errors
    /// [`SshError::LocalPort`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn bind(port: u16) -> Result<Self, SshError> {
        let listen = async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        listen
            .await
            .map_err(|source| SshError::LocalPort { port, source })
    }

    /// The address that programs of this machine connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Carries every connection to the port through `connection` until that ends, and says how it ended.
    ///
    /// What goes wrong with a single connection is given to `failed`:
    /// [`ForwardRefused`](SshError::ForwardRefused) when the host does not connect to `to`,
    /// [`TimedOut`](SshError::TimedOut), or [`LocalPort`](SshError::LocalPort) when the system accepts no connection.
    ///
    /// Bytes wait for whoever reads them, in at most a few megabytes of memory. A program that does not read then
    /// holds up everything else on the same SSH connection, which has no other way of slowing one channel down: give
    /// forwards to programs that pause a connection of their own.
    ///
    /// # Cancel safety
    /// Safe: what is carried is closed, the port stays.
    pub async fn serve(
        &self,
        connection: &Connection,
        to: &ForwardTo,
        failed: impl Fn(SshError),
    ) -> SshError {
        let mut carried = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                _ = connection.closed() => return connection.lost_now(),
                Some(ended) = carried.join_next() => {
                    if let Ok(Err(error)) = ended {
                        failed(error);
                    }
                    continue;
                }
                accepted = self.listener.accept(), if carried.len() < MAX_CARRIED => accepted,
            };
            match accepted {
                Ok((stream, from)) => {
                    let work = carry(connection.clone(), to.clone(), stream, from);
                    carried.spawn(work.instrument(span(connection.host())));
                }
                Err(source) => {
                    let port = self.address.port();
                    failed(SshError::LocalPort { port, source });
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// A forward that works in the background, until it is dropped or its connection ends.
#[derive(Debug)]
pub struct Forward {
    address: SocketAddr,
    failures: mpsc::Receiver<SshError>,
    _work: AbortOnDropHandle<()>,
}

impl Forward {
    /// The address that programs of this machine connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What went wrong next: with one connection, or at last, [`SshError::Lost`], with all; then `None`.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn failure(&mut self) -> Option<SshError> {
        self.failures.recv().await
    }
}

impl Connection {
    /// Forwards a port of 127.0.0.1 (0 is a free one) to a port or a socket behind the host, as `ssh -L`, until the
    /// handle is dropped. See [`LocalPort::serve`] for what one connection does to others.
    ///
    /// # Errors
    /// [`SshError::LocalPort`].
    ///
    /// # Cancel safety
    /// Safe: the port is given up.
    pub async fn forward_local(&self, port: u16, to: ForwardTo) -> Result<Forward, SshError> {
        let local = LocalPort::bind(port).await?;
        let address = local.address();
        // One place is for the end.
        let (give, failures) = mpsc::channel(KEPT_FAILURES + 1);
        let (connection, span) = (self.clone(), span(self.host()));
        let work = async move {
            let tell = |error: SshError| {
                tracing::debug!(%error, "a forwarded connection failed");
                if give.capacity() > 1 {
                    // Nobody has to listen.
                    let _ = give.try_send(error);
                }
            };
            let end = local.serve(&connection, &to, tell).await;
            let _ = give.try_send(end);
        };
        Ok(Forward {
            address,
            failures,
            _work: AbortOnDropHandle::new(tokio::spawn(work.instrument(span))),
        })
    }
}

/// Carries one connection until both its directions have ended.
async fn carry(
    connection: Connection,
    to: ForwardTo,
    mut stream: TcpStream,
    from: SocketAddr,
) -> Result<(), SshError> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "nodelay was refused");
    }
    let mut remote = open(&connection, to, from).await?.into_stream();
    match tokio::io::copy_bidirectional(&mut stream, &mut remote).await {
        Ok(_) => {}
        // Programs hang up as they like; where the SSH connection is gone, that is told once.
        Err(error) => tracing::debug!(%error, "a forwarded connection ended early"),
    }
    Ok(())
}

/// Has the host open its end (RFC 4254 section 7.2; PROTOCOL of OpenSSH, section 2.4, for sockets).
async fn open(
    connection: &Connection,
    to: ForwardTo,
    from: SocketAddr,
) -> Result<Channel<Msg>, SshError> {
    let opening = channel::open_with(connection, move |connection| async move {
        let handle = &connection.inner().handle;
        match to {
            ForwardTo::Port { host, port } => {
                let (origin, origin_port) = (from.ip().to_string(), u32::from(from.port()));
                handle
                    .channel_open_direct_tcpip(host, u32::from(port), origin, origin_port)
                    .await
            }
            ForwardTo::Socket(path) => handle.channel_open_direct_streamlocal(path).await,
        }
    });
    let after = connection.deadlines().channel_open;
    connection
        .within("opening a forwarded connection", after, async {
            match opening.await {
                Ok(channel) => Ok(channel),
                Err(russh::Error::ChannelOpenFailure(reason)) => Err(SshError::ForwardRefused {
                    host: connection.host().clone(),
                    reason: format!("{reason:?}"),
                }),
                Err(_) => Err(connection.lost().await),
            }
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_forward_is_a_port_a_host_and_a_port_or_a_path() {
        let port = |host: &str, port| ForwardTo::Port {
            host: host.to_owned(),
            port,
        };
        for (text, wanted) in [
            ("80", port("localhost", 80)),
            ("db.example.org:5432", port("db.example.org", 5432)),
            ("[::1]:8080", port("::1", 8080)),
            (
                "/run/app.sock",
                ForwardTo::Socket("/run/app.sock".to_owned()),
            ),
            ("/with:colon", ForwardTo::Socket("/with:colon".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(wanted), "{text}");
        }
        for text in [
            "",
            "0",
            "65536",
            "+80",
            ":80",
            "host:",
            "host:0",
            "a b:80",
            "::1:80",
            "[::1:80",
            "x",
            "run/app.sock",
            "a:b:80",
            "/x\ny",
            "host:80\0",
        ] {
            assert!(text.parse::<ForwardTo>().is_err(), "{text:?}");
        }
    }
}
