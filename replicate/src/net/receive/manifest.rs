//! The manifest of an offer, out of what the sender tells: it has to be the one that was offered, to the last bit.

use super::session::hear;
use crate::manifest::{Delta, Entry, Hash, Kind, Manifest};
use crate::net::error::NetError;
use crate::net::link::Channel;
use crate::net::wire::{MAX_MANIFEST_OCTETS, Message, Offered, entry_len};
use crate::path::RelPath;

/// Hears the manifest of `offered`; `base`: the one that this host has, and its root. `None`: the offer builds on another
/// one, all of it was skipped.
pub(super) fn collect(
    channel: &mut dyn Channel,
    offered: &Offered,
    base: (&Manifest, Hash),
) -> Result<Option<Manifest>, NetError> {
    let mut delta = Delta::default();
    let mut octets = 0;
    let wrong = |message, what| Err(NetError::protocol(message, what));
    while delta.put.len() < offered.put as usize {
        match hear(channel)? {
            Message::Entries(entries) if !entries.is_empty() => {
                for entry in entries {
                    octets += entry_len(&entry) as u64;
                    if delta.put.last().is_some_and(|before| before.path >= entry.path) {
                        return wrong("entries", "names out of order");
                    }
                    delta.put.push(entry);
                }
            }
            other => return wrong(other.name(), "entries must come here"),
        }
        if octets > MAX_MANIFEST_OCTETS || delta.put.len() > offered.put as usize {
            return wrong("entries", "more than was announced, or than a set may have");
        }
    }
    while delta.gone.len() < offered.gone as usize {
        match hear(channel)? {
            Message::Gone(paths) if !paths.is_empty() => {
                for path in paths {
                    octets += path.as_bytes().len() as u64;
                    if delta.gone.last().is_some_and(|before: &RelPath| *before >= path) {
                        return wrong("gone", "names out of order");
                    }
                    delta.gone.push(path);
                }
            }
            other => return wrong(other.name(), "names that are gone must come here"),
        }
        if octets > MAX_MANIFEST_OCTETS || delta.gone.len() > offered.gone as usize {
            return wrong("gone", "more than was announced, or than a set may have");
        }
    }
    let manifest = match offered.base {
        None => Manifest::new(delta.put),
        Some(root) if root == base.1 => base.0.with(&delta),
        Some(_) => return Ok(None),
    };
    if manifest.entries().len() != offered.entries as usize {
        return wrong("offer", "another number of entries than was announced");
    }
    if manifest.root() != offered.root {
        return Err(NetError::Root);
    }
    if manifest.entries().iter().any(|entry| is_below_no_folder(entry, &manifest)) {
        return wrong("entries", "a name below what is no folder");
    }
    Ok(Some(manifest))
}

/// Is a part of its path, but not the last one, something else than a folder? Then it could lead anywhere.
fn is_below_no_folder(entry: &Entry, manifest: &Manifest) -> bool {
    let mut name = entry.path.as_bytes();
    while let Some(slash) = name.iter().rposition(|octet| *octet == b'/') {
        name = &name[..slash];
        let parent = RelPath::new(entry.path.root(), name).ok();
        if let Some(parent) = parent.and_then(|parent| manifest.get(&parent)) {
            // What is above it is found with itself.
            return parent.kind != Kind::Folder;
        }
    }
    false
}
