//! What keeps an address from bouncing, and how a host stands by.

use super::Program;
use crate::time::Duration;
use crate::types::CheckIx;

/// How this host stands by.
#[derive(Clone, Debug, PartialEq)]
pub enum Standby {
    /// Claims by itself.
    Hot,
    /// Activates first, then claims by itself.
    Warm(Activation),
    /// Never claims by itself; `vipd promote` makes it. Without an activation it only claims.
    Cold(Option<Activation>),
}

impl Standby {
    /// Which of the three.
    pub const fn kind(&self) -> StandbyKind {
        match self {
            Self::Hot => StandbyKind::Hot,
            Self::Warm(_) => StandbyKind::Warm,
            Self::Cold(_) => StandbyKind::Cold,
        }
    }

    /// What has to be done before a claim.
    pub const fn activation(&self) -> Option<&Activation> {
        match self {
            Self::Hot => None,
            Self::Warm(activation) => Some(activation),
            Self::Cold(activation) => activation.as_ref(),
        }
    }
}

/// How a host stands by, in a word.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum StandbyKind {
    /// `"hot"`.
    Hot,
    /// `"warm"`.
    Warm,
    /// `"cold"`.
    Cold,
}

/// What makes a warm or cold host able to serve.
#[derive(Clone, Debug, PartialEq)]
pub struct Activation {
    /// Starts the service; its timeout bounds program and readiness together.
    pub program: Program,
    /// Passes when the service is ready. Counts for nothing else while this host does not own.
    pub ready: Option<CheckIx>,
}

/// What keeps an address from bouncing (defaults: ha-practice 3).
#[derive(Clone, Debug, PartialEq)]
pub struct FlapControl {
    /// `None`: off.
    pub damping: Option<Damping>,
    /// `None`: off.
    pub budget: Option<Budget>,
    /// An owner whose priority is degraded gets this much back, never above the configured one.
    pub stickiness: u8,
    /// Between two changes of the effective priority by checks.
    pub priority_hold: Duration,
}

impl FlapControl {
    /// Nothing keeps it.
    pub const OFF: Self =
        Self { damping: None, budget: None, stickiness: 0, priority_hold: Duration::ZERO };
}

/// What an instance has that is not told otherwise; [`FlapControl::OFF`] has to be said.
impl Default for FlapControl {
    fn default() -> Self {
        Self {
            damping: Some(Damping::default()),
            budget: Some(Budget::default()),
            stickiness: 10,
            priority_hold: Duration::from_secs(10),
        }
    }
}

/// Penalties for losing the address, halved by time.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Damping {
    /// A penalty is half of it after this long.
    pub half_life: Duration,
    /// Held from this penalty on.
    pub suppress: u32,
    /// Free again at this one.
    pub reuse: u32,
    /// Never more than this.
    pub ceiling: u32,
    /// Never held for longer.
    pub max_suppress: Duration,
}

/// Form of RFC 2439: 1000 for each loss, out after three within minutes.
impl Default for Damping {
    fn default() -> Self {
        Self {
            half_life: Duration::from_secs(600),
            suppress: 2500,
            reuse: 1000,
            ceiling: 10_000,
            max_suppress: Duration::from_secs(3600),
        }
    }
}

/// Automatic moves of an instance before it is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// So many moves within so long; the first that is spent holds.
    pub limits: Vec<(u32, Duration)>,
    /// Held until this long without a move, or until acknowledged.
    pub quiet: Duration,
}

impl Budget {
    /// The most moves that a limit may allow: as many are remembered.
    pub const MOST_MOVES: u32 = 64;
}

/// A loop of two hosts is over after three moves; slower ones are caught by the hour.
impl Default for Budget {
    fn default() -> Self {
        Self {
            limits: vec![(3, Duration::from_secs(600)), (6, Duration::from_secs(3600))],
            quiet: Duration::from_secs(3600),
        }
    }
}
