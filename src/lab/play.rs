//! Plays scenes on a stage and writes down what came of each.
//!
//! Called by `vipd lab`, by acceptance tests and by benches.

use super::clock::{millis, now, sleep_until};
use super::outage::{Outage, Summary};
use super::plan::Preempt;
use super::scene::{Expect, Scene, Whom};
use super::stage::Stage;
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
    /// Did what was expected come, in time?
    pub reached: bool,
    /// From the act to the moment at which it had come, in milliseconds.
    pub reached_ms: Option<f64>,
    /// What the client saw at the address where it saw the worst.
    pub client: Summary,
    /// How long two hosts had the address, in milliseconds.
    pub two_owners_ms: f64,
    /// How long nobody had it.
    pub nobody_ms: f64,
    /// The watched time in milliseconds: it ends some time after what was expected had come.
    pub watched_ms: f64,
    /// When the act was done.
    #[serde(skip)]
    pub at: Instant,
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
        let follows = scene.after.is_some() && scene.after == self.last.map(|(name, _)| name);
        let host = match (scene.whom, self.last) {
            (Whom::SameAsBefore, Some((_, ix))) if follows => ix,
            // The first scene of all starts what there is.
            (_, None) => 0,
            _ => {
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
            reached: reached.is_some(),
            reached_ms: reached.map(|then| millis(then.since(at))),
            client: client.map_or_else(|| Outage::default().summary(), |(_, s)| s),
            two_owners_ms: millis(stage.two_owners(at, end)),
            nobody_ms: millis(nobody.unwrap_or_default()),
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
    /// After that: what breaks late (a stale neighbour entry, a second move) must be seen.
    calm: Duration,
}

impl Bounds {
    fn of(stage: &Stage) -> Self {
        let interval = stage.plan().interval;
        Self {
            reached: stage.plan().detection() * 2 + Duration::from_secs(8),
            let_go: interval * 3 + Duration::from_millis(2500),
            preempt: match stage.plan().preempt {
                Preempt::Never => None,
                Preempt::After(delay) => {
                    Some(stage.plan().detection() + delay + Duration::from_secs(1))
                }
            },
            calm: (interval * 2).max(Duration::from_millis(500)),
        }
    }
}
