//! One virtual router: the state machine of RFC 9568 section 6.4 and its version 2 variant.
//!
//! ```text
//!                +------------+  startup below 255
//!                | Initialize |-------------------------+
//!                +------------+                         v
//!                  |  ^   ^ shutdown               +--------+
//!   startup at 255 |  |   +------------------------| Backup |
//!                  v  | shutdown                   +--------+
//!                +--------+   stronger advert         ^  |
//!                | Active |---------------------------+  |
//!                +--------+<-----------------------------+
//!                             Active_Down_Timer, if the engine lets it
//! ```
//!
//! Called by the engine alone, which owns packets, addresses and the question whether this host may claim.
//! It holds the two timers of the RFC and nothing else; it never sends.

pub mod announce;
pub mod bucket;
pub mod timing;

use crate::time::{Duration, Instant};
use crate::types::{HostIx, Interval, State, Version};
use bucket::Bucket;
use std::net::IpAddr;

/// What the operator and the policy say of this host.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Version spoken.
    pub version: Version,
    /// Effective priority, 1-255.
    pub priority: u8,
    /// Advertisement_Interval of this host.
    pub interval: Interval,
    /// Preempt_Mode at this moment: false while a preempt delay or hold-down runs, and while the owner brings its state
    /// before it hands over. At 255 only the last of these counts.
    pub preempt: bool,
}

/// A validated advert of somebody else.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Sender.
    pub src: IpAddr,
    /// Its priority; 0: it leaves.
    pub priority: u8,
    /// Its interval.
    pub interval: Interval,
    /// When it arrived in the kernel.
    pub at: Instant,
}

/// What an advert does to the virtual router (RFC 9568 sections 6.4.2 and 6.4.3).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Initialize: ignored.
    Ignored,
    /// Backup: the owner is alive, the timer was restarted.
    OwnerAlive,
    /// Backup: a weaker owner; the timer runs on, so that this host preempts.
    WeakerOwner,
    /// Backup: the owner leaves, Skew_Time remains.
    OwnerLeaves,
    /// Active: a stronger advert; step down.
    Yield {
        /// Same priority, decided by address.
        tie_break: bool,
    },
    /// Active: a weaker advert or a priority 0; advertise at once. `None` when the rate limit says no.
    Answer {
        /// May it be answered now?
        allowed: bool,
    },
    /// Active: a sender with our own source address: never answered (protocol.md 4.1.3).
    SameAddress,
}

/// Why the Active_Down_Timer runs out.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Nothing was heard for Active_Down_Interval.
    Silence,
    /// The owner left with priority 0.
    Released,
    /// The owner said over another path that it cannot own any more.
    Unable(HostIx),
    /// A weaker owner with this priority is still advertising.
    Preempts(u8),
    /// An operator wants it.
    Ordered,
}

/// What a timer asks for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Active: time for an advert.
    Advert,
    /// Backup: claim, if allowed.
    Claim(Expiry),
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Timer {
    Off,
    /// Active_Down_Timer.
    Down {
        at: Instant,
        expiry: Expiry,
    },
    /// Adver_Timer.
    Adver {
        at: Instant,
    },
}

/// One virtual router.
#[derive(Clone, Debug)]
pub struct VirtualRouter {
    params: Params,
    state: State,
    /// Active_Adver_Interval: that of the last accepted advert (version 2: our own).
    active_interval: Interval,
    /// From when Active_Down_Interval counts: arrival of the last advert that restarted it.
    anchor: Instant,
    timer: Timer,
    /// Last advert of an owner, weaker ones included.
    heard: Option<Heard>,
    answers: Bucket,
}

impl VirtualRouter {
    /// A virtual router in Initialize.
    pub fn new(params: Params) -> Self {
        let answer_every = params.interval.duration().min(Duration::from_millis(100));
        Self {
            params,
            state: State::Initialize,
            active_interval: params.interval,
            anchor: Instant::ZERO,
            timer: Timer::Off,
            heard: None,
            answers: Bucket::new(3, answer_every),
        }
    }

    /// Current state.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Current parameters.
    pub const fn params(&self) -> &Params {
        &self.params
    }

    /// Active_Adver_Interval.
    pub const fn active_interval(&self) -> Interval {
        self.active_interval
    }

    /// The last advert of an owner, if any since startup.
    pub const fn heard(&self) -> Option<&Heard> {
        self.heard.as_ref()
    }

    /// Skew_Time now.
    pub fn skew(&self) -> Duration {
        timing::skew(self.params.version, self.params.priority, self.active_interval)
    }

    /// Active_Down_Interval now.
    pub fn active_down(&self) -> Duration {
        timing::active_down(self.params.version, self.params.priority, self.active_interval)
    }

    /// When [`VirtualRouter::due`] has something.
    pub const fn deadline(&self) -> Instant {
        match self.timer {
            Timer::Off => Instant::MAX,
            Timer::Down { at, .. } | Timer::Adver { at } => at,
        }
    }

    /// Startup below 255, and every way back to Backup that is not caused by an advert.
    pub fn listen(&mut self, now: Instant) {
        self.state = State::Backup;
        self.active_interval = self.params.interval;
        self.restart_down(now, Expiry::Silence);
    }

    /// Backup for an earlier agent of this host: the owner that it heard is known, and its interval; the silence counts
    /// from `now`, because nobody listened in between.
    pub fn resume(&mut self, now: Instant, heard: Option<Heard>, active_interval: Interval) {
        self.state = State::Backup;
        self.heard = heard;
        self.active_interval = match self.params.version {
            Version::V2 => self.params.interval,
            Version::V3 => active_interval,
        };
        self.restart_down(now, Expiry::Silence);
    }

    /// Becomes Active: the caller sends the first advert now.
    pub fn become_active(&mut self, now: Instant) {
        self.state = State::Active;
        self.timer = Timer::Adver { at: now + self.params.interval.duration() };
    }

    /// Active steps down after `winner` (RFC 9568 section 6.4.3): its interval is adopted.
    pub fn step_down(&mut self, winner: Heard) {
        self.state = State::Backup;
        self.hear_owner(winner);
    }

    /// Shutdown, or a fault: back to Initialize; the caller has said priority 0 where it should.
    pub fn shut_down(&mut self) {
        self.state = State::Initialize;
        self.timer = Timer::Off;
        self.heard = None;
    }

    /// Changes priority or preemption; Backup recomputes its timer on the old anchor (V68), and what the engine put
    /// off stays put off. True when an Active must advertise at once.
    pub fn set_params(&mut self, params: Params) -> bool {
        let changed =
            (self.params.priority, self.params.interval) != (params.priority, params.interval);
        let put_off = match self.timer {
            Timer::Down { at, expiry } if at > self.expires(expiry) => at,
            _ => Instant::ZERO,
        };
        self.params = params;
        if changed && let Timer::Down { expiry, .. } = self.timer {
            self.timer = Timer::Down { at: self.expires(expiry).max(put_off), expiry };
        }
        changed && self.state == State::Active
    }

    /// Another advertisement interval. An owner's next advert comes no later than that from now; a Backup goes on with
    /// what the owner says, and with its own interval where it has heard none, or speaks version 2.
    pub fn change_interval(&mut self, now: Instant, interval: Interval) {
        let own = self.heard.is_none() || self.params.version == Version::V2;
        if own {
            self.active_interval = interval;
        }
        self.set_params(Params { interval, ..self.params });
        if let Timer::Adver { at } = self.timer {
            self.timer = Timer::Adver { at: at.min(now + interval.duration()) };
        }
    }

    /// When the Active_Down_Timer runs out for this reason, if nothing puts it off.
    fn expires(&self, expiry: Expiry) -> Instant {
        match expiry {
            Expiry::Ordered => self.anchor,
            Expiry::Released | Expiry::Unable(_) => self.anchor + self.skew(),
            Expiry::Silence | Expiry::Preempts(_) => self.anchor + self.active_down(),
        }
    }

    /// Takes an advert of somebody else. `local` is our own source address in the family of the advert.
    pub fn hear(&mut self, heard: Heard, local: IpAddr) -> Reaction {
        match self.state {
            State::Initialize => Reaction::Ignored,
            State::Backup => self.hear_as_backup(heard),
            State::Active => self.hear_as_active(heard, local),
        }
    }

    fn hear_as_backup(&mut self, heard: Heard) -> Reaction {
        if heard.priority == 0 {
            // A later owner's advert decides again; until then Skew_Time remains.
            self.anchor = heard.at;
            self.timer = Timer::Down { at: heard.at + self.skew(), expiry: Expiry::Released };
            return Reaction::OwnerLeaves;
        }
        if self.params.preempt && heard.priority < self.params.priority {
            self.heard = Some(heard);
            if let Timer::Down { at, expiry: Expiry::Silence } = self.timer {
                self.timer = Timer::Down { at, expiry: Expiry::Preempts(heard.priority) };
            }
            return Reaction::WeakerOwner;
        }
        self.hear_owner(heard);
        Reaction::OwnerAlive
    }

    fn hear_as_active(&mut self, heard: Heard, local: IpAddr) -> Reaction {
        if heard.src == local {
            return Reaction::SameAddress;
        }
        if heard.priority == 0 {
            // RFC 9568 section 6.4.3: answer and restart the Adver_Timer.
            let allowed = self.answers.take(heard.at);
            if allowed {
                self.timer = Timer::Adver { at: heard.at + self.params.interval.duration() };
            }
            return Reaction::Answer { allowed };
        }
        let tie_break = heard.priority == self.params.priority && heard.src > local;
        if heard.priority > self.params.priority || tie_break {
            return Reaction::Yield { tie_break };
        }
        // Version 2 knows no immediate answer (RFC 3768 section 6.4.3).
        let allowed = self.params.version == Version::V3 && self.answers.take(heard.at);
        Reaction::Answer { allowed }
    }

    /// Active: may an advert that arrived `at` be answered now, where the engine does not yield to it? Within the limit
    /// of all answers.
    pub fn may_answer(&mut self, at: Instant) -> bool {
        self.answers.take(at)
    }

    fn hear_owner(&mut self, heard: Heard) {
        self.heard = Some(heard);
        if self.params.version == Version::V3 {
            self.active_interval = heard.interval;
        }
        self.restart_down(heard.at, Expiry::Silence);
    }

    fn restart_down(&mut self, anchor: Instant, expiry: Expiry) {
        self.anchor = anchor;
        self.timer = Timer::Down { at: anchor + self.active_down(), expiry };
    }

    /// Backup: the owner lives, as another path says; counts as an advert heard at `at`.
    pub fn owner_alive(&mut self, at: Instant) {
        if self.state == State::Backup {
            self.restart_down(at, Expiry::Silence);
        }
    }

    /// Backup: the owner left or cannot own any more; Skew_Time from `at` remains, or nothing when this
    /// host is `first` in the order of eligibility.
    pub fn owner_gone(&mut self, at: Instant, expiry: Expiry, first: bool) {
        if self.state == State::Backup {
            let wait = if first { Duration::ZERO } else { self.skew() };
            self.anchor = at;
            self.timer = Timer::Down { at: at + wait, expiry };
        }
    }

    /// Backup: asks again at `at` for the same reason as now; the engine could not let it claim yet.
    pub fn ask_again(&mut self, at: Instant) {
        if let Timer::Down { expiry, .. } = self.timer {
            self.timer = Timer::Down { at, expiry };
        }
    }

    /// May an advert that would put off this claim wait unread, where all that arrived before `read_until` was read?
    pub fn may_be_unheard(&self, read_until: Instant) -> bool {
        matches!(
            self.timer,
            Timer::Down { expiry: expiry @ (Expiry::Silence | Expiry::Preempts(_)), .. }
                if self.expires(expiry) > read_until
        )
    }

    /// What is due at `now`. Adverts stay on their grid; points that were missed are left out.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        match self.timer {
            Timer::Adver { at } if at <= now => {
                let step = self.params.interval.duration();
                let next = at + step;
                self.timer = Timer::Adver { at: if next > now { next } else { now + step } };
                Some(Due::Advert)
            }
            Timer::Down { at, expiry } if at <= now => Some(Due::Claim(expiry)),
            _ => None,
        }
    }

    /// Backup: when and why it would claim if nothing more is heard.
    pub const fn next_claim(&self) -> Option<(Instant, Expiry)> {
        match self.timer {
            Timer::Down { at, expiry } => Some((at, expiry)),
            _ => None,
        }
    }

    /// How late a Backup's timer is served at `now`; zero when it is not due.
    pub fn lateness(&self, now: Instant) -> Duration {
        match self.timer {
            Timer::Down { at, .. } => now.since(at),
            _ => Duration::ZERO,
        }
    }

    /// Time since the last advert of an owner, or since startup.
    pub fn silence(&self, now: Instant) -> Duration {
        now.since(self.anchor)
    }
}

#[cfg(test)]
mod tests;
