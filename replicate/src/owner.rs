//! A host that owns an instance: claims, seals generations, and steps back. `vipd replica ack`, on either side.

use crate::error::Error;
use crate::places::narrowed;
use crate::ports::{MAX_LINEAGE, Position};
use crate::record::{Refused, Waits};
use crate::root::Root;
use crate::scan::{self, Found};
use crate::set::{LogLine, Scope, Sealed};
use crate::state::{Shared, Work, some_of};
use crate::store;
use crate::tree::{Changes, Tree};
use crate::unsealed::{UNKNOWN_MS, Unsealed};
use vipd_core::config::model::Replicate;
use vipd_core::types::Epoch;

/// Generations whose changes are timed for the gauge; older ones count as the oldest of these.
const MAX_TIMED: usize = 4096;

impl Shared {
    pub(crate) fn claim(&self, epoch: Epoch) -> Result<(), Error> {
        // Whoever puts a tree in place ends before its next step, and lets go of the lock.
        let told = self.halt.claiming(true);
        let done = self.claim_files(epoch);
        // Now `owns` keeps trees out. A claim that failed keeps them out as well where the agent said that this host owns:
        // its service writes, whatever this process could put on the disk.
        if done.is_ok() || !told {
            self.halt.claiming(false);
        }
        done
    }

    fn claim_files(&self, epoch: Epoch) -> Result<(), Error> {
        let mut work = self.work();
        if let Err(error) = self.relinquish(&mut work) {
            // The files are what they are, and the instance is served from them.
            self.alarm_error("half", &error);
        }
        let known = self.state().record.known;
        if epoch < known {
            return Err(Error::Refused(format!(
                "ownership {epoch} is older than {known}, which is known here"
            )));
        }
        let mut claimed = false;
        self.update(&work, |record| {
            record.known = epoch;
            claimed = record.position.epoch != epoch;
            if claimed {
                if std::mem::take(&mut record.forgot) {
                    // Nobody can tell any more what this tree descends from.
                    record.lineage.clear();
                } else if record.position.generation > 0 {
                    record.lineage.push(record.position);
                }
                let excess = record.lineage.len().saturating_sub(MAX_LINEAGE);
                record.lineage.drain(..excess);
                record.position = Position { epoch, generation: 0 };
                record.from = None;
                record.refused = None;
            }
        })?;
        let mut state = self.state();
        if claimed || !state.owns {
            (state.owns, state.stopped, state.scanned) = (true, None, false);
            // Who is told again that it owns what it had let go of, or is started again as owner, has not seen what changed.
            let since = match claimed && state.stood {
                true => self.clock.steady_ms(),
                false => UNKNOWN_MS,
            };
            state.unsealed.add(since);
            state.stood = true;
        }
        if claimed {
            state.sealed_ms.clear();
            for kind in ["stale", "guard", "diverged", "drift", "forgot", "withheld", "disk"] {
                state.clear(kind);
            }
        }
        Ok(())
    }

    pub(crate) fn follow(&self, epoch: Epoch) -> Result<(), Error> {
        let was = {
            let mut state = self.state();
            (state.stopped, state.unsealed, state.stood) = (None, Unsealed::default(), true);
            for kind in ["stale", "rotten", "seal", "skipped"] {
                state.clear(kind);
            }
            (state.doubts, state.outlines) = Default::default();
            (std::mem::replace(&mut state.owns, false), state.record.known, state.unsettled)
        };
        if !was.0 && epoch <= was.1 && !was.2 {
            return Ok(());
        }
        let mut work = self.work();
        let told = self.update(&work, |record| record.known = record.known.max(epoch));
        // The files of a standby are the owner's: what was interrupted is finished. Where that does not work it is tried
        // again before the next tree is taken.
        if let Err(error) = self.settle(&mut work) {
            self.alarm_error("open", &error);
        }
        told
    }

    pub(crate) fn seal(&self, scope: &Scope) -> Result<Sealed, Error> {
        let mut work = self.work();
        let now_ms = self.clock.steady_ms();
        let (base, scope, hints, covered) = {
            let mut state = self.state();
            self.check_owner(&state)?;
            let hints = std::mem::take(&mut state.hints);
            let scope = match scope {
                Scope::Places(places) if state.scanned => {
                    let places = places.iter().chain(&hints).cloned();
                    Scope::Places(narrowed(&state.tree, places))
                }
                _ => Scope::Everything,
            };
            let covered = state.unsealed.begin(scope == Scope::Everything);
            (state.tree.clone(), scope, hints, covered)
        };
        let done = self.scan_and_seal(&mut work, &base, &scope, covered.since.unwrap_or(now_ms));
        let mut state = self.state();
        match &done {
            Ok(sealed) => {
                state.scanned |= scope == Scope::Everything;
                state.clear("seal");
                state.hints.extend(
                    sealed
                        .deferred
                        .iter()
                        .map(|path| crate::set::Place { path: path.clone(), deep: false }),
                );
                if sealed.deferred.is_empty() {
                    state.unsealed.done(covered);
                } else {
                    // They are not in the generation, so their change still counts.
                    state.unsealed.failed(covered, now_ms);
                    state.count("deferred");
                }
                // A scan of some places knows nothing of what was left out elsewhere.
                if scope == Scope::Everything {
                    if sealed.skipped.is_empty() {
                        state.clear("skipped");
                    } else {
                        let some = some_of(&sealed.skipped);
                        state.alarm(
                            "skipped",
                            format!("[replicate.{}] left out: {some}", self.config.name),
                        );
                    }
                }
            }
            Err(error) => {
                state.hints.extend(hints);
                state.unsealed.miss(covered, now_ms);
                if matches!(error, Error::Guard(_) | Error::Root(_)) {
                    // It holds back the whole set: nothing goes on before everything was looked at.
                    state.scanned = false;
                }
                drop(state);
                self.alarm_error("seal", error);
            }
        }
        done
    }

    fn check_owner(&self, state: &crate::state::State) -> Result<(), Error> {
        if state.owns {
            return Ok(());
        }
        Err(Error::Refused(format!("this host does not own the set {}", self.config.name)))
    }

    fn scan_and_seal(
        &self,
        work: &mut Work,
        base: &Tree,
        scope: &Scope,
        changed_ms: u64,
    ) -> Result<Sealed, Error> {
        let roots = self.roots()?;
        let found = scan::scan(&self.config, &self.rules, &roots, base, scope, self.halt.any())?;
        let Found { tree: next, deferred, skipped, outlines } = found;
        self.state().outlines.extend(outlines);
        let changes = Changes::between(base.manifest(), next.manifest());
        let (old, mut record) = self.next_record();
        self.check_owner(&self.state())?;
        let sealed = |position, new| Sealed { position, new, deferred, skipped };
        if changes == Changes::default() && old.position.generation > 0 && !old.suspect {
            self.state().tree = next;
            return Ok(sealed(old.position, false));
        }
        if let Some(text) = guard(&self.config, changes.gone_files, base.files(), next.files())
            && !record.refused.as_ref().is_some_and(|r| r.accepted && r.what == Waits::Source)
        {
            let text =
                format!("{text}; nothing is pushed before `vipd replica ack {}`", self.config.name);
            let refused = Refused {
                epoch: record.position.epoch,
                what: Waits::Source,
                text: text.clone(),
                accepted: false,
            };
            self.update(work, |record| record.refused = Some(refused))?;
            return Err(Error::Guard(format!("[replicate.{}] {text}", self.config.name)));
        }
        let position = Position { generation: record.position.generation + 1, ..record.position };
        let next = next.born(position);
        record.position = position;
        (record.suspect, record.from, record.refused) = (false, None, None);
        record.marks = marked(&roots)?;
        let root = next.manifest().root();
        work.store.commit(&mut record, base, &next)?;
        {
            let mut state = self.state();
            (state.record, state.tree, state.root) = (record, next, root);
            state.clear("record");
            state.sealed_ms.push_back((position.generation, changed_ms));
            if state.sealed_ms.len() > MAX_TIMED {
                // The oldest change stays the oldest.
                if let Some((_, at)) = state.sealed_ms.pop_front()
                    && let Some(first) = state.sealed_ms.front_mut()
                {
                    first.1 = first.1.min(at);
                }
            }
            state.clear("half");
        }
        let line = LogLine {
            at_s: self.clock.wall_s(),
            position: (position.epoch.number, position.epoch.host, position.generation),
            root: store::short(&root),
            from: None,
            put: changes.put,
            gone: changes.gone,
            bytes: changes.bytes,
            rescued: 0,
            unfinished: false,
        };
        self.log(work, &line);
        Ok(sealed(position, true))
    }

    pub(crate) fn ack(&self) -> Result<String, Error> {
        let work = self.work();
        let set = &self.config.name;
        let marks = self.state().record.marks.clone();
        if let Err(Error::Root(text)) = Root::open_all(&self.config, &marks)
            && Root::open_all(&self.config, &[]).is_ok()
        {
            self.update(&work, |record| record.marks.clear())?;
            self.state().clear("root");
            return Ok(format!("accepted: {text}"));
        }
        let mut accepted = None;
        self.update(&work, |record| {
            if let Some(refused) = &mut record.refused {
                refused.accepted = true;
                accepted = Some(refused.text.clone());
            }
        })?;
        if accepted.is_none() {
            self.update(&work, |record| accepted = record.torn.take())?;
            self.state().clear("torn");
        }
        match accepted {
            Some(text) => {
                let mut state = self.state();
                state.notice(format!("[replicate.{set}] an operator accepted: {text}"), false);
                Ok(format!("accepted: {text}"))
            }
            None => {
                Err(Error::Refused(format!("nothing of the set {set} waits for you on this host")))
            }
        }
    }
}

/// What identifies the roots; made where there is nothing yet.
pub(crate) fn marked(roots: &[Root]) -> Result<Vec<Option<String>>, Error> {
    let marks = roots
        .iter()
        .map(|root| root.marked().map(Some).map_err(|error| Error::io(&root.path, error)));
    marks.collect()
}

/// Why a tree that deletes `gone` of `before` files and leaves `after` must wait for an operator.
pub(crate) fn guard(config: &Replicate, gone: u64, before: u64, after: u64) -> Option<String> {
    if before > 0 && after == 0 {
        return Some(format!("all {before} files are gone"));
    }
    let share = u64::from(config.delete_guard);
    (gone > Replicate::GUARD_FILES && gone * 100 > before * share)
        .then(|| format!("{gone} of {before} files are gone, more than delete-guard = {share} %"))
}
