//! What belongs to a file beside its content: owner, mode, time, extended attributes.
//!
//! Used by the scanner (reading) and by stage and apply (writing). Never gives a file set-user-id bits or capabilities unless
//! the set keeps them.

use crate::disk::{Dir, Seen, What};
use crate::fail;
use crate::manifest::{Entry, Kind};
use rustix::fs::{self, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use vipd_core::config::model::Replicate;

/// Set-user-id and set-group-id.
pub(crate) const SETUID: u32 = 0o6000;
/// Extended attributes of one file, names and values together; more than any file system here holds in one.
const MAX_XATTRS: usize = 256 * 1024;

/// Name and value.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// The mode that a set keeps of `seen`.
pub(crate) fn kept_mode(seen: &Seen, config: &Replicate) -> u32 {
    match seen.what {
        What::Link => 0o777,
        // On folders the bit only says which group new files get.
        What::File if !config.setuid => seen.mode & !SETUID,
        _ => seen.mode,
    }
}

/// Attributes that a set may carry: the user's, and access lists; capabilities are as set-user-id bits.
pub(crate) fn carried(name: &[u8], config: &Replicate) -> bool {
    name.starts_with(b"user.")
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
        || (config.setuid && name == b"security.capability")
}

/// The attributes of an open file or folder, sorted by name; none unless the set keeps them.
pub(crate) fn read_xattrs(file: impl AsFd, config: &Replicate) -> io::Result<Xattrs> {
    if !config.xattrs {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for name in list_xattrs(file.as_fd())? {
        if !carried(&name, config) {
            continue;
        }
        let mut value = vec![0; MAX_XATTRS];
        match fs::fgetxattr(&file, OsStr::from_bytes(&name), value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                value.shrink_to_fit();
                found.push((name, value));
            }
            // Removed meanwhile: the change of the file's ctime tells.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.sort();
    Ok(found)
}

fn list_xattrs(file: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = vec![0_u8; 65536];
    match fs::flistxattr(file, names.as_mut_slice()) {
        Ok(length) => {
            let names = names.get(..length).unwrap_or_default();
            Ok(names.split(|b| *b == 0).filter(|n| !n.is_empty()).map(<[u8]>::to_vec).collect())
        }
        // A file system without attributes has none.
        Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Gives an open file or folder what `entry` says of it, its time last.
pub(crate) fn apply(file: impl AsFd, entry: &Entry, config: &Replicate) -> io::Result<()> {
    fail::point("metadata")?;
    let seen = Seen::of(&file)?;
    if (seen.uid, seen.gid) != (entry.uid, entry.gid) {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        fs::fchown(&file, Some(uid), Some(gid)).map_err(|error| needs(error, "CAP_CHOWN"))?;
    }
    if config.xattrs {
        apply_xattrs(file.as_fd(), &entry.xattrs, config)?;
    }
    // After the owner and the access list, which both change it.
    let mode = Mode::from_raw_mode(entry.mode & 0o7777);
    fs::fchmod(&file, mode).map_err(|error| needs(error, "CAP_FOWNER"))?;
    if let Kind::File { .. } = entry.kind {
        let second = 1_000_000_000;
        let time = Timespec {
            tv_sec: entry.mtime_ns.div_euclid(second),
            tv_nsec: entry.mtime_ns.rem_euclid(second),
        };
        fs::futimens(&file, &Timestamps { last_access: time, last_modification: time })?;
    }
    fail::point("metadata done")
}

fn needs(error: Errno, capability: &str) -> io::Error {
    if error == Errno::PERM {
        let text = format!("owner and mode cannot be set: the replicator needs {capability}");
        return io::Error::new(io::ErrorKind::PermissionDenied, text);
    }
    error.into()
}

fn apply_xattrs(file: impl AsFd, wanted: &Xattrs, config: &Replicate) -> io::Result<()> {
    for name in list_xattrs(file.as_fd())? {
        if carried(&name, config) && !wanted.iter().any(|(wanted, _)| *wanted == name) {
            match fs::fremovexattr(&file, OsStr::from_bytes(&name)) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    for (name, value) in wanted {
        let name = OsStr::from_bytes(name);
        fs::fsetxattr(&file, name, value, XattrFlags::empty()).map_err(|error| {
            let text = format!("attribute {}: {}", name.display(), io::Error::from(error));
            io::Error::new(io::Error::from(error).kind(), text)
        })?;
    }
    Ok(())
}

/// Opens the file or folder at `path` and applies `entry` to it; for links their owner only.
pub(crate) fn apply_at(
    root: &Dir,
    path: &Path,
    entry: &Entry,
    config: &Replicate,
) -> io::Result<()> {
    match entry.kind {
        Kind::File { .. } => apply(root.file(path)?, entry, config),
        Kind::Folder => apply(root.at(path)?, entry, config),
        Kind::Link { .. } => root.own_link(path, entry.uid, entry.gid),
    }
}

/// Gives the folder `to` owner and mode of the folder `from`.
pub(crate) fn like(from: &Dir, to: &Dir) -> io::Result<()> {
    fail::point("metadata")?;
    let (seen, now) = (from.seen()?, to.seen()?);
    if (seen.uid, seen.gid) != (now.uid, now.gid) {
        fs::fchown(to, Some(Uid::from_raw(seen.uid)), Some(Gid::from_raw(seen.gid)))?;
    }
    fs::fchmod(to, Mode::from_raw_mode(seen.mode))?;
    fail::point("metadata done")
}
