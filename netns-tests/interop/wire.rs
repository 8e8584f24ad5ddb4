//! vipd's frames, caught where they enter the switch: dissected by tshark, compared octet by octet.

use crate::mode::{Mode, Role};
use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;
use vipd_agent::lab::clock::{now, sleep_until};
use vipd_agent::lab::netns::Netns;
use vipd_agent::lab::plan::{Adverts, Families, MacMode};
use vipd_agent::lab::processes;
use vipd_agent::lab::room::FILES;
use vipd_agent::lab::topology::{Net, host_mac, host_v4, host_v6};
use vipd_core::types::Mac;

/// All but the client's probes and their answers.
const FILTER: &str = "not icmp and not (icmp6 and (ip6[40] == 128 or ip6[40] == 129))";
/// What tshark is asked about an advert, in this order; the two addresses, TTLs and DSCPs of the families
/// share a column each.
const FIELDS: [&str; 19] = [
    "frame.number",
    "eth.src",
    "eth.dst",
    "ip.src",
    "ipv6.src",
    "ip.dst",
    "ipv6.dst",
    "ip.ttl",
    "ipv6.hlim",
    "ip.dsfield.dscp",
    "ipv6.tclass.dscp",
    "vrrp.typever",
    "vrrp.virt_rtr_id",
    "vrrp.prio",
    "vrrp.checksum.status",
    "vrrp.adver_int",
    "vrrp.short_adver_int",
    "vrrp.auth_string",
    "_ws.expert.message",
];

/// A running tcpdump.
#[derive(Debug)]
pub(crate) struct Capture {
    tcpdump: Child,
    file: PathBuf,
}

impl Capture {
    /// Catches what enters the switch at `port`.
    pub(crate) fn start(switch: &Netns, port: &str) -> anyhow::Result<Self> {
        let file = PathBuf::from(FILES).join(format!("{port}.pcap"));
        let said = file.with_extension("log");
        // -Z: without it tcpdump becomes a user who may not write here.
        let mut tcpdump = Command::new("tcpdump");
        tcpdump.args([
            "--immediate-mode",
            "-i",
            port,
            "-Q",
            "in",
            "-U",
            "-s",
            "0",
            "-Z",
            "root",
            "-w",
        ]);
        tcpdump.arg(&file).arg(FILTER).stderr(fs::File::create(&said)?);
        let tcpdump = switch
            .run(move || tcpdump.spawn().context("cannot start tcpdump (package tcpdump)"))?;
        let capture = Self { tcpdump, file };
        let limit = now() + Duration::from_secs(5);
        while !fs::read_to_string(&said)?.contains("listening on") {
            ensure!(now() < limit, "tcpdump at {port}: {}", fs::read_to_string(&said)?);
            sleep_until(now() + Duration::from_millis(5));
        }
        Ok(capture)
    }

    /// What it has caught so far: seconds of the wall clock, and the frame in tcpdump's words.
    pub(crate) fn frames(&self) -> anyhow::Result<Vec<(f64, String)>> {
        let mut read = Command::new("tcpdump");
        read.args(["-n", "-e", "-tt", "-v", "-r"]).arg(&self.file);
        let out = read.output()?;
        // A frame has a line of its own, what it says a second one, indented; the last may be half written.
        let said = String::from_utf8_lossy(&out.stdout).replace("\n\t", " ");
        let frame = |line: &str| {
            let (stamp, frame) = line.split_once(' ')?;
            Some((stamp.parse().ok()?, frame.to_owned()))
        };
        Ok(said.lines().filter_map(frame).collect())
    }

    /// Ends it; the file.
    pub(crate) fn stop(mut self) -> anyhow::Result<PathBuf> {
        // What arrived last is still on its way through the kernel's ring.
        sleep_until(now() + Duration::from_millis(300));
        processes::signal(i32::try_from(self.tcpdump.id())?, Signal::SIGINT)?;
        self.tcpdump.wait()?;
        Ok(std::mem::take(&mut self.file))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Ended already, when it was stopped; else the trial has failed.
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
        let _ = fs::remove_file(&self.file);
    }
}

/// What vipd must have sent in a trial.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) mode: &'static Mode,
    pub(crate) role: Role,
    pub(crate) priority: u8,
}

impl Expected {
    /// Compares all frames of a capture.
    pub(crate) fn check(&self, pcap: &Path) -> anyhow::Result<()> {
        let frames = frames(&fs::read(pcap)?)?;
        let adverts = self.adverts(pcap);
        let _ = fs::remove_file(pcap);
        let adverts = adverts?;
        let first = adverts.keys().next().copied().context("vipd sent no advert")?;
        self.priorities(&adverts)?;
        self.announcements(&frames, first)?;
        if self.mode.mac == MacMode::Virtual {
            let early = frames[..first - 1].iter().position(|f| f[6..12] == self.mac().0);
            ensure!(early.is_none(), "frame {early:?} has the virtual MAC before the first advert");
        }
        Ok(())
    }

    /// Frame number and priority of every advert, each of them without fault.
    fn adverts(&self, pcap: &Path) -> anyhow::Result<BTreeMap<usize, u8>> {
        let mut tshark = Command::new("tshark");
        tshark.arg("-r").arg(pcap).args([
            "-n",
            "-Y",
            "vrrp and not icmp and not icmpv6",
            "-T",
            "fields",
            "-E",
            "separator=;",
        ]);
        let plain = if self.mode.pseudo_header { "FALSE" } else { "TRUE" };
        tshark.args(["-o", &format!("vrrp.v3_checksum_as_in_v2:{plain}")]);
        tshark.args(FIELDS.iter().flat_map(|f| ["-e", f]));
        let out = tshark.output().context("cannot start tshark (package tshark)")?;
        ensure!(out.status.success(), "tshark: {}", String::from_utf8_lossy(&out.stderr));
        let wanted = self.columns();
        let mut adverts = BTreeMap::new();
        for line in String::from_utf8_lossy(&out.stdout).lines() {
            let columns: Vec<_> = line.split(';').collect();
            for ((field, seen), want) in FIELDS.iter().zip(&columns).zip(&wanted) {
                let right = want.as_deref().is_none_or(|want| want == *seen);
                ensure!(right, "{field} is {seen:?}, not {want:?}, in the advert {line}");
            }
            let priority = columns[13].parse()?;
            self.source_mac(columns[1], priority).with_context(|| line.to_owned())?;
            adverts.insert(columns[0].parse()?, priority);
        }
        Ok(adverts)
    }

    /// Who serves speaks with the owner's MAC; who does not yet, or no more, would lead the switch astray with it and
    /// has the interface's.
    fn source_mac(&self, seen: &str, priority: u8) -> anyhow::Result<()> {
        let own = host_mac(self.role.vipd(), Net::Service).to_string();
        let owner = self.mac().to_string();
        let right = match priority {
            0 => seen == owner,
            // Right after the release.
            1 => seen == own,
            // Also before the kernel has confirmed, and yielding.
            _ => seen == owner || seen == own,
        };
        ensure!(right, "Ethernet source {seen} at priority {priority}");
        Ok(())
    }

    /// What each field must be; `None`: anything.
    fn columns(&self) -> [Option<String>; 19] {
        let six = self.mode.families == Families::V6;
        let (source, to, to_mac) = self.ends();
        let some = |text: &str| Some(text.to_owned());
        let four = |text: &str| if six { some("") } else { some(text) };
        let sixth = |text: &str| if six { some(text) } else { some("") };
        let (source, to) = (source.to_string(), to.to_string());
        let centis = (self.mode.interval().as_millis() / 10).to_string();
        let (v2, v3) = match self.mode.version {
            2 => (self.mode.interval().as_secs().to_string(), String::new()),
            _ => (String::new(), centis),
        };
        let auth = if self.mode.vipd.contains("simple-text") { "secret" } else { "" };
        [
            None,
            None,
            some(&to_mac.to_string()),
            four(&source),
            sixth(&source),
            four(&to),
            sixth(&to),
            four("255"),
            sixth("255"),
            // CS6
            four("48"),
            sixth("48"),
            some(&(u32::from(self.mode.version) << 4 | 1).to_string()),
            some("51"),
            None,
            // Good
            some("1"),
            Some(v2),
            Some(v3),
            some(auth),
            some(""),
        ]
    }

    /// Source, destination and Ethernet destination of adverts.
    fn ends(&self) -> (IpAddr, IpAddr, Mac) {
        let (here, there) = (self.role.vipd(), 1 - self.role.vipd());
        let group = Mac([0x01, 0x00, 0x5e, 0, 0, 0x12]);
        let group6 = Mac([0x33, 0x33, 0, 0, 0, 0x12]);
        let peer = host_mac(there, Net::Service);
        match (self.mode.families, self.mode.adverts) {
            (Families::V6, Adverts::Multicast) => (
                link_local(here).into(),
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12).into(),
                group6,
            ),
            (Families::V6, Adverts::Unicast) => (host_v6(here).into(), host_v6(there).into(), peer),
            (_, Adverts::Multicast) => {
                (host_v4(here, Net::Service).into(), Ipv4Addr::new(224, 0, 0, 18).into(), group)
            }
            (_, Adverts::Unicast) => {
                (host_v4(here, Net::Service).into(), host_v4(there, Net::Service).into(), peer)
            }
        }
    }

    /// Ethernet address that vipd has as owner.
    fn mac(&self) -> Mac {
        let family = if self.mode.families == Families::V6 { 2 } else { 1 };
        match self.mode.mac {
            MacMode::Virtual => Mac([0, 0, 0x5e, 0, family, 51]),
            MacMode::Interface => host_mac(self.role.vipd(), Net::Service),
        }
    }

    /// Its own priority; 0 where it was stopped; where it yielded, one last advert that is weaker than the
    /// winner's; 1 right after the release, which makes a foreign successor announce.
    fn priorities(&self, adverts: &BTreeMap<usize, u8>) -> anyhow::Result<()> {
        let mut count: BTreeMap<u8, usize> = BTreeMap::new();
        for priority in adverts.values() {
            *count.entry(*priority).or_default() += 1;
        }
        let known = |p: &u8| [0, 1, self.priority].contains(p);
        ensure!(count.keys().all(known), "priorities {count:?} on the wire");
        let zeros = count.get(&0).copied().unwrap_or_default();
        match self.role {
            Role::VipdFirst => {
                ensure!((1..=2).contains(&zeros), "{zeros} adverts of priority 0: {count:?}")
            }
            Role::PeerFirst => ensure!(zeros == 0, "{zeros} adverts of priority 0 without a stop"),
        }
        Ok(())
    }

    /// Gratuitous ARP and unsolicited NA: the octets, and none before the first advert.
    fn announcements(&self, frames: &[Vec<u8>], first_advert: usize) -> anyhow::Result<()> {
        let wanted = match self.mode.families {
            Families::V6 => self.na(),
            Families::V4 | Families::Dual => self.garp(),
        };
        let mut seen = 0;
        for (frame, number) in frames.iter().zip(1..) {
            if is_gratuitous_arp(frame) || is_unsolicited_na(frame) {
                ensure!(
                    number > first_advert,
                    "announcement {number} before advert {first_advert}"
                );
                let right = *frame == wanted;
                ensure!(right, "announcement {number} is {frame:02x?}, not {wanted:02x?}");
                seen += 1;
            }
        }
        ensure!(seen >= 2, "{seen} announcements");
        Ok(())
    }

    fn garp(&self) -> Vec<u8> {
        let (mac, vip) = (self.mac().0, Ipv4Addr::new(192, 0, 2, 100).octets());
        let head = [0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1];
        [&[0xff; 6][..], &mac, &head, &mac, &vip, &mac, &vip].concat()
    }

    /// Where the checksum is: right, because tshark's own arithmetic is done here once more.
    fn na(&self) -> Vec<u8> {
        let (mac, vip) =
            (self.mac().0, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100).octets());
        let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets();
        // R=1 S=0 O=1
        let mut icmp = [&[136, 0, 0, 0, 0xa0, 0, 0, 0][..], &vip, &[2, 1], &mac].concat();
        let pseudo = [&vip[..], &all, &[0, 0, 0, 32, 0, 0, 0, 58], &icmp].concat();
        let sum: u32 = pseudo.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !((sum & 0xffff) + (sum >> 16));
        icmp[2..4].copy_from_slice(&sum.to_be_bytes()[2..]);
        let ether = [&[0x33, 0x33, 0, 0, 0, 1][..], &mac, &[0x86, 0xdd]].concat();
        let header = [0x60, 0, 0, 0, 0, 32, 58, 255];
        [&ether[..], &header, &vip, &all, &icmp].concat()
    }
}

fn is_gratuitous_arp(frame: &[u8]) -> bool {
    let request = [0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1];
    frame.len() >= 42 && frame[12..22] == request && frame[28..32] == frame[38..42]
}

fn is_unsolicited_na(frame: &[u8]) -> bool {
    frame.len() >= 86 && frame[12..14] == [0x86, 0xdd] && frame[54] == 136 && frame[38] == 0xff
}

/// The link-local address that a kernel makes of a host's MAC (RFC 4291 appendix A).
pub(crate) fn link_local(ix: usize) -> Ipv6Addr {
    let Mac([a, b, c, d, e, f]) = host_mac(ix, Net::Service);
    let word = |high: u8, low: u8| u16::from(high) << 8 | u16::from(low);
    Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
}

/// The different lengths of the VRRP messages of a capture.
pub(crate) fn advert_lengths(pcap: &Path) -> anyhow::Result<Vec<usize>> {
    let frames = frames(&fs::read(pcap)?)?;
    let _ = fs::remove_file(pcap);
    let length = |f: &Vec<u8>| {
        let word = |at: usize| usize::from(f[at]) << 8 | usize::from(f[at + 1]);
        match f.get(12..14)? {
            [0x08, 0x00] if f[23] == 112 => Some(word(16) - 4 * usize::from(f[14] & 0x0f)),
            [0x86, 0xdd] if f[20] == 112 => Some(word(18)),
            _ => None,
        }
    };
    let lengths: BTreeSet<_> = frames.iter().filter_map(length).collect();
    Ok(lengths.into_iter().collect())
}

/// The frames of a capture file of tcpdump (little endian, as on this machine).
fn frames(pcap: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut rest = pcap.get(24..).context("the capture is empty")?;
    let mut frames = Vec::new();
    while let Some(length) = rest.get(8..12) {
        let length = u32::from_ne_bytes(length.try_into()?).try_into()?;
        let Some(frame) = rest.get(16..).and_then(|r| r.get(..length)) else {
            bail!("the capture ends within a frame");
        };
        frames.push(frame.to_vec());
        rest = &rest[16 + length..];
    }
    Ok(frames)
}
