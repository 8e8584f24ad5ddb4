//! Startup, Initialize and the way back into it: V32-V34, V66, settling (DESIGN 5.12).

use crate::bench::{Bench, ETH0, WEB, beating, eth0, ip, ms, plain};
use std::net::IpAddr;
use vipd_core::engine::io::{Cause, Input, LinkState};
use vipd_core::types::{Family, LinkIx, State};

#[test]
fn v32_the_owner_at_255_is_active_at_once() {
    let mut lb1 = Bench::down(&plain("priority = { lb1 = 255, lb2 = 100, lb3 = 50 }"), 1);
    lb1.give(Input::Link { link: ETH0, state: eth0(1) });
    assert_eq!(lb1.state(), State::Active);
    assert_eq!(lb1.story(), ["advert", "hold"]);
    lb1.step();
    assert_eq!(lb1.story(), ["advert", "hold", "announce"]);
    assert_eq!(lb1.priorities(), [255]);
}

#[test]
fn a_255_host_with_vipd_peers_listens_first() {
    let lb1 = Bench::up(&beating("priority = { lb1 = 255, lb2 = 100, lb3 = 50 }"), 1);
    assert_eq!(lb1.state(), State::Backup);
    assert!(lb1.adverts().is_empty());
}

#[test]
fn v33_below_255_it_listens_for_active_down_interval_and_not_a_microsecond_less() {
    let mut lb2 = Bench::up(&plain(""), 2);
    let start = lb2.now;
    assert_eq!(lb2.state(), State::Backup);
    let down = ms(3000) + ms(1000) * 156 / 256;
    assert_eq!(lb2.claims_in(), down);
    lb2.run(down - ms(1) / 1_000_000);
    assert!(lb2.adverts().is_empty());
    lb2.step();
    assert_eq!(lb2.now - start, down);
    assert_eq!(lb2.priorities(), [100]);
    assert_eq!(lb2.causes().last(), Some(&(State::Active, Cause::Silence(down))));
}

#[test]
fn v34_initialize_ignores_adverts_and_time() {
    let mut lb2 = Bench::down(&plain(""), 2);
    for priority in [0, 50, 150, 255] {
        lb2.hear(1, priority);
    }
    lb2.run(ms(60_000));
    lb2.stand_still(ms(10_000));
    lb2.give(Input::Timeout);
    assert_eq!(lb2.state(), State::Initialize);
    assert!(lb2.story().is_empty());
}

#[test]
fn v66_link_down_and_up() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    let mut state = eth0(1);
    state.running = false;
    lb1.give(Input::Link { link: ETH0, state });
    assert_eq!(lb1.state(), State::Initialize);
    // Where a packet can still leave, it says that it leaves; the addresses go.
    assert_eq!(lb1.story(), ["release", "free"]);
    assert_eq!(lb1.causes(), [(State::Initialize, Cause::LinkDown)]);
    lb1.run(ms(30_000));
    assert_eq!(lb1.story(), ["release", "free"]);
    lb1.give(Input::Link { link: ETH0, state: eth0(1) });
    assert_eq!(lb1.causes().last(), Some(&(State::Backup, Cause::LinkUp)));
    assert_eq!(lb1.claims_in(), ms(3000) + ms(1000) * 106 / 256);
}

#[test]
fn v66_an_interface_that_was_made_anew_starts_anew() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    let mut state = eth0(1);
    state.index = vipd_core::types::IfIndex::new(7);
    lb1.give(Input::Link { link: ETH0, state });
    assert_eq!(lb1.state(), State::Backup);
    assert_eq!(
        lb1.causes(),
        [(State::Initialize, Cause::LinkDown), (State::Backup, Cause::LinkUp)]
    );
}

#[test]
fn v66_without_its_source_address_it_says_nothing_more() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    let mut state = eth0(1);
    state.addrs.retain(|a| a.is_ipv6());
    lb1.give(Input::Link { link: ETH0, state: state.clone() });
    assert_eq!(lb1.causes(), [(State::Initialize, Cause::NoSource)]);
    // The source is gone: priority 0 from another address would be a lie.
    assert_eq!(lb1.story(), ["free"]);
    state.addrs.push(ip("192.0.2.21"));
    lb1.give(Input::Link { link: ETH0, state });
    assert_eq!(lb1.state(), State::Backup);
    lb1.become_owner();
    lb1.run(ms(1000));
    assert!(lb1.sent().iter().all(|t| t.src == ip("192.0.2.21")));
}

#[test]
fn v14_each_family_fails_alone_without_heartbeats() {
    let text = plain("addresses = [\"192.0.2.10/24\", \"fe80::a/64\"]");
    let mut lb1 = Bench::owner(&text, 1);
    lb1.run(ms(10));
    let mut state = eth0(1);
    state.addrs.retain(IpAddr::is_ipv4);
    lb1.give(Input::Link { link: ETH0, state });
    let units = lb1.snapshot().units;
    let states: Vec<_> = units.iter().map(|u| (u.families[0].0, u.state)).collect();
    assert_eq!(states, [(Family::V4, State::Active), (Family::V6, State::Initialize)]);
    assert!(units.iter().all(|u| u.instance == WEB));
}

#[test]
fn settle_nobody_claims_before_the_port_has_let_a_frame_through() {
    let mut lb1 = Bench::up(&plain("settle = \"35s\""), 1);
    assert!(lb1.engine.settling(ETH0));
    lb1.run(ms(20_000));
    assert_eq!(lb1.state(), State::Backup);
    assert!(lb1.adverts().is_empty());
    lb1.give(Input::FrameSeen(LinkIx(0)));
    assert!(!lb1.engine.settling(ETH0));
    lb1.run(ms(100));
    assert_eq!(lb1.state(), State::Active);
}

#[test]
fn settle_ends_by_itself_alone_on_a_wire_one_still_serves() {
    let mut lb1 = Bench::up(&plain("settle = \"35s\""), 1);
    lb1.run(ms(34_999));
    assert_eq!(lb1.state(), State::Backup);
    lb1.run(ms(1));
    assert_eq!(lb1.state(), State::Active);
}

#[test]
fn settle_begins_again_with_the_carrier() {
    let mut lb1 = Bench::up(&plain("settle = \"35s\""), 1);
    lb1.give(Input::FrameSeen(ETH0));
    lb1.become_owner();
    let mut state = eth0(1);
    state.running = false;
    lb1.give(Input::Link { link: ETH0, state });
    lb1.give(Input::Link { link: ETH0, state: eth0(1) });
    assert!(lb1.engine.settling(ETH0));
    lb1.run(ms(10_000));
    assert_eq!(lb1.state(), State::Backup);
    // Any advert is a frame.
    lb1.hear(2, 100);
    assert!(!lb1.engine.settling(ETH0));
}

#[test]
fn what_is_missing_at_the_start_is_said_once() {
    let mut lb1 = Bench::down(&plain(""), 1);
    lb1.give(Input::Link { link: ETH0, state: LinkState::default() });
    lb1.give(Input::Link { link: ETH0, state: LinkState::default() });
    assert_eq!(lb1.causes(), [(State::Initialize, Cause::LinkDown)]);
    lb1.give(Input::Link { link: ETH0, state: eth0(1) });
    assert_eq!(lb1.causes().last(), Some(&(State::Backup, Cause::LinkUp)));

    let mut mute = Bench::down(&plain(""), 2);
    mute.give(Input::Link { link: ETH0, state: LinkState { addrs: Vec::new(), ..eth0(2) } });
    assert_eq!(mute.causes(), [(State::Initialize, Cause::NoSource)]);
}
