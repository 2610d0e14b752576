//! Remote work with a record: what is kept of a job here, and what its directory on the host shows.
//!
//! The main types are [`JobRecord`] and [`Store`]. The invariant: the files in the host's job directory are
//! the truth, the local store is an index of them, and a record exists before the first remote byte.

mod evidence;
mod id;
mod merge;
mod record;
mod state;
mod store;
mod usage;
mod watchdog;

pub use crate::agent::{JobKind, Mode};
pub use evidence::{end_evidence, evidence};
pub use id::{InvalidJobId, JobId};
pub use record::{JobRecord, RECORD_VERSION, RemotePlaces, SentDocument, Transition, now_ms};
pub use state::{Evidence, State};
pub use store::{Store, StoreError};
pub(crate) use usage::RESULT_LIMIT;
pub use usage::Usage;
pub use watchdog::{Attributes, Bounds, DEFAULT_INACTIVITY, DEFAULT_LOOP_LIMIT, PhaseSeen};
