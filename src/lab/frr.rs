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
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Where Debian has the daemons.
const DAEMONS: &str = "/usr/lib/frr";

/// The file of vrrpd on one host; its comment lines tell [`prepare`] the virtual addresses.
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

/// Makes the devices and starts zebra, unless an earlier start on this machine did so.
///
/// # Errors
/// When a device cannot be made, or zebra does not listen.
pub(super) fn prepare(ns: &Netns, dir: &Path, plan: &Plan, ix: usize) -> anyhow::Result<()> {
    let (dir, plan) = (dir.to_owned(), plan.clone());
    ns.run(move || {
        if Path::new("/proc/sys/net/ipv4/conf/vrrp4").exists()
            || Path::new("/proc/sys/net/ipv4/conf/vrrp6").exists()
        {
            return Ok(());
        }
        for vip in plan.vips() {
            device(vip, plan.vrid, ix)?;
        }
        zebra(&dir)
    })
}

/// The command that starts vrrpd.
pub(super) fn vrrpd(dir: &Path) -> Command {
    daemon("vrrpd", dir)
}

fn device(vip: IpAddr, vrid: u8, ix: usize) -> anyhow::Result<()> {
    let (name, kind) = if vip.is_ipv4() { ("vrrp4", 1) } else { ("vrrp6", 2) };
    let mac = format!("00:00:5e:00:{kind:02x}:{vrid:02x}");
    let add = ["link", "add", name, "link", SERVICE_LINK, "addrgenmode", "none"];
    ip(&[&add[..], &["address", &mac, "type", "macvlan", "mode", "bridge"]].concat())?;
    // Both the interface and the device have the address's network; only the device may answer for it.
    for link in [SERVICE_LINK, name, "all"] {
        for (key, value) in [("arp_ignore", "1"), ("arp_announce", "2"), ("rp_filter", "0")] {
            write_sysctl(&format!("/proc/sys/net/ipv4/conf/{link}/{key}"), value)?;
        }
    }
    let prefix = if vip.is_ipv4() { 32 } else { 128 };
    ip(&["addr", "add", &format!("{vip}/{prefix}"), "dev", name, "nodad"])?;
    if vip.is_ipv6() {
        // The source of adverts. Any would do that is no other router's; this one grows with the host.
        let own = format!("fe80::{ix:x}:0:0:11/64");
        ip(&["addr", "add", &own, "dev", name, "nodad"])?;
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
    // The room has no user of FRR's, and no other place for sockets than its own.
    command.args(["-u", "root", "-g", "root", "-P", "0", "--log", "stdout"]);
    command.arg("-z").arg(dir.join("zserv.api")).arg("--vty_socket").arg(dir);
    command.arg("-i").arg(dir.join(format!("{name}.pid")));
    command.arg("-f").arg(dir.join(format!("{name}.conf")));
    command
}
