//! What orders leave over a restart of the agent.

use super::*;
use crate::bench::{ETH0, VIP, ip, model, ms};
use vipd_core::engine::io::{Away, FreezeRecord, KernelAddr, Memory};
use vipd_core::policy::Closed;
use vipd_core::types::{Class, State};

impl World {
    /// What is stored of a host: of the host itself, and of `WEB`.
    fn stored(&self, host: usize) -> [Memory; 2] {
        [None, Some(WEB)].map(|instance| {
            let told = self.hosts[host].told().into_iter().filter_map(|e| match e.kind {
                EventKind::Remember(memory) if e.instance == instance => Some(memory),
                _ => None,
            });
            told.last().unwrap_or_default()
        })
    }

    /// The agent of a host starts anew with what is stored; its kernel kept the addresses if `adopts`.
    fn restart(&mut self, host: usize, adopts: bool) {
        let [of_host, of_web] = self.stored(host);
        let n = u8::try_from(host + 1).unwrap();
        let mut fresh = Bench::of(model(&beating(""), &format!("lb{n}")), n, vec![]);
        // Its clock began before: the engine starts where the world is.
        fresh.restart_at(self.now, self.now.as_nanos() / 1_000_000);
        fresh.engine.recall(None, of_host);
        fresh.engine.recall(Some(WEB), of_web);
        fresh.give(Input::Link { link: ETH0, state: crate::bench::eth0(n) });
        let kept = KernelAddr {
            addr: ip(VIP),
            prefix_len: 32,
            ours: true,
            age: ms(100),
            valid_for: Some(secs(2)),
        };
        let present: &[KernelAddr] = if adopts { &[kept] } else { &[] };
        fresh.give(Input::Addresses { link: ETH0, present });
        self.replace(host, fresh);
    }
}

#[test]
fn a_pin_goes_on_with_the_ownership_and_with_nothing_else() {
    let mut world = three();
    assert!(world.carried_out(0, to(1)).is_ok());
    assert!(world.stored(1)[1].orders.pin.is_some());
    world.restart(1, true);
    world.run(secs(10));
    world.only(1);
    assert_eq!((world.hosts[1].unit().pinned, world.hosts[1].unit().priority), (true, 254));
    // Without its addresses it is a new ownership, if any.
    world.restart(1, false);
    world.run(secs(10));
    world.only(0);
    assert!(!world.hosts[1].unit().pinned);
}

#[test]
fn the_source_of_a_move_does_not_take_it_back_after_a_restart() {
    let mut world = three();
    assert!(world.carried_out(0, to(1)).is_ok());
    assert_eq!(world.stored(0)[1].orders.away, Some(Away::Pinned));
    world.restart(0, false);
    world.run(secs(30));
    world.only(1);
    assert_eq!(world.hosts[0].unit().gate, Some(Closed::MovedAway));
    // Not even with the addresses of an overlap that it died in.
    world.restart(0, true);
    world.run(secs(30));
    world.only(1);
}

#[test]
fn drains_freezes_and_priorities_outlive_a_restart() {
    let mut world = three();
    world.order(0, 1, None, DRAIN);
    world.run(secs(2));
    let until = Some(world.now + secs(60));
    let value = vipd_core::types::Priority::new(20).unwrap();
    let order = OperatorOrder::SetPriority { priority: Some(value), until };
    world.order(0, 2, Some(WEB), order);
    world.order(0, 3, Some(WEB), OperatorOrder::Freeze { until });
    world.run(secs(10));
    let [of_host, of_web] = world.stored(0);
    assert!(of_host.orders.drained.is_some() && of_web.orders.drained.is_none());
    assert!(matches!(of_web.orders.freeze, Some(FreezeRecord { until_ms: Some(_), .. })));
    world.restart(0, false);
    world.run(secs(5));
    let unit = world.hosts[0].unit();
    assert_eq!((unit.class, unit.priority, unit.state), (Class::Drained, 20, State::Backup));
    assert!(unit.frozen.is_some_and(|left| left.is_some_and(|left| left <= secs(46))));
    world.run(secs(60));
    let unit = world.hosts[0].unit();
    assert_eq!((unit.class, unit.priority, unit.frozen), (Class::Drained, 150, None));
}

#[test]
fn a_drain_with_an_end_outlives_a_restart_and_ends_while_the_host_is_off() {
    let mut world = three();
    let until = Some(world.now + secs(60));
    let drain = OperatorOrder::Drain { until, last_resort: false, allow_outage: false };
    world.order(0, 1, None, drain);
    world.run(secs(10));
    world.restart(0, false);
    world.run(secs(5));
    assert_eq!(world.hosts[0].unit().class, Class::Drained, "45 s are left");
    world.off.insert(0);
    world.run(secs(50));
    world.off.remove(&0);
    world.restart(0, false);
    world.run(secs(5));
    assert_eq!(world.hosts[0].unit().class, Class::Healthy);
}

#[test]
fn a_thaw_is_newer_than_the_freeze_that_a_host_slept_through() {
    let mut world = three();
    world.order(0, 1, Some(WEB), FREEZE);
    world.run(secs(2));
    world.off.insert(2);
    world.run(secs(10));
    world.order(0, 2, Some(WEB), OperatorOrder::Thaw);
    world.run(secs(2));
    world.off.remove(&2);
    world.restart(2, false);
    world.run(secs(5));
    assert!(world.hosts.iter().all(|h| h.unit().frozen.is_none()));
}
