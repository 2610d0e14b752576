//! Values that travel to a host: an agent's name, a model, a path.
//!
//! The main types are [`AgentName`], [`ModelId`] and [`HostPath`]. They reach the host as data, one
//! a file, and their text is never changed; what is refused is what no host could take as meant:
//! control characters, a `-` in front (an option), a path that depends on where a command runs.

use serde::{Deserialize, Serialize};

/// The reason why the value of a key is refused. It never repeats the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidValue {
    /// Nothing is in it.
    #[error("the value is empty")]
    Empty,
    /// It holds a control character.
    #[error("the value holds the control character {character:?}")]
    ControlCharacter {
        /// The first such character.
        character: char,
    },
    /// It starts with `-`, and would be read as an option.
    #[error("the value must not start with '-'")]
    LeadingDash,
    /// It is not of the form `provider/model`.
    #[error("a model is written as 'provider/model'")]
    NotAModel,
    /// It is neither absolute nor in the home directory.
    #[error("the path must start with '/' or '~/', or be '~'")]
    NotAPath,
    /// It has a `..` component.
    #[error("the path must not have a '..' component")]
    ParentComponent,
    /// The local path is neither absolute nor in the home directory.
    #[error("the path must be absolute or start with '~/'")]
    NotALocalPath,
    /// It is of another type.
    #[error("the value is {found}, and {expected} is wanted")]
    WrongType {
        /// What it should be, with its article.
        expected: &'static str,
        /// What it is, with its article.
        found: &'static str,
    },
    /// It is no number from 1 to 65535.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// Not a count of jobs.
    #[error("not a whole number from 1 to 1000")]
    Count,
    /// Not a time.
    #[error("not a time of a second or more, as '90s' or '10m'")]
    Duration,
    /// It is no operating system that has a meaning here.
    #[error("the value is none of 'posix', 'linux', 'macos' and 'windows'")]
    UnknownOs,
    /// `host` says something else.
    #[error("the value contradicts the one within 'host'")]
    Contradiction,
}

fn check_text(text: &str) -> Result<(), InvalidValue> {
    if text.trim().is_empty() {
        return Err(InvalidValue::Empty);
    }
    match text.chars().find(|c| c.is_control()) {
        Some(character) => Err(InvalidValue::ControlCharacter { character }),
        None => Ok(()),
    }
}

fn check_argument(text: &str) -> Result<(), InvalidValue> {
    check_text(text)?;
    if text.starts_with('-') {
        Err(InvalidValue::LeadingDash)
    } else {
        Ok(())
    }
}

fn check_model(text: &str) -> Result<(), InvalidValue> {
    check_argument(text)?;
    match text.split_once('/') {
        Some((provider, model)) if !provider.is_empty() && !model.is_empty() => Ok(()),
        _ => Err(InvalidValue::NotAModel),
    }
}

fn check_path(text: &str) -> Result<(), InvalidValue> {
    check_text(text)?;
    if !text.starts_with('/') && !text.starts_with("~/") && text != "~" {
        return Err(InvalidValue::NotAPath);
    }
    if text.split('/').any(|component| component == "..") {
        return Err(InvalidValue::ParentComponent);
    }
    Ok(())
}

macro_rules! checked_text {
    ($(#[$docs:meta])* $name:ident, $check:ident) => {
        $(#[$docs])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The value as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidValue;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidValue;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                $check(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

checked_text!(
    /// The name of one of the agent's agents (`build`, `plan`): not empty, no control characters,
    /// no `-` in front.
    AgentName,
    check_argument
);

checked_text!(
    /// A model as opencode names it, `provider/model`: both parts there, no control characters,
    /// no `-` in front. The model's part may hold more slashes.
    ModelId,
    check_model
);

checked_text!(
    /// A path on a host as a person writes it: absolute, or in that host's home directory (`~/...`
    /// or `~`); no control characters, no `..` component.
    HostPath,
    check_path
);

impl ModelId {
    /// The part in front of the first slash.
    #[must_use]
    pub fn provider(&self) -> &str {
        self.0.split_once('/').map_or("", |(provider, _)| provider)
    }

    /// The part behind the first slash.
    #[must_use]
    pub fn model(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, model)| model)
    }
}

impl HostPath {
    /// The absolute path, with `home` (absolute, that of the user on the host) in the place of `~`.
    #[must_use]
    pub fn expand(&self, home: &str) -> String {
        match self.0.strip_prefix('~') {
            Some("") => home.to_owned(),
            Some(rest) => format!("{}{rest}", home.trim_end_matches('/')),
            None => self.0.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROLS: [&str; 6] = ["a\nb", "a\r", "\ta", "a\0", "\u{1b}[2J", "a\u{85}b"];

    #[test]
    fn agents_are_carried_verbatim_or_refused() {
        for good in ["build", "my agent", "$(id)", "a'b\"c", "ä;x", "`id`"] {
            assert_eq!(good.parse::<AgentName>().unwrap().as_str(), good);
        }
        for bad in CONTROLS
            .into_iter()
            .chain(["", " ", "-", "--auto", "-oProxyCommand=x"])
        {
            assert!(bad.parse::<AgentName>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_model_has_a_provider_and_a_name() {
        let model: ModelId = "openrouter/meta/llama-3 $(id)'".parse().unwrap();
        assert_eq!(
            (model.provider(), model.model()),
            ("openrouter", "meta/llama-3 $(id)'")
        );
        for bad in [
            "",
            "model",
            "/model",
            "provider/",
            "-p/m",
            "-oProxyCommand=x/y",
            "p/m\n",
            "p/\u{1b}m",
        ] {
            assert!(bad.parse::<ModelId>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_path_is_absolute_or_in_the_home() {
        for (text, expanded) in [
            ("~", "/home/dev"),
            ("~/", "/home/dev/"),
            ("~/a b/ü'\"$(id)", "/home/dev/a b/ü'\"$(id)"),
            ("/srv/~/x..y", "/srv/~/x..y"),
            ("/-oProxyCommand=x", "/-oProxyCommand=x"),
        ] {
            assert_eq!(
                text.parse::<HostPath>().unwrap().expand("/home/dev"),
                expanded
            );
        }
        assert_eq!("~/x".parse::<HostPath>().unwrap().expand("/"), "/x");
        for bad in [
            "", "work", "~root/x", "$HOME/x", "-x", "/a\nb", "/a\0", "/a/../b", "~/..", "C:\\x",
        ] {
            assert!(bad.parse::<HostPath>().is_err(), "{bad:?} was accepted");
        }
    }
}
