//! Questions to a person at the terminal.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::terminal::{self, Echo};
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
        let question = format!(
            "Enter passphrase for key '{}': ",
            printable(&key_file.to_string_lossy())
        );
        let answer = ask(&question, Echo::Hidden).await?;
        (!answer.is_empty()).then_some(answer)
    }

    async fn password(&self, login: &LoginAs) -> Option<Zeroizing<String>> {
        let again = if login.tries_before > 0 {
            "Permission denied, please try again.\n"
        } else {
            ""
        };
        let question = format!("{again}{}'s password: ", whose(login));
        ask(&question, Echo::Hidden).await
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
            let echo = if question.echo {
                Echo::Shown
            } else {
                Echo::Hidden
            };
            answers.push(ask(&text, echo).await?);
        }
        Some(answers)
    }

    async fn accept_host_key(&self, key: &UnknownHostKey) -> bool {
        let question = format!(
            "The authenticity of host '{}' ({}) can't be established.\n{} key fingerprint is {}.\n\
             Are you sure you want to continue connecting (yes/no)? ",
            key.host, key.address, key.algorithm, key.fingerprint
        );
        ask_yes(&question).await
    }
}

/// The user and the host as the person named it.
fn whose(login: &LoginAs) -> String {
    printable(&format!("{}@{}", login.user, login.host)).into_owned()
}

/// Asks until the answer is yes or no; the end of the input is a no.
pub(crate) async fn ask_yes(question: &str) -> bool {
    let mut question = printable(question).into_owned();
    loop {
        let Some(answer) = ask(&question, Echo::Shown).await else {
            return false;
        };
        match answer.trim().to_ascii_lowercase().as_str() {
            "yes" | "y" => return true,
            "no" | "n" => return false,
            _ => "Please type 'yes' or 'no': ".clone_into(&mut question),
        }
    }
}

/// Asks one question on the terminal; nothing when there is no answer.
async fn ask(question: &str, echo: Echo) -> Option<Zeroizing<String>> {
    terminal::ask(question, echo)
        .await
        .inspect_err(|error| tracing::debug!(%error, "a question has no answer"))
        .ok()
}
