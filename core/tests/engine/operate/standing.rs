//! What stands until it is taken back: freezes and priorities.

use super::*;
use crate::bench::{WEB, ms, plain};
use crate::fit::{say, with};
use vipd_core::config::model::Severity;
use vipd_core::engine::io::{Alarm, Verdict};
use vipd_core::policy::Closed;
use vipd_core::types::{Priority, State};

fn priority(value: u8, until: Option<vipd_core::time::Instant>) -> OperatorOrder {
    OperatorOrder::SetPriority { priority: Some(Priority::new(value).unwrap()), until }
}

#[test]
fn frozen_nothing_preempts_and_nothing_moves_and_a_dead_owner_is_replaced() {
    let mut world = world(&beating(""), 3, with(Severity::Fail, 0));
    // lb3 gives the order; all follow.
    world.order(2, 1, Some(WEB), FREEZE);
    world.run(secs(2));
    assert!(world.hosts.iter().all(|h| h.alarms() == [Alarm::Frozen]));
    let why = world.hosts[0].engine.judge(Some(WEB), &to(1)).unwrap_err();
    assert!(why.contains("frozen") && why.contains("--force"), "{why}");
    say(&mut world, 0, 0, Verdict::Fail);
    world.run(secs(60));
    world.only(0);
    say(&mut world, 0, 0, Verdict::Pass);
    world.off.insert(0);
    world.run(secs(5));
    world.only(1);
    world.off.remove(&0);
    world.run(secs(60));
    world.only(1);
    assert_eq!(world.hosts[0].unit().gate, Some(Closed::Frozen(vipd_core::time::Instant::MAX)));
    // Thawed where it was not frozen.
    world.order(1, 2, Some(WEB), OperatorOrder::Thaw);
    world.run(secs(5));
    world.only(0);
    assert!(world.hosts.iter().all(|h| h.alarms().is_empty()));
}

#[test]
fn a_freeze_thaws_by_itself_everywhere() {
    let mut world = three();
    let until = Some(world.now + secs(30));
    world.order(0, 1, Some(WEB), OperatorOrder::Freeze { until });
    world.off.insert(0);
    world.run(secs(6));
    world.only(1);
    world.off.remove(&0);
    world.run(secs(20));
    world.only(1);
    world.run(secs(10));
    world.only(0);
}

/// Two orders in one moment on hosts whose files differ: in the file of lb1 another host comes first, so that its place
/// there is the one of lb2 in the other file.
#[test]
fn one_of_two_freezes_counts_also_while_a_host_is_added() {
    let (text, head) = (beating(""), "[cluster]\nname = \"shop\"\nkey-file = \"/k\"\n");
    let more = format!("{head}[hosts.lb0]\npaths = [\"192.0.2.19\", \"10.9.0.119\"]\n");
    let grown = text.replacen(head, &more, 1);
    assert_ne!(text, grown);
    let mut world = World::of(vec![Bench::up(&grown, 1), Bench::up(&text, 2)]);
    world.run(secs(6));
    world.no_beats = World::around(0);
    let until = [30, 300].map(|s| Some(world.now + secs(s)));
    for (host, until) in until.into_iter().enumerate() {
        world.order(host, 1, Some(WEB), OperatorOrder::Freeze { until });
    }
    world.no_beats.clear();
    world.run(secs(5));
    let left = |host: &Bench| host.unit().frozen.flatten().map(|left| left.as_secs());
    let words: Vec<_> = world.hosts.iter().map(left).collect();
    assert!(
        words[0].is_some() && words[0] == words[1],
        "each goes by a word of its own: {words:?}"
    );
}

#[test]
fn force_moves_what_is_frozen() {
    let mut world = three();
    world.order(0, 1, Some(WEB), FREEZE);
    world.run(secs(2));
    let force = OperatorOrder::Move { to: Some(HostIx(1)), force: true };
    let told = world.hosts[0].engine.judge(Some(WEB), &force).unwrap();
    assert!(told.contains("overriding: moves are frozen"), "{told}");
    assert!(world.carried_out(0, force).is_ok());
    world.only(1);
}

#[test]
fn a_preemption_that_is_on_its_way_stops_with_the_freeze() {
    let mut lb1 = Bench::up(&plain(""), 1);
    lb1.hear(2, 100);
    lb1.run(ms(1000));
    lb1.hear(2, 100);
    lb1.give(Input::Order { id: 1, instance: Some(WEB), order: FREEZE });
    for _ in 0..10 {
        lb1.run(ms(1000));
        lb1.hear(2, 100);
    }
    assert_eq!(lb1.state(), State::Backup);
    lb1.run(secs(4));
    assert_eq!(lb1.state(), State::Active, "nobody owns");
}

#[test]
fn an_ordered_priority_counts_beside_the_configured_one_and_ends() {
    let mut world = three();
    let until = Some(world.now + secs(20));
    world.order(2, 1, Some(WEB), priority(200, until));
    world.run(secs(8));
    world.only(2);
    let unit = world.hosts[2].unit();
    assert_eq!((unit.priority, unit.configured), (200, 50));
    assert_eq!(unit.ordered_priority.map(|(p, left)| (p, left.is_some())), Some((200, true)));
    world.run(secs(20));
    world.only(0);
    assert_eq!(world.hosts[2].unit().priority, 50);
}

#[test]
fn priorities_that_mean_something_else_are_refused() {
    let world = three();
    let why = world.hosts[0].engine.judge(Some(WEB), &priority(255, None)).unwrap_err();
    assert!(why.contains("1 to 254"), "{why}");
    let why = world.hosts[0]
        .engine
        .judge(Some(WEB), &OperatorOrder::SetPriority { priority: None, until: None })
        .unwrap_err();
    assert!(why.contains("already"), "{why}");
    let lb1 = Bench::up(&plain("priority = { lb1 = 255, lb2 = 100, lb3 = 50 }\n"), 1);
    let why = lb1.engine.judge(Some(WEB), &priority(10, None)).unwrap_err();
    assert!(why.contains("must not change"), "{why}");
    let late = priority(10, Some(vipd_core::time::Instant::from_millis(5)));
    assert!(world.hosts[0].engine.judge(Some(WEB), &late).is_err());
}
