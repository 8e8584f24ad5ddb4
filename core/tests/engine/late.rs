//! Kernels that are late with an order (DESIGN 5.1, 5.5). The kernel thread says so itself when it comes to an order after
//! its time; tests do that here in its place.

use crate::bench::{Bench, ETH0, Orders, VIP, eth0, mac, ms, plain};
use crate::claim::claiming;
use vipd_core::engine::io::{Cause, EventKind, Input, KernelFault};
use vipd_core::time::Duration;
use vipd_core::types::State;

const FAST: &str = "advert-interval = \"10ms\"\n";

impl Bench {
    /// Time passes, and the kernel thread says that it comes too late.
    fn late_after(&mut self, wait: Duration) {
        self.run(wait);
        self.applied(Err(KernelFault::Late));
    }
}

#[test]
fn a_claim_is_asked_for_again_but_not_for_ever() {
    let mut lb1 = claiming(&plain(FAST));
    let (begun, mut asked) = (lb1.now, 0);
    while lb1.state() == State::Active {
        asked += 1;
        assert_eq!(lb1.holds(), asked, "a new order each time");
        lb1.late_after(ms(100));
    }
    let gave_up = lb1.now.since(begun);
    assert!((ms(500)..=ms(600)).contains(&gave_up), "{gave_up:?}");
    assert_eq!(lb1.causes().last(), Some(&(State::Backup, Cause::KernelFault)));
    assert!(lb1.announced().is_empty());
}

/// What holds the lock longest lets go at the moment in which the order turns out to be late.
#[test]
fn however_long_the_kernel_was_busy_a_claim_is_repeated_once() {
    let mut lb1 = claiming(&plain(""));
    lb1.late_after(ms(3100));
    assert_eq!((lb1.state(), lb1.holds()), (State::Active, 2));
    lb1.late_after(ms(3100));
    assert_eq!((lb1.state(), lb1.holds()), (State::Backup, 2));
}

#[test]
fn what_a_claim_took_is_told_from_its_first_order_on() {
    let mut lb1 = claiming(&plain(FAST));
    lb1.late_after(ms(100));
    lb1.late_after(ms(100));
    lb1.run(ms(60));
    lb1.applied(Ok(()));
    lb1.run(ms(1));
    let told = lb1.events().into_iter().find_map(|event| match event {
        EventKind::Claimed { took, .. } => Some(took),
        _ => None,
    });
    assert_eq!(told, Some(ms(260)));
    assert!(!lb1.announced().is_empty());
}

/// Others may have claimed meanwhile (DESIGN 5.3).
#[test]
fn who_stood_still_does_not_ask_again() {
    let mut lb1 = claiming(&plain(FAST));
    // Longer than three intervals, and shorter than what an order may take: it is the sleep that counts.
    lb1.stand_still(ms(50));
    lb1.applied(Err(KernelFault::Late));
    assert_eq!((lb1.state(), lb1.holds()), (State::Backup, 1));
}

#[test]
fn who_cannot_advertise_does_not_ask_again() {
    let mut lb1 = claiming(&plain("advert-interval = \"100ms\"\n"));
    lb1.sends = false;
    lb1.late_after(ms(310));
    assert_eq!((lb1.state(), lb1.holds()), (State::Backup, 1));
}

#[test]
fn a_repair_that_is_late_is_still_a_repair() {
    let mut lb1 = Bench::owner(&plain("advert-interval = \"100ms\"\n"), 1);
    lb1.run(ms(2000));
    lb1.log.clear();
    lb1.orders = Orders::Pending;
    lb1.removed(VIP);
    lb1.late_after(ms(310));
    assert_eq!((lb1.state(), lb1.holds()), (State::Active, 2));
    // What makes an owner announce at once does not, while the kernel does not have the address.
    let mut state = eth0(1);
    state.mac = mac(9);
    lb1.give(Input::Link { link: ETH0, state });
    lb1.run(ms(50));
    assert!(lb1.announced().is_empty(), "before the kernel has it");
    lb1.applied(Ok(()));
    lb1.run(ms(1));
    assert!(!lb1.announced().is_empty());
}

#[test]
fn who_holds_asks_until_its_lease_ends() {
    let mut lb1 = Bench::owner(&plain(FAST), 1);
    lb1.run(ms(2000));
    lb1.log.clear();
    // Nothing is renewed or confirmed any more: the lease is doubted, and asked for again and again.
    lb1.orders = Orders::Pending;
    let (from, mut answered) = (lb1.now, 0);
    while lb1.state() == State::Active && lb1.now.since(from) < ms(3000) {
        lb1.run(ms(100));
        if lb1.holds() > answered {
            answered = lb1.holds();
            lb1.applied(Err(KernelFault::Late));
        }
    }
    let took = lb1.now.since(from);
    assert!(answered >= 2 && (ms(700)..=ms(1100)).contains(&took), "{answered} orders, {took:?}");
}
