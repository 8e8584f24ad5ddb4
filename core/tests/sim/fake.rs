//! Tries the world without the engine: an owner by decree that renews its lease, and a backup that believes adverts.

use crate::directed::{fault, holders, pair};
use crate::host::{Agent, Brain, LINK};
use crate::invariants::Rule;
use crate::run::Case;
use crate::scenario::{mac, own_addrs};
use crate::schedule::{Fault, Schedule, Timed};
use crate::world::{Maker, World};
use std::collections::VecDeque;
use std::sync::Arc;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{Announce, Input, Memory, Output, Own, Renew, Transmit, Want};
use vipd_core::time::{Duration, Instant, Now};
use vipd_core::types::{Family, InstanceIx, RouterId};

/// Plain VRRP without any of the rules that the promises need; version 3, IPv4, one address.
pub(crate) struct Plain {
    model: Arc<Model>,
    active: bool,
    deadline: Instant,
    order: u64,
    out: VecDeque<Output>,
    done: bool,
}

const ROUTER: RouterId = RouterId { instance: InstanceIx(0), family: Family::V4 };

impl Plain {
    pub(crate) fn make(model: Arc<Model>, _boot: u64, now: Now) -> Box<dyn Brain> {
        let deadline = now.mono + Self::down(&model);
        let out = VecDeque::new();
        Box::new(Self { model, active: false, deadline, order: 0, out, done: false })
    }

    fn down(model: &Model) -> Duration {
        let t = model.instances[0].interval.duration();
        t * 3 + t * (256 - u32::from(model.instances[0].priority.get())) / 256
    }

    fn host(&self) -> usize {
        usize::from(self.model.host.0)
    }

    fn advert(&mut self, priority: u8) {
        let payload = vec![vec![0x31, 51, priority, 1]];
        let (src, dst) = (own_addrs(self.host())[0], vec![Family::V4.group()]);
        let transmit =
            Transmit { router: ROUTER, link: LINK, src, dst, virtual_mac: false, payload };
        self.out.push_back(Output::Send(transmit));
    }

    fn own(&mut self, want: Want) {
        self.order += 1;
        self.out.push_back(Output::Own(Own { instance: ROUTER.instance, order: self.order, want }));
    }
}

impl Brain for Plain {
    fn retired(&self) -> bool {
        true
    }

    fn handle(&mut self, now: Now, input: Input<'_>) {
        let me = self.model.instances[0].priority.get();
        let t = self.model.instances[0].interval.duration();
        match input {
            Input::Timeout if !self.active => {
                self.active = true;
                self.deadline = now.mono + t;
                self.advert(me);
                let (lease_secs, families) = (Some(2), [true, false]);
                self.own(Want::Hold { lease_secs, not_after: now.mono + t, families });
            }
            Input::Timeout => {
                self.deadline = now.mono + t;
                self.advert(me);
                self.order += 1;
                let instances = vec![(ROUTER.instance, 2)];
                let not_after = now.mono + t;
                self.out.push_back(Output::Renew(Renew {
                    instances,
                    order: self.order,
                    not_after,
                }));
            }
            Input::Packet(p) if p.payload[2] > me => {
                if std::mem::take(&mut self.active) {
                    self.advert(me);
                    self.own(Want::Free);
                }
                self.deadline = now.mono + Self::down(&self.model);
            }
            Input::Packet(_) if self.active => self.advert(me),
            Input::Applied(_) if self.active => {
                let (addr, mac) = (self.model.instances[0].addresses[0].addr, mac(self.host()));
                self.out.push_back(Output::Announce(Announce {
                    router: ROUTER,
                    link: LINK,
                    addr,
                    mac,
                }));
            }
            Input::Stop => {
                self.own(Want::Free);
                self.deadline = Instant::MAX;
            }
            Input::Applied(_) => self.done = self.deadline == Instant::MAX,
            _ => {}
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn stopped(&self) -> bool {
        self.done
    }

    fn start_as_backup(&mut self, _: Instant) {}

    fn recall(&mut self, _: Option<InstanceIx>, _: Memory) {}

    fn settling(&self) -> bool {
        false
    }
}

fn world(faults: Vec<Timed>) -> World {
    World::new(1, pair(), Schedule(faults), None, Plain::make as Maker)
}

#[test]
fn the_stronger_host_owns_and_the_client_knows() {
    let mut world = world(vec![fault(4000, 1, Fault::Resolve)]);
    assert_eq!(world.run(Instant::from_millis(10_000)), None);
    assert_eq!(holders(&world), [0]);
    let vip = world.hosts[0].model.instances[0].addresses[0].addr;
    assert_eq!(world.client.entry(vip), Some(mac(0)));
}

#[test]
fn a_lease_ends_while_its_agent_hangs() {
    // Owner at about 3.2 s; hangs at 5 s: the lease ends at 7.4 s at the latest, the other one claims at 8.6 s.
    let mut world = world(vec![fault(5000, 20_000, Fault::Pause(0))]);
    assert_eq!(world.run(Instant::from_millis(7800)), None);
    assert_eq!(holders(&world), []);
    assert_eq!(world.hosts[0].agent, Agent::Hung);
    assert_eq!(world.run(Instant::from_millis(9000)), None);
    assert_eq!(holders(&world), [1]);
}

#[test]
fn a_dead_agent_leaves_no_orders_and_starts_anew() {
    let mut world = world(vec![fault(5000, 10_000, Fault::Kill(0))]);
    assert_eq!(world.run(Instant::from_millis(12_000)), None);
    assert_eq!((holders(&world), world.hosts[0].boot), (vec![1], 1));
    assert_eq!(world.run(Instant::from_millis(20_000)), None);
    assert_eq!((holders(&world), world.hosts[0].boot), (vec![0], 2));
}

#[test]
fn a_kernel_that_keeps_a_lapsed_lease_is_found() {
    let faults = Schedule(vec![fault(5000, 20_000, Fault::Pause(0))]);
    let mut world = World::new(1, pair(), faults, None, Plain::make as Maker);
    for host in &mut world.hosts {
        host.kernel.expires = false;
    }
    let found = world.run(Instant::from_millis(20_000)).unwrap();
    assert_eq!(found.rule, Rule::LeaseOverrun);
}

#[test]
fn two_runs_of_one_case_are_identical() {
    let case = Case {
        seed: 7,
        scenario: pair(),
        schedule: Schedule(vec![
            fault(5000, 900, Fault::Pause(0)),
            fault(7000, 10, Fault::Resolve),
        ]),
        breakage: None,
        maker: Plain::make,
    };
    assert_eq!(case.run().digest, case.run().digest);
}
