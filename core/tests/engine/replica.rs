//! Instances whose state follows the address (DESIGN 5.13, P5): epochs over restarts, what a stale copy does to a claim,
//! planned moves that wait for the state, and preemption that becomes one.

mod barrier;
mod epochs;
mod gate;
mod preempt;

use crate::bench::{Bench, Said, WEB, beating, model, ms};
use crate::fit::secs;
use crate::world::World;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{EventKind, Input, Memory, ReplicaState};
use vipd_core::engine::snapshot::RoleView;
use vipd_core::time::Duration;
use vipd_core::types::{HostIx, InstanceIx, SetIx};

/// A set of `web` with this gate.
pub(crate) fn set(gate: &str) -> String {
    format!(
        "[replicate.state]\ninstance = \"web\"\npaths = [\"/srv/state\"]\npromote-gate = \"{gate}\"\n"
    )
}

/// The replicator of a host says how old its copy is; `None`: it says nothing any more.
pub(crate) fn copy(age: Option<Duration>) -> Input<'static> {
    let state = age.map(|age| ReplicaState { age: Some(age), pending: 0 });
    Input::Replica { set: SetIx(0), state }
}

/// Every copy is complete now.
fn fresh(world: &mut World) {
    for host in 0..world.hosts.len() {
        world.give(host, copy(Some(Duration::ZERO)));
    }
}

/// Three hosts with a set, whose copies are complete; lb1 owns.
fn stateful(gate: &str, change: impl Fn(&mut Model)) -> World {
    let text = beating(&set(gate));
    let mut world = World::of((1..=3).map(|n| crate::fit::bench(&text, n, &change)).collect());
    fresh(&mut world);
    confirm(&mut world);
    world.run(secs(6));
    assert_eq!(world.owners(), [0]);
    world.forget();
    world
}

/// Every disk takes what was to be stored.
fn confirm(world: &mut World) {
    for host in 0..world.hosts.len() {
        let reserved = world.hosts[host].stored().epoch.reserved;
        world.give(host, Input::Stored { instance: WEB, reserved, result: Ok(()) });
    }
}

impl Bench {
    /// What is on its disk of `WEB`.
    pub(crate) fn stored(&self) -> Memory {
        let told = self.told().into_iter().filter_map(|e| match e.kind {
            EventKind::Remember(memory) if e.instance == Some(WEB) => Some(memory),
            _ => None,
        });
        told.last().unwrap_or_default()
    }

    pub(crate) fn role(&self) -> RoleView {
        let roles = self.snapshot().roles;
        roles.into_iter().find(|(ix, _)| *ix == WEB).expect("it has a set").1
    }

    /// Barriers that were asked for: whose, by which order, to whom.
    pub(crate) fn barriers(&self) -> Vec<(InstanceIx, u64, HostIx)> {
        let said = self.log.iter().filter_map(|(_, said)| match said {
            Said::Barrier(ix, order, to) => Some((*ix, *order, *to)),
            _ => None,
        });
        said.collect()
    }

    /// Barriers that are over: by which order, and whether the address is gone.
    pub(crate) fn over(&self) -> Vec<(u64, bool)> {
        let said = self.log.iter().filter_map(|(_, said)| match said {
            Said::BarrierOver(order, moved) => Some((*order, *moved)),
            _ => None,
        });
        said.collect()
    }
}

/// Host `n` of [`stateful`], started now with what is on its disk.
pub(crate) fn started(world: &World, n: u8, gate: &str, memory: Memory) -> Bench {
    let mut fresh = Bench::of(model(&beating(&set(gate)), &format!("lb{n}")), n, vec![]);
    fresh.restart_at(world.now, world.now.as_nanos() / 1_000_000);
    fresh.engine.recall(Some(WEB), memory);
    fresh
}
