#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
use super::*;
use tracing::Level as Loudness;
use vipd_core::engine::io::{Cause, OperationStep};
use vipd_core::types::{Epoch, State};

const CONFIG: &str = "[cluster]\nname = \"shop\"\n[hosts.lb1]\n[hosts.lb2]\n[instance.dns]\nvrid = 52\ninterface = \
                      \"eth0\"\naddresses = [\"192.0.2.20/24\"]\n[instance.web]\nvrid = 51\ninterface = \"eth0\"\n\
                      addresses = [\"192.0.2.10/24\"]\npriority = { lb1 = 150, lb2 = 100 }\n";
const DNS: InstanceIx = InstanceIx(0);
const WEB: InstanceIx = InstanceIx(1);

struct Place {
    dir: tempfile::TempDir,
    model: Arc<Model>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (model, _) = vipd_core::config::load(CONFIG, "vipd.toml", "lb1").unwrap();
        Self { dir, model: Arc::new(model) }
    }

    fn open(&self) -> Chronicle {
        let (chronicle, warning) =
            Chronicle::open(self.dir.path(), Arc::clone(&self.model)).unwrap();
        assert_eq!(warning, None);
        chronicle
    }
}

/// Tells `kind` about `instance`, so many seconds ago.
fn tell(chronicle: &Chronicle, instance: InstanceIx, ago: u64, kind: EventKind) {
    let at = clock::monotonic().before(Duration::from_secs(ago));
    let event = engine::Event { at, instance: Some(instance), family: None, kind };
    let telling = Telling { level: Loudness::WARN, line: "web: said".into(), state: None };
    chronicle.event(&event, telling);
}

fn transition(to: State) -> EventKind {
    let from = if to == State::Active { State::Backup } else { State::Active };
    let cause = Cause::Released;
    EventKind::Transition { from, to, cause, owner: None, priority: 100, epoch: Epoch::default() }
}

fn step(id: u64, step: OperationStep) -> EventKind {
    EventKind::Operation { id, step }
}

#[test]
fn says_when_why_and_how_long() {
    let place = Place::new();
    let chronicle = place.open();
    tell(&chronicle, WEB, 30, transition(State::Active));
    tell(&chronicle, DNS, 25, transition(State::Active));
    tell(&chronicle, WEB, 10, transition(State::Backup));
    tell(&chronicle, WEB, 9, EventKind::Alarm(Alarm::Held, true));
    tell(&chronicle, WEB, 4, EventKind::Alarm(Alarm::Held, false));
    let history: Vec<_> = chronicle.history().iter().map(|entry| entry.document()).collect();
    let lasted = |n: usize| history[n].duration_s.map(|s| s.round() as u64);
    assert_eq!([lasted(0), lasted(1), lasted(2)], [None, None, Some(20)]);
    assert_eq!([lasted(3), lasted(4)], [None, Some(5)]);
    assert_eq!(history[2].cause.as_deref(), Some("the owner released the address (priority 0)"));
    assert!((29.9..35.0).contains(&history[0].age_s), "{}", history[0].age_s);
    let time: Timestamp = history[0].time.parse().unwrap();
    assert!((29..35).contains(&Timestamp::now().duration_since(time).as_secs()), "{time}");
    assert!(history[0].time.ends_with('Z') && history[0].time.len() == 24, "{}", history[0].time);
    let text = serde_json::to_value(&history[2]).unwrap();
    assert_eq!((&text["kind"], &text["to"]), (&"transition".into(), &"backup".into()));
    assert_eq!((&text["schema"], &text["instance"]), (&1.into(), &"web".into()));
    assert_eq!(history[2], serde_json::from_value(text).unwrap());
}

#[test]
fn an_operation_is_followed_by_its_name_and_kept_by_its_end() {
    let place = Place::new();
    let chronicle = place.open();
    let (past, mut live) = chronicle.follow(10);
    assert!(past.is_empty());
    let id = (1732 << 32) | 7;
    tell(&chronicle, WEB, 3, step(id, OperationStep::Started));
    tell(&chronicle, WEB, 2, step(id + 1, OperationStep::Aborted("no".into())));
    tell(&chronicle, WEB, 1, step(id, OperationStep::Progress("adverts".into())));
    tell(&chronicle, WEB, 0, step(id, OperationStep::Done("lb2 owns".into())));
    let steps: Vec<_> = std::iter::from_fn(|| live.try_recv().ok())
        .filter_map(|entry| step_of(&entry, "1732-7").map(|(step, text)| (step, text.to_owned())))
        .collect();
    let want =
        [(Step::Started, "web: said"), (Step::Progress, "adverts"), (Step::Done, "lb2 owns")];
    assert_eq!(steps, want.map(|(step, text)| (step, text.to_owned())));
    let kept: Vec<_> = chronicle.history().iter().map(|e| e.document().what).collect();
    let end = |operation: &str, step| What::Operation { operation: operation.into(), step };
    assert_eq!(kept, [end("1732-8", Step::Aborted), end("1732-7", Step::Done)]);
}

#[test]
fn goes_on_after_a_restart_and_is_bounded() {
    let place = Place::new();
    let first = place.open();
    for n in 0..KEPT + 50 {
        let to = if n % 2 == 0 { State::Active } else { State::Backup };
        tell(&first, WEB, 0, transition(to));
    }
    // A kind that is told and not kept.
    tell(&first, WEB, 0, EventKind::Released);
    assert_eq!(first.history().len(), KEPT);
    let last = first.history().last().unwrap().document().seq;
    drop(first);
    let second = place.open();
    second.agent(true, "up".into());
    let history = second.history();
    assert_eq!(history.len(), KEPT);
    let seqs: Vec<u64> = history.iter().map(|entry| entry.document().seq).collect();
    assert!(seqs.is_sorted());
    assert_eq!(seqs[KEPT - 2], last);
    assert!(seqs[KEPT - 1] > last + 1, "above what was told and not kept");
}

#[test]
fn an_operation_that_the_agent_did_not_outlive_is_aborted_by_the_next_one() {
    let place = Place::new();
    let first = place.open();
    let ask = |id: u64, verb: &'static str| Change {
        instance: Some("web".into()),
        verb,
        uid: 0,
        user: None,
        pid: None,
        reason: None,
        outcome: Outcome::Accepted,
        operation: Some((1 << 32) | id),
        line: "web: ordered".into(),
    };
    first.change(ask(1, "ack"));
    tell(&first, WEB, 0, step((1 << 32) | 1, OperationStep::Done("so it is".into())));
    first.change(ask(2, "move"));
    first.change(ask(3, "reexec"));
    drop(first);
    for _run in 0..2 {
        let history: Vec<_> = place.open().history().iter().map(|e| e.document()).collect();
        let steps = history.iter().filter_map(|event| match &event.what {
            What::Operation { operation, step } => Some((operation.as_str(), *step)),
            _ => None,
        });
        assert_eq!(steps.collect::<Vec<_>>(), [("1-1", Step::Done), ("1-2", Step::Aborted)]);
        assert_eq!(history.last().unwrap().instance.as_deref(), Some("web"));
    }
}

#[test]
fn a_subscriber_that_is_behind_learns_how_much() {
    let place = Place::new();
    let chronicle = place.open();
    let (_, mut live) = chronicle.follow(0);
    for _ in 0..BEHIND + 7 {
        tell(&chronicle, WEB, 0, EventKind::Released);
    }
    let missed = broadcast::error::TryRecvError::Lagged(7);
    assert_eq!(live.try_recv().unwrap_err(), missed);
}

#[test]
fn what_is_about_another_instance_is_left_out_and_the_host_never() {
    let place = Place::new();
    let chronicle = place.open();
    tell(&chronicle, DNS, 0, transition(State::Active));
    chronicle.agent(false, "stopped".into());
    let history = chronicle.history();
    let of = |name| history.iter().filter(|entry| entry.concerns(name)).count();
    assert_eq!((of(None), of(Some("dns")), of(Some("web"))), (2, 2, 1));
}
