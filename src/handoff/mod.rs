//! The flow of a handoff: send a session, follow it, bring it back; and the doctor.
//!
//! The main types are [`Client`], this machine's side; [`HandoffBuilder`] and [`CollectBuilder`], what is asked
//! for; [`Running`], the work, with its events; [`Outcome`] and [`Failure`], what came of it.
//!
//! The invariants: a record exists before the first remote byte; a job is launched at most once; the local
//! session is only ever added to; and the result stays on the host until the import has been read back.

mod announce;
mod bring_back;
mod check;
mod client;
mod clock;
mod collect;
mod discover;
mod error;
mod failpoint;
mod follow;
mod forward;
mod glance;
mod job_events;
mod jobs_api;
mod kill;
mod link;
mod local_files;
mod lock;
mod logs;
mod manual;
mod observe;
mod outcome;
mod prepare;
mod prune;
mod remote;
mod report;
mod request;
mod running;
mod say;
mod send;
mod spawn;
mod spawned;
mod steer;
mod sync;
mod trust;
mod watch;

pub use client::{Client, ClientOptions};
pub use discover::{Discovery, HostDiscovery, Refused};
pub use error::{Failure, HandoffError};
#[cfg(debug_assertions)]
#[doc(hidden)]
pub use failpoint::FAIL_POINTS;
pub use forward::{ForwardNews, Forwarding};
pub use glance::Glance;
pub use job_events::JobEvents;
pub use jobs_api::{Job, Jobs};
pub use kill::{KillBuilder, KillEnding, Killed};
pub use logs::{Log, LogReader};
pub use observe::{JobUpdate, JobsWatch};
pub use outcome::{Ending, Outcome, Trip};
pub use prune::{PruneBuilder, PruneDone, PruneReport, Pruned};
pub use report::{Finding, Report, Status};
pub use request::{CollectBuilder, HandoffBuilder};
pub use running::Running;
pub use spawn::SpawnBuilder;
pub use sync::{HostSync, JobSync, SyncReport};
pub use trust::{HostKey, Trust};
