//! Commands that nobody waits for any more: their channel is closed, wherever they were.

use std::fs;
use std::net::Ipv4Addr;
#[cfg(unix)]
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handover::ssh::{AgentSource, ConnectOptions, Connection, ExecOptions, SshError, Target};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::hostile::BOUND;
use crate::keys::{new_key, write_key};
#[cfg(unix)]
use crate::sshd::wait_for;
#[cfg(unix)]
use crate::support::{AT_ONCE, connect, run, start};

/// What a server without a word to say has seen.
#[derive(Debug, Default)]
struct Seen {
    asked_for: AtomicUsize,
    commands: AtomicUsize,
    subsystems: AtomicUsize,
    closed: AtomicUsize,
}

/// A server that opens channels when it may, takes every command, and answers none.
#[derive(Clone)]
struct Silent {
    seen: Arc<Seen>,
    may_open: Arc<Semaphore>,
    channels: Arc<Mutex<Vec<Channel<Msg>>>>,
}

impl Handler for Silent {
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
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.seen.asked_for.fetch_add(1, Ordering::SeqCst);
        self.channels.lock().unwrap().push(channel);
        let may_open = Arc::clone(&self.may_open);
        tokio::spawn(async move {
            may_open.acquire().await.unwrap().forget();
            reply.accept().await;
        });
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        _command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.seen.commands.fetch_add(1, Ordering::SeqCst);
        session.channel_success(id)
    }

    async fn subsystem_request(
        &mut self,
        _id: ChannelId,
        _name: &str,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.seen.subsystems.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn channel_close(
        &mut self,
        _id: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.seen.closed.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// A silent server and a connection to it.
struct Place {
    seen: Arc<Seen>,
    may_open: Arc<Semaphore>,
    connection: Connection,
    _home: TempDir,
}

impl Place {
    async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let key = new_key();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let public = key.public_key().to_openssh().unwrap();
        let known = home.path().join("known_hosts");
        fs::write(&known, format!("[127.0.0.1]:{port} {public}\n")).unwrap();
        let server = Silent {
            seen: Arc::default(),
            may_open: Arc::new(Semaphore::new(0)),
            channels: Arc::default(),
        };
        let (seen, may_open) = (Arc::clone(&server.seen), Arc::clone(&server.may_open));
        let config = Arc::new(Config {
            keys: vec![key],
            ..Config::default()
        });
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let session = russh::server::run_stream(config, stream, server).await;
            let _ = session.unwrap().await;
        });
        let identity = home.path().join("id");
        write_key(&identity, &new_key());
        let mut target = Target::new("box".parse().unwrap(), "127.0.0.1", port, "anyone");
        target.identity_files.push(identity);
        let mut options = ConnectOptions::default().agent(AgentSource::None);
        options.known_hosts = vec![known];
        options.deadlines.channel_open = Duration::from_secs(3);
        Self {
            seen,
            may_open,
            connection: Connection::open(&target, &options).await.unwrap(),
            _home: home,
        }
    }
}

async fn until(what: &str, count: &AtomicUsize, wanted: usize) {
    let reached = async {
        while count.load(Ordering::SeqCst) != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(BOUND, reached).await;
    assert!(in_time.is_ok(), "{what}: {count:?} and not {wanted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_dropped_or_late_has_its_channel_closed_once() {
    let place = Place::new().await;
    let (seen, connection) = (&place.seen, &place.connection);
    let long = || ExecOptions::new("a test").deadline(BOUND);
    place.may_open.add_permits(2);

    // Dropped while it runs.
    tokio::select! {
        output = connection.exec("silent", long()) => panic!("{output:?}"),
        () = until("a command", &seen.commands, 1) => {}
    }
    until("closed after the drop", &seen.closed, 1).await;

    // Given up at its deadline.
    let short = ExecOptions::new("a test").deadline(Duration::from_millis(300));
    let error = connection.exec("silent", short).await.unwrap_err();
    assert!(matches!(error, SshError::TimedOut { .. }), "{error:?}");
    until("closed after the deadline", &seen.closed, 2).await;

    // Dropped while its channel is opened: it is closed as soon as it is there, and nothing is asked of it.
    tokio::select! {
        output = connection.exec("silent", long()) => panic!("{output:?}"),
        () = until("a channel", &seen.asked_for, 3) => {}
    }
    assert_eq!(seen.closed.load(Ordering::SeqCst), 2);
    place.may_open.add_permits(1);
    until("closed once it was open", &seen.closed, 3).await;
    assert_eq!(seen.commands.load(Ordering::SeqCst), 2);
    assert!(!connection.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_that_is_dropped_or_late_while_it_starts_has_its_channel_closed() {
    let place = Place::new().await;
    let (seen, connection) = (&place.seen, &place.connection);
    place.may_open.add_permits(3);
    // Nobody answers the request for the subsystem.
    tokio::select! {
        files = connection.sftp() => panic!("{:?}", files.err()),
        () = until("a subsystem", &seen.subsystems, 1) => {}
    }
    until("closed after the drop", &seen.closed, 1).await;
    let error = connection.sftp().await.err().unwrap();
    assert!(matches!(error, SshError::TimedOut { .. }), "{error:?}");
    until("closed after the deadline", &seen.closed, 2).await;
    assert!(!connection.is_closed());
}

/// Whether the process lives whose id is in this file, which it writes as its first deed.
#[cfg(unix)]
fn lives(pid: &Path) -> bool {
    let pid = fs::read_to_string(pid).unwrap();
    Path::new("/proc").join(pid.trim()).exists()
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn the_only_channel_of_a_command_that_is_given_up_goes_to_the_next_one() {
    let sshd = start(&["MaxSessions 1".to_owned()]);
    for way in ["dropped", "late", "ahead of its input"] {
        let connection = connect(&sshd, sshd.port()).await;
        let file = sshd.path(way);
        // Its end is the next word that nobody takes.
        let talks = format!(
            "echo $$ >'{0}.part'; mv '{0}.part' '{0}'; while echo on; do sleep 0.1; done",
            file.display()
        );
        let reads = format!(
            "echo $$ >'{0}.part'; mv '{0}.part' '{0}'; exec cat",
            file.display()
        );
        let begun = async {
            while !file.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let long = ExecOptions::new("a test").deadline(AT_ONCE * 3);
        match way {
            "dropped" => tokio::select! {
                output = connection.exec(&talks, long) => panic!("{output:?}"),
                () = begun => {}
            },
            "late" => {
                let short = ExecOptions::new("a test").deadline(Duration::from_secs(1));
                let error = connection.exec(&talks, short).await.unwrap_err();
                assert!(matches!(error, SshError::TimedOut { .. }), "{error:?}");
            }
            _ => tokio::select! {
                output = connection.exec_ahead(&reads, long, std::future::pending()) => {
                    panic!("{output:?}")
                }
                () = begun => {}
            },
        }
        let next = tokio::time::timeout(AT_ONCE, run(&connection, "echo next")).await;
        assert_eq!(next.expect(way), "next\n", "{way}");
        assert!(wait_for(AT_ONCE, || !lives(&file)), "{way}: it goes on");
    }
}
