//! Two hosts with the package installed, a client, and eyes on the hosts' kernels.

use super::host::Host;
use super::kit::Kit;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;
use vipd_agent::lab::clock::{now, sleep_until};
use vipd_agent::lab::observe::Eyes;
use vipd_agent::lab::outage::Outage;
use vipd_agent::lab::probe::Prober;
use vipd_agent::lab::topology::Topology;
use vipd_core::time::Instant;

/// The virtual address.
pub(crate) const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
/// What all hosts read: two paths, half a second between adverts, so that a lease is one second.
const CONFIG: &str = r#"
[cluster]
name = "debian"
key-file = "/etc/vipd/cluster.key"
[hosts.h1]
paths = ["192.0.2.11", "10.9.0.11"]
[hosts.h2]
paths = ["192.0.2.12", "10.9.0.12"]
[instance.web]
vrid = 51
interface = "eth0"
addresses = ["192.0.2.100/24"]
priority = { h1 = 150, h2 = 100 }
advert-interval = "500ms"
preempt-delay = "1s"
hold-down = "1s"
# A trial moves the address more often than a healthy day does.
move-budget = "off"
"#;
/// Longest time in which anything here must have happened: ten times what it takes.
pub(crate) const BOUND: Duration = Duration::from_secs(40);
/// When the client's own threads stood still longer than this, what it lost is told and not judged.
const STARVED: Duration = Duration::from_millis(50);

/// Waits until `done`, at most `bound`.
pub(crate) fn wait_until(
    bound: Duration,
    mut done: impl FnMut() -> bool,
    why: impl FnOnce() -> String,
) {
    let limit = now() + bound;
    while !done() {
        assert!(now() < limit, "{}", why());
        sleep_until(now() + Duration::from_millis(10));
    }
}

/// The pair. Fields are dropped in this order: whoever looks, the hosts, their network.
pub(crate) struct Pair {
    prober: Prober,
    eyes: Eyes,
    pub(crate) hosts: [Host; 2],
    room: Topology,
}

impl Pair {
    /// Two hosts that have booted.
    pub(crate) fn booted() -> Self {
        let room = Topology::build(2).unwrap();
        let eyes = Eyes::open(&room, vec![VIP]).unwrap();
        let mut hosts = [Host::new("h1"), Host::new("h2")];
        for (ix, host) in hosts.iter_mut().enumerate() {
            host.switch_on(room.host(ix).ns().unwrap());
        }
        hosts.iter().for_each(Host::ready);
        let prober = Prober::start(room.client(), VIP, 51).unwrap();
        Self { prober, eyes, hosts, room }
    }

    /// Two hosts with the package, the configuration and the key.
    pub(crate) fn installed() -> Self {
        let pair = Self::booted();
        for ix in 0..2 {
            pair.install(ix);
        }
        pair.configure();
        pair
    }

    /// Two hosts that run; h1 owns the address and h2 knows it.
    pub(crate) fn running() -> Self {
        Self::installed().started()
    }

    /// The same with another interval between adverts, as the configuration writes it.
    pub(crate) fn running_at(interval: &str) -> Self {
        let pair = Self::booted();
        for ix in 0..2 {
            pair.install(ix);
        }
        pair.configure_with(&CONFIG.replace("500ms", interval));
        pair.started()
    }

    fn started(self) -> Self {
        let pair = self;
        for host in &pair.hosts {
            host.run("systemctl enable --now --quiet vipd");
        }
        pair.wait_calm(0);
        pair
    }

    /// `dpkg --install` on a host; what it printed.
    pub(crate) fn install(&self, ix: usize) -> String {
        self.install_file(ix, &Kit::package())
    }

    /// The same with any package.
    pub(crate) fn install_file(&self, ix: usize, package: &Path) -> String {
        let there = "/root/vipd.deb";
        std::fs::copy(package, self.hosts[ix].path(there)).unwrap();
        self.hosts[ix].run(&format!("dpkg --install {there} 2>&1"))
    }

    /// The same configuration and the same key on both.
    pub(crate) fn configure(&self) {
        self.configure_with(CONFIG);
    }

    /// The same with any configuration.
    fn configure_with(&self, config: &str) {
        for host in &self.hosts {
            host.write("/etc/vipd/vipd.toml", config);
        }
        self.hosts[0].run("vipd keygen");
        let key = std::fs::read_to_string(self.hosts[0].path("/etc/vipd/cluster.key")).unwrap();
        self.hosts[1].write("/etc/vipd/cluster.key", &key);
        self.hosts[1].run("chown vipd /etc/vipd/cluster.key; chmod 600 /etc/vipd/cluster.key");
    }

    /// Waits until this host has the address and no other; when that was.
    pub(crate) fn wait_owner(&self, ix: usize) -> Instant {
        let found = self.eyes.wait_holders(VIP, &[ix], BOUND);
        found.unwrap_or_else(|| {
            panic!(
                "h{} does not own; holders: {:?}\n{}",
                ix + 1,
                self.eyes.holders(VIP),
                self.logs()
            )
        })
    }

    /// Waits until this host owns and both say that all is well.
    pub(crate) fn wait_calm(&self, owner: usize) {
        self.wait_owner(owner);
        for host in &self.hosts {
            let calm = || host.try_run("vipd status").status.success();
            wait_until(BOUND, calm, || {
                format!("no calm: {}\n{}", host.run("vipd status || :"), self.logs())
            });
        }
        assert!(self.prober.wait_answer(BOUND), "the client is not answered");
    }

    /// What the client lost since `from`; the time in which it was starved itself does not count.
    pub(crate) fn lost(&self, from: Instant) -> usize {
        let seen = self.outage(from);
        if seen.lost > 0 && seen.stalled > STARVED {
            println!(
                "  NOT JUDGED: {} lost, the client stood still for {:?}",
                seen.lost, seen.stalled
            );
            return 0;
        }
        seen.lost
    }

    /// What the client saw since `from`.
    pub(crate) fn outage(&self, from: Instant) -> Outage {
        self.prober.outage(from, now())
    }

    /// How long the address was on two hosts since `from`.
    pub(crate) fn two_owners(&self, from: Instant) -> Duration {
        self.eyes.seen().overlap(VIP, from, now())
    }

    /// How often the address has moved since `from`.
    pub(crate) fn moves(&self, from: Instant) -> usize {
        self.eyes.seen().moves(VIP, from, now())
    }

    /// Transitions in the history of a host.
    pub(crate) fn transitions(&self, ix: usize) -> usize {
        let history = self.hosts[ix].run("vipd history --json");
        history.lines().filter(|line| line.contains("\"kind\":\"transition\"")).count()
    }

    /// The document of `vipd status`.
    pub(crate) fn status(&self, ix: usize) -> Value {
        serde_json::from_str(&self.hosts[ix].run("vipd status --json || :")).unwrap()
    }

    /// Cuts the power of a host.
    pub(crate) fn cut(&mut self, ix: usize) -> Instant {
        let at = now();
        self.room.power_off(ix).unwrap();
        self.eyes.close(ix, at);
        self.hosts[ix].wait_off();
        at
    }

    /// Waits until a host has shut itself down; its network goes after that.
    pub(crate) fn wait_off(&mut self, ix: usize) {
        self.hosts[ix].wait_off();
        let at = now();
        self.room.power_off(ix).unwrap();
        self.eyes.close(ix, at);
    }

    /// Boots a host from the same disk.
    pub(crate) fn power_on(&mut self, ix: usize) {
        self.room.power_on(ix).unwrap();
        self.eyes.watch(&self.room, ix).unwrap();
        self.hosts[ix].boot(self.room.host(ix).ns().unwrap());
    }

    /// What the agents said last.
    pub(crate) fn logs(&self) -> String {
        let log = |host: &Host| {
            let out =
                host.try_run("journalctl --no-pager --output=short-precise --lines=40 -u 'vipd*'");
            String::from_utf8_lossy(&out.stdout).into_owned()
        };
        self.hosts.iter().map(log).collect::<Vec<_>>().join("\n")
    }
}
