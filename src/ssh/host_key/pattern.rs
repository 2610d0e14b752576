//! Which names a known_hosts line is about.
//!
//! Main type: [`Names`]. Invariant: matching is linear in the pattern for each start, case-insensitive, and never
//! treats `[` as a wildcard: only `*` and `?` are (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use russh::keys::ssh_key::known_hosts::HostPatterns;
use sha1::Sha1;

/// The first field of a known_hosts line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Names {
    /// A comma list of patterns.
    Patterns(Vec<Pattern>),
    /// One hashed name.
    Hashed {
        /// The salt, which is the HMAC key.
        salt: Vec<u8>,
        /// HMAC-SHA1 of the name.
        hash: [u8; 20],
    },
}

/// One pattern of the list, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    negated: bool,
    text: String,
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let negation = if self.negated { "!" } else { "" };
        write!(formatter, "{negation}{}", self.text)
    }
}

impl Names {
    /// Reads the field; `None` when it is not well formed.
    pub(super) fn parse(field: &str) -> Option<Self> {
        if field.starts_with('|') {
            return match field.parse().ok()? {
                HostPatterns::HashedName { salt, hash } => Some(Self::Hashed { salt, hash }),
                HostPatterns::Patterns(_) => None,
            };
        }
        let patterns = field
            .split(',')
            .filter(|pattern| !pattern.is_empty())
            .map(|pattern| {
                let (negated, text) = match pattern.strip_prefix('!') {
                    Some(rest) => (true, rest),
                    None => (false, pattern),
                };
                Pattern {
                    negated,
                    text: text.to_ascii_lowercase(),
                }
            });
        let patterns: Vec<_> = patterns.collect();
        (!patterns.is_empty()).then_some(Self::Patterns(patterns))
    }

    /// Whether the line is about `name`, which is in lower case: `host`, or `[host]:port`.
    pub(super) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Patterns(patterns) => {
                let mut positive = false;
                for pattern in patterns {
                    if wildcard(pattern.text.as_bytes(), name.as_bytes()) {
                        if pattern.negated {
                            return false;
                        }
                        positive = true;
                    }
                }
                positive
            }
            Self::Hashed { salt, hash } => {
                hash_name(salt, name).is_some_and(|found| found == *hash)
            }
        }
    }

    /// The field without `name`, which it matches; nothing where the line is about no other name.
    pub(super) fn without(&self, name: &str) -> Option<String> {
        let Self::Patterns(patterns) = self else {
            return None;
        };
        let rest: Vec<Pattern> = patterns
            .iter()
            .filter(|pattern| pattern.negated || pattern.text != name)
            .cloned()
            .collect();
        if rest.iter().all(|pattern| pattern.negated) {
            return None;
        }
        let written: Vec<String> = rest.iter().map(ToString::to_string).collect();
        let negation = if Self::Patterns(rest).matches(name) {
            format!("!{name},")
        } else {
            String::new()
        };
        Some(format!("{negation}{}", written.join(",")))
    }

    /// Whether the name is hashed.
    pub(super) fn is_hashed(&self) -> bool {
        matches!(self, Self::Hashed { .. })
    }
}

/// The field that hides `name` under `salt`.
pub(super) fn hashed_field(salt: &[u8], name: &str) -> Option<String> {
    let hash = hash_name(salt, name)?;
    Some(
        HostPatterns::HashedName {
            salt: salt.to_vec(),
            hash,
        }
        .to_string(),
    )
}

fn hash_name(salt: &[u8], name: &str) -> Option<[u8; 20]> {
    let mut mac = Hmac::<Sha1>::new_from_slice(salt).ok()?;
    mac.update(name.as_bytes());
    Some(mac.finalize().into_bytes().into())
}

/// `*` is any run, `?` is any one byte. One backtrack point is enough: at most pattern times text steps.
pub(in crate::ssh) fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(&byte) = text.get(read) {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(&wanted) if wanted == b'?' || wanted == byte => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((back, from)) = star else {
                    return false;
                };
                star = Some((back, from + 1));
                at = back + 1;
                read = from + 1;
            }
        }
    }
    pattern
        .get(at..)
        .is_some_and(|rest| rest.iter().all(|&byte| byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_the_manual() {
        for (field, name, wanted) in [
            ("box", "box", true),
            ("box", "boxes", false),
            ("BOX.Example", "box.example", true),
            ("a,b,c", "b", true),
            ("*.example", "x.y.example", true),
            ("*.example", "example", false),
            ("b?x", "box", true),
            ("b?x", "bx", false),
            ("*", "[box]:2222", true),
            ("[box]:2222", "[box]:2222", true),
            ("[box]:2222", "box", false),
            ("[b*]:22??", "[box]:2222", true),
            ("[abc]", "a", false),
            ("*.example,!bad.example", "good.example", true),
            ("*.example,!bad.example", "bad.example", false),
            ("!bad.example,*.example", "bad.example", false),
            ("!bad.example", "good.example", false),
            ("a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(
                Names::parse(field).unwrap().matches(name),
                wanted,
                "{field} on {name}"
            );
        }
        assert_eq!(Names::parse(""), None);
        assert_eq!(Names::parse(",,"), None);
        assert_eq!(Names::parse("|1|x"), None);
        assert_eq!(Names::parse("|2|YQ==|YQ=="), None);
    }

    #[test]
    fn a_hashed_name_matches_only_itself() {
        let field = hashed_field(b"12345678901234567890", "[box]:2222").unwrap();
        let names = Names::parse(&field).unwrap();
        assert!(names.is_hashed());
        assert!(names.matches("[box]:2222"));
        assert!(!names.matches("box"));
    }
}
