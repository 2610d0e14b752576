//! One line of a known_hosts file.
//!
//! Main type: [`Entry`]. Invariant: parsing never fails on the whole file's behalf: a bad line is only a bad line.

use russh::keys::{Certificate, PublicKey};

use super::pattern::Names;

/// What a line says about its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    /// The host's own key.
    None,
    /// The key of an authority that certifies host keys: never a host's own key.
    CertAuthority,
    /// The key must not be accepted.
    Revoked,
}

/// A line with a key.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The marker.
    pub(super) marker: Marker,
    /// The names that the line is about.
    pub(super) names: Names,
    /// The key.
    pub(super) key: PublicKey,
}

/// A line, read.
#[derive(Debug, Clone)]
pub(super) enum Line {
    /// Empty, or a comment.
    Blank,
    /// Not understood.
    Bad,
    /// An entry.
    Entry(Box<Entry>),
}

/// Reads one line, which may hold any bytes.
pub(super) fn parse_line(line: &[u8]) -> Line {
    let mut fields = line
        .split(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
        .filter(|field| !field.is_empty())
        .map(std::str::from_utf8);
    let first = match fields.next() {
        None => return Line::Blank,
        Some(Ok(field)) if field.starts_with('#') => return Line::Blank,
        Some(Ok(field)) => field,
        Some(Err(_)) if line.trim_ascii_start().starts_with(b"#") => return Line::Blank,
        Some(Err(_)) => return Line::Bad,
    };
    let (marker, names) = match first {
        "@cert-authority" => (Marker::CertAuthority, fields.next()),
        "@revoked" => (Marker::Revoked, fields.next()),
        field if field.starts_with('@') => return Line::Bad,
        field => (Marker::None, Some(Ok(field))),
    };
    let (Some(Ok(names)), Some(Ok(kind)), Some(Ok(blob))) = (names, fields.next(), fields.next())
    else {
        return Line::Bad;
    };
    let (Some(names), Some(key)) = (Names::parse(names), parse_key(marker, kind, blob)) else {
        return Line::Bad;
    };
    Line::Entry(Box::new(Entry { marker, names, key }))
}

/// The key of a line. As for ssh(1), a revoked certificate revokes the key in it.
fn parse_key(marker: Marker, kind: &str, blob: &str) -> Option<PublicKey> {
    let text = format!("{kind} {blob}");
    match PublicKey::from_openssh(&text) {
        Ok(key) => Some(key),
        Err(_) if marker == Marker::Revoked => {
            let certificate = Certificate::from_openssh(&text).ok()?;
            Some(certificate.public_key().clone().into())
        }
        Err(_) => None,
    }
}
