#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
use super::*;
use crate::runtime::hooks::tests::{Fake, active, synced, to};
use crate::runtime::queue::{Inbox, queue};
use std::time::Duration;
use vipd_core::engine::io::Cause;
use vipd_core::types::State;

const WEB: InstanceIx = InstanceIx(1);
const LB2: HostIx = HostIx(1);

/// Says this, and remembers which barriers are over.
#[derive(Clone, Debug)]
struct Says(Result<(), String>, Arc<Mutex<Vec<u64>>>);

impl Replicator for Says {
    async fn barrier(
        &self,
        _: u64,
        instance: Arc<str>,
        to: String,
        _: Instant,
    ) -> Result<(), String> {
        assert_eq!((&*instance, &*to), ("web", "lb2"), "whatever numbers they have by now");
        self.0.clone()
    }

    fn over(&self, order: u64) {
        self.1.lock().unwrap().push(order);
    }
}

/// An owner with a hook on every moment of a move but the ticks.
struct Scene {
    fake: Fake,
    hooks: Hooks,
    moving: Moving<Says>,
    inbox: Inbox,
    over: Arc<Mutex<Vec<u64>>>,
}

impl Scene {
    fn new(says: Result<(), String>) -> Self {
        let fake = Fake::new();
        let mut model = synced();
        model.hooks[0].on.retain(|moment| moment.pace().is_none());
        let mut hooks = fake.hooks(model.clone());
        for event in [to(1, State::Active, Cause::Promoted), active(1)[1].clone()] {
            hooks.observe(&event);
        }
        let (sender, inbox) = queue().unwrap();
        let over = Arc::default();
        let moving = Moving::new(
            InForce::new(Arc::new(model), "".into(), None),
            sender,
            Says(says, Arc::clone(&over)),
        );
        Self { fake, hooks, moving, inbox, over }
    }

    /// The first promotion was heard: nothing is under way.
    async fn settle(&mut self) {
        self.hears("post-promote", 0).await;
    }

    fn barrier(&mut self, order: u64, within: Duration) {
        let deadline = clock::monotonic() + within;
        self.moving.barrier(&self.hooks, WEB, order, LB2, deadline);
    }

    /// The program is called with `event` and ends with `code`; what it was told.
    async fn hears(&mut self, event: &str, code: i32) -> serde_json::Value {
        let told = self.fake.ask().await;
        assert_eq!(told["event"], event);
        self.fake.end.send((code, "busy")).unwrap();
        told
    }

    /// What the engine is told, with the number of the order.
    async fn answer(&self) -> (u64, Result<(), Arc<str>>) {
        for _ in 0..1000 {
            match self.inbox.next() {
                Some(Message::BarrierDone { order, result, .. }) => return (order, result),
                Some(Message::PrePromoted { order, result, .. }) => return (order, result),
                Some(other) => panic!("{other:?}"),
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        panic!("the engine is told nothing");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn the_writer_is_quiet_then_pushed_then_replicated() {
    let mut scene = Scene::new(Ok(()));
    scene.settle().await;
    scene.barrier(7, Duration::from_secs(10));
    let told = scene.hears("pre-demote", 0).await;
    assert_eq!((&told["peers"][0]["host"], told["role"].as_str()), (&"lb2".into(), Some("active")));
    let ms = told["deadline_ms"].as_u64().unwrap();
    assert!((1..=10_000).contains(&ms), "{ms}");
    scene.hears("sync-barrier", 0).await;
    assert_eq!(scene.answer().await, (7, Ok(())));
    scene.moving.barrier_over(&scene.hooks, WEB, 7, true);
    assert_eq!(*scene.over.lock().unwrap(), [7]);
    scene.fake.nothing().await;
}

#[tokio::test(flavor = "current_thread")]
async fn whatever_fails_ends_the_barrier_and_the_writer_goes_on() {
    let mut scene = Scene::new(Ok(()));
    scene.settle().await;
    scene.barrier(1, Duration::from_secs(10));
    scene.hears("pre-demote", 0).await;
    scene.hears("sync-barrier", 1).await;
    let (order, result) = scene.answer().await;
    let why = result.unwrap_err();
    assert!(order == 1 && why.contains("sync-barrier") && why.contains("busy"), "{why}");
    scene.moving.barrier_over(&scene.hooks, WEB, 1, false);
    let told = scene.hears("post-promote", 0).await;
    assert_eq!(told["reason"], "move aborted");

    // Told no by the writer itself: nothing is pushed.
    scene.barrier(2, Duration::from_secs(10));
    scene.hears("pre-demote", 10).await;
    let why = scene.answer().await.1.unwrap_err();
    assert!(why.contains("said no: busy"), "{why}");
    scene.moving.barrier_over(&scene.hooks, WEB, 2, false);
    scene.hears("post-promote", 0).await;
    scene.fake.nothing().await;

    let mut scene = Scene::new(Err("the target is full".into()));
    scene.settle().await;
    scene.barrier(3, Duration::from_secs(10));
    scene.hears("pre-demote", 0).await;
    scene.hears("sync-barrier", 0).await;
    assert_eq!(scene.answer().await.1.unwrap_err().as_ref(), "the target is full");
    scene.moving.barrier_over(&scene.hooks, WEB, 3, false);
    scene.hears("post-promote", 0).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_barrier_that_is_given_up_begins_nothing_more() {
    let mut scene = Scene::new(Ok(()));
    scene.settle().await;
    scene.barrier(1, Duration::from_millis(200));
    let told = scene.fake.ask().await;
    assert_eq!(told["event"], "pre-demote");
    // It hangs.
    let why = scene.answer().await.1.unwrap_err();
    assert!(why.contains("took too long"), "{why}");
    scene.moving.barrier_over(&scene.hooks, WEB, 1, false);
    scene.fake.nothing().await;
    // Its end lets the counterpart run, and nothing before that.
    scene.fake.end.send((0, "")).unwrap();
    scene.hears("post-promote", 0).await;
    // An order that is not known is over already.
    scene.moving.barrier_over(&scene.hooks, WEB, 1, false);
    scene.fake.nothing().await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_order_of_before_a_reload_is_of_the_instance_that_it_named() {
    let mut scene = Scene::new(Ok(()));
    scene.settle().await;
    let mut next = synced();
    next.instances.remove(0);
    scene.moving.in_force.replace(Arc::new(next), "".into());
    scene.barrier(1, Duration::from_secs(10));
    scene.hears("pre-demote", 0).await;
    scene.hears("sync-barrier", 0).await;
    assert_eq!(scene.answer().await, (1, Ok(())));
}

#[tokio::test(flavor = "current_thread")]
async fn only_a_veto_stops_a_promotion_and_any_failure_a_move() {
    let mut scene = Scene::new(Ok(()));
    scene.settle().await;
    for (order, from, code, agrees) in [
        (1, Some(LB2), 0, true),
        (2, Some(LB2), 10, false),
        (3, Some(LB2), 1, false),
        (4, None, 0, true),
        (5, None, 10, false),
        (6, None, 1, true),
    ] {
        scene.moving.pre_promote(&scene.hooks, WEB, order, from);
        scene.hears("pre-promote", code).await;
        let (of, result) = scene.answer().await;
        assert_eq!((of, result.is_ok()), (order, agrees), "{from:?} {code}");
    }
    // The last of them comes to nothing.
    scene.moving.not_promoted(&scene.hooks, WEB, 5);
    scene.fake.nothing().await;
    scene.moving.not_promoted(&scene.hooks, WEB, 6);
    let told = scene.hears("post-demote", 0).await;
    assert_eq!(told["reason"], "promotion aborted");
}
