//! The rules in a message, which stand in for a model's decisions.
//!
//! The main type is [`Rule`]; the table of them is in the parent module.

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rule {
    Write { name: String, text: String },
    Say(String),
    Lines(usize),
    Big(usize),
    Surrogate,
    Patch,
    Noise,
    Error(String),
    Sleep(u64),
    Hang,
    Await(String),
    Tool { name: String, count: u32 },
    Child(u64),
    Exit(u8),
    ExitBefore(u8),
    Nothing,
}

impl Rule {
    /// The rules of a message, in order. A line that is no rule in full is an ordinary line.
    pub(super) fn all(message: &str) -> Vec<Self> {
        message
            .lines()
            .filter_map(|line| Self::parse(line.trim().strip_prefix("RULE ")?.trim()))
            .collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let rest = rest.trim();
        Some(match word {
            "write" => {
                let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
                Self::Write {
                    name: name.to_owned(),
                    text: text.to_owned(),
                }
            }
            "say" => Self::Say(rest.to_owned()),
            "lines" => Self::Lines(rest.parse().ok()?),
            "big" => Self::Big(rest.parse().ok()?),
            "surrogate" => Self::Surrogate,
            "patch" => Self::Patch,
            "noise" => Self::Noise,
            "error" => Self::Error(rest.to_owned()),
            "sleep" => Self::Sleep(rest.parse().ok()?),
            "hang" => Self::Hang,
            "await" => Self::Await(rest.to_owned()),
            "tool" => {
                let (name, count) = rest.split_once(' ')?;
                Self::Tool {
                    name: name.to_owned(),
                    count: count.parse().ok()?,
                }
            }
            "child" => Self::Child(rest.parse().ok()?),
            "exit" => Self::Exit(rest.parse().ok()?),
            "exit-before" => Self::ExitBefore(rest.parse().ok()?),
            "nothing" => Self::Nothing,
            _ => return None,
        })
    }
}

/// The first line of the task in a message: what follows a `[Task]` line, else the first line that has text.
pub(super) fn task(message: &str) -> &str {
    let body = message
        .split_once("[Task]")
        .map_or(message, |(_, task)| task);
    body.lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_found_on_lines_of_their_own_in_a_longer_message() {
        let message = "[Environment]\nYou are on a host. RULE hang is no rule here.\n[Task]\nFix it.\n\
                       RULE write a.txt some text\r\n  RULE lines 3\nRULE lines many\nRULE unknown\nRULE exit 7\n";
        let write = Rule::Write {
            name: "a.txt".into(),
            text: "some text".into(),
        };
        assert_eq!(Rule::all(message), [write, Rule::Lines(3), Rule::Exit(7)]);
        assert_eq!(task(message), "Fix it.");
        assert_eq!(task("\n  do this\nand that"), "do this");
    }
}
