//! When an owner whose check fails hands over: not before the others would have found out as well (DESIGN 5.10).

use crate::bench::{beating, ms, plain};
use crate::fit::{say, secs, with, world};
use Severity::Fail;
use vipd_core::config::model::{Model, Probe, Severity};
use vipd_core::engine::io::Verdict;

#[test]
fn what_fails_outside_of_this_host_may_fail_for_the_others_a_moment_later() {
    let ping = |m: &mut Model| {
        with(Fail, 0)(m);
        m.checks[0].probe =
            Probe::Ping { addrs: vec![[192, 0, 2, 1].into()], at_least: 1, source: None };
    };
    let mut world = world(&beating(""), 2, ping);
    say(&mut world, 0, 0, Verdict::Fail);
    // An interval of 2 s and a timeout of 1 s: until then the other host finds out.
    world.run(ms(2990));
    assert_eq!(world.owners(), [0]);
    say(&mut world, 1, 0, Verdict::Fail);
    world.run(secs(100));
    assert_eq!(world.owners(), [0]);
    say(&mut world, 1, 0, Verdict::Pass);
    world.run(ms(1));
    assert_eq!(world.owners(), [1]);
    // This host alone: it moves when the time is over, and not before.
    say(&mut world, 0, 0, Verdict::Pass);
    world.run(secs(100));
    let owner = world.owners()[0];
    say(&mut world, owner, 0, Verdict::Fail);
    world.run(ms(2990));
    assert_eq!(world.owners(), [owner]);
    world.run(ms(20));
    assert_eq!(world.owners(), [1 - owner]);
}

#[test]
fn without_heartbeats_it_waits_as_long_before_it_offers() {
    let ping = |m: &mut Model| {
        with(Fail, 0)(m);
        m.checks[0].probe =
            Probe::Ping { addrs: vec![[192, 0, 2, 1].into()], at_least: 1, source: None };
    };
    let mut world = world(&plain(""), 2, ping);
    // Well again before the others would have found out: nothing is offered.
    say(&mut world, 0, 0, Verdict::Fail);
    world.run(ms(2900));
    say(&mut world, 0, 0, Verdict::Pass);
    world.run(secs(10));
    assert!(world.hosts[0].priorities().iter().all(|p| *p == 150));
    // It fails everywhere: offered once, nobody who is worse off than the owner takes it for long.
    say(&mut world, 0, 0, Verdict::Fail);
    assert_eq!(world.hosts[0].unit().next_offer, Some(secs(3)));
    world.run(ms(1000));
    say(&mut world, 1, 0, Verdict::Fail);
    world.run(ms(1990));
    assert!(world.hosts[0].priorities().iter().all(|p| *p == 150));
    world.run(secs(60));
    assert_eq!((world.owners(), world.holders()), (vec![0], vec![0]));
    assert_eq!(world.hosts[1].causes(), []);
    // On this host alone: it moves when the time is over, and not before.
    for host in [0, 1] {
        say(&mut world, host, 0, Verdict::Pass);
    }
    world.run(secs(30));
    world.forget();
    say(&mut world, 0, 0, Verdict::Fail);
    world.run(ms(2990));
    assert!(world.hosts[0].priorities().iter().all(|p| *p == 150));
    world.run(ms(20));
    assert_eq!(world.hosts[0].priorities().last(), Some(&0));
    world.run(secs(3));
    assert_eq!(world.owners(), [1]);
}
