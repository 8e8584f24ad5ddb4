//! When a virtual router announces its addresses (DESIGN 5.4): at once, again 1, 5 and 15 s later; more
//! often only through a rate limit. Large sets go out in chunks, so that an advert never waits behind them.

use super::bucket::Bucket;
use crate::time::{Duration, Instant};

/// Repeats after a claim.
pub const REPEATS: &[Duration] =
    &[Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15)];
/// Repeats after a claim with a virtual MAC: an owner of another make lets go when it hears our first advert, and what
/// its kernel sends last turns the switches back to it (measured with keepalived).
pub const VIRTUAL_MAC_REPEATS: &[Duration] = &[
    Duration::from_millis(15),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
];
/// When the previous owner has told that it lets go in 20 ms. Until then it answers ARP and neighbour discovery as well:
/// who asks it after the last announcement loses what it sends between the release and the next one. So the last goes
/// as late as it can without coming behind the release.
const BEFORE_RELEASE: &[Duration] =
    &[Duration::ZERO, Duration::from_millis(15), Duration::from_millis(19)];
/// Announcements per chunk: at 3 us each a chunk takes 0.2 ms.
pub const CHUNK: usize = 64;
/// Between two chunks of one burst.
const PAUSE: Duration = Duration::from_micros(500);

/// The announcement schedule of one unit; idle until [`Schedule::start`].
#[derive(Clone, Debug)]
pub struct Schedule {
    /// After how long each repeat comes.
    steps: &'static [Duration],
    /// Address to go on with, and when; the burst in progress.
    burst: Option<(usize, Instant)>,
    /// Start of the schedule and the next repeat.
    repeats: Option<(Instant, usize)>,
    /// When the release of the previous owner was told, and the next step of [`BEFORE_RELEASE`].
    release: Option<(Instant, usize)>,
    /// The kernel has the addresses: nothing is announced before (DESIGN 5.4).
    open: bool,
    /// Extra bursts: weaker adverts, conflicts.
    extra: Bucket,
    /// An extra burst was reserved for then.
    waiting: Option<Instant>,
}

impl Schedule {
    /// A schedule that repeats after `steps`.
    pub fn new(steps: &'static [Duration]) -> Self {
        Self {
            steps,
            burst: None,
            repeats: None,
            release: None,
            open: false,
            extra: Bucket::new(2, Duration::from_secs(1)),
            waiting: None,
        }
    }

    /// Announce now and repeat: the kernel confirmed a claim, or after a pause or a resolved conflict.
    pub fn start(&mut self, now: Instant) {
        self.open = true;
        self.release = None;
        self.overtake();
        self.burst = Some((0, now));
        self.repeats = Some((now, 0));
    }

    /// The previous owner lets go in 20 ms: announce until then, whatever the rate.
    pub fn release_near(&mut self, now: Instant) {
        if self.open {
            self.release = Some((now, 0));
        }
    }

    /// Announce now, once, whatever the rate: the previous owner has let go.
    pub fn once(&mut self, now: Instant) {
        if self.open {
            self.release = None;
            self.overtake();
            self.burst = Some((0, now));
        }
    }

    /// Announce once, as soon as the rate allows: after a weaker advert. Never dropped: the last of several
    /// rivals to let go may have announced itself after our last burst.
    pub fn limited(&mut self, now: Instant) {
        let about_to = self.burst.is_some_and(|(from, _)| from == 0);
        if self.open && !about_to && self.waiting.is_none() {
            self.waiting = Some(self.extra.reserve(now));
        }
    }

    /// Another burst comes sooner than the one that waits for its turn, which costs nothing then.
    fn overtake(&mut self) {
        if self.waiting.take().is_some() {
            self.extra.refund();
        }
    }

    /// Leaving Active: nothing more is announced.
    pub fn cancel(&mut self) {
        self.open = false;
        self.overtake();
        self.burst = None;
        self.repeats = None;
        self.release = None;
    }

    /// When [`Schedule::due`] has something.
    pub fn deadline(&self) -> Instant {
        let repeat = self.repeats.map(|(start, n)| start + self.steps[n]);
        let release = self.release.map(|(start, n)| start + BEFORE_RELEASE[n]);
        // What waits starts after the burst in progress.
        let next = self.burst.map(|(_, at)| at).or(self.waiting);
        [repeat, release, next].into_iter().flatten().min().unwrap_or(Instant::MAX)
    }

    /// The range of address positions, out of `total`, to announce now.
    pub fn due(&mut self, now: Instant, total: usize) -> std::ops::Range<usize> {
        let steps = [(&mut self.repeats, self.steps), (&mut self.release, BEFORE_RELEASE)];
        let mut again = false;
        for (plan, steps) in steps {
            if let Some((start, n)) = *plan
                && start + steps[n] <= now
            {
                *plan = (n + 1 < steps.len()).then_some((start, n + 1));
                again = true;
            }
        }
        // One that is on its way through a large set is not begun anew.
        if again && self.burst.is_none() {
            self.overtake();
            self.burst = Some((0, now));
        }
        if self.burst.is_none() && self.waiting.is_some_and(|at| at <= now) {
            self.waiting = None;
            self.burst = Some((0, now));
        }
        let Some((from, at)) = self.burst else { return 0..0 };
        if at > now {
            return 0..0;
        }
        let to = (from + CHUNK).min(total);
        self.burst = (to < total).then_some((to, now + PAUSE));
        from..to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_at_1_5_and_15_seconds() {
        let mut s = Schedule::new(REPEATS);
        let start = Instant::from_millis(100);
        s.start(start);
        let mut seen = Vec::new();
        while s.deadline() != Instant::MAX {
            let at = s.deadline();
            if !s.due(at, 1).is_empty() {
                seen.push((at - start).as_millis());
            }
        }
        assert_eq!(seen, [0, 1000, 5000, 15000]);
    }

    #[test]
    fn a_release_that_was_told_is_announced_until_just_before_it() {
        let mut s = Schedule::new(REPEATS);
        s.release_near(Instant::ZERO);
        assert_eq!(s.deadline(), Instant::MAX, "nothing before the kernel has the addresses");
        s.start(Instant::ZERO);
        s.repeats = None;
        assert_eq!(s.due(Instant::ZERO, 1), 0..1);
        let told = Instant::from_millis(180);
        s.release_near(told);
        let mut seen = Vec::new();
        while s.deadline() != Instant::MAX {
            let at = s.deadline();
            seen.push(((at - told).as_millis(), s.due(at, 1).len()));
        }
        assert_eq!(seen, [(0, 1), (15, 1), (19, 1)]);
        // Let go earlier than told: once more, and that was it.
        s.release_near(told);
        s.due(told, 1);
        s.once(told + Duration::from_millis(3));
        assert_eq!(s.due(told + Duration::from_millis(3), 1), 0..1);
        assert_eq!(s.deadline(), Instant::MAX);
    }

    #[test]
    fn large_sets_go_out_in_chunks_and_completely() {
        let mut s = Schedule::new(REPEATS);
        s.start(Instant::ZERO);
        s.repeats = None;
        let mut covered = 0;
        while s.deadline() != Instant::MAX {
            let at = s.deadline();
            let range = s.due(at, 1000);
            assert_eq!(range.start, covered);
            assert!(range.len() <= CHUNK);
            covered = range.end;
        }
        assert_eq!(covered, 1000);
    }

    #[test]
    fn cancel_forgets_repeats() {
        let mut s = Schedule::new(REPEATS);
        s.start(Instant::ZERO);
        s.cancel();
        assert_eq!(s.deadline(), Instant::MAX);
    }

    #[test]
    fn nothing_is_announced_before_the_kernel_confirmed() {
        let mut s = Schedule::new(REPEATS);
        s.limited(Instant::ZERO);
        s.once(Instant::ZERO);
        assert_eq!(s.deadline(), Instant::MAX);
    }

    #[test]
    fn a_limited_burst_comes_late_but_comes() {
        let mut s = Schedule::new(REPEATS);
        let now = Instant::from_millis(20_000);
        s.start(Instant::ZERO);
        while s.deadline() <= now {
            s.due(now, 1);
        }
        let mut times = Vec::new();
        for _ in 0..3 {
            s.limited(now);
            let at = s.deadline();
            times.push((at - now).as_millis());
            s.due(at, 1);
        }
        assert_eq!(times, [0, 0, 1000]);
    }

    #[test]
    fn a_repeat_is_not_swallowed_by_a_limited_burst_that_waits() {
        let mut s = Schedule::new(REPEATS);
        s.start(Instant::ZERO);
        s.due(Instant::ZERO, 1);
        let at = Instant::from_millis(900);
        for _ in 0..2 {
            s.limited(at);
            s.due(at, 1);
        }
        s.limited(at);
        assert_eq!(s.deadline(), Instant::from_millis(1000));
        assert_eq!(s.due(s.deadline(), 1), 0..1);
        // It came sooner: the one that waited is neither sent nor paid for.
        assert_eq!(s.deadline(), Instant::from_millis(5000));
        s.limited(Instant::from_millis(1001));
        assert_eq!(s.deadline(), Instant::from_millis(1900));
    }

    #[test]
    fn what_was_cancelled_does_not_delay_the_next_owner_announcements() {
        let mut s = Schedule::new(REPEATS);
        let now = Instant::from_millis(10_000);
        for _ in 0..4 {
            s.start(now);
            s.due(now, 1);
            for _ in 0..3 {
                s.limited(now);
                s.due(now, 1);
            }
            s.cancel();
        }
        s.start(now);
        s.due(now, 1);
        s.limited(now);
        assert_eq!(s.deadline(), now + Duration::from_secs(1));
    }

    #[test]
    fn a_limited_burst_lets_the_one_in_progress_finish() {
        let mut s = Schedule::new(REPEATS);
        s.start(Instant::ZERO);
        assert_eq!(s.due(Instant::ZERO, 100), 0..CHUNK);
        s.limited(Instant::ZERO);
        assert_eq!(s.due(s.deadline(), 100), CHUNK..100);
        assert_eq!(s.due(s.deadline(), 100), 0..CHUNK);
    }
}
