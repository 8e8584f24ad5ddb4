#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
use super::*;
use vipd_core::config::model::{
    Auth, ChecksumFlavour, Claim, FlapControl, OnConflict, Standby, Telemetry, Transport,
};
use vipd_core::config::model::{Host, Instance, Link};
use vipd_core::time::Instant;
use vipd_core::types::{Epoch, Interval, LinkIx, Priority, Version, Vip, Vrid};

fn model(addresses: &[&str]) -> Arc<Model> {
    let vip = |a: &&str| Vip { addr: a.parse().unwrap(), prefix_len: 32 };
    let web = Instance {
        name: "web".into(),
        key: 1,
        vrid: Vrid::new(51).unwrap(),
        link: LinkIx(0),
        version: Version::V3,
        addresses: addresses.iter().map(vip).collect(),
        unadvertised: vec![],
        priorities: vec![Some(Priority::MIN)],
        priority: Priority::MIN,
        interval: Interval::SECOND,
        preempt: true,
        preempt_delay: Duration::ZERO,
        hold_down: Duration::ZERO,
        accept: true,
        virtual_mac: false,
        claim: Claim::Address,
        transport: Transport::Multicast,
        source: [None, None],
        checksum: ChecksumFlavour::Rfc9568,
        auth: Auth::None,
        lease: true,
        stale_holder_wait: true,
        on_conflict: OnConflict::Alarm,
        shared_fate: false,
        prefix_route: false,
        targets: vec![],
        routes: vec![],
        rules: vec![],
        strict: false,
        standby: Standby::Hot,
        standbys: Vec::new(),
        checks: Vec::new(),
        flap: FlapControl::OFF,
    };
    Arc::new(Model {
        cluster: "shop".into(),
        host: HostIx(0),
        hosts: vec![Host { name: "lb1".into(), paths: vec![] }],
        heartbeat: None,
        links: vec![Link { name: "eth0".into(), settle: Duration::ZERO }],
        instances: vec![web],
        checks: Vec::new(),
        hooks: Vec::new(),
        replicates: Vec::new(),
        replicate_port: 7113,
        telemetry: Telemetry::default(),
        sync_groups: vec![],
        hash: 0,
    })
}

fn transition(from: State, to: State, cause: Cause, owner: Option<&str>) -> Event {
    let owner = owner.map(|o| o.parse().unwrap());
    let epoch = Epoch { number: 7, host: 1 };
    Event {
        at: Instant::ZERO,
        instance: Some(InstanceIx(0)),
        family: Some(Family::V4),
        kind: EventKind::Transition { from, to, cause, owner, priority: 100, epoch },
    }
}

#[test]
fn a_transition_is_one_line_with_its_cause_first() {
    let mut narrator = Narrator::new(model(&["192.0.2.10"]));
    let (_, line) = narrator.tell(&transition(
        State::Initialize,
        State::Backup,
        Cause::Startup,
        Some("192.0.2.11"),
    ));
    assert_eq!(
        line,
        "web: initialize -> backup, cause: the agent started, owner is 192.0.2.11, priority 100"
    );
    let silence = Cause::Silence(Duration::from_millis(3609));
    let (level, line) = narrator.tell(&transition(State::Backup, State::Active, silence, None));
    assert_eq!(level, Level::INFO);
    assert_eq!(
        line,
        "web: backup -> active, cause: no advert for 3.61 s, owner was 192.0.2.11, priority 100, epoch 7.1"
    );
    let (level, line) =
        narrator.tell(&transition(State::Active, State::Initialize, Cause::LinkDown, None));
    assert_eq!(level, Level::WARN);
    assert_eq!(
        line,
        "web: active -> initialize, cause: the interface is down, without carrier or gone, priority 100"
    );
}

#[test]
fn the_family_is_named_where_there_are_two() {
    let mut narrator = Narrator::new(model(&["192.0.2.10", "2001:db8::10"]));
    let (_, line) = narrator.tell(&transition(State::Backup, State::Active, Cause::Released, None));
    assert!(line.starts_with("web/ipv4: backup -> active"), "{line}");
}

#[test]
fn repeats_are_told_apart_by_what_matters() {
    let silence = |ms| Cause::Silence(Duration::from_millis(ms));
    let kind = |cause| Narrator::kind(&transition(State::Backup, State::Active, cause, None));
    assert_eq!(kind(silence(3609)), kind(silence(3700)), "figures do not matter");
    assert_ne!(kind(silence(3609)), kind(Cause::Released));
}

#[test]
fn an_event_of_an_unknown_instance_or_host_is_told_all_the_same() {
    let mut narrator = Narrator::new(model(&["192.0.2.10"]));
    let event = Event {
        at: Instant::ZERO,
        instance: Some(InstanceIx(9)),
        family: None,
        kind: EventKind::Alarm(Alarm::StaleHolder(HostIx(8)), true),
    };
    let (_, line) = narrator.tell(&event);
    assert!(line.starts_with("instance 9: alarm: the agent of host 8"), "{line}");
}
