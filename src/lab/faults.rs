//! What goes wrong in a room: power, cables, switches.
//!
//! Called by scenarios, tests and benches. Faults of processes (crash, hang) are in `agent`.

use super::netlink::LinkState;
use super::processes;
use super::topology::{CLIENT, Net, ROUTER, Topology, host_mac};
use anyhow::{Context as _, bail};
use std::fmt;
use std::process::Command;

/// What a packet filter of the room swallows; carrier and everything else stay.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Loss {
    /// The host hears nothing on the service network.
    Deaf,
    /// Nobody hears the host on the service network.
    Mute,
    /// The host hears no adverts (IP protocol 112); heartbeats and clients get through.
    NoAdverts,
    /// The router hears nothing of the host; clients and peers do.
    NoRouter,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deaf => "hears nothing",
            Self::Mute => "is not heard",
            Self::NoAdverts => "hears no adverts",
            Self::NoRouter => "does not get through to the router",
        })
    }
}

impl Topology {
    /// Cuts the power: from the first moment no frame leaves or enters the host, then its processes
    /// and its kernel state are gone.
    ///
    /// # Errors
    /// When it is off already.
    pub fn power_off(&mut self, ix: usize) -> anyhow::Result<()> {
        let Some(ns) = self.host_mut(ix).take() else {
            bail!("{} is off already", self.host(ix).name());
        };
        for net in Net::ALL {
            let port = net.port(ns.name());
            self.switch.unplug(&port).with_context(|| format!("cannot unplug {port}"))?;
        }
        processes::kill_all(&ns)?;
        for net in Net::ALL {
            let port = net.port(ns.name());
            // Takes both ends of the cable, so that the host's kernel, kept alive by a socket that
            // somebody still holds, has no network either.
            self.switch.delete(&port).with_context(|| format!("cannot remove {port}"))?;
        }
        Ok(())
    }

    /// Takes the carrier of a host on one network, or gives it back.
    ///
    /// # Errors
    /// When the host is off.
    pub fn set_cable(&mut self, ix: usize, net: Net, state: LinkState) -> anyhow::Result<()> {
        let port = net.port(self.host(ix).name());
        let cut = self.switch.set_state(&port, state);
        cut.with_context(|| format!("cannot set cable {port} {state:?}"))
    }

    /// Lets the switch swallow everything of a host on one network, both ways, while its carrier stays
    /// (a dead switch behind a living port), or pass it again.
    ///
    /// # Errors
    /// When the host is off.
    pub fn set_port(&mut self, ix: usize, net: Net, state: LinkState) -> anyhow::Result<()> {
        match state {
            LinkState::Up => self.move_port(ix, net, net.switch()),
            LinkState::Down => {
                let port = net.port(self.host(ix).name());
                self.switch.unplug(&port).with_context(|| format!("cannot unplug {port}"))
            }
        }
    }

    /// Splits one network: the named hosts are on an island, the others and the client stay.
    /// No carrier is lost. Hosts without power stay where they are.
    ///
    /// # Errors
    /// When a switch refuses a port.
    pub fn partition(&mut self, island: &[usize], net: Net) -> anyhow::Result<()> {
        for ix in 0..self.hosts().len() {
            let switch = if island.contains(&ix) { net.island() } else { net.switch() };
            self.move_port(ix, net, switch)?;
        }
        Ok(())
    }

    /// Joins what [`Topology::partition`] split.
    ///
    /// # Errors
    /// When a switch refuses a port.
    pub fn heal(&mut self, net: Net) -> anyhow::Result<()> {
        self.partition(&[], net)?;
        if net == Net::Service {
            self.set_client_side(Side::Main)?;
        }
        Ok(())
    }

    /// Puts the client on one side of a partition.
    ///
    /// # Errors
    /// When a switch refuses the port.
    pub fn set_client_side(&mut self, side: Side) -> anyhow::Result<()> {
        let switch = match side {
            Side::Main => Net::Service.switch(),
            Side::Island => Net::Service.island(),
        };
        let port = Net::Service.port(CLIENT);
        self.switch.set_bridge(&port, switch).with_context(|| format!("cannot move {port}"))
    }

    /// Takes the router off its switch, so that nobody reaches it, or puts it back. Nobody's carrier changes.
    ///
    /// # Errors
    /// When the room has no router, or the switch refuses.
    pub fn set_router(&mut self, state: LinkState) -> anyhow::Result<()> {
        self.router()?;
        let port = Net::Service.port(ROUTER);
        match state {
            LinkState::Up => self.switch.set_bridge(&port, Net::Service.switch()),
            LinkState::Down => self.switch.unplug(&port),
        }
        .with_context(|| format!("cannot set {port} {state:?}"))
    }

    fn move_port(&mut self, ix: usize, net: Net, switch: &str) -> anyhow::Result<()> {
        if !self.host(ix).is_on() {
            return Ok(());
        }
        let port = net.port(self.host(ix).name());
        let moved = self.switch.set_bridge(&port, switch);
        moved.with_context(|| format!("cannot move {port} to {switch}"))
    }

    /// Swallows some packets of a host. Needs the `nft` program.
    ///
    /// # Errors
    /// When `nft` is missing or refuses, or the host is off.
    pub fn lose(&mut self, ix: usize, loss: Loss) -> anyhow::Result<()> {
        let host = self.host(ix);
        let port = Net::Service.port(host.name());
        let of_host = format!("ether saddr {} drop;", host_mac(ix, Net::Service));
        let (device, rules) = match loss {
            Loss::Deaf => (Net::Service.link(), "drop;"),
            Loss::NoAdverts => (Net::Service.link(), "ip protocol 112 drop; ip6 nexthdr 112 drop;"),
            Loss::Mute => (port.as_str(), "drop;"),
            Loss::NoRouter => (Net::Service.link(), of_host.as_str()),
        };
        let table = table(host.name(), loss);
        let ruleset = format!(
            "table netdev {table} {{ chain in {{ \
             type filter hook ingress device \"{device}\" priority 0; {rules} }}; }}"
        );
        self.nft(ix, loss, ruleset)
    }

    /// Ends what [`Topology::lose`] began.
    ///
    /// # Errors
    /// When it was not begun, or as there.
    pub fn lose_no_more(&mut self, ix: usize, loss: Loss) -> anyhow::Result<()> {
        let ruleset = format!("delete table netdev {}", table(self.host(ix).name(), loss));
        self.nft(ix, loss, ruleset)
    }

    /// What a host sends is filtered where it enters the switch, what it hears where it enters the host,
    /// what the router does not hear where it enters the router.
    fn nft(&self, ix: usize, loss: Loss, ruleset: String) -> anyhow::Result<()> {
        match loss {
            Loss::Mute => self.switch_ns.run(move || run_nft(&ruleset)),
            Loss::NoRouter => self.router()?.run(move || run_nft(&ruleset)),
            Loss::Deaf | Loss::NoAdverts => self.host(ix).ns()?.run(move || run_nft(&ruleset)),
        }
    }
}

/// The two halves of a partitioned network.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Side {
    /// Where the hosts that were not named are.
    Main,
    /// Where the hosts that were named are.
    Island,
}

fn table(host: &str, loss: Loss) -> String {
    format!("lab_{host}_{loss:?}").to_lowercase()
}

fn run_nft(ruleset: &str) -> anyhow::Result<()> {
    let out = Command::new("nft")
        .arg(ruleset)
        .output()
        .context("this fault needs the program nft (package nftables)")?;
    if !out.status.success() {
        bail!("nft {ruleset}: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}
