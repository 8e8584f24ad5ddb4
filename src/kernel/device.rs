//! What has to be in place before an address goes on: devices of the virtual MAC, kernel settings.
//!
//! Called by a claim when it begins. The settings and their reasons: protocol.md 4.3.

use super::host::{Host, refused};
use super::link;
use super::sysctl::{Sysctls, interfaces};
use vipd_core::config::model::{Claim, Instance};
use vipd_core::engine::io::KernelFault;
use vipd_core::types::{Family, InstanceIx, Mac};

/// Prepares the interface `name` for the routers of `families`; where the addresses of each family go.
pub(super) fn prepare(
    host: &mut Host,
    instance: InstanceIx,
    name: &str,
    parent: u32,
    families: [bool; 2],
) -> Result<[u32; 2], KernelFault> {
    let shared = host.model.clone();
    let config = shared.instance(instance);
    let [v4, v6] = families;
    if v4 {
        prepare_v4(host, instance, config, name)?;
    }
    let mut targets = [parent; 2];
    if v4 && config.claim == Claim::Route {
        targets[0] = anchor(host, config, parent)?;
        return Ok(targets);
    }
    if !config.virtual_mac {
        return Ok(targets);
    }
    for (slot, family) in targets.iter_mut().zip(Family::ALL) {
        let wanted = match family {
            Family::V4 => v4,
            Family::V6 => v6,
        };
        if wanted {
            *slot = virtual_mac(host, instance, config, name, parent, family)?;
        } else {
            // A router that is not active has no device (its addresses go first, by the plan).
            host.discard(instance, &link::macvlan_name(family, config.vrid, parent));
        }
    }
    Ok(targets)
}

fn prepare_v4(
    host: &mut Host,
    instance: InstanceIx,
    config: &Instance,
    name: &str,
) -> Result<(), KernelFault> {
    if config.claim == Claim::Route {
        for scope in ["all", name] {
            let key = format!("ipv4/conf/{scope}/arp_ignore");
            if Sysctls::value(&key).is_ok_and(|v| v != "0") {
                return Err(KernelFault::Refused {
                    what: "claim by route".to_owned(),
                    error: format!(
                        "net/{key} is not 0, so the kernel would not answer ARP for it: \
                         set it to 0, or use claim = \"address\""
                    ),
                });
            }
        }
    }
    // An owner at 255 advertises from the virtual address itself. The kernel drops packets whose
    // source is an address of its own: without this two owners would never hear each other.
    let owner_elsewhere = config.priorities.iter().flatten().any(|p| p.is_owner());
    let foreign_peers = config.priorities.iter().flatten().count() < 2;
    if !config.priority.is_owner() && (owner_elsewhere || foreign_peers) {
        // Where settings cannot be written (ProtectKernelTunables), a claim is worth more than this.
        let _as_it_is = set(host, instance, &format!("ipv4/conf/{name}/accept_local"), "1");
    }
    if config.prefix_route {
        // Otherwise removing the first address of a subnet removes the others.
        set(host, instance, &format!("ipv4/conf/{name}/promote_secondaries"), "1")?;
    }
    Ok(())
}

/// Makes the device that holds the anchor of `claim = "route"`. The kernel drops local routes not
/// with their source address but with the last address of their interface, so the anchor is alone on one:
/// when its lease ends, all its routes end in the same moment. The device is silent; the service
/// interface answers ARP for the routes.
fn anchor(host: &mut Host, config: &Instance, parent: u32) -> Result<u32, KernelFault> {
    let name = link::anchor_name(config.vrid, parent);
    let what = "make the device of the anchor";
    let mac = link::anchor_mac(config.vrid);
    let device =
        link::create_macvlan(&mut host.net, &name, parent, mac).map_err(|e| refused(what, &e))?;
    host.keep(device);
    // A host without IPv6 lacks the setting.
    let _without_ipv6 = of_device(&format!("ipv6/conf/{name}/disable_ipv6"), "1");
    link::set_up_without_arp(&mut host.net, device).map_err(|e| refused(what, &e))?;
    Ok(device)
}

/// Longest interval, in milliseconds (24 days), of the kernel's repeated reports of its IPv6 multicast groups. A report
/// leaves from the virtual MAC and moves the switches' tables. The kernel sends the first about 10 ms after a group is
/// joined or left, and repeats it at a random moment within this interval (1 s by default), by when another host may
/// serve: the old owner in the overlap of a move, and the kernel of a dead agent after its lease has ended. The first
/// is enough: it comes when this host serves, or before a successor may claim.
const NEVER: &str = "2147483647";

/// Makes the device of one family and brings it up.
fn virtual_mac(
    host: &mut Host,
    instance: InstanceIx,
    config: &Instance,
    parent_name: &str,
    parent: u32,
    family: Family,
) -> Result<u32, KernelFault> {
    let name = link::macvlan_name(family, config.vrid, parent);
    let mac = Mac::virtual_router(family, config.vrid);
    let what = "make the device of the virtual MAC";
    let device =
        link::create_macvlan(&mut host.net, &name, parent, mac).map_err(|e| refused(what, &e))?;
    host.keep(device);
    // Settings of the device itself vanish with it: nothing to restore.
    match family {
        Family::V4 => {
            for (scope, setting, value) in
                [(parent_name, "arp_ignore", "1"), (parent_name, "arp_announce", "2")]
            {
                set(host, instance, &format!("ipv4/conf/{scope}/{setting}"), value)?;
            }
            relax_reverse_path(host, instance)?;
            for (setting, value) in [
                ("arp_ignore", "1"),
                ("arp_announce", "2"),
                ("rp_filter", "0"),
                ("accept_local", "1"),
                ("arp_notify", "0"),
                ("send_redirects", "0"),
            ] {
                of_device(&format!("ipv4/conf/{name}/{setting}"), value)?;
            }
            // The IPv4 device speaks no IPv6. A host without IPv6 lacks the setting.
            let _without_ipv6 = of_device(&format!("ipv6/conf/{name}/disable_ipv6"), "1");
            inherit("ipv4", parent_name, &name);
        }
        Family::V6 => {
            // Any device of a host answers ARP for any of its addresses, with its own MAC: this never.
            of_device(&format!("ipv4/conf/{name}/arp_ignore"), "8")?;
            for (setting, value) in [
                ("accept_ra", "0"),
                ("autoconf", "0"),
                ("ndisc_notify", "0"),
                ("mldv1_unsolicited_report_interval", NEVER),
                ("mldv2_unsolicited_report_interval", NEVER),
                // A released device that is used again was silenced.
                ("disable_ipv6", "0"),
            ] {
                of_device(&format!("ipv6/conf/{name}/{setting}"), value)?;
            }
            inherit("ipv6", parent_name, &name);
        }
    }
    link::set_up(&mut host.net, device).map_err(|e| refused(what, &e))?;
    Ok(device)
}

/// Ends IPv6 on the device `name` of a router that serves no more: its addresses and groups go in one moment, and the
/// kernel forgets the reports of the groups left, which would move the switches' tables back to this host. Another MAC
/// would do as well, but the kernel takes 10 to 20 ms to change it, in which both hosts own.
pub(super) fn silence(name: &str) {
    // What cannot be silenced is deleted soon; the addresses are removed one by one all the same.
    let _until_deleted = of_device(&format!("ipv6/conf/{name}/disable_ipv6"), "1");
}

/// The filter of a device is the stricter of its own and that of "all". So "all" has to be 0, and
/// every other interface takes over what "all" said.
fn relax_reverse_path(host: &mut Host, instance: InstanceIx) -> Result<(), KernelFault> {
    const ALL: &str = "ipv4/conf/all/rp_filter";
    let general = Sysctls::value(ALL).unwrap_or_else(|_| "0".to_owned());
    if general == "0" {
        return Ok(());
    }
    for name in interfaces().into_iter().filter(|n| !n.starts_with("vipd4.")) {
        let key = format!("ipv4/conf/{name}/rp_filter");
        // 2 (loose) is the greater number and wins, as the kernel has it.
        if Sysctls::value(&key).is_ok_and(|own| own < general) {
            set(host, instance, &key, &general)?;
        }
    }
    set(host, instance, "ipv4/conf/default/rp_filter", &general)?;
    set(host, instance, ALL, "0")
}

/// Forwarding as on the service interface: the duty of an active router, and the R flag of its NAs.
fn inherit(family: &str, parent: &str, device: &str) {
    if let Ok(value) = Sysctls::value(&format!("{family}/conf/{parent}/forwarding")) {
        let _as_by_default = of_device(&format!("{family}/conf/{device}/forwarding"), &value);
    }
}

fn set(host: &mut Host, instance: InstanceIx, key: &str, value: &str) -> Result<(), KernelFault> {
    host.sysctls.hold(instance, key, value).map_err(|e| unsettable(key, value, &e))
}

fn of_device(key: &str, value: &str) -> Result<(), KernelFault> {
    Sysctls::set_unsaved(key, value).map_err(|e| unsettable(key, value, &e))
}

fn unsettable(key: &str, value: &str, e: &std::io::Error) -> KernelFault {
    KernelFault::Refused {
        what: format!("set net/{key} to {value}"),
        error: format!("{e}: allow vipd to write /proc/sys/net, or set it yourself"),
    }
}
