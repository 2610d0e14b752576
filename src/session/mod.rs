//! The agent's export document: stream it, patch it, check it.
//!
//! A session travels as the document that `opencode export` writes. [`inspect()`] reads one to its end and tells what
//! it holds ([`Inspection`]); [`prepare_outgoing`] writes it as it is to be sent; [`prepare_returning`] takes from the
//! other machine's document what is new and safe to import; [`digests`] and [`part_ids`] tell afterwards whether
//! everything arrived and nothing else changed. All are synchronous and meant for a blocking thread.
//!
//! **Invariants.** Bytes that are not deliberately changed are never changed: values are found by their place and
//! copied, not parsed and written again, because opencode's exports hold what parsers refuse or respell (halves of
//! surrogate pairs, numbers beyond `f64`). One message is in memory at a time. A success means that the document was
//! read to its end and is complete; a document that was cut, wherever, is an error. Everything is bounded by
//! [`Limits`].
//!
//! **What never travels**, in either direction: `patch` and `snapshot` parts, `snapshot` fields of parts, of a message's
//! info, of the session and of its pending undo, and the lists of file differences (`summary.diffs`). They name or
//! describe objects of one machine's snapshot store and files; an undo that acts on foreign ones deletes files.
//!
//! The module knows no transport and no other module of the crate.

mod compare;
mod cursor;
mod edit;
mod error;
mod id;
mod ids;
mod inspect;
mod limits;
mod message;
mod outgoing;
mod returning;
mod scan;
mod settle;
mod summary;
#[cfg(test)]
mod tests;
mod text;

pub use compare::{digests, part_ids};
pub use error::DocumentError;
pub use id::{InvalidSessionId, SessionId};
pub use inspect::{Inspection, inspect};
pub use limits::Limits;
pub use outgoing::{Outgoing, Sent, prepare_outgoing};
pub use returning::{Returned, Returning, prepare_returning};
pub use settle::{CallState, RunningCall};
pub use summary::{TripSummary, TripTokens};
