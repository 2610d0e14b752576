//! The text that a JSON string stands for.

use std::borrow::Cow;

/// The text of a JSON string that is known to be valid, quotes included; halves of surrogate pairs become U+FFFD.
pub(super) fn decode(quoted: &[u8]) -> Cow<'_, str> {
    let inner = quoted
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .unwrap_or_default();
    if !inner.contains(&b'\\') {
        return String::from_utf8_lossy(inner);
    }
    let text = String::from_utf8_lossy(inner);
    let mut decoded = String::with_capacity(text.len());
    let mut high: Option<u16> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let unit = match (character, character == '\\') {
            (_, true) => match characters.next() {
                Some('u') => {
                    let digits: String = characters.by_ref().take(4).collect();
                    u16::from_str_radix(&digits, 16).map_err(|_| char::REPLACEMENT_CHARACTER)
                }
                Some('b') => Err('\u{8}'),
                Some('f') => Err('\u{c}'),
                Some('n') => Err('\n'),
                Some('r') => Err('\r'),
                Some('t') => Err('\t'),
                Some(other) => Err(other),
                None => Err(char::REPLACEMENT_CHARACTER),
            },
            (other, false) => Err(other),
        };
        match (high.take(), unit) {
            (Some(first), Ok(second @ 0xdc00..=0xdfff)) => {
                decoded.extend(
                    char::decode_utf16([first, second]).map(|pair| pair.unwrap_or('\u{fffd}')),
                );
                continue;
            }
            (Some(_), _) => decoded.push(char::REPLACEMENT_CHARACTER),
            (None, _) => {}
        }
        match unit {
            Ok(first @ 0xd800..=0xdbff) => high = Some(first),
            Ok(unit) => {
                decoded.push(char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER))
            }
            Err(character) => decoded.push(character),
        }
    }
    if high.is_some() {
        decoded.push(char::REPLACEMENT_CHARACTER);
    }
    Cow::Owned(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_decoded_with_halves_of_surrogate_pairs_replaced() {
        for (raw, text) in [
            (r#""plain""#, "plain"),
            (r#""a\n\t\"\\\/""#, "a\n\t\"\\/"),
            (r#""\ud83d\ude00""#, "\u{1f600}"),
            (r#""\ud83d""#, "\u{fffd}"),
            (r#""\ud83dx""#, "\u{fffd}x"),
            (r#""\ude00\ud83d\ud83d\ude00""#, "\u{fffd}\u{fffd}\u{1f600}"),
            (r#""i\u0064""#, "id"),
        ] {
            assert_eq!(decode(raw.as_bytes()), text, "{raw}");
        }
    }
}
