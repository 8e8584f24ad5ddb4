//! `/proc/sys/net` settings that vipd needs while it holds an address: set, and put back.
//!
//! Called by the worker and by clean-up, on a thread of the right network namespace (`/proc/sys/net`
//! shows the namespace of the reader). What a setting was is on disk before it is changed, so that it
//! is put back after a crash as well. Each setting has users; the last one that leaves restores it.

use crate::sys::file;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use vipd_core::types::InstanceIx;

const ROOT: &str = "/proc/sys/net";
/// File name in the runtime folder: one "path value" a line.
const FILE: &str = "sysctl.saved";

/// Settings in force and what they were before.
#[derive(Debug)]
pub(super) struct Sysctls {
    file: PathBuf,
    /// Path below `/proc/sys/net` -> what it was, who needs it.
    changed: BTreeMap<String, Changed>,
}

#[derive(Debug, Default)]
struct Changed {
    before: String,
    users: BTreeSet<InstanceIx>,
}

impl Sysctls {
    /// With what an earlier agent left changed, which [`Sysctls::restore_all`] puts back.
    pub(super) fn open(runtime_dir: &Path) -> Self {
        let file = runtime_dir.join(FILE);
        let changed = fs::read_to_string(&file)
            .unwrap_or_default()
            .lines()
            .filter_map(|l| l.split_once(' '))
            .filter(|(key, _)| !key.contains(".."))
            .map(|(key, before)| {
                (key.to_owned(), Changed { before: before.to_owned(), users: BTreeSet::new() })
            })
            .collect();
        Self { file, changed }
    }

    /// Current value of `key`.
    pub(super) fn value(key: &str) -> io::Result<String> {
        Ok(fs::read_to_string(Path::new(ROOT).join(key))?.trim().to_owned())
    }

    /// Sets `key` to `value` for as long as `user` holds it; nothing when it has that value already.
    pub(super) fn hold(&mut self, user: InstanceIx, key: &str, value: &str) -> io::Result<()> {
        let before = Self::value(key)?;
        if let Some(known) = self.changed.get_mut(key) {
            known.users.insert(user);
        } else if before == value {
            return Ok(());
        } else {
            let users = BTreeSet::from([user]);
            self.changed.insert(key.to_owned(), Changed { before: before.clone(), users });
            self.save()?;
        }
        if before == value { Ok(()) } else { write(key, value) }
    }

    /// Sets `key` of a device of ours, whose settings vanish with it.
    pub(super) fn set_unsaved(key: &str, value: &str) -> io::Result<()> {
        write(key, value)
    }

    /// Users have other numbers.
    pub(super) fn renumber(&mut self, place: impl Fn(InstanceIx) -> InstanceIx) {
        for changed in self.changed.values_mut() {
            changed.users = changed.users.iter().map(|user| place(*user)).collect();
        }
    }

    /// `user` needs nothing any more; restores what nobody else needs.
    pub(super) fn release(&mut self, user: InstanceIx) {
        let mut left = Vec::new();
        for (key, c) in &mut self.changed {
            if c.users.remove(&user) && c.users.is_empty() {
                left.push(key.clone());
            }
        }
        self.restore(left);
    }

    /// Restores everything; how many.
    pub(super) fn restore_all(&mut self) -> usize {
        let keys: Vec<_> = self.changed.keys().cloned().collect();
        let n = keys.len();
        self.restore(keys);
        n
    }

    fn restore(&mut self, keys: Vec<String>) {
        if keys.is_empty() {
            return;
        }
        // In order: "all" comes first, so that a filter is back in general before it is taken off
        // the single interfaces that stood in for it.
        for key in keys {
            if let Some(c) = self.changed.remove(&key) {
                // The interface may be gone, and its settings with it.
                let _gone = write(&key, &c.before);
            }
        }
        let _unsaved = self.save();
    }

    fn save(&self) -> io::Result<()> {
        if self.changed.is_empty() {
            return match fs::remove_file(&self.file) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            };
        }
        let text: String =
            self.changed.iter().map(|(key, c)| format!("{key} {}\n", c.before)).collect();
        file::replace(&self.file, text)
    }
}

fn write(key: &str, value: &str) -> io::Result<()> {
    fs::write(Path::new(ROOT).join(key), value)
}

/// Names of the interfaces that have IPv4 settings, without `all` and `default`.
pub(super) fn interfaces() -> Vec<String> {
    let Ok(entries) = fs::read_dir(Path::new(ROOT).join("ipv4/conf")) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|n| n != "all" && n != "default")
        .collect()
}
