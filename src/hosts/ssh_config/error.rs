//! What goes wrong with an ssh_config, and where.
//!
//! Main type: [`SshConfigError`]. Its own words hold names, keywords and local paths, never a value of the file: a
//! value may be an address.

use std::path::PathBuf;

use crate::hosts::error::Position;
use crate::hosts::name::HostName;
use crate::hosts::places::SSH_CONFIG;

/// Why an ssh_config cannot be used, or not for one host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshConfigError {
    /// A line is none, whatever the host: no host is resolved then.
    #[error("{at}")]
    Syntax {
        /// Where.
        at: Position,
        /// Why.
        source: SyntaxProblem,
    },
    /// The file that is to be read in place of the user's and the system's is not there.
    #[error("there is no {}, which {SSH_CONFIG} names", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file belongs to somebody else, or others can write it.
    #[error("bad owner or permissions on {}", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
    },
    /// `Include` lines lead further than any configuration does.
    #[error("{at}: more than {limit} {what}")]
    Includes {
        /// The `Include` line.
        at: Position,
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// A directory that an `Include` line names cannot be searched.
    #[error("{at}: the files to include cannot be listed")]
    List {
        /// The `Include` line.
        at: Position,
        /// Why.
        source: std::io::Error,
    },
    /// The value of a keyword has no meaning.
    #[error("{at}: {keyword} for host {host} cannot be used")]
    Value {
        /// The host that was asked for.
        host: HostName,
        /// The keyword.
        keyword: &'static str,
        /// Where.
        at: Position,
        /// Why.
        source: InvalidSshValue,
    },
    /// The keyword changes how the host is reached or trusted, in a way that is not supported.
    #[error("{at}: {keyword} for host {host} is not supported: {reason}")]
    Unsupported {
        /// The host that was asked for.
        host: HostName,
        /// The keyword.
        keyword: &'static str,
        /// Where.
        at: Position,
        /// What would be lost without it, and what helps.
        reason: &'static str,
    },
    /// A `Match` line could apply, and whether it does is not known here.
    #[error(
        "{at}: whether this Match applies to host {host} cannot be told: {criterion:?} is not evaluated"
    )]
    Undecided {
        /// The host that was asked for.
        host: HostName,
        /// The criterion: `exec`, or one that is not known.
        criterion: String,
        /// Where.
        at: Position,
    },
    /// A keyword that applies to the host has no meaning here.
    #[error("{at}: unknown keyword {keyword:?} for host {host}")]
    UnknownKeyword {
        /// The host that was asked for.
        host: HostName,
        /// The keyword, in lower case.
        keyword: String,
        /// Where.
        at: Position,
    },
    /// The way to the host leads through itself, or through more hosts than any way does.
    #[error("{at}: the ProxyJump of host {host} does not end")]
    JumpLoop {
        /// The host that was asked for.
        host: HostName,
        /// The `ProxyJump` line that closes the loop.
        at: Position,
    },
    /// The name of the local user is needed and not known.
    #[error("{at}: the name of the local user, which host {host} depends on, is not known")]
    LocalUser {
        /// The host that was asked for.
        host: HostName,
        /// The line that needs it.
        at: Position,
    },
}

/// Why a line is none. It never repeats what the line holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyntaxProblem {
    /// Bytes that are not UTF-8, or a NUL.
    #[error("the line is not text")]
    NotText,
    /// A quote is opened and not closed.
    #[error("a quote is not closed")]
    Quote,
    /// A keyword stands alone.
    #[error("the keyword has no argument")]
    NoArgument,
    /// An argument is there and empty.
    #[error("an argument is empty")]
    EmptyArgument,
    /// A `Match` criterion that takes an argument has none.
    #[error("a criterion of the Match has no argument")]
    NoCriterion,
    /// `Match all` with something else than `canonical` or `final` in front.
    #[error("'all' cannot be combined with other criteria")]
    AllCombined,
}

/// Why the value of a keyword has no meaning. It never repeats the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSshValue {
    /// Nothing is in it.
    #[error("the value is empty")]
    Empty,
    /// More follows the value.
    #[error("the line goes on after the value")]
    Extra,
    /// Neither yes nor no.
    #[error("the value is neither 'yes' nor 'no'")]
    NotAFlag,
    /// None of the words that the keyword takes.
    #[error("the value is none of the words that the keyword takes")]
    NotAChoice,
    /// Not a number, or one beyond the bounds.
    #[error("the value is not a number that the keyword takes")]
    NotANumber,
    /// Not a port.
    #[error("a port is a number from 1 to 65535")]
    NotAPort,
    /// Not a time.
    #[error("a time is written as in '90' or '1m30s'")]
    NotATime,
    /// A token that the keyword does not take.
    #[error("the value holds the token '%{token}', which the keyword does not take")]
    Token {
        /// What follows the `%`; a space where nothing does.
        token: char,
    },
    /// An environment variable that is not set.
    #[error("the environment variable {name:?} is not set")]
    Variable {
        /// Its name.
        name: String,
    },
    /// `${` without a `}`.
    #[error("a '${{' is not closed")]
    VariableOpen,
    /// A path in the home of another user.
    #[error("the home of another user ('~name') is not looked up")]
    OtherHome,
    /// A path that depends on the working directory.
    #[error("the path is neither absolute nor in the home directory")]
    Relative,
    /// A pattern of files that is none.
    #[error("the pattern of files is malformed")]
    Pattern,
    /// `none` beside other values.
    #[error("'none' stands with other values")]
    NoneCombined,
    /// A list with an empty part.
    #[error("the list has an empty part")]
    EmptyPart,
    /// A hop of a `ProxyJump` is not of the form.
    #[error("a hop is written as '[user@]host[:port]' or 'ssh://[user@]host[:port]'")]
    Hop,
    /// An address or a user that is not carried.
    #[error(transparent)]
    Address(#[from] crate::hosts::address::InvalidAddress),
}
