//! `vipd-replicate`: keeps the state files of standbys in step. Parses the command line; the rest is in `service`.

mod service;

use clap::Parser;
use service::{Options, ServiceError};
use std::path::PathBuf;
use std::process::ExitCode;

/// Keeps the state files of vipd's standbys in step: the owner of an address pushes, all others mirror.
#[derive(Debug, Parser)]
#[command(name = "vipd-replicate", version, about, max_term_width = 100)]
struct Args {
    /// Configuration file, the same on every host
    #[arg(long, value_name = "FILE", default_value = "/etc/vipd/vipd.toml")]
    config: PathBuf,
    /// Which host of the configuration this is [default: the hostname]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Folder of the agent's control socket; replica.sock is made there
    #[arg(long, value_name = "DIR", default_value = "/run/vipd")]
    runtime_dir: PathBuf,
    /// Folder of what must survive a restart of the machine
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vipd")]
    state_dir: PathBuf,
}

fn main() -> ExitCode {
    let Args { config, host, runtime_dir, state_dir } = Args::parse();
    let Some(host) = host.or_else(hostname) else {
        eprintln!("vipd-replicate: the hostname cannot be read or is not UTF-8; give --host NAME");
        return ExitCode::from(2);
    };
    match service::run(&Options { config, host, runtime_dir, state_dir }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vipd-replicate: {error}");
            // The codes of `vipd`: no restart mends a configuration.
            ExitCode::from(match error {
                ServiceError::Config(_) | ServiceError::Key(_) | ServiceError::NoKey => 3,
                ServiceError::Io { .. } => 1,
            })
        }
    }
}

fn hostname() -> Option<String> {
    // By uname(2): the unit hides /proc/sys.
    let name = rustix::system::uname();
    name.nodename().to_str().ok().map(str::to_owned)
}
