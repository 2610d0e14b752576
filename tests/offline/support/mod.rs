//! What the tests of this tier stand on: two machines with a network between, the program, sessions as stored.

mod history;
#[path = "../../support/keys.rs"]
mod keys;
#[cfg(unix)]
mod machine;
#[cfg(windows)]
#[path = "machine_elsewhere.rs"]
mod machine;
#[cfg(windows)]
#[path = "../../support/machine_protocol.rs"]
#[expect(dead_code, reason = "the other side has the rest")]
mod machine_protocol;
mod platform;
#[path = "../../support/program.rs"]
mod program;
mod stage;

pub(crate) use history::{History, Message, grown};
pub(crate) use keys::{new_key, write_private};
pub(crate) use machine::Machine;
pub(crate) use platform::failing_program;
pub(crate) use program::{Ran, Started, bounded};
pub(crate) use stage::{BOX, Stage, announced, entries, until, walk};
