//! Entry point of the `handover` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    handover::cli::run(std::env::args_os())
}
