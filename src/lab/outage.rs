//! What a series of probes proves: outages, losses, who answered.
//!
//! Pure. Filled by `probe`, read by scenarios, tests and benches.

use super::probe::PERIOD;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use vipd_core::time::Instant;
use vipd_core::types::Mac;

/// An answer that takes longer was waiting for a neighbour to be found: no loss, but an outage.
pub const DELAYED: Duration = Duration::from_millis(20);

/// One probe.
#[derive(Copy, Clone, Debug)]
pub struct Probe {
    /// When it left.
    pub sent: Instant,
    /// How much later than its slot.
    pub late: Duration,
    /// The first answer in time.
    pub answer: Option<Answer>,
    /// Answers in time, of all hosts.
    pub copies: u8,
}

/// An answer.
#[derive(Copy, Clone, Debug)]
pub struct Answer {
    /// Ethernet address of who answered.
    pub mac: Mac,
    /// From sending to arrival.
    pub round_trip: Duration,
}

impl Probe {
    /// Was it answered without delay?
    #[must_use]
    pub fn served(&self) -> bool {
        self.answer.is_some_and(|a| a.round_trip <= DELAYED)
    }
}

/// What a client saw in a window of time.
#[derive(Clone, Debug, Default)]
pub struct Outage {
    /// Probes sent.
    pub sent: usize,
    /// Probes without an answer in time.
    pub lost: usize,
    /// Probes answered in time but later than [`DELAYED`].
    pub delayed: usize,
    /// Probes answered more than once: two owners at one moment.
    pub duplicates: usize,
    /// When the longest outage began: the first probe that it swallowed or delayed.
    pub start: Option<Instant>,
    /// The longest outage: what is proved by lost and delayed probes; zero when there were none.
    pub longest_gap: Duration,
    /// How much longer that outage may have been, because the prober itself was late at its edges.
    pub uncertainty: Duration,
    /// The longest that the prober itself was late.
    pub stalled: Duration,
    /// Longest round trip of an answered probe.
    pub slowest: Duration,
    /// Answers of each host.
    pub answers: BTreeMap<Mac, usize>,
    /// From which moment which host answered; a new entry at each change.
    pub path: Vec<(Instant, Mac)>,
}

impl Outage {
    /// Evaluates `probes`, in the order in which they were sent.
    #[must_use]
    pub fn of(probes: &[Probe]) -> Self {
        let mut seen = Self { sent: probes.len(), ..Self::default() };
        for probe in probes {
            seen.stalled = seen.stalled.max(probe.late);
            seen.duplicates += usize::from(probe.copies > 1);
            let Some(answer) = probe.answer else {
                seen.lost += 1;
                continue;
            };
            seen.delayed += usize::from(!probe.served());
            seen.slowest = seen.slowest.max(answer.round_trip);
            *seen.answers.entry(answer.mac).or_default() += 1;
            if seen.path.last().is_none_or(|(_, mac)| *mac != answer.mac) {
                seen.path.push((probe.sent, answer.mac));
            }
        }
        let mut rest = probes;
        while let Some(begin) = rest.iter().position(|p| !p.served()) {
            let end = rest[begin..].iter().position(Probe::served);
            let end = end.map_or(rest.len(), |n| begin + n);
            seen.gap(rest, begin, end);
            rest = &rest[end..];
        }
        seen
    }

    /// One run of lost and delayed probes `begin..end`.
    fn gap(&mut self, probes: &[Probe], begin: usize, end: usize) {
        let (first, last) = (probes[begin].sent, probes[end - 1].sent);
        let length = last.since(first) + PERIOD;
        if length <= self.longest_gap {
            return;
        }
        let beyond = |from: Instant, to: Instant| to.since(from).saturating_sub(PERIOD);
        let before = begin.checked_sub(1).map_or(Duration::ZERO, |b| beyond(probes[b].sent, first));
        let after = probes.get(end).map_or(Duration::ZERO, |p| beyond(last, p.sent));
        self.start = Some(first);
        self.longest_gap = length;
        self.uncertainty = before + after;
    }

    /// As rows of tables and JSON have it.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            outage_ms: super::clock::millis(self.longest_gap),
            uncertainty_ms: super::clock::millis(self.uncertainty),
            probes: self.sent,
            lost: self.lost,
            delayed: self.delayed,
            duplicates: self.duplicates,
            prober_late_ms: super::clock::millis(self.stalled),
            slowest_answer_ms: super::clock::millis(self.slowest),
        }
    }
}

/// An [`Outage`] in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The longest outage, in milliseconds.
    pub outage_ms: f64,
    /// How much longer it may have been.
    pub uncertainty_ms: f64,
    /// Probes sent.
    pub probes: usize,
    /// Probes lost.
    pub lost: usize,
    /// Probes answered in time but later than [`DELAYED`].
    pub delayed: usize,
    /// Probes answered more than once.
    pub duplicates: usize,
    /// The longest that the prober itself was late.
    pub prober_late_ms: f64,
    /// Longest round trip of an answered probe.
    pub slowest_answer_ms: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 1, 11]);
    const B: Mac = Mac([2, 0, 0, 0, 1, 12]);

    fn probe(ms: u64, who: Option<Mac>) -> Probe {
        let answer = who.map(|mac| Answer { mac, round_trip: Duration::from_micros(50) });
        let copies = u8::from(answer.is_some());
        Probe { sent: Instant::from_millis(ms), late: Duration::ZERO, answer, copies }
    }

    #[test]
    fn nothing_lost_is_no_outage() {
        let seen = Outage::of(&(0..100).map(|ms| probe(ms, Some(A))).collect::<Vec<_>>());
        assert_eq!((seen.lost, seen.longest_gap, seen.start), (0, Duration::ZERO, None));
        assert_eq!(seen.answers[&A], 100);
        assert_eq!(seen.path, [(Instant::ZERO, A)]);
    }

    #[test]
    fn the_longest_run_of_losses_is_the_outage() {
        let who = |ms| match ms {
            10..12 | 30..60 => None,
            0..30 => Some(A),
            _ => Some(B),
        };
        let seen = Outage::of(&(0..100).map(|ms| probe(ms, who(ms))).collect::<Vec<_>>());
        assert_eq!((seen.lost, seen.longest_gap), (32, Duration::from_millis(30)));
        assert_eq!(seen.start, Some(Instant::from_millis(30)));
        assert_eq!(seen.path, [(Instant::ZERO, A), (Instant::from_millis(60), B)]);
    }

    #[test]
    fn answers_held_back_are_an_outage_without_loss() {
        let mut all: Vec<_> = (0..100).map(|ms| probe(ms, Some(A))).collect();
        for p in &mut all[40..70] {
            p.answer = Some(Answer { mac: A, round_trip: Duration::from_millis(90) });
        }
        let seen = Outage::of(&all);
        assert_eq!((seen.lost, seen.delayed), (0, 30));
        assert_eq!(seen.longest_gap, Duration::from_millis(30));
    }

    #[test]
    fn a_stalled_prober_is_no_outage() {
        // Slots 20 to 79 were never sent; one probe was lost right before.
        let slots = (0..20).chain(80..100);
        let all: Vec<_> = slots.map(|ms| probe(ms, (ms != 19).then_some(A))).collect();
        let seen = Outage::of(&all);
        assert_eq!((seen.lost, seen.longest_gap), (1, Duration::from_millis(1)));
        assert_eq!(seen.uncertainty, Duration::from_millis(60));
    }
}
