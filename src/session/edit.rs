//! Changes to a stretch of bytes, collected first and applied while writing.

use std::io::{self, Write};
use std::ops::Range;

/// Replacements of byte ranges that do not overlap; all bytes outside of them are written as they are.
#[derive(Debug, Default)]
pub(super) struct Edits(Vec<(Range<usize>, Vec<u8>)>);

impl Edits {
    /// Replaces `range` by `bytes`.
    pub(super) fn replace(&mut self, range: Range<usize>, bytes: impl Into<Vec<u8>>) {
        self.0.push((range, bytes.into()));
    }

    /// Takes `range` out.
    pub(super) fn cut(&mut self, range: Range<usize>) {
        self.replace(range, []);
    }

    /// Puts `bytes` before the byte at `at`.
    pub(super) fn insert(&mut self, at: usize, bytes: impl Into<Vec<u8>>) {
        self.replace(at..at, bytes);
    }

    /// Takes the items out that `gone` names by index, each run of them with exactly one comma too few or too many
    /// removed, so that what is left is a list again.
    pub(super) fn cut_items(&mut self, items: &[Range<usize>], gone: impl Fn(usize) -> bool) {
        let mut kept_end: Option<usize> = None;
        let mut run: Option<Range<usize>> = None;
        for (index, item) in items.iter().enumerate() {
            if gone(index) {
                let start = run.as_ref().map_or(item.start, |run| run.start);
                run = Some(start..item.end);
                continue;
            }
            if let Some(run) = run.take() {
                self.cut(match kept_end {
                    Some(end) => end..run.end,
                    None => run.start..item.start,
                });
            }
            kept_end = Some(item.end);
        }
        if let Some(run) = run {
            self.cut(kept_end.unwrap_or(run.start)..run.end);
        }
    }

    /// Writes `bytes` with the changes.
    pub(super) fn apply(mut self, bytes: &[u8], writer: &mut impl Write) -> io::Result<()> {
        self.0.sort_by_key(|(range, _)| (range.start, range.end));
        let mut position = 0;
        for (range, replacement) in &self.0 {
            writer.write_all(bytes.get(position..range.start).unwrap_or_default())?;
            writer.write_all(replacement)?;
            position = position.max(range.end);
        }
        writer.write_all(bytes.get(position..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_of_items_can_be_taken_out() {
        let list = "[ a , b ,c ,  d ]";
        let items: Vec<Range<usize>> = list
            .match_indices(char::is_alphabetic)
            .map(|(at, _)| at..at + 1)
            .collect();
        for choice in 0..16_u32 {
            let mut edits = Edits::default();
            edits.cut_items(&items, |index| choice & (1 << index) != 0);
            let mut written = Vec::new();
            edits.apply(list.as_bytes(), &mut written).unwrap();
            let left: String = String::from_utf8(written)
                .unwrap()
                .split_whitespace()
                .collect();
            let expected: Vec<&str> = ["a", "b", "c", "d"]
                .into_iter()
                .enumerate()
                .filter(|(i, _)| choice & (1 << i) == 0)
                .map(|(_, c)| c)
                .collect();
            assert_eq!(
                left,
                format!("[{}]", expected.join(",")),
                "choice {choice:04b}"
            );
        }
    }
}
