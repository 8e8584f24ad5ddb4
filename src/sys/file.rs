//! Files that somebody else may read at any moment: replaced, never half written. Unix sockets that appear with their
//! mode.
//!
//! Called by the runtime (state folder), the kernel edge (runtime folder) and by who listens. Blocks.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Where the new content grows, beside `path`.
fn fresh(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Replaces `path` by `content`: who reads sees the old or the new. For folders that do not survive the machine.
///
/// # Errors
/// When the folder cannot be written; the old content stays.
pub fn replace(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    let fresh = fresh(path);
    fs::write(&fresh, content)?;
    fs::rename(&fresh, path)
}

/// As [`replace`], with `mode` for a new file, in a folder that is made where it is missing, and on the disk when it
/// returns.
///
/// # Errors
/// When the folder cannot be made or written; the old content stays.
pub fn replace_durably(path: &Path, content: impl AsRef<[u8]>, mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    fs::create_dir_all(folder)?;
    let fresh = fresh(path);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
    file.write_all(content.as_ref())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    // The name is as much a part of the promise as the content.
    File::open(folder)?.sync_all()
}

/// Listens on `path`, in the place of whatever was there. Nobody can connect before the mode is right.
///
/// # Errors
/// When the folder cannot be written.
pub fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let fresh = fresh(path);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    listener.set_nonblocking(true)?;
    fs::set_permissions(&fresh, Permissions::from_mode(mode))?;
    fs::rename(&fresh, path)?;
    Ok(listener)
}
