//! One exec on a host: a constant command line, a script and its parameters on standard input, a framed answer.
//!
//! The main type is [`ScriptCall`]. The invariant: the command line never varies, so no login shell ever parses a
//! value, and an answer counts only between its begin and its end line, both with the call's own nonce.

use std::fmt;

use rand::RngExt;

use super::AgentError;
use crate::ssh::RemotePath;

/// The command line of every exec: reads parameter lines (`=value`) up to the first other line, then runs the rest of
/// its standard input as a script with them as `$1`, `$2`, ...
///
/// Made of words that bash, dash, zsh, fish, tcsh and busybox pass on unchanged.
pub const EXEC_COMMAND: &str = r#"sh -c 'while IFS= read -r l; do case $l in =*) set -- "$@" "${l#=}";; *) break;; esac; done; eval "$(cat)"'"#;

/// Bytes of output that are looked at; a true answer, a list of models included, is far shorter.
const ANSWER_LIMIT: usize = 1 << 20;
/// Characters of a value that are kept for a person.
const VALUE_LIMIT: usize = 4096;
/// Bytes of a parameter: PATH_MAX on Linux.
const PARAMETER_LIMIT: usize = 4096;

/// 32 random hexadecimal digits: frames one answer, or names one launch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Nonce(String);

impl Nonce {
    /// Makes a new one.
    #[must_use]
    pub fn generate() -> Self {
        Self(format!("{:032x}", rand::rng().random::<u128>()))
    }

    /// Reads one that was kept; `None` when the text is not 32 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 32 && text.bytes().all(hex)).then(|| Self(text.to_owned()))
    }

    /// The nonce as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// One exec to be made on a host: run [`EXEC_COMMAND`], write [`stdin`](Self::stdin), close it, read the output.
#[derive(Clone)]
pub struct ScriptCall {
    nonce: Nonce,
    stdin: Vec<u8>,
}

impl fmt::Debug for ScriptCall {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ScriptCall")
            .field("bytes", &self.stdin.len())
            .finish_non_exhaustive()
    }
}

impl ScriptCall {
    /// The command line of every call, which a caller may start before it knows the script.
    pub const COMMAND: &'static str = EXEC_COMMAND;
    /// Bytes of standard output worth keeping of any call.
    pub const ANSWER_LIMIT: usize = ANSWER_LIMIT;

    /// Builds the call of a constant script; the nonce becomes `$1` and the parameters `$2`, `$3`, ...
    pub(super) fn new(
        script: &'static str,
        parameters: &[(&'static str, &str)],
    ) -> Result<Self, AgentError> {
        let nonce = Nonce::generate();
        let mut stdin = format!("={nonce}\n").into_bytes();
        for (what, value) in parameters {
            check_parameter(what, value)?;
            stdin.push(b'=');
            stdin.extend_from_slice(value.as_bytes());
            stdin.push(b'\n');
        }
        stdin.push(b'\n');
        stdin.extend_from_slice(script.as_bytes());
        Ok(Self { nonce, stdin })
    }

    /// The command line: always [`EXEC_COMMAND`].
    #[must_use]
    pub fn command(&self) -> &'static str {
        EXEC_COMMAND
    }

    /// What to write to the command's standard input, which is closed after it.
    #[must_use]
    pub fn stdin(&self) -> &[u8] {
        &self.stdin
    }

    /// Bytes of standard output worth keeping; a caller may stop reading there.
    #[must_use]
    pub fn answer_limit(&self) -> usize {
        ANSWER_LIMIT
    }

    /// The nonce that frames this call's answer.
    #[must_use]
    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// Finds the answer in what the command printed.
    ///
    /// # Errors
    /// [`AgentError::NoAnswer`] when the script never ran, [`AgentError::AnswerCut`] when its end is missing,
    /// [`AgentError::AnswerTooLong`], and [`AgentError::JobAway`] of a job that cannot be seen.
    pub fn answer(&self, stdout: &[u8]) -> Result<Answer, AgentError> {
        let answer = Answer::parse(&self.nonce, stdout)?;
        let reason = match answer.text("away").as_deref() {
            None => return Ok(answer),
            Some("above") => "the directory of the jobs is not there, or cannot be entered",
            Some(_) => "it cannot be entered",
        };
        Err(AgentError::JobAway { reason })
    }
}

/// Refuses what cannot be one line of text.
pub(super) fn check_parameter(what: &'static str, value: &str) -> Result<(), AgentError> {
    let reason = if value.chars().any(char::is_control) {
        "it holds a control character"
    } else if value.len() > PARAMETER_LIMIT {
        "it is too long"
    } else {
        return Ok(());
    };
    Err(AgentError::Parameter {
        what,
        value: value.chars().take(80).collect(),
        reason,
    })
}

/// The fields of a framed answer, in their order; a key may be there more than once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    fields: Vec<(String, Vec<u8>)>,
}

impl Answer {
    fn parse(nonce: &Nonce, stdout: &[u8]) -> Result<Self, AgentError> {
        let over = stdout.len() > ANSWER_LIMIT;
        let stdout = stdout.get(..ANSWER_LIMIT).unwrap_or(stdout);
        let mark = format!("{nonce} ").into_bytes();
        let mut fields = Vec::new();
        let mut begun = false;
        for line in stdout.split(|byte| *byte == b'\n') {
            // A background job of the login shell can print in front of our text in a line.
            let Some(rest) = after(line, &mark) else {
                continue;
            };
            match rest {
                b"begin" => begun = true,
                b"end" if begun => return Ok(Self { fields }),
                _ if begun => {
                    let Some(at) = rest.iter().position(|byte| *byte == b'=') else {
                        continue;
                    };
                    let (key, value) = rest.split_at(at);
                    let value = value.get(1..).unwrap_or_default();
                    fields.push((String::from_utf8_lossy(key).into_owned(), value.to_vec()));
                }
                _ => {}
            }
        }
        if over {
            return Err(AgentError::AnswerTooLong {
                limit: ANSWER_LIMIT,
            });
        }
        if begun {
            Err(AgentError::AnswerCut)
        } else {
            Err(AgentError::NoAnswer {
                said: tail(stdout, 300),
            })
        }
    }

    /// The first value of a key for a person or a comparison: invalid UTF-8 and control characters are replaced.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.texts(key).next()
    }

    /// Every value of a key, as [`text`](Self::text) gives them.
    pub(super) fn texts(&self, key: &str) -> impl Iterator<Item = String> {
        self.fields
            .iter()
            .filter(move |(name, _)| name == key)
            .map(|(_, value)| printable(value, VALUE_LIMIT))
    }

    /// A value that must be there.
    pub(super) fn required(&self, key: &str) -> Result<String, AgentError> {
        self.text(key).ok_or_else(|| AgentError::AnswerField {
            field: key.to_owned(),
        })
    }

    /// A value that is a path, exact or refused.
    pub(super) fn path(&self, key: &str) -> Result<Option<RemotePath>, AgentError> {
        let Some((_, value)) = self.fields.iter().find(|(name, _)| name == key) else {
            return Ok(None);
        };
        if value.is_empty() {
            return Ok(None);
        }
        let refused = || AgentError::AnswerField {
            field: key.to_owned(),
        };
        let text = std::str::from_utf8(value).map_err(|_| refused())?;
        if text.len() > PARAMETER_LIMIT {
            return Err(refused());
        }
        text.parse().map(Some).map_err(|_| refused())
    }

    /// A value that is a decimal number.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.text(key)?.parse().ok()
    }

    /// The lines `PREFIX.key=value` as the text of the file that the script read them from.
    pub(super) fn file(&self, prefix: &str) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        for (key, value) in &self.fields {
            if let Some(name) = key
                .strip_prefix(prefix)
                .and_then(|rest| rest.strip_prefix('.'))
            {
                content.extend_from_slice(name.as_bytes());
                content.push(b'=');
                content.extend_from_slice(value);
                content.push(b'\n');
            }
        }
        (!content.is_empty()).then_some(content)
    }
}

fn after<'line>(line: &'line [u8], mark: &[u8]) -> Option<&'line [u8]> {
    let at = line.windows(mark.len()).position(|window| window == mark)?;
    line.get(at + mark.len()..)
}

/// Makes foreign bytes fit for a message: lossy UTF-8, no control characters, `limit` characters at most.
pub(super) fn printable(bytes: &[u8], limit: usize) -> String {
    let bytes = bytes.get(..limit.saturating_mul(4)).unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .take(limit)
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

/// The last `limit` characters of foreign bytes, line breaks as blanks, without colours, fit for a message.
pub(super) fn tail(bytes: &[u8], limit: usize) -> String {
    let start = bytes.len().saturating_sub(limit.saturating_mul(4));
    let text = String::from_utf8_lossy(bytes.get(start..).unwrap_or_default());
    let mut flat = String::with_capacity(text.len());
    let mut chars = text.trim().chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\r' | '\t' => flat.push(' '),
            // ECMA-48: a control sequence ends with a character from '@' to '~'.
            '\u{1b}' if chars.next_if_eq(&'[').is_some() => {
                while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
            c if c.is_control() => flat.push(char::REPLACEMENT_CHARACTER),
            c => flat.push(c),
        }
    }
    let skip = flat.chars().count().saturating_sub(limit);
    flat.chars().skip(skip).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call() -> ScriptCall {
        ScriptCall::new("true\n", &[("value", "a b")]).unwrap()
    }

    #[test]
    fn an_answer_is_found_amid_noise() {
        let call = call();
        let nonce = call.nonce();
        let text = format!(
            "motd\n\u{1b}[1mhi\n{nonce} begin\nnoise\nxx{nonce} a=1=2\n{nonce} b=\n{nonce} end\nbye\n"
        );
        let answer = call.answer(text.as_bytes()).unwrap();
        assert_eq!(answer.text("a").unwrap(), "1=2");
        assert_eq!(answer.text("b").unwrap(), "");
        assert_eq!(answer.text("c"), None);
    }

    #[test]
    fn what_never_began_and_what_never_ended_are_told_apart() {
        let call = call();
        assert!(
            matches!(call.answer(b"This account is not available.\n"), Err(AgentError::NoAnswer { said }) if said.starts_with("This account"))
        );
        let cut = format!("{} begin\n{} a=1\n", call.nonce(), call.nonce());
        assert!(matches!(
            call.answer(cut.as_bytes()),
            Err(AgentError::AnswerCut)
        ));
        assert!(matches!(
            call.answer(&vec![b'x'; ANSWER_LIMIT + 1]),
            Err(AgentError::AnswerTooLong { .. })
        ));
    }

    #[test]
    fn a_parameter_with_a_line_break_is_refused() {
        for bad in ["a\nb", "a\r", "a\0", &"x".repeat(5000)] {
            assert!(matches!(
                ScriptCall::new("", &[("value", bad)]),
                Err(AgentError::Parameter { .. })
            ));
        }
    }

    #[test]
    fn a_path_that_is_not_utf8_is_refused_and_never_respelled() {
        let call = call();
        let mut bytes = format!("{} begin\n{} home=/h", call.nonce(), call.nonce()).into_bytes();
        bytes.push(0xff);
        bytes.extend_from_slice(format!("\n{} end\n", call.nonce()).as_bytes());
        assert!(matches!(
            call.answer(&bytes).unwrap().path("home"),
            Err(AgentError::AnswerField { .. })
        ));
    }

    #[test]
    fn a_message_has_neither_colours_nor_control_characters() {
        let said = tail(b"\x1b[91m\x1b[1mError: \x1b[0mnot found\nno\x07\x1b", 100);
        assert_eq!(said, "Error: not found no\u{fffd}\u{fffd}");
        assert_eq!(tail("üabc".as_bytes(), 3), "abc");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(noise in proptest::collection::vec(any::<u8>(), 0..400), body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let call = call();
            let mut bytes = noise;
            bytes.extend_from_slice(format!("\n{} begin\n{} x=", call.nonce(), call.nonce()).as_bytes());
            bytes.extend_from_slice(&body);
            bytes.extend_from_slice(format!("\n{} end\n", call.nonce()).as_bytes());
            let answer = call.answer(&bytes).unwrap();
            prop_assert!(answer.text("x").unwrap().chars().all(|c| !c.is_control()));
        }
    }
}
