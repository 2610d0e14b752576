//! What the tests against real programs share.
//!
//! Only what every such test binary uses is a module here; the rest (`provider`, `opencode`, `remote`, `trip`, `compose`)
//! is taken in by path where it is needed, so that nothing lies unused in a binary.

pub(crate) mod client;
