#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;
use crate::kernel::address::Placement;
use vipd_core::time::Duration;

fn table() -> Table {
    let link = Link { name: "eth0".into(), settle: Duration::from_secs(35) };
    Table::new(&[link], Arc::new(Claims::open(std::path::Path::new("/nonexistent"))))
}

fn link(index: u32, name: &str, up: bool, received: u64) -> LinkMessage {
    let mut m = LinkMessage::default();
    m.header.index = index;
    m.header.flags = if up { LinkFlags::Up | LinkFlags::LowerUp } else { LinkFlags::empty() };
    let mut stats = netlink_packet_route::link::Stats64::default();
    stats.rx_packets = received;
    m.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
        LinkAttribute::Mtu(1500),
        LinkAttribute::Stats64(stats),
    ];
    m
}

fn apply(t: &mut Table, m: RouteNetlinkMessage) -> Vec<MonitorEvent> {
    let mut out = VecDeque::new();
    t.apply(m, 0, &mut out);
    out.into()
}

fn running(events: &[MonitorEvent]) -> Option<bool> {
    events.iter().rev().find_map(|e| match e {
        MonitorEvent::Link { state, .. } => Some(state.running),
        _ => None,
    })
}

#[test]
fn a_link_is_reported_when_it_changes_and_not_otherwise() {
    let mut t = table();
    let up = || RouteNetlinkMessage::NewLink(link(3, "eth0", true, 7));
    assert_eq!(running(&apply(&mut t, up())), Some(true));
    assert_eq!(apply(&mut t, up()), []);
    let down = RouteNetlinkMessage::NewLink(link(3, "eth0", false, 7));
    assert_eq!(running(&apply(&mut t, down)), Some(false));
    let gone = apply(&mut t, RouteNetlinkMessage::DelLink(link(3, "eth0", false, 7)));
    let state = LinkState::default();
    assert_eq!(gone, [MonitorEvent::Link { link: LinkIx(0), state }]);
}

#[test]
fn a_bridge_port_that_leaves_is_not_a_link_that_ends() {
    let mut t = table();
    apply(&mut t, RouteNetlinkMessage::NewLink(link(3, "eth0", true, 7)));
    let mut leaves = link(3, "eth0", true, 7);
    leaves.header.interface_family = 7u8.into();
    assert_eq!(apply(&mut t, RouteNetlinkMessage::DelLink(leaves)), []);
}

#[test]
fn frames_count_from_carrier_up_until_the_wait_is_over() {
    let mut t = table();
    apply(&mut t, RouteNetlinkMessage::NewLink(link(3, "eth0", true, 7)));
    assert_eq!(t.settling(0), [3]);
    assert_eq!(t.settling(3500), [] as [u32; 0], "35 s are the longest wait");
    let mut out = VecDeque::new();
    let counted = |n| vec![RouteNetlinkMessage::NewLink(link(3, "eth0", true, n))];
    t.hear(counted(7), 10, &mut out);
    assert!(out.is_empty());
    t.hear(counted(8), 20, &mut out);
    assert_eq!(out, [MonitorEvent::FrameSeen(LinkIx(0))]);
    assert_eq!(t.settling(20), [] as [u32; 0]);
}

#[test]
fn our_own_adds_and_renewals_are_silent_but_their_end_is_not() {
    let mut t = table();
    apply(&mut t, RouteNetlinkMessage::NewLink(link(3, "eth0", true, 7)));
    let addr: IpAddr = "192.0.2.10".parse().unwrap();
    let p = Placement { index: 3, addr, prefix_len: 32, prefix_route: false };
    assert_eq!(apply(&mut t, p.add(Some(2)).0), []);
    assert_eq!(apply(&mut t, p.renew(Some(2)).0), []);
    let removed = MonitorEvent::AddressRemoved { link: LinkIx(0), addr };
    assert_eq!(apply(&mut t, p.delete().0), [removed]);
}
