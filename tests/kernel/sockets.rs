//! The sockets, across the wire `v0`-`v1`.

use crate::lab::*;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use vipd_agent::sys::{
    AlreadyRunning, Delivery, FrameSocket, HeartbeatSocket, NamespaceLock, Poller, Received,
    VrrpSocket,
};
use vipd_core::time::Duration;
use vipd_core::types::{Family, IfIndex, Mac, Vrid};
use vipd_core::wire::{arp, ndp};

const MULTICAST: Delivery = Delivery { multicast: true, unicast: false };
const UNICAST: Delivery = Delivery { multicast: false, unicast: true };

fn index(dev: &str) -> IfIndex {
    let all: Json = serde_json::from_str(&ip(&format!("-j link show dev {dev}"))).unwrap();
    IfIndex::new(u32::try_from(all[0]["ifindex"].as_u64().unwrap()).unwrap()).unwrap()
}

fn link_local(dev: &str) -> IpAddr {
    let all = addresses(dev);
    let a = all.iter().find(|a| a["scope"] == "link" && a["family"] == "inet6").unwrap();
    a["local"].as_str().unwrap().parse().unwrap()
}

fn vrrp(dev: &str, family: Family, delivery: Delivery) -> VrrpSocket {
    VrrpSocket::open(dev, index(dev), family, delivery).unwrap()
}

/// The next datagram within 200 ms.
fn next(s: &mut VrrpSocket, buf: &mut [u8]) -> Option<Received> {
    for _ in 0..200 {
        if let Some(r) = s.recv(buf).unwrap() {
            return Some(r);
        }
        sleep(1);
    }
    None
}

pub(crate) fn adverts_cross_a_wire() {
    // The two ends are one host here; without this the kernel takes its own address for a forgery.
    ip("addr flush dev v1");
    for setting in ["ipv4/conf/v1/accept_local", "ipv4/conf/v0/accept_local"] {
        set_sysctl(setting, "1");
    }
    set_sysctl("ipv4/conf/all/rp_filter", "0");
    set_sysctl("ipv4/conf/v1/rp_filter", "0");
    ip("link set v1 down");
    ip("link set v1 up");
    sleep(100);
    let mut buf = [0u8; 2048];
    for (family, src) in
        [(Family::V4, "192.0.2.1".parse().unwrap()), (Family::V6, link_local("v0"))]
    {
        let mut here = vrrp("v0", family, MULTICAST);
        let mut there = vrrp("v1", family, MULTICAST);
        sleep(50);
        assert_eq!(there.recv(&mut buf).unwrap(), None);
        let mac = Mac::virtual_router(family, Vrid::new(51).unwrap());
        for by_frame in [false, true] {
            let payload: &[u8] = if by_frame { b"from the virtual MAC" } else { b"an advert" };
            if by_frame {
                here.send_from_mac(mac, src, payload).unwrap();
            } else {
                here.send(src, family.group(), payload).unwrap();
            }
            let mut poller = Poller::new().unwrap();
            poller.add(there.as_fd(), 7).unwrap();
            assert_eq!(poller.wait().unwrap().collect::<Vec<_>>(), [7]);
            sleep(20);
            let r = next(&mut there, &mut buf).unwrap();
            assert_eq!((r.src, r.dst, r.ttl), (src, family.group(), 255));
            assert_eq!(&buf[r.payload], payload);
            assert!(r.age >= Duration::from_millis(15), "{:?}", r.age);
            assert!(r.age < Duration::from_secs(2), "{:?}", r.age);
            assert_eq!(here.recv(&mut buf).unwrap(), None, "own adverts do not come back");
        }
    }
    // A source that is not on this host is refused, not replaced.
    let here = vrrp("v0", Family::V4, MULTICAST);
    assert!(here.send("192.0.2.99".parse().unwrap(), Family::V4.group(), b"x").is_err());
}

pub(crate) fn owner_is_heard_by_a_holder() {
    // An owner at 255 advertises from the virtual address, which we hold: a martian to the kernel.
    let (mut w, _) = worker(model(vec![{
        let mut i = instance("web", 51, &["192.0.2.10"]);
        i.priorities = vec![Some(i.priority), Some(vipd_core::types::Priority::OWNER)];
        i
    }]));
    own(&mut w, hold(0, Some(5))).unwrap();
    let peer = Peer::new("192.0.2.10/24");
    let mut here = vrrp("v0", Family::V4, MULTICAST);
    peer.run(|| {
        let src = "192.0.2.10".parse().unwrap();
        vrrp("v1", Family::V4, MULTICAST).send(src, Family::V4.group(), b"owner").unwrap();
    });
    let mut buf = [0u8; 2048];
    let r = next(&mut here, &mut buf).unwrap();
    assert_eq!(&buf[r.payload], b"owner");
    own(&mut w, free(0)).unwrap();
    assert_eq!(sysctl("ipv4/conf/v0/accept_local"), "0");
}

pub(crate) fn unicast_stays_out_of_multicast_mode() {
    let mut buf = [0u8; 2048];
    let peer = Peer::new("192.0.2.2/24");
    let mut group_only = vrrp("v0", Family::V4, MULTICAST);
    let mut unicast_only = vrrp("v0", Family::V4, UNICAST);
    peer.run(|| {
        let peer = vrrp("v1", Family::V4, UNICAST);
        let src = "192.0.2.2".parse().unwrap();
        peer.send(src, "192.0.2.1".parse().unwrap(), b"unicast").unwrap();
        peer.send(src, Family::V4.group(), b"group").unwrap();
    });
    let r = next(&mut group_only, &mut buf).unwrap();
    assert_eq!(&buf[r.payload], b"group");
    assert_eq!(group_only.recv(&mut buf).unwrap(), None);
    let r = next(&mut unicast_only, &mut buf).unwrap();
    assert_eq!((&buf[r.payload.clone()], r.ttl), (&b"unicast"[..], 255));
    assert_eq!(unicast_only.recv(&mut buf).unwrap(), None);
}

pub(crate) fn announcements_are_seen() {
    let mac = Mac([2, 0, 0, 0, 0, 9]);
    let mut buf = [0u8; 2048];
    for family in Family::ALL {
        let here = FrameSocket::open(index("v0"), family).unwrap();
        let mut there = FrameSocket::open(index("v1"), family).unwrap();
        let frame = match family {
            Family::V4 => arp::gratuitous(mac, "192.0.2.10".parse().unwrap()).to_vec(),
            Family::V6 => ndp::unsolicited_na(mac, "2001:db8::10".parse().unwrap(), true).to_vec(),
        };
        here.send_frame(&frame).unwrap();
        sleep(20);
        let mut found = false;
        while let Some(f) = there.recv_frame(&mut buf).unwrap() {
            found |= f.starts_with(&frame);
        }
        assert!(found, "{family}");
    }
}

pub(crate) fn heartbeats_cross_a_wire() {
    let a: SocketAddr = "127.0.0.1:1985".parse().unwrap();
    let b: SocketAddr = "127.0.0.2:1985".parse().unwrap();
    let here = HeartbeatSocket::open(a).unwrap();
    let mut there = HeartbeatSocket::open(b).unwrap();
    let mut buf = [0u8; 2048];
    // The kernel starts stamping arrivals a moment after the first socket asked for it.
    sleep(50);
    assert_eq!(there.recv(&mut buf).unwrap(), None);
    here.send_to(b, b"alive").unwrap();
    sleep(20);
    let d = there.recv(&mut buf).unwrap().unwrap();
    assert_eq!((d.src, &buf[..d.len]), (a, &b"alive"[..]));
    assert!(d.age >= Duration::from_millis(15) && d.age < Duration::from_secs(2), "{:?}", d.age);
    // An address that is not there yet is no obstacle to start.
    let early = HeartbeatSocket::open("192.0.2.200:1985".parse().unwrap()).unwrap();
    assert!(early.send_to(b, b"x").is_err() || there.recv(&mut buf).unwrap().is_some());
    assert!(HeartbeatSocket::open("[2001:db8::99]:1985".parse().unwrap()).is_ok());
}

pub(crate) fn one_agent_per_namespace() {
    let lock = NamespaceLock::acquire().unwrap();
    assert_eq!(NamespaceLock::acquire().unwrap_err(), AlreadyRunning::Taken);
    drop(lock);
    NamespaceLock::acquire().unwrap();
}
