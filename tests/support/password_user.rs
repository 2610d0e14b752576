//! A system user who logs in with a password.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::sshd::wait_for;

/// A bound for the user database's lock, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A system user with a password, who goes when dropped.
pub(crate) struct PasswordUser(pub(crate) String);

impl PasswordUser {
    /// Makes one.
    pub(crate) fn new(password: &str) -> Self {
        let prefix = std::env::var("HANDOVER_TEST_USERS").unwrap_or_else(|_| "hotest".to_owned());
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let place = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("{prefix}-p{}-{place}", std::process::id());
        let output = Command::new("openssl")
            .args(["passwd", "-6", password])
            .output()
            .unwrap();
        let hash = String::from_utf8(output.stdout).unwrap();
        // The user database has one lock, and useradd does not wait for it.
        let made = wait_for(AT_ONCE, || {
            Command::new("useradd")
                .args([
                    "-M",
                    "-d",
                    "/nonexistent",
                    "-s",
                    "/bin/sh",
                    "-p",
                    hash.trim(),
                    &name,
                ])
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        });
        assert!(made, "{name} could not be made");
        Self(name)
    }
}

impl Drop for PasswordUser {
    fn drop(&mut self) {
        wait_for(AT_ONCE, || {
            Command::new("userdel")
                .args(["-f", &self.0])
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        });
    }
}
