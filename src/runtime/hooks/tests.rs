#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
use super::*;
use crate::exec::client::Whereabouts;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use vipd_core::config::model::{Account, Program, SyncGroup};
use vipd_core::engine::io::{Cause, EventKind};
use vipd_core::time::Instant;
use vipd_core::types::{Epoch, HostIx, State};

const CONFIG: &str = "[cluster]\nname = \"shop\"\n[hosts.lb1]\n[hosts.lb2]\n[instance.dns]\nvrid = 52\ninterface = \
                      \"eth0\"\naddresses = [\"192.0.2.20/24\"]\n[instance.web]\nvrid = 51\ninterface = \"eth0\"\n\
                      addresses = [\"192.0.2.10/24\"]\npriority = { lb1 = 150, lb2 = 100 }\n";

fn model(run: HookRun) -> Model {
    let (mut model, _) = vipd_core::config::load(CONFIG, "vipd.toml", "lb1").unwrap();
    let on = vec![Moment::Active, Moment::Backup, Moment::Fault, Moment::Stop];
    model.hooks.push(Hook {
        name: "h".into(),
        on,
        instances: vec![],
        run,
        timeout: None,
        interval: None,
        watch: vec![],
        debounce: Duration::from_secs(1),
    });
    model
}

fn program(call: Call) -> HookRun {
    let argv = vec!["/bin/true".into()];
    let timeout = Duration::from_secs(5);
    HookRun::Program(Program { argv, account: Account::Default, env: vec![], timeout }, call)
}

/// An executor that tells what it was asked, and ends a run when it is told to.
pub(in crate::runtime) struct Fake {
    asked: mpsc::UnboundedReceiver<serde_json::Value>,
    pub(in crate::runtime) end: mpsc::UnboundedSender<(i32, &'static str)>,
    folder: tempfile::TempDir,
}

impl Fake {
    pub(in crate::runtime) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("exec.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (tell, asked) = mpsc::unbounded_channel();
        let (end, mut ends) = mpsc::unbounded_channel::<(i32, &str)>();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (reader, mut writer) = stream.into_split();
            writer.write_all(b"{\"hello\":{\"v\":2,\"version\":\"0\"}}\n").await.unwrap();
            let mut lines = BufReader::new(reader).lines();
            let mut running = std::collections::VecDeque::new();
            loop {
                tokio::select! {
                    line = lines.next_line() => {
                        let Ok(Some(line)) = line else { return };
                        let ask: serde_json::Value = serde_json::from_str(&line).unwrap();
                        if let Some(run) = ask["run"]["run"].as_u64() {
                            running.push_back(run);
                        }
                        let _ = tell.send(ask);
                    }
                    Some((code, last)) = ends.recv() => {
                        let run = running.pop_front().unwrap();
                        let line = format!(
                            "{{\"ended\":{{\"run\":{run},\"end\":{{\"exited\":{code}}},\"output\":\"\",\"last\":\"{last}\",\"took_ms\":1}}}}\n"
                        );
                        writer.write_all(line.as_bytes()).await.unwrap();
                    }
                }
            }
        });
        Self { asked, end, folder }
    }

    pub(in crate::runtime) fn hooks(&self, model: Model) -> Hooks {
        let whereabouts = Whereabouts {
            socket: self.folder.path().join("exec.sock"),
            command: vec![],
            managed: true,
        };
        let model = Arc::new(model);
        let counting = Counting::new(&model);
        Hooks::new(model, Runner::start(whereabouts), counting)
    }

    /// What the next ask tells.
    pub(in crate::runtime) async fn ask(&mut self) -> serde_json::Value {
        let next = tokio::time::timeout(Duration::from_secs(5), self.asked.recv());
        let ask = next.await.expect("nothing was asked").unwrap();
        let occasion =
            [&ask["run"]["occasion"], &ask["line"]["occasion"]].into_iter().find(|o| !o.is_null());
        occasion.unwrap().clone()
    }

    /// `SUBJECT NAME event priority skipped` of the next ask.
    pub(in crate::runtime) async fn next(&mut self) -> String {
        let occasion = self.ask().await;
        let word = |key: &str| occasion[key].to_string().replace('"', "");
        ["subject", "name", "event", "priority", "skipped"].map(word).join(" ")
    }

    pub(in crate::runtime) async fn nothing(&mut self) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(self.asked.try_recv().is_err());
    }
}

pub(in crate::runtime) fn event(instance: u16, kind: EventKind) -> Event {
    Event { at: Instant::ZERO, instance: Some(InstanceIx(instance)), family: None, kind }
}

pub(in crate::runtime) fn to(instance: u16, to: State, cause: Cause) -> Event {
    let kind = EventKind::Transition {
        from: State::Initialize,
        to,
        cause,
        owner: None,
        priority: 150,
        epoch: Epoch { number: 3, host: 0 },
    };
    event(instance, kind)
}

fn backup(instance: u16) -> Event {
    to(instance, State::Backup, Cause::Startup)
}

pub(in crate::runtime) fn active(instance: u16) -> [Event; 2] {
    let claimed = EventKind::Claimed { took: Duration::from_millis(1), addresses: 1 };
    [to(instance, State::Active, Cause::Released), event(instance, claimed)]
}

#[tokio::test(flavor = "current_thread")]
async fn one_at_a_time_and_the_newest_wins() {
    let mut fake = Fake::new();
    let mut hooks = fake.hooks(model(program(Call::Vipd)));
    hooks.observe(&backup(1));
    assert_eq!(fake.next().await, "instance web backup 150 0");
    // Decided is not confirmed.
    let [decided, claimed] = active(1);
    hooks.observe(&decided);
    hooks.observe(&claimed);
    hooks.observe(&backup(1));
    hooks.observe(&to(1, State::Initialize, Cause::LinkDown));
    // Another instance does not wait for this one.
    hooks.observe(&backup(0));
    assert_eq!(fake.next().await, "instance dns backup 150 0");
    fake.nothing().await;
    fake.end.send((0, "")).unwrap();
    assert_eq!(fake.next().await, "instance web fault 150 2");
    fake.end.send((0, "")).unwrap();
    fake.end.send((0, "")).unwrap();
    fake.nothing().await;
    // No change, no word.
    hooks.observe(&to(1, State::Initialize, Cause::LinkDown));
    fake.nothing().await;
    let stopping = tokio::spawn(async move { hooks.stop().await });
    assert_eq!(fake.next().await, "instance dns stop 150 0");
    assert_eq!(fake.next().await, "instance web stop 150 0");
    fake.end.send((0, "")).unwrap();
    fake.end.send((0, "")).unwrap();
    tokio::time::timeout(Duration::from_secs(2), stopping).await.unwrap().unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_stop_behind_a_slow_hook_is_left_to_the_executor() {
    let mut fake = Fake::new();
    let mut hooks = fake.hooks(model(program(Call::Vipd)));
    hooks.farewell = Duration::from_millis(200);
    for moved in [backup(0), backup(1)] {
        hooks.observe(&moved);
    }
    assert_eq!(fake.next().await, "instance dns backup 150 0");
    assert_eq!(fake.next().await, "instance web backup 150 0");
    hooks.stop().await;
    let mut late = [fake.next().await, fake.next().await];
    late.sort();
    assert_eq!(late, ["instance dns stop 150 0", "instance web stop 150 0"]);
    fake.nothing().await;
}

#[tokio::test(flavor = "current_thread")]
async fn active_counts_when_the_kernel_has_confirmed() {
    let mut fake = Fake::new();
    let mut hooks = fake.hooks(model(program(Call::Keepalived)));
    let [decided, claimed] = active(1);
    hooks.observe(&decided);
    fake.nothing().await;
    hooks.observe(&claimed);
    assert_eq!(fake.next().await, "instance web active 150 0");
    // A clean stop is told when it is done.
    hooks.observe(&to(1, State::Initialize, Cause::Stop));
    fake.nothing().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_sync_group_speaks_as_with_keepalived() {
    let mut fake = Fake::new();
    let mut model = model(HookRun::Fifo("/nowhere".into()));
    let members = vec![InstanceIx(0), InstanceIx(1)];
    model.sync_groups.push(SyncGroup { name: "G".into(), members });
    let mut hooks = fake.hooks(model);
    hooks.observe(&backup(0));
    fake.nothing().await;
    hooks.observe(&backup(1));
    for line in ["group G backup 0 0", "instance dns backup 150 0", "instance web backup 150 0"] {
        assert_eq!(fake.next().await, line);
    }
    for moved in active(0).iter().chain(&active(1)) {
        hooks.observe(moved);
    }
    for line in ["instance dns active 150 0", "instance web active 150 0", "group G active 0 0"] {
        assert_eq!(fake.next().await, line);
    }
    hooks.observe(&to(0, State::Initialize, Cause::LinkDown));
    assert_eq!(fake.next().await, "instance dns fault 150 0");
    assert_eq!(fake.next().await, "group G fault 0 0");
    hooks.observe(&to(1, State::Backup, Cause::SyncGroup));
    assert_eq!(fake.next().await, "instance web backup 150 0");
    hooks.stop().await;
    for line in ["instance dns stop 150 0", "instance web stop 150 0", "group G stop 0 0"] {
        assert_eq!(fake.next().await, line);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_hook_hears_only_of_what_it_asked_for() {
    let mut fake = Fake::new();
    let mut model = model(HookRun::Fifo("/nowhere".into()));
    let members = vec![InstanceIx(0), InstanceIx(1)];
    model.sync_groups.push(SyncGroup { name: "G".into(), members });
    model.hooks[0].instances = vec![InstanceIx(1)];
    model.hooks[0].on = vec![Moment::Backup];
    let mut hooks = fake.hooks(model);
    hooks.observe(&backup(0));
    hooks.observe(&backup(1));
    assert_eq!(fake.next().await, "instance web backup 150 0");
    for moved in active(1) {
        hooks.observe(&moved);
    }
    hooks.stop().await;
    fake.nothing().await;
}

/// A hook on all that is not a state.
pub(in crate::runtime) fn synced() -> Model {
    let mut model = model(program(Call::Vipd));
    model.hooks[0].on = Moment::ALL.into_iter().map(|(_, m)| m).filter(|m| !m.is_state()).collect();
    model
}

/// What the hook says that it pushed last.
fn reported(hooks: &Hooks, ix: InstanceIx) -> Option<String> {
    let all = hooks.lanes.counting.hooks();
    let (_, of) = all.iter().find(|((_, of), _)| of == hooks.name(ix))?;
    of.generation().map(str::to_owned)
}

fn released(instance: u16) -> Event {
    event(instance, EventKind::Released)
}

#[tokio::test(flavor = "current_thread")]
async fn an_owner_pushes_and_a_standby_verifies() {
    let mut fake = Fake::new();
    let mut hooks = fake.hooks(synced());
    hooks.due(0, Moment::SyncInterval);
    hooks.due(0, Moment::Verify);
    fake.nothing().await;
    hooks.observe(&backup(1));
    hooks.due(0, Moment::SyncInterval);
    hooks.due(0, Moment::SyncChange);
    hooks.due(0, Moment::Verify);
    assert_eq!(fake.next().await, "instance web verify 150 0");
    fake.end.send((0, "")).unwrap();
    // Nobody ordered the claim: its hooks run beside it, in order.
    let [decided, claimed] = active(1);
    hooks.observe(&decided);
    assert_eq!(fake.next().await, "instance web pre-promote 150 0");
    hooks.observe(&claimed);
    fake.nothing().await;
    fake.end.send((0, "")).unwrap();
    assert_eq!(fake.next().await, "instance web post-promote 150 0");
    // Changes that wait are one; so is the first push of a new owner with a tick.
    for moment in [Moment::SyncChange, Moment::SyncChange, Moment::SyncInterval, Moment::Verify] {
        hooks.due(0, moment);
    }
    fake.end.send((0, "")).unwrap();
    assert_eq!(fake.next().await, "instance web sync-interval 150 1");
    fake.end.send((0, "rpo_ms=20 generation=g1")).unwrap();
    assert_eq!(fake.next().await, "instance web sync-change 150 1");
    assert_eq!(reported(&hooks, InstanceIx(1)).as_deref(), Some("g1"));
    hooks.due(0, Moment::SyncInterval);
    // What still waits is not pushed by a host that has lost the address.
    hooks.observe(&backup(1));
    fake.end.send((0, "rpo_ms=20 generation=g2")).unwrap();
    fake.nothing().await;
    assert_eq!(reported(&hooks, InstanceIx(1)), None);
    hooks.observe(&released(1));
    assert_eq!(fake.next().await, "instance web post-demote 150 0");
    fake.end.send((0, "")).unwrap();
    hooks.observe(&released(1));
    fake.nothing().await;
}

#[tokio::test(flavor = "current_thread")]
async fn after_a_handover_too_who_owned_hears_that_the_addresses_are_gone() {
    let mut fake = Fake::new();
    let mut model = synced();
    model.hooks[0].on = vec![Moment::PostDemote];
    let mut hooks = fake.hooks(model);
    for event in [to(1, State::Active, Cause::Promoted), active(1)[1].clone(), released(1)] {
        hooks.observe(&event);
    }
    fake.nothing().await;
    hooks.observe(&to(1, State::Backup, Cause::MovedAway(Some(HostIx(1)))));
    assert_eq!(fake.next().await, "instance web post-demote 150 0");
    fake.end.send((0, "")).unwrap();
    hooks.observe(&released(1));
    fake.nothing().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_claim_that_was_ordered_has_asked_before() {
    let mut fake = Fake::new();
    let mut hooks = fake.hooks(synced());
    hooks.observe(&backup(1));
    for event in [to(1, State::Active, Cause::MovedHere(HostIx(1))), active(1)[1].clone()] {
        hooks.observe(&event);
    }
    assert_eq!(fake.next().await, "instance web post-promote 150 0");
}

#[tokio::test(flavor = "current_thread")]
async fn a_step_waits_for_its_turn_and_brings_the_answer() {
    let mut fake = Fake::new();
    let mut model = synced();
    model.hooks[0].on.retain(|m| !matches!(m, Moment::SyncInterval | Moment::PostPromote));
    let mut hooks = fake.hooks(model);
    let step = |hooks: &Hooks, word| {
        let step = hooks.steps(InstanceIx(1), word, Some(HostIx(1))).remove(0);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        tokio::spawn(step.run(deadline))
    };
    // Not the owner: there is nothing to quiet.
    let report = step(&hooks, Word::PreDemote).await.unwrap();
    assert!(matches!(report, Report::Failed(_)), "{report}");
    for event in [to(1, State::Active, Cause::Promoted), active(1)[1].clone()] {
        hooks.observe(&event);
    }
    hooks.due(0, Moment::SyncChange);
    assert_eq!(fake.next().await, "instance web sync-change 150 0");
    hooks.due(0, Moment::SyncChange);
    let quiet = step(&hooks, Word::PreDemote);
    fake.nothing().await;
    fake.end.send((0, "")).unwrap();
    // The change that waited is brought by the barrier.
    assert_eq!(fake.next().await, "instance web pre-demote 150 0");
    fake.end.send((10, "users are on")).unwrap();
    assert_eq!(quiet.await.unwrap(), Report::Vetoed("users are on".into()));
    // A push cannot say no; called later it is called again, while there is time.
    let push = step(&hooks, Word::SyncBarrier);
    assert_eq!(fake.next().await, "instance web sync-barrier 150 0");
    fake.end.send((75, "")).unwrap();
    assert_eq!(fake.next().await, "instance web sync-barrier 150 0");
    fake.end.send((10, "no")).unwrap();
    assert_eq!(push.await.unwrap(), Report::Failed("ended with code 10: no".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_step_that_nobody_waits_for_is_not_begun_and_what_began_is_undone() {
    let mut fake = Fake::new();
    let mut hooks = fake.hooks(synced());
    for event in [to(1, State::Active, Cause::Promoted), active(1)[1].clone()] {
        hooks.observe(&event);
    }
    assert_eq!(fake.next().await, "instance web post-promote 150 0");
    let step = hooks.steps(InstanceIx(1), Word::PreDemote, Some(HostIx(1))).remove(0);
    let waiting = tokio::spawn(step.run(tokio::time::Instant::now() + Duration::from_secs(5)));
    fake.nothing().await;
    waiting.abort();
    let _ = waiting.await;
    hooks.undo(
        InstanceIx(1),
        &BTreeSet::from([Arc::clone(&hooks.model.hooks[0].name)]),
        Word::PostPromote,
        "move aborted",
    );
    hooks.undo(InstanceIx(1), &BTreeSet::new(), Word::PostDemote, "never");
    fake.end.send((0, "")).unwrap();
    let next = fake.ask().await;
    assert_eq!(next["event"], "post-promote");
    assert_eq!(next["reason"], "move aborted");
    fake.end.send((0, "")).unwrap();
    fake.nothing().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_run_that_wants_to_be_later_gives_way_to_what_is_newer() {
    let mut fake = Fake::new();
    let mut hooks = fake.hooks(synced());
    for event in [to(1, State::Active, Cause::Promoted), active(1)[1].clone()] {
        hooks.observe(&event);
    }
    assert_eq!(fake.next().await, "instance web post-promote 150 0");
    fake.end.send((0, "")).unwrap();
    assert_eq!(fake.next().await, "instance web sync-interval 150 0");
    fake.end.send((75, "")).unwrap();
    // After a pause, the same again.
    assert_eq!(fake.next().await, "instance web sync-interval 150 0");
    fake.end.send((75, "")).unwrap();
    fake.nothing().await;
    hooks.due(0, Moment::SyncChange);
    assert_eq!(fake.next().await, "instance web sync-change 150 0");
}
