//! The claim: advert first, address second, announcement third (V50, DESIGN 5.4); repairs (5.8).

use crate::bench::{Bench, ETH0, Orders, Said, VIP, WEB, ip, mac, ms, plain};
use vipd_core::engine::io::{Alarm, Cause, EventKind, Input, KernelAddr, KernelFault};
use vipd_core::time::Duration;
use vipd_core::types::{Mac, State};

/// lb1 at the moment of its claim, its kernel silent.
pub(crate) fn claiming(text: &str) -> Bench {
    let mut lb1 = Bench::up(text, 1);
    lb1.orders = Orders::Pending;
    lb1.become_owner_keeping_log();
    lb1
}

impl Bench {
    fn become_owner_keeping_log(&mut self) {
        while self.state() != State::Active {
            self.step();
        }
    }
}

#[test]
fn v50_advert_then_addresses_then_announcements_and_those_only_when_the_kernel_said_so() {
    let mut lb1 = claiming(&plain("addresses = [\"192.0.2.10/24\", \"192.0.2.20/24\"]"));
    assert_eq!(lb1.story(), ["advert", "hold"]);
    lb1.run(ms(700));
    assert_eq!(lb1.story(), ["advert", "hold"], "no announcement before the kernel's word");
    lb1.applied(Ok(()));
    lb1.run(ms(1));
    assert_eq!(lb1.story(), ["advert", "hold", "announce", "announce"]);
    let addrs: Vec<_> = lb1.announced().iter().map(|(_, a)| (a.addr, a.mac)).collect();
    assert_eq!(addrs, [(ip(VIP), mac(1)), (ip("192.0.2.20"), mac(1))]);
    let claimed =
        |e: &EventKind| matches!(e, EventKind::Claimed { took, addresses: 2 } if *took == ms(700));
    assert!(lb1.events().iter().any(claimed));
}

#[test]
fn announcements_go_out_at_0_1_5_and_15_s() {
    let mut lb1 = claiming(&plain(""));
    lb1.orders = Orders::Done;
    lb1.applied(Ok(()));
    let start = lb1.now;
    lb1.run(ms(60_000));
    let at: Vec<_> = lb1.announced().iter().map(|(at, _)| (*at - start).as_millis()).collect();
    assert_eq!(at, [0, 1000, 5000, 15_000]);
}

#[test]
fn v51_announcements_bear_the_virtual_mac_where_it_is_used() {
    let mut lb1 = Bench::owner(
        &plain("virtual-mac = true\naddresses = [\"192.0.2.10/24\", \"fe80::a/64\"]"),
        1,
    );
    lb1.run(ms(100));
    for (_, a) in lb1.announced() {
        let family = if a.addr.is_ipv4() { 1 } else { 2 };
        assert_eq!(a.mac, Mac([0, 0, 0x5e, 0, family, 51]));
    }
    assert!(lb1.sent().iter().all(|t| t.virtual_mac));
}

#[test]
fn a_new_hardware_address_is_announced() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    lb1.run(ms(20_000));
    lb1.log.clear();
    let mut state = crate::bench::eth0(1);
    state.mac = mac(9);
    lb1.give(Input::Link { link: ETH0, state });
    lb1.run(ms(1));
    assert_eq!(lb1.announced().iter().map(|(_, a)| a.mac).collect::<Vec<_>>(), [mac(9)]);
}

#[test]
fn an_address_that_cannot_be_put_on_is_given_up_with_priority_0() {
    let mut lb1 = claiming(&plain(""));
    lb1.log.clear();
    lb1.applied_to(Err(KernelFault::Foreign(ip(VIP))));
    assert_eq!(lb1.causes(), [(State::Initialize, Cause::KernelFault)]);
    assert_eq!(lb1.story(), ["release", "free"]);
    lb1.run(ms(9_900));
    assert_eq!(lb1.state(), State::Initialize);
    lb1.run(ms(200));
    assert_eq!(lb1.state(), State::Backup, "it tries again");
}

impl Bench {
    /// The result of the order that is under way, whose `Own` was cleared from the log.
    fn applied_to(&mut self, result: Result<(), KernelFault>) {
        for order in 1..10 {
            let at = self.now;
            let applied =
                vipd_core::engine::io::Applied { instance: WEB, order, at, result: result.clone() };
            self.give(Input::Applied(applied));
        }
    }
}

#[test]
fn an_answer_to_an_older_order_means_nothing() {
    let mut lb1 = claiming(&plain(""));
    let old = lb1.owns()[0].1.order;
    lb1.removed(VIP);
    lb1.hear(3, 255);
    assert_eq!(lb1.state(), State::Backup);
    lb1.log.clear();
    let applied =
        vipd_core::engine::io::Applied { instance: WEB, order: old, at: lb1.now, result: Ok(()) };
    lb1.give(Input::Applied(applied));
    lb1.run(ms(1000));
    assert!(lb1.announced().is_empty());
    assert!(!lb1.unit().applied);
}

#[test]
fn repair_an_address_that_somebody_removed_is_back_announced_and_told() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    lb1.run(ms(20_000));
    lb1.log.clear();
    lb1.removed(VIP);
    lb1.run(ms(1));
    assert_eq!(lb1.story(), ["hold", "announce"]);
    assert!(lb1.events().iter().any(|e| matches!(e, EventKind::Repaired(v) if v.addr == ip(VIP))));
}

#[test]
fn repair_after_an_overrun_a_dump_shows_what_is_missing() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    lb1.run(ms(500));
    lb1.log.clear();
    lb1.dump(&[]);
    assert_eq!(lb1.holds(), 1);
}

#[test]
fn repair_has_a_budget() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    let mut removals = 0;
    while lb1.state() == State::Active {
        lb1.run(ms(100));
        lb1.removed(VIP);
        removals += 1;
        assert!(removals < 20);
    }
    assert_eq!(removals, 6, "five repairs");
    assert!(lb1.alarms().contains(&Alarm::AddressFight));
    assert_eq!(lb1.causes().last(), Some(&(State::Initialize, Cause::KernelFault)));
    assert_eq!(*lb1.priorities().last().unwrap(), 0);
}

#[test]
fn foreign_addresses_are_never_touched() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    lb1.run(ms(500));
    lb1.log.clear();
    let addr = |a: &str, ours| KernelAddr {
        addr: ip(a),
        prefix_len: 24,
        ours,
        age: Duration::ZERO,
        valid_for: None,
    };
    let (foreign, mine) = (addr("192.0.2.77", false), addr(VIP, true));
    lb1.dump(&[foreign, mine]);
    lb1.give(Input::AddressAdded { link: ETH0, addr: foreign });
    lb1.removed("192.0.2.77");
    assert_eq!(lb1.story(), [] as [&str; 0]);
    // A Backup leaves even its own virtual address alone while it bears no tag of ours.
    let mut lb2 = Bench::up(&plain(""), 2);
    lb2.dump(&[addr(VIP, false)]);
    lb2.give(Input::AddressAdded { link: ETH0, addr: addr(VIP, false) });
    assert_eq!(lb2.story(), [] as [&str; 0]);
}

#[test]
fn v72_every_change_of_state_says_why() {
    let mut lb2 = Bench::up(&plain(""), 2);
    lb2.become_owner_keeping_log();
    lb2.hear(1, 150);
    lb2.hear(1, 0);
    lb2.run(ms(1000));
    let causes: Vec<_> = lb2.causes();
    assert!(matches!(
        causes[..],
        [
            (State::Backup, Cause::Startup),
            (State::Active, Cause::Silence(_)),
            (State::Backup, Cause::Outranked(150)),
            (State::Active, Cause::Released),
        ]
    ));
    // The counter of RFC 8347 moves with them.
    assert_eq!(lb2.unit().families[0].2.master_transitions, 2);
    assert!(lb2.log.iter().any(|(_, s)| matches!(s, Said::Event(e) if e.instance == Some(WEB))));
}

#[test]
fn a_dump_shows_the_anchor_of_local_routes_and_not_their_addresses() {
    let text = plain("addresses = [\"192.0.2.10/24\", \"192.0.2.20-29/24\"]\nclaim = \"route\"");
    let mut lb1 = Bench::owner(&text, 1);
    let anchor = KernelAddr {
        addr: ip(VIP),
        prefix_len: 32,
        ours: true,
        age: Duration::ZERO,
        valid_for: Some(ms(2000)),
    };
    for _ in 0..20 {
        lb1.dump(&[anchor]);
        lb1.run(ms(100));
    }
    assert_eq!((lb1.state(), lb1.holds()), (State::Active, 0), "nothing is missing");
    lb1.dump(&[]);
    assert_eq!(lb1.holds(), 1, "the anchor is");
}
