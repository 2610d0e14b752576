//! Questions to a person at the terminal.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::text::printable;
use crate::ssh::{Challenge, LoginAs, Prompt, UnknownHostKey};

/// Asks on the terminal; made only where there is one.
#[derive(Debug)]
pub(crate) struct TerminalPrompt;

impl TerminalPrompt {
    /// A prompt where both standard input and standard error are a terminal; nothing elsewhere.
    pub(crate) fn detect() -> Option<Arc<dyn Prompt>> {
        (io::stdin().is_terminal() && io::stderr().is_terminal())
            .then(|| Arc::new(Self) as Arc<dyn Prompt>)
    }
}

#[async_trait]
impl Prompt for TerminalPrompt {
    async fn passphrase(&self, key_file: &Path) -> Option<Zeroizing<String>> {
        let key_file: PathBuf = key_file.to_owned();
        let question = format!(
            "Enter passphrase for key '{}': ",
            printable(&key_file.to_string_lossy())
        );
        let answer = ask(question, false).await?;
        (!answer.is_empty()).then_some(answer)
    }

    async fn password(&self, login: &LoginAs) -> Option<Zeroizing<String>> {
        let again = if login.tries_before > 0 {
            "Permission denied, please try again.\n"
        } else {
            ""
        };
        ask(format!("{again}{}'s password: ", whose(login)), false).await
    }

    async fn answers(&self, challenge: &Challenge) -> Option<Vec<Zeroizing<String>>> {
        // The server's words never stand alone: it must not be able to ask for a passphrase in our name.
        let whose = whose(&challenge.login);
        for words in [&challenge.name, &challenge.instructions] {
            if !words.is_empty() {
                super::render::say(&format!("({whose}) {}", printable(words)));
            }
        }
        let mut answers = Vec::new();
        for question in &challenge.questions {
            let text = format!("({whose}) {}", printable(&question.text));
            answers.push(ask(text, question.echo).await?);
        }
        Some(answers)
    }

    async fn accept_host_key(&self, key: &UnknownHostKey) -> bool {
        let question = format!(
            "The authenticity of host '{}' ({}) can't be established.\n{} key fingerprint is {}.\n\
             Are you sure you want to continue connecting (yes/no)? ",
            key.host, key.address, key.algorithm, key.fingerprint
        );
        tokio::task::spawn_blocking(move || ask_yes(&question).unwrap_or(false))
            .await
            .unwrap_or(false)
    }
}

/// The user and the host as the person named it.
fn whose(login: &LoginAs) -> String {
    printable(&format!("{}@{}", login.user, login.host)).into_owned()
}

/// Asks one question on the terminal, on a thread that may wait; nothing when the input ends.
async fn ask(question: String, echo: bool) -> Option<Zeroizing<String>> {
    let asked = tokio::task::spawn_blocking(move || {
        if echo {
            read_line(&question)
        } else {
            rpassword::prompt_password(question).map(Zeroizing::new)
        }
    });
    asked.await.ok()?.ok()
}

fn read_line(question: &str) -> io::Result<Zeroizing<String>> {
    let mut stderr = io::stderr();
    write!(stderr, "{question}")?;
    stderr.flush()?;
    let mut answer = Zeroizing::new(String::new());
    if io::stdin().lock().read_line(&mut answer)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let kept = answer.trim_end_matches(['\n', '\r']).len();
    answer.truncate(kept);
    Ok(answer)
}

/// Asks until the answer is yes or no; the end of the input is a no.
pub(crate) fn ask_yes(question: &str) -> io::Result<bool> {
    let mut stderr = io::stderr();
    write!(stderr, "{}", printable(question))?;
    loop {
        stderr.flush()?;
        let mut answer = String::new();
        if io::stdin().lock().read_line(&mut answer)? == 0 {
            return Ok(false);
        }
        match answer.trim().to_ascii_lowercase().as_str() {
            "yes" | "y" => return Ok(true),
            "no" | "n" => return Ok(false),
            _ => write!(stderr, "Please type 'yes' or 'no': ")?,
        }
    }
}
