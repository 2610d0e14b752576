//! What the tests of this tier stand on: two machines with a network between, the program, sessions as stored.

mod history;
mod program;
mod stage;

pub(crate) use history::{History, Message, grown};
pub(crate) use program::{Ran, Started};
pub(crate) use stage::{BOX, Stage, bounded, entries, new_key, until, walk};
