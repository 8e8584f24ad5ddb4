//! Barriers: everything is sealed, and the target has to confirm it before the deadline.

use super::{Thread, clock, lock};
use std::time::Duration;
use vipd_core::replica::Word;
use vipd_core::time::Instant;
use vipd_replicator::ports::{Position, Refusal};
use vipd_replicator::set::Scope;

/// After the deadline of a barrier: whoever began it is done by then.
const OUTLIVED: Duration = Duration::from_secs(60);

/// A barrier that is on.
pub(super) struct OnBarrier {
    pub(super) id: u64,
    to: String,
    until: Instant,
    /// What the target must have.
    position: Position,
    pub(super) answered: bool,
}

impl OnBarrier {
    /// Its end got lost: nothing may keep changes from being sealed for ever.
    fn outlived(&self, now: Instant) -> bool {
        now >= self.until + OUTLIVED
    }
}

impl Thread {
    pub(super) fn begin_barrier(&mut self, id: u64, to: String, until: Instant) {
        let position = Position::default();
        self.barrier = Some(OnBarrier { id, to, until, position, answered: false });
        if !self.owns() {
            return self
                .answer(Some("this host does not push the set: it does not own".to_owned()));
        }
        if let Err(why) = self.seal(&Scope::Everything) {
            return self.answer(Some(why));
        }
        let position = self.set.position();
        if let Some(barrier) = &mut self.barrier {
            barrier.position = position;
            if let Some(pushing) = &*lock(&self.shared.pushing) {
                pushing.ask_again_of(&barrier.to);
            }
        }
    }

    pub(super) fn look_at_barrier(&mut self) {
        let Some(barrier) = &self.barrier else { return };
        if barrier.outlived(clock::monotonic()) {
            self.barrier = None;
            return self.catch_up();
        }
        if barrier.answered {
            return;
        }
        let progress = match &*lock(&self.shared.pushing) {
            Some(pushing) => pushing.progress(&barrier.to),
            None => None,
        };
        let answer = match progress {
            None => Some(format!("nothing is pushed to {}", barrier.to)),
            Some(progress)
                if progress.confirmed == Some(barrier.position)
                    && progress.connected
                    && progress.refused.is_none() =>
            {
                return self.answer(None);
            }
            Some(progress) => match progress.refused {
                Some(
                    refusal @ (Refusal::StaleEpoch(_) | Refusal::Diverged(_) | Refusal::Guard(_)),
                ) => Some(format!("{} does not take it: {refusal}", barrier.to)),
                // Taken without files whose content is lost here: it will never have everything.
                Some(refusal) if progress.confirmed == Some(barrier.position) => {
                    Some(format!("{} has not everything: {refusal}", barrier.to))
                }
                _ if clock::monotonic() < barrier.until => return,
                _ if !progress.connected => Some(format!("no connection to {}", barrier.to)),
                other => Some(match other {
                    Some(refusal) => format!("{} does not take it: {refusal}", barrier.to),
                    None => format!("{} has not confirmed everything in time", barrier.to),
                }),
            },
        };
        self.answer(answer);
    }

    fn answer(&mut self, failed: Option<String>) {
        if let Some(barrier) = &mut self.barrier {
            barrier.answered = true;
            let failed = failed.map(|why| format!("set {}: {why}", self.shared.name));
            let _ = self.shared.words.send(Word::Barrier { id: barrier.id, failed });
        }
    }

    /// Seals what came while a barrier held.
    pub(super) fn catch_up(&mut self) {
        if self.barrier.is_none() && std::mem::take(&mut self.behind) && self.owns() {
            let _ = self.seal(&Scope::Everything);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_whose_end_got_lost_is_over_a_minute_after_its_deadline() {
        let until = clock::monotonic();
        let (to, position) = ("b".to_owned(), Position::default());
        let barrier = OnBarrier { id: 1, to, until, position, answered: true };
        assert!(!barrier.outlived(until + Duration::from_secs(59)));
        assert!(barrier.outlived(until + Duration::from_secs(60)));
    }
}
