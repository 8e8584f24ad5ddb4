//! try
use clap::Parser;
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    lab: vipd::lab::LabArgs,
}
fn main() -> anyhow::Result<std::process::ExitCode> {
    vipd::lab::run(&Cli::parse().lab)
}
