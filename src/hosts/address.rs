//! Where a host is: user, address or alias, port.
//!
//! The main type is [`Address`]. Every one of its parts comes from a short list of characters, so it
//! cannot be read as an option, a pattern of a known_hosts file or a piece of shell, wherever it ends
//! up later: in a manual command that is printed for a person, for example.

use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::Serialize;

/// The longest host part, that of a DNS name (RFC 1035, section 2.3.4), and the longest user.
const MAX_LENGTH: usize = 255;

/// Where a host is: an address or an alias, and the user and port when they are given.
///
/// Read from `[user@]host[:port]`, where `host` is a name, an alias, an IPv4 address or an IPv6
/// address; with a port, an IPv6 address stands in brackets. There is deliberately no `Display`: an
/// error names a host by its [`HostName`](super::HostName), and [`Address::for_person`] is for the
/// places where a person reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Address {
    host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
}

/// The reason why a text is not an [`Address`]. It never repeats the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAddress {
    /// There is no host in it.
    #[error("the address is empty")]
    Empty,
    /// The host part starts with `-`.
    #[error("an address must not start with '-'")]
    LeadingDash,
    /// The host part holds something else than letters, digits, `.`, `_`, `-` and `+`.
    #[error(
        "an address must not hold {character:?}: ASCII letters, digits, '.', '_', '-' and '+' only"
    )]
    Character {
        /// The first such character.
        character: char,
    },
    /// Something with colons or brackets that is no IPv6 address.
    #[error("this is neither 'address:port' nor an IPv6 address ('[address]:port' with a port)")]
    Ipv6,
    /// The port is no number from 1 to 65535.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// There is nothing in front of the `@`, or the user is empty.
    #[error("the user is empty")]
    EmptyUser,
    /// The user starts with `-`.
    #[error("a user must not start with '-'")]
    UserLeadingDash,
    /// The user holds something that is not carried.
    #[error(
        "a user must not hold {character:?}: letters, digits, '.', '_', '-', '+', '@', '\\' and a last '$' only"
    )]
    UserCharacter {
        /// The first such character.
        character: char,
    },
    /// A part is longer than 255 bytes.
    #[error("the address or the user is longer than {MAX_LENGTH} bytes")]
    TooLong,
}

impl Address {
    /// Puts an address together from its parts; `host` holds neither user nor port here.
    ///
    /// # Errors
    ///
    /// [`InvalidAddress`], when a part holds something that is refused.
    pub fn new(host: &str, user: Option<&str>, port: Option<u16>) -> Result<Self, InvalidAddress> {
        check_host(host)?;
        user.map(check_user).transpose()?;
        if port == Some(0) {
            return Err(InvalidAddress::Port);
        }
        Ok(Self {
            host: host.to_owned(),
            user: user.map(str::to_owned),
            port,
        })
    }

    /// The address or alias, an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The user, when one is given.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The port, when one is given.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The address as it is written in a hosts file, for a person's eyes only.
    #[must_use]
    pub fn for_person(&self) -> String {
        let user = self
            .user
            .as_ref()
            .map(|user| format!("{user}@"))
            .unwrap_or_default();
        match self.port {
            Some(port) if self.host.contains(':') => format!("{user}[{}]:{port}", self.host),
            Some(port) => format!("{user}{}:{port}", self.host),
            None => format!("{user}{}", self.host),
        }
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The last '@' divides: a user of a directory service may hold one, an address never does.
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, text),
        };
        let (host, port) = split_port(rest)?;
        Self::new(host, user, port)
    }
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), InvalidAddress> {
    if let Some(inner) = text.strip_prefix('[') {
        let (host, rest) = inner.split_once(']').ok_or(InvalidAddress::Ipv6)?;
        if !is_ipv6(host) {
            return Err(InvalidAddress::Ipv6);
        }
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(parse_port(port)?))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(InvalidAddress::Ipv6),
        };
    }
    match text.split_once(':') {
        // Several colons: a bare IPv6 address, which check_host judges.
        Some((_, rest)) if rest.contains(':') => Ok((text, None)),
        Some((host, port)) => Ok((host, Some(parse_port(port)?))),
        None => Ok((text, None)),
    }
}

fn parse_port(text: &str) -> Result<u16, InvalidAddress> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidAddress::Port);
    }
    text.parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or(InvalidAddress::Port)
}

fn check_host(host: &str) -> Result<(), InvalidAddress> {
    if host.is_empty() {
        return Err(InvalidAddress::Empty);
    }
    if host.len() > MAX_LENGTH {
        return Err(InvalidAddress::TooLong);
    }
    if host.starts_with('-') {
        return Err(InvalidAddress::LeadingDash);
    }
    if is_ipv6(host) {
        return Ok(());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    match host.chars().find(|&c| !plain(c)) {
        Some(':' | '[' | ']') => Err(InvalidAddress::Ipv6),
        Some(character) => Err(InvalidAddress::Character { character }),
        None => Ok(()),
    }
}

/// An IPv6 address, with a zone (RFC 4007, section 11) or without.
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    address.parse::<Ipv6Addr>().is_ok()
        && zone.is_none_or(|zone| !zone.is_empty() && zone.chars().all(plain))
}

/// Checks a user name.
///
/// It is only ever data to the SSH protocol, but a person may paste it into a shell, so whatever a
/// shell could take for its own is refused. Machine accounts of Windows domains end in `$`.
fn check_user(user: &str) -> Result<(), InvalidAddress> {
    if user.is_empty() {
        return Err(InvalidAddress::EmptyUser);
    }
    if user.len() > MAX_LENGTH {
        return Err(InvalidAddress::TooLong);
    }
    if user.starts_with('-') {
        return Err(InvalidAddress::UserLeadingDash);
    }
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '@' | '\\');
    match user
        .strip_suffix('$')
        .unwrap_or(user)
        .chars()
        .find(|&c| !plain(c))
    {
        Some(character) => Err(InvalidAddress::UserCharacter { character }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_address_is_read() {
        for (text, host, user, port) in [
            ("box", "box", None, None),
            ("dev@10.0.0.5", "10.0.0.5", Some("dev"), None),
            (
                "dev@box.example.com:2222",
                "box.example.com",
                Some("dev"),
                Some(2222),
            ),
            ("::1", "::1", None, None),
            ("dev@fe80::1%eth0", "fe80::1%eth0", Some("dev"), None),
            ("[2001:db8::1]:22", "2001:db8::1", None, Some(22)),
            ("dev@[::1]", "::1", Some("dev"), None),
            ("dev@corp@box", "box", Some("dev@corp"), None),
            ("CORP\\dev@box", "box", Some("CORP\\dev"), None),
            ("box$@dc1", "dc1", Some("box$"), None),
            ("jürgen@box", "box", Some("jürgen"), None),
            ("my_alias+1", "my_alias+1", None, None),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(
                (address.host(), address.user(), address.port()),
                (host, user, port),
                "{text}"
            );
            assert_eq!(
                address.for_person().parse::<Address>().unwrap(),
                address,
                "{text}"
            );
        }
    }

    #[test]
    fn nothing_that_could_be_more_than_an_address_is_accepted() {
        for text in [
            "",
            "@box",
            "dev@",
            ":22",
            "box:",
            "box:0",
            "box:65536",
            "box:+22",
            "box:22x",
            "a:b:c",
            "-oProxyCommand=x",
            "dev@-oProxyCommand=x",
            "-oProxyCommand=x@box",
            "-l@box",
            "-",
            "a b",
            " box",
            "box ",
            "box\n",
            "box\r\n",
            "b\tx",
            "b\0x",
            "b\u{1b}[2Jx",
            "b\u{7f}x",
            "b\u{a0}x",
            "b\u{202e}x",
            "'box'",
            "\"box\"",
            "`id`",
            "$(id)",
            "${HOME}",
            "$HOME",
            "box;id",
            "box|id",
            "box&id",
            "box>x",
            "box<x",
            "(box)",
            "{a,b}",
            "*",
            "b?x",
            "!box",
            "a,b",
            "#box",
            "~box",
            "a/b",
            "a\\b",
            "ssh://box",
            "bücher.example",
            "a=b",
            "a%b",
            "[box]:22",
            "[::1",
            "::1]",
            "[::1]x",
            "[::1]:",
            "fe80::1%",
            "fe80::1%$(id)",
            "de v@box",
            "de\nv@box",
            "'dev'@box",
            "$(id)@box",
            "`id`@box",
            "$x@box",
            "dev;id@box",
            "d\u{202e}v@box",
            "dev\"@box",
            "d$v@box",
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(
                text.len() < 4 || !error.contains(text),
                "{error:?} repeats the address"
            );
            assert!(!error.chars().any(char::is_control), "{error:?}");
        }
        assert_eq!(
            "a".repeat(256).parse::<Address>(),
            Err(InvalidAddress::TooLong)
        );
        assert_eq!(
            Address::new("box:22", None, None),
            Err(InvalidAddress::Ipv6)
        );
        assert_eq!(
            Address::new("box", None, Some(0)),
            Err(InvalidAddress::Port)
        );
    }
}
