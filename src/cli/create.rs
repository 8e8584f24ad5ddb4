//! Files that verbs make for the operator: new ones, never in the place of another.

use super::{Exit, Failure};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Makes `path` with `text` and `mode`, on the disk when it returns. An existing file is never touched, and a symbolic
/// link is not followed.
pub(super) fn create(path: &Path, text: &str, mode: u32) -> Result<File, Failure> {
    let shown = path.display();
    // create_new is O_EXCL.
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => exists(path),
        ErrorKind::NotFound => Failure::new(
            Exit::Failed,
            format!("{shown}: the folder does not exist: create it first"),
        ),
        ErrorKind::PermissionDenied => Failure::new(
            Exit::Permission,
            format!("{shown}: {e}: run as root, or name another file"),
        ),
        _ => Failure::new(Exit::Failed, format!("{shown}: {e}")),
    })?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| {
        Failure::new(Exit::Failed, format!("{shown}: {e}; remove the incomplete file"))
    })?;
    Ok(file)
}

/// Says that a file is there that should be made.
pub(super) fn exists(path: &Path) -> Failure {
    let shown = path.display();
    Failure::new(
        Exit::Refused,
        format!("{shown} exists; nothing is ever overwritten: move it away, or name another file"),
    )
}
