//! Remote text on a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with every control character but line feed and tab escaped, and the marks that reorder text too,
/// so that nothing from a host can steer the terminal or disguise itself.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_unsafe(character) {
            // Writing to a String cannot fail.
            let _ = write!(safe, "\\u{{{:x}}}", u32::from(character));
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

fn is_unsafe(character: char) -> bool {
    let reorders = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (character.is_control() && !matches!(character, '\n' | '\t')) || reorders
}

/// The first line of a text, cut to `limit` characters with an ellipsis.
pub(crate) fn one_line(text: &str, limit: usize) -> String {
    let line = text.trim_start().lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(limit).collect();
    if short.len() < line.len() || text.trim().lines().count() > 1 {
        short.push('…');
    }
    printable(&short).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(
            printable("a\u{1b}[2Jb\u{9b}\r\u{7f}\u{202e}c\n\td"),
            "a\\u{1b}[2Jb\\u{9b}\\u{d}\\u{7f}\\u{202e}c\n\td"
        );
        assert!(matches!(printable("plain ü 漢"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_long_text_becomes_one_short_line() {
        assert_eq!(one_line("  first\nsecond", 80), "first…");
        assert_eq!(one_line("abcdef", 3), "abc…");
        assert_eq!(one_line("abc", 3), "abc");
    }
}
