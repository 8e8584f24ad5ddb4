//! What must not last longer than so: judged over the time between two facts.

use super::{AddrView, HostView, LATE_REPEAT, Rule, SLACK, Watch};
use crate::host::Agent;
use crate::scenario::{KERNEL_LATENESS, host_name, mac};
use std::net::IpAddr;
use vipd_core::time::{Duration, Instant};

/// The overlap that a handover adds to the successor's claim (DESIGN 5.5).
const OVERLAP: Duration = Duration::from_millis(200);

impl Watch {
    /// Everything that must not last too long.
    pub(crate) fn judge(&mut self, now: Instant) {
        self.judge_operations(now);
        for ix in 0..self.addrs.len() {
            let view = self.addrs[ix].clone();
            for b in 0..self.hosts.len() {
                for a in 0..b {
                    if let (Some(since_a), Some(since_b)) = (view.held[a], view.held[b]) {
                        self.judge_pair(now, view.addr, (a, b), since_a.max(since_b));
                    }
                }
            }
            for host in 0..self.hosts.len() {
                self.judge_holder(now, &view, host);
            }
            self.judge_vacancy(now, &view);
            self.judge_entry(now, &view);
            self.judge_rank(now, &view);
        }
    }

    /// Two running agents: on a whole wire one interval after the heal, an overlap otherwise. With heartbeats a whole
    /// second path is enough: what they say there decides, and takes a heartbeat to be said (DESIGN 5.9).
    fn judge_pair(&mut self, now: Instant, addr: IpAddr, (a, b): (usize, usize), start: Instant) {
        let t = self.scenario.t();
        let (since, to_settle) = match (self.whole, self.second) {
            (Some(whole), _) => (whole, t),
            (None, Some(second)) if self.scenario.heartbeats => (second, t * 2),
            _ => return,
        };
        let (first, second) = (&self.hosts[a], &self.hosts[b]);
        if !first.agent.runs() || !second.agent.runs() || first.slow.or(second.slow).is_some() {
            return;
        }
        let disturbed = since.max(first.since).max(second.since).max(self.kernels_changed);
        // An order in the middle of an overlap begins another one.
        let from = start.max(disturbed).max(self.orders.spoken);
        // Who offers because its service fails keeps the addresses as one that stops does, well again or not.
        let offers = |h: &HostView| self.offers(h, from);
        let leaving = first.agent == Agent::Leaving
            || second.agent == Agent::Leaving
            || offers(first)
            || offers(second)
            || self.orders.moved_lately(a, from)
            || self.orders.moved_lately(b, from);
        // Whoever stops, or yields to a host of the group, keeps the address until the other one's word that it holds
        // it, which comes with a heartbeat, and for the overlap at most (DESIGN 5.5).
        let overlap = self.overlap();
        // Long after the last disturbance a second owner is a preempting one, whom the first hears at once.
        // A third host that cleans up says priority 0, which a Backup may read after the owner's answer to it; then it
        // is the owner's next advert that settles it, for answers are rate-limited.
        let third = (0..self.hosts.len()).filter(|h| *h != a && *h != b);
        let left = third.filter_map(|h| self.hosts[h].left).any(|at| at + t + SLACK > start);
        let healed = start > disturbed + self.longest_down + t && !left;
        let most = match leaving || self.scenario.heartbeats {
            true => overlap + to_settle + SLACK,
            false if healed => SLACK,
            false => to_settle + SLACK,
        };
        if now - from > most {
            let (a, b) = (host_name(a), host_name(b));
            let what = format!(
                "{addr} is on {a} and {b} since {start}, nothing disturbed since {disturbed}"
            );
            self.fail(from + most, Rule::TwoOwners, what);
        }
    }

    /// How long a host that hands over keeps the addresses beside its successor (DESIGN 5.5).
    pub(super) fn overlap(&self) -> Duration {
        OVERLAP + per_address(self.addrs.len())
    }

    /// Did this host hand over, or try to, a moment before `at`, because its service fails?
    pub(super) fn offers(&self, host: &HostView, at: Instant) -> bool {
        let window = self.longest_down + OVERLAP;
        self.scenario.checks && (host.sick || at.since(host.sickened) < window)
    }

    fn judge_holder(&mut self, now: Instant, view: &AddrView, host: usize) {
        let HostView { agent, since, .. } = self.hosts[host];
        let Some(held) = view.held[host] else { return };
        let name = host_name(host);
        match agent {
            Agent::Hung | Agent::Dead => {
                let end = since.max(held) + self.lease + KERNEL_LATENESS;
                if now > end {
                    let what = format!("{} still on {name}, {agent:?} since {since}", view.addr);
                    self.fail(end, Rule::LeaseOverrun, what);
                }
            }
            Agent::Leaving => {
                // It waits for the kernel of its successor.
                if self.hosts.iter().any(|h| h.slow.is_some()) {
                    return;
                }
                let end = since.max(self.kernels_changed)
                    + self.scenario.t()
                    + Duration::from_millis(100)
                    + self.overlap()
                    + self.barrier()
                    + SLACK;
                if now > end {
                    let what = format!("{} still on {name}, told to stop at {since}", view.addr);
                    self.fail(end, Rule::StopOverran, what);
                }
            }
            Agent::Running => {
                if let Some((since, by)) = view.owed[host].filter(|(_, by)| now > *by) {
                    let what = format!("{name} owns {} alone since {since}", view.addr);
                    self.fail(by, Rule::NotAnnounced, what);
                }
            }
            Agent::Off => {}
        }
    }

    /// An owner within M + 1 interval after any heal, start, death or release.
    fn judge_vacancy(&mut self, now: Instant, view: &AddrView) {
        let (Some(vacant), Some(whole)) = (view.vacant, self.whole) else { return };
        // Who is drained claims, if at all, as the last resort.
        let able = |h: usize| {
            self.hosts[h].agent == Agent::Running
                && !self.orders.drained(h)
                && self.may_serve(now, h)
        };
        if !(0..self.hosts.len()).any(able) || self.hosts.iter().any(|h| h.slow.is_some()) {
            return;
        }
        let mut from = vacant.max(whole).max(self.agents_changed).max(self.orders.spoken);
        from = from.max(self.copies_changed(now)).max(self.kernels_changed);
        if self.scenario.heartbeats {
            // Both families share their fate: while the kernel of a dead or hung agent serves one, both wait for it.
            for other in &self.addrs {
                if (0..self.hosts.len())
                    .any(|h| other.held[h].is_some() && !self.hosts[h].agent.runs())
                {
                    return;
                }
                from = other.dropped.iter().flatten().fold(from, |from, at| from.max(*at));
            }
        }
        // Second choice gives a better copy an interval.
        let later =
            if self.scenario.replica.is_some() { self.scenario.t() * 2 } else { Duration::ZERO };
        let end = from + self.longest_down + self.scenario.t() + later + SLACK;
        if now > end {
            let what =
                format!("{} in no kernel since {vacant}, undisturbed since {from}", view.addr);
            self.fail(end, Rule::NoOwner, what);
        }
    }

    /// Where the client's packets go, once every repeat of the announcements must have come.
    fn judge_entry(&mut self, now: Instant, view: &AddrView) {
        let (Some((owner, since)), Some(whole), Some((entry, seen))) =
            (view.settled, self.whole, view.entry)
        else {
            return;
        };
        // Without heartbeats an owner learns of a rival by an advert alone: of one that was cut off, and was gone before
        // it sent the next one over the whole wire, it hears nothing, whoever resolved the address meanwhile.
        let rival = (0..self.hosts.len()).find(|h| mac(*h) == entry).map(|h| &self.hosts[h]);
        let heard = |r: &HostView| r.advert.max(r.left).is_some_and(|at| at >= whole);
        let could_know = self.scenario.heartbeats || rival.is_some_and(heard);
        if self.hosts[owner].agent != Agent::Running || !could_know {
            return;
        }
        let end = since.max(whole).max(self.hosts[owner].since) + LATE_REPEAT;
        let end = end.max(seen) + SLACK;
        if now > end && entry != self.owner_mac(view.addr, owner) {
            let what = format!(
                "the client sends {} to {entry}, {} owns it alone since {since}",
                view.addr,
                host_name(owner)
            );
            self.fail(end, Rule::BlackHole, what);
        }
    }

    /// The strongest running host owns once nothing has kept it from taking over for long enough. One that could not be
    /// brought the state is tried again less and less often, and the owner says so.
    fn judge_rank(&mut self, now: Instant, view: &AddrView) {
        let (Some(calm), Some((owner, _))) = (self.calm_since(now, view), view.settled) else {
            return;
        };
        // With checks the strongest may be unfit, suppressed or held.
        if !self.scenario.preempt
            || self.scenario.checks
            || self.scenario.operators && !self.orders.tidy
            || self.hosts[owner].agent != Agent::Running
        {
            return;
        }
        let rank = |h: usize| self.scenario.priorities[h];
        let running = (0..self.hosts.len()).filter(|h| self.hosts[*h].agent == Agent::Running);
        let Some(best) = running.max_by_key(|h| rank(*h)).filter(|best| rank(*best) > rank(owner))
        else {
            return;
        };
        if !self.is_fresh(now, best) || self.waits_in_vain(owner, best) {
            return;
        }
        let end = calm + self.scenario.to_settle() + self.barrier();
        if now > end {
            let (best, owner) = (host_name(best), host_name(owner));
            let what = format!(
                "{owner} owns {}, {best} is stronger, nothing happened since {calm}",
                view.addr
            );
            self.fail(end, Rule::WrongOwner, what);
        }
    }
}

/// What a handover adds for each address (DESIGN 5.5).
fn per_address(addresses: usize) -> Duration {
    Duration::from_micros(200) * addresses as u32
}
