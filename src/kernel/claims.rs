//! Which addresses are ours: by the tag that they bear, or, on kernels before 5.18, by a file.
//!
//! Shared by the worker (writes) and the monitor (reads). The file is written only where the kernel
//! keeps no tag, so that a claim does no file I/O on a current kernel.

use super::OUR_TAG;
use super::address::Seen;
use crate::sys::file;
use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// File name in the runtime folder: one "index address" a line.
const FILE: &str = "claims";

/// The record of what this host's agent has put on.
#[derive(Debug)]
pub struct Claims {
    file: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Does the kernel keep `IFA_PROTO`? Unknown until an address tells.
    tags: Option<bool>,
    placed: HashSet<(u32, IpAddr)>,
}

impl Claims {
    /// Reads what an earlier agent left in `runtime_dir`; a missing file is an empty record.
    pub fn open(runtime_dir: &Path) -> Self {
        let file = Self::file(runtime_dir);
        let placed: HashSet<_> =
            fs::read_to_string(&file).unwrap_or_default().lines().filter_map(entry).collect();
        // Only a kernel without tags ever made this file.
        let tags = (!placed.is_empty()).then_some(false);
        Self { file, inner: Mutex::new(Inner { tags, placed }) }
    }

    /// Where the record is kept on kernels without tags.
    pub(super) fn file(runtime_dir: &Path) -> PathBuf {
        runtime_dir.join(FILE)
    }

    /// Is this address ours?
    pub(super) fn ours(&self, seen: &Seen) -> bool {
        let mut inner = self.lock();
        if seen.tag.is_some() {
            inner.tags = Some(true);
        }
        match inner.tags {
            Some(true) => seen.tag == Some(OUR_TAG),
            _ => inner.placed.contains(&(seen.index, seen.addr)),
        }
    }

    /// Is it still unknown whether the kernel keeps tags?
    pub(super) fn undecided(&self) -> bool {
        self.lock().tags.is_none()
    }

    /// An address that we had just put on came back without a tag.
    pub(super) fn kernel_keeps_no_tags(&self) {
        let mut inner = self.lock();
        inner.tags = Some(false);
        self.save(&inner);
    }

    pub(super) fn put_on(&self, entries: impl Iterator<Item = (u32, IpAddr)>) {
        let mut inner = self.lock();
        inner.placed.extend(entries);
        self.save(&inner);
    }

    pub(super) fn took_off(&self, entries: impl Iterator<Item = (u32, IpAddr)>) {
        let mut inner = self.lock();
        for e in entries {
            inner.placed.remove(&e);
        }
        self.save(&inner);
    }

    fn save(&self, inner: &Inner) {
        if inner.tags != Some(false) {
            return;
        }
        let text: String = inner.placed.iter().map(|(i, a)| format!("{i} {a}\n")).collect();
        // A record that cannot be written costs the tidiness after a crash, not the address now.
        let _unsaved = file::replace(&self.file, text);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entry(line: &str) -> Option<(u32, IpAddr)> {
    let (index, addr) = line.split_once(' ')?;
    Some((index.parse().ok()?, addr.parse().ok()?))
}
