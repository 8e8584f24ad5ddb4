//! Rest for the protocol thread: a flood of datagrams must not take a whole processor at real-time priority.
//!
//! Asked once per turn of the loop. The kernel thread runs one priority below: on a processor that the loop never leaves, no
//! lease is renewed, and an owner that hears everything lets go all the same. The kernel would also end the process, which
//! counts how long a real-time thread goes without sleep. Pure: it reads no clock and does not sleep itself.

use vipd_core::time::Duration;

/// Work that is done without rest. A burst of a thousand adverts takes about as long.
const WORK: Duration = Duration::from_millis(1);
/// So much work is made good by one part of sleep: a fifth of the time stays for others.
const SHARE: u32 = 4;
/// What arrives meanwhile waits in queues that hold far more, and is as old as its stamp of arrival says; but adverts are
/// not to be later than this. What is missing is made good after the next turn.
const LONGEST: Duration = Duration::from_millis(1);

/// How much work has not been made good by sleep.
#[derive(Debug, Default)]
pub(super) struct Rest {
    debt: Duration,
}

impl Rest {
    /// The loop slept for `slept`, what it rested included, then worked for `worked`: how long it has to rest now, if at
    /// all.
    pub(super) fn due(&mut self, slept: Duration, worked: Duration) -> Option<Duration> {
        self.debt = self.debt.saturating_sub(slept * SHARE) + worked;
        (self.debt >= WORK).then(|| (self.debt / SHARE).min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Share of the time that is left to others, in percent, with turns of this kind.
    fn left(slept: Duration, worked: Duration) -> u128 {
        let (mut rest, mut idle, mut busy) = (Rest::default(), Duration::ZERO, Duration::ZERO);
        let mut rested = Duration::ZERO;
        for _ in 0..10_000 {
            idle += slept + rested;
            busy += worked;
            rested = rest.due(slept + rested, worked).unwrap_or_default();
        }
        idle.as_nanos() * 100 / (idle + busy).as_nanos()
    }

    #[test]
    fn a_loop_that_is_never_idle_leaves_a_fifth() {
        let micros = Duration::from_micros;
        assert!(left(Duration::ZERO, micros(10)) >= 19);
        assert!(left(micros(1), micros(30)) >= 19);
        assert!(left(Duration::ZERO, Duration::from_millis(1)) >= 19);
        assert!(left(Duration::ZERO, Duration::from_millis(4)) >= 19);
    }

    #[test]
    fn a_loop_that_sleeps_enough_is_never_held_up() {
        let mut rest = Rest::default();
        // A thousand instances at 100 ms: each millisecond ten adverts.
        for _ in 0..10_000 {
            let due = rest.due(Duration::from_micros(900), Duration::from_micros(100));
            assert_eq!(due, None);
        }
    }
}
