//! Plays the machines with a POSIX shell that the offline tests hand sessions to where they run on Windows.
//!
//!     posix_machine PROGRAM
//!
//! PROGRAM is the handover of this machine, which plays the agent. It prints the port on loopback that it listens on,
//! a blank, and the secret that a caller says first; each connection is a machine, whose files and server go when the
//! connection ends. It works until it is told to end (SIGTERM).
#![cfg_attr(
    unix,
    expect(
        clippy::unwrap_used,
        reason = "whoever has the secret may make this program stop"
    )
)]

#[cfg(unix)]
#[path = "../offline/support/machine.rs"]
#[expect(dead_code, reason = "the tests have the rest")]
mod machine;
#[cfg(unix)]
#[path = "../support/machine_protocol.rs"]
mod machine_protocol;

#[cfg(unix)]
mod listener {
    use std::io::Write as _;
    use std::net::Ipv4Addr;
    use std::path::{Path, PathBuf};

    use anyhow::{Context as _, Result, bail, ensure};
    use rand::RngExt as _;
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::signal::unix::{SignalKind, signal};

    use crate::machine::{DemoServer, Machine};
    use crate::machine_protocol::{Answer, Counts, Request, read};

    /// A machine and its server.
    struct Served {
        // Before the machine: what is on it is stopped before it is removed.
        server: Option<DemoServer>,
        machine: Machine,
    }

    impl Served {
        fn server(&self) -> Result<&DemoServer> {
            self.server.as_ref().context("the server was not started")
        }

        async fn answer(&mut self, request: Request) -> Result<Answer> {
            let home = self.machine.home();
            let answer = match request {
                Request::Home => {
                    Answer::Home(home.to_str().context("the path is no text")?.to_owned())
                }
                Request::Start(options) => {
                    let server = self.machine.start(options.with_home(&home)).await;
                    let (port, host_key) = (server.address().port(), server.host_key());
                    self.server = Some(server);
                    Answer::Started {
                        port,
                        host_key: host_key.to_openssh()?,
                    }
                }
                Request::Count => {
                    let server = self.server()?;
                    Answer::Counted(Counts {
                        execs: server.execs(),
                        forwarded_channels: server.forwarded_channels(),
                    })
                }
                Request::SetHostKey(key) => {
                    self.server()?.set_host_key(read(&key));
                    Answer::Done
                }
                Request::KillConnections => {
                    self.server()?.kill_connections();
                    Answer::Done
                }
                Request::Run { program, arguments } => {
                    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                    Answer::Ran(self.machine.run(&program, &arguments))
                }
            };
            Ok(answer)
        }
    }

    async fn serve(stream: TcpStream, program: &Path, secret: &str) -> Result<()> {
        stream.set_nodelay(true)?;
        let (from, mut to) = stream.into_split();
        let mut lines = BufReader::new(from).lines();
        ensure!(
            lines.next_line().await?.as_deref() == Some(secret),
            "a caller without the secret"
        );
        let mut served = Served {
            server: None,
            machine: Machine::new(program),
        };
        while let Some(line) = lines.next_line().await? {
            let answer = match served.answer(serde_json::from_str(&line)?).await {
                Ok(answer) => answer,
                Err(error) => Answer::Failed(format!("{error:#}")),
            };
            let mut line = serde_json::to_string(&answer)?;
            line.push('\n');
            to.write_all(line.as_bytes()).await?;
        }
        Ok(())
    }

    #[tokio::main]
    pub(super) async fn main() -> Result<()> {
        let Some(program) = std::env::args_os().nth(1).map(PathBuf::from) else {
            bail!("usage: posix_machine PROGRAM");
        };
        let mut end = signal(SignalKind::terminate())?;
        let secret = format!("{:032x}", rand::rng().random::<u128>());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        writeln!(std::io::stdout().lock(), "{port} {secret}")?;
        loop {
            let stream = tokio::select! {
                _ = end.recv() => return Ok(()),
                accepted = listener.accept() => accepted?.0,
            };
            let (program, secret) = (program.clone(), secret.clone());
            tokio::spawn(async move {
                if let Err(error) = serve(stream, &program, &secret).await {
                    let _ = writeln!(std::io::stderr().lock(), "posix_machine: {error:#}");
                }
            });
        }
    }
}

#[cfg(unix)]
fn main() -> anyhow::Result<()> {
    listener::main()
}

#[cfg(not(unix))]
fn main() {}
