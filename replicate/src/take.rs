//! What sessions that receive see of a set: may an offer be taken, and what would it cost?
//!
//! Refuses an older ownership, a tree of another descent, and one that deletes too much; changes nothing but what is known
//! of ownerships. The rules are those of DESIGN 5.13.

use crate::disk::Dir;
use crate::error::Error;
use crate::keep;
use crate::manifest::{Entry, Kind, Manifest};
use crate::owner::guard;
use crate::path::RelPath;
use crate::places::narrowed;
use crate::plan::{From, Plan, Planner, parent};
use crate::ports::{Behind, Offer, Position, Refusal, Stage, Target};
use crate::record::{Refused, Waits};
use crate::root::Root;
use crate::scan;
use crate::set::{Place, Scope};
use crate::stage::SetStage;
use crate::state::{Shared, State, Work, some_of};
use crate::tree::{self, Mark, Tree};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A set as a [`Target`].
pub(crate) struct SetTarget(pub(crate) Arc<Shared>);

/// How an offer relates to what this host has.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Descent {
    /// The sender has everything up to here; `None`: nothing is known to be in common.
    Fork(Option<Position>),
    /// It is the tree that is here.
    Same,
}

impl Target for SetTarget {
    fn standing(&self) -> (Position, Arc<Manifest>) {
        let state = self.0.state();
        (state.tree_position(), state.tree.manifest().clone())
    }

    fn take(&mut self, from: &str, offer: &Offer) -> Result<Box<dyn Stage>, Refusal> {
        let mut work = self.0.work();
        let taken = self.0.take(&mut work, from, offer);
        if let Err(refusal) = &taken {
            self.0.note_refusal(&work, offer, refusal);
        }
        Ok(Box::new(taken?))
    }

    fn current(&mut self, _from: &str, position: Position, behind: Behind) {
        let now_ms = self.0.clock.steady_ms();
        let mut state = self.0.state();
        // The tree is the owner's, the files may not be: no copy to take over with.
        let other = !state.drifted.is_empty()
            || state.unsettled
            || ["root", "half", "open"].iter().any(|kind| state.alarms.contains_key(kind));
        let epoch = position.epoch;
        if state.owns || epoch < state.record.known {
            // A former owner that hangs and comes back has nothing to say.
            return;
        }
        // What is left of a tree that was not taken is still to come.
        let octets = if behind.files == 0 { 0 } else { state.pending.1 };
        state.pending = (behind.files, octets);
        if !state.record.suspect
            && !other
            && position == state.record.position
            // Older than this clock: no age that could be told.
            && let Some(at) = behind.age_ms().and_then(|age_ms| now_ms.checked_sub(age_ms))
        {
            // What was complete once under an ownership stays so: another clock's age may be rounded.
            let before = state.fresh.filter(|(of, _)| *of == epoch).map(|(_, at)| at);
            state.fresh = Some((epoch, before.map_or(at, |before| before.max(at))));
        }
    }

    fn pending(&mut self, _from: &str, files: u64, octets: u64) {
        self.0.state().pending = (files, octets);
    }
}

/// An error of the disk, as a refusal.
pub(crate) fn disk(error: Error) -> Refusal {
    if let Error::Interrupted = error {
        let text = "this host becomes the owner itself, or its replicator stops";
        return Refusal::NotHere(text.to_owned());
    }
    if let Error::Io { source, .. } = &error {
        let fix = match source.kind() {
            std::io::ErrorKind::ReadOnlyFilesystem => "mount it writable",
            std::io::ErrorKind::StorageFull => "make room",
            std::io::ErrorKind::QuotaExceeded => "raise the quota, or make room",
            _ => return Refusal::Disk(error.to_string()),
        };
        return Refusal::Disk(format!("{error}: {fix}"));
    }
    Refusal::Disk(error.to_string())
}

impl Shared {
    fn take(
        self: &Arc<Self>,
        work: &mut Work,
        from: &str,
        offer: &Offer,
    ) -> Result<SetStage, Refusal> {
        let epoch = offer.position.epoch;
        self.standby_still().map_err(disk)?;
        if self.state().owns {
            let text = format!("this host owns the set {} itself", self.config.name);
            return Err(Refusal::NotHere(text));
        }
        let known = self.state().record.known;
        if epoch < known {
            return Err(Refusal::StaleEpoch(known));
        }
        // From here on the owner before is fenced off, whatever becomes of this offer.
        self.update(work, |record| record.known = epoch).map_err(disk)?;
        if let Err(error) = self.settle(work) {
            self.supersede(work, offer.position, error).map_err(disk)?;
        }
        self.check_tree(offer)?;
        let (descent, accepted, standing, based, suspect, drifted, last_from) = {
            let state = self.state();
            let accepted = state.record.refused.clone().filter(|r| r.accepted && r.epoch == epoch);
            let waits = accepted.map(|refused| refused.what);
            let descent = match descent(&state, offer) {
                Err(_) if waits == Some(Waits::Diverged) => Descent::Fork(None),
                other => other?,
            };
            (
                descent,
                waits,
                state.tree.clone(),
                state.tree_position(),
                state.record.suspect,
                state.drifted.clone(),
                state.record.from.clone(),
            )
        };
        let roots = self.roots().map_err(disk)?;
        // What was found to be other than the tree says is read, whatever its stamps say.
        let doubted = drifted.iter().map(|path| (path, Mark::default())).collect();
        let doubting = standing.clone().refreshed(&doubted);
        let followed = last_from.as_deref() == Some(from) && based.epoch == epoch;
        // A tree that is swapped is built from every file that stays, not only from what the offer changes.
        let full = suspect || self.config.atomic || !(followed || descent == Descent::Same);
        let scope = if full {
            Scope::Everything
        } else {
            let delta = standing.manifest().delta(&offer.manifest);
            let put = delta.put.into_iter().map(|entry| entry.path.clone());
            let changed = put.chain(delta.gone);
            let folder = |path: &RelPath| {
                standing.get(path).is_some_and(|(entry, _)| entry.kind == Kind::Folder)
            };
            // Of a folder that goes, all that is in it.
            let deep = |path: &RelPath| folder(path) && offer.manifest.get(path).is_none();
            let places = changed.chain(drifted).map(|path| Place { deep: deep(&path), path });
            Scope::Places(narrowed(&standing, places))
        };
        let look = self.halt.standby();
        let found = scan::scan(&self.config, &self.rules, &roots, &doubting, &scope, look);
        let local = found.map_err(disk)?.tree;
        let fork = match descent {
            Descent::Fork(fork) => fork,
            Descent::Same => Some(based),
        };
        let planner = Planner {
            config: &self.config,
            roots: &roots,
            standing: &standing,
            local: &local,
            offer,
            fork,
        };
        let plan = planner.plan().map_err(disk)?;
        let (before, after) = (standing.files(), tree::files(&offer.manifest));
        if waits_for(accepted, descent)
            && let Some(text) = guard(&self.config, plan.deleted, before, after)
        {
            let fix = format!("`vipd replica ack {}` on this host accepts that", self.config.name);
            return Err(Refusal::Guard(format!("{text}: {fix}")));
        }
        let owns = self.own_folders(&roots).map_err(disk)?;
        self.check_room(&roots, &owns, &plan, offer)?;
        let stage = SetStage::open(
            self.clone(),
            owns,
            crate::stage::Taken { plan, local, offer: offer.clone(), from: from.to_owned(), based },
        );
        let stage = stage.map_err(disk)?;
        let mut state = self.state();
        state.clear("disk");
        Ok(stage)
    }

    fn own_folders(&self, roots: &[Root]) -> Result<Vec<Dir>, Error> {
        let own = |root: &Root| {
            if self.config.atomic && root.dir.is_mount()? {
                let text =
                    "a mount point cannot be swapped: name a folder in it, or leave `atomic` out";
                return Err(std::io::Error::other(text));
            }
            root.own(&self.config)
        };
        roots.iter().map(|root| own(root).map_err(|e| Error::io(&root.path, e))).collect()
    }

    /// The manifest is what it says, and a tree that this set could hold.
    fn check_tree(&self, offer: &Offer) -> Result<(), Refusal> {
        let wrong = |text: String| Err(Refusal::NotHere(text));
        if offer.manifest.root() != offer.root {
            return wrong("the hash of the offered tree is wrong".to_owned());
        }
        if offer.position.generation == 0 {
            return wrong("generation 0 is no tree".to_owned());
        }
        let mut folder: Option<RelPath> = None;
        for entry in offer.manifest.entries() {
            if let Some(text) = self.rules.objects(entry, &self.config) {
                return wrong(text);
            }
            let above = parent(&entry.path);
            if let Some(above) = above.filter(|above| folder.as_ref() != Some(above)) {
                let there = offer.manifest.get(&above);
                if there.is_none_or(|there| there.kind != Kind::Folder) {
                    return wrong(format!("the offered tree has {} in no folder", entry.path));
                }
                folder = Some(above);
            }
        }
        Ok(())
    }

    /// What comes fits on the disk, with 5 % to spare, and what is rescued into its quota.
    fn check_room(
        &self,
        roots: &[Root],
        owns: &[Dir],
        plan: &Plan,
        offer: &Offer,
    ) -> Result<(), Refusal> {
        for (root, own) in roots.iter().zip(owns) {
            let mut needed = 0_u64;
            for make in &plan.makes {
                let entry = offer.manifest.at(make.entry);
                let Some((entry, (size, hash))) = entry.and_then(|e| Some((e, e.file()?))) else {
                    continue;
                };
                // What is staged already takes its room already.
                let staged = make.from == From::Staged && crate::stage::complete(own, hash);
                if entry.path.root() == root.ix && !staged {
                    needed = needed.saturating_add(size);
                }
            }
            // What an earlier attempt made ready is used, or goes.
            let free = || io::Result::Ok(own.free()?.saturating_add(ready(own)?));
            let free = free().map_err(|error| disk(Error::io(&root.path, error)))?;
            if needed > 0 && needed.saturating_add(needed / 20) > free {
                return Err(Refusal::Disk(format!(
                    "{}: {needed} octets are to come and {free} are free (5 % more are asked for): make room",
                    root.path.display()
                )));
            }
        }
        if plan.rescued_bytes == 0 {
            return Ok(());
        }
        let mut there = 0;
        for (root, own) in roots.iter().zip(owns) {
            there += keep::rescued(own).map_err(|error| disk(Error::io(&root.path, error)))?.1;
        }
        let (quota, more) = (self.config.rescue_quota, plan.rescued_bytes);
        if there.saturating_add(more) > quota {
            return Err(Refusal::Disk(format!(
                "{more} octets of this host are to be rescued beside {there} that were before, and rescue-quota is {quota}: \
                 empty the folder {} of the roots, or raise it",
                keep::RESCUE
            )));
        }
        Ok(())
    }

    /// What waits for an operator is remembered; what the disk said is an alarm until an offer is taken.
    fn note_refusal(&self, work: &Work, offer: &Offer, refusal: &Refusal) {
        let text = format!("[replicate.{}] {refusal}", self.config.name);
        let what = match refusal {
            Refusal::Guard(_) => Some(("guard", Waits::Guard)),
            Refusal::Diverged(_) => Some(("diverged", Waits::Diverged)),
            _ => None,
        };
        {
            let mut state = self.state();
            match (what, refusal) {
                (Some((kind, _)), _) => {
                    let fix =
                        format!("`vipd replica ack {}` on this host takes it", self.config.name);
                    let fixed = text.contains("vipd replica ack");
                    state.alarm(kind, if fixed { text } else { format!("{text}; {fix}") });
                    state.count(kind);
                }
                (None, Refusal::Disk(_)) => {
                    state.alarm("disk", text);
                    state.count("disk");
                }
                (None, _) => state.count("refused"),
            }
        }
        let Some((_, what)) = what else { return };
        let refused = Refused {
            epoch: offer.position.epoch,
            what,
            text: refusal.to_string(),
            accepted: false,
        };
        if let Err(error) = self.update(work, |record| record.refused = Some(refused)) {
            self.alarm_error("record", &error);
        }
    }
}

/// Octets of what is ready in the stage.
fn ready(own: &Dir) -> io::Result<u64> {
    let folder = Path::new(crate::stage::STAGE).join("f");
    if own.see(&folder)?.is_none() {
        return Ok(0);
    }
    let folder = own.at(&folder)?;
    let mut octets = 0_u64;
    for name in folder.list()? {
        octets = octets.saturating_add(folder.see_here(&name)?.map_or(0, |seen| seen.size));
    }
    Ok(octets)
}

/// The guard has a say: nobody accepted, and there is something in common that could be deleted by mistake.
fn waits_for(accepted: Option<Waits>, descent: Descent) -> bool {
    accepted.is_none() && descent != Descent::Same
}

/// Does the offered tree descend from what this host last had in common with another?
fn descent(state: &State, offer: &Offer) -> Result<Descent, Refusal> {
    let own = state.tree_position();
    let Some(synced) = state.synced() else { return Ok(Descent::Fork(None)) };
    if offer.position.epoch == own.epoch {
        if offer.position == own && offer.root == state.root {
            return Ok(Descent::Same);
        }
        if offer.position.generation > own.generation {
            return Ok(Descent::Fork(Some(own)));
        }
        return Err(Refusal::Diverged(own));
    }
    if !offer.lineage.iter().any(|position| position.epoch == synced.epoch) {
        return Err(Refusal::Diverged(synced));
    }
    // The newest ownership that both trees descend from: what came with earlier ones both have.
    let shared = |position: &&Position| {
        own.epoch == position.epoch
            || state.record.lineage.iter().any(|own| own.epoch == position.epoch)
    };
    Ok(Descent::Fork(offer.lineage.iter().filter(shared).max().copied()))
}

impl Shared {
    /// As a standby: what is other on the disk than in the committed tree.
    pub(crate) fn drift(&self) -> Result<Vec<RelPath>, Error> {
        let _work = self.work();
        let (standing, owns, never) = {
            let state = self.state();
            (state.tree.clone(), state.owns, state.tree_position() == Position::default())
        };
        // An empty tree is a tree, too.
        if owns || never {
            return Ok(Vec::new());
        }
        let roots = self.roots()?;
        let (all, look) = (Scope::Everything, self.halt.standby());
        let found = scan::scan(&self.config, &self.rules, &roots, &standing, &all, look)?;
        let delta = standing.manifest().delta(found.tree.manifest());
        // A folder that is there beside is no content; what is excluded may live in it.
        let more =
            |entry: &Entry| entry.kind == Kind::Folder && standing.get(&entry.path).is_none();
        let put = delta.put.into_iter().filter(|entry| !more(entry));
        let put = put.map(|entry| entry.path.clone());
        let mut state = self.state();
        let drifted: Vec<_> =
            put.chain(delta.gone).filter(|path| !state.left.contains(path)).collect();
        // What only looks other was hashed again: the next look is cheaper.
        state.tree = marks_of(&standing, &found.tree);
        if drifted.is_empty() {
            state.clear("drift");
        } else {
            let some = some_of(&drifted);
            let text = format!(
                "[replicate.{}] changed on this standby: {some}; the owner is asked for its files again, and what was \
                 changed is kept in the rescue folder",
                self.config.name
            );
            state.alarm("drift", text);
        }
        state.drifted.clone_from(&drifted);
        Ok(drifted)
    }
}

/// `standing` with the newer marks of `found` where the entries are the same.
fn marks_of(standing: &Tree, found: &Tree) -> Tree {
    let kept = |entry: &Entry| standing.get(&entry.path).map(|(_, mark)| mark).unwrap_or_default();
    found.rebased(standing.manifest().clone(), kept)
}
