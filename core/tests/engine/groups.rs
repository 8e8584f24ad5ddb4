//! Sync groups: instances that move together.

use crate::bench::{Bench, TOGETHER, ZOO, eth0, ms, plain};
use vipd_core::engine::io::{Cause, Input};
use vipd_core::types::{InstanceIx, LinkIx, State};

const ETH1: LinkIx = LinkIx(1);

/// `web` on eth0 and `zoo` on eth1.
fn text() -> String {
    plain(&(ZOO.to_owned() + TOGETHER))
}

fn states(bench: &Bench) -> Vec<State> {
    bench.snapshot().units.iter().map(|u| u.state).collect()
}

fn down(bench: &mut Bench, n: u8, link: LinkIx) {
    let mut state = eth0(n);
    state.running = false;
    bench.give(Input::Link { link, state });
}

#[test]
fn they_claim_together() {
    let mut lb2 = Bench::up(&text(), 2);
    lb2.run(ms(1000));
    lb2.hear(1, 150);
    lb2.hear(1, 0);
    lb2.run(ms(700));
    assert_eq!(states(&lb2), [State::Active, State::Active]);
    assert_eq!(lb2.causes().last(), Some(&(State::Active, Cause::SyncGroup)));
}

#[test]
fn members_on_one_interface_fault_with_it_and_none_is_backup_in_between() {
    let mut lb1 = Bench::owner(&text().replace("\"eth1\"", "\"eth0\""), 1);
    lb1.run(ms(100));
    lb1.log.clear();
    down(&mut lb1, 1, LinkIx(0));
    assert_eq!(states(&lb1), [State::Initialize, State::Initialize]);
    assert_eq!(lb1.causes(), vec![(State::Initialize, Cause::LinkDown); 2]);
}

#[test]
fn a_fault_of_one_lets_both_go() {
    let mut lb1 = Bench::owner(&text(), 1);
    lb1.run(ms(100));
    lb1.log.clear();
    down(&mut lb1, 1, ETH1);
    assert_eq!(states(&lb1), [State::Backup, State::Initialize]);
    // The healthy one says priority 0, so that its peer claims at once.
    let zero: Vec<_> = lb1.sent().iter().map(|t| t.router.instance).collect();
    assert!(zero.contains(&InstanceIx(0)));
    assert!(lb1.priorities().iter().all(|p| *p == 0));
    assert_eq!(lb1.frees().len(), 2);
}

#[test]
fn who_has_a_member_that_cannot_own_claims_none() {
    let mut lb1 = Bench::up(&text(), 1);
    down(&mut lb1, 1, ETH1);
    lb1.run(ms(60_000));
    assert_eq!(states(&lb1), [State::Backup, State::Initialize]);
    assert!(lb1.adverts().iter().all(|(_, a)| a.priority == 0));
    lb1.give(Input::Link { link: ETH1, state: eth0(1) });
    lb1.run(ms(6000));
    assert_eq!(states(&lb1), [State::Active, State::Active]);
}

#[test]
fn a_stronger_peer_of_one_takes_both() {
    let mut lb2 = Bench::owner(&text(), 2);
    lb2.run(ms(100));
    lb2.log.clear();
    lb2.hear(1, 150);
    assert_eq!(states(&lb2), [State::Backup, State::Backup]);
    assert_eq!(lb2.frees().len(), 2);
}
