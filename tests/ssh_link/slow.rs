//! A server that takes and gives little at a time: what moves is waited for, what stands still is not.
//!
//! The server runs in this process and speaks as the shell would to the commands that move files; nothing here needs
//! sshd.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use handover::ssh::{AgentSource, ConnectOptions, Connection, Files as _, SshError, Target};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::hostile::BOUND;
use crate::keys::{new_key, write_key};

/// What the server has room for: a client has no more under way.
const WINDOW: u32 = 32 * 1024;
/// The time that the server takes for one packet.
const PAUSE: Duration = Duration::from_millis(600);
/// Longer than a pause, on a busy machine too, and shorter than a transfer.
const PROGRESS: Duration = Duration::from_secs(4);
/// The size of what is moved: ten pauses and more.
const SIZE: usize = 10 * WINDOW as usize;

#[derive(Clone, Default)]
struct Slow {
    /// Takes nothing any more after so many bytes.
    stops_after: Option<usize>,
    channels: Vec<Arc<Channel<Msg>>>,
    input: Arc<Mutex<Vec<u8>>>,
    reads: bool,
    /// Gives the size of a file and its first byte, and then talks on standard error without end.
    chatters: bool,
}

impl Slow {
    /// The nonce, and what follows the parameters, once these have arrived.
    fn parameters(&self) -> Option<(String, usize, usize)> {
        let input = self.input.lock().unwrap();
        let mut lines = input.splitn(4, |byte| *byte == b'\n');
        let nonce = String::from_utf8(lines.next()?.to_vec()).unwrap();
        let argument = lines.nth(1)?;
        let argument = std::str::from_utf8(argument).unwrap().parse().unwrap();
        Some((nonce, argument, lines.next()?.len()))
    }
}

impl Handler for Slow {
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
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.input.lock().unwrap().clear();
        self.reads = !String::from_utf8_lossy(command).contains("cat >");
        session.channel_success(id)
    }

    async fn data(
        &mut self,
        id: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.input.lock().unwrap().extend_from_slice(data);
        let Some((nonce, argument, given)) = self.parameters() else {
            return Ok(());
        };
        if self.stops_after.is_some_and(|bytes| given > bytes) {
            std::future::pending::<()>().await;
        }
        if !self.reads {
            tokio::time::sleep(PAUSE).await;
            if given < argument {
                return Ok(());
            }
        }
        let (handle, reads) = (session.handle(), self.reads);
        if self.chatters {
            tokio::spawn(async move {
                let begin = format!("{nonce}\n{SIZE}\nx");
                handle.data(id, begin).await.unwrap();
                while handle.extended_data(id, 1, "still here\n").await.is_ok() {
                    tokio::time::sleep(PAUSE / 6).await;
                }
            });
            return Ok(());
        }
        tokio::spawn(async move {
            handle.data(id, format!("{nonce}\n")).await.unwrap();
            let pieces = if reads { SIZE / WINDOW as usize } else { 0 };
            for _ in 0..pieces {
                tokio::time::sleep(PAUSE).await;
                handle.data(id, vec![7; WINDOW as usize]).await.unwrap();
            }
            handle.data(id, format!("\n{nonce} 0\n")).await.unwrap();
            handle.exit_status_request(id, 0).await.unwrap();
            handle.eof(id).await.unwrap();
            handle.close(id).await.unwrap();
        });
        Ok(())
    }
}

async fn connect(server: Slow) -> (TempDir, Connection) {
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
        window_size: WINDOW,
        ..Config::default()
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (config, server) = (Arc::clone(&config), server.clone());
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
    options.deadlines.progress = PROGRESS;
    let connection = Connection::open(&target, &options).await.unwrap();
    (home, connection)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_moves_over_commands_outlives_the_deadline_of_what_stands_still() {
    let (home, connection) = connect(Slow::default()).await;
    let files = connection.exec_files();
    let path = "/home/file".parse().unwrap();
    let local = home.path().join("local");
    fs::write(&local, vec![7; SIZE]).unwrap();
    let timed = async |what: &str, work: &mut (dyn Future<Output = ()> + Unpin)| {
        let begun = Instant::now();
        work.await;
        assert!(begun.elapsed() > PROGRESS, "{what} shows nothing");
    };
    let mut upload = Box::pin(async {
        let sent = files.upload(&local, &path, &|_| {}).await.unwrap();
        assert_eq!(sent, SIZE as u64);
    });
    timed("the upload", &mut upload).await;
    let mut write = Box::pin(async { files.write(&path, &[7; SIZE]).await.unwrap() });
    timed("the write", &mut write).await;
    let mut read = Box::pin(async {
        let read = files.read(&path, 1 << 20).await.unwrap();
        assert!(read.len() == SIZE && read.iter().all(|byte| *byte == 7));
    });
    timed("the read", &mut read).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_still_over_commands_fails_at_the_deadline() {
    let server = Slow {
        stops_after: Some(WINDOW as usize),
        ..Slow::default()
    };
    for whole in [true, false] {
        let (home, connection) = connect(server.clone()).await;
        let files = connection.exec_files();
        let path = "/home/file".parse().unwrap();
        let local = home.path().join("local");
        fs::write(&local, vec![7; SIZE]).unwrap();
        let work = async {
            if whole {
                files.write(&path, &[7; SIZE]).await.unwrap_err()
            } else {
                files.upload(&local, &path, &|_| {}).await.unwrap_err()
            }
        };
        let begun = Instant::now();
        let error = tokio::time::timeout(BOUND, work).await.unwrap();
        assert!(matches!(error, SshError::TimedOut { .. }), "{error:?}");
        // The first bytes take a pause or two.
        assert!(begun.elapsed() < PROGRESS * 2, "{:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn talk_without_end_does_not_put_off_the_deadline_of_a_download() {
    let server = Slow {
        chatters: true,
        ..Slow::default()
    };
    let (home, connection) = connect(server).await;
    let files = connection.exec_files();
    let (path, local) = ("/home/file".parse().unwrap(), home.path().join("local"));
    let begun = Instant::now();
    let work = files.download(&path, &local, 1 << 20, &|_| {});
    let error = tokio::time::timeout(BOUND, work)
        .await
        .unwrap()
        .unwrap_err();
    let in_time = matches!(error, SshError::TimedOut { after, .. } if after == PROGRESS);
    assert!(in_time, "{error:?}");
    assert!(begun.elapsed() < PROGRESS * 2, "{:?}", begun.elapsed());
}
