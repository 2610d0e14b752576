//! The records of several known_hosts files, and the verdict over an offered key.
//!
//! Main type: [`KnownHosts`]. Invariant: `@revoked` beats every other line, and only a file that does not exist counts
//! as empty.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};

use super::append;
use super::certificate::{self, CertificateVerdict};
use super::edit;
use super::entry::{Entry, Line, Marker, parse_line};
use crate::private_fs;
use crate::ssh::SshError;
use crate::ssh::options::ConnectOptions;
use crate::ssh::target::Target;

/// The size of the largest file that is read, in bytes: some two hundred thousand hosts.
pub(super) const MAX_BYTES: u64 = 64 << 20;
/// The port that needs no `[host]:port`.
const DEFAULT_PORT: u16 = 22;

/// Every line of several files that holds a key.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts {
    records: Vec<Record>,
}

#[derive(Debug, Clone)]
struct Record {
    file: PathBuf,
    line: usize,
    entry: Entry,
}

/// What is on record about an offered key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// This very key is on record for this host.
    Known,
    /// Nothing is on record for this host.
    Unknown,
    /// The host has other keys on record.
    Changed {
        /// The file with the last of them.
        file: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// Its algorithm and fingerprint.
        recorded: String,
    },
    /// This key is revoked for this host.
    Revoked {
        /// The file that says so.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

/// A key on record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordedKey {
    /// The file.
    pub file: PathBuf,
    /// The line in it, from 1.
    pub line: usize,
    /// The key's algorithm and fingerprint.
    pub key: String,
}

impl KnownHosts {
    /// Reads `files`. One that does not exist is empty; a line that does not parse is skipped with a warning.
    ///
    /// # Errors
    /// [`SshError::KnownHosts`] for a file that exists and cannot be read, or has more than 64 MiB.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn load(files: &[PathBuf]) -> Result<Self, SshError> {
        let mut known = Self::default();
        for file in files {
            let path = file.clone();
            let read =
                tokio::task::spawn_blocking(move || private_fs::read_at_most(&path, MAX_BYTES))
                    .await
                    .map_err(io::Error::other)
                    .flatten();
            match read {
                Ok(bytes) => known.add(file, &bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(SshError::KnownHosts {
                        path: file.clone(),
                        source,
                    });
                }
            }
        }
        Ok(known)
    }

    /// Adds the lines of one file, whatever bytes they hold.
    pub(in crate::ssh) fn add(&mut self, file: &Path, bytes: &[u8]) {
        for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let line_number = index + 1;
            match parse_line(line) {
                Line::Blank => {}
                Line::Bad => {
                    tracing::warn!(file = %file.display(), line = line_number, "skipping a host key line that does not parse");
                }
                Line::Entry(entry) => {
                    self.records.push(Record {
                        file: file.to_owned(),
                        line: line_number,
                        entry: *entry,
                    });
                }
            }
        }
    }

    /// Judges `key`, offered by the host dialled as `address` and `port`.
    ///
    /// As ssh(1): a record under the bare name can confirm a key on another port, and can neither make it changed nor
    /// stand against a record under `[host]:port`. Unlike ssh(1), a key that is revoked under the bare name is refused
    /// on every port.
    #[must_use]
    pub fn check(&self, address: &str, port: u16, key: &PublicKey) -> Verdict {
        let verdict = self.check_name(&record_name(address, port), key);
        if verdict != Verdict::Unknown || port == DEFAULT_PORT {
            if port != DEFAULT_PORT
                && let revoked @ Verdict::Revoked { .. } =
                    self.check_name(&record_name(address, DEFAULT_PORT), key)
            {
                return revoked;
            }
            return verdict;
        }
        match self.check_name(&record_name(address, DEFAULT_PORT), key) {
            Verdict::Changed { .. } => Verdict::Unknown,
            other => other,
        }
    }

    /// Judges `certificate`, offered by the host dialled as `address` and `port`, at the time `now`.
    ///
    /// As ssh(1): the principal is the address without a port, an authority under the bare name counts on every port,
    /// and a revoked authority or certified key beats everything. Unlike with keys, there is no "changed": a
    /// certificate that nobody on record has signed is a plain key.
    #[must_use]
    pub fn check_certificate(
        &self,
        address: &str,
        port: u16,
        certificate: &Certificate,
        now: SystemTime,
    ) -> CertificateVerdict {
        let names = lookup_names(address, port);
        let keys = certificate::keys(certificate);
        let marked = |marker| {
            names
                .iter()
                .flat_map(|name| self.about(name))
                .filter(move |record| record.entry.marker == marker)
        };
        if let Some(record) =
            marked(Marker::Revoked).find(|record| keys.contains(&record.entry.key.key_data()))
        {
            return CertificateVerdict::Revoked {
                file: record.file.clone(),
                line: record.line,
            };
        }
        let authority = certificate.signature_key();
        if !marked(Marker::CertAuthority).any(|record| record.entry.key.key_data() == authority) {
            return CertificateVerdict::NoAuthority;
        }
        certificate::host_fault(certificate, address, now)
            .map_or(CertificateVerdict::Trusted, CertificateVerdict::Faulty)
    }

    /// Whether an authority that certifies host keys is on record for a host.
    pub(in crate::ssh) fn has_authority(&self, address: &str, port: u16) -> bool {
        self.has(Marker::CertAuthority, address, port)
    }

    /// Whether a revoked key is on record for a host.
    pub(in crate::ssh) fn has_revoked(&self, address: &str, port: u16) -> bool {
        self.has(Marker::Revoked, address, port)
    }

    fn has(&self, marker: Marker, address: &str, port: u16) -> bool {
        let names = lookup_names(address, port);
        names
            .iter()
            .flat_map(|name| self.about(name))
            .any(|record| record.entry.marker == marker)
    }

    /// The algorithms of the keys on record for a host, in file order and without repetition.
    #[must_use]
    pub fn algorithms(&self, address: &str, port: u16) -> Vec<Algorithm> {
        let mut found = Vec::new();
        for name in &lookup_names(address, port) {
            for record in self
                .about(name)
                .filter(|record| record.entry.marker == Marker::None)
            {
                let algorithm = record.entry.key.algorithm();
                if !found.contains(&algorithm) {
                    found.push(algorithm);
                }
            }
            if !found.is_empty() {
                break;
            }
        }
        found
    }

    /// Writes `key` as the key of `address` and `port` at the end of `file`, which is made (mode 0600) when missing.
    ///
    /// The file is locked while it is written, a key that it has already is not written again, and the name is hashed
    /// when the file has hashed names.
    ///
    /// # Errors
    /// [`SshError::KnownHosts`].
    ///
    /// # Cancel safety
    /// The key may be written all the same, whole.
    pub async fn append(
        file: &Path,
        address: &str,
        port: u16,
        key: &PublicKey,
    ) -> Result<(), SshError> {
        append::append(file, record_name(address, port), key, false).await
    }

    /// Writes `key` down as the key of a configured host: where its trust is written, under its alias where it has one,
    /// and hashed where it says so or where any file of the user's has hashed names. Without a place to write to, nothing is written.
    ///
    /// # Errors
    /// [`SshError::KnownHosts`].
    ///
    /// # Cancel safety
    /// The key may be written all the same, whole.
    pub async fn trust(
        target: &Target,
        options: &ConnectOptions,
        key: &PublicKey,
    ) -> Result<(), SshError> {
        let Some(file) = options.trust_file(target) else {
            return Ok(());
        };
        let (name, port) = target.host_key_name();
        let own = Self::load(&options.own_host_key_files(target)).await?;
        let hashed = target.settings.hash_known_hosts
            || (own.records.iter()).any(|record| record.entry.names.is_hashed());
        append::append(&file, record_name(name, port), key, hashed).await
    }

    /// The other keys on record for a host, which make `key` a changed one.
    #[must_use]
    pub fn others(&self, address: &str, port: u16, key: &PublicKey) -> Vec<RecordedKey> {
        let name = record_name(address, port);
        let others = self.about(&name).filter(|record| {
            record.entry.marker == Marker::None && record.entry.key.key_data() != key.key_data()
        });
        others
            .map(|record| RecordedKey {
                file: record.file.clone(),
                line: record.line,
                key: recorded(&record.entry.key),
            })
            .collect()
    }

    /// Puts `key` in the place of the keys `old` of a configured host, in every file of the user's that has them, and
    /// writes it down as [`KnownHosts::trust`] does. The system's files stay as they are.
    ///
    /// A line about the host alone gets the new key; from one about other names too, only the name is taken. Everything
    /// else stays byte for byte. Keys that `old` does not hold stay: nobody has seen them.
    ///
    /// # Errors
    /// [`SshError::KnownHosts`]; the files before that one have been changed then.
    ///
    /// # Cancel safety
    /// Each file is changed whole or not at all; the rest of them may then be as they were.
    pub async fn replace(
        target: &Target,
        options: &ConnectOptions,
        key: &PublicKey,
        old: &[RecordedKey],
    ) -> Result<(), SshError> {
        let (address, port) = target.host_key_name();
        let name = record_name(address, port);
        let keys: Vec<String> = old.iter().map(|old| old.key.clone()).collect();
        for file in options.own_host_key_files(target) {
            if !old.iter().any(|old| old.file == file) {
                continue;
            }
            let (name, key, keys, path) = (name.clone(), key.clone(), keys.clone(), file.clone());
            let failed = |source| SshError::KnownHosts { path: file, source };
            tokio::task::spawn_blocking(move || edit::replace_lines(&path, &name, &key, &keys))
                .await
                .map_err(io::Error::other)
                .and_then(|done| done)
                .map_err(failed)?;
        }
        Self::trust(target, options, key).await
    }

    fn about<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Record> {
        self.records
            .iter()
            .filter(move |record| record.entry.names.matches(name))
    }

    fn check_name(&self, name: &str, key: &PublicKey) -> Verdict {
        let mut verdict = Verdict::Unknown;
        for record in self.about(name) {
            let same = record.entry.key.key_data() == key.key_data();
            match record.entry.marker {
                Marker::Revoked if same => {
                    return Verdict::Revoked {
                        file: record.file.clone(),
                        line: record.line,
                    };
                }
                Marker::None if same => verdict = Verdict::Known,
                Marker::None if verdict != Verdict::Known => {
                    verdict = Verdict::Changed {
                        file: record.file.clone(),
                        line: record.line,
                        recorded: recorded(&record.entry.key),
                    };
                }
                _ => {}
            }
        }
        verdict
    }
}

/// The names under which a host is looked up, in this order: with its port, and bare.
fn lookup_names(address: &str, port: u16) -> Vec<String> {
    let mut names = vec![record_name(address, port)];
    if port != DEFAULT_PORT {
        names.push(record_name(address, DEFAULT_PORT));
    }
    names
}

/// The name under which a host is on record.
fn record_name(address: &str, port: u16) -> String {
    let address = address.to_ascii_lowercase();
    if port == DEFAULT_PORT {
        address
    } else {
        format!("[{address}]:{port}")
    }
}

/// A key as a person is told of it: its algorithm and fingerprint.
pub(super) fn recorded(key: &PublicKey) -> String {
    format!("{} {}", algorithm_name(key), fingerprint(key))
}

/// A key's SHA-256 fingerprint as ssh-keygen(1) shows it.
pub(in crate::ssh) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// A key's algorithm as known_hosts spells it.
pub(in crate::ssh) fn algorithm_name(key: &PublicKey) -> String {
    key.algorithm().as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9dG4kjRhQTtWTVzd2t27+t0DEHBPW7iOD23TUiYLio";
    const TWO: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn verdict(lines: &str, address: &str, port: u16) -> &'static str {
        let mut known = KnownHosts::default();
        known.add(Path::new("known_hosts"), lines.as_bytes());
        match known.check(address, port, &ONE.parse().unwrap()) {
            Verdict::Known => "known",
            Verdict::Unknown => "unknown",
            Verdict::Changed { .. } => "changed",
            Verdict::Revoked { .. } => "revoked",
        }
    }

    #[test]
    fn a_key_is_judged_by_every_line_about_the_host() {
        for (lines, address, port, wanted) in [
            (format!("box {ONE}"), "box", 22, "known"),
            (format!("box {ONE}"), "BOX", 22, "known"),
            (format!("box {ONE}"), "other", 22, "unknown"),
            (format!("box {TWO}"), "box", 22, "changed"),
            (format!("box {TWO}\nbox {ONE}"), "box", 22, "known"),
            (format!("box {ONE}\nbox {TWO}"), "box", 22, "known"),
            (format!("box {ONE}"), "box", 2222, "known"),
            (format!("box {TWO}"), "box", 2222, "unknown"),
            (
                format!("[box]:2222 {TWO}\nbox {ONE}"),
                "box",
                2222,
                "changed",
            ),
            (format!("[box]:2222 {ONE}"), "box", 22, "unknown"),
            (format!("@revoked * {ONE}\nbox {ONE}"), "box", 22, "revoked"),
            (
                format!("box {ONE}\n@revoked box {ONE}"),
                "box",
                22,
                "revoked",
            ),
            (
                format!("[box]:2222 {ONE}\n@revoked box {ONE}"),
                "box",
                2222,
                "revoked",
            ),
            (
                format!("@revoked other {ONE}\nbox {ONE}"),
                "box",
                22,
                "known",
            ),
            (format!("@cert-authority * {ONE}"), "box", 22, "unknown"),
            (
                format!("@cert-authority * {TWO}\nbox {ONE}"),
                "box",
                22,
                "known",
            ),
            (format!("@unheard-of box {ONE}"), "box", 22, "unknown"),
            (format!("# box {ONE}"), "box", 22, "unknown"),
            (format!("box {ONE}\r\n"), "box", 22, "known"),
            (format!("*.lan,!bad.lan {ONE}"), "bad.lan", 22, "unknown"),
            (format!("2001:db8::1 {ONE}"), "2001:db8::1", 22, "known"),
        ] {
            assert_eq!(
                verdict(&lines, address, port),
                wanted,
                "{lines} for {address}:{port}"
            );
        }
    }

    #[test]
    fn a_changed_key_names_the_line_of_the_record() {
        let mut known = KnownHosts::default();
        known.add(
            Path::new("file"),
            format!("# first\n\nbox {TWO}\n").as_bytes(),
        );
        let Verdict::Changed {
            file,
            line,
            recorded,
        } = known.check("box", 22, &ONE.parse().unwrap())
        else {
            panic!("not changed")
        };
        assert_eq!((file.as_path(), line), (Path::new("file"), 3));
        assert!(recorded.starts_with("ssh-ed25519 SHA256:"));
    }

    #[test]
    fn the_algorithms_on_record_are_those_of_the_port_before_those_of_the_name() {
        let mut known = KnownHosts::default();
        known.add(
            Path::new("file"),
            format!("box {ONE}\nbox {TWO}\n@cert-authority x {ONE}").as_bytes(),
        );
        assert_eq!(known.algorithms("box", 2222), [Algorithm::Ed25519]);
        assert_eq!(known.algorithms("x", 22), []);
    }

    #[tokio::test]
    async fn what_is_appended_is_found_again_once_private_and_hashed_where_others_are() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("new/known_hosts");
        let files = [file.clone()];
        let (one, two): (PublicKey, PublicKey) = (ONE.parse().unwrap(), TWO.parse().unwrap());
        assert_eq!(
            KnownHosts::load(&files)
                .await
                .unwrap()
                .check("box", 22, &one),
            Verdict::Unknown
        );
        for _ in 0..2 {
            KnownHosts::append(&file, "Box", 22, &one).await.unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(&file).unwrap(),
            format!("box {ONE}\n")
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(
                std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        let hashed = super::super::pattern::hashed_field(b"01234567890123456789", "other").unwrap();
        std::fs::write(&file, format!("{hashed} {ONE}")).unwrap();
        KnownHosts::append(&file, "box", 2222, &two).await.unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(
            text.lines().filter(|line| line.starts_with("|1|")).count(),
            2,
            "{text}"
        );
        let known = KnownHosts::load(&files).await.unwrap();
        assert_eq!(known.check("box", 2222, &two), Verdict::Known);
        assert_eq!(known.check("other", 22, &one), Verdict::Known);
    }

    #[tokio::test]
    async fn trust_is_hashed_where_another_file_of_the_users_has_hashed_names() {
        let directory = tempfile::tempdir().unwrap();
        let (theirs, ours) = (
            directory.path().join("theirs"),
            directory.path().join("ours"),
        );
        let key: PublicKey = ONE.parse().unwrap();
        let target = Target::new("box".parse().unwrap(), "box", 22, "dev");
        let mut options = ConnectOptions::default().trusted_hosts(ours.clone());
        options.known_hosts = vec![theirs.clone()];
        std::fs::write(&theirs, format!("other {ONE}\n")).unwrap();
        KnownHosts::trust(&target, &options, &key).await.unwrap();
        let plain = format!("box {ONE}\n");
        assert_eq!(std::fs::read_to_string(&ours).unwrap(), plain);
        std::fs::remove_file(&ours).unwrap();
        let hashed = super::super::pattern::hashed_field(b"01234567890123456789", "other").unwrap();
        std::fs::write(&theirs, format!("{hashed} {ONE}\n")).unwrap();
        KnownHosts::trust(&target, &options, &key).await.unwrap();
        let text = std::fs::read_to_string(&ours).unwrap();
        assert!(text.starts_with("|1|"), "{text}");
        let known = KnownHosts::load(&[ours]).await.unwrap();
        assert_eq!(known.check("box", 22, &key), Verdict::Known);
    }

    #[tokio::test]
    async fn appends_at_the_same_time_all_arrive() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("known_hosts");
        let key: PublicKey = ONE.parse().unwrap();
        let names: Vec<_> = (0..20).map(|place| format!("host{place}")).collect();
        let appends = names
            .iter()
            .map(|name| KnownHosts::append(&file, name, 22, &key));
        for result in futures::future::join_all(appends).await {
            result.unwrap();
        }
        let known = KnownHosts::load(&[file]).await.unwrap();
        for name in &names {
            assert_eq!(known.check(name, 22, &key), Verdict::Known, "{name}");
        }
    }

    #[tokio::test]
    async fn a_file_without_end_is_an_error_and_never_filled_into_memory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("known_hosts");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(MAX_BYTES + 1).unwrap();
        for files in [vec![path.clone()], vec!["/dev/zero".into()]] {
            if !files.iter().all(|file| file.exists()) {
                continue;
            }
            let error = KnownHosts::load(&files).await.unwrap_err();
            assert!(
                matches!(&error, SshError::KnownHosts { source, .. } if source.kind() == io::ErrorKind::FileTooLarge),
                "{error:?}"
            );
        }
        let key = PublicKey::from_openssh(ONE).unwrap();
        let error = KnownHosts::append(&path, "box", 22, &key)
            .await
            .unwrap_err();
        assert!(matches!(error, SshError::KnownHosts { .. }), "{error:?}");
        assert_eq!(file.metadata().unwrap().len(), MAX_BYTES + 1);
    }

    #[tokio::test]
    async fn a_file_that_is_there_and_cannot_be_read_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let error = KnownHosts::load(&[directory.path().to_owned()])
            .await
            .unwrap_err();
        assert!(matches!(error, SshError::KnownHosts { .. }), "{error:?}");
    }

    proptest! {
        #[test]
        fn hostile_bytes_neither_panic_nor_make_a_key_known(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut known = KnownHosts::default();
            known.add(Path::new("file"), &bytes);
            prop_assert_eq!(known.check("box", 22, &ONE.parse().unwrap()), Verdict::Unknown);
        }

        #[test]
        fn hostile_fields_do_not_panic_and_revocation_always_wins(
            names in "[a-z*?!,|=1\\[\\]:/]{0,40}",
            marker in prop_oneof![Just(""), Just("@revoked "), Just("@cert-authority "), Just("@x ")],
            port in any::<u16>(),
        ) {
            let lines = format!("{marker}{names} {ONE}\nbox {ONE}\n[box]:{port} {ONE}\n@revoked box,[box]:* {ONE}");
            prop_assert_eq!(verdict(&lines, "box", port), "revoked");
        }
    }
}
