//! `handover man`: the manual pages, made of the same types that read the command line.

use std::path::Path;

use clap::CommandFactory as _;

use super::args::Cli;
use super::{CliError, exit};
use crate::handoff::HandoffError;

/// Writes `handover.1`, `handover-send.1`, ... into a directory.
pub(crate) fn run(directory: &Path) -> Result<u8, CliError> {
    clap_mangen::generate_to(Cli::command(), directory).map_err(|source| {
        HandoffError::LocalFile {
            path: directory.to_owned(),
            source,
        }
    })?;
    Ok(exit::DONE)
}
