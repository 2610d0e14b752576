//! The opencode plugin: the tool `remote_login` in a model's hands.
//!
//! The main type is [`Plugin`]: one TypeScript file, embedded in the binary and stamped with its version and place
//! when it is installed. The tool runs `handover send` and nothing else, so this module knows only where opencode
//! looks for plugins. The invariant: a file that is not ours is never written over and never removed.

mod error;
mod file;
mod install;

pub use error::PluginError;
pub use file::Plugin;
pub use install::{Installed, Removed, Scope, competitors, uninstall};
