//! What a dead agent left (DESIGN 5.7): adopted while young, cleaned up otherwise.

use crate::bench::{Bench, ETH0, VIP, eth0, ip, ms, plain};
use vipd_core::engine::io::{Cause, Input, KernelAddr};
use vipd_core::time::Duration;
use vipd_core::types::State;

fn tagged(age: Duration) -> KernelAddr {
    KernelAddr { addr: ip(VIP), prefix_len: 32, ours: true, age, valid_for: Some(ms(1500)) }
}

fn restarted(text: &str, present: &[KernelAddr]) -> Bench {
    let mut lb1 = Bench::down(text, 1);
    lb1.give(Input::Link { link: ETH0, state: eth0(1) });
    lb1.dump(present);
    lb1
}

#[test]
fn a_young_address_goes_on_being_owned() {
    let lb1 = restarted(&plain(""), &[tagged(ms(900))]);
    assert_eq!(lb1.state(), State::Active);
    assert_eq!(lb1.causes().last(), Some(&(State::Active, Cause::Adopted)));
    assert_eq!(lb1.story(), ["advert", "hold"]);
}

#[test]
fn also_when_the_addresses_are_read_before_the_link() {
    let mut lb1 = Bench::down(&plain(""), 1);
    lb1.dump(&[tagged(ms(900))]);
    lb1.run(ms(20));
    lb1.give(Input::Link { link: ETH0, state: eth0(1) });
    assert_eq!(lb1.causes().last(), Some(&(State::Active, Cause::Adopted)));
}

#[test]
fn an_old_one_is_cleaned_up_with_priority_0() {
    let lb1 = restarted(&plain(""), &[tagged(ms(3000))]);
    assert_eq!(lb1.state(), State::Backup);
    let mut story = lb1.story();
    story.sort_unstable();
    assert_eq!(story, ["free", "release"]);
}

#[test]
fn young_when_found_is_old_after_three_intervals() {
    let mut lb1 = Bench::down(&plain(""), 1);
    lb1.dump(&[tagged(ms(900))]);
    lb1.run(ms(2200));
    lb1.give(Input::Link { link: ETH0, state: eth0(1) });
    assert_eq!(lb1.state(), State::Backup);
}

#[test]
fn an_incomplete_set_is_cleaned_up() {
    let text = plain("addresses = [\"192.0.2.10/24\", \"192.0.2.20/24\"]");
    let lb1 = restarted(&text, &[tagged(ms(900))]);
    assert_eq!(lb1.state(), State::Backup);
    assert_eq!(lb1.frees().len(), 1);
}

#[test]
fn an_owner_heard_before_wins() {
    let mut lb1 = Bench::down(&plain(""), 1);
    lb1.give(Input::Link { link: ETH0, state: eth0(1) });
    lb1.hear(2, 100);
    lb1.dump(&[tagged(ms(900))]);
    assert_eq!(lb1.state(), State::Backup);
}

#[test]
fn an_owner_heard_after_wins_whatever_its_priority() {
    let mut lb1 = restarted(&plain(""), &[tagged(ms(900))]);
    lb1.run(ms(300));
    lb1.hear(2, 100);
    assert_eq!(lb1.state(), State::Backup);
    assert_eq!(lb1.frees().len(), 1);
}

#[test]
fn a_stray_address_of_ours_on_a_backup_is_taken_off() {
    let mut lb2 = Bench::up(&plain(""), 2);
    lb2.hear(1, 150);
    lb2.give(Input::AddressAdded { link: ETH0, addr: tagged(ms(0)) });
    assert_eq!(lb2.frees().len(), 1);
    // No priority 0: an owner is heard.
    assert!(lb2.adverts().is_empty());
    let mut lb3 = Bench::up(&plain(""), 3);
    lb3.hear(1, 150);
    lb3.dump(&[tagged(ms(5000))]);
    assert_eq!(lb3.story(), ["free"]);
}

#[test]
fn the_anchor_of_local_routes_stands_for_them() {
    let text = plain("addresses = [\"192.0.2.10/24\", \"192.0.2.20-29/24\"]\nclaim = \"route\"");
    let lb1 = restarted(&text, &[tagged(ms(900))]);
    assert_eq!(lb1.causes().last(), Some(&(State::Active, Cause::Adopted)));
}

#[test]
fn after_a_crash_loop_nothing_is_adopted_and_nothing_claimed_before_its_time() {
    let mut lb1 = Bench::down(&plain(""), 1);
    lb1.engine.start_as_backup(Bench::stamp(lb1.now).mono + ms(8000));
    lb1.give(Input::Link { link: ETH0, state: eth0(1) });
    lb1.dump(&[tagged(ms(900))]);
    assert_eq!((lb1.state(), lb1.frees().len()), (State::Backup, 1));
    lb1.run(ms(7900));
    assert_eq!(lb1.state(), State::Backup, "M has passed long ago");
    lb1.run(ms(4000));
    assert_eq!(lb1.state(), State::Active, "it never ends in nobody owning");
}
