//! Names that mean something else to whoever does not take them as data.

/// Texts that a shell, an option parser or a line-based protocol could take for something else.
pub(crate) const HOSTILE: [&str; 10] = [
    "-oProxyCommand=touch PWNED",
    "--help",
    "it's \"quoted\"",
    "two\nlines",
    "$(touch PWNED)",
    ";touch PWNED;",
    "`touch PWNED`",
    "a|touch PWNED&",
    "\u{1b}]0;title\u{7}",
    "../../etc",
];
