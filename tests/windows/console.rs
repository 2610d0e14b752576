//! A person at a console of Windows: what is asked there, what ends the waiting, and what the console gets to show.
//!
//! The main type is [`Watched`].

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context, Result, ensure};

use crate::far::{Far, ready};
use crate::opencode::grown;
use crate::sshd::wait_for;
use crate::wine::{LocalAgent, Windows, without_escapes};
use crate::{DEADLINE, ended, result, text, told};

/// What a console is and does, as tests/windows/console.c names it. Events have the numbers of Windows.
mod manner {
    pub(super) const BREAK: &str = "1";
    pub(super) const CLOSE: &str = "2";
    pub(super) const LOGOFF: &str = "5";
    pub(super) const SHUTDOWN: &str = "6";
    pub(super) const NO_EVENT: &str = "none";
    pub(super) const OLD: &str = "old";
}

/// `handover.exe` in a console that `console.exe` watches; see tests/windows/console.c.
struct Watched {
    child: Child,
    screen: PathBuf,
    sign: PathBuf,
}

impl Watched {
    /// Starts it; an event comes after [`Watched::give`].
    fn start(
        windows: &Windows,
        manner: &str,
        environment: &[(&str, &str)],
        arguments: &[&str],
    ) -> Result<Self> {
        let handover = windows.installed("handover.exe");
        let files = ["Temp/screen", "Temp/sign"];
        let [screen_there, sign_there] = files.map(Windows::profile_there);
        let mut words = [screen_there.as_str(), manner, &sign_there]
            .map(OsStr::new)
            .to_vec();
        words.push(handover.as_os_str());
        words.extend(arguments.iter().map(OsStr::new));
        let [screen, sign] = files.map(|file| windows.profile(file));
        for file in [&screen, &sign] {
            if file.exists() {
                std::fs::remove_file(file)?;
            }
        }
        let program = windows.installed("console.exe");
        let output = windows.scratch("painted");
        let child = windows
            .in_console(program.as_os_str(), &words, &output)?
            .envs(environment.iter().copied())
            .spawn()
            .context("start script")?;
        Ok(Self {
            child,
            screen,
            sign,
        })
    }

    /// The console tells its event now.
    fn give(&self) -> Result<()> {
        std::fs::write(&self.sign, "").context("the sign")
    }

    /// Waits for the end: the exit code, and what the console shows then. What is no character stays what it is, since
    /// the console of Wine 8 acts on no escape sequence.
    fn end(mut self) -> Result<(i32, String)> {
        let status = ended(&mut self.child)?;
        let screen = std::fs::read_to_string(&self.screen).context("the screen")?;
        Ok((status.code().context("a signal ended it")?, screen))
    }
}

/// Types at the console of `child` once `ready` holds, and waits for its end; the exit code.
fn type_at(child: &mut Child, keys: &str, what: &Path, ready: impl FnMut() -> bool) -> Result<i32> {
    let said = || painted(what);
    let reached = wait_for(DEADLINE, ready);
    let mut keyboard = child.stdin.take().context("no keyboard")?;
    if reached {
        keyboard.write_all(keys.as_bytes())?;
        keyboard.flush()?;
    } else {
        child.kill()?;
    }
    let status = ended(child);
    ensure!(reached, "it never got so far: {}", said());
    let status = status.with_context(said)?;
    status.code().context("a signal ended it")
}

/// What has been painted of a console.
pub(crate) fn painted(output: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(output).unwrap_or_default()).into_owned()
}

/// Answers the question about an unknown host key with yes, and waits for the end.
pub(crate) fn say_yes(child: &mut Child, output: &Path) -> Result<i32> {
    type_at(child, "yes\r", output, || {
        painted(output).contains("yes/no")
    })
}

/// Collects the only job that is live, whose agent says `words` at its end.
fn collect(windows: &Windows, session: &str, words: &str) -> Result<()> {
    let jobs = told(windows.run(&["jobs", "--json"])?)?;
    let job = text(&jobs[0], "id")?;
    let collected = result(windows.run(&["collect", &job, "--json"])?)?;
    ensure!(
        collected["session"] == session && collected["outcome"] == "completed",
        "{collected}"
    );
    let after = windows.export(session)?.to_string();
    ensure!(after.contains(words), "no {words} in {after}");
    Ok(())
}

#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn a_person_is_asked_at_the_console_and_ctrl_c_there_detaches() -> Result<()> {
    let (windows, far) = (Windows::new(LocalAgent::Exe)?, Far::start()?);
    far.introduce(&windows)?;
    let output = windows.scratch("console");
    let in_console = |arguments: &[&str]| {
        let command = windows.at_console(arguments, &output);
        command?.spawn().context("start script")
    };
    let mut child = in_console(&["trust", "far"])?;
    assert_eq!(say_yes(&mut child, &output)?, 0, "{}", painted(&output));
    windows.run(&["check", "far"])?.expect_code(0)?;

    let session = windows.new_session()?;
    let message = "RULE write begun.txt x\nRULE await go\nRULE say after the interrupt";
    let mut child = in_console(&["send", "far", "--round-trip", "--message", message])?;
    let begun = || far.in_work("begun.txt").exists();
    let code = type_at(&mut child, "\u{3}", &output, begun);
    std::fs::write(far.in_work("go"), "")?;
    let painted = painted(&output);
    assert_eq!(code?, 10, "{painted}");
    assert!(painted.contains("handover collect"), "{painted}");
    collect(&windows, &session, "after the interrupt")
}

#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn ctrl_c_before_the_launch_calls_the_handoff_off() -> Result<()> {
    let (windows, far) = ready(LocalAgent::Exe)?;
    let session = windows.new_session()?;
    let before = windows.export(&session)?;
    let settings = windows.profile(".local/share/opencode/standin/settings");
    std::fs::write(
        &settings,
        "STANDIN_EXPORT=sleep\nSTANDIN_SLEEP_SECONDS=20\n",
    )?;
    let output = windows.scratch("console");
    let arguments = ["send", "far", "--round-trip", "--message", "Go on."];
    let command = windows.at_console(&arguments, &output);
    let mut child = command?.spawn().context("start script")?;
    let code = type_at(&mut child, "\u{3}", &output, || {
        painted(&output).contains("looking at")
    })?;
    ensure!(code == 130, "{code}: {}", painted(&output));
    std::fs::remove_file(settings)?;
    let jobs = far.path("home/.local/state/handover/jobs");
    ensure!(!jobs.exists() || std::fs::read_dir(jobs)?.next().is_none());
    ensure!(windows.export(&session)? == before);
    windows.run(&arguments)?.expect_code(0)?;
    grown(&before, &windows.export(&session)?).map(drop)
}

/// Wine hands Ctrl-C to the processes of every console, where Windows hands it to those of one: so it is counted how
/// many share the agent's, and the event goes to handover.exe alone.
#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn an_import_is_not_interrupted_and_its_agent_shares_no_console_with_us() -> Result<()> {
    let (windows, _far) = ready(LocalAgent::Exe)?;
    let session = windows.new_session()?;
    let before = windows.export(&session)?;
    let settings = windows.profile(".local/share/opencode/standin/settings");
    std::fs::write(&settings, "STANDIN_IMPORT=sleep\n")?;
    let arguments = ["send", "far", "--round-trip", "--message", "Go on."];
    let log = ("CONSOLE_LOG", &*Windows::profile_there("Temp/consoles"));
    let client = Watched::start(&windows, manner::BREAK, &[log], &arguments)?;
    let importing = || painted(&windows.scratch("painted")).contains("importing the result");
    let reached = wait_for(DEADLINE, importing);
    client.give()?;
    let (code, screen) = client.end()?;
    ensure!(reached, "{screen}");
    ensure!(code == 0, "{code}: {screen}");
    let new = grown(&before, &windows.export(&session)?)?;
    ensure!(!new.is_empty(), "{screen}");
    let consoles = std::fs::read_to_string(windows.profile("Temp/consoles"))?;
    ensure!(consoles.lines().count() > 1, "{consoles:?}");
    ensure!(
        consoles.lines().all(|line| ["0", "1"].contains(&line)),
        "{consoles:?}"
    );
    Ok(())
}

#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn a_passphrase_is_typed_unseen_and_ctrl_c_at_its_question_ends_the_program() -> Result<()> {
    let (windows, far) = ready(LocalAgent::Exe)?;
    std::fs::copy(far.path("locked"), windows.profile(".ssh/id_ed25519"))?;
    let output = windows.scratch("console");
    for (keys, wanted) in [("open sesame\r", 0), ("half\u{3}", 130)] {
        let command = windows.at_console(&["check", "far"], &output);
        let mut child = command?.spawn().context("start script")?;
        let code = type_at(&mut child, keys, &output, || {
            painted(&output).contains("passphrase")
        })?;
        let painted = painted(&output);
        ensure!(code == wanted, "{code}: {painted}");
        ensure!(
            !painted.contains("sesame") && !painted.contains("half"),
            "{painted}"
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn ctrl_break_and_the_end_of_console_logon_or_system_detach() -> Result<()> {
    let (windows, far) = ready(LocalAgent::Exe)?;
    let session = windows.new_session()?;
    for event in [
        manner::BREAK,
        manner::CLOSE,
        manner::LOGOFF,
        manner::SHUTDOWN,
    ] {
        let words = format!("after the event {event}");
        let message =
            format!("RULE write begun-{event} x\nRULE await go-{event}\nRULE say {words}");
        let arguments = ["send", "far", "--round-trip", "--message", &message];
        let client = Watched::start(&windows, event, &[], &arguments)?;
        let begun = far.has_made(&format!("begun-{event}"));
        client.give()?;
        let ended = client.end();
        std::fs::write(far.in_work(&format!("go-{event}")), "")?;
        let (code, screen) = ended.with_context(|| format!("the event {event}"))?;
        begun.with_context(|| screen.clone())?;
        ensure!(code == 10, "{event}: {code}: {screen}");
        ensure!(screen.contains("handover collect"), "{event}: {screen}");
        collect(&windows, &session, &words)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn escape_sequences_go_to_a_console_that_knows_them_and_nowhere_else() -> Result<()> {
    let (windows, far) = (Windows::new(LocalAgent::Exe)?, Far::start()?);
    far.introduce(&windows)?;
    // No console at all.
    for (arguments, code) in [
        (&["check", "far"][..], 5),
        (&["trust", "far", "--yes"][..], 0),
        (&["-vv", "check", "far"][..], 0),
    ] {
        let finished = windows.run(arguments)?.expect_code(code)?;
        without_escapes(&finished.stderr)?;
        without_escapes(&finished.stdout)?;
    }
    let look = |manner: &str, environment: &[(&str, &str)], arguments: &[&str]| -> Result<String> {
        let client = Watched::start(&windows, manner, environment, arguments)?;
        let (code, screen) = client.end()?;
        ensure!(code == 0, "{code}: {screen}");
        Ok(screen)
    };
    // A console that takes them, one that does not, and a person who does not want them.
    for (manner, environment, taken) in [
        (manner::NO_EVENT, &[][..], true),
        (manner::OLD, &[], false),
        (manner::NO_EVENT, &[("NO_COLOR", "1")], false),
    ] {
        let screen = look(manner, environment, &["-vv", "check", "far"])?;
        ensure!(screen.contains("DEBUG"), "{manner}: {screen}");
        ensure!(
            without_escapes(&screen).is_err() == taken,
            "{manner}: {screen}"
        );
    }
    // Bars and tables move the cursor by the console's own functions, on every console.
    windows.new_session()?;
    let message = "RULE say at the work\nRULE sleep 2";
    let screen = look(
        manner::NO_EVENT,
        &[],
        &["send", "far", "--round-trip", "--message", message],
    )?;
    without_escapes(&screen)?;
    assert!(screen.contains("is back from far"), "{screen}");
    let ran = told(windows.run(&["run", "far", "--json", message])?)?;
    let job = text(&ran, "job")?;
    let screen = look(manner::NO_EVENT, &[], &["watch", &job])?;
    without_escapes(&screen)?;
    assert!(screen.contains("STATE"), "{screen}");
    assert_eq!(screen.matches(&job).count(), 1, "{screen}");
    assert!(screen.contains("completed"), "{screen}");
    Ok(())
}
