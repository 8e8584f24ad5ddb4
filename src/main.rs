//! Parses the command line and dispatches; the rooms are in the library.

use clap::Parser;
use std::process::ExitCode;
use vipd_agent::cli::{self, Args};

fn main() -> ExitCode {
    cli::dispatch(Args::parse())
}
