//! What happened in a run: a hash of all facts, for comparing runs, and lines for reading when one is replayed.

use crate::invariants::Fact;
use std::hash::{DefaultHasher, Hash, Hasher};
use vipd_core::time::Instant;

#[derive(Default)]
pub(crate) struct Trace {
    hash: DefaultHasher,
    facts: u64,
    /// `Some`: keep lines for people.
    lines: Option<Vec<String>>,
}

impl Trace {
    /// Keep lines from now on.
    pub(crate) fn keep(&mut self) {
        self.lines = Some(Vec::new());
    }

    pub(crate) fn note(&mut self, now: Instant, fact: &Fact) {
        (now, fact).hash(&mut self.hash);
        self.facts += 1;
        self.say(now, || format!("{fact:?}"));
    }

    /// A line that is no fact: what an agent wanted or said. Not part of the hash.
    pub(crate) fn say(&mut self, now: Instant, what: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{now} {}", what()));
        }
    }

    /// Hash and number of all facts.
    pub(crate) fn digest(&self) -> (u64, u64) {
        (self.hash.finish(), self.facts)
    }

    /// The last lines; of adverts in a row only the first and the last.
    pub(crate) fn tail(&self, most: usize) -> Vec<String> {
        let lines = self.lines.as_deref().unwrap_or_default();
        let advert = |n: usize| lines.get(n).is_some_and(|line| line.contains(" Advert("));
        let told =
            (0..lines.len()).filter(|n| !(*n > 0 && advert(n - 1) && advert(*n) && advert(n + 1)));
        let told: Vec<String> = told.map(|n| lines[n].clone()).collect();
        told[told.len().saturating_sub(most)..].to_vec()
    }
}
