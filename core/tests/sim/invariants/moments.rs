//! What must not happen at all: judged when it happens.

use super::{HostView, LATE_KERNEL, Muzzle, Rule, SLACK, Watch};
use crate::host::Agent;
use crate::scenario::host_name;
use std::net::IpAddr;
use vipd_core::time::{Duration, Instant};
use vipd_core::types::Family;

/// A yielding owner makes the winner announce at once; the winner's first own repeat is the second chance.
const ANNOUNCE_REPEAT: Duration = Duration::from_secs(1);
/// The last repeat after a claim, and the longest time between two of them (DESIGN 5.4).
const LAST_REPEAT: Duration = Duration::from_secs(15);
const LONGEST_GAP: Duration = Duration::from_secs(10);

impl Watch {
    pub(super) fn holds(&mut self, now: Instant, host: usize, addr: IpAddr) {
        self.judge_claim(now, host, addr);
        if let Some(rival) = self.muzzled(now, host, Family::of(&addr)) {
            let what = format!("{addr} put on {}, {} owns it", host_name(host), host_name(rival));
            self.fail(now, Rule::WroteBeforeRead, what);
        }
        self.judge_move(now, host, addr);
        self.judge_preemption(now, host, addr);
        self.judge_kept(now, host, addr);
        let at = self.addrs.iter().position(|a| a.addr == addr).unwrap_or_default();
        self.judge_copy(now, host, at);
        self.state_taken(host);
        let view = self.addr(addr);
        view.held[host] = Some(now);
        view.vacant = None;
        view.settle(now);
    }

    /// A claim after silence asks the silent peer's kernel first (DESIGN 5.2), where heartbeats tell whom to ask.
    fn judge_claim(&mut self, now: Instant, claimant: usize, addr: IpAddr) {
        let Some(whole) = self.whole else { return };
        let view = self.addr(addr).clone();
        let down = self.scenario.down(claimant);
        // The question goes out while the timer runs: the wire must have been whole since the last advert.
        if !self.scenario.heartbeats || now - whole < down + self.scenario.t() {
            return;
        }
        // One that let go beside the silent one a moment ago may have said so: then this is no claim after silence.
        let holders: Vec<usize> =
            (0..self.hosts.len()).filter(|h| view.held[*h].is_some()).collect();
        let &[holder] = holders.as_slice() else { return };
        let silent = &self.hosts[holder];
        let sole = view.settled.is_some_and(|(_, since)| now - since > down + self.scenario.t());
        let asked = silent.advert.is_none_or(|last| now - last >= down);
        if holder != claimant && matches!(silent.agent, Agent::Hung | Agent::Dead) && sole && asked
        {
            let what = format!(
                "{addr} put on {} while the kernel of {} serves it, {:?} since {}",
                host_name(claimant),
                host_name(holder),
                silent.agent,
                silent.since
            );
            self.fail(now, Rule::ClaimedOverHolder, what);
        }
    }

    /// Nothing moves the address by itself.
    fn judge_move(&mut self, now: Instant, host: usize, addr: IpAddr) {
        let view = self.addr(addr).clone();
        let Some(calm) = self.calm_since(now, &view) else { return };
        // An owner whose service fails, or that is drained and the last resort, tries again to hand over, less and less often.
        let unfit = view
            .settled
            .is_some_and(|(owner, _)| self.hosts[owner].sick || self.orders.drained(owner));
        // So does one whose state could not be brought to a stronger host.
        if now - calm > self.scenario.to_settle() && !unfit && !self.is_brought(host) {
            let what = format!("{} claims {addr}, nothing happened since {calm}", host_name(host));
            self.fail(now, Rule::NeedlessMove, what);
        }
    }

    /// Who comes back from a start, or from a hang in which it lost the address, is healthy for the whole delay before
    /// it takes the address from a weaker owner.
    fn judge_preemption(&mut self, now: Instant, host: usize, addr: IpAddr) {
        let view = self.addr(addr).clone();
        let (Some(whole), Some((owner, owned))) = (self.whole, view.settled) else { return };
        let (me, other) = (&self.hosts[host], &self.hosts[owner]);
        let undisturbed = self.scenario.longest_down() + self.scenario.t();
        let steady = [whole, owned, other.since].iter().all(|at| now - *at > undisturbed);
        let heard = other.advert.is_some_and(|at| now - at <= self.scenario.t() + SLACK);
        let (since, delay) = (me.since, self.scenario.preempt_delay);
        let bound = self.scenario.priorities[host] != 255;
        if steady
            && bound
            && !self.offers(other, now)
            && !self.orders.moving(Some(owner))
            && !self.orders.promoting(host)
            && !self.orders.moved_lately(host, now.before(SLACK))
            && heard
            && other.agent == Agent::Running
            && (me.started == since || me.owned_when_hung)
            && now - since + SLACK < delay
        {
            let (me, other) = (host_name(host), host_name(owner));
            let what = format!("{me} takes {addr} from {other}, back only since {since}");
            self.fail(now, Rule::PreemptedTooSoon, what);
        }
    }

    /// Make before break: whoever stops lets go when somebody else has it, if there was somebody; where heartbeats run,
    /// so does whoever yields (DESIGN 5.5).
    fn judge_release(&mut self, now: Instant, host: usize, addr: IpAddr) {
        let view = self.addr(addr).clone();
        // What a hand takes off is no release.
        let Some(whole) = self.whole.filter(|_| view.tampered != now) else { return };
        let late = |h: &HostView| h.slow.is_some_and(|since| now - since > LATE_KERNEL);
        if self.hosts.iter().any(late) || now - self.kernels_late < self.lease && self.scenario.slow
        {
            return;
        }
        let me = &self.hosts[host];
        let moment = match me.agent {
            // Where state is brought over first, the release comes long after the order.
            Agent::Leaving if self.scenario.replica.is_some() => now,
            Agent::Leaving => me.since,
            // Whose service fails lets go first: there is nothing to keep up (DESIGN 5.9).
            Agent::Running if me.sick || now - me.sickened < SLACK => return,
            Agent::Running if self.orders.outage_allowed(host) => return,
            Agent::Running if self.orders.moving(Some(host)) => self.orders.moving_since(host),
            Agent::Running if let Some(since) = self.brought_since(host) => since,
            Agent::Running if self.scenario.heartbeats => now,
            _ => return,
        };
        let ready = |since: Instant| moment - since > self.longest_down * 2 && since < moment;
        let others = || (0..self.hosts.len()).filter(|h| *h != host);
        // Whose service fails gives others time to come.
        let fit = |h: usize| !self.hosts[h].sick && ready(self.hosts[h].sickened);
        let heir = |h: usize| {
            self.hosts[h].agent == Agent::Running
                && ready(self.hosts[h].since)
                && fit(h)
                && self.heir(now, h)
                && !self.orders.drained(h)
        };
        let heirs = match me.agent {
            Agent::Leaving => others().any(heir),
            _ => ready(me.since),
        };
        // A successor that took it and lost its power or its agent during the overlap is missed by nobody yet: who
        // leaves lets go when the overlap ends, and knows no more than that it was taken. Who moves and would have
        // claimed as a Backup by now does know. Where state is brought over first, the overlap is what comes before the
        // release.
        let begun = match me.agent {
            Agent::Leaving if self.scenario.replica.is_some() => now.before(self.overlap() + SLACK),
            _ => moment,
        };
        let died = |h: usize| {
            let gone = view.dropped[h].is_some_and(|at| at > begun);
            let known =
                me.agent == Agent::Running && now - self.hosts[h].since > self.longest_down * 2;
            let off = !self.hosts[h].agent.runs() && self.hosts[h].since > begun && !known;
            gone && (off || self.hosts[h].started > begun)
        };
        let moves = self.orders.moving(Some(host)) || self.brought_since(host).is_some();
        let succeeded = (me.agent == Agent::Leaving || moves) && others().any(died);
        if ready(whole) && heirs && !succeeded && others().all(|h| view.held[h].is_none()) {
            let what = format!("{} lets go of {addr} before anybody has it", host_name(host));
            self.fail(now, Rule::Gap, what);
        }
    }

    pub(super) fn drops(&mut self, now: Instant, host: usize, addr: IpAddr) {
        let (whole, t) = (self.whole, self.scenario.t());
        let agents: Vec<Agent> = self.hosts.iter().map(|h| h.agent).collect();
        let released = agents[host].runs();
        self.judge_release(now, host, addr);
        if released {
            self.judge_lost(now, host, addr);
        }
        if self.addr(addr).tampered != now {
            self.state_let_go(now, host);
        }
        let view = self.addr(addr);
        view.held[host] = None;
        view.dropped[host] = Some(now);
        // Announcements are for after the last release: while several own, none of them can help the client. Whoever
        // cannot be heard cannot make the other one announce.
        let heard = whole.is_some_and(|since| now - since > t);
        let mut holders = (0..view.held.len()).filter(|h| view.held[*h].is_some());
        let last = match (holders.next(), holders.next()) {
            (Some(other), None) => Some(other),
            _ => None,
        };
        view.owed.fill(None);
        if let Some(other) = last.filter(|_| heard) {
            // A running agent that lets go makes the other one announce; a lapsed lease is nobody's word, only the
            // repeats after the claim can come later.
            let recent = view.held[other].is_some_and(|at| now - at < LAST_REPEAT);
            let within = match released {
                true => Some(ANNOUNCE_REPEAT),
                false => recent.then_some(LONGEST_GAP),
            };
            // The last word of the yielding host is a kernel order ahead of its release.
            let just_now = view.announced[other].is_some_and(|at| now - at < SLACK / 2);
            view.owed[other] = within.filter(|_| !just_now).map(|by| (now, now + by + SLACK));
        }
        if view.held.iter().all(Option::is_none) {
            view.vacant = Some(now);
        }
        view.settle(now);
    }

    pub(super) fn announced(&mut self, now: Instant, host: usize, addr: IpAddr) {
        if let Some(rival) = self.muzzled(now, host, Family::of(&addr)) {
            let what =
                format!("{} announces {addr}, {} owns it", host_name(host), host_name(rival));
            self.fail(now, Rule::WroteBeforeRead, what);
        }
        // The kernel may have dropped it a moment ago, with the news still on the way.
        let view = self.addr(addr);
        view.owed[host] = None;
        view.announced[host] = Some(now);
        if view.held[host].is_none() && now - view.dropped[host].unwrap_or_default() > SLACK {
            let what = format!("{} announces {addr} before its kernel has it", host_name(host));
            self.fail(now, Rule::AnnouncedUnheld, what);
        }
    }

    pub(super) fn resumed_over(
        &mut self,
        now: Instant,
        host: usize,
        family: Family,
        (rival, priority): (usize, u8),
    ) {
        let view = &self.hosts[host];
        // A stronger host may preempt in the same moment; one with a delay has to be healthy for that long first.
        let own = self.scenario.priorities[host];
        let free = self.scenario.preempt_delay.is_zero() || !view.owned_when_hung;
        let outranks = own > priority && (own == 255 || self.scenario.preempt && free);
        let silent = view.advert.is_none_or(|last| now - last >= self.scenario.t() * 3);
        // What an operator made of its priority is not known here.
        // A request of the owner that waits beside its adverts is news as well.
        let known = !self.orders.touched[host] && !self.orders.moving(Some(rival));
        if silent && known && !outranks {
            self.hosts[host].muzzle[family as usize] = Some(Muzzle {
                until: now + SLACK / 2,
                rival,
                // Who stops says its last word after the release, also where a hand took the address off before.
                last_advert_below: (view.owned_when_hung || view.agent == Agent::Leaving)
                    .then_some(priority),
            });
        }
    }

    /// Who waited behind this owner may claim.
    pub(super) fn unmuzzle(&mut self, owner: usize, families: &[Family]) {
        for view in &mut self.hosts {
            for family in families {
                view.muzzle[*family as usize].take_if(|m| m.rival == owner);
            }
        }
    }

    /// The owner behind which the host has to keep quiet at the moment.
    fn muzzled(&self, now: Instant, host: usize, family: Family) -> Option<usize> {
        let muzzle = self.hosts[host].muzzle[family as usize].as_ref();
        muzzle.filter(|m| now <= m.until).map(|m| m.rival)
    }

    pub(super) fn advert(&mut self, now: Instant, host: usize, family: Family, priority: u8) {
        if priority == 0 {
            self.hosts[host].left = Some(now);
            self.unmuzzle(host, &[family]);
            return;
        }
        if let Some(rival) = self.muzzled(now, host, family) {
            let muzzle = self.hosts[host].muzzle[family as usize].as_mut();
            let allowed = muzzle.and_then(|m| m.last_advert_below.take());
            if allowed.is_none_or(|below| priority >= below && priority > 1) {
                let what = format!(
                    "{} advertises {priority} right after it resumed, {} owns",
                    host_name(host),
                    host_name(rival)
                );
                self.fail(now, Rule::WroteBeforeRead, what);
            }
        }
        self.hosts[host].advert = Some(now);
    }
}
