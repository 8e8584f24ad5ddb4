//! `vipd keygen`: a key that no other user can read.

use super::create::create;
use super::{Exit, Failure, say};
use crate::runtime::keys::service_user;
use clap::Args;
use std::path::PathBuf;

/// Octets of a key: the length of the hash behind it.
const KEY_OCTETS: usize = 32;

#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// File to create, readable by its owner alone; an existing file is never touched
    #[arg(value_name = "FILE", default_value = "/etc/vipd/cluster.key")]
    file: PathBuf,
}

pub(super) fn run(args: &KeygenArgs) -> Result<Exit, Failure> {
    let mut key = [0; KEY_OCTETS];
    getrandom::fill(&mut key).map_err(|e| {
        Failure::new(Exit::Failed, format!("the kernel gave no random octets: {e}"))
    })?;
    let mut text: String = key.iter().map(|octet| format!("{octet:02x}")).collect();
    text.push('\n');

    let path = args.file.display();
    let file = create(&args.file, &text, 0o600)?;
    say(format_args!(
        "{path}: new key; copy it to every host of the group, with this owner and mode"
    ));
    // The agent of the shipped unit is not root.
    if let Some(user) = service_user().filter(|_| nix::unistd::geteuid().is_root()) {
        nix::unistd::fchown(&file, Some(user), None).map_err(|e| {
            Failure::new(Exit::Failed, format!("{path}: {e}; run: chown vipd {path}"))
        })?;
        say(format_args!("{path}: given to the user vipd, which runs the agent under systemd"));
    }
    Ok(Exit::Done)
}
