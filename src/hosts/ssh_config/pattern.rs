//! Patterns of `Host`, `Match` and `IgnoreUnknown` (ssh_config(5), PATTERNS).
//!
//! Main type: [`HostPattern`]. Matching takes no more steps than pattern length times text length, whatever the pattern.

/// One pattern of a `Host` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostPattern {
    negated: bool,
    pattern: String,
}

impl HostPattern {
    /// Reads a word of a `Host` line; `None` when nothing is in it.
    pub(super) fn new(word: &str) -> Option<Self> {
        let (negated, pattern) = match word.strip_prefix('!') {
            Some(pattern) => (true, pattern),
            None => (false, word),
        };
        (!word.is_empty()).then(|| Self {
            negated,
            pattern: pattern.to_owned(),
        })
    }

    /// The name that the pattern is, when it has neither a wildcard nor a negation.
    pub(super) fn literal(&self) -> Option<&str> {
        (!self.negated && !self.pattern.contains(['*', '?'])).then_some(self.pattern.as_str())
    }
}

/// Whether a `Host` line applies to a name: a pattern matches it, and no negated one does.
pub(super) fn host_line_matches(patterns: &[HostPattern], name: &str) -> bool {
    let matches = |one: &&HostPattern| matches(&one.pattern, name);
    let mut hits = patterns.iter().filter(matches).peekable();
    hits.peek().is_some() && hits.all(|hit| !hit.negated)
}

/// Whether a comma-separated list holds for a text: a pattern matches, and no negated one does.
pub(super) fn list_matches(list: &str, text: &str) -> bool {
    let patterns: Vec<HostPattern> = list.split(',').filter_map(HostPattern::new).collect();
    host_line_matches(&patterns, text)
}

/// Whether a pattern matches a whole text: `*` is any number of characters, `?` is one.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut in_pattern, mut in_text) = (0, 0);
    // Where the last star was, and where in the text what follows it was tried last.
    let mut star: Option<(usize, usize)> = None;
    while in_text < text.len() {
        match (pattern.get(in_pattern), text.get(in_text)) {
            (Some('*'), _) => {
                star = Some((in_pattern, in_text));
                in_pattern += 1;
            }
            (Some('?'), _) => {
                in_pattern += 1;
                in_text += 1;
            }
            (Some(wanted), Some(found)) if wanted == found => {
                in_pattern += 1;
                in_text += 1;
            }
            _ => match star {
                Some((at, tried)) => {
                    star = Some((at, tried + 1));
                    in_pattern = at + 1;
                    in_text = tried + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(in_pattern).all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_the_manual_says() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("192.168.0.?", "192.168.0.7", true),
            ("192.168.0.?", "192.168.0.77", false),
            ("*.co.uk", "a.b.co.uk", true),
            ("Box", "box", false),
            ("**a", "bba", true),
            ("a?", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_negated_match_beats_every_other() {
        let line = |words: &str| -> Vec<HostPattern> {
            words.split(' ').filter_map(HostPattern::new).collect()
        };
        assert!(host_line_matches(&line("!x box"), "box"));
        assert!(!host_line_matches(&line("* !box"), "box"));
        assert!(!host_line_matches(&line("!box *"), "box"));
        assert!(
            !host_line_matches(&line("!x"), "box"),
            "a negation alone matches nothing"
        );
        assert!(list_matches("!a,b*", "bc") && !list_matches("!bc,b*", "bc"));
    }

    #[test]
    fn a_pattern_of_many_stars_does_not_take_for_ever() {
        assert!(!matches(&"*a".repeat(2_000), &"a".repeat(1_999)));
        assert!(!matches(
            &format!("{}b", "a*".repeat(500)),
            &"a".repeat(5_000)
        ));
    }
}
