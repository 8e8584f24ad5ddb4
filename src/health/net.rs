//! `link`, `address` and `route`: what the kernel of this host says, at once when it changes.
//!
//! One socket for the events of all these checks ([`Events`]), and per run one request, aside: the kernel works inside
//! the system call, and a dump of a full table takes its time.

use super::aside::Aside;
use super::netlink::{ask, dump};
use super::outcome::{Outcome, words};
use super::task::Measure;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType,
};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Notify;
use vipd_core::engine::io::Verdict;
use vipd_core::types::Mac;

/// Where the kernel tells of speed and bonds.
const CLASS: &str = "/sys/class/net";
/// Table `main`.
const MAIN: u32 = 254;

/// An interface as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) index: u32,
    pub(super) up: bool,
    pub(super) carrier: bool,
    pub(super) mac: Option<Mac>,
}

/// The interface called `name`. Blocks for as long as the kernel takes.
///
/// # Errors
/// `ENODEV`: there is none.
pub(super) fn interface(name: &str) -> io::Result<Interface> {
    let mut m = LinkMessage::default();
    m.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    let mut found = None;
    ask(RouteNetlinkMessage::GetLink(m), |m| {
        if let RouteNetlinkMessage::NewLink(m) = m {
            found = Some(m);
        }
    })?;
    let m = found.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
    let mac = m.attributes.iter().find_map(|a| match a {
        LinkAttribute::Address(mac) => <[u8; 6]>::try_from(mac.as_slice()).ok().map(Mac),
        _ => None,
    });
    let up = m.header.flags.contains(LinkFlags::Up);
    let carrier = m.header.flags.contains(LinkFlags::LowerUp);
    Ok(Interface { index: m.header.index, up, carrier, mac })
}

/// Why nothing can pass this interface; `None`: it can.
pub(super) fn fault(name: &str, found: &io::Result<Interface>) -> Option<Outcome> {
    match found {
        Ok(i) if !i.up => Some(Outcome::fail(format!("link {name}: down"))),
        Ok(i) if !i.carrier => Some(Outcome::fail(format!("link {name}: no carrier"))),
        Ok(_) => None,
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => {
            Some(Outcome::fail(format!("link {name}: no such interface")))
        }
        Err(e) => Some(Outcome::unknown(format!("link {name}: {}", words(e)))),
    }
}

/// `link = "eth1"`.
#[derive(Debug)]
pub(super) struct Link {
    name: Arc<str>,
    limits: Limits,
    aside: Aside,
    wake: Arc<Notify>,
}

/// What a link must have beside a carrier.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Limits {
    pub(super) speed: Option<u32>,
    pub(super) slaves: Option<u32>,
}

impl Link {
    pub(super) fn new(name: Arc<str>, limits: Limits, wake: Arc<Notify>) -> Self {
        Self { name, limits, aside: Aside::new(Verdict::Unknown), wake }
    }
}

impl Measure for Link {
    const LATE: Verdict = Verdict::Unknown;

    async fn run(&mut self) -> Outcome {
        let (name, limits) = (Arc::clone(&self.name), self.limits);
        let measured = self.aside.run(move || {
            fault(&name, &interface(&name)).unwrap_or_else(|| {
                let class = PathBuf::from(CLASS);
                judge(&name, limits, speed(&class, &name), || active_slaves(&class, &name))
            })
        });
        let name = &self.name;
        measured.await.unwrap_or_else(|instead| instead.about(format_args!("link {name}")))
    }

    async fn changed(&mut self) {
        self.wake.notified().await;
    }
}

fn judge(
    name: &str,
    limits: Limits,
    speed: Option<u32>,
    slaves: impl FnOnce() -> io::Result<Option<u32>>,
) -> Outcome {
    let mut said = vec![format!("link {name}: up")];
    if let Some(least) = limits.speed {
        match speed {
            Some(mbit) if mbit < least => {
                return Outcome::fail(format!("link {name}: {mbit} Mbit/s < {least} Mbit/s"));
            }
            Some(mbit) => said.push(format!("{mbit} Mbit/s >= {least} Mbit/s")),
            None => {
                return Outcome::unknown(format!(
                    "link {name}: its driver does not tell its speed"
                ));
            }
        }
    }
    if let Some(least) = limits.slaves {
        match slaves() {
            Ok(Some(n)) if n < least => {
                return Outcome::fail(format!("link {name}: {n} active slaves < {least}"));
            }
            Ok(Some(n)) => said.push(format!("{n} active slaves >= {least}")),
            Ok(None) => return Outcome::fail(format!("link {name}: not a bond")),
            Err(e) => return Outcome::unknown(format!("link {name}: slaves: {}", words(&e))),
        }
    }
    Outcome::pass(said.join(", "))
}

/// Mbit/s; `None`: not known (virtual devices, no carrier).
fn speed(class: &Path, name: &str) -> Option<u32> {
    let text = fs::read_to_string(class.join(name).join("speed")).ok()?;
    text.trim().parse().ok().filter(|mbit| (1..u32::MAX).contains(mbit))
}

/// Slaves of a bond that carry, or would carry at once, its traffic; `None`: no bond. In an active-backup bond one
/// is "active" and the others are its reserve: those with a link count. Elsewhere one that is no part of the
/// aggregate does not carry, link or not.
fn active_slaves(class: &Path, name: &str) -> io::Result<Option<u32>> {
    let bond = class.join(name).join("bonding");
    let slaves = match fs::read_to_string(bond.join("slaves")) {
        Ok(slaves) => slaves,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let reserve = fs::read_to_string(bond.join("mode"))?.starts_with("active-backup");
    let mut active = 0;
    for slave in slaves.split_ascii_whitespace() {
        let says =
            |what: &str| fs::read_to_string(class.join(slave).join("bonding_slave").join(what));
        // A slave that left meanwhile is none.
        let has_link = says("mii_status").is_ok_and(|s| s.trim() == "up");
        let carries = reserve || says("state").is_ok_and(|s| s.trim() == "active");
        active += u32::from(has_link && carries);
    }
    Ok(Some(active))
}

/// `address = "192.0.2.11"`.
#[derive(Debug)]
pub(super) struct Address {
    addr: IpAddr,
    aside: Aside,
    wake: Arc<Notify>,
}

impl Address {
    pub(super) fn new(addr: IpAddr, wake: Arc<Notify>) -> Self {
        Self { addr, aside: Aside::new(Verdict::Unknown), wake }
    }
}

impl Measure for Address {
    const LATE: Verdict = Verdict::Unknown;

    async fn run(&mut self) -> Outcome {
        let addr = self.addr;
        match self.aside.run(move || delivers(addr)).await {
            Ok(Ok(true)) => Outcome::pass(format!("address {addr}: on this host")),
            Ok(Ok(false)) => Outcome::fail(format!("address {addr}: not on this host")),
            Ok(Err(e)) => Outcome::unknown(format!("address {addr}: {}", words(&e))),
            Err(instead) => instead.about(format_args!("address {addr}")),
        }
    }

    async fn changed(&mut self) {
        self.wake.notified().await;
    }
}

/// Does the kernel deliver packets for `addr` here? Asked of the routing, which is right where a `bind` would not be
/// (`ip_nonlocal_bind`), knows that a tentative address is not usable yet, and costs the same for one address and
/// for thousands. An IPv4 address remains when its interface goes down, reachable by the others; an IPv6 one does not.
fn delivers(addr: IpAddr) -> io::Result<bool> {
    let mut m = RouteMessage::default();
    m.header.address_family = family(addr);
    m.header.destination_prefix_length = if addr.is_ipv4() { 32 } else { 128 };
    m.attributes = vec![RouteAttribute::Destination(addr.into())];
    let mut local = false;
    let asked = ask(RouteNetlinkMessage::GetRoute(m), |m| {
        if let RouteNetlinkMessage::NewRoute(r) = m {
            local = r.header.kind == RouteType::Local;
        }
    });
    match asked.map_err(|e| (e.raw_os_error(), e)) {
        Ok(()) => Ok(local),
        // No way there, so it is not here.
        Err((Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL), _)) => {
            Ok(false)
        }
        Err((_, e)) => Err(e),
    }
}

fn family(addr: IpAddr) -> AddressFamily {
    if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// `route = "10.0.0.0/8"`.
#[derive(Debug)]
pub(super) struct Route {
    to: IpNet,
    aside: Aside,
    wake: Arc<Notify>,
}

impl Route {
    pub(super) fn new(to: IpNet, wake: Arc<Notify>) -> Self {
        Self { to, aside: Aside::new(Verdict::Unknown), wake }
    }
}

impl Measure for Route {
    const LATE: Verdict = Verdict::Unknown;

    async fn run(&mut self) -> Outcome {
        let to = self.to;
        match self.aside.run(move || has_route(to)).await {
            Ok(Ok(true)) => Outcome::pass(format!("route {to}: in the main table")),
            Ok(Ok(false)) => Outcome::fail(format!("route {to}: not in the main table")),
            Ok(Err(e)) => Outcome::unknown(format!("route {to}: {}", words(&e))),
            Err(instead) => instead.about(format_args!("route {to}")),
        }
    }

    async fn changed(&mut self) {
        self.wake.notified().await;
    }
}

/// Is there a usable route to exactly this prefix? The dump of the table ends with the first one found.
fn has_route(to: IpNet) -> io::Result<bool> {
    let mut m = RouteMessage::default();
    m.header.address_family = family(to.addr());
    m.header.table = RouteHeader::RT_TABLE_MAIN;
    let mut found = false;
    dump(RouteNetlinkMessage::GetRoute(m), |m| match m {
        RouteNetlinkMessage::NewRoute(r) if is_route_to(&r, to) && leads_somewhere(&r) => {
            found = true;
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    })?;
    Ok(found)
}

/// Of the main table, to exactly this prefix.
pub(super) fn is_route_to(r: &RouteMessage, to: IpNet) -> bool {
    if r.header.address_family != family(to.addr())
        || r.header.destination_prefix_length != to.prefix_len()
    {
        return false;
    }
    let mut table = u32::from(r.header.table);
    let mut destination = None;
    for a in &r.attributes {
        match a {
            RouteAttribute::Table(t) => table = *t,
            RouteAttribute::Destination(RouteAddress::Inet(a)) => {
                destination = Some(IpAddr::V4(*a));
            }
            RouteAttribute::Destination(RouteAddress::Inet6(a)) => {
                destination = Some(IpAddr::V6(*a));
            }
            _ => {}
        }
    }
    // A default route comes without destination.
    table == MAIN && destination.map_or_else(|| to.prefix_len() == 0, |d| d == to.network())
}

/// Not `unreachable`, `prohibit`, `blackhole`, nor dead for want of a carrier.
fn leads_somewhere(r: &RouteMessage) -> bool {
    use netlink_packet_route::route::RouteFlags;
    matches!(r.header.kind, RouteType::Unicast | RouteType::Local)
        && !r.header.flags.intersects(RouteFlags::Dead | RouteFlags::Linkdown)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const WANTED: Limits = Limits { speed: Some(1000), slaves: Some(2) };

    #[test]
    fn speed_and_slaves_are_compared() {
        let say = |speed, slaves| judge("bond0", WANTED, speed, || Ok(slaves));
        let good = "link bond0: up, 10000 Mbit/s >= 1000 Mbit/s, 2 active slaves >= 2";
        assert_eq!(say(Some(10_000), Some(2)), Outcome::pass(good));
        assert_eq!(say(Some(100), Some(2)), Outcome::fail("link bond0: 100 Mbit/s < 1000 Mbit/s"));
        assert_eq!(say(Some(1000), Some(1)), Outcome::fail("link bond0: 1 active slaves < 2"));
        assert_eq!(say(Some(1000), None), Outcome::fail("link bond0: not a bond"));
        assert_eq!(say(None, Some(2)).verdict, Verdict::Unknown);
    }

    #[test]
    fn slaves_of_a_bond() {
        let scratch = tempfile::tempdir().unwrap();
        let put = |file: &str, text: &str| {
            let path = scratch.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("bond0/bonding/slaves", "a b c gone\n");
        put("bond0/bonding/mode", "802.3ad 4\n");
        for (name, state, mii) in
            [("a", "active", "up"), ("b", "backup", "up"), ("c", "active", "down")]
        {
            put(&format!("{name}/bonding_slave/state"), state);
            put(&format!("{name}/bonding_slave/mii_status"), mii);
        }
        assert_eq!(active_slaves(scratch.path(), "bond0").unwrap(), Some(1));
        put("bond0/bonding/mode", "active-backup 1\n");
        assert_eq!(active_slaves(scratch.path(), "bond0").unwrap(), Some(2));
        assert_eq!(active_slaves(scratch.path(), "a").unwrap(), None);
        for (text, known) in
            [("1000\n", Some(1000)), ("-1\n", None), ("4294967295", None), ("", None)]
        {
            put("a/speed", text);
            assert_eq!(speed(scratch.path(), "a"), known, "{text}");
        }
    }

    #[test]
    fn the_loopback_is_there() {
        let lo = interface("lo").unwrap();
        assert_eq!(lo.index, 1);
        let gone = interface("nowhere0");
        assert_eq!(gone.as_ref().unwrap_err().raw_os_error(), Some(libc::ENODEV));
        let outcome = fault("nowhere0", &gone).unwrap();
        assert_eq!(outcome, Outcome::fail("link nowhere0: no such interface"));
    }
}
