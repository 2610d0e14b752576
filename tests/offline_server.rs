//! The demonstration server, as clients of the protocol see it.
#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    reason = "the helpers of these tests fail as the tests do"
)]

#[path = "support/proxy.rs"]
mod proxy;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handover::demo::server::{DemoServer, ServerOptions};
use russh::ChannelMsg;
use russh::client::{self, Handle};
use russh::keys::{
    Algorithm, PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate,
};
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::client::{RawSftpSession, SftpSession};
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

/// What the waits in these tests are bounded by; nothing here takes a tenth of it.
const DEADLINE: Duration = Duration::from_secs(30);

/// A client that takes any host key, and remembers it.
#[derive(Clone, Default)]
struct Client {
    seen: Arc<Mutex<Option<PublicKey>>>,
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        if let PublicKeyOrCertificate::PublicKey { key, .. } = key {
            *self.seen.lock().unwrap() = Some(key.clone());
        }
        Ok(true)
    }
}

/// A server over a temporary home, and the key that it lets in.
struct Host {
    server: DemoServer,
    key: PrivateKey,
    home: TempDir,
}

/// What a command printed, and how it ended.
#[derive(Debug, Default)]
struct Ended {
    out: Vec<u8>,
    err: Vec<u8>,
    status: Option<u32>,
    signal: Option<String>,
}

fn new_key() -> PrivateKey {
    PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap()
}

impl Host {
    async fn start(change: impl FnOnce(&mut ServerOptions)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let key = new_key();
        let mut options = ServerOptions::new(home.path(), key.public_key().clone());
        change(&mut options);
        let server = DemoServer::start(options).await.unwrap();
        Self { server, key, home }
    }

    async fn connect_to(&self, address: SocketAddr, key: &PrivateKey) -> Option<Handle<Client>> {
        self.connect_as(address, key, Client::default()).await
    }

    async fn connect_as(
        &self,
        address: SocketAddr,
        key: &PrivateKey,
        client: Client,
    ) -> Option<Handle<Client>> {
        let config = Arc::new(client::Config {
            nodelay: true,
            ..client::Config::default()
        });
        let mut handle = client::connect(config, address, client).await.unwrap();
        let key = PrivateKeyWithHashAlg::new(Arc::new(key.clone()), None);
        let login = handle.authenticate_publickey("anyone", key).await.unwrap();
        login.success().then_some(handle)
    }

    async fn connect(&self) -> Handle<Client> {
        self.connect_to(self.server.address(), &self.key)
            .await
            .unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

/// Runs a command, with some input, to its end.
async fn exec(handle: &Handle<Client>, command: &str, input: &[u8]) -> Ended {
    let run = async {
        let channel = handle.channel_open_session().await.unwrap();
        channel.exec(true, command).await.unwrap();
        let (mut reader, writer) = channel.split();
        let feed = async {
            // A command that does not read to the end closes the channel under the writer.
            let _ = writer.data(input).await;
            let _ = writer.eof().await;
        };
        let read = async {
            let mut ended = Ended::default();
            while let Some(message) = reader.wait().await {
                match message {
                    ChannelMsg::Data { data } => ended.out.extend_from_slice(&data),
                    ChannelMsg::ExtendedData { data, ext: 1 } => ended.err.extend_from_slice(&data),
                    ChannelMsg::ExitStatus { exit_status } => ended.status = Some(exit_status),
                    ChannelMsg::ExitSignal { signal_name, .. } => {
                        ended.signal = Some(format!("{signal_name:?}"))
                    }
                    ChannelMsg::Close => break,
                    _ => {}
                }
            }
            ended
        };
        tokio::pin!(feed, read);
        // What nobody reads any more need not be fed.
        tokio::select! {
            ended = &mut read => ended,
            () = &mut feed => read.await,
        }
    };
    tokio::time::timeout(DEADLINE, run).await.unwrap()
}

async fn sftp(handle: &Handle<Client>) -> SftpSession {
    let channel = handle.channel_open_session().await.unwrap();
    channel.request_subsystem(true, "sftp").await.unwrap();
    SftpSession::new(channel.into_stream()).await.unwrap()
}

async fn raw_sftp(handle: &Handle<Client>) -> RawSftpSession {
    let channel = handle.channel_open_session().await.unwrap();
    channel.request_subsystem(true, "sftp").await.unwrap();
    let session = RawSftpSession::new(channel.into_stream());
    session.init().await.unwrap();
    session
}

fn status<T: std::fmt::Debug>(result: Result<T, SftpError>) -> StatusCode {
    match result {
        Err(SftpError::Status(status)) => status.status_code,
        other => panic!("{other:?}"),
    }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, wait).await;
    assert!(waited.is_ok(), "never: {what}");
}

#[tokio::test]
async fn only_the_authorised_key_gets_in_under_any_name() {
    let host = Host::start(|_| {}).await;
    let address = host.server.address();
    assert!(host.connect_to(address, &host.key).await.is_some());
    assert!(host.connect_to(address, &new_key()).await.is_none());
    assert_eq!(host.server.connections(), 2);
}

#[tokio::test]
async fn the_host_key_can_be_changed() {
    let host = Host::start(|_| {}).await;
    let seen = async |host: &Host| {
        let client = Client::default();
        let address = host.server.address();
        host.connect_as(address, &host.key, client.clone())
            .await
            .unwrap();
        client.seen.lock().unwrap().take().unwrap()
    };
    let first = host.server.host_key();
    assert_eq!(seen(&host).await.key_data(), first.key_data());
    let other = new_key();
    host.server.set_host_key(other.clone());
    assert_eq!(seen(&host).await.key_data(), other.public_key().key_data());
    assert_ne!(host.server.host_key().key_data(), first.key_data());
}

#[tokio::test]
async fn a_command_gets_its_input_and_tells_both_outputs_and_its_status() {
    let host = Host::start(|_| {}).await;
    let handle = host.connect().await;
    let ended = exec(&handle, "cat; echo oops >&2; exit 7", b"some input").await;
    assert_eq!(ended.out, b"some input");
    assert_eq!(ended.err, b"oops\n");
    assert_eq!((ended.status, ended.signal), (Some(7), None));
    let ended = exec(&handle, "kill -TERM $$", b"").await;
    assert_eq!(
        (ended.status, ended.signal),
        (None, Some("TERM".to_owned()))
    );
    assert_eq!(host.server.execs(), 2);
    assert_eq!(host.server.connections(), 1);
}

#[tokio::test]
async fn a_command_runs_in_the_home_with_a_clean_environment() {
    let host = Host::start(|options| {
        options.environment.push(("EXTRA".into(), "a b".into()));
    })
    .await;
    let handle = host.connect().await;
    let ended = exec(&handle, "pwd -P; env", b"").await;
    let text = String::from_utf8(ended.out).unwrap();
    let home = host.home.path().canonicalize().unwrap();
    assert_eq!(text.lines().next().unwrap(), home.to_str().unwrap());
    for line in ["USER=demo", "LOGNAME=demo", "SHELL=/bin/sh", "EXTRA=a b"] {
        assert!(
            text.lines().any(|there| there == line),
            "{line} is not in {text}"
        );
    }
    assert!(!text.contains("CARGO"), "{text}");
}

#[tokio::test]
async fn large_streams_pass_both_ways_at_once_and_beside_a_command_that_does_not_read() {
    let host = Host::start(|_| {}).await;
    let handle = host.connect().await;
    let input: Vec<u8> = (0..12_000_000_u32)
        .map(|number| (number / 7) as u8)
        .collect();
    let stuck = handle.channel_open_session().await.unwrap();
    let patient = "while [ ! -e go ]; do sleep 0.05; done; : > gone";
    stuck.exec(true, patient).await.unwrap();
    stuck.data_bytes(vec![0; 1_000_000]).await.unwrap();
    let ended = exec(&handle, "cat", &input).await;
    assert_eq!(ended.status, Some(0));
    assert!(ended.out == input, "the echo differs");
    let ended = exec(&handle, "head -c 3; exit 0", &input).await;
    assert_eq!((ended.out.len(), ended.status), (3, Some(0)));
    std::fs::write(host.path("go"), "").unwrap();
    until("the command that waited ends", || {
        host.path("gone").exists()
    })
    .await;
}

#[tokio::test]
async fn a_missing_login_shell_is_an_exit_status_and_not_a_lost_connection() {
    let host = Host::start(|options| options.login_shell = "/no/such/shell".into()).await;
    let handle = host.connect().await;
    let ended = exec(&handle, "true", b"").await;
    assert_eq!(ended.status, Some(127));
    assert!(!ended.err.is_empty());
}

#[tokio::test]
async fn a_detached_process_outlives_its_channel_and_its_connection() {
    let host = Host::start(|_| {}).await;
    let handle = host.connect().await;
    let script = "(while [ ! -e go ]; do sleep 0.05; done; echo done > result) \
                  </dev/null >/dev/null 2>&1 & echo launched";
    let ended = exec(&handle, script, b"").await;
    assert_eq!(
        (ended.out.as_slice(), ended.status),
        (&b"launched\n"[..], Some(0))
    );
    host.server.kill_connections();
    until("the client notices", || handle.is_closed()).await;
    std::fs::write(host.path("go"), "").unwrap();
    until("the process ends its work", || host.path("result").exists()).await;
}

#[tokio::test]
async fn a_closed_channel_closes_the_pipes_of_a_process_and_does_not_kill_it() {
    let host = Host::start(|_| {}).await;
    let handle = host.connect().await;
    let channel = handle.channel_open_session().await.unwrap();
    channel
        .exec(true, "echo ready; cat > /dev/null; echo ended > result")
        .await
        .unwrap();
    let mut channel = channel;
    while !matches!(channel.wait().await.unwrap(), ChannelMsg::Data { .. }) {}
    channel.close().await.unwrap();
    until("the process sees its input end", || {
        host.path("result").exists()
    })
    .await;
}

#[tokio::test]
async fn noise_comes_before_the_output_and_a_refusal_instead_of_it() {
    let host = Host::start(|options| options.banner_noise = Some("motd!\n".to_owned())).await;
    let ended = exec(&host.connect().await, "echo real", b"").await;
    assert_eq!(ended.out, b"motd!\nreal\n");
    let text = "This account is currently not available.\n";
    let host = Host::start(|options| options.refuse_exec = Some(text.to_owned())).await;
    let ended = exec(&host.connect().await, "echo real", b"").await;
    assert_eq!(
        (ended.out.as_slice(), ended.status),
        (text.as_bytes(), Some(1))
    );
}

#[tokio::test]
async fn sessions_past_the_most_are_refused_until_one_ends() {
    let host = Host::start(|options| options.max_sessions = Some(1)).await;
    let handle = host.connect().await;
    let first = handle.channel_open_session().await.unwrap();
    let refused = handle.channel_open_session().await;
    assert!(matches!(
        refused,
        Err(russh::Error::ChannelOpenFailure(
            russh::ChannelOpenFailure::ConnectFailed
        ))
    ));
    first.close().await.unwrap();
    for _ in 0..3 {
        let ended = tokio::time::timeout(DEADLINE, async {
            loop {
                if let Ok(channel) = handle.channel_open_session().await {
                    channel.close().await.unwrap();
                    return;
                }
                tokio::task::yield_now().await;
            }
        });
        ended.await.unwrap();
    }
}

#[tokio::test]
async fn a_channel_that_nobody_asked_for_is_opened_and_its_fate_counted() {
    let host = Host::start(|options| options.open_forwarded_channel = true).await;
    let _handle = host.connect().await;
    // russh's default handler accepts: exactly what a sound client must not do.
    until("it is accepted", || {
        host.server.forwarded_channels() == (1, 0)
    })
    .await;
}

#[tokio::test]
async fn killed_connections_end_and_new_ones_are_accepted() {
    let host = Host::start(|_| {}).await;
    let handle = host.connect().await;
    let mut channel = handle.channel_open_session().await.unwrap();
    channel.exec(true, "echo ready; sleep 0.2").await.unwrap();
    while !matches!(channel.wait().await.unwrap(), ChannelMsg::Data { .. }) {}
    host.server.kill_connections();
    until("the client notices", || handle.is_closed()).await;
    let ended = exec(&host.connect().await, "echo again", b"").await;
    assert_eq!(ended.out, b"again\n");
    assert_eq!(host.server.connections(), 2);
}

#[tokio::test]
async fn a_stopped_server_has_closed_its_connections_and_its_port() {
    let host = Host::start(|_| {}).await;
    let handle = host.connect().await;
    let address = host.server.address();
    tokio::time::timeout(DEADLINE, host.server.stop())
        .await
        .unwrap();
    until("the client notices", || handle.is_closed()).await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn files_go_up_and_come_down_with_their_modes() {
    let host = Host::start(|_| {}).await;
    let handle = host.connect().await;
    let raw = raw_sftp(&handle).await;
    let mode = |mode| FileAttributes {
        permissions: Some(mode),
        ..FileAttributes::empty()
    };
    raw.mkdir("job", mode(0o700)).await.unwrap();
    let flags = OpenFlags::CREATE | OpenFlags::EXCLUDE | OpenFlags::WRITE;
    let file = raw.open("job/a.part", flags, mode(0o600)).await.unwrap();
    raw.write(&file.handle, 0, b"hello".to_vec()).await.unwrap();
    raw.write(&file.handle, 5, b" world".to_vec())
        .await
        .unwrap();
    raw.fsync(&file.handle).await.unwrap();
    assert_eq!(raw.fstat(&file.handle).await.unwrap().attrs.size, Some(11));
    raw.close(&file.handle).await.unwrap();
    assert_eq!(
        status(raw.open("job/a.part", flags, mode(0o600)).await),
        StatusCode::Failure
    );
    let bits = |name: &str| host.path(name).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((bits("job"), bits("job/a.part")), (0o700, 0o600));
    raw.setstat("job/a.part", mode(0o640)).await.unwrap();
    assert_eq!(bits("job/a.part"), 0o640);
    assert_eq!(
        std::fs::read(host.path("job/a.part")).unwrap(),
        b"hello world"
    );

    let sftp = sftp(&handle).await;
    let large: Vec<u8> = (0..3_000_000_u32)
        .map(|number| (number / 3) as u8)
        .collect();
    let mut file = sftp.create("job/large").await.unwrap();
    file.write_all(&large).await.unwrap();
    file.shutdown().await.unwrap();
    assert!(std::fs::read(host.path("job/large")).unwrap() == large);
    assert!(sftp.read("job/large").await.unwrap() == large);
    let mut file = sftp.open("job/large").await.unwrap();
    file.seek(std::io::SeekFrom::Start(2_999_990))
        .await
        .unwrap();
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).await.unwrap();
    assert_eq!(tail, large[2_999_990..]);
    assert_eq!(host.server.sftp_sessions(), 2);
}

#[tokio::test]
async fn names_are_listed_renamed_and_removed() {
    let host = Host::start(|_| {}).await;
    let handle = host.connect().await;
    let raw = raw_sftp(&handle).await;
    std::fs::write(host.path("one"), "1").unwrap();
    std::fs::write(host.path("two"), "2").unwrap();
    assert_eq!(status(raw.rename("one", "two").await), StatusCode::Failure);
    let string = |text: &str| {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&length[..], text.as_bytes()].concat()
    };
    let names = [string("one"), string("two")].concat();
    raw.extended("posix-rename@openssh.com", names)
        .await
        .unwrap();
    assert_eq!(std::fs::read(host.path("two")).unwrap(), b"1");
    raw.rename("two", "three").await.unwrap();
    raw.remove("three").await.unwrap();
    assert_eq!(status(raw.remove("three").await), StatusCode::NoSuchFile);
    assert_eq!(status(raw.stat("three").await), StatusCode::NoSuchFile);
    assert_eq!(raw.limits().await.unwrap().max_write_len, 255 * 1024);

    let sftp = sftp(&handle).await;
    sftp.create_dir("many").await.unwrap();
    for number in 0..250 {
        std::fs::write(host.path(&format!("many/{number}")), "").unwrap();
    }
    assert_eq!(sftp.read_dir("many").await.unwrap().count(), 250);
    assert_eq!(status(sftp.remove_dir("many").await), StatusCode::Failure);
    let home = host.home.path().canonicalize().unwrap();
    assert_eq!(
        sftp.canonicalize(".").await.unwrap(),
        home.to_str().unwrap()
    );
}

#[tokio::test]
async fn a_rooted_sftp_shows_other_paths_than_the_shell() {
    let jail = tempfile::tempdir().unwrap();
    let root = jail.path().to_owned();
    let host = Host::start(move |options| options.sftp_root = Some(root)).await;
    let sftp = sftp(&host.connect().await).await;
    assert_eq!(sftp.canonicalize(".").await.unwrap(), "/");
    let mut file = sftp.create("/nonce").await.unwrap();
    file.write_all(b"x").await.unwrap();
    file.shutdown().await.unwrap();
    assert!(jail.path().join("nonce").exists());
    assert!(!sftp.try_exists("/etc/passwd").await.unwrap());
}

#[tokio::test]
async fn without_sftp_the_subsystem_is_refused_and_commands_still_run() {
    let host = Host::start(|options| options.sftp = false).await;
    let handle = host.connect().await;
    let mut channel = handle.channel_open_session().await.unwrap();
    channel.request_subsystem(true, "sftp").await.unwrap();
    assert!(matches!(channel.wait().await, Some(ChannelMsg::Failure)));
    assert_eq!(exec(&handle, "echo here", b"").await.out, b"here\n");
    assert_eq!(host.server.sftp_sessions(), 0);
}

#[tokio::test]
async fn a_connection_cut_by_the_proxy_is_noticed_on_both_sides() {
    let host = Host::start(|_| {}).await;
    let proxy = proxy::Proxy::start(host.server.address()).await.unwrap();
    let handle = host.connect_to(proxy.address(), &host.key).await.unwrap();
    proxy.cut_after(
        proxy::Direction::ToClient,
        200_000,
        proxy::Cut::Reset,
        proxy::Repeat::Once,
    );
    let ended = exec(&handle, "head -c 1000000 /dev/zero", b"").await;
    assert_eq!(ended.status, None);
    assert!(ended.out.len() < 200_000);
    until("the client notices", || handle.is_closed()).await;
    let handle = host.connect_to(proxy.address(), &host.key).await.unwrap();
    assert_eq!(exec(&handle, "echo again", b"").await.out, b"again\n");
}
