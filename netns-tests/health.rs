//! Sick services, links and gateways: the scenes of the lab, with the moves that they may cost counted from outside.

use crate::arena::{Arena, FIRST, SECOND, check, program};
use libtest_mimic::Trial;
use std::time::Duration;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::health::{Check, Health, service};
use vipd_agent::lab::plan::{Heartbeats, Plan, Preempt};
use vipd_agent::lab::play::{Player, Row};
use vipd_agent::lab::scene;
use vipd_agent::lab::service::Mood;
use vipd_agent::lab::stage::Stage;

/// Each is played behind what must come before it.
const SCENES: [&str; 6] =
    ["service-back", "service-both", "link-flaps", "reboot-loop", "gateway-lost", "gateway-one"];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (word, heartbeats) in [("heartbeats", Heartbeats::TwoPaths), ("plain", Heartbeats::Off)] {
        for name in SCENES {
            trials.push(Trial::test(format!("health/{word}/{name}"), move || {
                played(name, &Plan { heartbeats, ..Plan::healthy() });
                Ok(())
            }));
        }
        trials.push(Trial::test(format!("health/{word}/both_die_at_one_moment"), move || {
            both_die_at_once(heartbeats);
            Ok(())
        }));
        trials.push(Trial::test(format!("health/{word}/service_hangs"), move || {
            service_hangs(heartbeats);
            Ok(())
        }));
    }
    trials.push(Trial::test("health/links_flap_without_preempt_delay", || {
        let preempt = Preempt::After(Duration::ZERO);
        played("link-flaps", &Plan { preempt, ..Plan::healthy() });
        Ok(())
    }));
    for (weight, moves) in [(20, 0), (60, 0), (61, 1)] {
        trials.push(Trial::test(
            format!("health/weight_{weight}_moves_{moves}_times"),
            move || {
                weighted(weight, moves);
                Ok(())
            },
        ));
    }
    trials
}

/// A scene as the lab plays it.
fn played(name: &str, plan: &Plan) {
    let mut stage = Stage::set(plan.clone(), &program()).unwrap();
    let mut player = Player::default();
    for scene in scene::programme(&[name.to_owned()]).unwrap() {
        let row = player.play(&mut stage, scene).unwrap();
        tell(&row);
        assert!(row.is_as_expected(), "{row:#?}\n{}", stage.logs(30));
        match scene.name {
            "service-both" => assert_eq!(row.served_by, None, "no service is left"),
            _ => assert_eq!(row.served_by.as_ref(), row.after.first(), "{row:#?}"),
        }
        // Where the address stays, only the checks can tell that anything was noticed.
        let failing = match scene.name {
            "service-both" => "service",
            "gateway-lost" => "gateway",
            _ => continue,
        };
        for ix in 0..plan.hosts {
            assert_eq!(check(&stage, ix, failing)["state"], "fail", "{failing} of h{}", ix + 1);
        }
    }
    stage.restore(Duration::from_secs(30)).unwrap();
}

fn tell(row: &Row) {
    println!(
        "\n  {}: {:?} -> {:?} after {:?} ms, moves {}, outage {:.1} ms, nobody {:.1} ms, two owners {:.1} ms",
        row.scenario,
        row.before,
        row.after,
        row.reached_ms,
        row.moves,
        row.client.outage_ms,
        row.nobody_ms,
        row.two_owners_ms
    );
}

/// Their checks do not run at one moment: whose falls first may offer the address, and no more comes of it.
fn both_die_at_once(heartbeats: Heartbeats) {
    let mut arena = Arena::settled(Plan { heartbeats, ..Plan::healthy() });
    let at = arena.stage.set_service(FIRST, Mood::Dead).unwrap();
    arena.stage.set_service(SECOND, Mood::Dead).unwrap();
    crate::arena::wait(Health::falls_within() + Duration::from_secs(15));
    let (moves, owner) = (arena.moves(at), arena.stage.owner());
    let seen = arena.outage(at);
    println!("\n  moves {moves}, owner {owner:?}, outage {:?}", seen.longest_gap);
    assert!(moves <= 1 && owner.is_some(), "{moves} {owner:?}\n{}", arena.stage.logs(30));
    arena.close();
}

/// A service whose kernel still accepts connections, and which answers nobody.
fn service_hangs(heartbeats: Heartbeats) {
    let mut arena = Arena::settled(Plan { heartbeats, ..Plan::healthy() });
    let at = arena.stage.set_service(FIRST, Mood::Hangs).unwrap();
    arena.wait_owner(SECOND);
    arena.calm();
    assert_eq!(arena.moves(at), 1, "{}", arena.stage.logs(30));
    assert_eq!(arena.stage.served_by().as_deref(), Some("h2"));
    assert_eq!(arena.check(FIRST, "service")["state"], "fail");
    arena.close();
}

/// A failing check moves the address when its weight is more than the distance of the priorities (50) and the
/// stickiness of the holder (10), and only then.
fn weighted(weight: u8, moves: usize) {
    let mut check = service();
    check.lines =
        format!("http = \"http://127.0.0.1/\"\nseverity = \"degrade\"\nweight = {weight}");
    let mut plan = Plan { health: Some(Health::of(vec![check])), ..Plan::healthy() };
    plan.instance_extra.push_str("\npriority-hold = \"1s\"\n");
    let mut arena = Arena::settled(plan);
    let at = arena.stage.set_service(FIRST, Mood::Dead).unwrap();
    arena.wait_check(FIRST, "service", "fail", Duration::from_secs(10));
    arena.expect_moves(at, moves);
    println!("\n  weight {weight}: moves {moves} in {:?}", now().since(at));
    arena.close();
}

/// A check for the hosts of a trial, with the lines of its section.
pub(crate) fn with_checks(checks: Vec<Check>) -> Plan {
    Plan { health: Some(Health::of(checks)), ..Plan::healthy() }
}
