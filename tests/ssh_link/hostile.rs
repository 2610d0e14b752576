//! A server that means harm: wrong, huge and slow answers, channels that nobody asked for, output without end.
//!
//! The server runs in this process; nothing here needs sshd.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handover::ssh::{
    AgentSource, ConnectOptions, Connection, ExecChunk, ExecOptions, ExitStatus, Files, RemotePath,
    SshError, Target,
};
use proptest::prelude::{Strategy as _, any};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use russh::server::{
    Auth, ChannelOpenHandle, Config, Handle, Handler, Msg, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::keys::{new_key, write_key};

/// No call may take longer, whatever the server does.
pub(crate) const BOUND: Duration = Duration::from_secs(60);
/// The file that the honest server has.
const CONTENT: &[u8] = b"an honest answer";

const OPEN: u8 = 3;
const READ: u8 = 5;
const WRITE: u8 = 6;
const FSTAT: u8 = 8;
const REMOVE: u8 = 13;
const STAT: u8 = 17;
const RENAME: u8 = 18;

/// What the server sends for a request of this type and number; `None` is the honest answer.
pub(crate) type Attack = Arc<dyn Fn(u8, u32) -> Option<Vec<u8>> + Send + Sync>;

#[derive(Clone)]
struct Hostile {
    attack: Attack,
    /// The answer to INIT.
    version: Vec<u8>,
    channels: Arc<Mutex<std::collections::HashMap<ChannelId, Channel<Msg>>>>,
    unasked: Arc<Mutex<Vec<bool>>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

/// The type of a request, and the texts that it begins with.
type Request = (u8, Vec<String>);

/// A packet of SFTP: its length, type, number and content.
fn packet(kind: u8, id: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 5).unwrap();
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.push(kind);
    bytes.extend(id.to_be_bytes());
    bytes.extend(content);
    bytes
}

fn text(bytes: &[u8]) -> Vec<u8> {
    let mut framed = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    framed.extend(bytes);
    framed
}

fn status(id: u32, code: u32, words: &[u8]) -> Vec<u8> {
    packet(
        101,
        id,
        &[&code.to_be_bytes()[..], &text(words), &text(b"")].concat(),
    )
}

fn handle(id: u32, name: &[u8]) -> Vec<u8> {
    packet(102, id, &text(name))
}

fn data(id: u32, bytes: &[u8]) -> Vec<u8> {
    packet(103, id, &text(bytes))
}

/// The answer to READDIR and REALPATH, with one name.
fn name(id: u32, name: &[u8]) -> Vec<u8> {
    let entry = [&1u32.to_be_bytes()[..], &text(name), &text(name), &[0; 4]].concat();
    packet(104, id, &entry)
}

fn size(id: u32, size: u64) -> Vec<u8> {
    packet(
        105,
        id,
        &[&1u32.to_be_bytes()[..], &size.to_be_bytes()].concat(),
    )
}

pub(crate) fn honest_version() -> Vec<u8> {
    [&5u32.to_be_bytes()[..], &[2], &3u32.to_be_bytes()].concat()
}

fn honest(kind: u8, id: u32, first_read: bool) -> Vec<u8> {
    match kind {
        OPEN => handle(id, b"h"),
        READ if first_read => data(id, CONTENT),
        READ => status(id, 1, b"end"),
        FSTAT | STAT => size(id, CONTENT.len() as u64),
        _ => status(id, 0, b""),
    }
}

async fn sftp(server: Hostile, channel: Channel<Msg>) {
    let mut stream = channel.into_stream();
    let mut reads = 0;
    loop {
        let mut length = [0; 4];
        if stream.read_exact(&mut length).await.is_err() {
            return;
        }
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        if stream.read_exact(&mut request).await.is_err() {
            return;
        }
        let kind = request[0];
        let id = u32::from_be_bytes(request[1..5].try_into().unwrap());
        let seen = (kind, texts(&request[5..]));
        server.requests.lock().unwrap().push(seen);
        let answer = if kind == 1 {
            server.version.clone()
        } else {
            reads += u32::from(kind == READ);
            (server.attack)(kind, id).unwrap_or_else(|| honest(kind, id, reads == 1))
        };
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// The texts that stand in front.
fn texts(mut bytes: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some((length, rest)) = bytes.split_at_checked(4)
        && let length = u32::from_be_bytes(length.try_into().unwrap()) as usize
        && let Some((text, rest)) = rest.split_at_checked(length)
    {
        texts.push(String::from_utf8_lossy(text).into_owned());
        bytes = rest;
    }
    texts
}

/// Opens channels of every kind that a server can, and notes which were accepted.
async fn open_unasked(handle: Handle, unasked: Arc<Mutex<Vec<bool>>>) {
    for kind in 0..7 {
        let opened = match kind {
            0 => handle.channel_open_agent().await,
            1 => handle.channel_open_session().await,
            2 => {
                handle
                    .channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1)
                    .await
            }
            3 => handle.channel_open_direct_streamlocal("/run/x").await,
            4 => {
                handle
                    .channel_open_forwarded_tcpip("127.0.0.1", 22, "127.0.0.1", 1)
                    .await
            }
            5 => handle.channel_open_forwarded_streamlocal("/run/x").await,
            _ => handle.channel_open_x11("127.0.0.1", 1).await,
        };
        unasked.lock().unwrap().push(opened.is_ok());
    }
}

impl Handler for Hostile {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        tokio::spawn(open_unasked(session.handle(), Arc::clone(&self.unasked)));
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channels.lock().unwrap().insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let channel = self.channels.lock().unwrap().remove(&id).unwrap();
        session.channel_success(id)?;
        tokio::spawn(sftp(self.clone(), channel));
        Ok(())
    }

    /// Talks without end on both streams, until the channel is closed.
    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let channel = self.channels.lock().unwrap().remove(&id).unwrap();
        session.channel_success(id)?;
        if command == b"ends and hangs up" {
            // All in one flight.
            session.exit_status_request(id, 7)?;
            session.close(id)?;
            return session.disconnect(russh::Disconnect::ByApplication, "bye", "");
        }
        let (ends, handle) = (command == b"ends", session.handle());
        tokio::spawn(async move {
            let noise = vec![b'x'; 32 * 1024];
            for round in 0..u32::MAX {
                if ends && round == 100 {
                    // An end that is said again and again.
                    for status in [0, 7, 9] {
                        let _ = handle.exit_status_request(id, status).await;
                    }
                    let _ = channel.close().await;
                    return;
                }
                let stderr = channel.extended_data(1, &noise[..]).await;
                if channel.data(&noise[..]).await.is_err() || stderr.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }
}

/// A hostile server, and how it is reached.
pub(crate) struct Place {
    home: TempDir,
    pub(crate) target: Target,
    pub(crate) options: ConnectOptions,
    unasked: Arc<Mutex<Vec<bool>>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Place {
    pub(crate) async fn new(attack: Attack, version: Vec<u8>) -> Self {
        let key = new_key();
        let home = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let line = format!(
            "[127.0.0.1]:{} {}\n",
            address.port(),
            key.public_key().to_openssh().unwrap()
        );
        fs::write(home.path().join("known_hosts"), line).unwrap();
        let identity = home.path().join("id");
        write_key(&identity, &new_key());
        let config = Arc::new(Config {
            keys: vec![key],
            ..Config::default()
        });
        let unasked = Arc::new(Mutex::default());
        let server = Hostile {
            attack,
            version,
            channels: Arc::default(),
            unasked: Arc::clone(&unasked),
            requests: Arc::default(),
        };
        let requests = Arc::clone(&server.requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (config, mut server) = (Arc::clone(&config), server.clone());
                server.channels = Arc::default();
                tokio::spawn(async move {
                    if let Ok(session) = russh::server::run_stream(config, stream, server).await {
                        let _ = session.await;
                    }
                });
            }
        });
        let name = "box".parse().unwrap();
        let mut target = Target::new(name, "127.0.0.1", address.port(), "anyone");
        target.identity_files.push(identity);
        let mut options = ConnectOptions::default().agent(AgentSource::None);
        options.known_hosts = vec![home.path().join("known_hosts")];
        options.deadlines.progress = Duration::from_secs(1);
        options.deadlines.channel_open = Duration::from_secs(5);
        Self {
            home,
            target,
            options,
            unasked,
            requests,
        }
    }

    async fn connect(&self) -> Connection {
        Connection::open(&self.target, &self.options).await.unwrap()
    }

    /// Every call on files; what it gave or how it failed. None may hang or panic.
    async fn every_call(&self) -> Vec<Result<Vec<u8>, SshError>> {
        let work = async {
            let connection = self.connect().await;
            let files = match connection.sftp().await {
                Ok(files) => files,
                Err(error) => return vec![Err(error)],
            };
            let path: RemotePath = "/home/file".parse().unwrap();
            let back = self.home.path().join("back");
            let read = files.read(&path, 1000).await;
            let from = files.read_from(&path, 0, 1000).await;
            let size = files.size(&path).await;
            let written = files.write(&path, b"new").await;
            let local = self.home.path().join("local");
            fs::write(&local, vec![7; 100_000]).unwrap();
            let up = files.upload(&local, &path, &|_| {}).await;
            let down = files.download(&path, &back, 1000, &|_| {}).await;
            let down = match down {
                Ok(size) => {
                    let content = fs::read(&back).unwrap();
                    assert_eq!(content.len() as u64, size);
                    fs::remove_file(&back).unwrap();
                    Ok(content)
                }
                Err(error) => {
                    assert!(!back.exists(), "{error:?}");
                    Err(error)
                }
            };
            let made = files.create_dir(&path).await;
            let gone = files.remove_file(&path).await;
            let entries = fs::read_dir(self.home.path()).unwrap().count();
            assert_eq!(entries, 3, "files where none should be");
            let told = size.map(|size| size.unwrap_or_default().to_string().into_bytes());
            let nothing = |result: Result<(), SshError>| result.map(|()| Vec::new());
            vec![
                read,
                from,
                told,
                nothing(written),
                nothing(up.map(drop)),
                down,
                nothing(made),
                nothing(gone),
            ]
        };
        tokio::time::timeout(BOUND, work).await.unwrap()
    }
}

fn only(wanted: u8, answer: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> Attack {
    Arc::new(move |kind, id| (kind == wanted).then(|| answer(id)))
}

fn bounded(results: &[Result<Vec<u8>, SshError>], what: &str) {
    for result in results {
        match result {
            Ok(bytes) => assert!(bytes.len() <= 1000, "{what}: {} bytes", bytes.len()),
            Err(error) => {
                let words = error.to_string();
                assert!(words.len() < 4000, "{what}: {} characters", words.len());
                assert!(!words.chars().any(char::is_control), "{what}: {words:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_server_is_understood() {
    let place = Place::new(Arc::new(|_, _| None), honest_version()).await;
    let results = place.every_call().await;
    assert_eq!(results[0].as_ref().unwrap(), CONTENT);
    assert_eq!(results[2].as_ref().unwrap(), b"16");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_huge_and_missing_answers_are_bounded_errors() {
    let rows: Vec<(&str, Attack)> = vec![
        (
            "more data than was asked for",
            only(READ, |id| data(id, &[7; 40_000])),
        ),
        (
            "a packet that is longer than any",
            only(READ, |_| vec![0xff; 64]),
        ),
        (
            "a packet that never ends",
            only(READ, |id| data(id, &[7; 100])[..20].to_vec()),
        ),
        ("no data for ever", only(READ, |id| data(id, b""))),
        (
            "another's number",
            only(READ, |id| data(id.wrapping_add(77), CONTENT)),
        ),
        ("no answer", only(READ, |_| Vec::new())),
        ("no answer to an open", only(OPEN, |_| Vec::new())),
        (
            "a name for a handle",
            only(OPEN, |id| name(id, b"../../etc/passwd")),
        ),
        ("a name for a size", only(FSTAT, |id| name(id, b"../x"))),
        ("a name for data", only(READ, |id| name(id, b"../x"))),
        (
            "a huge handle",
            only(OPEN, |id| handle(id, &[b'h'; 200_000])),
        ),
        ("a size beyond all", only(FSTAT, |id| size(id, u64::MAX))),
        (
            "a size of nothing",
            only(FSTAT, |id| packet(105, id, &[0; 4])),
        ),
        ("a size that is not true", only(FSTAT, |id| size(id, 999))),
        (
            "a status of many words",
            only(OPEN, |id| status(id, 4, &[0x1b; 200_000])),
        ),
        (
            "an unknown status",
            only(WRITE, |id| status(id, 4_000_000, b"\x07\r\n")),
        ),
        (
            "success without an answer",
            only(OPEN, |id| status(id, 0, b"")),
        ),
        ("an unknown type", only(READ, |id| packet(77, id, b"?"))),
        ("an empty packet", only(READ, |_| vec![0; 4])),
    ];
    let run = async |(what, attack): (&str, Attack)| {
        let place = Place::new(attack, honest_version()).await;
        let results = place.every_call().await;
        bounded(&results, what);
        assert!(results.iter().any(Result::is_err), "{what}");
    };
    futures::future::join_all(rows.into_iter().map(run)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_makes_no_sense_is_no_sftp() {
    for version in [
        vec![0xff; 64],
        vec![0; 4],
        [&5u32.to_be_bytes()[..], &[101], &3u32.to_be_bytes()].concat(),
        [
            &9u32.to_be_bytes()[..],
            &[2],
            &3u32.to_be_bytes(),
            &[0xff; 4],
        ]
        .concat(),
        Vec::new(),
    ] {
        let place = Place::new(Arc::new(|_, _| None), version.clone()).await;
        let connection = place.connect().await;
        let error = tokio::time::timeout(BOUND, connection.sftp())
            .await
            .unwrap()
            .unwrap_err();
        assert!(
            matches!(
                error,
                SshError::SftpUnavailable { .. } | SshError::TimedOut { .. }
            ),
            "{version:?}: {error:?}"
        );
        assert!(!connection.is_closed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_any_bytes_neither_hang_nor_panic() {
    let mut runner = TestRunner::deterministic();
    let bytes = proptest::collection::vec(any::<u8>(), 0..200);
    let random: Vec<Vec<u8>> = (0..24)
        .map(|_| bytes.new_tree(&mut runner).unwrap().current())
        .collect();
    let run = async |(row, bytes): (usize, Vec<u8>)| {
        // Half of them in a frame that is right, so that the bytes are looked at as an answer.
        let attack: Attack = Arc::new(move |kind, id| {
            let framed = || packet(101 + bytes.first().map_or(0, |byte| byte % 6), id, &bytes);
            (kind != OPEN || row % 4 == 0).then(|| {
                if row % 2 == 0 {
                    framed()
                } else {
                    bytes.clone()
                }
            })
        });
        let place = Place::new(attack, honest_version()).await;
        bounded(&place.every_call().await, "any bytes");
    };
    futures::future::join_all(random.into_iter().enumerate().map(run)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_that_the_server_opens_are_refused_and_output_is_bounded() {
    let place = Place::new(Arc::new(|_, _| None), honest_version()).await;
    let connection = place.connect().await;
    let options = || ExecOptions::new("a test").limits(1000, 500);
    let output = connection.exec("ends", options()).await.unwrap();
    assert_eq!((output.stdout.len(), output.stderr.len()), (1000, 500));
    assert!(output.stdout_truncated && output.stderr_truncated);
    assert!(matches!(output.status, ExitStatus::Code(_)));
    let (mut written, mut other) = (0, 0);
    let heard = connection
        .exec_with("ends", options(), |chunk| match chunk {
            ExecChunk::Stdout(bytes) => written += bytes.len(),
            ExecChunk::Stderr(bytes) => other += bytes.len(),
            _ => {}
        })
        .await
        .unwrap();
    assert_eq!((heard.stdout.len(), heard.stderr.len()), (1000, 500));
    let all = 100 * 32 * 1024;
    assert_eq!((written, other), (all, all), "all of it is told");
    let endless = connection
        .exec("endless", options().deadline(Duration::from_secs(2)))
        .await
        .unwrap_err();
    assert!(matches!(endless, SshError::TimedOut { .. }), "{endless:?}");
    let told = async {
        while place.unasked.lock().unwrap().len() < 7 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(BOUND, told).await.unwrap();
    assert!(
        place
            .unasked
            .lock()
            .unwrap()
            .iter()
            .all(|accepted| !accepted)
    );
    assert!(!connection.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_of_no_text_is_no_sftp_and_is_never_used() {
    let attack = only(OPEN, |id| handle(id, &[b'h', 0xff, 0xfe, 0]));
    let place = Place::new(attack, honest_version()).await;
    let results = place.every_call().await;
    for (call, result) in results.iter().enumerate() {
        // A size, a directory and a removal take no handle.
        let unavailable = matches!(result, Err(SshError::SftpUnavailable { .. }));
        assert_eq!(
            unavailable,
            ![2, 6, 7].contains(&call),
            "{call}: {result:?}"
        );
    }
    let requests = place.requests.lock().unwrap();
    let used = |kind: u8| requests.iter().any(|(seen, _)| *seen == kind);
    assert!(!used(READ) && !used(WRITE) && !used(RENAME));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_file_is_there_whatever_fails_while_it_is_replaced() {
    // The server refuses to rename over it, and then to give the new one its name.
    let renames = Mutex::new(0);
    let attack: Attack = Arc::new(move |kind, id| {
        let mut renames = renames.lock().unwrap();
        *renames += u32::from(kind == RENAME);
        (kind == RENAME && (*renames == 1 || *renames == 3)).then(|| status(id, 4, b"no"))
    });
    let place = Place::new(attack, honest_version()).await;
    let files = place.connect().await.sftp().await.unwrap();
    let path: RemotePath = "/home/file".parse().unwrap();
    let error = files.write(&path, b"new").await.unwrap_err();
    assert!(matches!(error, SshError::Remote { .. }), "{error:?}");
    let changes: Vec<Request> = place
        .requests
        .lock()
        .unwrap()
        .iter()
        .filter(|(kind, _)| [RENAME, REMOVE].contains(kind))
        .cloned()
        .collect();
    let (part, file, old) = ("/home/file.part", "/home/file", "/home/file.old");
    let renamed = |from: &str, to: &str| (RENAME, vec![from.to_owned(), to.to_owned()]);
    let wanted = [
        renamed(part, file),
        renamed(file, old),
        renamed(part, file),
        renamed(old, file),
        (REMOVE, vec![part.to_owned()]),
    ];
    assert_eq!(changes, wanted);
}

#[tokio::test]
async fn a_command_that_has_ended_is_no_loss_although_the_server_hangs_up_with_it() {
    let place = Place::new(Arc::new(|_, _| None), honest_version()).await;
    for round in 0..20 {
        let connection = place.connect().await;
        let output = connection
            .exec("ends and hangs up", ExecOptions::new("a test"))
            .await
            .unwrap_or_else(|error| panic!("{round}: {error:?}"));
        assert_eq!(output.status, ExitStatus::Code(7));
        connection.closed().await;
    }
}
