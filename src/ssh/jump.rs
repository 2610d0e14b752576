//! The way to a host's SSH port: over TCP, or through the hosts that are jumped over (`ProxyJump`).
//!
//! Main functions: [`through`] and [`reach`]. Invariant: every hop is a connection of its own, with its own host key
//! check and login, and lives at least as long as a stream that goes through it (no longer, unless a pool keeps it);
//! what a hop sees are the encrypted bytes of the next.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use russh::client::Msg;
use russh::{ChannelOpenFailure, ChannelStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tracing::Instrument as _;

use super::channel;
use super::connection::{Connection, span};
use super::error::SshError;
use super::options::ConnectOptions;
use super::target::Target;

/// How long one address is ahead of the next (RFC 8305 section 5 recommends 250 ms).
const ADDRESS_STAGGER: Duration = Duration::from_millis(250);
/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;
/// What is said to a hop about where the forwarded connection comes from (RFC 4254 section 7.2): nothing.
const ORIGINATOR: (&str, u32) = ("127.0.0.1", 0);

/// A stream of bytes to an SSH server.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The last of the hosts that are jumped over, as a target that is reached through the others.
pub(super) fn last_hop(target: &Target) -> Option<Target> {
    let (last, before) = target.jumps.split_last()?;
    let mut hop = last.clone();
    // The chain is in the first target alone: a hop's own jumps would be dialled twice.
    hop.jumps = before.to_vec();
    Some(hop)
}

/// Connects to the hosts that are jumped over, one through the other; the last of them, if there is any.
pub(super) async fn through(
    target: &Target,
    options: &ConnectOptions,
) -> Result<Option<Connection>, SshError> {
    let mut last = None;
    for hop in &target.jumps {
        tracing::debug!(hop = %hop.name, "connecting to a jump host");
        let work = Connection::hop(hop, options, last.as_ref());
        last = Some(work.instrument(span(&hop.name)).await?);
    }
    Ok(last)
}

/// Opens a stream to a host's port, from here or from the last hop.
pub(super) async fn reach(
    target: &Target,
    via: Option<&Connection>,
    deadline: Duration,
) -> Result<Box<dyn Stream>, SshError> {
    let Some(hop) = via else {
        let connecting = tokio::time::timeout(deadline, tcp(target));
        let stream = connecting.await.map_err(|_| SshError::TimedOut {
            host: target.name.clone(),
            what: "the TCP connection",
            after: deadline,
        })??;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "nodelay was refused");
        }
        return Ok(Box::new(stream));
    };
    let (address, port) = (target.address.clone(), u32::from(target.port));
    let open = channel::open_with(hop, move |hop| async move {
        let (from, from_port) = ORIGINATOR;
        let handle = &hop.inner().handle;
        handle
            .channel_open_direct_tcpip(address, port, from, from_port)
            .await
    });
    let opened = hop
        .within("passing the connection on", deadline, async {
            match open.await {
                Ok(channel) => Ok(channel),
                Err(russh::Error::ChannelOpenFailure(reason)) => Err(SshError::JumpRefused {
                    host: hop.host().clone(),
                    next: target.name.clone(),
                    unreachable: matches!(
                        reason,
                        ChannelOpenFailure::ConnectFailed | ChannelOpenFailure::ResourceShortage
                    ),
                    reason: format!("{reason:?}"),
                }),
                Err(_) => Err(hop.lost().await),
            }
        })
        .await?;
    Ok(Box::new(JumpStream {
        stream: opened.into_stream(),
        closed: Box::pin(hop.inner().shared.closed.clone().cancelled_owned()),
        _hop: hop.clone(),
    }))
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
    first_to_answer(addresses)
        .await
        .map_err(|failure| match failure.kind() {
            io::ErrorKind::ConnectionRefused => SshError::Refused {
                host: host(),
                source: failure,
            },
            _ => SshError::Unreachable {
                host: host(),
                source: failure,
            },
        })
}

/// Tries one address after the other, the next one as soon as the last has failed or has had its time alone.
async fn first_to_answer(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut addresses = addresses.into_iter().peekable();
    let mut attempts = FuturesUnordered::new();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(address) = addresses.next() {
            attempts.push(TcpStream::connect(address));
        }
        let attempt = tokio::select! {
            attempt = attempts.next() => attempt,
            () = tokio::time::sleep(ADDRESS_STAGGER), if addresses.peek().is_some() => continue,
        };
        match attempt {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => failure = error,
            None => return Err(failure),
        }
    }
}

/// A channel of a hop that keeps the hop's connection, and ends with it: the channel alone would leave a writer that
/// waits for its window waiting for ever.
struct JumpStream {
    stream: ChannelStream<Msg>,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    _hop: Connection,
}

impl JumpStream {
    fn or_closed<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if poll.is_pending() && self.closed.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        poll
    }
}

impl AsyncRead for JumpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for JumpStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.or_closed(context, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(context);
        self.or_closed(context, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is left to shut down where the hop is gone; a failure would hide why the session ended.
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            Poll::Pending if self.closed.as_mut().poll(context).is_pending() => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Instant;

    use super::*;

    /// A port at which nobody listens.
    fn closed() -> SocketAddr {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.local_addr().unwrap()
    }

    #[tokio::test]
    async fn an_address_that_fails_at_once_makes_way_for_the_next_at_once() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.unwrap();
        let mut addresses: Vec<SocketAddr> = (1..MAX_ADDRESSES).map(|_| closed()).collect();
        addresses.push(listener.local_addr().unwrap());
        let begun = Instant::now();
        first_to_answer(addresses).await.unwrap();
        // With a stagger before each it would take seven times that.
        assert!(begun.elapsed() < ADDRESS_STAGGER * 4);

        let refused = first_to_answer(vec![closed(), closed()]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let none = first_to_answer(Vec::new()).await.unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn the_last_hop_is_reached_through_those_before_it() {
        let host = |name: &str| Target::new(name.parse().unwrap(), name, 22, "me");
        let mut target = host("box");
        assert_eq!(last_hop(&target), None);
        target.jumps = vec![host("one"), host("two")];
        let mut two = host("two");
        two.jumps = vec![host("one")];
        assert_eq!(last_hop(&target), Some(two.clone()));
        assert_eq!(last_hop(&two), Some(host("one")));
    }
}
