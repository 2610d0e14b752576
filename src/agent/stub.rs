//! A host for the tests: a temporary home, a chosen `sh`, a stand-in agent, and execs as a login shell runs them.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{
    JobCall, JobDirectory, JobKind, JobSpec, JobStatus, LaunchAnswer, Mode, Nonce, Probe, ProbeFor,
    ProbeRequest, ScriptCall,
};
use crate::ssh::RemotePath;

pub(super) const JOB: &str = "j000000000-abcdef";
pub(super) const SESSION: &str = "ses_1aB2";
/// Every `sh` that a host may have.
pub(super) const SHELLS: [&str; 3] = ["/bin/dash", "/bin/bash", "/bin/busybox"];
const DEADLINE: Duration = Duration::from_secs(30);

/// Does what the files in `$HOME/stub` say, and writes there what it was asked.
const AGENT: &str = r#"#!/bin/sh
printf '%s\n' "$*" >>"$HOME/stub/calls"
case $1 in
  --version) echo 9.9.9 ;;
  import)
    [ -e "$HOME/stub/import-fails" ] && { echo 'File not found'; exit 0; }
    echo "Imported session: $(cat "$2")" ;;
  run)
    pwd -P >"$HOME/stub/cwd"
    umask >"$HOME/stub/umask"
    env >"$HOME/stub/env"
    cat >>"$HOME/stub/prompt"
    echo '{"type":"text","part":{"text":"done"}}'
    echo oops >&2
    [ -e "$HOME/stub/family" ] && . "$HOME/stub/family"
    while [ -e "$HOME/stub/hold" ]; do sleep 0.05; done
    [ -e "$HOME/stub/killed" ] && kill -9 $$
    exit "$(cat "$HOME/stub/code" 2>/dev/null || echo 0)" ;;
  export)
    while [ -e "$HOME/stub/export-hold" ]; do sleep 0.05; done
    [ -e "$HOME/stub/export-cut" ] && { printf '{"info":{"i'; exit 0; }
    [ -e "$HOME/stub/export-long" ] && head -c 65536 /dev/zero | tr '\0' ' '
    printf '{"info":{},"messages":[]}\n' ;;
  session) [ "$2 $3" = 'delete ses_1aB2' ] ;;
  models) printf 'mock/m\nnotice of no model\nmock/n\n' ;;
esac
"#;

pub(super) struct Host {
    root: tempfile::TempDir,
    pub(super) login_shell: PathBuf,
    path: String,
    /// The first process of the process namespace in which everything runs, if not in ours.
    pub(super) inside: Option<u32>,
}

impl Host {
    /// A host whose `sh` is this one, with the stand-in agent in `~/.local/bin`.
    pub(super) fn new(shell: &str) -> Self {
        let root = tempfile::Builder::new()
            .prefix("handover ü'")
            .tempdir()
            .unwrap();
        let path = format!("{}/bin:/usr/bin:/bin", root.path().display());
        let host = Self {
            root,
            login_shell: "/bin/sh".into(),
            path,
            inside: None,
        };
        fs::create_dir(host.root.path().join("bin")).unwrap();
        symlink(shell, host.root.path().join("bin/sh")).unwrap();
        fs::create_dir_all(host.home().join("stub")).unwrap();
        fs::create_dir_all(host.home().join(".local/bin")).unwrap();
        host.install(".local/bin/opencode");
        host
    }

    /// Takes programs away from the host, with and without a login.
    pub(super) fn without(mut self, programs: &[&str]) -> Self {
        let bin = self.root.path().join("bin");
        for entry in fs::read_dir("/usr/bin").unwrap() {
            let name = entry.unwrap().file_name();
            if !programs.iter().any(|program| name == *program) && name != "sh" {
                symlink(Path::new("/usr/bin").join(&name), bin.join(&name)).unwrap();
            }
        }
        self.path = bin.to_str().unwrap().to_owned();
        fs::write(
            self.home().join(".profile"),
            "export PATH=\"$HOME/../bin\"\n",
        )
        .unwrap();
        self
    }

    pub(super) fn home(&self) -> PathBuf {
        self.root.path().canonicalize().unwrap().join("home")
    }

    pub(super) fn install(&self, place: &str) {
        let path = self.home().join(place);
        // Written and closed by another process: a thread that forks meanwhile cannot keep it open for writing, which
        // would make it "busy".
        let status = Command::new("sh")
            .args(["-c", "printf '%s' \"$2\" >\"$1\" && chmod 755 \"$1\"", "sh"])
            .arg(&path)
            .arg(AGENT)
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Puts a program of this text before all others, with and without a login.
    pub(super) fn put_first(&self, program: &str, script: &str) {
        let path = self.root.path().join("bin").join(program);
        let status = Command::new("/bin/sh")
            .args(["-c", "printf '%s' \"$2\" >\"$1\" && chmod 755 \"$1\"", "sh"])
            .arg(&path)
            .arg(script)
            .status()
            .unwrap();
        assert!(status.success());
        let profile = "PATH=\"$HOME/../bin:$PATH\"\nexport PATH\n";
        fs::write(self.home().join(".profile"), profile).unwrap();
    }

    pub(super) fn stub(&self, name: &str) -> PathBuf {
        self.home().join("stub").join(name)
    }

    pub(super) fn say(&self, name: &str, text: &str) {
        fs::write(self.stub(name), text).unwrap();
    }

    pub(super) fn heard(&self, name: &str) -> String {
        fs::read_to_string(self.stub(name)).unwrap_or_default()
    }

    /// Runs a call as sshd does: the login shell with `-c` and the command line.
    pub(super) fn exec(&self, call: &ScriptCall) -> Vec<u8> {
        self.begin(call).wait_with_output().unwrap().stdout
    }

    /// The same, not waited for.
    pub(super) fn begin(&self, call: &ScriptCall) -> Child {
        let mut command = match self.inside {
            None => Command::new(&self.login_shell),
            Some(first) => {
                let mut command = Command::new("/usr/bin/nsenter");
                command.args(["--target", &first.to_string(), "--pid", "--mount"]);
                command.arg(format!("--wd={}", self.home().display()));
                command.arg(&self.login_shell);
                command
            }
        };
        let mut child = command
            .arg("-c")
            .arg(call.command())
            .env_clear()
            .env("HOME", self.home())
            .env("SHELL", &self.login_shell)
            .env("PATH", &self.path)
            .env("LANG", "C.UTF-8")
            .env("ho_dir", "taken")
            .current_dir(self.home())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A shell that refuses does not read.
        let _ = stdin.write_all(call.stdin());
        drop(stdin);
        child
    }

    pub(super) fn probe_with(&self, request: &ProbeRequest<'_>) -> Probe {
        let call = request.call().unwrap();
        let output = self.exec(&call);
        Probe::parse(&call, &output)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output)))
    }

    pub(super) fn probe(&self) -> Probe {
        self.probe_with(&ProbeRequest {
            purpose: ProbeFor::Job(JOB),
            state_dir: None,
            opencode: None,
            work_dir: Some("~/work"),
        })
    }

    /// Probes and uploads a job.
    pub(super) fn job(&self) -> Job<'_> {
        self.job_in("~/work", 0)
    }

    pub(super) fn job_in(&self, work_dir: &str, newest_ms: u64) -> Job<'_> {
        let probe = self.probe_with(&ProbeRequest {
            purpose: ProbeFor::Job(JOB),
            state_dir: None,
            opencode: None,
            work_dir: Some(work_dir),
        });
        let JobDirectory { path, .. } = probe.directory.clone().unwrap().unwrap();
        let spec = JobSpec {
            job: JOB,
            kind: JobKind::Handoff,
            session: Some(&SESSION.parse().unwrap()),
            title: None,
            host: &"box".parse().unwrap(),
            mode: Mode::RoundTrip,
            directory: &probe.work_dir,
            opencode: probe.opencode.as_ref().unwrap(),
            agent: Some("build $(touch x)"),
            model: Some("mock/m"),
            auto_approve: true,
            sender: "laptop",
            client: None,
            parent: None,
            created_ms: 1,
            newest_ms,
            prompt: "go on\n\"$(touch x)\"\n",
            limits: Default::default(),
            terms: Default::default(),
        };
        let job = Job { host: self, path };
        for file in spec.files(SESSION.len() as u64).unwrap() {
            job.put(file.name, &file.content);
        }
        job.put("session.json", SESSION.as_bytes());
        job
    }
}

pub(super) struct Job<'h> {
    pub(super) host: &'h Host,
    pub(super) path: RemotePath,
}

impl Job<'_> {
    pub(super) fn file(&self, name: &str) -> PathBuf {
        Path::new(self.path.as_str()).join(name)
    }

    pub(super) fn put(&self, name: &str, content: &[u8]) {
        use std::os::unix::fs::OpenOptionsExt;
        let mut file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.file(name))
            .unwrap();
        file.write_all(content).unwrap();
    }

    pub(super) fn call(&self, call: ScriptCall) -> (ScriptCall, Vec<u8>) {
        let output = self.host.exec(&call);
        (call, output)
    }

    pub(super) fn launch(&self, nonce: &Nonce) -> LaunchAnswer {
        let (call, output) = self.call(JobCall::new(&self.path).launch(nonce).unwrap());
        LaunchAnswer::parse(&call, &output)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output)))
    }

    pub(super) fn status(&self) -> JobStatus {
        let (call, output) = self.call(JobCall::new(&self.path).status().unwrap());
        JobStatus::parse(&call, &output)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output)))
            .unwrap()
    }

    pub(super) fn wait_for(&self, what: &str, mut done: impl FnMut() -> bool) {
        let end = Instant::now() + DEADLINE;
        while !done() {
            let log = fs::read_to_string(self.file("runner.log")).unwrap_or_default();
            assert!(
                Instant::now() < end,
                "no {what} within the deadline; runner.log: {log}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(super) fn wait_exit(&self) -> super::Exit {
        self.wait_for("exit", || self.file("exit").exists());
        super::Exit::parse(&fs::read(self.file("exit")).unwrap()).unwrap()
    }
}
