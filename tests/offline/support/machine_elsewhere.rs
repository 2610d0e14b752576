//! The machine there, which another process plays: Windows has no POSIX shell, and no host that sessions go to is one.
//!
//! The main type is [`Machine`]. `tests/windows/run` starts that process (`tests/windows/machine.rs`), says where it
//! listens, and has made its files reachable as a drive. Questions are asked and answered at once, so that waiting for
//! an answer holds nothing up.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use handover::demo::server::ServerOptions;
use russh::keys::{PrivateKey, PublicKey};

use super::machine_protocol::{Answer, Counts, Options, Request, written};

/// The port of the process on loopback, a blank, and the secret that lets in.
const VARIABLE: &str = "HANDOVER_TEST_MACHINE";
/// Where the root directory of the machine is here.
const DRIVE: &str = "Z:";

/// A machine with a home directory, and a directory `jail` beside that; they go with it.
pub(crate) struct Machine {
    line: Arc<Line>,
    home: String,
}

/// The SSH server of a machine, with what the tests use of `handover::demo::server::DemoServer`.
pub(crate) struct DemoServer {
    line: Arc<Line>,
    address: SocketAddr,
    host_key: Mutex<PublicKey>,
}

struct Line(Mutex<BufReader<TcpStream>>);

impl Line {
    fn open() -> Self {
        let place = std::env::var(VARIABLE)
            .unwrap_or_else(|_| panic!("{VARIABLE} is not set: see tests/windows/run"));
        let (port, secret) = place.split_once(' ').unwrap();
        let port: u16 = port.parse().unwrap();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_nodelay(true).unwrap();
        writeln!(stream, "{secret}").unwrap();
        Self(Mutex::new(BufReader::new(stream)))
    }

    fn ask(&self, request: &Request) -> Answer {
        let mut stream = self.0.lock().unwrap();
        let mut question = serde_json::to_string(request).unwrap();
        question.push('\n');
        stream.get_mut().write_all(question.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_line(&mut answer).unwrap();
        match serde_json::from_str(&answer).unwrap() {
            Answer::Failed(why) => panic!("{request:?}: {why}"),
            answer => answer,
        }
    }
}

impl Machine {
    /// Has one made; a program of this machine cannot be its agent, so it has its own.
    pub(crate) fn new(_program: &Path) -> Self {
        let line = Arc::new(Line::open());
        let Answer::Home(home) = line.ask(&Request::Home) else {
            panic!("no home")
        };
        Self { line, home }
    }

    /// The home directory, as the machine names it.
    pub(crate) fn home(&self) -> PathBuf {
        PathBuf::from(&self.home)
    }

    /// How a path beside the home directory is reached from here.
    pub(crate) fn reach(&self, path: &str) -> PathBuf {
        let root = Path::new(&self.home).parent().unwrap();
        let text = format!("{DRIVE}{}/{path}", root.to_str().unwrap());
        PathBuf::from(text.replace('/', "\\"))
    }

    /// Where the processes of the machine are shown.
    pub(crate) fn processes() -> &'static Path {
        Path::new(r"Z:\proc")
    }

    /// Runs a program there to its end; whether it has succeeded.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> bool {
        let request = Request::Run {
            program: program.to_owned(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
        };
        matches!(self.line.ask(&request), Answer::Ran(true))
    }

    /// Starts the SSH server.
    pub(crate) async fn start(&self, options: ServerOptions) -> DemoServer {
        let request = Request::Start(Box::new(Options::from(&options)));
        let Answer::Started { port, host_key } = self.line.ask(&request) else {
            panic!("no server")
        };
        DemoServer {
            line: Arc::clone(&self.line),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            host_key: Mutex::new(host_key.parse().unwrap()),
        }
    }
}

impl DemoServer {
    fn counts(&self) -> Counts {
        match self.line.ask(&Request::Count) {
            Answer::Counted(counts) => counts,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn host_key(&self) -> PublicKey {
        self.host_key.lock().unwrap().clone()
    }

    pub(crate) fn set_host_key(&self, key: PrivateKey) {
        self.line.ask(&Request::SetHostKey(written(&key)));
        *self.host_key.lock().unwrap() = key.public_key().clone();
    }

    pub(crate) fn execs(&self) -> u64 {
        self.counts().execs
    }

    pub(crate) fn forwarded_channels(&self) -> (u64, u64) {
        self.counts().forwarded_channels
    }

    pub(crate) fn kill_connections(&self) {
        self.line.ask(&Request::KillConnections);
    }
}
