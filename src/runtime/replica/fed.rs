//! What the engine was told of the copies of this host, so that it is told what is news alone: the replicator reports up to
//! twenty times a second while something is on its way, and each word wakes the protocol thread.

use std::collections::BTreeMap;
use vipd_core::engine::io::ReplicaState;
use vipd_core::time::{Duration, Instant};

/// Told again after so long, whatever it is: a word may be lost to a full queue.
const AGAIN: Duration = Duration::from_secs(5);
/// Moments of completeness no further apart than this are one: figures are whole milliseconds, and are on their way for some.
const ALIKE: Duration = Duration::from_millis(100);

/// What the engine knows, by set.
#[derive(Debug, Default)]
pub(super) struct Fed(BTreeMap<String, Told>);

/// What it was told last of a set, and when.
#[derive(Debug)]
struct Told {
    at: Instant,
    owns: bool,
    state: Option<ReplicaState>,
}

impl Fed {
    /// Is how `set` stands news to the engine, by a report of now? `owns`: this host pushes it, and has what there is. The
    /// engine takes it to be told then.
    pub(super) fn is_news(
        &mut self,
        set: &str,
        (owns, state): (bool, Option<ReplicaState>),
        now: Instant,
    ) -> bool {
        let known = self.0.get(set).is_some_and(|told| {
            let alike = match (told.state, state) {
                (Some(before), Some(state)) => {
                    let at = |age: Option<Duration>, now: Instant| age.map(|age| now.before(age));
                    let moments = (at(before.age, told.at), at(state.age, now));
                    let complete = match moments {
                        (Some(a), Some(b)) => owns || a.max(b).since(a.min(b)) <= ALIKE,
                        (a, b) => a == b,
                    };
                    complete && before.pending == state.pending
                }
                (before, state) => before.is_none() && state.is_none(),
            };
            told.owns == owns && alike && now.since(told.at) < AGAIN
        });
        if !known {
            self.0.insert(set.to_owned(), Told { at: now, owns, state });
        }
        !known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_the_engine_knows_is_not_news_and_what_has_to_be_fresh_is() {
        let start = Instant::ZERO + Duration::from_secs(1000);
        let copy = |age, pending| Some(ReplicaState { age: Some(ms(age)), pending });
        let mut fed = Fed::default();
        let mut news =
            |set: &str, after, owns, state| fed.is_news(set, (owns, state), start + ms(after));
        // A standby of which the owner says nothing new: it only grows older.
        assert!(news("a", 0, false, copy(10, 0)));
        assert!(!news("a", 50, false, copy(61, 0)));
        assert!(!news("a", 4900, false, copy(4909, 0)));
        // The owner has spoken, something is to come, nobody knows any more.
        assert!(news("a", 4950, false, copy(3, 0)));
        assert!(news("a", 4960, false, copy(13, 7)));
        assert!(!news("a", 4970, false, copy(23, 7)));
        assert!(news("a", 4980, false, None));
        assert!(!news("a", 4990, false, None));
        assert!(news("a", 5000, false, Some(ReplicaState { age: None, pending: 0 })));
        // An owner is complete at any moment; what it was before it owned is another thing.
        assert!(news("a", 5100, true, copy(0, 0)));
        assert!(!news("a", 9000, true, copy(0, 0)));
        assert!(news("a", 9010, false, copy(0, 0)));
        // One set is not the other, and what got lost comes again.
        assert!(news("b", 9010, false, copy(0, 0)));
        assert!(news("b", 9010 + 5000, false, copy(5000, 0)));
    }
}
