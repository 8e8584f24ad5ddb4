//! Could somebody else have changed this program? Then it is not started.
//!
//! Called by `vipd exec` before each start and for the configuration file itself. Every folder on the way is looked
//! at, through symbolic links: who can write one of them decides what is started.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Symbolic links followed, as the kernel does.
const HOPS: usize = 40;

/// Why a program is not started.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsafe {
    /// Not there, not readable.
    #[error("{path}: {error}", path = .path.display())]
    Unreadable {
        /// Where on the way.
        path: PathBuf,
        /// The kernel's words.
        error: io::Error,
    },
    /// Others may write it.
    #[error("{path} can be written by others (mode {mode:04o}): chmod go-w {path}", path = .path.display())]
    Writable {
        /// Which one.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Somebody else's.
    #[error("{path} belongs to user {owner}: chown -h root {path}", path = .path.display())]
    Owner {
        /// Which one.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// A folder, a device.
    #[error("{} is not a file", .0.display())]
    NotAFile(PathBuf),
    /// Links that lead in a circle.
    #[error("{}: too many symbolic links", .0.display())]
    Circle(PathBuf),
}

/// Checks that `path` and every folder above it belong to root or one of `trusted`, and that nobody else may write them.
/// In a folder where only owners may rename (sticky, `/tmp`), what is below is protected by its own owner.
pub(super) fn verify(path: &Path, trusted: &[u32]) -> Result<(), Unsafe> {
    let mut rest: VecDeque<OsString> = parts(path);
    let mut at = PathBuf::from("/");
    check(&at, trusted)?;
    let mut hops = 0;
    while let Some(part) = rest.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        let unreadable = |error| Unsafe::Unreadable { path: next.clone(), error };
        let meta = fs::symlink_metadata(&next).map_err(unreadable)?;
        if meta.is_symlink() {
            // In a sticky folder its owner may let it point elsewhere.
            owned(&next, &meta, trusted)?;
            hops += 1;
            if hops > HOPS {
                return Err(Unsafe::Circle(path.to_owned()));
            }
            let target = fs::read_link(&next).map_err(unreadable)?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for part in parts(&target).into_iter().rev() {
                rest.push_front(part);
            }
        } else {
            check(&next, trusted)?;
            at = next;
        }
    }
    if at.is_file() { Ok(()) } else { Err(Unsafe::NotAFile(at)) }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let kept = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    kept.collect()
}

/// Who owns `/`: root, and in a user namespace whoever stands for it there.
fn machine_root() -> u32 {
    fs::metadata("/").map_or(0, |meta| meta.uid())
}

fn check(path: &Path, trusted: &[u32]) -> Result<(), Unsafe> {
    let meta = fs::symlink_metadata(path)
        .map_err(|error| Unsafe::Unreadable { path: path.to_owned(), error })?;
    owned(path, &meta, trusted)?;
    let mode = meta.mode() & 0o7777;
    // The group root is root.
    let others = if meta.gid() == 0 { 0o002 } else { 0o022 };
    let sticky = meta.is_dir() && mode & 0o1000 != 0;
    if mode & others != 0 && !sticky {
        return Err(Unsafe::Writable { path: path.to_owned(), mode });
    }
    Ok(())
}

fn owned(path: &Path, meta: &fs::Metadata, trusted: &[u32]) -> Result<(), Unsafe> {
    let owner = meta.uid();
    if owner == 0 || owner == machine_root() || trusted.contains(&owner) {
        return Ok(());
    }
    Err(Unsafe::Owner { path: path.to_owned(), owner })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn refuses_what_others_can_change_on_any_way_to_it() {
        let me = [nix::unistd::geteuid().as_raw()];
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        let inner = dir.join("a/b");
        fs::create_dir_all(&inner).unwrap();
        for folder in [dir, &dir.join("a"), &inner] {
            mode(folder, 0o755);
        }
        let program = inner.join("hook");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        mode(&program, 0o755);
        verify(&program, &me).unwrap();

        mode(&program, 0o757);
        let said = verify(&program, &me).unwrap_err().to_string();
        assert!(said.contains("hook") && said.contains("chmod go-w"), "{said}");
        mode(&program, 0o755);

        mode(&dir.join("a"), 0o777);
        assert!(matches!(verify(&program, &me), Err(Unsafe::Writable { .. })));
        // By way of a link from a safe folder as well.
        symlink(&program, dir.join("link")).unwrap();
        assert!(matches!(verify(&dir.join("link"), &me), Err(Unsafe::Writable { .. })));
        mode(&dir.join("a"), 0o755);
        verify(&dir.join("link"), &me).unwrap();

        symlink("loop", dir.join("loop")).unwrap();
        assert!(matches!(verify(&dir.join("loop"), &me), Err(Unsafe::Circle(_))));
        assert!(matches!(verify(&inner, &me), Err(Unsafe::NotAFile(_))));
        assert!(matches!(verify(&dir.join("none"), &me), Err(Unsafe::Unreadable { .. })));
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&program, Some(4711), None).unwrap();
            assert!(matches!(verify(&program, &me), Err(Unsafe::Owner { owner: 4711, .. })));
            verify(&program, &[4711]).unwrap();
            std::os::unix::fs::chown(&program, Some(0), None).unwrap();
            // In a folder like `/tmp` a link to a good program is its owner's to change.
            mode(dir, 0o1777);
            std::os::unix::fs::lchown(dir.join("link"), Some(4711), None).unwrap();
            assert!(matches!(
                verify(&dir.join("link"), &me),
                Err(Unsafe::Owner { owner: 4711, .. })
            ));
            verify(&dir.join("link"), &[4711]).unwrap();
        }
    }
}
