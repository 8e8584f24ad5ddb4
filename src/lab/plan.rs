//! What a room runs: hosts, addresses, timers, options; and the files of the agents made from it.
//!
//! Pure data to text. Tests and benches fill in what they try; the rest has sensible values.

use super::health::Health;
use super::replicator::StateFiles;
use super::topology::{Net, SERVICE_LINK, host_name, host_v4, host_v6};
use clap::ValueEnum;
use serde::Serialize;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

/// Which families the virtual addresses have.
#[derive(Copy, Clone, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Families {
    /// IPv4 alone.
    #[value(name = "4")]
    V4,
    /// IPv6 alone.
    #[value(name = "6")]
    V6,
    /// Both.
    Dual,
}

/// Where adverts go.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Adverts {
    /// To the group of the family.
    Multicast,
    /// To every other host.
    Unicast,
}

/// Which MAC the owner answers with.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum MacMode {
    /// That of the interface.
    Interface,
    /// The virtual router MAC.
    Virtual,
}

/// Whether heartbeats run beside adverts.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Heartbeats {
    /// Plain VRRP.
    Off,
    /// On the service network alone.
    OnePath,
    /// On both networks.
    TwoPaths,
}

/// Whether a stronger host takes the address back.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Preempt {
    /// Never.
    Never,
    /// When healthy this long.
    After(Duration),
}

/// Addresses that the hosts share out among them, one instance for each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    /// How many, from the virtual IPv4 address on; the identifiers go up with them.
    pub addresses: u8,
}

impl Pool {
    /// The addresses.
    fn vips(&self, first: Ipv4Addr) -> impl Iterator<Item = IpAddr> {
        (0..u32::from(self.addresses)).map(move |n| Ipv4Addr::from(u32::from(first) + n).into())
    }
}

/// Whether damping and the move budget are on; vipd only.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum FlapControl {
    /// Off: a play moves the address more often in a minute than an operator allows in an hour.
    Off,
    /// As it comes.
    Usual,
}

/// Everything that a room is told.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Number of hosts, 1 to [`super::topology::MAX_HOSTS`]; the first has the highest priority.
    pub hosts: usize,
    /// Priorities of the hosts where they are not [`Plan::priority`]'s usual ones.
    pub priorities: Vec<u8>,
    /// Families of the virtual addresses.
    pub families: Families,
    /// The virtual IPv4 address.
    pub vip4: Ipv4Addr,
    /// The virtual IPv6 address.
    pub vip6: Ipv6Addr,
    /// Virtual router identifier.
    pub vrid: u8,
    /// VRRP version of IPv4: 2 or 3.
    pub version: u8,
    /// Advertisement interval: 10 ms to 40.95 s in steps of 10 ms; version 2: whole seconds.
    pub interval: Duration,
    /// Where adverts go.
    pub adverts: Adverts,
    /// Which MAC the owner has.
    pub mac: MacMode,
    /// Whether heartbeats run; vipd only.
    pub heartbeats: Heartbeats,
    /// Whether a stronger host takes the address back.
    pub preempt: Preempt,
    /// Whether damping and the move budget are on.
    pub flap_control: FlapControl,
    /// What the agents look at beside each other; vipd only. `None`: nothing, and no service, no router.
    pub health: Option<Health>,
    /// Addresses that are shared out instead of the one instance; vipd only.
    pub pool: Option<Pool>,
    /// State files that follow the address, with a replicator on each host; vipd with heartbeats only.
    pub state_files: Option<StateFiles>,
    /// Lines added to `[instance.web]` of vipd, or to each `vrrp_instance` of keepalived.
    pub instance_extra: String,
    /// Text added to the end of the agent's file.
    pub file_extra: String,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            hosts: 2,
            priorities: Vec::new(),
            families: Families::V4,
            vip4: Ipv4Addr::new(192, 0, 2, 100),
            vip6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100),
            vrid: 51,
            version: 3,
            interval: Duration::from_secs(1),
            adverts: Adverts::Multicast,
            mac: MacMode::Interface,
            heartbeats: Heartbeats::TwoPaths,
            preempt: Preempt::After(Duration::ZERO),
            flap_control: FlapControl::Off,
            health: None,
            pool: None,
            state_files: None,
            instance_extra: String::new(),
            file_extra: String::new(),
        }
    }
}

impl Plan {
    /// A room with services, a router and the usual checks, in which a host that was unfit takes the address
    /// back when it was fit for 5 s.
    #[must_use]
    pub fn healthy() -> Self {
        Self {
            health: Some(Health::usual()),
            preempt: Preempt::After(Duration::from_secs(5)),
            flap_control: FlapControl::Usual,
            instance_extra: "hold-down = \"2s\"".into(),
            ..Self::default()
        }
    }

    /// The virtual addresses, IPv4 first.
    #[must_use]
    pub fn vips(&self) -> Vec<IpAddr> {
        let (v4, v6) = (IpAddr::V4(self.vip4), IpAddr::V6(self.vip6));
        if let Some(pool) = &self.pool {
            return pool.vips(self.vip4).collect();
        }
        match self.families {
            Families::V4 => vec![v4],
            Families::V6 => vec![v6],
            Families::Dual => vec![v4, v6],
        }
    }

    /// The virtual addresses that the client probes: of a pool the first alone, or a busy machine would measure
    /// its probers.
    #[must_use]
    pub fn probed(&self) -> Vec<IpAddr> {
        let mut vips = self.vips();
        if self.pool.is_some() {
            vips.truncate(1);
        }
        vips
    }

    /// Priority of a host: as written, else 150 for the first, 100 for the second, then 5 less each.
    #[must_use]
    pub fn priority(&self, ix: usize) -> u8 {
        match (self.priorities.get(ix), ix) {
            (Some(written), _) => *written,
            (None, 0) => 150,
            _ => u8::try_from(100_usize.saturating_sub(5 * (ix - 1))).unwrap_or(1).max(1),
        }
    }

    /// Longest time in which a Backup must have found out that nobody advertises: 3 intervals and the
    /// skew of the weakest host (RFC 9568 section 6.1), at most one more.
    #[must_use]
    pub fn detection(&self) -> Duration {
        self.interval * 4
    }

    /// The file of vipd, the same on every host.
    #[must_use]
    pub fn vipd_toml(&self, key_file: &Path) -> String {
        let mut text = String::from("[cluster]\nname = \"lab\"\n");
        if self.heartbeats != Heartbeats::Off {
            line(&mut text, format_args!("key-file = \"{}\"", key_file.display()));
        }
        for ix in 0..self.hosts {
            line(&mut text, format_args!("\n[hosts.{}]", host_name(ix)));
            let service = match self.families {
                Families::V6 => IpAddr::V6(host_v6(ix)),
                Families::V4 | Families::Dual => host_v4(ix, Net::Service).into(),
            };
            match self.heartbeats {
                Heartbeats::Off => {}
                Heartbeats::OnePath => line(&mut text, format_args!("paths = [\"{service}\"]")),
                Heartbeats::TwoPaths => {
                    let beat = host_v4(ix, Net::Beat);
                    line(&mut text, format_args!("paths = [\"{service}\", \"{beat}\"]"));
                }
            }
        }
        match &self.pool {
            Some(pool) => self.pool_lines(pool, &mut text),
            None => self.instance_lines(&mut text),
        }
        line(&mut text, format_args!("advert-interval = \"{}ms\"", self.interval.as_millis()));
        if self.version != 3 {
            line(&mut text, format_args!("version = {}", self.version));
        }
        match self.preempt {
            Preempt::Never => text.push_str("preempt = false\n"),
            Preempt::After(delay) => {
                line(&mut text, format_args!("preempt-delay = \"{}ms\"", delay.as_millis()));
            }
        }
        if self.flap_control == FlapControl::Off {
            text.push_str("damping = \"off\"\nmove-budget = \"off\"\n");
        }
        if self.mac == MacMode::Virtual {
            text.push_str("virtual-mac = true\n");
        }
        if self.adverts == Adverts::Unicast {
            // By host: a plain list needs paths to tell which entry is this host itself.
            let peers_of = |ix| {
                let others = (0..self.hosts).filter(|peer| *peer != ix);
                let peers = others.flat_map(|peer| self.sources(peer));
                let peers: Vec<_> = peers.map(|ip| format!("\"{ip}\"")).collect();
                format!("{} = [{}]", host_name(ix), peers.join(", "))
            };
            let all: Vec<_> = (0..self.hosts).map(peers_of).collect();
            line(&mut text, format_args!("unicast-peers = {{ {} }}", all.join(", ")));
        }
        if let Some(health) = &self.health {
            text.push_str(&health.instance_line(self.hosts));
        }
        line(&mut text, format_args!("{}", self.instance_extra));
        if let Some(health) = &self.health {
            text.push_str(&health.sections());
        }
        if let Some(sets) = &self.state_files {
            text.push_str(&sets.section());
        }
        text.push_str(&self.file_extra);
        text
    }

    /// Head of `[instance.web]`.
    fn instance_lines(&self, text: &mut String) {
        let vips: Vec<_> =
            self.vips().iter().map(|ip| format!("\"{}\"", with_prefix(*ip))).collect();
        let priorities: Vec<_> = (0..self.hosts)
            .map(|ix| format!("{} = {}", host_name(ix), self.priority(ix)))
            .collect();
        line(text, format_args!("\n[instance.web]\nvrid = {}", self.vrid));
        line(text, format_args!("interface = \"{SERVICE_LINK}\""));
        line(text, format_args!("addresses = [{}]", vips.join(", ")));
        line(text, format_args!("priority = {{ {} }}", priorities.join(", ")));
    }

    /// Head of `[pool.web]`. Who is preferred for which address is the agent's affair.
    fn pool_lines(&self, pool: &Pool, text: &mut String) {
        let last = |first: u8| u16::from(first) + u16::from(pool.addresses) - 1;
        let [.., octet] = self.vip4.octets();
        let vrids = format!("{}-{}", self.vrid, last(self.vrid));
        line(text, format_args!("\n[pool.web]\nvrids = \"{vrids}\""));
        line(text, format_args!("interface = \"{SERVICE_LINK}\""));
        line(text, format_args!("addresses = [\"{}-{}/24\"]", self.vip4, last(octet)));
    }

    /// The file of keepalived on one host: an instance for each family.
    #[must_use]
    pub fn keepalived_conf(&self, ix: usize) -> String {
        let mut text = format!(
            "global_defs {{\n  router_id {}\n  vrrp_version {}\n}}\n",
            host_name(ix),
            self.version
        );
        for vip in self.vips() {
            let name = if vip.is_ipv4() { "web4" } else { "web6" };
            line(&mut text, format_args!("vrrp_instance {name} {{\n  state BACKUP"));
            line(&mut text, format_args!("  interface {SERVICE_LINK}"));
            line(&mut text, format_args!("  virtual_router_id {}", self.vrid));
            line(&mut text, format_args!("  priority {}", self.priority(ix)));
            line(&mut text, format_args!("  advert_int {}", self.interval.as_secs_f64()));
            match self.preempt {
                Preempt::Never => text.push_str("  nopreempt\n"),
                Preempt::After(delay) if !delay.is_zero() => {
                    line(&mut text, format_args!("  preempt_delay {}", delay.as_secs_f64()));
                }
                Preempt::After(_) => {}
            }
            if self.mac == MacMode::Virtual {
                text.push_str("  use_vmac\n");
            }
            if self.adverts == Adverts::Unicast {
                let mine: Vec<_> = self.sources(ix);
                let peers = (0..self.hosts).flat_map(|peer| self.sources(peer));
                for source in mine.iter().filter(|s| s.is_ipv4() == vip.is_ipv4()) {
                    line(&mut text, format_args!("  unicast_src_ip {source}"));
                }
                text.push_str("  unicast_peer {\n");
                for peer in peers.filter(|p| !mine.contains(p) && p.is_ipv4() == vip.is_ipv4()) {
                    line(&mut text, format_args!("    {peer}"));
                }
                text.push_str("  }\n");
            }
            line(&mut text, format_args!("  {}", self.instance_extra));
            line(
                &mut text,
                format_args!("  virtual_ipaddress {{\n    {}\n  }}\n}}", host_route(vip)),
            );
        }
        text.push_str(&self.file_extra);
        text
    }

    /// Addresses of a host on the service network, in the families in use.
    fn sources(&self, ix: usize) -> Vec<IpAddr> {
        let (v4, v6) = (host_v4(ix, Net::Service).into(), host_v6(ix).into());
        match self.families {
            Families::V4 => vec![v4],
            Families::V6 => vec![v6],
            Families::Dual => vec![v4, v6],
        }
    }
}

fn with_prefix(ip: IpAddr) -> String {
    format!("{ip}/{}", if ip.is_ipv4() { 24 } else { 64 })
}

fn host_route(ip: IpAddr) -> String {
    format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 })
}

fn line(text: &mut String, args: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = text.write_fmt(args);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_vipd_names_every_host_and_address() {
        let plan = Plan { hosts: 3, families: Families::Dual, ..Plan::default() };
        let text = plan.vipd_toml(Path::new("/k"));
        for part in [
            "key-file = \"/k\"",
            "[hosts.h3]\npaths = [\"192.0.2.13\", \"10.9.0.13\"]",
            "addresses = [\"192.0.2.100/24\", \"2001:db8::100/64\"]",
            "priority = { h1 = 150, h2 = 100, h3 = 95 }",
            "advert-interval = \"1000ms\"",
            "preempt-delay = \"0ms\"",
        ] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
    }

    #[test]
    fn keepalived_has_an_instance_for_each_family() {
        let plan = Plan {
            families: Families::Dual,
            interval: Duration::from_millis(100),
            ..Plan::default()
        };
        let text = plan.keepalived_conf(1);
        assert!(text.contains("192.0.2.100/32") && text.contains("2001:db8::100/128"), "{text}");
        assert!(text.contains("advert_int 0.1\n") && text.contains("priority 100"), "{text}");
    }

    #[test]
    fn health_adds_sections_and_nothing_else() {
        let (plain, key) = (Plan::default(), Path::new("/k"));
        let checked = Plan { health: Some(Health::usual()), ..plain.clone() };
        assert!(!plain.vipd_toml(key).contains("check"));
        let text = checked.vipd_toml(key);
        assert!(text.contains("checks = [\"service\", \"gateway\"]\n"), "{text}");
        assert!(text.contains("\n[check.gateway]\ngateway = \"192.0.2.1\"\n"), "{text}");
    }

    #[test]
    fn a_pool_has_as_many_identifiers_as_addresses() {
        let plan = Plan { pool: Some(Pool { addresses: 12 }), ..Plan::default() };
        let text = plan.vipd_toml(Path::new("/k"));
        assert!(text.contains("vrids = \"51-62\"") && !text.contains("[instance"), "{text}");
        assert!(text.contains("addresses = [\"192.0.2.100-111/24\"]"), "{text}");
        assert_eq!((plan.vips().len(), plan.probed().len()), (12, 1));
    }
}
