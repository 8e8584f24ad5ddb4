//! Predictions: what the engine says would happen, held against what then happens to the same group.

use crate::bench::{Bench, ETH0, WEB, beating, eth0, ms, plain};
use crate::fit::{secs, world};
use crate::world::{TARGET, World};
use vipd_core::config::load_all_hosts;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{Alarm, Cause, Input, OperatorOrder, Reading, ReplicaState};
use vipd_core::engine::simulate::{Outcome, Prediction, Side, Supposed, WhatIf};
use vipd_core::time::Duration;
use vipd_core::types::{CheckIx, HostIx, SetIx, State, Verdict};

const MOVE: OperatorOrder = OperatorOrder::Move { to: None, force: false };
const DRAIN: OperatorOrder =
    OperatorOrder::Drain { until: None, last_resort: false, allow_outage: false };
/// A check that fails after two runs, a second apart, and is well again after as many.
const CHECKED: &str = "checks = [\"up\"]\n[check.up]\nunix = \"/run/up.sock\"\ninterval = \"1s\"\ntimeout = \"500ms\"\n\
                       fall = 2\nrise = 2\nseverity = \"fail\"\n";

/// A group and its file.
struct Scene {
    text: String,
    world: World,
}

impl Scene {
    fn new(text: String) -> Self {
        let mut world = world(&text, 3, |_: &mut Model| {});
        for host in 0..3 {
            for check in 0..world.hosts[host].model.checks.len() {
                reading(&mut world, host, check, Verdict::Pass);
            }
        }
        world.run(secs(5));
        world.forget();
        Self { text, world }
    }

    fn asks(&self, host: usize, what: WhatIf) -> Result<Prediction, String> {
        let (models, _) = load_all_hosts(&self.text, "vipd.toml").unwrap();
        let bench = &self.world.hosts[host];
        bench.engine.picture().play(&models, &what, Bench::stamp(self.world.now))
    }

    /// What `host` predicts of `what`, which makes sense and is not refused.
    fn predicts(&self, host: usize, what: WhatIf) -> Told {
        let prediction = self.asks(host, what).unwrap();
        assert_eq!(prediction.refused, None);
        Told(prediction)
    }

    /// Until the owner has just said so: what is longest to wait for begins then.
    fn after_an_advert_of(&mut self, host: usize) {
        let so_far = self.world.hosts[host].adverts().len();
        self.world.until(secs(5), |w| w.hosts[host].adverts().len() > so_far);
    }
}

struct Told(Prediction);

impl Told {
    fn web(&self) -> &Outcome {
        &self.0.outcomes[0]
    }

    fn names(&self, players: &[usize]) -> Vec<String> {
        players.iter().map(|p| self.0.players[*p].name.to_string()).collect()
    }

    fn before(&self) -> Vec<String> {
        self.names(&self.web().before)
    }

    fn after(&self) -> Vec<String> {
        self.names(&self.web().after)
    }

    /// When `host` becomes owner, and why.
    fn claim(&self, host: &str) -> (Duration, Cause) {
        let step = self
            .web()
            .steps
            .iter()
            .find(|s| s.to == State::Active && &*self.0.players[s.player].name == host);
        let step = step.unwrap_or_else(|| panic!("{host} claims: {:?}", self.web().steps));
        (step.after, step.cause.clone())
    }

    fn lost(&self) -> Duration {
        assert_eq!(self.web().clients.len(), 1);
        self.web().clients[0].lost
    }
}

fn reading(world: &mut World, host: usize, check: usize, verdict: Verdict) {
    let check = CheckIx(u16::try_from(check).unwrap());
    let reading = Reading { verdict, detail: "read".into(), took: ms(1) };
    world.give(host, Input::Check { check, reading });
}

/// Apart by no more than frames and kernels of the play take.
fn close(a: Duration, b: Duration) {
    assert!(a.abs_diff(b) <= ms(15), "predicted {a:?}, happened {b:?}");
}

/// How long until `host` owns.
fn until_owned(world: &mut World, host: usize) -> Duration {
    let start = world.now;
    world.until(secs(120), |w| w.owners() == [host]);
    world.now - start
}

#[test]
fn the_death_of_the_owner_as_every_other_host_sees_it() {
    for text in [beating(""), beating("advert-interval = \"100ms\"\n"), plain("")] {
        for observer in [1, 2] {
            let mut scene = Scene::new(text.clone());
            let told = scene.predicts(observer, WhatIf::PeerDead(HostIx(0)));
            assert_eq!(
                (told.before(), told.after()),
                (vec!["lb1".into()], vec!["lb2".to_string()])
            );
            scene.after_an_advert_of(0);
            scene.world.off.insert(0);
            let took = until_owned(&mut scene.world, 1);
            let (after, cause) = told.claim("lb2");
            close(after, took);
            close(told.lost(), took);
            assert!(matches!(cause, Cause::Silence(_)), "{cause:?}");
            let plain = scene.world.hosts[0].model.heartbeat.is_none();
            let supposed = Supposed::AsConfigured("lb2".into());
            assert_eq!(told.0.supposed.contains(&supposed), plain && observer == 2);
        }
    }
}

#[test]
fn the_own_death_and_that_of_a_backup() {
    let mut scene = Scene::new(beating(""));
    let backup = scene.predicts(0, WhatIf::PeerDead(HostIx(1)));
    assert_eq!((backup.after(), backup.lost()), (vec!["lb1".to_string()], Duration::ZERO));
    assert!(backup.web().steps.is_empty());
    let own = scene.predicts(0, WhatIf::PowerOff);
    assert_eq!(own.after(), ["lb2"]);
    scene.after_an_advert_of(0);
    scene.world.off.insert(0);
    close(own.lost(), until_owned(&mut scene.world, 1));
}

#[test]
fn a_link_without_carrier_is_told_at_once_and_comes_back_after_the_delay_of_nobody() {
    let mut scene = Scene::new(beating(""));
    let told = scene.predicts(0, WhatIf::LinkDown(ETH0));
    let mut down = eth0(1);
    down.running = false;
    scene.world.no_adverts = World::around(0);
    scene.world.no_segment = World::around(0);
    scene.world.give(0, Input::Link { link: ETH0, state: down });
    let took = until_owned(&mut scene.world, 1);
    assert_eq!(told.after(), ["lb2"]);
    let (after, cause) = told.claim("lb2");
    assert_eq!(cause, Cause::PeerUnable(HostIx(0)));
    close(after, took);
    assert!(told.lost() < ms(10), "{:?}", told.lost());
    // Without heartbeats the silence has to tell.
    let scene = Scene::new(plain(""));
    let told = scene.predicts(0, WhatIf::LinkDown(ETH0));
    assert_eq!(told.after(), ["lb2"]);
    assert!(told.lost() > secs(2), "{:?}", told.lost());
}

#[test]
fn a_check_that_fails_and_recovers() {
    let mut scene = Scene::new(beating(CHECKED));
    let told = scene.predicts(0, WhatIf::Check(CheckIx(0), Verdict::Fail));
    assert_eq!(told.after(), ["lb2"]);
    // Who lets go for a better host has let go before that one claims (DESIGN 5.9).
    assert!(told.lost() < ms(5), "{:?}", told.lost());
    assert!(told.0.supposed.contains(&Supposed::ChecksElsewhere));
    for _ in 0..2 {
        scene.world.run(secs(1));
        reading(&mut scene.world, 0, 0, Verdict::Fail);
    }
    close(told.claim("lb2").0, secs(2) + until_owned(&mut scene.world, 1));
    // What cannot be run moves nothing.
    assert!(scene.predicts(1, WhatIf::Check(CheckIx(0), Verdict::Unknown)).web().steps.is_empty());
    // The other way round, with the delay of preemption in it.
    let text = beating(&format!("preempt-delay = \"30s\"\n{CHECKED}"));
    let mut scene = Scene::new(text);
    reading(&mut scene.world, 0, 0, Verdict::Fail);
    reading(&mut scene.world, 0, 0, Verdict::Fail);
    until_owned(&mut scene.world, 1);
    scene.world.run(secs(5));
    let told = scene.predicts(0, WhatIf::Check(CheckIx(0), Verdict::Pass));
    assert_eq!((told.before(), told.after()), (vec!["lb2".into()], vec!["lb1".to_string()]));
    for _ in 0..2 {
        scene.world.run(secs(1));
        reading(&mut scene.world, 0, 0, Verdict::Pass);
    }
    let took = secs(2) + until_owned(&mut scene.world, 0);
    let after = told.claim("lb1").0;
    assert!(after.abs_diff(took) <= secs(1), "the phase of adverts: {after:?}, {took:?}");
    assert_eq!(told.lost(), Duration::ZERO);
}

#[test]
fn a_stop_a_move_and_a_drain_lose_nothing() {
    for (what, input) in [
        (WhatIf::Stop, Input::Stop),
        (WhatIf::Order(Some(WEB), MOVE), Input::Order { id: 3, instance: Some(WEB), order: MOVE }),
        (WhatIf::Order(None, DRAIN), Input::Order { id: 3, instance: None, order: DRAIN }),
    ] {
        let mut scene = Scene::new(beating(""));
        let told = scene.predicts(0, what);
        scene.world.give(0, input);
        let took = until_owned(&mut scene.world, 1);
        assert_eq!((told.before(), told.after()), (vec!["lb1".into()], vec!["lb2".to_string()]));
        assert_eq!(told.lost(), Duration::ZERO, "{what:?}");
        close(told.claim("lb2").0, took);
        let ended = told.0.operation.as_ref().map(|(done, ..)| *done);
        assert_eq!(ended, (what != WhatIf::Stop).then_some(true), "{:?}", told.0.operation);
    }
}

#[test]
fn what_is_refused_is_refused_with_its_reason() {
    let scene = Scene::new(beating(""));
    let refused = |scene: &Scene, host, what| scene.asks(host, what).unwrap().refused.unwrap();
    assert!(refused(&scene, 1, WhatIf::Order(Some(WEB), MOVE)).contains("lb1"), "not here");
    let mut scene = scene;
    let order = OperatorOrder::Freeze { until: None };
    scene.world.give(0, Input::Order { id: 1, instance: None, order });
    assert!(refused(&scene, 0, WhatIf::Order(Some(WEB), MOVE)).contains("thaw"));
    // A freeze does not keep a dead owner.
    scene.world.run(secs(2));
    assert_eq!(scene.predicts(2, WhatIf::PeerDead(HostIx(0))).after(), ["lb2"]);
    for (what, word) in [
        (WhatIf::PeerDead(HostIx(0)), "power-off"),
        (WhatIf::PeerDead(HostIx(9)), "no host"),
        (WhatIf::Check(CheckIx(0), Verdict::Fail), "no check"),
        (WhatIf::LinkDown(vipd_core::types::LinkIx(7)), "no such service interface"),
    ] {
        let why = scene.asks(0, what).unwrap_err();
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn what_peers_say_of_themselves_counts() {
    // Drained, lb2 is passed over.
    let mut scene = Scene::new(beating(""));
    scene.world.give(1, Input::Order { id: 1, instance: None, order: DRAIN });
    scene.world.run(secs(3));
    assert_eq!(scene.predicts(0, WhatIf::PowerOff).after(), ["lb3"]);
    // Failing, it is as well.
    let mut scene = Scene::new(beating(CHECKED));
    reading(&mut scene.world, 1, 0, Verdict::Fail);
    reading(&mut scene.world, 1, 0, Verdict::Fail);
    scene.world.run(secs(3));
    assert_eq!(scene.predicts(0, WhatIf::PowerOff).after(), ["lb3"]);
    assert_eq!(scene.predicts(2, WhatIf::PeerDead(HostIx(0))).after(), ["lb3"]);
    // Moved, the address stays where it is although lb1 is stronger, and goes by strength when that host dies.
    let mut scene = Scene::new(beating(""));
    let order = OperatorOrder::Move { to: Some(HostIx(2)), force: false };
    scene.world.give(0, Input::Order { id: 1, instance: Some(WEB), order });
    until_owned(&mut scene.world, 2);
    scene.world.run(secs(3));
    let stays = scene.predicts(0, WhatIf::PeerDead(HostIx(1)));
    assert_eq!((stays.before(), stays.after()), (vec!["lb3".into()], vec!["lb3".to_string()]));
    assert_eq!(scene.predicts(1, WhatIf::PeerDead(HostIx(2))).after(), ["lb1"]);
    // Silent, it does not play.
    scene.world.off.insert(1);
    scene.world.run(secs(10));
    let alone = scene.predicts(0, WhatIf::PowerOff);
    assert!(alone.0.supposed.contains(&Supposed::Silent("lb2".into())));
    assert!(scene.asks(0, WhatIf::PeerDead(HostIx(1))).unwrap_err().contains("not heard now"));
}

#[test]
fn nobody_left_is_said_with_the_gates() {
    let mut scene = Scene::new(beating(""));
    scene.world.off.extend([1, 2]);
    scene.world.run(secs(10));
    let told = scene.predicts(0, WhatIf::LinkDown(ETH0));
    assert!(told.after().is_empty());
    assert!(told.web().clients[0].to_the_end);
    let (_, _, view) = &told.web().view;
    assert!(view.why.gates.iter().any(|gate| !gate.passed), "{:?}", view.why.gates);
    assert!(scene.asks(0, WhatIf::Order(None, DRAIN)).unwrap().refused.is_some());
}

#[test]
fn cuts_between_hosts_that_live() {
    // The second network tells that the owner lives, and each side reaches its target: nobody moves, somebody is told.
    let scene = Scene::new(beating(&format!("targets = [\"{TARGET}\"]\n")));
    let service = scene.predicts(0, WhatIf::Partition(Some(ETH0)));
    assert_eq!(service.after(), ["lb1"]);
    assert!(service.0.supposed.contains(&Supposed::TargetsOnBothSides));
    let broken = |(_, _, alarm, _): &(_, _, Alarm, _)| matches!(alarm, Alarm::AdvertPathBroken(_));
    assert!(service.0.alarms.iter().any(broken), "{:?}", service.0.alarms);
    // Nobody reaches anything: the owner is asked to release.
    let mut scene = Scene::new(beating(""));
    let service = scene.predicts(0, WhatIf::Partition(Some(ETH0)));
    let (after, cause) = service.claim("lb2");
    assert!(matches!(cause, Cause::PeerUnable(_)), "{cause:?}");
    scene.after_an_advert_of(0);
    scene.world.no_adverts = World::around(0);
    scene.world.no_segment = World::around(0);
    close(after, until_owned(&mut scene.world, 1));
    let mut scene = Scene::new(beating(""));
    // Nothing tells: two owners, one on each side.
    let whole = scene.predicts(0, WhatIf::Partition(None));
    assert_eq!(whole.after(), ["lb1", "lb2"]);
    let sides: Vec<Side> = whole.web().clients.iter().map(|c| c.side).collect();
    assert_eq!(sides, [Side::Here, Side::There]);
    assert_eq!(whole.web().clients[0].lost, Duration::ZERO);
    scene.after_an_advert_of(0);
    scene.world.no_adverts = World::around(0);
    scene.world.no_segment = World::around(0);
    scene.world.no_beats = World::around(0);
    let start = scene.world.now;
    scene.world.until(secs(20), |w| w.owners() == [0, 1]);
    close(whole.web().clients[1].lost, scene.world.now - start);
}

/// The replicator of a host says that its copy is complete, or nothing any more.
fn copy(world: &mut World, host: usize, complete: bool) {
    let state = complete.then_some(ReplicaState { age: Some(Duration::ZERO), pending: 0 });
    world.give(host, Input::Replica { set: SetIx(0), state });
}

/// Three hosts whose state follows the address and has to be there; lb1 owns, every copy is complete.
fn stateful(more: &str) -> Scene {
    let set = "[replicate.state]\ninstance = \"web\"\npaths = [\"/srv/state\"]\npromote-gate = \"require\"\n";
    let text = beating(&format!("{more}{set}"));
    let mut world = World::of((1..=3).map(|n| Bench::up(&text, n)).collect());
    for host in 0..3 {
        copy(&mut world, host, true);
        let result = Ok(());
        world.give(host, Input::Stored { instance: WEB, reserved: 64, result });
    }
    world.run(secs(6));
    assert_eq!(world.owners(), [0]);
    world.forget();
    Scene { text, world }
}

#[test]
fn a_standby_with_a_complete_copy_takes_over_in_the_play_too() {
    let mut scene = stateful("");
    for (observer, what) in [(0, WhatIf::PowerOff), (2, WhatIf::PeerDead(HostIx(0)))] {
        let told = scene.predicts(observer, what);
        assert_eq!(told.after(), ["lb2"], "{observer}");
        assert!(told.0.supposed.contains(&Supposed::CopiesFollow));
    }
    assert_eq!(scene.predicts(0, WhatIf::Order(Some(WEB), MOVE)).after(), ["lb2"]);
    // One that is not is none.
    copy(&mut scene.world, 1, false);
    scene.world.run(secs(1));
    assert_eq!(scene.predicts(0, WhatIf::PowerOff).after(), ["lb3"]);
    copy(&mut scene.world, 2, false);
    scene.world.run(secs(1));
    assert!(scene.predicts(0, WhatIf::PowerOff).after().is_empty());
}

/// Longer than a copy is good by itself: as long as an owner is there it does not age.
#[test]
fn copies_follow_the_owner_for_as_long_as_the_play_lasts() {
    let mut scene = stateful("preempt-delay = \"150s\"\n");
    scene.world.off.insert(0);
    scene.world.run(secs(10));
    assert_eq!(scene.world.owners(), [1]);
    scene.world.off.remove(&0);
    scene.world.run(secs(2));
    for host in 0..3 {
        copy(&mut scene.world, host, true);
    }
    scene.world.run(secs(1));
    assert_eq!(scene.world.owners(), [1]);
    let told = scene.predicts(1, WhatIf::PeerDead(HostIx(2)));
    assert_eq!(told.after(), ["lb1"]);
    assert!(told.claim("lb1").0 > secs(140));
}

#[test]
fn nothing_happens_and_nothing_is_given_away() {
    let scene = Scene::new(beating(""));
    let engine = &scene.world.hosts[0].engine;
    let (deadline, before) = (engine.deadline(), format!("{:?}", engine.snapshot(scene.world.now)));
    scene.predicts(0, WhatIf::PowerOff);
    assert_eq!(engine.deadline(), deadline);
    assert_eq!(format!("{:?}", engine.snapshot(scene.world.now)), before);
    // The same question has the same answer.
    let answer = |scene: &Scene| format!("{:?}", scene.asks(1, WhatIf::PeerDead(HostIx(0))));
    assert_eq!(answer(&scene), answer(&scene));
}

#[test]
fn a_picture_of_a_thousand_instances_is_taken_and_played() {
    use std::fmt::Write as _;
    let mut text = String::from("[cluster]\nname = \"shop\"\nkey-file = \"/k\"\n");
    for n in 1..=2 {
        let _ = writeln!(text, "[hosts.lb{n}]\npaths = [\"192.0.2.1{n}\", \"10.9.0.1{n}\"]");
    }
    // 250 to an interface: that is what VRIDs allow.
    for n in 0..1000 {
        let (link, vrid) = (n / 250, n % 250 + 1);
        let _ = writeln!(
            text,
            "[instance.i{n}]\nvrid = {vrid}\ninterface = \"eth{link}\"\naddresses = [\"203.0.{link}.{vrid}/32\"]\n\
             priority = {{ lb1 = 150, lb2 = 100 }}\nsettle = \"off\"\npreempt-delay = \"0s\""
        );
    }
    let mut world = World::new(&text, 2);
    world.run(secs(6));
    let (models, _) = load_all_hosts(&text, "vipd.toml").unwrap();
    let engine = &world.hosts[1].engine;
    let picture = engine.picture();
    let told =
        picture.play(&models, &WhatIf::PeerDead(HostIx(0)), Bench::stamp(world.now)).unwrap();
    assert_eq!(told.outcomes.len(), 1000);
    assert!(!told.cut_short && told.outcomes.iter().all(|o| o.after == [0]));
}
