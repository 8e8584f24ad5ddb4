//! Entries of files with their hashes: what a scan has to read, several files at once.
//!
//! Called by scans only. What changes while it is read is read again; must never make an entry of two versions of a file.

use crate::clock;
use crate::disk::{Dir, Seen};
use crate::halt::{Look, halted};
use crate::hashing;
use crate::manifest::{Entry, Hash, Kind};
use crate::meta;
use crate::path::RelPath;
use crate::scan;
use crate::segment::Layout;
use crate::tree::Mark;
use std::ffi::OsString;
use std::io;
use vipd_core::config::model::Replicate;

/// Read again so often when a file changed while it was read.
const TRIES: u32 = 3;

/// A file that has to be read.
#[derive(Debug)]
pub(crate) struct Unread {
    /// In its folder.
    pub(crate) name: OsString,
    pub(crate) path: RelPath,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) enum Reading {
    /// Vanished, or became something else, since its folder was listed.
    #[default]
    Gone,
    /// Its entry, and of a large file the values of its segments.
    Done(Box<(Entry, Mark, Vec<Hash>)>),
    /// It kept changing.
    Changing,
    Failed(io::Error),
}

/// Reads `files`, all in `dir`; ends early when `look` says so.
pub(crate) fn read(
    config: &Replicate,
    dir: &Dir,
    files: &[Unread],
    look: Look<'_>,
) -> io::Result<Vec<Reading>> {
    if let [file] = files {
        // Of a large one the threads share the segments.
        return Ok(vec![settled(config, dir, file, &mut Vec::new(), look)?]);
    }
    hashing::shared(files.len(), |at, buffer| match files.get(at) {
        Some(file) => settled(config, dir, file, buffer, look),
        None => Ok(Reading::Gone),
    })
}

fn settled(
    config: &Replicate,
    dir: &Dir,
    file: &Unread,
    buffer: &mut Vec<u8>,
    look: Look<'_>,
) -> io::Result<Reading> {
    for _ in 0..TRIES {
        match once(config, dir, file, buffer, look) {
            Ok(Some(done)) => return Ok(Reading::Done(Box::new(done))),
            Ok(None) => {}
            Err(error) if gone(&error) => return Ok(Reading::Gone),
            Err(error) if halted(&error) => return Err(error),
            Err(error) => return Ok(Reading::Failed(error)),
        }
    }
    Ok(Reading::Changing)
}

/// Reads a file once; `None`: it changed meanwhile.
fn once(
    config: &Replicate,
    dir: &Dir,
    Unread { name, path }: &Unread,
    buffer: &mut Vec<u8>,
    look: Look<'_>,
) -> io::Result<Option<(Entry, Mark, Vec<Hash>)>> {
    let mut file = dir.file(name)?;
    let now_ns = clock::stamp_ns();
    let before = Seen::of(&file)?;
    let xattrs = meta::read_xattrs(&file, config)?;
    let mut values = Vec::new();
    let (size, hash) = if !hashing::SHARED.contains(&before.size) {
        hashing::hash(&mut file, buffer, look)?
    } else {
        match hashing::values(&file, before.size, look) {
            Ok(found) => values = found,
            // Shorter than it was.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        (before.size, Layout::of(before.size).whole(&values))
    };
    let after = Seen::of(&file)?;
    if !before.same(&after) || size != after.size {
        return Ok(None);
    }
    let entry = Entry {
        path: path.clone(),
        kind: Kind::File { size, hash },
        mode: meta::kept_mode(&after, config),
        uid: after.uid,
        gid: after.gid,
        mtime_ns: after.mtime_ns,
        xattrs,
    };
    Ok(Some((entry, scan::mark(&after, now_ns), values)))
}

/// Vanished, or became something else, since its folder was listed.
pub(crate) fn gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput
    ) || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}
