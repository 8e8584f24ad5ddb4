//! Taking off what bears our tag, whoever left it: `vipd cleanup`, a stop, a start after crashes.
//!
//! Knows no configuration: the tag decides. Goes on after errors and reports them.

use super::address::{Seen, dump_request};
use super::claims::Claims;
use super::host::{Host, placement};
use super::netlink::{Netlink, Refusal};
use super::{device, filter, link, route};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use vipd_core::config::model::{Model, Telemetry};
use vipd_core::types::{Family, HostIx};

/// What was taken off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Addresses.
    pub addresses: usize,
    /// Devices of virtual MACs.
    pub devices: usize,
    /// Routes.
    pub routes: usize,
    /// Policy rules.
    pub rules: usize,
    /// Kernel settings put back.
    pub settings: usize,
    /// The packet filter of `accept = false` was there.
    pub filter: bool,
    /// What could not be taken off, with the kernel's words.
    pub errors: Vec<String>,
}

impl Cleaned {
    /// Was there nothing?
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Cleans up without an agent: `runtime_dir` holds what the last one saved.
///
/// # Errors
/// When netlink cannot be opened. Single failures are in [`Cleaned::errors`].
pub fn cleanup(runtime_dir: &Path) -> io::Result<Cleaned> {
    let empty = Model {
        cluster: "".into(),
        host: HostIx(0),
        hosts: Vec::new(),
        heartbeat: None,
        links: Vec::new(),
        instances: Vec::new(),
        sync_groups: Vec::new(),
        checks: Vec::new(),
        hooks: Vec::new(),
        replicates: Vec::new(),
        replicate_port: 7113,
        telemetry: Telemetry::default(),
        hash: 0,
    };
    let claims = Arc::new(Claims::open(runtime_dir));
    Ok(clean(&mut Host::open(Arc::new(empty), runtime_dir, claims)?, runtime_dir))
}

/// Cleans up for an agent that runs.
pub(super) fn clean(host: &mut Host, runtime_dir: &Path) -> Cleaned {
    let mut done = Cleaned::default();
    rules(&mut host.net, &mut done);
    routes(&mut host.net, &mut done);
    let devices = our_devices(&mut host.net, &mut done);
    addresses(host, &devices, &mut done);
    delete(&mut host.net, devices, &mut done);
    done.settings = host.sysctls.restore_all();
    done.filter = filter::remove();
    host.held.clear();
    // The record speaks of addresses that are gone.
    let _no_record = fs::remove_file(Claims::file(runtime_dir));
    done
}

fn rules(net: &mut Netlink, done: &mut Cleaned) {
    for family in Family::ALL {
        for message in listed(net.dump(&route::rule_dump_request(family)), "list rules", done) {
            if let RouteNetlinkMessage::NewRule(m) = message
                && route::rule_is_ours(&m)
            {
                let answer = net.request(RouteNetlinkMessage::DelRule(m), 0);
                done.rules += usize::from(noted(answer, "remove a rule", done));
            }
        }
    }
}

fn routes(net: &mut Netlink, done: &mut Cleaned) {
    for family in Family::ALL {
        for message in listed(net.dump(&route::dump_request(family)), "list routes", done) {
            if let RouteNetlinkMessage::NewRoute(m) = message
                && route::is_ours(&m)
            {
                let answer = net.request(RouteNetlinkMessage::DelRoute(route::named(m)), 0);
                done.routes += usize::from(noted(answer, "remove a route", done));
            }
        }
    }
}

/// `devices` fall silent before an address goes: somebody else may serve it by now.
fn addresses(host: &mut Host, devices: &[(u32, String)], done: &mut Cleaned) {
    let found = listed(host.net.dump(&dump_request(0)), "list addresses", done);
    let ours: Vec<_> = found
        .iter()
        .filter_map(|m| match m {
            RouteNetlinkMessage::NewAddress(a) => Seen::parse(a),
            _ => None,
        })
        .filter(|s| host.claims.ours(s))
        .map(|s| placement(&s))
        .collect();
    for (_, name) in devices {
        device::silence(name);
    }
    for (answer, p) in host.take_off(&ours) {
        let went_with_its_device = devices.iter().any(|(index, _)| *index == p.index)
            && answer.as_ref().is_err_and(|e| e.errno == Errno::EADDRNOTAVAIL);
        let taken = noted(answer, &format!("remove {}", p.addr), done);
        done.addresses += usize::from(taken || went_with_its_device);
    }
}

/// Index and name.
fn our_devices(net: &mut Netlink, done: &mut Cleaned) -> Vec<(u32, String)> {
    let links = link::all(net).unwrap_or_else(|e| {
        done.errors.push(format!("list interfaces: {e}"));
        Vec::new()
    });
    let ours = links.into_iter().filter(|(_, name, mac)| link::is_ours(name, mac));
    ours.map(|(index, name, _)| (index, name)).collect()
}

fn delete(net: &mut Netlink, devices: Vec<(u32, String)>, done: &mut Cleaned) {
    for (index, name) in devices {
        let answer = link::delete(net, index);
        done.devices += usize::from(noted(answer, &format!("remove {name}"), done));
    }
}

fn listed(
    dump: Result<Vec<RouteNetlinkMessage>, Refusal>,
    what: &str,
    done: &mut Cleaned,
) -> Vec<RouteNetlinkMessage> {
    dump.unwrap_or_else(|e| {
        // A host without IPv6 has none of its routes and rules.
        if !matches!(e.errno, Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP) {
            done.errors.push(format!("{what}: {e}"));
        }
        Vec::new()
    })
}

/// True when it was taken off by us now.
fn noted(answer: Result<(), Refusal>, what: &str, done: &mut Cleaned) -> bool {
    match answer {
        Ok(()) => true,
        Err(e) if matches!(e.errno, Errno::EADDRNOTAVAIL | Errno::ENODEV | Errno::ESRCH) => false,
        Err(e) => {
            done.errors.push(format!("{what}: {e}"));
            false
        }
    }
}
