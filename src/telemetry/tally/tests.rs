#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
use super::*;
use vipd_core::config::load_all_hosts;
use vipd_core::types::{Epoch, Verdict};

fn model() -> Model {
    let text = "[hosts.a]\n[hosts.b]\n[instance.web]\nvrid = 51\ninterface = \"eth0\"\n\
                addresses = [\"192.0.2.10/24\"]\npriority = { a = 150, b = 100 }\nchecks = [\"app\"]\n\
                [check.app]\ntcp = \"127.0.0.1:80\"\n";
    load_all_hosts(text, "vipd.toml").unwrap().0.remove(0)
}

fn at(ms: u64, kind: EventKind) -> Event {
    let (instance, family) = (Some(InstanceIx(0)), Some(Family::V4));
    Event { at: Instant::from_millis(ms), instance, family, kind }
}

fn to(to: State, cause: Cause) -> EventKind {
    let from = if to == State::Backup { State::Active } else { State::Backup };
    let epoch = Epoch { number: 1, host: 0 };
    EventKind::Transition { from, to, cause, owner: None, priority: 100, epoch }
}

fn claimed(ms: u64) -> EventKind {
    EventKind::Claimed { took: Duration::from_millis(ms), addresses: 1 }
}

#[test]
fn an_outage_is_silence_and_the_claim_after_it() {
    let mut tally = Tally::new(&model());
    let silence = Cause::Silence(Duration::from_millis(3600));
    tally.observe(&at(0, to(State::Active, silence.clone())));
    tally.observe(&at(1, claimed(20)));
    // A repair is confirmed as well.
    tally.observe(&at(2, claimed(20)));
    // Handed over: nobody went without.
    tally.observe(&at(3, to(State::Active, Cause::Released)));
    tally.observe(&at(4, claimed(20)));
    // Lost before the kernel confirmed.
    tally.observe(&at(5, to(State::Active, silence)));
    tally.observe(&at(6, to(State::Backup, Cause::Outranked(200))));
    tally.observe(&at(7, claimed(20)));
    let web = &tally.instances[0];
    assert_eq!((web.outages.count(), web.outages.sum()), (1, Duration::from_millis(3620)));
    assert_eq!(web.transitions[&(Family::V4, State::Active, "silence")], 2);
    assert_eq!(web.transitions[&(Family::V4, State::Active, "released")], 1);
    assert_eq!(web.transitions[&(Family::V4, State::Backup, "outranked")], 1);
}

#[test]
fn two_owners_are_timed_from_the_first_to_the_last_alarm() {
    let mut tally = Tally::new(&model());
    let alarm = |n: u8, on| EventKind::Alarm(Alarm::DualActive([192, 0, 2, n].into()), on);
    tally.observe(&at(1000, alarm(1, true)));
    tally.observe(&at(2000, alarm(2, true)));
    tally.observe(&at(3000, alarm(1, false)));
    assert_eq!(tally.instances[0].dual(Instant::from_millis(3500)), Duration::from_millis(2500));
    tally.observe(&at(4000, alarm(2, false)));
    tally.observe(&at(9000, alarm(1, true)));
    assert_eq!(tally.instances[0].dual(Instant::from_millis(9500)), Duration::from_millis(3500));
}

#[test]
fn runs_of_checks_and_what_is_unknown() {
    let mut tally = Tally::new(&model());
    let reading =
        |s| Reading { verdict: Verdict::Pass, detail: "".into(), took: Duration::from_secs(s) };
    tally.check(CheckIx(0), &reading(1));
    tally.check(CheckIx(0), &reading(3));
    tally.check(CheckIx(9), &reading(3));
    let app = tally.checks[0];
    assert_eq!((app.runs, app.late, app.last), (2, 1, Duration::from_secs(3)));
    tally.observe(&Event { instance: Some(InstanceIx(9)), ..at(0, EventKind::Released) });
    let src = [192, 0, 2, 1].into();
    let refused = EventKind::Refused { src, reason: "heartbeat-bad-tag", suppressed: 4 };
    tally.observe(&Event { instance: None, ..at(0, refused) });
    assert_eq!(tally.heartbeats_refused["heartbeat-bad-tag"], 5);
}
