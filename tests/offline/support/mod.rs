//! What the tests of this tier stand on: two machines with a network between, the program, sessions as stored.

mod history;
#[path = "../../support/program.rs"]
mod program;
mod stage;

pub(crate) use history::{History, Message, grown};
pub(crate) use program::{Ran, Started, bounded};
pub(crate) use stage::{BOX, Stage, entries, new_key, until, walk};
