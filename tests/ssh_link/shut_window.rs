//! A server whose window is shut until it has accepted a command, which it never does, or refuses.
//!
//! The server runs in this process; nothing here needs sshd.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use handover::ssh::{AgentSource, ConnectOptions, Connection, Files as _, SshError, Target};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::keys::{new_key, write_key};

/// No call may take longer, whatever the server does.
const BOUND: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Shut {
    refuses: bool,
    channels: Vec<Arc<Channel<Msg>>>,
}

impl Handler for Shut {
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
        self.channels.push(Arc::new(channel));
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        _command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.refuses {
            session.channel_failure(id)?;
        }
        Ok(())
    }
}

/// A connection to such a server, and the directory that has its keys.
async fn connect(refuses: bool) -> (TempDir, Connection) {
    let home = tempfile::tempdir().unwrap();
    let host_key = new_key();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let public = host_key.public_key().to_openssh().unwrap();
    let known_hosts = home.path().join("known_hosts");
    fs::write(&known_hosts, format!("[127.0.0.1]:{port} {public}\n")).unwrap();
    let identity = home.path().join("id");
    write_key(&identity, &new_key());
    let config = Arc::new(Config {
        keys: vec![host_key],
        window_size: 0,
        ..Config::default()
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = Shut {
                refuses,
                channels: Vec::new(),
            };
            let config = Arc::clone(&config);
            tokio::spawn(async move {
                if let Ok(session) = russh::server::run_stream(config, stream, server).await {
                    let _ = session.await;
                }
            });
        }
    });
    let mut target = Target::new("box".parse().unwrap(), "127.0.0.1", port, "anyone");
    target.identity_files.push(identity);
    let mut options = ConnectOptions::default().agent(AgentSource::None);
    options.known_hosts = vec![known_hosts];
    options.deadlines.progress = if refuses {
        BOUND * 2
    } else {
        Duration::from_secs(1)
    };
    let connection = Connection::open(&target, &options).await.unwrap();
    (home, connection)
}

/// How a download and an upload fail.
async fn transfers(refuses: bool) -> [SshError; 2] {
    let (home, connection) = connect(refuses).await;
    let remote = "/home/file".parse().unwrap();
    let (local, back) = (home.path().join("local"), home.path().join("back"));
    fs::write(&local, b"content").unwrap();
    let files = connection.exec_files();
    let work = async {
        let down = files.download(&remote, &back, 1000, &|_| {}).await;
        let up = files.upload(&local, &remote, &|_| {}).await;
        [down.unwrap_err(), up.unwrap_err()]
    };
    let errors = tokio::time::timeout(BOUND, work).await.unwrap();
    assert!(!back.exists());
    errors
}

#[tokio::test]
async fn a_command_that_is_never_accepted_runs_into_the_deadline_of_its_transfer() {
    for error in transfers(false).await {
        assert!(matches!(error, SshError::TimedOut { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_refused_command_is_told_before_its_parameters_are_taken() {
    for error in transfers(true).await {
        assert!(matches!(error, SshError::ExecRefused { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_link_that_ends_before_a_command_is_accepted_is_lost() {
    let (home, connection) = connect(false).await;
    let (remote, back) = ("/home/file".parse().unwrap(), home.path().join("back"));
    let files = connection.exec_files();
    let work = async {
        let (down, ()) = tokio::join!(
            files.download(&remote, &back, 1000, &|_| {}),
            connection.close()
        );
        down.unwrap_err()
    };
    let error = tokio::time::timeout(BOUND, work).await.unwrap();
    assert!(error.is_connection_loss(), "{error:?}");
}
