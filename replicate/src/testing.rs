//! For tests of this crate and others: a set's configuration, and a session without a network.
//!
//! Small enough to be part of the library; nothing of the program uses it.

use crate::path::RelPath;
use crate::ports::{Offer, ReadSeek, Refusal, Source, StageFile, Target};
use std::io;
use std::path::Path;
use std::sync::Arc;
use vipd_core::config::model::{Gate, Replicate};
use vipd_core::time::Duration;
use vipd_core::types::InstanceIx;

/// A set of `roots` named `test`, changed by `change`.
pub fn config(roots: &[&Path], change: impl FnOnce(&mut Replicate)) -> Arc<Replicate> {
    let mut config = Replicate {
        name: "test".into(),
        instance: InstanceIx(0),
        paths: roots.iter().map(|root| root.to_path_buf()).collect(),
        exclude: Vec::new(),
        debounce: Duration::from_millis(50),
        max_delay: Duration::from_millis(500),
        scan_interval: Duration::from_millis(60_000),
        atomic: false,
        xattrs: false,
        setuid: false,
        outward_links: false,
        require_mount: false,
        bandwidth: None,
        delete_guard: 25,
        trash_versions: 10,
        trash_age: Duration::from_millis(7 * 86_400_000),
        rescue_quota: 1 << 30,
        gate: Gate::default(),
        max_age: Duration::from_millis(60_000),
        max_pending: None,
    };
    change(&mut config);
    Arc::new(config)
}

/// What a transfer ended with.
#[derive(Debug)]
pub enum Transfer {
    /// The target has the tree and the source knows.
    Done,
    /// There was nothing to offer.
    Nothing,
    /// A file at the source was not as offered: seal, and try again.
    Changed,
}

/// Carries one offer of `source` to `target`, as a session does: whole files, no network.
///
/// # Errors
/// As the target says; what the disk says while files are carried is [`Refusal::Disk`].
pub fn transfer(
    (from, source): (&str, &mut dyn Source),
    (to, target): (&str, &mut dyn Target),
) -> Result<Transfer, Refusal> {
    let (position, manifest) = target.standing();
    source.peer_stands(to, position, manifest.root());
    let Some(offer) = source.offer() else { return Ok(Transfer::Nothing) };
    let mut without = Vec::new();
    let carried = carry(from, source, target, &offer, &mut without);
    match &carried {
        Ok(Transfer::Done) => {
            source.acknowledged(to, offer.position, offer.root);
            if !without.is_empty() {
                source.lacks(to, &without);
            }
            target.current(from, offer.position, source.behind(offer.position));
        }
        Ok(_) => {}
        Err(refusal) => source.refused(to, refusal),
    }
    carried
}

fn carry(
    from: &str,
    source: &mut dyn Source,
    target: &mut dyn Target,
    offer: &Offer,
    without: &mut Vec<RelPath>,
) -> Result<Transfer, Refusal> {
    let broken = |error: io::Error| Refusal::Disk(error.to_string());
    let mut stage = target.take(from, offer)?;
    for need in stage.needs() {
        let Some(entry) = offer.manifest.entries().get(need.entry as usize) else {
            return Err(Refusal::NotHere("a need of nothing that was offered".to_owned()));
        };
        if source.withholds(&entry.path) {
            stage.withhold(need.entry)?;
            without.push(entry.path.clone());
            continue;
        }
        let Ok(mut content) = source.open(&entry.path) else {
            source.changed_underway(&entry.path);
            return Ok(Transfer::Changed);
        };
        let mut file = stage.create(entry).map_err(broken)?;
        let copied = copy(&mut content, &mut *file);
        let finished = copied.and_then(|()| file.finish());
        match finished {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                source.changed_underway(&entry.path);
                return Ok(Transfer::Changed);
            }
            Err(error) => return Err(broken(error)),
        }
    }
    stage.commit()?;
    Ok(Transfer::Done)
}

fn copy(from: &mut dyn ReadSeek, to: &mut dyn StageFile) -> io::Result<()> {
    let (mut buffer, mut offset) = (vec![0; 64 * 1024], 0);
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        to.put(offset, buffer.get(..length).unwrap_or_default())?;
        offset += length as u64;
    }
}
