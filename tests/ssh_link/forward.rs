//! Forwarded ports.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use handover::ssh::{ExecOptions, Forward, ForwardTo, SshError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use crate::sshd::wait_for;
use crate::support::{AT_ONCE, connect, known, start, user};

/// Sends back what it gets.
async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let (mut from, mut to) = tokio::io::split(&mut stream);
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

fn serve(listener: TcpListener) {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
}

/// Sends `data`, ends its side, and expects it back whole.
async fn exchange(address: std::net::SocketAddr, data: &[u8]) {
    let work = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut from, mut to) = stream.into_split();
        let send = async {
            to.write_all(data).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let mut back = Vec::new();
        let (_, read) = tokio::join!(send, from.read_to_end(&mut back));
        read.unwrap();
        assert!(back == data, "{} of {} bytes", back.len(), data.len());
    };
    tokio::time::timeout(AT_ONCE * 3, work).await.unwrap();
}

async fn failure(forward: &mut Forward) -> SshError {
    tokio::time::timeout(AT_ONCE, forward.failure())
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_port_here_is_a_port_or_a_socket_there() {
    let sshd = start(&[]);
    let connection = connect(&sshd, sshd.port()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    serve(listener);
    let path = sshd.path("echo.sock");
    let sockets = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = sockets.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    let large: Vec<u8> = (0..6_000_000u32).map(|n| (n % 251) as u8).collect();
    for to in [
        format!("{port}"),
        format!("127.0.0.1:{port}"),
        path.display().to_string(),
    ] {
        let forward = connection
            .forward_local(0, to.parse().unwrap())
            .await
            .unwrap();
        let address = forward.address();
        assert!(address.ip().is_loopback());
        exchange(address, b"small").await;
        exchange(address, &large).await;
        // More than the sessions that the server allows, which are not what it counts here.
        let many = (0..30).map(|_| exchange(address, b"one of many"));
        futures::future::join_all(many).await;
        // A command has its turn all the while.
        let output = connection.exec("echo there", ExecOptions::new("a test"));
        assert_eq!(output.await.unwrap().stdout, b"there\n");
        let mut open = TcpStream::connect(address).await.unwrap();
        open.write_all(b"x").await.unwrap();
        open.read_exact(&mut [0]).await.unwrap();
        drop(forward);
        let ended = tokio::time::timeout(AT_ONCE, open.read(&mut [0])).await;
        assert!(matches!(ended.unwrap(), Ok(0) | Err(_)));
        let refused = async {
            while TcpStream::connect(address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(AT_ONCE, refused).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn what_fails_with_one_forwarded_connection_ends_that_one_alone() {
    let sshd = start(&[]);
    let connection = connect(&sshd, sshd.port()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let to: ForwardTo = address.port().to_string().parse().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let occupied = taken.local_addr().unwrap().port();
    let error = connection
        .forward_local(occupied, to.clone())
        .await
        .unwrap_err();
    assert!(matches!(error, SshError::LocalPort { port, .. } if port == occupied));

    let mut forward = connection.forward_local(0, to).await.unwrap();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(forward.address()).await.unwrap();
        let read = tokio::time::timeout(AT_ONCE, stream.read(&mut [0])).await;
        assert!(matches!(read.unwrap(), Ok(0) | Err(_)));
        let error = failure(&mut forward).await;
        assert!(
            matches!(error, SshError::ForwardRefused { .. }),
            "{error:?}"
        );
    }
    serve(TcpListener::bind(address).await.unwrap());
    exchange(forward.address(), b"there now").await;
    sshd.kill_connections();
    let error = failure(&mut forward).await;
    assert!(error.is_connection_loss(), "{error:?}");
    assert!(forward.failure().await.is_none());
}

/// Ends the program with its handle.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn the_program_forwards_until_it_is_interrupted_and_connects_again() {
    let sshd = start(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    serve(listener);
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    fs::create_dir_all(at(".ssh")).unwrap();
    fs::write(at(".ssh/known_hosts"), known(&sshd, sshd.port())).unwrap();
    fs::create_dir(at("config")).unwrap();
    let hosts = format!(
        "[hosts.box]\nhost = \"{}@127.0.0.1\"\nport = {}\nidentity_file = {:?}\n",
        user(),
        sshd.port(),
        sshd.path("id_ed25519")
    );
    fs::write(at("config/hosts.toml"), hosts).unwrap();
    let program = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", home.path())
            .env("HANDOVER_CONFIG_DIR", at("config"))
            .env("HANDOVER_STATE_DIR", at("state"))
            .env("HANDOVER_SSH_CONFIG", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(at("stderr")).unwrap());
        command
    };
    for (ends, code) in [("0.0.0.0:80:80", 2), ("80", 2), ("0:no", 2)] {
        let status = program(&["forward", "box", ends]).status().unwrap();
        assert_eq!(status.code(), Some(code), "{ends}");
    }
    assert_eq!(
        program(&["forward", "nobody", "0:80"])
            .status()
            .unwrap()
            .code(),
        Some(3)
    );

    let mut running = Running(
        program(&["forward", "box", &format!("0:{port}")])
            .spawn()
            .unwrap(),
    );
    let mut line = String::new();
    let mut stdout = BufReader::new(running.0.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let address: std::net::SocketAddr = line.trim().parse().unwrap();
    assert!(address.ip().is_loopback());
    exchange(address, b"before").await;
    sshd.kill_connections();
    let stderr = || fs::read_to_string(at("stderr")).unwrap();
    assert!(
        wait_for(AT_ONCE, || stderr().contains("connected again")),
        "{}",
        stderr()
    );
    exchange(address, b"after").await;
    let interrupt = Command::new("kill")
        .args(["-INT", &running.0.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    assert!(wait_for(AT_ONCE, || running
        .0
        .try_wait()
        .unwrap()
        .is_some()));
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}

#[test]
fn an_interrupt_ends_the_program_while_it_still_connects() {
    // It accepts, and never speaks.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    fs::create_dir(at("config")).unwrap();
    let hosts = format!("[hosts.box]\nhost = \"anyone@127.0.0.1\"\nport = {port}\n");
    fs::write(at("config/hosts.toml"), hosts).unwrap();
    let mut running = Running(
        Command::new(env!("CARGO_BIN_EXE_handover"))
            .args(["forward", "box", "0:80"])
            .env_clear()
            .env("HOME", home.path())
            .env("HANDOVER_CONFIG_DIR", at("config"))
            .env("HANDOVER_STATE_DIR", at("state"))
            .env("HANDOVER_SSH_CONFIG", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    // Whoever has connected listens for interrupts already.
    let (_silent, _) = listener.accept().unwrap();
    let interrupt = Command::new("kill")
        .args(["-INT", &running.0.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    // The key exchange would have had its own deadline, which is not what ends it.
    let ended = wait_for(AT_ONCE, || running.0.try_wait().unwrap().is_some());
    assert!(ended);
    assert_eq!(running.0.wait().unwrap().code(), Some(130));
}
