//! A TCP proxy on loopback that does to a connection what networks do: delay, throttle, cut, fall silent.
//!
//! The main type is [`Proxy`]. It stands between a client and a server; everything about it can be changed
//! while connections are live. Bytes are never reordered or altered.
//!
//! ```ignore
//! let proxy = Proxy::start(server.address()).await?;
//! proxy.delay(Duration::from_millis(25));                              // each way
//! proxy.cut_after(Direction::ToServer, 10_000, Cut::Reset, Repeat::Once);
//! proxy.silence();                                                     // nothing passes, nothing closes
//! proxy.resume();                                                      // all of it is over
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The bytes that are read at a time.
const CHUNK: usize = 16 * 1024;
/// The chunks that a delay line holds in each direction: 16 MiB, more than what is in flight at the delays
/// and rates of the tests; past it, the sender is held up as by a full router.
const LINE: usize = 1024;

/// A direction of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// With a reset on both sides: what is in flight is lost.
    Reset,
    /// With an orderly close on both sides.
    Close,
}

/// How often a cut happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Once; later connections live.
    Once,
    /// Each time that so many bytes more have passed.
    Always,
    /// Once, and from then on each new connection is reset at once, until [`Proxy::resume`].
    Down,
}

#[derive(Debug, Clone, Copy)]
struct CutRule {
    direction: Direction,
    bytes: u64,
    left: u64,
    cut: Cut,
    repeat: Repeat,
}

#[derive(Debug, Default)]
struct Counts {
    connections: u64,
    cuts: u64,
    to_server: u64,
    to_client: u64,
    flights: u64,
    last: Option<Direction>,
}

#[derive(Debug, Default)]
struct State {
    delay: Duration,
    rate: Option<u64>,
    refuse: bool,
    cut: Option<CutRule>,
    counts: Counts,
}

struct Shared {
    target: SocketAddr,
    state: Mutex<State>,
    silent: watch::Sender<bool>,
    /// Changes when all live connections are to be cut.
    cut_now: watch::Sender<Option<Cut>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts bytes that were read; gives how many of them may pass, and the cut that comes after them.
    fn pass(&self, direction: Direction, count: usize) -> (usize, Option<Cut>) {
        let mut state = self.state();
        let mut passing = count;
        let mut cut = None;
        if let Some(rule) = &mut state.cut
            && rule.direction == direction
        {
            if rule.left > count as u64 {
                rule.left -= count as u64;
            } else {
                passing = usize::try_from(rule.left).unwrap_or(count);
                cut = Some(rule.cut);
                rule.left = rule.bytes;
                let repeat = rule.repeat;
                if repeat != Repeat::Always {
                    state.cut = None;
                }
                state.refuse |= repeat == Repeat::Down;
            }
        }
        let counts = &mut state.counts;
        counts.cuts += u64::from(cut.is_some());
        match direction {
            Direction::ToServer => counts.to_server += passing as u64,
            Direction::ToClient => counts.to_client += passing as u64,
        }
        if counts.last != Some(direction) {
            counts.flights += u64::from(direction == Direction::ToServer);
            counts.last = Some(direction);
        }
        (passing, cut)
    }
}

/// A proxy in front of one server. Dropping it closes every connection through it.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and passes connections on to `target`, unharmed at first.
    pub(crate) async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            state: Mutex::default(),
            silent: watch::Sender::new(false),
            cut_now: watch::Sender::new(None),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            accepting,
        })
    }

    /// The address that clients connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Delays every byte by this time, in each direction: half a round trip.
    pub(crate) fn delay(&self, each_way: Duration) {
        self.shared.state().delay = each_way;
    }

    /// Lets so many bytes a second through, in each direction of each connection.
    pub(crate) fn rate(&self, bytes_per_second: u64) {
        self.shared.state().rate = Some(bytes_per_second.max(1));
    }

    /// Cuts the connection that carries the byte after the next `bytes` ones in this direction, all
    /// connections counted together from now. Exactly `bytes` are passed on before the cut; 0 cuts at the
    /// first. Replaces an earlier rule.
    pub(crate) fn cut_after(&self, direction: Direction, bytes: u64, cut: Cut, repeat: Repeat) {
        self.shared.state().cut = Some(CutRule {
            direction,
            bytes,
            left: bytes,
            cut,
            repeat,
        });
    }

    /// Cuts all live connections now.
    pub(crate) fn cut_all(&self, cut: Cut) {
        self.shared.cut_now.send_replace(Some(cut));
    }

    /// Passes nothing any more and closes nothing, as when a cable is pulled. New connections are accepted,
    /// and stay silent, too.
    pub(crate) fn silence(&self) {
        self.shared.silent.send_replace(true);
    }

    /// Resets each new connection at once; live ones go on.
    pub(crate) fn refuse(&self) {
        self.shared.state().refuse = true;
    }

    /// Ends every trouble; what was held back by a silence passes now.
    pub(crate) fn resume(&self) {
        {
            let mut state = self.shared.state();
            state.delay = Duration::ZERO;
            state.rate = None;
            state.refuse = false;
            state.cut = None;
        }
        self.shared.silent.send_replace(false);
    }

    /// How many connections were accepted, refused ones included.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.state().counts.connections
    }

    /// How many times [`cut_after`](Self::cut_after) has cut.
    pub(crate) fn cuts(&self) -> u64 {
        self.shared.state().counts.cuts
    }

    /// How many bytes have passed in a direction.
    pub(crate) fn bytes(&self, direction: Direction) -> u64 {
        let state = self.shared.state();
        match direction {
            Direction::ToServer => state.counts.to_server,
            Direction::ToClient => state.counts.to_client,
        }
    }

    /// How often traffic to the server has begun after traffic to the client: about the number of round trips,
    /// when a delay keeps the two apart.
    pub(crate) fn flights(&self) -> u64 {
        self.shared.state().counts.flights
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut_all(Cut::Close);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let refuse = {
            let mut state = shared.state();
            state.counts.connections += 1;
            state.refuse
        };
        if refuse {
            // Without lingering, the close is a reset.
            let _ = client.set_zero_linger();
            continue;
        }
        tokio::spawn(carry(client, Arc::clone(&shared)));
    }
}

/// Carries one connection until it ends or is cut.
async fn carry(client: TcpStream, shared: Arc<Shared>) {
    let mut cut_now = shared.cut_now.subscribe();
    cut_now.mark_unchanged();
    let Ok(server) = TcpStream::connect(shared.target).await else {
        let _ = client.set_zero_linger();
        return;
    };
    // Nagle's algorithm would add delays that nobody asked for.
    let _ = client.set_nodelay(true).and(server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let cut = {
        let up = pump(
            &mut from_client,
            &mut to_server,
            &shared,
            Direction::ToServer,
        );
        let down = pump(
            &mut from_server,
            &mut to_client,
            &shared,
            Direction::ToClient,
        );
        let both = async {
            tokio::pin!(up, down);
            tokio::select! {
                Some(cut) = &mut up => Some(cut),
                Some(cut) = &mut down => Some(cut),
                else => None,
            }
        };
        tokio::select! {
            cut = both => cut,
            _ = cut_now.changed() => *cut_now.borrow(),
        }
    };
    if cut == Some(Cut::Reset) {
        // The streams are whole again only for this: the close that follows is then a reset.
        if let (Ok(client), Ok(server)) = (
            from_client.reunite(to_client),
            from_server.reunite(to_server),
        ) {
            let _ = client.set_zero_linger().and(server.set_zero_linger());
        }
    }
}

/// Carries one direction through the delay line. `None` when its source has ended and all has been passed on.
async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    shared: &Shared,
    direction: Direction,
) -> Option<Cut> {
    let (line, mut end) = mpsc::channel::<(Instant, Vec<u8>, Option<Cut>)>(LINE);
    let read = async move {
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = from.read(&mut buffer).await.unwrap_or(0);
            if count == 0 {
                return;
            }
            let (passing, cut) = shared.pass(direction, count);
            let due = Instant::now() + shared.state().delay;
            if line
                .send((due, buffer[..passing].to_vec(), cut))
                .await
                .is_err()
                || cut.is_some()
            {
                return;
            }
        }
    };
    let write = async {
        let mut silent = shared.silent.subscribe();
        while let Some((due, data, cut)) = end.recv().await {
            tokio::time::sleep_until(due).await;
            let rate = shared.state().rate;
            for data in slices(&data, rate) {
                if silent.wait_for(|silent| !silent).await.is_err()
                    || to.write_all(data).await.is_err()
                {
                    return Some(Cut::Close);
                }
                if let Some(rate) = rate {
                    tokio::time::sleep(Duration::from_secs_f64(data.len() as f64 / rate as f64))
                        .await;
                }
            }
            if cut.is_some() {
                return cut;
            }
        }
        let _ = silent.wait_for(|silent| !silent).await;
        // The other direction may still have something to say.
        let _ = to.shutdown().await;
        None
    };
    let ((), cut) = tokio::join!(read, write);
    cut
}

/// Cuts data into what passes in about a twentieth of a second.
fn slices(data: &[u8], rate: Option<u64>) -> std::slice::Chunks<'_, u8> {
    let size = rate.map_or(CHUNK, |rate| usize::try_from(rate / 20).unwrap_or(CHUNK));
    data.chunks(size.clamp(1, CHUNK))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets, and a proxy in front of it.
    async fn echo() -> (Proxy, JoinHandle<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        (Proxy::start(target).await.unwrap(), server)
    }

    async fn exchange(stream: &mut TcpStream, data: &[u8]) -> io::Result<()> {
        stream.write_all(data).await?;
        let mut back = vec![0; data.len()];
        stream.read_exact(&mut back).await?;
        assert_eq!(back, data);
        Ok(())
    }

    #[tokio::test]
    async fn bytes_pass_delayed_and_throttled_and_are_counted() {
        let (proxy, _server) = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        exchange(&mut stream, &[7; 100_000]).await.unwrap();
        proxy.delay(Duration::from_millis(5));
        proxy.rate(1_000_000);
        let flights = proxy.flights();
        exchange(&mut stream, b"one").await.unwrap();
        exchange(&mut stream, b"two").await.unwrap();
        assert_eq!(proxy.flights(), flights + 2);
        assert_eq!(proxy.connections(), 1);
        for direction in [Direction::ToServer, Direction::ToClient] {
            assert_eq!(proxy.bytes(direction), 100_006);
        }
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_cut_comes_after_exactly_the_bytes_that_were_named() {
        let (proxy, _server) = echo().await;
        for cut in [Cut::Reset, Cut::Close] {
            let before = proxy.bytes(Direction::ToServer);
            proxy.cut_after(Direction::ToServer, 10, cut, Repeat::Once);
            let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
            exchange(&mut stream, b"12345").await.unwrap();
            assert!(exchange(&mut stream, b"1234567").await.is_err());
            assert_eq!(proxy.bytes(Direction::ToServer) - before, 10);
            let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
            exchange(&mut stream, &[1; 100]).await.unwrap();
        }
        assert_eq!(proxy.cuts(), 2);
        proxy.cut_after(Direction::ToClient, 3, Cut::Close, Repeat::Always);
        for _ in 0..2 {
            let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
            assert!(exchange(&mut stream, b"12345").await.is_err());
        }
    }

    #[tokio::test]
    async fn a_silence_holds_bytes_back_and_a_refusal_resets() {
        let (proxy, _server) = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        proxy.silence();
        stream.write_all(b"held").await.unwrap();
        let mut back = [0; 4];
        let wait = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut back)).await;
        assert!(wait.is_err());
        proxy.resume();
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"held");
        proxy.refuse();
        exchange(&mut stream, b"goes on").await.unwrap();
        let refused = match TcpStream::connect(proxy.address()).await {
            Ok(mut refused) => exchange(&mut refused, b"x").await,
            Err(error) => Err(error),
        };
        assert!(refused.is_err());
        proxy.resume();
        proxy.cut_all(Cut::Reset);
        assert!(exchange(&mut stream, b"x").await.is_err());
    }
}
