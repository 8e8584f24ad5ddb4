//! The roots of a set: opened anew for each piece of work, so that one that was unmounted, emptied by `rm -r`, or replaced
//! is noticed before anything in it counts.
//!
//! A root that is not what it was is an error, never an empty tree.

use crate::disk::{self, Dir};
use crate::error::Error;
use crate::path::OWN_FOLDER;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use vipd_core::config::model::Replicate;

/// File in the own folder of a root that tells it from any other.
const ID: &str = "id";

/// A root that is open.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) ix: u16,
    pub(crate) path: PathBuf,
    pub(crate) dir: Dir,
    pub(crate) dev: u64,
}

impl Root {
    /// Opens all roots of a set; `marks` is what identified them when there last was a tree in them.
    pub(crate) fn open_all(
        config: &Replicate,
        marks: &[Option<String>],
    ) -> Result<Vec<Self>, Error> {
        let roots = config.paths.iter().enumerate();
        roots
            .map(|(at, path)| {
                let mark = marks.get(at).and_then(Option::as_deref);
                let ix = u16::try_from(at)
                    .map_err(|_| Error::Refused("more than 65535 roots".to_owned()))?;
                Self::open(config, ix, path, mark)
            })
            .collect()
    }

    fn open(config: &Replicate, ix: u16, path: &Path, mark: Option<&str>) -> Result<Self, Error> {
        let name = path.display();
        let root = |text: String| Error::Root(format!("[replicate.{}] {text}", config.name));
        let dir = Dir::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => root(format!("{name} is missing: mount it, or create it")),
            _ if std::fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink()) => {
                root(format!("{name} is a link: name the folder that it points to"))
            }
            io::ErrorKind::NotADirectory => root(format!("{name} is no folder")),
            _ => Error::io(path, error),
        })?;
        let io = |error| Error::io(path, error);
        if config.require_mount && !dir.is_mount().map_err(io)? {
            return Err(root(format!(
                "{name} is no mount point, though require-mount says so: mount it"
            )));
        }
        let dev = dir.seen().map_err(io)?.dev;
        let opened = Self { ix, path: path.to_path_buf(), dir, dev };
        if let Some(mark) = mark {
            let found = opened.mark().map_err(io)?;
            if found.as_deref() != Some(mark) {
                return Err(root(format!(
                    "{name} is not the folder that it was ({OWN_FOLDER}/{ID} is {}): mount the right file system, \
                     or, if it was replaced on purpose, `vipd replica ack {}`",
                    if found.is_some() { "another" } else { "missing" },
                    config.name,
                )));
            }
        }
        Ok(opened)
    }

    /// What identifies this root, if there ever was a tree in it.
    pub(crate) fn mark(&self) -> io::Result<Option<String>> {
        match self.dir.file(Path::new(OWN_FOLDER).join(ID)) {
            Ok(file) => {
                let mut text = String::new();
                file.take(100).read_to_string(&mut text)?;
                Ok(Some(text.trim_end().to_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// As [`Root::mark`]; one is made where there is none.
    pub(crate) fn marked(&self) -> io::Result<String> {
        if let Some(mark) = self.mark()?.filter(|mark| !mark.is_empty()) {
            return Ok(mark);
        }
        // The standard library seeds its hashers from the kernel's randomness.
        let random = || std::hash::RandomState::new().build_hasher().finish();
        let mark = format!("{:016x}{:016x}", random(), random());
        let own = self.dir.make(OWN_FOLDER)?;
        let fresh = Path::new("id.new");
        let mut file = own.create(fresh)?;
        writeln!(file, "{mark}")?;
        disk::sync_file(&file)?;
        own.rename(fresh, &own, ID.as_ref())?;
        own.sync()?;
        Ok(mark)
    }

    /// As [`Root::own`], where it was made before.
    pub(crate) fn own_if_there(&self, config: &Replicate) -> io::Result<Dir> {
        if config.atomic { Dir::open(&own_beside(&self.path)) } else { self.dir.at(OWN_FOLDER) }
    }

    /// Our own folder: on the same file system as the root, inside of it or, for trees that are swapped, beside it.
    pub(crate) fn own(&self, config: &Replicate) -> io::Result<Dir> {
        if !config.atomic {
            return self.dir.make(OWN_FOLDER);
        }
        let own = own_beside(&self.path);
        let (Some(parent), Some(name)) = (own.parent(), own.file_name()) else {
            return Err(io::Error::other("the root of the file system cannot be swapped"));
        };
        Dir::open_configured(parent)?.make(name)
    }
}

/// Our own folder beside the root `path`, for trees that are swapped.
pub(crate) fn own_beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(format!("{OWN_FOLDER}-"));
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}
