//! From a file's bytes to its lines.
//!
//! Main function: [`parse`]. It knows what divides a file into blocks (`Host`, `Match`) and what leads to other files
//! (`Include`); every other keyword keeps its words until a host is resolved, since only then it is known whether the
//! line matters.

use super::criteria::Criteria;
use super::error::{InvalidSshValue, SyntaxProblem};
use super::lexer::{Cut, cut};
use super::pattern::HostPattern;
use super::tree::File;

/// A line, and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
    pub(super) item: Item,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Host(Vec<HostPattern>),
    Match(Criteria),
    Include {
        patterns: Vec<String>,
        /// Filled when the files are read.
        files: Vec<File>,
        /// Why the first pattern that could not be followed could not: an error for the hosts that the line applies to.
        unread: Option<InvalidSshValue>,
    },
    Setting(Setting),
}

/// A keyword and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// In lower case.
    pub(super) keyword: String,
    pub(super) words: Vec<String>,
}

/// A line that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadLine {
    /// From 1.
    pub(super) line: usize,
    pub(super) problem: SyntaxProblem,
}

/// Reads a file's bytes. Comments may hold any bytes, everything else is UTF-8 without NUL.
///
/// # Errors
///
/// [`BadLine`], the first one.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Line>, BadLine> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let mut lines = Vec::new();
    for (index, bytes) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = index + 1;
        let bad = |problem| BadLine { line, problem };
        if bytes.trim_ascii_start().starts_with(b"#") {
            continue;
        }
        let text = std::str::from_utf8(bytes)
            .ok()
            .filter(|text| !text.contains('\0'))
            .ok_or(bad(SyntaxProblem::NotText))?;
        let Some(cut) = cut(text).map_err(bad)? else {
            continue;
        };
        lines.push(Line {
            line,
            column: cut.column,
            item: item(cut).map_err(bad)?,
        });
    }
    Ok(lines)
}

fn item(cut: Cut<'_>) -> Result<Item, SyntaxProblem> {
    let structural = matches!(cut.keyword.as_str(), "host" | "include");
    if structural && cut.words.is_empty() {
        return Err(SyntaxProblem::NoArgument);
    }
    if structural && cut.words.iter().any(String::is_empty) {
        return Err(SyntaxProblem::EmptyArgument);
    }
    Ok(match cut.keyword.as_str() {
        "host" => Item::Host(
            cut.words
                .iter()
                .filter_map(|word| HostPattern::new(word))
                .collect(),
        ),
        "match" => Item::Match(Criteria::read(cut.rest)?),
        "include" => Item::Include {
            patterns: cut.words,
            files: Vec::new(),
            unread: None,
        },
        _ => Item::Setting(Setting {
            keyword: cut.keyword,
            words: cut.words,
        }),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_know_where_they_stand_and_comments_may_be_anything() {
        let text = b"\xef\xbb\xbf# caf\xe9\r\n\r\nHost a\r\n\tPort 22\r\n  Match all";
        let places: Vec<_> = parse(text)
            .unwrap()
            .iter()
            .map(|line| (line.line, line.column))
            .collect();
        assert_eq!(places, [(3, 1), (4, 2), (5, 3)]);
        for bad in [
            &b"\nUser caf\xe9\n"[..],
            b"\nUser a\0b",
            b"\nHost # all",
            b"\nHost \"\"",
        ] {
            assert_eq!(parse(bad).unwrap_err().line, 2);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_pieces_of_the_format_panic_the_reader(pieces in proptest::collection::vec(prop_oneof![
            3 => "[ \\t\r\n\"'=\\\\#!*?,%$~{}\u{c}]{1,3}",
            2 => prop_oneof![
                Just("Host "), Just("Match "), Just("Include "), Just("host"), Just("final"), Just("exec "),
                Just("all"), Just("ProxyJump "), Just("!"), Just("\u{feff}"),
            ].prop_map(str::to_owned),
            1 => "\\PC{0,3}",
        ], 0..40)) {
            let text = pieces.concat();
            if let Err(bad) = parse(text.as_bytes()) {
                prop_assert!(bad.line >= 1 && bad.line <= text.matches('\n').count() + 1);
            }
        }
    }
}
