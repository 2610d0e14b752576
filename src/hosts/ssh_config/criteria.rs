//! The criteria of a `Match` line (ssh_config(5), Match).
//!
//! Main type: [`Criteria`]. Invariant: what is not evaluated here (`exec`, and whatever a newer manual has) never
//! counts as true or false; when everything else holds, the line is [`Verdict::Undecided`].

use super::error::SyntaxProblem;
use super::lexer::delimited;
use super::pattern::list_matches;

/// All criteria of one `Match` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Criteria(Vec<Criterion>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Criterion {
    negated: bool,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    All,
    /// `canonical` and `final`: the second pass. They differ only with host names made canonical, which is refused.
    SecondPass {
        asks_for_it: bool,
    },
    Host(String),
    OriginalHost(String),
    User(String),
    LocalUser(String),
    /// Its name in lower case.
    NotEvaluated(String),
}

/// What the criteria are held against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// The host name after `HostName`.
    pub(super) host: &'a str,
    /// The host name that was asked for.
    pub(super) original_host: &'a str,
    /// The user on the host; `None` when it is the local one and that is not known.
    pub(super) user: Option<&'a str>,
    /// The local user; `None` when it is not known.
    pub(super) local_user: Option<&'a str>,
    /// Whether this is the second pass.
    pub(super) second_pass: bool,
}

/// Whether a `Match` line applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Applies,
    DoesNot,
    /// All depends on this criterion, which is not evaluated.
    Undecided(String),
    /// All depends on the name of the local user.
    LocalUserUnknown,
}

impl Criteria {
    /// Reads what follows `Match`.
    ///
    /// # Errors
    ///
    /// [`SyntaxProblem::Quote`], [`SyntaxProblem::NoCriterion`], [`SyntaxProblem::AllCombined`] and
    /// [`SyntaxProblem::NoArgument`] when there is no criterion at all.
    pub(super) fn read(text: &str) -> Result<Self, SyntaxProblem> {
        let mut criteria = Vec::new();
        let mut rest = text;
        while !rest.is_empty() && !rest.starts_with('#') {
            let (word, after) = delimited(rest)?;
            rest = after;
            let (negated, name) = match word.strip_prefix('!') {
                Some(name) => (true, name.to_ascii_lowercase()),
                None => (false, word.to_ascii_lowercase()),
            };
            let kind = match name.as_str() {
                "all" => {
                    if criteria.len() > 1 || !(rest.is_empty() || rest.starts_with('#')) {
                        return Err(SyntaxProblem::AllCombined);
                    }
                    Kind::All
                }
                "canonical" | "final" => Kind::SecondPass {
                    asks_for_it: name == "final",
                },
                _ => {
                    if rest.is_empty() || rest.starts_with('#') {
                        return Err(SyntaxProblem::NoCriterion);
                    }
                    let (argument, after) = delimited(rest)?;
                    rest = after;
                    match name.as_str() {
                        "host" => Kind::Host(argument.to_lowercase()),
                        "originalhost" => Kind::OriginalHost(argument.to_lowercase()),
                        "user" => Kind::User(argument),
                        "localuser" => Kind::LocalUser(argument),
                        _ => Kind::NotEvaluated(name),
                    }
                }
            };
            criteria.push(Criterion { negated, kind });
        }
        if criteria.is_empty() {
            return Err(SyntaxProblem::NoArgument);
        }
        Ok(Self(criteria))
    }

    /// Whether the line asks for the second pass, applying or not.
    pub(super) fn ask_for_second_pass(&self) -> bool {
        let asks = |one: &Criterion| matches!(one.kind, Kind::SecondPass { asks_for_it: true });
        self.0.iter().any(asks)
    }

    /// Whether this is `Match all`, without any condition.
    pub(super) fn are_unconditional(&self) -> bool {
        let all = |one: &Criterion| !one.negated && one.kind == Kind::All;
        self.0.iter().all(all)
    }

    /// Whether the line applies. What is not evaluated decides only when nothing else has.
    pub(super) fn judge(&self, subject: &Subject<'_>) -> Verdict {
        let mut verdict = Verdict::Applies;
        let named = |list: &str, name: Option<&str>| name.map(|name| list_matches(list, name));
        for criterion in &self.0 {
            let holds = match &criterion.kind {
                Kind::All => true,
                Kind::SecondPass { .. } => subject.second_pass,
                Kind::Host(list) => list_matches(list, &subject.host.to_lowercase()),
                Kind::OriginalHost(list) => {
                    list_matches(list, &subject.original_host.to_lowercase())
                }
                Kind::User(list) | Kind::LocalUser(list) => {
                    let local = matches!(criterion.kind, Kind::LocalUser(_));
                    let name = if local {
                        subject.local_user
                    } else {
                        subject.user
                    };
                    let Some(holds) = named(list, name) else {
                        verdict = Verdict::LocalUserUnknown;
                        continue;
                    };
                    holds
                }
                Kind::NotEvaluated(name) => {
                    verdict = Verdict::Undecided(name.clone());
                    continue;
                }
            };
            if holds == criterion.negated {
                return Verdict::DoesNot;
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str, second_pass: bool) -> Verdict {
        let subject = Subject {
            host: "Real.example",
            original_host: "box",
            user: Some("dev"),
            local_user: Some("ada"),
            second_pass,
        };
        Criteria::read(text).unwrap().judge(&subject)
    }

    #[test]
    fn every_criterion_counts_and_a_negation_turns_it_round() {
        for (text, applies) in [
            ("all", true),
            ("!all", false),
            ("host *.example", true),
            ("host=REAL.example user dev", true),
            ("host box", false),
            ("originalhost box", true),
            ("!originalhost box", false),
            ("user dev,root localuser ada", true),
            ("user Dev", false),
            ("localuser !ada,*", false),
            ("!localuser bob host \"*\" # exec x", true),
            ("final", false),
            ("!final", true),
            ("canonical all", false),
        ] {
            let expected = if applies {
                Verdict::Applies
            } else {
                Verdict::DoesNot
            };
            assert_eq!(judge(text, false), expected, "{text}");
        }
        assert_eq!(judge("final all", true), Verdict::Applies);
        assert_eq!(judge("canonical", true), Verdict::Applies);
    }

    #[test]
    fn what_is_not_evaluated_decides_only_where_nothing_else_has() {
        for (text, decided) in [
            ("exec \"test -e x\"", false),
            ("!exec true user dev", false),
            ("exec true user root", true),
            ("host box exec true", true),
            ("final exec true", true),
            ("tagged work", false),
            ("localnetwork 10.0.0.0/8 host nothing", true),
        ] {
            let undecided = matches!(judge(text, false), Verdict::Undecided(_));
            assert_eq!(undecided, !decided, "{text}");
        }
    }

    #[test]
    fn what_is_no_match_line_is_told() {
        for (text, problem) in [
            ("host", SyntaxProblem::NoCriterion),
            ("host # x", SyntaxProblem::NoCriterion),
            ("# x", SyntaxProblem::NoArgument),
            ("all host x", SyntaxProblem::AllCombined),
            ("host x user y all", SyntaxProblem::AllCombined),
            ("exec \"x", SyntaxProblem::Quote),
        ] {
            assert_eq!(Criteria::read(text), Err(problem), "{text}");
        }
    }
}
