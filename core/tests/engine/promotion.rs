//! Owners that do not yield to a promotion: it is refused with the reason, and tried by nobody (DESIGN 5.6).

use crate::bench::{Bench, Orders, WEB, beating, ms, plain};
use crate::fit::{bench, of_web, secs};
use crate::world::World;
use vipd_core::engine::io::{EventKind, Input, OperationStep, OperatorOrder};
use vipd_core::types::State;

/// lb1, told to claim while a host at 192.0.2.12 owns with `priority`.
fn promoted(text: &str, priority: u8) -> Bench {
    let mut lb1 = bench(text, 1, |_| ());
    lb1.orders = Orders::Done;
    lb1.hear(2, priority);
    lb1.log.clear();
    lb1.order(OperatorOrder::Promote { accept_data_loss: false });
    lb1.run(ms(5));
    lb1
}

fn refusal(bench: &Bench) -> Option<String> {
    bench.engine.judge(Some(WEB), &OperatorOrder::Promote { accept_data_loss: false }).err()
}

#[test]
fn over_an_owner_at_255_it_is_refused_and_nothing_is_tried() {
    let mut lb1 = bench(&plain(""), 1, |_| ());
    assert_eq!(refusal(&lb1), None);
    lb1.hear(2, 255);
    let why = refusal(&lb1).unwrap();
    assert!(why.contains("192.0.2.12") && why.contains("255"), "{why}");
    lb1.log.clear();
    lb1.order(OperatorOrder::Promote { accept_data_loss: false });
    lb1.run(secs(1));
    let told = |e: &EventKind| matches!(e, EventKind::Operation { step: OperationStep::Aborted(w), .. } if **w == *why);
    assert!(lb1.events().iter().any(told));
    assert_eq!((lb1.state(), lb1.story(), lb1.unit().ordered), (State::Backup, vec![], false));
    // Silent for 3T it is no owner any more.
    lb1.run(ms(2100));
    lb1.give(Input::Timeout);
    assert_eq!((lb1.state(), refusal(&lb1)), (State::Backup, None));
}

#[test]
fn over_254_the_higher_address_wins_unless_it_is_a_promotion_too() {
    let own = plain("priority = { lb1 = 100, lb2 = 254, lb3 = 50 }");
    for (text, priority, state) in [
        // lb2 is configured with it.
        (own.clone(), 254, State::Backup),
        // It can only be that of a promotion.
        (plain(""), 254, State::Active),
        (own, 200, State::Active),
    ] {
        assert_eq!(promoted(&text, priority).state(), state, "{priority} {text}");
    }
    // lb3 has the higher address.
    let mut lb3 = bench(&plain("priority = { lb1 = 254, lb2 = 100, lb3 = 50 }"), 3, |_| ());
    lb3.hear(1, 254);
    assert_eq!(refusal(&lb3), None);
}

#[test]
fn heartbeats_tell_where_adverts_are_lost() {
    let text = beating("priority = { lb1 = 255, lb2 = 100, lb3 = 50 }");
    let mut world = World::settled(&text, 2);
    world.no_adverts = World::around(0);
    world.run(secs(5));
    let why = refusal(&world.hosts[1]).unwrap();
    assert!(why.contains("lb1"), "by its name: {why}");
    world.forget();
    world.give(1, of_web(OperatorOrder::Promote { accept_data_loss: false }));
    world.run(secs(5));
    assert_eq!((world.owners(), world.hosts[1].causes()), (vec![0], vec![]));
    // Not of the group: what it has at 254 is its own.
    let mut lb1 = bench(&beating(""), 1, |_| ());
    lb1.hear(7, 254);
    assert!(refusal(&lb1).is_some());
}

#[test]
fn what_moves_together_is_judged_together() {
    let text = plain(
        "[instance.zoo]\nvrid = 52\ninterface = \"eth0\"\naddresses = [\"198.51.100.10/24\"]\n\
         priority = { lb1 = 150, lb2 = 100, lb3 = 50 }\npreempt-delay = \"0s\"\nhold-down = \"0s\"\nsettle = \"off\"\n\
         [sync.all]\ninstances = [\"web\", \"zoo\"]\n",
    );
    let mut lb2 = bench(&text, 2, |_| ());
    lb2.hear(1, 255);
    for instance in [0, 1] {
        let ix = Some(vipd_core::types::InstanceIx(instance));
        let why =
            lb2.engine.judge(ix, &OperatorOrder::Promote { accept_data_loss: false }).unwrap_err();
        assert!(why.contains("owns web"), "{why}");
    }
}
