//! Host keys on record: known_hosts files as ssh(1) reads them.
//!
//! Main type: [`KnownHosts`]. Invariant: a record can only ever make the verdict stricter than "unknown" or confirm
//! the very key that it holds; what cannot be read fails, and what cannot be parsed counts for nothing.

mod agreed;
mod append;
mod certificate;
mod edit;
mod entry;
mod judge;
mod known_hosts;
mod pattern;

pub use agreed::HostKeyFault;
pub use certificate::{CertificateFault, CertificateVerdict};
pub use known_hosts::{KnownHosts, RecordedKey, Verdict};

pub(super) use agreed::{OfferedAlgorithms, check_kind, check_signature};
pub(super) use certificate::time_fault;
pub(super) use judge::{KeyJudge, certificate_verdict, require_size};
pub(super) use known_hosts::{algorithm_name, fingerprint};
pub(super) use pattern::wildcard;
