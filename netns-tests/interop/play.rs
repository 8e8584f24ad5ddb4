//! What is played in every mode.

use crate::figures::Figures;
use crate::mode::{Mode, Peer, Role};
use crate::wire::{Capture, Expected};
use anyhow::{Context as _, ensure};
use std::net::IpAddr;
use std::time::Duration;
use vipd_agent::lab::clock::{now, sleep_until};
use vipd_agent::lab::outage::Outage;
use vipd_agent::lab::ownership::Holding;
use vipd_agent::lab::plan::{Adverts, Families, MacMode};
use vipd_agent::lab::stage::Stage;
use vipd_agent::lab::topology::Net;
use vipd_core::time::Instant;

/// Priorities of the stronger and of the weaker host.
const PRIORITIES: [u8; 2] = [150, 100];
/// What two busy cores may add to a skew; less than the two intervals by which a missed priority 0 would show.
const NOISE: Duration = Duration::from_millis(250);
/// What they may add to a failover, at whose begin a whole machine is torn down on the same cores.
const TORN_DOWN: Duration = Duration::from_millis(700);
/// Between the first word of a new owner and the moment at which its kernel answers.
const HANDS_CHANGE: Duration = Duration::from_millis(20);
/// A peer that preempts speaks first and may take this long to claim, and one that yields to let go: keepalived on
/// busy cores, seen up to 0.6 s.
const PEER_ACTS: Duration = Duration::from_secs(1);
/// An unresolved unicast peer is asked for again after this (RFC 4861, RetransTimer).
const RESOLVE: Duration = Duration::from_secs(1);
/// An agent has started, read its file and found its interface after this.
const START: Duration = Duration::from_secs(8);

/// Election, clean stop, preemption and power cut of the first host, and vipd's frames on the wire.
pub(crate) fn matrix(mode: &'static Mode, role: Role) -> anyhow::Result<()> {
    let plan = mode.plan(PRIORITIES.to_vec());
    let mut play = Play {
        mode,
        role,
        stage: Stage::cast(plan.clone(), &mode.cast(role, &plan))?,
        figures: Figures::default(),
    };
    let port = Net::Service.port(play.stage.room().host(role.vipd()).name());
    let capture = Capture::start(play.stage.room().switches(), &port)?;
    play.election()?;
    play.clean_stop()?;
    play.preemption()?;
    let expected = Expected { mode, role, priority: PRIORITIES[role.vipd()] };
    expected.check(&capture.stop()?).with_context(|| play.story("vipd's frames on the wire"))?;
    play.power_cut()?;
    for _ in 1..rounds() {
        play.power_back()?;
        play.clean_stop()?;
        play.preemption()?;
        play.power_cut()?;
    }
    play.figures.print(&format!("{}/{}", mode.name, role.name()));
    Ok(())
}

/// Both own behind a cut; when it heals, the higher address keeps and the other yields.
pub(crate) fn equal_priority(mode: &'static Mode, role: Role) -> anyhow::Result<()> {
    let plan = mode.plan(vec![100, 100]);
    let mut cast = mode.cast(role, &plan);
    // Behind the cut nobody is heard, for which vipd would wait before it claims.
    cast[role.vipd()].1.instance_extra.push_str("\nsettle = \"off\"");
    let mut play =
        Play { mode, role, stage: Stage::cast(plan, &cast)?, figures: Figures::default() };
    play.stage.partition(&[0], &[Net::Service])?;
    play.stage.start_all()?;
    let limit = now() + play.down(1) + START;
    // FRR's device is there before FRR shuts it: what looks like an owner must stay one.
    let mut both = false;
    while !both && now() < limit {
        let seen = play.stage.eyes().wait_holders(play.vip(), &[0, 1], limit.since(now()));
        sleep_until(now() + play.down(1));
        both = seen.is_some() && play.stage.eyes().holders(play.vip()) == [0, 1];
    }
    ensure!(both, play.story("each side of the cut has an owner"));
    let at = play.stage.heal()?;
    let resolved = match mode.adverts {
        Adverts::Multicast => Duration::ZERO,
        Adverts::Unicast => RESOLVE,
    };
    let let_go = match role {
        Role::VipdFirst => NOISE,
        Role::PeerFirst => PEER_ACTS,
    };
    play.reached("tie", at, 1, mode.interval() + resolved + let_go)?;
    play.figures.print(&format!("{}/equal-priority-{}", mode.name, role.higher_address()));
    Ok(())
}

fn rounds() -> usize {
    if crate::long() { 5 } else { 1 }
}

struct Play {
    mode: &'static Mode,
    role: Role,
    stage: Stage,
    figures: Figures,
}

impl Play {
    /// Both start; the stronger one alone owns, and keeps.
    fn election(&mut self) -> anyhow::Result<()> {
        self.stage.start_all()?;
        alone(&self.stage, 0, self.down(1) + START).context("election")
    }

    /// The owner is told to end; the other one owns after its skew, and nothing is lost by vipd.
    fn clean_stop(&mut self) -> anyhow::Result<()> {
        let at = self.stage.stop(0)?;
        let client = self.reached("stop", at, 1, self.skew(1) + NOISE)?;
        let mode = self.mode;
        let plain = mode.families == Families::V4 && mode.mac == MacMode::Interface;
        let allowed = match (self.role, mode.peer) {
            (Role::VipdFirst, Peer::Keepalived) if plain => Duration::ZERO,
            // It advertises from the virtual MAC, which turns the switch, before its kernel has the address.
            (Role::VipdFirst, Peer::Keepalived) if mode.mac == MacMode::Virtual => PEER_ACTS,
            (Role::PeerFirst, Peer::Keepalived) => {
                // keepalived takes its address off before anybody else can have it.
                self.skew(1) + NOISE
            }
            // The successor is heard before its own kernel serves the address.
            _ => HANDS_CHANGE,
        };
        self.lost_at_most("clean stop", &client, allowed)
    }

    /// The stronger one comes back and takes the address from a living owner.
    fn preemption(&mut self) -> anyhow::Result<()> {
        let at = self.stage.start(0)?;
        let client = self.reached("preempt", at, 0, self.down(0) + START)?;
        // The weaker one lets go when it hears the first advert, at which the stronger one begins to claim.
        let allowed = match self.role {
            Role::VipdFirst => HANDS_CHANGE,
            Role::PeerFirst => PEER_ACTS,
        };
        self.lost_at_most("preemption", &client, allowed)
    }

    /// The owner's host dies.
    fn power_cut(&mut self) -> anyhow::Result<()> {
        let at = self.stage.power_off(0)?;
        // The machine of both hosts tears one of them down, which may hold the claim of the other up for so long that
        // it is too late and comes a second time.
        let bound = 2 * (self.down(1) + TORN_DOWN);
        let client = self.reached("power-off", at, 1, bound)?;
        self.lost_at_most("power cut", &client, bound)
    }

    fn power_back(&mut self) -> anyhow::Result<()> {
        self.stage.power_on(0)?;
        alone(&self.stage, 0, self.down(0) + START).context("power back")
    }

    fn vip(&self) -> IpAddr {
        self.stage.plan().vips()[0]
    }

    /// Skew_Time of a host (RFC 9568 section 6.1; version 2: of a second, whatever the interval).
    fn skew(&self, ix: usize) -> Duration {
        let of = if self.mode.version == 2 { Duration::from_secs(1) } else { self.mode.interval() };
        of * (256 - u32::from(self.stage.plan().priority(ix))) / 256
    }

    /// Active_Down_Interval of a host.
    fn down(&self, ix: usize) -> Duration {
        3 * self.mode.interval() + self.skew(ix)
    }

    /// Since `at` the host `ix` came to own within `bound`, and soon it alone; what the client saw.
    fn reached(
        &mut self,
        event: &'static str,
        at: Instant,
        ix: usize,
        bound: Duration,
    ) -> anyhow::Result<Outage> {
        alone(&self.stage, ix, bound + START).with_context(|| event.to_owned())?;
        let end = now();
        let vip = self.vip();
        let seen = self.stage.eyes().seen();
        let since = seen.holdings().iter().filter(|h| h.addr == vip && h.host == ix);
        // Who had it all along needed no time.
        let reached = since.map(|h| h.from).max().map_or(Duration::ZERO, |from| from.since(at));
        let client = self.stage.outages(at, end).remove(0);
        self.figures.add(event, reached, &client, self.stage.two_owners(at, end));
        let first = if event == "tie" { self.let_go(at, end) } else { reached };
        ensure!(first <= bound, self.story(&format!("{event}: after {first:?}, not {bound:?}")));
        Ok(client)
    }

    /// How long after `at` there were two owners.
    fn let_go(&self, at: Instant, end: Instant) -> Duration {
        let overlaps = self.stage.eyes().seen().overlaps(self.vip(), at, end);
        overlaps.last().map_or(Duration::ZERO, |(_, to)| to.since(at))
    }

    fn lost_at_most(&self, event: &str, client: &Outage, most: Duration) -> anyhow::Result<()> {
        let enough = client.longest_gap <= most;
        ensure!(enough, self.story(&format!("{event}: the client saw {client:?}, not {most:?}")));
        Ok(())
    }

    fn story(&self, what: &str) -> String {
        story(&self.stage, what)
    }
}

/// Waits until `ix` alone owns and answers, and looks for a while whether that stays so; whoever starts first owns
/// first, and FRR's device is there before FRR shuts it, so that it may take more than one look.
pub(crate) fn alone(stage: &Stage, ix: usize, bound: Duration) -> anyhow::Result<()> {
    let limit = now() + bound;
    let vip = stage.plan().vips()[0];
    loop {
        let wait = stage.wait(limit.since(now()), |holders| holders == [ix]);
        wait.with_context(|| story(stage, &format!("h{} alone owns and answers", ix + 1)))?;
        let from = now();
        sleep_until(from + (stage.plan().interval * 2).max(Duration::from_secs(1)));
        let to = now();
        let seen = stage.eyes().seen();
        let mut others = seen.holdings().iter().filter(|h| h.host != ix);
        let disturbed = others.any(|h| h.to.is_none_or(|t| t > from) && h.from < to);
        if seen.holders(vip) == [ix] && !disturbed && seen.gap(vip, from, to).is_zero() {
            return Ok(());
        }
        ensure!(to < limit, story(stage, &format!("h{} does not stay the only owner", ix + 1)));
    }
}

/// `what`, with who had the address when and what the agents said.
fn story(stage: &Stage, what: &str) -> String {
    let seen = stage.eyes().seen();
    let one = |h: &Holding| format!("h{} link {} {:?}..{:?}", h.host + 1, h.link, h.from, h.to);
    let holdings: Vec<_> = seen.holdings().iter().map(one).collect();
    format!("{what}\nholders: {}\n{}", holdings.join("; "), stage.logs(12))
}
