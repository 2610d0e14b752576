//! From a line of an ssh_config to its words, as OpenSSH cuts them.
//!
//! Main function: [`cut`]. Two rules are at work there, and both here: the keyword and the criteria of a `Match` end
//! at a blank, a `"` or one `=` ([`delimited`]); all other arguments are cut as a shell would, with both kinds of
//! quotes, few escapes and comments ([`words`]). Compared with `ssh -G`, version 9.2.

use super::error::SyntaxProblem;

/// Blanks between a keyword and what follows.
const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

/// A line that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut<'a> {
    /// The keyword in lower case.
    pub(super) keyword: String,
    /// Where it begins, in characters from 1.
    pub(super) column: usize,
    /// What follows it, as it stands; never empty.
    pub(super) rest: &'a str,
    /// The words of `rest`. Where a comment follows the keyword there is none.
    pub(super) words: Vec<String>,
}

/// Cuts a line, without its line feed; `None` for a blank one and a comment.
///
/// # Errors
///
/// [`SyntaxProblem::Quote`] and [`SyntaxProblem::NoArgument`].
pub(super) fn cut(line: &str) -> Result<Option<Cut<'_>>, SyntaxProblem> {
    let line = line.trim_end_matches([' ', '\t', '\r', '\n', '\u{c}']);
    let text = line.trim_start_matches(BLANKS);
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let column = line.chars().count() - text.chars().count() + 1;
    let (keyword, rest) = delimited(text)?;
    let rest = rest.trim_start_matches(BLANKS);
    if keyword.is_empty() || rest.is_empty() {
        return Err(SyntaxProblem::NoArgument);
    }
    Ok(Some(Cut {
        keyword: keyword.to_ascii_lowercase(),
        column,
        rest,
        words: words(rest)?,
    }))
}

/// Cuts the first word off: up to a blank or one `=` with the blanks around it, or up to the end of a quoted part.
/// Also gives what is left.
///
/// # Errors
///
/// [`SyntaxProblem::Quote`].
pub(super) fn delimited(text: &str) -> Result<(String, &str), SyntaxProblem> {
    let Some(end) = text.find(|c| BLANKS.contains(&c) || c == '"' || c == '=') else {
        return Ok((text.to_owned(), ""));
    };
    let (word, rest) = text.split_at(end);
    if let Some(quoted) = rest.strip_prefix('"') {
        let (inner, rest) = quoted.split_once('"').ok_or(SyntaxProblem::Quote)?;
        return Ok((format!("{word}{inner}"), rest.trim_start_matches(BLANKS)));
    }
    let after_blanks = rest.trim_start_matches(BLANKS);
    let rest = match after_blanks.strip_prefix('=') {
        Some(value) => value.trim_start_matches(BLANKS),
        None => after_blanks,
    };
    Ok((word.to_owned(), rest))
}

/// Cuts arguments: blanks divide them unless quoted; a `\` protects a quote, itself and, outside of quotes, a space; a
/// `#` where a word would begin ends the line.
///
/// # Errors
///
/// [`SyntaxProblem::Quote`].
pub(super) fn words(text: &str) -> Result<Vec<String>, SyntaxProblem> {
    let mut found = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(&first) = characters.peek() {
        if matches!(first, ' ' | '\t') {
            characters.next();
            continue;
        }
        if first == '#' {
            break;
        }
        let mut word = String::new();
        let mut quote = None;
        while let Some(character) = characters.next() {
            match (character, quote) {
                ('\\', _) => {
                    let protects = |next: &char| {
                        matches!(next, '\'' | '"' | '\\') || (quote.is_none() && *next == ' ')
                    };
                    word.push(characters.next_if(protects).unwrap_or('\\'));
                }
                (' ' | '\t', None) => break,
                ('"' | '\'', None) => quote = Some(character),
                (end, Some(open)) if end == open => quote = None,
                (other, _) => word.push(other),
            }
        }
        if quote.is_some() {
            return Err(SyntaxProblem::Quote);
        }
        found.push(word);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_words(line: &str) -> Option<(String, Vec<String>)> {
        cut(line).unwrap().map(|cut| (cut.keyword, cut.words))
    }

    #[test]
    fn keyword_and_arguments_are_cut_as_ssh_cuts_them() {
        for (line, keyword, words) in [
            ("Host a b", "host", vec!["a", "b"]),
            ("  PORT=22\r\n", "port", vec!["22"]),
            ("Port = 22", "port", vec!["22"]),
            ("User==x", "user", vec!["=x"]),
            ("\tUser =x # me", "user", vec!["x"]),
            ("\"User\" x", "user", vec!["x"]),
            ("User x#y", "user", vec!["x#y"]),
            (
                "IdentityFile \"a b\" 'c d'",
                "identityfile",
                vec!["a b", "c d"],
            ),
            (
                "IdentityFile a\\ b\\\"c\\d\\\\",
                "identityfile",
                vec!["a b\"c\\d\\"],
            ),
            ("IdentityFile \"a\\ b\"x", "identityfile", vec!["a\\ bx"]),
            ("User \"\"", "user", vec![""]),
            ("User # nobody", "user", vec![]),
        ] {
            let expected = words.into_iter().map(str::to_owned).collect();
            assert_eq!(
                cut_words(line),
                Some((keyword.to_owned(), expected)),
                "{line:?}"
            );
        }
        for nothing in ["", "  \t\r", "# Host a", "   #x \"", "\u{c}"] {
            assert_eq!(cut_words(nothing), None, "{nothing:?}");
        }
        assert_eq!(cut(" ü= x").unwrap().unwrap().column, 2);
    }

    #[test]
    fn what_is_no_line_is_told() {
        for (line, problem) in [
            ("Host", SyntaxProblem::NoArgument),
            ("Port =", SyntaxProblem::NoArgument),
            ("= 3", SyntaxProblem::NoArgument),
            ("User \"a", SyntaxProblem::Quote),
            ("User 'a", SyntaxProblem::Quote),
            ("\"User x", SyntaxProblem::Quote),
            ("User a\"", SyntaxProblem::Quote),
        ] {
            assert_eq!(cut(line), Err(problem), "{line:?}");
        }
    }
}
