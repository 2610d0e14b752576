//! Addresses as numbers, in the one form under which ssh(1) dials them and has their host keys on record.
//!
//! Main function: [`canonical`].

use std::net::{Ipv4Addr, Ipv6Addr};

/// What ssh(1) makes of an address that is written as numbers; `None` for a name. One that differs in the case of its
/// letters alone stays as it is, as there.
pub(super) fn canonical(text: &str) -> Option<String> {
    let address = match text.split_once('%') {
        // The zone is this machine's name for a network.
        Some((address, zone)) => format!("{}%{zone}", ipv6(address.parse().ok()?)),
        None => match text.parse() {
            Ok(address) => ipv6(address),
            Err(_) => ipv4(text)?.to_string(),
        },
    };
    Some(if address.eq_ignore_ascii_case(text) {
        text.to_owned()
    } else {
        address
    })
}

/// As inet_ntop(3) writes it.
fn ipv6(address: Ipv6Addr) -> String {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => {
            format!(
                "::{}",
                Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))
            )
        }
        _ => address.to_string(),
    }
}

/// As inet_aton(3) reads it: one to four numbers, decimal, octal or hexadecimal, the last for all bytes that are left.
fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, bytes) = parts.split_last().filter(|(_, bytes)| bytes.len() < 4)?;
    let left = 32 - 8 * u32::try_from(bytes.len()).ok()?;
    if u64::from(*last) >> left != 0 {
        return None;
    }
    let mut address = *last;
    for (byte, shift) in bytes.iter().zip([24, 16, 8]) {
        address |= u32::from(u8::try_from(*byte).ok()?) << shift;
    }
    Some(address.into())
}

fn number(text: &str) -> Option<u32> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = match hexadecimal {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // The library would take a sign.
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| u32::from_str_radix(digits, radix).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_by_ssh() {
        for (text, written) in [
            ("2001:db8:0:0::5", "2001:db8::5"),
            ("2001:0DB8:0:0:0:0:0:5", "2001:db8::5"),
            ("2001:DB8::5", "2001:DB8::5"),
            ("::1.2.3.4", "::1.2.3.4"),
            ("::0102:0304", "::1.2.3.4"),
            ("::ffff:102:304", "::ffff:1.2.3.4"),
            ("0:0::0:1", "::1"),
            ("fe80::0:1%lo", "fe80::1%lo"),
            ("127.1", "127.0.0.1"),
            ("127.0.0.1", "127.0.0.1"),
            ("10.1.513", "10.1.2.1"),
            ("0x7f.1", "127.0.0.1"),
            ("017700000001", "127.0.0.1"),
            ("1.2.3.0x10", "1.2.3.16"),
            ("1", "0.0.0.1"),
            ("4294967295", "255.255.255.255"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(written), "{text}");
        }
        for name in [
            "10.0.0.09",
            "256.1.1.1",
            "1.2.3.256",
            "1.65536.1",
            "4294967296",
            "1.2.3.4.5",
            "1.2.3.",
            "+1",
            "0x",
            "box",
            "box%lo",
            "fe",
            "",
        ] {
            assert_eq!(canonical(name), None, "{name}");
        }
    }
}
