//! Tokens, environment variables and `~` in values (ssh_config(5), TOKENS and ENVIRONMENT VARIABLES).
//!
//! Main type: [`Tokens`]. What is put in is never expanded again.

use std::path::{Path, PathBuf};

use sha1::{Digest as _, Sha1};

use super::error::InvalidSshValue;
use super::local::LocalMachine;

/// What tokens mean for one host.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    pub(super) local: &'a LocalMachine,
    /// `%h`
    pub(super) host: &'a str,
    /// `%n`
    pub(super) original_host: &'a str,
    /// `%k`
    pub(super) key_alias: &'a str,
    /// `%p`
    pub(super) port: u16,
    /// `%r`; `None` when it is the local user and that is not known.
    pub(super) user: Option<&'a str>,
    /// `%j`
    pub(super) jump: &'a str,
}

impl Tokens<'_> {
    /// Expands `~`, `%` tokens and `${...}` of a path.
    ///
    /// # Errors
    ///
    /// [`InvalidSshValue`]: `Token`, `Variable`, `VariableOpen` and `OtherHome`.
    pub(super) fn path(&self, value: &str) -> Result<PathBuf, InvalidSshValue> {
        let in_home = value.strip_prefix('~').map(|rest| {
            let separator = |c: char| c == '/' || (cfg!(windows) && c == '\\');
            (rest.is_empty() || rest.starts_with(separator))
                .then(|| rest.trim_start_matches(separator))
        });
        match in_home {
            Some(None) => Err(InvalidSshValue::OtherHome),
            Some(Some("")) => Ok(self.local.home.clone()),
            Some(Some(rest)) => Ok(self.local.home.join(self.expand(rest)?)),
            None => Ok(PathBuf::from(self.expand(value)?)),
        }
    }

    /// Expands `%` tokens and `${...}`.
    ///
    /// # Errors
    ///
    /// [`InvalidSshValue`]: `Token`, `Variable` and `VariableOpen`.
    pub(super) fn expand(&self, value: &str) -> Result<String, InvalidSshValue> {
        let variables = |name: &str| variable(self.local, name);
        expand(value, |token| self.token(token), Some(&variables))
    }

    fn token(&self, token: char) -> Option<String> {
        Some(match token {
            'C' => self.connection_hash()?,
            'h' => self.host.to_owned(),
            'j' => self.jump.to_owned(),
            'k' => self.key_alias.to_owned(),
            'n' => self.original_host.to_owned(),
            'p' => self.port.to_string(),
            'r' => self.user?.to_owned(),
            other => return local_token(self.local, other),
        })
    }

    /// SHA-1 of `%l%h%p%r%j`, in hexadecimal digits. Versions of OpenSSH before 9.8 leave `%j` out.
    fn connection_hash(&self) -> Option<String> {
        let text = format!(
            "{}{}{}{}{}",
            self.local.name, self.host, self.port, self.user?, self.jump
        );
        let digest = Sha1::digest(text.as_bytes());
        Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// The tokens that mean the same for every host.
fn local_token(local: &LocalMachine, token: char) -> Option<String> {
    Some(match token {
        'd' => local.home.to_string_lossy().into_owned(),
        'i' => local.user_id?.to_string(),
        'L' => local.name.split('.').next()?.to_owned(),
        'l' => local.name.clone(),
        'u' => local.user.clone()?,
        _ => return None,
    })
}

fn variable(local: &LocalMachine, name: &str) -> Result<String, InvalidSshValue> {
    let unset = || InvalidSshValue::Variable {
        name: name.to_owned(),
    };
    local.variable(name).ok_or_else(unset)
}

/// Expands `${...}`, and those tokens that mean the same for every host, in a pattern of files. What a token stands for
/// is no pattern.
///
/// # Errors
///
/// [`InvalidSshValue`]: `Token`, `Variable` and `VariableOpen`.
pub(super) fn include(value: &str, local: &LocalMachine) -> Result<String, InvalidSshValue> {
    let token = |token| local_token(local, token).map(|text| glob::Pattern::escape(&text));
    expand(value, token, Some(&|name| variable(local, name)))
}

/// Expands `%%` and `%h` in a `HostName`.
///
/// # Errors
///
/// [`InvalidSshValue::Token`] for any other.
pub(super) fn host_name(value: &str, original_host: &str) -> Result<String, InvalidSshValue> {
    expand(
        value,
        |token| (token == 'h').then(|| original_host.to_owned()),
        None,
    )
}

/// Expands the tokens that a `ProxyJump` takes.
///
/// # Errors
///
/// [`InvalidSshValue::Token`] for any other.
pub(super) fn jump(value: &str, tokens: &Tokens<'_>) -> Result<String, InvalidSshValue> {
    let token = |token| match token {
        'h' | 'n' | 'p' | 'r' => tokens.token(token),
        _ => None,
    };
    expand(value, token, None)
}

/// Where environment variables come from; without one, `$` is a character as any other.
type Variables<'a> = Option<&'a dyn Fn(&str) -> Result<String, InvalidSshValue>>;

fn expand(
    value: &str,
    token: impl Fn(char) -> Option<String>,
    variables: Variables<'_>,
) -> Result<String, InvalidSshValue> {
    let mut expanded = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(character) = rest.chars().next() {
        rest = rest.get(character.len_utf8()..).unwrap_or_default();
        match (character, variables) {
            ('%', _) => {
                let name = rest.chars().next().unwrap_or(' ');
                rest = rest.get(name.len_utf8()..).unwrap_or_default();
                match token(name) {
                    _ if name == '%' => expanded.push('%'),
                    Some(text) => expanded.push_str(&text),
                    None => return Err(InvalidSshValue::Token { token: name }),
                }
            }
            ('$', Some(variable)) if rest.starts_with('{') => {
                let inner = rest.get(1..).unwrap_or_default();
                let (name, after) = inner.split_once('}').ok_or(InvalidSshValue::VariableOpen)?;
                expanded.push_str(&variable(name)?);
                rest = after;
            }
            (other, _) => expanded.push(other),
        }
    }
    Ok(expanded)
}

/// Whether a path depends on no directory; for OpenSSH on Windows `/x` does not either.
pub(super) fn is_rooted(path: &Path) -> bool {
    path.has_root() || path.is_absolute()
}
