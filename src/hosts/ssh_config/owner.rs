//! Who may have written a configuration file.
//!
//! Main function: [`is_trusted`]. As ssh(1): a file that others can write could name another host, another key or no
//! check at all, so it is refused.

use std::fs::Metadata;

/// Whether only this user or root can have written a file.
#[cfg(unix)]
pub(super) fn is_trusted(metadata: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;

    /// Writable by the group or by everybody.
    const BY_OTHERS: u32 = 0o022;
    let owner = metadata.uid();
    let ours = owner == 0 || owner == rustix::process::getuid().as_raw();
    ours && metadata.mode() & BY_OTHERS == 0
}

/// Whether only this user can have written a file. Windows keeps that in access control lists, which are not read:
/// the profile directory that holds the file is closed to other users unless somebody opened it.
#[cfg(not(unix))]
pub(super) fn is_trusted(_metadata: &Metadata) -> bool {
    true
}
