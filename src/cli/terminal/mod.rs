//! The terminal at which a person is asked.
//!
//! Main function: [`ask`]. Invariant: whatever ends a question (its answer, a deadline, an interrupt, the end of the
//! program) leaves the terminal as it was found, and takes what was typed and not yet read with it; what was typed before
//! a question answers none; after [`close`] no question is put.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::future::pending;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zeroize::Zeroizing;

use super::interrupt::{self, Interrupts};

#[cfg(unix)]
use unix as platform;
#[cfg(windows)]
use windows as platform;

/// Whether an answer may be seen while it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Echo {
    /// It may.
    Shown,
    /// It is a secret.
    Hidden,
}

/// How long a verb that listens for interrupts may take to give up what asked.
const GIVING_UP: Duration = Duration::from_secs(2);

/// The process has one.
static TERMINAL: Terminal = Terminal::new(|text| {
    let mut stderr = io::stderr().lock();
    stderr.write_all(text.as_bytes())?;
    stderr.flush()
});

/// Puts a question on standard error, and returns the line that is typed, without its end.
///
/// # Errors
/// When the input has ended, cannot be read or is no text; [`io::ErrorKind::Interrupted`] after Ctrl-C, where a verb
/// listens for that itself.
///
/// # Cancel safety
/// Safe: the question is over. On Windows the console is still waited at then, so that every later one is an error.
pub(crate) async fn ask(question: &str, echo: Echo) -> io::Result<Zeroizing<String>> {
    // Before the terminal is touched: from here on an interrupt does not end the process by itself.
    let mut interrupts = Interrupts::notice()?;
    let input = platform::input()?;
    tokio::select! {
        line = TERMINAL.ask(input, question, echo) => line,
        () = interrupts.next() => {
            if !interrupt::is_heard() {
                // The program is ending.
                pending::<()>().await;
            }
            // Whoever listens gives up what asked, and that is to be told, not a question without an answer.
            tokio::time::sleep(GIVING_UP).await;
            Err(io::ErrorKind::Interrupted.into())
        }
    }
}

/// Puts the terminal back as it was found, and puts no question any more: the program is ending.
pub(crate) fn close() {
    let mut state = TERMINAL.state();
    state.closed = true;
    if state.open.is_some() {
        state.end();
        TERMINAL.end_line();
    }
}

struct Terminal {
    state: Mutex<State>,
    /// Puts text where the person sees it.
    show: fn(&str) -> io::Result<()>,
}

struct State {
    closed: bool,
    /// The number of the question that is open.
    open: Option<u64>,
    /// How many questions there were.
    count: u64,
    /// What the terminal was before the question.
    before: Option<platform::Settings>,
}

impl State {
    /// Ends the open question.
    fn end(&mut self) {
        self.open = None;
        if let Some(before) = self.before.take()
            && let Err(error) = before.restore()
        {
            tracing::warn!(%error, "the terminal could not be put back as it was");
        }
    }
}

impl Terminal {
    const fn new(show: fn(&str) -> io::Result<()>) -> Self {
        Self {
            show,
            state: Mutex::new(State {
                closed: false,
                open: None,
                count: 0,
                before: None,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(
        &'static self,
        input: platform::Input,
        question: &str,
        echo: Echo,
    ) -> io::Result<Zeroizing<String>> {
        let mut open = self.open(&input, echo)?;
        (self.show)(question)?;
        let answer = platform::read_line(input, echo, self, open.number).await?;
        open.line_ended = echo == Echo::Shown || platform::SHOWS_ENTER;
        Ok(answer)
    }

    /// Has what comes next begin on a line of its own.
    fn end_line(&self) {
        if let Err(error) = (self.show)("\n") {
            tracing::debug!(%error, "nobody sees the terminal");
        }
    }

    fn open(&'static self, input: &platform::Input, echo: Echo) -> io::Result<Open> {
        let mut state = self.state();
        if state.closed || state.open.is_some() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        state.before = Some(platform::prepare(input, echo)?);
        state.count += 1;
        state.open = Some(state.count);
        Ok(Open {
            terminal: self,
            number: state.count,
            line_ended: false,
        })
    }

    /// Does something while the question `number` is open and cannot end; nothing when it is over.
    #[cfg_attr(
        windows,
        expect(
            dead_code,
            reason = "a console's reader cannot be told that its question is over"
        )
    )]
    fn while_open<T>(&self, number: u64, action: impl FnOnce() -> T) -> Option<T> {
        let state = self.state();
        (state.open == Some(number)).then(action)
    }
}

/// An open question, which is over when this is dropped.
struct Open {
    terminal: &'static Terminal,
    number: u64,
    /// The cursor is at the beginning of a line.
    line_ended: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.terminal.state();
        if state.open == Some(self.number) {
            state.end();
            if !self.line_ended {
                self.terminal.end_line();
            }
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Read as _;
    use std::os::fd::{AsFd as _, OwnedFd};

    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{LocalModes, tcgetattr};

    use super::*;

    const SHORT: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(30);

    /// A terminal with nobody at it yet: the person's side, and the program's.
    fn terminal() -> (File, OwnedFd) {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap();
        let program = OpenOptions::new()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        (person.into(), program.into())
    }

    fn echoes(program: &OwnedFd) -> bool {
        let modes = tcgetattr(program).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ISIG));
        modes.contains(LocalModes::ECHO)
    }

    /// Waits until a question is put.
    async fn until_open(terminal: &'static Terminal) {
        while terminal.state().open.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn asked(
        terminal: &'static Terminal,
        program: &OwnedFd,
    ) -> impl Future<Output = io::Result<Zeroizing<String>>> + use<> {
        let input = program.try_clone().unwrap();
        async move {
            let answer = terminal.ask(input, "Password: ", Echo::Hidden);
            let answer = tokio::time::timeout(SHORT, answer).await;
            answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
    }

    #[tokio::test]
    async fn a_question_without_an_answer_leaves_the_terminal_as_it_was_and_takes_nothing_of_the_next()
     {
        let (mut person, program) = terminal();
        let terminal: &'static Terminal = Box::leak(Box::new(Terminal::new(|_| Ok(()))));
        let before = format!("{:?}", tcgetattr(&program).unwrap());
        for _ in 0..3 {
            let error = asked(terminal, &program).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(format!("{:?}", tcgetattr(&program).unwrap()), before);
        }
        // Half of a password, and then the deadline: the rest of the line is not the next answer's beginning.
        let asking = tokio::spawn(asked(terminal, &program));
        while echoes(&program) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        person.write_all(b"half a pass").unwrap();
        asking.await.unwrap().unwrap_err();
        assert!(echoes(&program));

        let input = program.try_clone().unwrap();
        let asking = tokio::spawn(terminal.ask(input, "Password: ", Echo::Hidden));
        let waited = tokio::time::timeout(LONG, async {
            while echoes(&program) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.unwrap();
        person
            .write_all("wörd \u{15}open sesame\n".as_bytes())
            .unwrap();
        let answer = tokio::time::timeout(LONG, asking).await.unwrap().unwrap();
        assert_eq!(*answer.unwrap(), "open sesame");
        assert_eq!(format!("{:?}", tcgetattr(&program).unwrap()), before);
        // Nothing of it was to be seen.
        person.write_all(b"seen\n").unwrap();
        let mut seen = [0; 64];
        let count = person.read(&mut seen).unwrap();
        assert!(String::from_utf8_lossy(seen.get(..count).unwrap()).starts_with("seen"));
    }

    #[tokio::test]
    async fn a_shown_answer_ends_at_its_line_and_the_end_of_the_input_is_none() {
        let (mut person, program) = terminal();
        let terminal: &'static Terminal = Box::leak(Box::new(Terminal::new(|_| Ok(()))));
        let mut ask = async |typed: &[u8]| {
            let input = program.try_clone().unwrap();
            let asking = tokio::spawn(terminal.ask(input, "? ", Echo::Shown));
            until_open(terminal).await;
            person.write_all(typed).unwrap();
            tokio::time::timeout(LONG, asking).await.unwrap().unwrap()
        };
        assert_eq!(*ask(b"yes\n").await.unwrap(), "yes");
        assert_eq!(
            ask(b"\x04").await.unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }

    #[tokio::test]
    async fn a_line_that_another_program_takes_is_no_answer_and_holds_up_nothing() {
        let (mut person, program) = terminal();
        let terminal: &'static Terminal = Box::leak(Box::new(Terminal::new(|_| Ok(()))));
        let input = platform::reopened(program.as_fd()).unwrap();
        let asking = tokio::spawn(terminal.ask(input, "? ", Echo::Shown));
        until_open(terminal).await;
        {
            // Whoever waits has seen the line, and cannot read it yet.
            let _held = terminal.state();
            person.write_all(b"for another\n").unwrap();
            poll(&mut [PollFd::new(&program, PollFlags::IN)], None).unwrap();
            std::thread::sleep(SHORT);
            let mut line = [0; 64];
            assert_eq!(rustix::io::read(&program, &mut line).unwrap(), 12);
        }
        tokio::time::sleep(SHORT).await;
        assert!(terminal.state.try_lock().is_ok(), "it is waited for");
        person.write_all(b"mine\n").unwrap();
        let answer = tokio::time::timeout(LONG, asking).await.unwrap().unwrap();
        assert_eq!(*answer.unwrap(), "mine");
    }

    #[tokio::test]
    async fn what_was_typed_before_a_question_that_is_shown_does_not_answer_it() {
        let (mut person, program) = terminal();
        let terminal: &'static Terminal = Box::leak(Box::new(Terminal::new(|_| Ok(()))));
        let ask = async || {
            let input = program.try_clone().unwrap();
            let answer = terminal.ask(input, "? ", Echo::Shown);
            tokio::time::timeout(SHORT, answer).await
        };
        ask().await.unwrap_err();
        // The answer to that question, too late for it.
        person.write_all(b"yes\nyes\n").unwrap();
        // The system hands it over a moment later.
        poll(&mut [PollFd::new(&program, PollFlags::IN)], None).unwrap();
        ask().await.unwrap_err();

        // One answer ends a question, and what was typed beyond it is not the next one's.
        let input = program.try_clone().unwrap();
        let asking = tokio::spawn(terminal.ask(input, "? ", Echo::Shown));
        until_open(terminal).await;
        person.write_all(b"no\nyes\n").unwrap();
        let answer = tokio::time::timeout(LONG, asking).await.unwrap().unwrap();
        assert_eq!(*answer.unwrap(), "no");
        ask().await.unwrap_err();
    }

    #[tokio::test]
    async fn a_second_question_is_refused_while_one_is_open_and_after_the_end() {
        let (_person, program) = terminal();
        let terminal: &'static Terminal = Box::leak(Box::new(Terminal::new(|_| Ok(()))));
        let open = terminal.open(&program, Echo::Hidden).unwrap();
        assert!(terminal.open(&program, Echo::Shown).is_err());
        drop(open);
        drop(terminal.open(&program, Echo::Shown).unwrap());
        terminal.state().closed = true;
        assert!(terminal.open(&program, Echo::Hidden).is_err());
        assert!(echoes(&program));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_line_that_comes_with_the_deadline_is_lost_or_answers_and_blocks_no_reader() {
        let (mut person, program) = terminal();
        let terminal: &'static Terminal = Box::leak(Box::new(Terminal::new(|_| Ok(()))));
        for _ in 0..20 {
            let asking = tokio::spawn(asked(terminal, &program));
            tokio::time::sleep(SHORT).await;
            person.write_all(b"late\n").unwrap();
            if let Ok(answer) = asking.await.unwrap() {
                assert_eq!(*answer, "late");
            }
            assert!(echoes(&program));
        }
    }
}
