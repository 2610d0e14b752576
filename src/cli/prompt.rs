//! Questions to a person at the terminal.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::text::printable;
use crate::ssh::{Prompt, UnknownHostKey};

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
        let asked = tokio::task::spawn_blocking(move || {
            let question = format!(
                "Enter passphrase for key '{}': ",
                printable(&key_file.to_string_lossy())
            );
            rpassword::prompt_password(question).map(Zeroizing::new)
        });
        asked
            .await
            .ok()?
            .ok()
            .filter(|passphrase| !passphrase.is_empty())
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
