//! A stand-in for opencode: a program that plays the agent deterministically, with nothing installed.
//!
//! The main function is [`main`], which the binary calls behind a hidden subcommand; [`install`] writes an
//! `opencode` program that leads there. It was measured against opencode 1.18.33 and does what that does as
//! far as a handoff can see: the commands `--version`, `models`, `session list`, `session delete`, `export`,
//! `import` and `run`, their outputs and exit statuses, the session that is bound to a directory, the union
//! by id on import, identifiers that sort by time.
//!
//! Sessions are JSON files in `$XDG_DATA_HOME/opencode/standin` (`$HOME/.local/share/...`), each in the form
//! of an export document. Messages and parts keep their bytes.
//!
//! # What a message makes it do
//! There is no model. Each line `RULE ...` of the message that `run` reads is obeyed, in order; without any,
//! the answer is a text that quotes the first line of the task and names the files in the directory.
//!
//! | rule | effect |
//! |---|---|
//! | `write NAME TEXT` | a `write` tool call that makes the file NAME in the directory |
//! | `say TEXT` | a text |
//! | `lines N` | N texts |
//! | `big BYTES` | a text of that many bytes |
//! | `surrogate` | a text that holds half of a surrogate pair as an escape |
//! | `patch` | a `patch` part, and `snapshot` fields from there on |
//! | `noise` | lines that are no JSON and bytes that are no UTF-8, on both outputs |
//! | `error TEXT` | an error event; the exit status is 1 |
//! | `sleep SECONDS` | waits; what there is so far is in the store |
//! | `await NAME` | waits until the file NAME is in the directory, as long as `hang` would at most |
//! | `tool NAME N` | N calls of the tool NAME with the same input, one after the other |
//! | `hang` | never goes on (see `STANDIN_HANG_SECONDS`) |
//! | `child SECONDS` | starts a sleeping process in its own process group; its id is in `standin-child.pid` |
//! | `exit N` | ends with this status once all is stored |
//! | `exit-before N` | ends with this status before anything is stored or printed |
//! | `nothing` | ends with status 0 and no answer, as opencode does when the clock is behind |
//!
//! # Settings
//! From the environment, or as `NAME=VALUE` lines of the file `settings` beside the sessions, which wins:
//! `STANDIN_EXPORT` (`cut`, `fail`, `wrong-session`, `deep`, `sleep`), `STANDIN_IMPORT` (`fail`, `silent`,
//! `sleep`, `drop-part`: the last part of the last message is not stored), `STANDIN_VERSION`,
//! `STANDIN_MODELS` (names, separated by commas), `STANDIN_CLOCK` (seconds that its clock is ahead, negative
//! for behind), `STANDIN_SLEEP_SECONDS` (default 3), `STANDIN_HANG_SECONDS` (default 600, so that nothing is
//! left behind for ever).

mod answer;
mod binding;
mod command;
mod effects;
mod error;
mod ids;
mod install;
mod process;
mod rule;
mod run;
mod seed;
mod settings;
mod shape;
mod store;
#[cfg(test)]
mod tests;

/// The hidden subcommand of the binary that is the stand-in agent.
pub const VERB: &str = "stand-in-agent";

pub use command::main;
pub use error::StandinError;
pub use install::install;
pub use seed::{PendingCall, Seed, seed_session};
