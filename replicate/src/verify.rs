//! The operator's verbs: is every octet as it should be, which versions are there, and one of them back in its place.
//!
//! Never overwrites anything without keeping it.

use crate::disk::{Dir, What};
use crate::error::Error;
use crate::halt;
use crate::hashing;
use crate::keep::{self, FILES, Keep, Keeper, RESCUE, TRASH};
use crate::manifest::Kind;
use crate::path::RelPath;
use crate::root::Root;
use crate::set::{Verified, Version};
use crate::state::Shared;
use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

impl Shared {
    pub(crate) fn verify(&self, pace: Option<u64>, stop: &AtomicBool) -> Result<Verified, Error> {
        // Without the lock of `work`: this takes long, and a tree that comes meanwhile must not wait. What differs is looked
        // at again in the end.
        let tree = self.state().tree.clone();
        let roots = self.roots()?;
        let (mut verified, mut buffer) = (Verified::default(), Vec::new());
        let started_ms = self.clock.steady_ms();
        for (entry, _) in tree.iter() {
            let Kind::File { size, hash } = entry.kind else { continue };
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let Some(root) = roots.get(usize::from(entry.path.root())) else { continue };
            verified.files += 1;
            verified.bytes += size;
            let look = self.halt.any();
            let read =
                || hashing::hash(&mut root.dir.file(entry.path.as_path())?, &mut buffer, look);
            let other = match { read }() {
                Err(error) if halt::halted(&error) => return Err(Error::Interrupted),
                Ok(found) if found == (size, hash) => None,
                Ok((found, _)) if found != size => {
                    Some(format!("{found} octets instead of {size}"))
                }
                Ok(_) => Some("other content".to_owned()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(other) = other {
                verified.differing.push((entry.path.clone(), other));
            }
            if let Some(pace) = pace.filter(|pace| *pace > 0) {
                let due_ms = verified.bytes.saturating_mul(1000) / pace;
                let spent_ms = self.clock.steady_ms().saturating_sub(started_ms);
                std::thread::sleep(Duration::from_millis(
                    due_ms.saturating_sub(spent_ms).min(1000),
                ));
            }
        }
        let work = self.work();
        let now = self.state().tree.clone();
        verified.differing.retain(|(path, _)| {
            // Of another generation by now.
            let same = now.get(path).map(|(e, _)| &e.kind) == tree.get(path).map(|(e, _)| &e.kind);
            same && !self.changed_since(&roots, path)
        });
        let now_s = self.clock.wall_s();
        self.update(&work, |record| record.verified_s = Some(now_s))?;
        self.count_rescued();
        let mut state = self.state();
        if verified.differing.is_empty() {
            state.clear("verify");
        } else {
            let names: Vec<_> = verified.differing.iter().map(|(path, _)| path).collect();
            let some = crate::state::some_of(&names);
            let text = format!("[replicate.{}] other than the tree says: {some}", self.config.name);
            state.alarm("verify", text);
            if !state.owns {
                let paths = verified.differing.iter().map(|(path, _)| path.clone());
                state.drifted = paths.collect();
            }
        }
        Ok(verified)
    }

    /// As owner: a file that its service changed since the last seal is no fault of the disk.
    fn changed_since(&self, roots: &[Root], path: &RelPath) -> bool {
        let state = self.state();
        let Some((entry, mark)) = state.tree.get(path) else { return true };
        let Some(root) = roots.get(usize::from(path.root())) else { return false };
        let seen = root.dir.see(path.as_path()).ok().flatten();
        state.owns && mark.ctime_ns != 0 && seen.is_some_and(|seen| !mark.proves(entry, &seen))
    }

    pub(crate) fn name(&self, path: &Path) -> Result<RelPath, Error> {
        for (ix, root) in self.config.paths.iter().enumerate() {
            if let Ok(below) = path.strip_prefix(root) {
                let ix = u16::try_from(ix).unwrap_or(u16::MAX);
                return RelPath::new(ix, below.as_os_str().as_bytes())
                    .map_err(|why| Error::Refused(format!("{}: {why}", path.display())));
            }
        }
        let set = &self.config.name;
        Err(Error::Refused(format!("{} is in no root of the set {set}", path.display())))
    }

    fn site(&self, path: &RelPath) -> Result<(Root, Dir), Error> {
        let mut roots = self.roots()?;
        let at = usize::from(path.root());
        if at >= roots.len() {
            return Err(Error::Refused(format!("{path}: no such root")));
        }
        let root = roots.swap_remove(at);
        let own = root.own(&self.config).map_err(|error| Error::io(&root.path, error))?;
        Ok((root, own))
    }

    pub(crate) fn versions(&self, path: &RelPath) -> Result<Vec<Version>, Error> {
        let (root, own) = self.site(path)?;
        let find = || {
            let mut versions = Vec::new();
            for (kind, inside) in [(TRASH, ""), (RESCUE, FILES)] {
                if own.see(kind)?.is_none() {
                    continue;
                }
                let folder = own.at(kind)?;
                for name in keep::generations(&folder)? {
                    let top = Path::new(&name).join(inside);
                    let kept_s = keep::stamp_of(&folder, name.as_ref());
                    find_in(&folder, &top, path, |at, size| {
                        let mut label = format!("{kind}/{}", name.display());
                        label.push_str(at);
                        versions.push(Version { name: label, size, kept_s: kept_s.unwrap_or(0) });
                    })?;
                }
            }
            io::Result::Ok(versions)
        };
        find().map_err(|error| Error::io(&root.path, error))
    }

    pub(crate) fn restore(
        &self,
        path: &RelPath,
        version: &str,
        to: Option<&Path>,
    ) -> Result<PathBuf, Error> {
        let mut work = self.work();
        self.open_still()?;
        // What is replaced goes to the trash.
        work.shelf.forget();
        let (root, own) = self.site(path)?;
        let (name, number) = version.split_once('~').map_or((version, None), |(n, x)| (n, Some(x)));
        let inside = if name.starts_with(RESCUE) { FILES } else { "" };
        let plain = name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        let mut kept = Path::new(name).join(inside).join(path.as_path()).into_os_string();
        if let Some(number) = number {
            kept.push(format!("~{number}"));
        }
        let io = |error| Error::io(&root.path, error);
        let no_such = || {
            let text = format!("no version {version} of {path}: `vipd replica restore` lists them");
            Error::Refused(text)
        };
        if !plain || !(name.starts_with(TRASH) || name.starts_with(RESCUE)) {
            return Err(no_such());
        }
        let seen = own.see(&kept).map_err(io)?.filter(|seen| seen.what != What::Folder);
        let seen = seen.ok_or_else(no_such)?;
        if let Some(to) = to {
            return copy_out(&own, &kept, seen.what, to).map(|()| to.to_path_buf());
        }
        if !self.state().owns {
            let text = format!(
                "{path}: this host is a standby of the set, and the owner's version would replace it: restore it on the owner, \
                 or give another place"
            );
            return Err(Error::Refused(text));
        }
        let at_s = self.clock.wall_s();
        let trash = format!("{}.restored-{at_s}", keep::trash_name(self.state().tree_position()));
        let keeper = Keeper { root: &root, own: &own, trash: &trash, rescue: "" };
        let put = || {
            let fresh = Path::new("restored.new");
            own.unlink(fresh)?;
            copy_kept(&own, &kept, seen.what, fresh)?;
            if let Some(there) = root.dir.see(path.as_path())? {
                keeper.stamp(at_s)?;
                if there.what == What::Folder {
                    keeper.aside((&root.dir, path.as_path()), Keep::Trash, path.as_path())?;
                } else {
                    keeper.link(
                        (&root.dir, path.as_path()),
                        Keep::Trash,
                        path.as_path(),
                        &there,
                    )?;
                }
            }
            if let Some(parent) = path.as_path().parent().filter(|p| !p.as_os_str().is_empty()) {
                root.dir.make(parent)?;
            }
            own.rename(fresh, &root.dir, path.as_path())?;
            root.dir.parent(path.as_path())?.0.sync()
        };
        put().map_err(io)?;
        Ok(root.path.join(path.as_path()))
    }
}

/// Calls `found` for each version of `path` below `top`, with what its name has more.
fn find_in(
    folder: &Dir,
    top: &Path,
    path: &RelPath,
    mut found: impl FnMut(&str, u64),
) -> io::Result<()> {
    for number in 0_u32.. {
        let more = if number == 0 { String::new() } else { format!("~{number}") };
        let mut at: OsString = top.join(path.as_path()).into_os_string();
        at.push(&more);
        match folder.see(&at)? {
            Some(seen) if seen.what != What::Folder => found(&more, seen.size),
            // Something below this name was kept too, and took it.
            Some(_) => {}
            None => break,
        }
    }
    Ok(())
}

/// A version as a new file of the own folder, with owner, mode and time.
fn copy_kept(own: &Dir, kept: &OsString, what: What, fresh: &Path) -> io::Result<()> {
    let seen = own.see(kept)?.ok_or(io::ErrorKind::NotFound)?;
    if what == What::Link {
        let target = own.link_target(kept.as_ref())?;
        own.symlink(fresh, std::ffi::OsStr::from_bytes(&target))?;
        return own.own_link(fresh, seen.uid, seen.gid);
    }
    let mut from = own.file(kept)?;
    let mut to = own.create(fresh)?;
    io::copy(&mut from, &mut to)?;
    std::os::unix::fs::fchown(&to, Some(seen.uid), Some(seen.gid))?;
    to.set_permissions(from.metadata()?.permissions())?;
    crate::disk::sync_file(&to)
}

/// A version as a new file anywhere. Only root may name such a place (the service asks who it is): this process may write
/// everywhere, and reads what its caller may not. Closed to all others until it belongs to whom the kept file belongs.
fn copy_out(own: &Dir, kept: &OsString, what: What, to: &Path) -> Result<(), Error> {
    let copy = || {
        if what == What::Link {
            let target = own.link_target(kept.as_ref())?;
            return std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&target), to);
        }
        let mut from = own.file(kept)?;
        let seen = from.metadata()?;
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(to)?;
        io::copy(&mut from, &mut file)?;
        std::os::unix::fs::fchown(&file, Some(seen.uid()), Some(seen.gid()))?;
        // Never the bits that give the rights of its owner to whoever runs it.
        file.set_permissions(Permissions::from_mode(seen.mode() & 0o777))?;
        file.sync_all()
    };
    copy().map_err(|error| Error::io(to, error))
}
