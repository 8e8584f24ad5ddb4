//! FRR on a machine of the room: its devices, its zebra, its command line.
//!
//! Called by `agent` alone. FRR wants the virtual MAC's devices made for it, with the virtual addresses
//! on them, and closes a Backup's by `protodown`; zebra, which carries that out, must listen before
//! vrrpd starts, or there is no VRRP for ten seconds. zebra counts as a part of the machine: it is
//! started with the first vrrpd and ends with the power.

use super::clock::{now, sleep_until};
use super::netns::{Netns, write_sysctl};
use super::plan::Plan;
use super::room;
use super::topology::SERVICE_LINK;
use anyhow::{Context as _, bail};
use ipnet::IpNet;
use nix::unistd::User;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use vipd_core::types::Mac;

/// Where Debian has the daemons.
const DAEMONS: &str = "/usr/lib/frr";
/// As whom they run; they refuse root.
const USER: &str = "frr";

/// The file of vrrpd on one host.
pub(super) fn conf(plan: &Plan, ix: usize) -> String {
    let vrid = plan.vrid;
    let mut text = format!("interface {SERVICE_LINK}\n");
    let mut line = |args: std::fmt::Arguments<'_>| {
        // Writing to a String does not fail.
        let _ = text.write_fmt(args);
    };
    line(format_args!(" vrrp {vrid} version {}\n", plan.version));
    line(format_args!(" vrrp {vrid} priority {}\n", plan.priority(ix)));
    line(format_args!(" vrrp {vrid} advertisement-interval {}\n", plan.interval.as_millis()));
    for vip in plan.vips() {
        let family = if vip.is_ipv4() { "ip" } else { "ipv6" };
        line(format_args!(" vrrp {vrid} {family} {vip}\n"));
    }
    text
}

/// A device of a virtual router.
#[derive(Clone, Debug)]
pub(super) struct Device {
    name: &'static str,
    mac: Mac,
    addresses: Vec<IpNet>,
}

/// The devices of one host: one for each family.
pub(super) fn devices(plan: &Plan, ix: usize) -> Vec<Device> {
    let device = |vip: IpAddr| {
        let (name, family) = if vip.is_ipv4() { ("vrrp4", 1) } else { ("vrrp6", 2) };
        let mut addresses = vec![IpNet::from(vip)];
        if vip.is_ipv6() {
            // The source of adverts: no other router's, and higher than the host's before it.
            let last = u16::try_from(ix).unwrap_or(u16::MAX);
            let own = Ipv6Addr::new(0xfe80, 0, 0, 0, last, 0, 0, 0x11);
            addresses.push(IpNet::from(IpAddr::V6(own)));
        }
        Device { name, mac: Mac([0, 0, 0x5e, 0, family, plan.vrid]), addresses }
    };
    plan.vips().into_iter().map(device).collect()
}

/// Makes the devices and starts zebra, unless an earlier start on this machine did so.
///
/// # Errors
/// When a device cannot be made, or zebra does not listen.
pub(super) fn prepare(ns: &Netns, dir: &Path, devices: &[Device]) -> anyhow::Result<()> {
    let (dir, devices) = (dir.to_owned(), devices.to_vec());
    ns.run(move || {
        let made = |d: &Device| Path::new("/proc/sys/net/ipv4/conf").join(d.name).exists();
        if devices.iter().all(made) {
            return Ok(());
        }
        devices.iter().try_for_each(make)?;
        zebra(&dir)
    })
}

/// The command that starts vrrpd.
pub(super) fn vrrpd(dir: &Path) -> Command {
    daemon("vrrpd", dir)
}

fn make(device: &Device) -> anyhow::Result<()> {
    let (name, mac) = (device.name, device.mac.to_string());
    let add = ["link", "add", name, "link", SERVICE_LINK, "address", &mac];
    ip(&[&add[..], &["type", "macvlan", "mode", "bridge"]].concat())?;
    // No link-local address of the virtual MAC: every router of the group would have the same one.
    write_sysctl(&format!("/proc/sys/net/ipv6/conf/{name}/addr_gen_mode"), "1")?;
    // The host would answer for the address with the MAC of its interface as well, also as a Backup.
    for link in ["all", SERVICE_LINK, name] {
        for (key, value) in [("arp_ignore", "1"), ("arp_announce", "2"), ("rp_filter", "0")] {
            write_sysctl(&format!("/proc/sys/net/ipv4/conf/{link}/{key}"), value)?;
        }
    }
    for address in &device.addresses {
        ip(&["addr", "add", &address.to_string(), "dev", name, "nodad"])?;
    }
    ip(&["link", "set", name, "up"])
}

fn ip(args: &[&str]) -> anyhow::Result<()> {
    let out = Command::new("ip").args(args).output();
    let out = out.context("FRR's devices need the program ip (package iproute2)")?;
    if !out.status.success() {
        bail!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}

fn zebra(dir: &Path) -> anyhow::Result<()> {
    let socket = dir.join("zserv.api");
    // Of a machine that had this name before.
    let _ = fs::remove_file(&socket);
    fs::write(dir.join("zebra.conf"), "")?;
    let frr = User::from_name(USER)?.with_context(|| format!("no user {USER} (package frr)"))?;
    chown(dir, Some(frr.uid.as_raw()), Some(frr.gid.as_raw()))?;
    let log = fs::File::create(dir.join("zebra.log"))?;
    let mut command = daemon("zebra", dir);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.process_group(0).env_remove(room::INSIDE);
    command.spawn().context("cannot start zebra (package frr)")?;
    let limit = now() + Duration::from_secs(5);
    while !socket.exists() {
        if now() > limit {
            bail!("zebra does not listen at {}", socket.display());
        }
        sleep_until(now() + Duration::from_millis(10));
    }
    Ok(())
}

fn daemon(name: &str, dir: &Path) -> Command {
    let mut command = Command::new(Path::new(DAEMONS).join(name));
    command.args(["-P", "0", "--log", "stdout"]);
    command.arg("-z").arg(dir.join("zserv.api")).arg("--vty_socket").arg(dir);
    command.arg("-i").arg(dir.join(format!("{name}.pid")));
    command.arg("-f").arg(dir.join(format!("{name}.conf")));
    command
}
