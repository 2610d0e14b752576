//! Hosts files as a whole: one file ([`one_file`]), and all of them together ([`all_files`]).

use std::error::Error;

use super::HostsError;

mod all_files;
mod one_file;

/// The error's text with that of its sources, and its position.
fn told(error: &HostsError) -> (String, Option<(usize, usize)>) {
    let at = match error {
        HostsError::Parse { at, .. }
        | HostsError::UnknownKey { at, .. }
        | HostsError::InvalidName { at, .. }
        | HostsError::InvalidAddress { at, .. }
        | HostsError::InvalidValue { at, .. } => Some((at.line, at.column)),
        _ => None,
    };
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    (text, at)
}
