//! A host that lets everybody in and keeps nobody.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::handoff::{ClientOptions, ForwardNews};
use crate::hosts::{Address, Places};
use crate::ssh::{AgentSource, ConnectOptions, ForwardTo, KnownHosts};

/// How long a test looks.
const A_WHILE: Duration = Duration::from_secs(5);
/// How often a host is dialled in that time at most: at once, at once again, and then after pauses of a quarter of a
/// second, half a second, a whole one, two.
const FEW: u32 = 8;

/// Ends the connection when the first channel is asked for.
struct Unkind;

impl Handler for Unkind {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _channel: russh::Channel<Msg>,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        Err(russh::Error::Disconnect)
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        _channel: russh::Channel<Msg>,
        _host: &str,
        _port: u32,
        _from: &str,
        _from_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        Err(russh::Error::Disconnect)
    }
}

/// Such a host, this machine's side, and how often the host was dialled.
struct Bench {
    client: Client,
    dials: Arc<AtomicU32>,
    _directory: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = || PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
        let host_key = key();
        let public = host_key.public_key().clone();
        let (port, dials) = serve(host_key).await;
        let file = directory.path().join("id");
        let text = key().to_openssh(LineEnding::LF).unwrap();
        crate::private_fs::write_atomic(&file, text.as_bytes()).unwrap();
        let client = client(directory.path(), &file, port, &public).await;
        Self {
            client,
            dials,
            _directory: directory,
        }
    }

    fn dials(&self) -> u32 {
        self.dials.load(Ordering::SeqCst)
    }
}

async fn serve(key: PrivateKey) -> (u16, Arc<AtomicU32>) {
    let config = Arc::new(Config {
        keys: vec![key],
        ..Config::default()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let dials = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&dials);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let config = Arc::clone(&config);
            tokio::spawn(async move {
                if let Ok(session) = russh::server::run_stream(config, stream, Unkind).await {
                    // It ends as it is told to above.
                    let _ = session.await;
                }
            });
        }
    });
    (port, dials)
}

async fn client(directory: &Path, key: &Path, port: u16, host_key: &PublicKey) -> Client {
    let lookup = |name: &str| match name {
        "HOME" | "USERPROFILE" => Some(directory.into()),
        "HANDOVER_SSH_CONFIG" => Some("none".into()),
        "HANDOVER_CONFIG_DIR" | "HANDOVER_STATE_DIR" => Some(directory.join(name).into()),
        _ => None,
    };
    let places = Places::from_lookup(lookup, directory).unwrap();
    let trusted = directory.join("known_hosts");
    KnownHosts::append(&trusted, "127.0.0.1", port, host_key)
        .await
        .unwrap();
    let address = Address::new("127.0.0.1", Some("dev"), Some(port)).unwrap();
    let mut host = Host::new("box".parse().unwrap(), address);
    host.identity_file = Some(key.to_owned());
    Client::open(ClientOptions {
        places,
        inline_hosts: vec![host],
        connect: ConnectOptions::default()
            .agent(AgentSource::None)
            .trusted_hosts(trusted),
        opencode: None,
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_keeps_no_connection_is_dialled_with_growing_pauses_and_given_up() {
    let bench = Bench::new().await;
    let host = bench.client.host("box").unwrap();
    let target = bench.client.target(&host).unwrap();
    let mut link = Link::new(target, bench.client.pool().clone(), Reporter::unheard());
    link.launched = true;
    link.patience = Some(A_WHILE);
    let begun = Instant::now();
    let error = loop {
        let work = async {
            let files = link.live().await?.files().await?;
            let path = "/nothing".parse().unwrap();
            files.read(&path, 1).await.map_err(HandoffError::from)
        };
        let Err(error) = work.await else {
            panic!("nothing can be read there");
        };
        if let Err(error) = link.recover(error).await {
            break error;
        }
        assert!(begun.elapsed() < 4 * A_WHILE, "it goes on and on");
    };
    assert!(
        matches!(error, HandoffError::Unreachable { .. }),
        "{error:?}"
    );
    assert!(bench.dials() <= FEW, "dialled {} times", bench.dials());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forward_dials_a_host_that_keeps_no_connection_with_growing_pauses() {
    let bench = Bench::new().await;
    let to: ForwardTo = "80".parse().unwrap();
    let mut forwarding = bench.client.forward("box", 0, to).await.unwrap();
    let address = forwarding.address();
    let waits = AtomicU32::new(0);
    let tell = |news| {
        if let ForwardNews::Waiting { .. } = news {
            waits.fetch_add(1, Ordering::SeqCst);
        }
    };
    // Programs that connect over and over.
    let programs = async {
        loop {
            drop(TcpStream::connect(address).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        error = forwarding.run(tell) => panic!("{error:?}"),
        () = programs => {}
        () = tokio::time::sleep(A_WHILE) => {}
    }
    assert!(waits.load(Ordering::SeqCst) > 0, "a wait is told");
    assert!(bench.dials() <= FEW, "dialled {} times", bench.dials());
}
