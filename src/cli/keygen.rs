//! `vipd keygen`: a key that no other user can read.

use super::{Exit, Failure, say};
use crate::runtime::keys::service_user;
use clap::Args;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
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
    // create_new is O_EXCL: a key in use is never replaced, and a symbolic link is not followed.
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.file).map_err(|e| {
            match e.kind() {
                ErrorKind::AlreadyExists => Failure::new(
                    Exit::Refused,
                    format!("{path} exists; a key is never overwritten: remove it first, or name another file"),
                ),
                ErrorKind::NotFound => {
                    Failure::new(Exit::Failed, format!("{path}: the folder does not exist: create it first"))
                }
                ErrorKind::PermissionDenied => {
                    Failure::new(Exit::Permission, format!("{path}: {e}: run as root"))
                }
                _ => Failure::new(Exit::Failed, format!("{path}: {e}")),
            }
        })?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| {
        Failure::new(Exit::Failed, format!("{path}: {e}; remove the incomplete file"))
    })?;
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
