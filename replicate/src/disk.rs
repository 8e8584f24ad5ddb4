//! Folders that are open, and names below them: every call that touches a root goes through here.
//!
//! A name is resolved by the kernel below its folder and never through a link, into another file system or out of the
//! folder (openat2), so nothing that somebody swaps in meanwhile leads elsewhere; whether a folder that is kept open was moved away
//! is looked at after some names ([`Near`]). Must never follow a link, and never change anything without a failpoint before and after.

use crate::fail;
use rustix::fs::{self, Advice, AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// An open folder.
#[derive(Debug)]
pub(crate) struct Dir(OwnedFd);

/// What is at a name; links are not followed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) what: What,
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) size: u64,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime_ns: i64,
    pub(crate) ctime_ns: i64,
}

/// Kinds of things at names.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    File,
    Folder,
    Link,
    /// Device, socket, FIFO: its name for people.
    Other(&'static str),
}

/// Below the folder, on its file system, through no link.
fn within() -> ResolveFlags {
    ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV
}

impl Seen {
    fn new(stat: &fs::Stat) -> Self {
        let ns = |s: i64, ns: u64| {
            s.saturating_mul(1_000_000_000).saturating_add(i64::try_from(ns).unwrap_or(0))
        };
        let mode = stat.st_mode;
        Self {
            what: match FileType::from_raw_mode(mode) {
                FileType::RegularFile => What::File,
                FileType::Directory => What::Folder,
                FileType::Symlink => What::Link,
                FileType::Fifo => What::Other("FIFO"),
                FileType::Socket => What::Other("socket"),
                _ => What::Other("device"),
            },
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime_ns: ns(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: ns(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Of an open file.
    pub(crate) fn of(file: impl AsFd) -> io::Result<Self> {
        Ok(Self::new(&fs::fstat(file)?))
    }

    /// The same file with the same content, as far as the kernel tells.
    pub(crate) fn same(&self, other: &Self) -> bool {
        (self.what, self.dev, self.ino, self.size, self.mtime_ns, self.ctime_ns)
            == (other.what, other.dev, other.ino, other.size, other.mtime_ns, other.ctime_ns)
    }
}

/// The folder that holds a name: the one that was asked, or one below it that was opened for this.
enum Holder<'d> {
    Here(BorrowedFd<'d>),
    Below(OwnedFd),
}

impl AsFd for Holder<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Here(fd) => *fd,
            Self::Below(fd) => fd.as_fd(),
        }
    }
}

/// The folder of a name, and its last component.
fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((parent.unwrap_or_else(|| Path::new(".")), name))
}

impl Dir {
    /// An absolute name that the configuration gives: links on the way are the operator's, the last component is none.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(Self(fs::open(path, flags, Mode::empty())?))
    }

    /// A folder that holds a root: links are the operator's.
    pub(crate) fn open_configured(path: &Path) -> io::Result<Self> {
        Ok(Self(fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    fn open_below(&self, path: &Path, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        loop {
            // EAGAIN: something was renamed while the kernel walked; it asks for another try.
            match fs::openat2(&self.0, path, flags, mode, within()) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return done,
            }
        }
    }

    /// The folder at `path`.
    pub(crate) fn at(&self, path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self(self.open_below(path.as_ref(), OFlags::DIRECTORY, Mode::empty())?))
    }

    /// What holds `path`, and the last component.
    fn holder<'d, 'p>(
        &'d self,
        path: &'p Path,
        flags: OFlags,
    ) -> io::Result<(Holder<'d>, &'p OsStr)> {
        let (parent, name) = split(path)?;
        if parent == Path::new(".") {
            return Ok((Holder::Here(self.0.as_fd()), name));
        }
        let flags = OFlags::DIRECTORY | flags;
        Ok((Holder::Below(self.open_below(parent, flags, Mode::empty())?), name))
    }

    /// The folder that holds `path`, and the last component.
    pub(crate) fn parent<'p>(&self, path: &'p Path) -> io::Result<(Self, &'p OsStr)> {
        let (parent, name) = split(path)?;
        Ok((self.at(parent)?, name))
    }

    /// A regular file, for reading.
    pub(crate) fn file(&self, path: impl AsRef<Path>) -> io::Result<File> {
        // A FIFO that was swapped in must not hold us.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(self.open_below(path.as_ref(), flags, Mode::empty())?);
        match Seen::of(&file)?.what {
            What::File => Ok(file),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file any more")),
        }
    }

    /// What is at `path`; `None`: nothing, or something on the way there is no folder.
    pub(crate) fn see(&self, path: impl AsRef<Path>) -> io::Result<Option<Seen>> {
        let (parent, name) = match self.holder(path.as_ref(), OFlags::PATH) {
            Ok(found) => found,
            Err(error) if is_nowhere(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        see_at(parent.as_fd(), name)
    }

    /// What is at `name` right in this folder.
    pub(crate) fn see_here(&self, name: &OsStr) -> io::Result<Option<Seen>> {
        see_at(self.0.as_fd(), name)
    }

    /// Where the link at `path` points.
    pub(crate) fn link_target(&self, path: &Path) -> io::Result<Vec<u8>> {
        let (parent, name) = self.holder(path, OFlags::empty())?;
        Ok(fs::readlinkat(&parent, name, Vec::new())?.into_bytes())
    }

    /// Names in this folder, without `.` and `..`, in the order of the disk.
    pub(crate) fn list(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        Ok(names)
    }

    /// A new file of our own, empty, in the place of one that may be there.
    pub(crate) fn create(&self, path: impl AsRef<Path>) -> io::Result<File> {
        fail::point("create")?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC;
        let file = self.open_below(path.as_ref(), flags, Mode::from_raw_mode(0o600))?;
        fail::point("created")?;
        Ok(file.into())
    }

    /// A file of our own that grows at its end.
    pub(crate) fn append(&self, path: impl AsRef<Path>) -> io::Result<File> {
        fail::point("append")?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
        Ok(self.open_below(path.as_ref(), flags, Mode::from_raw_mode(0o600))?.into())
    }

    /// A folder, with those on the way; mode 0700. What is there stays.
    pub(crate) fn make(&self, path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        match self.at(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
        let (parent, name) = split(path)?;
        let parent = if parent == Path::new(".") { self.at(".")? } else { self.make(parent)? };
        parent.make_here(name)?;
        parent.at(Path::new(name))
    }

    /// A folder right in this one; mode 0700. One that is there stays.
    pub(crate) fn make_here(&self, name: &OsStr) -> io::Result<()> {
        fail::point("mkdir")?;
        match fs::mkdirat(&self.0, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => fail::point("mkdir done"),
            Err(error) => Err(error.into()),
        }
    }

    /// A link at `path`.
    pub(crate) fn symlink(&self, path: &Path, target: &OsStr) -> io::Result<()> {
        fail::point("symlink")?;
        let (parent, name) = self.holder(path, OFlags::empty())?;
        fs::symlinkat(target, &parent, name)?;
        fail::point("symlink done")
    }

    /// `from` becomes `to` in `target`, in the place of what is there, at once.
    pub(crate) fn rename(&self, from: &Path, target: &Self, to: &Path) -> io::Result<()> {
        self.rename_with(from, target, to, RenameFlags::empty())
    }

    /// As [`Dir::rename`]; an error if something is at `to`.
    pub(crate) fn rename_new(&self, from: &Path, target: &Self, to: &Path) -> io::Result<()> {
        self.rename_with(from, target, to, RenameFlags::NOREPLACE)
    }

    /// `from` and `to` change places, at once.
    pub(crate) fn exchange(&self, from: &Path, target: &Self, to: &Path) -> io::Result<()> {
        self.rename_with(from, target, to, RenameFlags::EXCHANGE)
    }

    fn rename_with(
        &self,
        from: &Path,
        target: &Self,
        to: &Path,
        flags: RenameFlags,
    ) -> io::Result<()> {
        fail::point("rename")?;
        let (from_dir, from) = self.holder(from, OFlags::empty())?;
        let (to_dir, to) = target.holder(to, OFlags::empty())?;
        fs::renameat_with(&from_dir, from, &to_dir, to, flags)?;
        fail::point("rename done")
    }

    /// A second name for the file or link at `from`.
    pub(crate) fn link(&self, from: &Path, target: &Self, to: &Path) -> io::Result<()> {
        fail::point("link")?;
        let (from_dir, from) = self.holder(from, OFlags::empty())?;
        let (to_dir, to) = target.holder(to, OFlags::empty())?;
        fs::linkat(&from_dir, from, &to_dir, to, AtFlags::empty())?;
        fail::point("link done")
    }

    /// Removes a name that is no folder; nothing there is no error.
    pub(crate) fn unlink(&self, path: &Path) -> io::Result<()> {
        self.remove(path, AtFlags::empty())
    }

    /// Removes an empty folder; nothing there is no error.
    pub(crate) fn rmdir(&self, path: &Path) -> io::Result<()> {
        self.remove(path, AtFlags::REMOVEDIR)
    }

    fn remove(&self, path: &Path, flags: AtFlags) -> io::Result<()> {
        fail::point("remove")?;
        let (parent, name) = match self.holder(path, OFlags::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => done?,
        };
        match fs::unlinkat(&parent, name, flags) {
            Ok(()) | Err(Errno::NOENT) => fail::point("remove done"),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what is at `path` with all that is below; for our own folders.
    pub(crate) fn remove_tree(&self, path: &Path) -> io::Result<()> {
        match self.see(path)?.map(|seen| seen.what) {
            None => Ok(()),
            Some(What::Folder) => {
                for name in self.at(path)?.list()? {
                    self.remove_tree(&path.join(name))?;
                }
                self.rmdir(path)
            }
            Some(_) => self.unlink(path),
        }
    }

    /// The names in this folder are on the disk when this returns.
    pub(crate) fn sync(&self) -> io::Result<()> {
        fail::point("fsync folder")?;
        fs::fsync(&self.0)?;
        fail::point("fsync folder done")
    }

    /// Everything of this file system is on the disk when this returns.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        fail::point("syncfs")?;
        fs::syncfs(&self.0)?;
        fail::point("syncfs done")
    }

    /// Octets that may still be written here.
    pub(crate) fn free(&self) -> io::Result<u64> {
        let stat = fs::fstatvfs(&self.0)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// What this folder is itself.
    pub(crate) fn seen(&self) -> io::Result<Seen> {
        Seen::of(&self.0)
    }

    /// A file system is mounted right here.
    pub(crate) fn is_mount(&self) -> io::Result<bool> {
        let mask = fs::StatxFlags::BASIC_STATS;
        let stat = fs::statx(&self.0, "", AtFlags::EMPTY_PATH, mask)?;
        Ok(stat.stx_attributes.contains(fs::StatxAttributes::MOUNT_ROOT))
    }

    /// Owner of a link in this folder; links have no mode of their own.
    pub(crate) fn own_link(&self, path: &Path, uid: u32, gid: u32) -> io::Result<()> {
        let (parent, name) = self.holder(path, OFlags::empty())?;
        let (uid, gid) = (fs::Uid::from_raw(uid), fs::Gid::from_raw(gid));
        Ok(fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

/// The folder of the name that was asked for last, kept open: of many names in one folder the way there is walked once for some.
///
/// Somebody may move the folder away meanwhile: that shows when it is left, at the latest after so many names, and is an error.
#[derive(Debug, Default)]
pub(crate) struct Near(Option<Held>);

/// Names for which a folder is kept open.
const NEAR: u32 = 64;

#[derive(Debug)]
struct Held {
    path: PathBuf,
    dir: Dir,
    names: u32,
}

impl Near {
    /// The folder that holds `path` below `top`, and the last component.
    pub(crate) fn holder<'p>(
        &mut self,
        top: &Dir,
        path: &'p Path,
    ) -> io::Result<(&Dir, &'p OsStr)> {
        let (parent, name) = split(path)?;
        if self.0.as_ref().is_some_and(|held| held.path != parent || held.names == NEAR) {
            self.leave(top)?;
        }
        let held = match self.0.take() {
            Some(held) => held,
            None => Held { path: parent.to_path_buf(), dir: top.at(parent)?, names: 0 },
        };
        let held = self.0.insert(Held { names: held.names + 1, ..held });
        Ok((&held.dir, name))
    }

    /// What is at `path` below `top`, as [`Dir::see`] tells it.
    pub(crate) fn see(&mut self, top: &Dir, path: &Path) -> io::Result<Option<Seen>> {
        match self.holder(top, path) {
            Ok((dir, name)) => dir.see_here(name),
            Err(error) if is_nowhere(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives the folder up.
    ///
    /// # Errors
    /// It is not where it was: what was done in it is elsewhere.
    pub(crate) fn leave(&mut self, top: &Dir) -> io::Result<()> {
        let Some(Held { path, dir, .. }) = self.0.take() else { return Ok(()) };
        let was = dir.seen()?;
        match top.at(&path).and_then(|now| now.seen()) {
            Ok(now) if (now.dev, now.ino) == (was.dev, was.ino) => Ok(()),
            Err(error) if !is_nowhere(&error) => Err(error),
            _ => {
                let text = format!("{}: somebody moved this folder away", path.display());
                Err(io::Error::new(io::ErrorKind::NotFound, text))
            }
        }
    }
}

/// A folder on the way to a name is not there, or is none.
fn is_nowhere(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

fn see_at(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Seen>> {
    match fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Seen::new(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What was written to `place` of `file` starts its way to the disk; whether it gets there, [`sync_file`] or [`Dir::sync_all`] tells.
pub(crate) fn start_writing(file: &File, place: Range<u64>) {
    let length = place.end.saturating_sub(place.start);
    // Linux begins to write what is dirty there, without waiting, before it looks whether it could forget what is clean. Where it
    // does not, syncing takes longer, and nothing else.
    if let Some(length) = NonZeroU64::new(length) {
        let _ = fs::fadvise(file, place.start, Some(length), Advice::DontNeed);
    }
}

/// The content of `file` is on the disk when this returns.
pub(crate) fn sync_file(file: &File) -> io::Result<()> {
    fail::point("fsync")?;
    file.sync_all()?;
    fail::point("fsync done")
}
