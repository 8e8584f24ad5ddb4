//! Why a set cannot do what it was asked. Every text names the place, and the fix where there is one.

use crate::halt;
use std::io;
use std::path::{Path, PathBuf};

/// What went wrong with a set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file of the replicator is not as it was written. Nothing was changed.
    #[error("{}: {why}; {fix}", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What an operator can do.
        fix: String,
    },
    /// A root is missing, no mount point, or another folder than before: never taken for an empty tree.
    #[error("{0}")]
    Root(String),
    /// The source lost more files than the guard allows: nothing is pushed until `vipd replica ack`.
    #[error("{0}")]
    Guard(String),
    /// Not possible as things stand: wrong role, an old epoch, nothing to acknowledge, no such version.
    #[error("{0}")]
    Refused(String),
    /// Somebody else has the state folder of the set open.
    #[error(
        "{}: another vipd-replicate, or a set of this process that has not ended yet, works with this folder: end it; two \
         must never have one set open",
        .0.display()
    )]
    InUse(PathBuf),
    /// Ended because it was asked to: the set is closed, or this host becomes the owner.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// `source` happened at `path`.
    pub(crate) fn io(path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        if halt::halted(&source) {
            return Self::Interrupted;
        }
        Self::Io { path: path.as_ref().to_path_buf(), source }
    }

    /// One word for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::Corrupt { .. } => "corrupt",
            Self::Root(_) => "root",
            Self::Guard(_) => "guard",
            Self::Refused(_) => "refused",
            Self::InUse(_) => "in-use",
            Self::Interrupted => "interrupted",
        }
    }
}
