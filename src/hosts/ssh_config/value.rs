//! Values of keywords: flags, numbers, times, lists of algorithms, hops.
//!
//! Main functions: one a kind of value, each from the line's words to what they mean.

use std::time::Duration;

use super::error::InvalidSshValue;
use crate::hosts::address::Address;
use crate::hosts::settings::{AlgorithmList, ListChange, StrictHostKeyChecking};

/// The one word of a line.
pub(super) fn one(words: &[String]) -> Result<&str, InvalidSshValue> {
    match words {
        [] => Err(InvalidSshValue::Empty),
        [word] if word.is_empty() => Err(InvalidSshValue::Empty),
        [word] => Ok(word),
        _ => Err(InvalidSshValue::Extra),
    }
}

/// `yes` or `no`.
pub(super) fn flag(words: &[String]) -> Result<bool, InvalidSshValue> {
    match one(words)?.to_ascii_lowercase().as_str() {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err(InvalidSshValue::NotAFlag),
    }
}

/// Whether `PubkeyAuthentication` is on: a flag, or how it is bound to the host key.
pub(super) fn pubkey_flag(words: &[String]) -> Result<bool, InvalidSshValue> {
    match one(words)?.to_ascii_lowercase().as_str() {
        "unbound" | "host-bound" => Ok(true),
        _ => flag(words),
    }
}

/// What `StrictHostKeyChecking` means, and whether it was turned off, which counts as `ask`.
pub(super) fn strict(words: &[String]) -> Result<(StrictHostKeyChecking, bool), InvalidSshValue> {
    match one(words)?.to_ascii_lowercase().as_str() {
        "ask" => Ok((StrictHostKeyChecking::Ask, false)),
        "yes" | "true" => Ok((StrictHostKeyChecking::Yes, false)),
        "accept-new" => Ok((StrictHostKeyChecking::AcceptNew, false)),
        "no" | "false" | "off" => Ok((StrictHostKeyChecking::Ask, true)),
        _ => Err(InvalidSshValue::NotAChoice),
    }
}

/// A number from `least` to 2^31 - 1.
pub(super) fn number(words: &[String], least: u32) -> Result<u32, InvalidSshValue> {
    digits(one(words)?)
        .filter(|number| *number >= least)
        .ok_or(InvalidSshValue::NotANumber)
}

fn digits(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number: u32 = plain.then(|| text.parse().ok()).flatten()?;
    (number <= i32::MAX.unsigned_abs()).then_some(number)
}

/// A port. Of the names of services, `ssh` alone is known.
pub(super) fn port(words: &[String]) -> Result<u16, InvalidSshValue> {
    match one(words)? {
        "ssh" => Ok(22),
        text => port_number(text),
    }
}

fn port_number(text: &str) -> Result<u16, InvalidSshValue> {
    digits(text)
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0)
        .ok_or(InvalidSshValue::NotAPort)
}

/// A time (sshd_config(5), TIME FORMATS), or `none`, which leaves the keyword as if it were not there.
pub(super) fn time(words: &[String]) -> Result<Option<Duration>, InvalidSshValue> {
    let text = one(words)?;
    if text == "none" {
        return Ok(None);
    }
    let mut total: u32 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (count, after) = rest.split_at(end);
        let unit = after.chars().next();
        let seconds = match unit.map(|unit| unit.to_ascii_lowercase()) {
            None | Some('s') => 1,
            Some('m') => 60,
            Some('h') => 60 * 60,
            Some('d') => 24 * 60 * 60,
            Some('w') => 7 * 24 * 60 * 60,
            Some(_) => return Err(InvalidSshValue::NotATime),
        };
        rest = after.get(1..).unwrap_or_default();
        let part = digits(count).and_then(|count| count.checked_mul(seconds));
        let sum = part.and_then(|part| total.checked_add(part));
        total = sum
            .filter(|sum| *sum <= i32::MAX.unsigned_abs())
            .ok_or(InvalidSshValue::NotATime)?;
    }
    Ok(Some(Duration::from_secs(total.into())))
}

/// A comma-separated list of names.
pub(super) fn list(text: &str) -> Result<Vec<String>, InvalidSshValue> {
    let names: Vec<String> = text.split(',').map(str::to_owned).collect();
    if names.iter().any(String::is_empty) {
        return Err(InvalidSshValue::EmptyPart);
    }
    Ok(names)
}

/// A list of algorithms, with `+`, `-` or `^` in front or none.
pub(super) fn algorithms(words: &[String]) -> Result<AlgorithmList, InvalidSshValue> {
    let text = one(words)?;
    let (change, names) = match text.split_at_checked(1) {
        Some(("+", names)) => (ListChange::Append, names),
        Some(("-", names)) => (ListChange::Remove, names),
        Some(("^", names)) => (ListChange::Prepend, names),
        _ => (ListChange::Replace, text),
    };
    Ok(AlgorithmList {
        change,
        names: list(names)?,
    })
}

/// One or more files; `none` alone is an empty list.
pub(super) fn files(words: &[String]) -> Result<Vec<String>, InvalidSshValue> {
    let none = |word: &String| word.eq_ignore_ascii_case("none");
    match words {
        [] => Err(InvalidSshValue::Empty),
        words if words.iter().any(String::is_empty) => Err(InvalidSshValue::Empty),
        [only] if none(only) => Ok(Vec::new()),
        words if words.iter().any(none) => Err(InvalidSshValue::NoneCombined),
        words => Ok(words.to_vec()),
    }
}

/// One hop of a `ProxyJump`, its tokens expanded: `[user@]host[:port]` or `ssh://[user@]host[:port]`.
pub(super) fn hop(text: &str) -> Result<Address, InvalidSshValue> {
    let text = match text.get(..6) {
        Some(scheme) if scheme.eq_ignore_ascii_case("ssh://") => {
            let rest = text.get(6..).unwrap_or_default();
            rest.strip_suffix('/').unwrap_or(rest)
        }
        _ => text,
    };
    let address: Address = text.parse()?;
    // A bare IPv6 address is no hop for OpenSSH: its last part could be a port.
    let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
    if address.host().contains(':') && !host.starts_with('[') {
        return Err(InvalidSshValue::Hop);
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        vec![text.to_owned()]
    }

    #[test]
    fn times_are_read_as_sshd_config_writes_them() {
        for (text, seconds) in [
            ("0", 0),
            ("90", 90),
            ("1m30", 90),
            ("1M30s", 90),
            ("1h2m3s", 3723),
            ("2w1d", 15 * 86400),
            ("2147483647", 2_147_483_647),
        ] {
            assert_eq!(
                time(&words(text)),
                Ok(Some(Duration::from_secs(seconds))),
                "{text}"
            );
        }
        assert_eq!(time(&words("none")), Ok(None));
        for bad in [
            "",
            "x",
            "1x",
            "-1",
            "1 ",
            "m",
            "2147483648",
            "99999w",
            "1.5",
            "1ü",
        ] {
            assert!(time(&words(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn hops_are_read_in_both_forms() {
        for (text, expected) in [
            ("bastion", "bastion"),
            ("ada@bastion:2222", "ada@bastion:2222"),
            ("ssh://ada@bastion:2222/", "ada@bastion:2222"),
            ("SSH://bastion", "bastion"),
            ("[::1]:22", "[::1]:22"),
        ] {
            assert_eq!(hop(text), Ok(expected.parse().unwrap()), "{text}");
        }
        for bad in [
            "", "@b", "a@", "b:0", "::1", "a b", "ssh://", "$(id)", "-oX", "b:x", "ü",
        ] {
            assert!(hop(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_of_algorithms_say_what_they_do_to_the_default() {
        for (text, change, names) in [
            ("a,b", ListChange::Replace, vec!["a", "b"]),
            ("+a", ListChange::Append, vec!["a"]),
            ("-a*,b", ListChange::Remove, vec!["a*", "b"]),
            ("^a", ListChange::Prepend, vec!["a"]),
        ] {
            let read = algorithms(&words(text)).unwrap();
            assert_eq!(
                (read.change, read.names),
                (change, names.iter().map(ToString::to_string).collect())
            );
        }
        assert_eq!(algorithms(&words("a,,b")), Err(InvalidSshValue::EmptyPart));
        assert!(algorithms(&words("+")).is_err() && algorithms(&words("ü")).is_ok());
    }
}
