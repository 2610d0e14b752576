//! The first question to a host: what it is, what it has, and where the job's files go.
//!
//! The main type is [`Probe`]. The invariant: every path in it is absolute and was resolved on the host, once.

use super::script::check_parameter;
use super::{AgentError, Answer, ScriptCall};
use crate::ssh::RemotePath;

const PROBE_SCRIPT: &str = concat!(
    include_str!("scripts/frame.sh"),
    include_str!("scripts/login_env.sh"),
    include_str!("scripts/identity.sh"),
    include_str!("scripts/probe.sh")
);

/// What a probe makes a directory for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeFor<'a> {
    /// A job: `STATE/handover/jobs/ID` is made, and must not be there yet.
    Job(&'a str),
    /// A check: a directory of its own is made, to be removed by [`CheckCleanup`](super::CheckCleanup).
    Check,
    /// Nothing: no directory is made.
    Nothing,
}

/// The question.
#[derive(Debug, Clone, Copy)]
pub struct ProbeRequest<'a> {
    /// What the directory is for.
    pub purpose: ProbeFor<'a>,
    /// The configured state directory; may start with `~/`.
    pub state_dir: Option<&'a str>,
    /// The configured path of opencode; may start with `~/`.
    pub opencode: Option<&'a str>,
    /// The work directory as it was given; may start with `~/`. Without one it is the home.
    pub work_dir: Option<&'a str>,
}

impl ProbeRequest<'_> {
    /// Builds the call to be made.
    ///
    /// # Errors
    /// [`AgentError::Parameter`] when a value holds a control character, a `..`, or is another user's home (`~name`).
    pub fn call(&self) -> Result<ScriptCall, AgentError> {
        let (mode, job) = match self.purpose {
            ProbeFor::Job(id) => ("job", check_job_id(id)?),
            ProbeFor::Check => ("check", ""),
            ProbeFor::Nothing => ("", ""),
        };
        let state = check_configured_path("the state directory", self.state_dir)?;
        let opencode = check_configured_path("the path of opencode", self.opencode)?;
        let work = check_configured_path("the work directory", self.work_dir)?;
        ScriptCall::new(
            PROBE_SCRIPT,
            &[
                ("mode", mode),
                ("the job id", job),
                ("the state directory", state),
                ("the path of opencode", opencode),
                ("the work directory", work),
            ],
        )
    }
}

/// Job ids are ours; one that could be a path or an option is refused.
pub(super) fn check_job_id(id: &str) -> Result<&str, AgentError> {
    let plain = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase() || byte == b'-';
    if id.is_empty() || id.len() > 64 || id.starts_with('-') || !id.bytes().all(plain) {
        let value = id.chars().take(80).collect();
        return Err(AgentError::Parameter {
            what: "the job id",
            value,
            reason: "it is not one of ours",
        });
    }
    Ok(id)
}

fn check_configured_path<'a>(
    what: &'static str,
    path: Option<&'a str>,
) -> Result<&'a str, AgentError> {
    let path = path.unwrap_or_default();
    check_parameter(what, path)?;
    let refused = |reason| AgentError::Parameter {
        what,
        value: path.chars().take(80).collect(),
        reason,
    };
    if path.split('/').any(|part| part == "..") {
        return Err(refused("it holds '..'"));
    }
    if path.starts_with('~') && path != "~" && !path.starts_with("~/") {
        return Err(refused("only the own home can be meant with '~'"));
    }
    Ok(path)
}

/// A host's clock at the moment when the probe's script began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds since 1970.
    pub ms: u64,
    /// Whether the milliseconds are real; else they are zero and the clock is up to a second further.
    pub precise: bool,
}

/// The directory that a probe made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDirectory {
    /// Where it is.
    pub path: RemotePath,
    /// Whether this probe made it; an earlier one of the same job may have.
    pub is_new: bool,
    /// Free space there, in KiB; `None` when the host could not say.
    pub free_kib: Option<u64>,
}

/// What is at the work directory's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkDirectory {
    /// A directory.
    Present,
    /// Nothing: the runner makes it.
    Missing,
    /// Something else.
    NotADirectory,
}

/// What a host answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probe {
    /// The system's name as `uname -s` gives it: `Linux`, `Darwin`, ...
    pub os: String,
    /// The machine's architecture as `uname -m` gives it.
    pub arch: String,
    /// The machine's own name.
    pub hostname: String,
    /// The user that the connection is for.
    pub user: String,
    /// The user's home.
    pub home: RemotePath,
    /// The login shell; may be empty.
    pub shell: String,
    /// What identifies the machine: its machine id, else `name:` and its name.
    pub machine: String,
    /// What identifies this boot of it; may be empty.
    pub boot: String,
    /// Its clock.
    pub clock: Clock,
    /// `STATE/handover`.
    pub state: RemotePath,
    /// The directory that was made, or why none could be; `None` when none was asked for.
    pub directory: Option<Result<JobDirectory, String>>,
    /// The work directory, absolute.
    pub work_dir: RemotePath,
    /// What is there.
    pub work_dir_is: WorkDirectory,
    /// The agent's program.
    pub opencode: Option<RemotePath>,
    /// Its version.
    pub version: Option<String>,
    /// Why it did not tell its version.
    pub version_error: Option<String>,
    /// Where the agent was looked for, in order, up to where it was found.
    pub tried: Vec<String>,
    /// Where the agent keeps its database.
    pub data_dir: Option<RemotePath>,
    /// The inode of that directory; `None` when it is not there.
    pub data_inode: Option<u64>,
    /// Why the login environment could not be captured; `None` when it was.
    pub login_env_error: Option<String>,
    /// Whether the host ends a user's processes at logout; `None` when it did not say.
    pub kills_at_logout: Option<bool>,
    /// Whether the runner can be detached with `setsid` or `nohup`.
    pub can_detach: bool,
    /// Whether there is a tool that computes SHA-256.
    pub has_sha256: bool,
    /// Text that the probe wrote to `visible` in the directory: SFTP must read the same there.
    pub visible: String,
}

impl Probe {
    /// The oldest version of the agent whose exports, imports and runs are known to work.
    pub const OLDEST_AGENT: &str = "1.1.65";

    /// The agent's version, when it is older than [`Self::OLDEST_AGENT`]. One that is no release (`0.0.0-dev`, say)
    /// tells nothing about its age.
    #[must_use]
    pub fn too_old(&self) -> Option<&str> {
        let version = self.version.as_deref()?;
        let is_older = release(version)? < release(Self::OLDEST_AGENT)?;
        is_older.then_some(version)
    }

    /// Reads the answer to a probe's call.
    ///
    /// # Errors
    /// Those of [`ScriptCall::answer`], and [`AgentError::AnswerField`] when a field is missing or unusable.
    pub fn parse(call: &ScriptCall, stdout: &[u8]) -> Result<Self, AgentError> {
        let answer = call.answer(stdout)?;
        let path = |key: &str| {
            answer.path(key)?.ok_or_else(|| AgentError::AnswerField {
                field: key.to_owned(),
            })
        };
        let tools: Vec<String> = answer.texts("tool").collect();
        Ok(Self {
            os: answer.required("os")?,
            arch: answer.required("arch")?,
            hostname: answer.required("hostname")?,
            user: answer.required("user")?,
            home: path("home")?,
            shell: answer.text("shell").unwrap_or_default(),
            machine: answer.required("machine")?,
            boot: answer.text("boot").unwrap_or_default(),
            clock: Clock {
                ms: answer
                    .number("clock_ms")
                    .ok_or_else(|| AgentError::AnswerField {
                        field: "clock_ms".to_owned(),
                    })?,
                precise: answer.text("clock_precise").as_deref() == Some("yes"),
            },
            state: path("state")?,
            directory: directory(&answer)?,
            work_dir: path("workdir")?,
            work_dir_is: match answer.text("workdir_exists").as_deref() {
                Some("yes") => WorkDirectory::Present,
                Some("other") => WorkDirectory::NotADirectory,
                _ => WorkDirectory::Missing,
            },
            opencode: answer.path("opencode")?,
            version: answer.text("version").filter(|version| !version.is_empty()),
            version_error: answer.text("version_error"),
            tried: answer
                .texts("tried")
                .filter(|place| !place.is_empty())
                .take(64)
                .collect(),
            data_dir: answer.path("data").ok().flatten(),
            data_inode: answer.number("data_inode"),
            login_env_error: answer.text("login_env").filter(|said| said != "ok"),
            kills_at_logout: match answer.text("kills_at_logout").as_deref() {
                Some("yes") => Some(true),
                Some("no") => Some(false),
                _ => None,
            },
            can_detach: tools.iter().any(|tool| tool == "setsid" || tool == "nohup"),
            has_sha256: answer.text("sha256").is_some(),
            visible: call.nonce().as_str().to_owned(),
        })
    }
}

fn directory(answer: &Answer) -> Result<Option<Result<JobDirectory, String>>, AgentError> {
    if let Some(reason) = answer.text("directory_error") {
        return Ok(Some(Err(reason)));
    }
    let Some(path) = answer.path("directory")? else {
        return Ok(None);
    };
    Ok(Some(Ok(JobDirectory {
        path,
        is_new: answer.text("directory_new").as_deref() == Some("yes"),
        free_kib: answer.number("free_kib"),
    })))
}

/// The three numbers of a release, `1.2.3` or `v1.2.3`; what follows a hyphen is not looked at.
fn release(version: &str) -> Option<[u64; 3]> {
    let version = version.trim();
    let version = version.strip_prefix('v').unwrap_or(version);
    let mut numbers = version.split(['-', '+']).next()?.splitn(3, '.');
    let mut next = || numbers.next()?.parse().ok();
    let release = [next()?, next()?, next()?];
    (release != [0; 3]).then_some(release)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Nonce;
    use super::*;

    #[test]
    fn releases_are_compared_by_their_numbers() {
        let oldest = release(Probe::OLDEST_AGENT).unwrap();
        for older in ["1.1.64", "v1.0.220", "0.15.31", "1.1.9-beta"] {
            assert!(release(older).unwrap() < oldest, "{older}");
        }
        for works in ["1.1.65", "1.2.0", "1.18.33", "10.0.0+build"] {
            assert!(release(works).unwrap() >= oldest, "{works}");
        }
        for unknown in ["0.0.0-dev-202501010000", "local", "", "1.2", "1.x.3"] {
            assert_eq!(release(unknown), None, "{unknown}");
        }
    }

    fn request() -> ProbeRequest<'static> {
        ProbeRequest {
            purpose: ProbeFor::Nothing,
            state_dir: None,
            opencode: None,
            work_dir: None,
        }
    }

    #[test]
    fn hostile_parameters_are_refused_before_anything_is_sent() {
        for bad in ["a\nb", "../x", "/a/../b", "~root/x", "\u{7f}"] {
            assert!(
                ProbeRequest {
                    work_dir: Some(bad),
                    ..request()
                }
                .call()
                .is_err(),
                "{bad:?} was accepted"
            );
        }
        for bad in ["", "-x", "../x", "a b", "J"] {
            assert!(
                ProbeRequest {
                    purpose: ProbeFor::Job(bad),
                    ..request()
                }
                .call()
                .is_err(),
                "{bad:?} was accepted"
            );
        }
        assert!(
            ProbeRequest {
                work_dir: Some("~/a b/$(touch x)'\"ü"),
                ..request()
            }
            .call()
            .is_ok()
        );
    }

    /// What an ordinary host answers, one line each, as `key=value`.
    const HONEST: [&str; 24] = [
        "clock_ms=1700000000123",
        "clock_precise=yes",
        "os=Linux",
        "arch=x86_64",
        "hostname=far",
        "user=ada",
        "shell=/usr/bin/fish",
        "machine=0123456789abcdef",
        "boot=b 1",
        "home=/home/ada",
        "tool=setsid",
        "sha256=sha256sum",
        "kills_at_logout=no",
        "login_env=ok",
        "workdir_exists=no",
        "workdir=/home/ada/w=x",
        "state=/home/ada/.local/state/handover",
        "directory=/home/ada/.local/state/handover/jobs/1",
        "directory_new=yes",
        "free_kib=1000",
        "data=/home/ada/.local/share/opencode",
        "data_inode=7",
        "opencode=/usr/bin/opencode",
        "version=1.18.33",
    ];

    /// A piece of what a host prints.
    #[derive(Debug, Clone)]
    enum Piece {
        Bytes(Vec<u8>),
        Begin,
        End,
        /// The nonce alone, as where a line was cut in two.
        Nonce,
        /// A mark with another nonce.
        Foreign(&'static str),
        Honest(usize),
        Field(String, Vec<u8>),
        LineBreak,
    }

    impl Piece {
        fn print(&self, nonce: &str, to: &mut Vec<u8>) {
            let line = match self {
                Self::Bytes(bytes) => return to.extend_from_slice(bytes),
                Self::LineBreak => return to.push(b'\n'),
                Self::Nonce => return to.extend_from_slice(nonce.as_bytes()),
                Self::Begin => format!("{nonce} begin"),
                Self::End => format!("{nonce} end"),
                Self::Foreign(word) => format!("{:032x} {word}", 7),
                Self::Honest(place) => format!("{nonce} {}", HONEST[*place]),
                Self::Field(key, value) => {
                    to.extend_from_slice(format!("{nonce} {key}=").as_bytes());
                    to.extend_from_slice(value);
                    return to.push(b'\n');
                }
            };
            to.extend_from_slice(line.as_bytes());
            to.push(b'\n');
        }
    }

    /// Bytes, many of them such as mean something to the reader.
    fn noise(most: usize) -> impl Strategy<Value = Vec<u8>> {
        let byte = any::<[u8; 2]>().prop_map(|[kind, byte]| match kind {
            0..=15 => b'\n',
            16..=23 => b' ',
            24..=31 => b'=',
            _ => byte,
        });
        proptest::collection::vec(byte, 0..most)
    }

    fn piece() -> impl Strategy<Value = Piece> {
        prop_oneof![
            2 => noise(40).prop_map(Piece::Bytes),
            2 => Just(Piece::Begin),
            1 => Just(Piece::End),
            1 => Just(Piece::Nonce),
            1 => prop_oneof![Just("begin"), Just("end"), Just("home=/evil")].prop_map(Piece::Foreign),
            8 => (0..HONEST.len()).prop_map(Piece::Honest),
            2 => ("(home|state|workdir|directory|opencode|data|tried|version|[a-z.]{0,9})", noise(40))
                .prop_map(|(key, value)| Piece::Field(key, value)),
            1 => Just(Piece::LineBreak),
        ]
    }

    fn printed(pieces: &[Piece], nonce: &Nonce) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in pieces {
            piece.print(nonce.as_str(), &mut bytes);
        }
        bytes
    }

    /// Every path is absolute, and no text has a control character or more than its bound.
    fn is_fit(probe: &Probe) -> bool {
        let paths = [&probe.opencode, &probe.data_dir].into_iter().flatten();
        let made = probe.directory.iter().flatten().map(|made| &made.path);
        let mut paths = paths
            .chain(made)
            .chain([&probe.home, &probe.state, &probe.work_dir]);
        let texts = [
            Some(&probe.os),
            Some(&probe.arch),
            Some(&probe.hostname),
            Some(&probe.user),
            Some(&probe.shell),
            Some(&probe.machine),
            Some(&probe.boot),
            probe.version.as_ref(),
            probe.version_error.as_ref(),
            probe.login_env_error.as_ref(),
        ];
        let mut texts = texts.into_iter().flatten().chain(&probe.tried);
        let absolute =
            |path: &RemotePath| path.as_str().starts_with('/') && path.as_str().len() <= 4096;
        let plain =
            |text: &String| text.chars().count() <= 4096 && !text.chars().any(char::is_control);
        paths.all(absolute) && texts.all(plain) && probe.tried.len() <= 64
    }

    fn position(bytes: &[u8], words: &str) -> Option<usize> {
        bytes
            .windows(words.len())
            .position(|window| window == words.as_bytes())
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_parser_panic(fields in proptest::collection::vec(("(os|arch|hostname|user|home|machine|clock_ms|state|workdir|directory|opencode|data_inode|free_kib|tried|[a-z]{1,9})", proptest::collection::vec(any::<u8>(), 0..60)), 0..40)) {
            let call = request().call().unwrap();
            let mut bytes = format!("{} begin\n", call.nonce()).into_bytes();
            for (key, value) in fields {
                bytes.extend_from_slice(format!("{} {key}=", call.nonce()).as_bytes());
                bytes.extend_from_slice(&value);
                bytes.push(b'\n');
            }
            bytes.extend_from_slice(format!("{} end\n", call.nonce()).as_bytes());
            if let Ok(probe) = Probe::parse(&call, &bytes) {
                prop_assert!(probe.home.as_str().starts_with('/'));
            }
        }

        #[test]
        fn whatever_is_printed_around_and_between_the_lines_of_an_answer_changes_nothing(
            before in noise(200),
            between in proptest::collection::vec(noise(20), HONEST.len() + 1),
            after in noise(200),
        ) {
            let call = request().call().unwrap();
            let mut plain = vec![Piece::Begin];
            let mut noisy = vec![Piece::Bytes(before), Piece::Begin];
            for (place, noise) in between.into_iter().enumerate() {
                noisy.push(Piece::Bytes(noise));
                if place < HONEST.len() {
                    plain.push(Piece::Honest(place));
                    noisy.push(Piece::Honest(place));
                }
            }
            plain.push(Piece::End);
            noisy.extend([Piece::End, Piece::Bytes(after)]);
            let plain = Probe::parse(&call, &printed(&plain, call.nonce())).unwrap();
            prop_assert!(is_fit(&plain));
            let noisy = Probe::parse(&call, &printed(&noisy, call.nonce())).unwrap();
            prop_assert_eq!(plain, noisy);
        }

        #[test]
        fn an_answer_without_its_own_two_marks_in_their_order_is_none_and_no_bytes_make_it_unfit(
            framed in any::<bool>(),
            pieces in proptest::collection::vec(piece(), 0..40),
        ) {
            let call = request().call().unwrap();
            let mut pieces = pieces;
            if framed {
                // Enough of an answer, somewhere in it.
                let whole = (0..HONEST.len()).map(Piece::Honest);
                pieces.splice(0..0, [Piece::Begin].into_iter().chain(whole));
                pieces.extend([Piece::LineBreak, Piece::End]);
            }
            let bytes = printed(&pieces, call.nonce());
            let mark = |word: &str| format!("{} {word}", call.nonce());
            let begun = position(&bytes, &mark("begin\n"));
            let ended = begun.is_some_and(|at| position(&bytes[at..], &mark("end\n")).is_some());
            match Probe::parse(&call, &bytes) {
                Ok(probe) => {
                    prop_assert!(begun.is_some() && ended);
                    prop_assert!(is_fit(&probe), "{:?}", probe);
                }
                // A cut nonce and a blank in front of a mark hide it; then it is none, whatever follows.
                Err(_) if pieces.iter().any(|piece| matches!(piece, Piece::Nonce)) => {}
                Err(AgentError::NoAnswer { .. }) => prop_assert!(begun.is_none()),
                Err(AgentError::AnswerCut) => prop_assert!(begun.is_some() && !ended),
                Err(AgentError::AnswerField { .. }) => prop_assert!(ended),
                Err(other) => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
