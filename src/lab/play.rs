//! Plays scenes on a stage and writes down what came of each.
//!
//! Called by `vipd lab`, by acceptance tests and by benches.

use super::clock::{millis, now, sleep_until};
use super::health::Health;
use super::outage::{Outage, Summary};
use super::plan::Preempt;
use super::scene::{Expect, Needs, SCENES, Scene, Whom};
use super::stage::Stage;
use anyhow::bail;
use serde::Serialize;
use std::time::Duration;
use vipd_core::time::Instant;

/// What came of a scene.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Name of the scene.
    pub scenario: &'static str,
    /// What happened.
    pub about: &'static str,
    /// To which host.
    pub host: String,
    /// Who had the address before.
    pub before: Vec<String>,
    /// Who had it at the end.
    pub after: Vec<String>,
    /// What was expected.
    #[serde(skip)]
    pub expect: Expect,
    /// Did it come, in time?
    pub reached: bool,
    /// From the act to the moment at which it had come, in milliseconds.
    pub reached_ms: Option<f64>,
    /// What the client saw at the address where it saw the worst.
    pub client: Summary,
    /// How long two hosts had the address, in milliseconds.
    pub two_owners_ms: f64,
    /// How long nobody had it.
    pub nobody_ms: f64,
    /// How often it went to another host, as the hosts' kernels saw it.
    pub moves: usize,
    /// How often it may; `None`: that is not judged in this scene.
    pub moves_allowed: Option<usize>,
    /// The host whose service answered the client at the end; `None`: none did, or the room has no services.
    pub served_by: Option<String>,
    /// The watched time in milliseconds: it ends some time after what was expected had come.
    pub watched_ms: f64,
    /// When the act was done.
    #[serde(skip)]
    pub at: Instant,
}

impl Row {
    /// Did what was expected come, with no more moves than allowed?
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        self.reached && self.moves_allowed.is_none_or(|allowed| self.moves <= allowed)
    }
}

/// Plays scenes one after the other.
#[derive(Debug, Default)]
pub struct Player {
    last: Option<(&'static str, usize)>,
}

impl Player {
    /// Plays one scene. What an earlier one broke is repaired first, unless this one follows from it.
    ///
    /// # Errors
    /// When the scene cannot be played: no owner to begin with, or a fault that cannot be made. What
    /// the agents do wrong is no error but in the row.
    pub fn play(&mut self, stage: &mut Stage, scene: &Scene) -> anyhow::Result<Row> {
        let bounds = Bounds::of(stage);
        if scene.needs == Needs::Health && stage.plan().health.is_none() {
            bail!("this room has no services and no checks: its plan has no health section");
        }
        let follows = scene.after.is_some() && scene.after == self.last.map(|(name, _)| name);
        let host = match (scene.whom, self.last) {
            (Whom::SameAsBefore, Some((_, ix))) if follows => ix,
            // The first scene of all starts what there is.
            (_, None) => 0,
            _ => {
                let first = self.last.is_some_and(|(name, _)| name == SCENES[0].name);
                if scene.needs == Needs::Health && !first {
                    // Penalties and moves of an earlier scene would decide this one.
                    stage.forget()?;
                }
                let owner = stage.restore(bounds.reached)?;
                sleep_until(now() + bounds.calm);
                stage.owner().unwrap_or(owner)
            }
        };
        self.last = Some((scene.name, host));
        let vip = stage.plan().vips()[0];
        let names = |stage: &Stage| -> Vec<String> {
            let holders = stage.eyes().holders(vip);
            holders.into_iter().map(|ix| stage.room().host(ix).name().to_owned()).collect()
        };
        let before = names(stage);
        let at = scene.act.on(stage, host)?;
        let reached = match scene.expect {
            Expect::Owner => stage.wait(bounds.reached, |holders| holders.len() == 1),
            Expect::Successor => {
                stage.wait(bounds.reached, |holders| holders.iter().any(|ix| *ix != host))
            }
            Expect::Stays => {
                sleep_until(now() + bounds.noticed);
                let same = stage.moves(at, now()) == 0;
                stage.wait(bounds.calm, |holders| holders == [host]).filter(|_| same)
            }
            Expect::Returns => {
                let back = stage.wait(bounds.returns, |holders| holders == [host]);
                back.filter(|back| back.since(at) >= bounds.not_before)
            }
        };
        // Who lost the address must let go as well; how long that took is in the row.
        let _ = stage.wait(bounds.let_go, |holders| holders.len() == 1);
        // Who came back may take it from who has it now; not every agent and plan does.
        let favourite = bounds.preempt.zip(stage.favourite());
        let reached = match (scene.expect, favourite) {
            (Expect::Owner, Some((bound, ix))) => stage.wait(bound, |h| h == [ix]).or(reached),
            _ => reached,
        };
        sleep_until(now() + bounds.calm);
        let end = now();
        let client = stage
            .outages(at, end)
            .iter()
            .map(|o| (o.longest_gap, o.summary()))
            .max_by_key(|(gap, _)| *gap);
        let seen = stage.eyes().seen();
        let nobody = stage.plan().vips().iter().map(|vip| seen.gap(*vip, at, end)).max();
        Ok(Row {
            scenario: scene.name,
            about: scene.about,
            host: stage.room().host(host).name().to_owned(),
            before,
            after: names(stage),
            expect: scene.expect,
            reached: reached.is_some(),
            reached_ms: reached.map(|then| millis(then.since(at))),
            client: client.map_or_else(|| Outage::default().summary(), |(_, s)| s),
            two_owners_ms: millis(stage.two_owners(at, end)),
            nobody_ms: millis(nobody.unwrap_or_default()),
            moves: stage.moves(at, end),
            moves_allowed: scene.moves,
            served_by: stage.plan().health.as_ref().and_then(|_| stage.served_by()),
            watched_ms: millis(end.since(at)),
            at,
        })
    }
}

/// How long to wait for what.
struct Bounds {
    /// For what a scene expects.
    reached: Duration,
    /// For who lost the address to let go: a lease of 3 T and the kernel's lateness.
    let_go: Duration,
    /// For a stronger host to take the address back; `None`: it never does.
    preempt: Option<Duration>,
    /// Before that a host that was unfit does not take the address back.
    not_before: Duration,
    /// By then it must have.
    returns: Duration,
    /// By then a failed check has had its effect.
    noticed: Duration,
    /// After that: what breaks late (a stale neighbour entry, a second move) must be seen.
    calm: Duration,
}

impl Bounds {
    fn of(stage: &Stage) -> Self {
        let interval = stage.plan().interval;
        let detection = stage.plan().detection();
        let delay = match stage.plan().preempt {
            Preempt::Never => Duration::ZERO,
            Preempt::After(delay) => delay,
        };
        Self {
            reached: detection * 2 + Duration::from_secs(8),
            not_before: delay,
            returns: delay + Health::rises_within() + detection * 2 + Duration::from_secs(8),
            noticed: Health::falls_within() + detection * 2 + Duration::from_secs(2),
            let_go: interval * 3 + Duration::from_millis(2500),
            preempt: match stage.plan().preempt {
                Preempt::Never => None,
                Preempt::After(delay) => Some(detection + delay + Duration::from_secs(1)),
            },
            calm: (interval * 2).max(Duration::from_millis(500)),
        }
    }
}
