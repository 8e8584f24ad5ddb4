//! Names inside of a set: checked once, so that nothing that came over the network can leave its root.
//!
//! Made by the scanner and by the decoder of manifests; must never hold a name that leads out of its root.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longest name in octets (PATH_MAX of Linux, less the root's share).
pub const MAX_LEN: usize = 4000;
/// Longest component in octets (NAME_MAX of Linux).
pub const MAX_COMPONENT: usize = 255;
/// The replicator's own folder inside of each root: stage, trash, rescue. Never scanned, sent or accepted.
pub const OWN_FOLDER: &str = ".vipd";

/// A name relative to the root of a set: one or more components, separated by single slashes, none of them empty, `.`,
/// `..` or [`OWN_FOLDER`] in the first place, without NUL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath {
    /// Position in the `paths` of the set.
    root: u16,
    name: Box<[u8]>,
}

/// Why octets are no name.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// Nothing, or more than [`MAX_LEN`] octets.
    #[error("a name of {0} octets; 1 to {MAX_LEN} are allowed")]
    Length(usize),
    /// An empty, overlong, `.` or `..` component, or a NUL.
    #[error("a name that may lead out of its root")]
    Component,
    /// In the folder of the replicator itself.
    #[error("a name in the replicator's own folder {OWN_FOLDER}")]
    Own,
}

impl RelPath {
    /// The name `name` below root number `root`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(root: u16, name: &[u8]) -> Result<Self, BadPath> {
        if name.is_empty() || name.len() > MAX_LEN {
            return Err(BadPath::Length(name.len()));
        }
        for (at, part) in name.split(|b| *b == b'/').enumerate() {
            let dots = part == b"." || part == b"..";
            if part.is_empty() || part.len() > MAX_COMPONENT || dots || part.contains(&0) {
                return Err(BadPath::Component);
            }
            if at == 0 && part == OWN_FOLDER.as_bytes() {
                return Err(BadPath::Own);
            }
        }
        Ok(Self { root, name: name.into() })
    }

    /// Position in the `paths` of the set.
    pub const fn root(&self) -> u16 {
        self.root
    }

    /// The octets of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.name
    }

    /// For system calls that take the root as their folder.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.name))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_path().display())
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.root, self.as_path().display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_its_root() {
        for name in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/..", "./a", "a\0b"] {
            assert!(RelPath::new(0, name.as_bytes()).is_err(), "{name:?}");
        }
        assert_eq!(RelPath::new(0, b".vipd/stage/x"), Err(BadPath::Own));
        assert_eq!(RelPath::new(0, &[b'a'; 256]), Err(BadPath::Component));
        assert_eq!(RelPath::new(0, &[b'a'; MAX_LEN + 1]), Err(BadPath::Length(MAX_LEN + 1)));
        for name in ["a", "a/b", "...", "a/.vipd", ".vipd2", "a b", "\u{fc}"] {
            assert!(RelPath::new(1, name.as_bytes()).is_ok(), "{name:?}");
        }
    }
}
