//! The stale-holder wait (DESIGN 5.2): the kernel of a hung or killed agent goes on answering for the address until
//! its lease ends. Before a claim after silence the kernels of silent peers are asked, inside the skew wait, so
//! that it costs no time.

use super::io::{Alarm, Output, Probe};
use super::reload::Renumber;
use super::{Engine, UnitIx};
use crate::config::model::OnConflict;
use crate::time::{Duration, Instant};
use crate::types::{Family, HostIx, Mac, State};
use crate::vrrp::timing;
use std::net::IpAddr;

/// While a stale holder answers, it is asked this often.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// A question younger than this may still be answered.
const ROUND_TRIP: Duration = Duration::from_millis(1);
/// So many questions in a row without answer end the wait of the best Backup.
const SILENCES: u8 = 2;
/// The kernel removes a leased address at most this late (measured: 1.25 s).
const KERNEL_LATE: Duration = Duration::from_millis(1300);
/// An unknown holder vetoes a claim this long after it was last seen (`on-conflict = "refuse"`).
const CONFLICT_FRESH: Duration = Duration::from_secs(10);

/// What is known of the kernels of silent peers.
#[derive(Clone, Debug, Default)]
pub(super) struct StaleWait {
    /// Next question, and how many were asked for this expiry.
    asked: u8,
    /// The expiry that the questions belong to.
    asked_for: Instant,
    first_asked: Instant,
    last_asked: Instant,
    /// Who answered last, and when.
    answer: Option<(HostIx, Instant)>,
    /// Waiting since the timer ran out, and how many questions in a row stayed without answer.
    waiting: Option<(Instant, u8)>,
    conflict_at: Option<Instant>,
}

impl StaleWait {
    /// Hosts have other numbers.
    pub(super) fn renumber(&mut self, renumber: &Renumber) {
        self.answer = self.answer.and_then(|(host, at)| Some((renumber.host(host)?, at)));
    }

    /// Does it wait for the kernel of a silent peer to let go?
    pub(super) fn waits(&self) -> bool {
        self.waiting.is_some()
    }

    /// An unknown host was seen to hold the address.
    pub(super) fn conflict(&mut self, now: Instant) {
        self.conflict_at = Some(now);
    }
}

impl Engine {
    fn waits_for_stale_holders(&self, u: UnitIx) -> bool {
        self.peers.is_some()
            && self.instance(u).stale_holder_wait
            && self.units[u].leaving.is_none()
    }

    /// Are holders asked for before a claim: to wait for them, or because a stranger has a veto?
    fn asks_for_holders(&self, u: UnitIx) -> bool {
        let refuses = self.instance(u).on_conflict == OnConflict::Refuse;
        self.waits_for_stale_holders(u)
            || (refuses && self.peers.is_some() && self.units[u].leaving.is_none())
    }

    /// Time between the first question and the claim: half the skew, at least 2 ms.
    fn lead(&self, u: UnitIx) -> Duration {
        (self.units[u].vr.skew() / 2).max(Duration::from_millis(2))
    }

    /// When the next question before the claim is due. The timer of a Backup with a living owner never
    /// comes that far.
    pub(super) fn stale_deadline(&self, u: UnitIx) -> Instant {
        let unit = &self.units[u];
        if unit.state() != State::Backup
            || unit.stale.waiting.is_some()
            || !self.asks_for_holders(u)
        {
            return Instant::MAX;
        }
        let at = unit.vr.deadline();
        let asked = if unit.stale.asked_for == at { unit.stale.asked } else { 0 };
        match asked {
            0 => at.before(self.lead(u)),
            1 => at.before(self.lead(u) / 2),
            _ => Instant::MAX,
        }
    }

    /// Asks the kernels of silent peers when it is time to.
    pub(super) fn probe_stale_holders(&mut self, u: UnitIx) {
        let now = self.now.mono;
        if self.stale_deadline(u) > now {
            return;
        }
        let at = self.units[u].vr.deadline();
        let stale = &mut self.units[u].stale;
        if stale.asked_for != at {
            stale.asked_for = at;
            stale.asked = 0;
            stale.answer = None;
            stale.first_asked = now;
        }
        stale.asked += 1;
        self.ask_stale_holders(u);
        // If its heartbeats go on, what it and we reach decides; the answers should be there by then.
        self.hurry();
    }

    fn ask_stale_holders(&mut self, u: UnitIx) {
        self.units[u].stale.last_asked = self.now.mono;
        let vips = self.stale_questions(u);
        let link = self.units[u].link;
        let from = self.links[usize::from(link.0)].state.mac;
        let mut to: Vec<Option<Mac>> = Vec::new();
        for (family, _, _) in &vips {
            if self.instance(u).virtual_mac {
                to.push(Some(Mac::virtual_router(*family, self.instance(u).vrid)));
            }
        }
        if !self.instance(u).virtual_mac {
            to = self.silent_macs(u).into_iter().map(Some).collect();
        }
        // The kernel of a peer that was silent since we started has to be asked too, at an unknown address.
        let unknown = self.never_heard(u).is_some() && !self.instance(u).virtual_mac;
        if unknown || self.instance(u).on_conflict == OnConflict::Refuse {
            to.push(None);
        }
        for (family, addr, source) in vips {
            for mac in &to {
                let virtual_other = self.instance(u).virtual_mac
                    && *mac != Some(Mac::virtual_router(family, self.instance(u).vrid));
                if virtual_other && mac.is_some() {
                    continue;
                }
                self.push(Output::Probe(Probe { link, addr, to: *mac, from, source }));
            }
        }
    }

    /// One address of each family, with the source for the question.
    fn stale_questions(&self, u: UnitIx) -> Vec<(Family, IpAddr, Option<IpAddr>)> {
        let state = &self.links[usize::from(self.units[u].link.0)].state;
        let link_local = state
            .addrs
            .iter()
            .copied()
            .find(|a| matches!(a, IpAddr::V6(v6) if v6.is_unicast_link_local()));
        let mut questions = Vec::new();
        for family in Family::ALL {
            let Some(vip) = self.unit_vips(u).find(|v| v.family() == family) else { continue };
            match family {
                Family::V4 => questions.push((family, vip.addr, None)),
                Family::V6 if link_local.is_some() => {
                    questions.push((family, vip.addr, link_local))
                }
                Family::V6 => {}
            }
        }
        questions
    }

    /// The kernel of a silent peer answered for the address.
    pub(super) fn stale_answer(&mut self, u: UnitIx, host: HostIx) {
        let now = self.now.mono;
        let unit = &mut self.units[u];
        unit.stale.answer = Some((host, now));
        // Its answer crossed our claim: the last question was asked at the deadline itself.
        let crossed = unit.is_active()
            && matches!(unit.cause, super::io::Cause::Silence(_))
            && now.since(unit.since) < ASK_EVERY * 2;
        if crossed {
            self.stand_back(u, super::io::Cause::Silence(now.since(self.units[u].since)), None);
            self.units[u].stale.waiting = Some((now, 0));
            self.units[u].stale.answer = Some((host, now));
            self.alarm(Some(self.units[u].instance), Alarm::StaleHolder(host), true);
            self.units[u].vr.ask_again(now + ASK_EVERY);
        }
    }

    /// The timer ran out by silence. `Some`: ask again then; `None`: claim.
    pub(super) fn stale_holder_forbids(&mut self, u: UnitIx) -> Option<Instant> {
        let now = self.now.mono;
        if let Some(at) = self.units[u].stale.conflict_at
            && self.instance(u).on_conflict == OnConflict::Refuse
            && now.since(at) < CONFLICT_FRESH
        {
            self.ask_stale_holders(u);
            return Some(now + self.units[u].interval().max(ASK_EVERY));
        }
        if !self.waits_for_stale_holders(u) {
            return None;
        }
        let stale = &self.units[u].stale;
        let (since, silences) = match stale.waiting {
            None => match stale.answer {
                Some((host, at)) if at >= self.units[u].vr.deadline().before(self.lead(u)) => {
                    self.alarm(Some(self.units[u].instance), Alarm::StaleHolder(host), true);
                    (now, 0)
                }
                // Woken late, it asked only now: no answer can be there yet.
                _ if now.since(stale.first_asked) < ROUND_TRIP => (now, 0),
                _ => {
                    // The last question goes out with the claim.
                    self.ask_stale_holders(u);
                    return None;
                }
            },
            Some((since, silences)) => {
                let answer = stale.answer.filter(|(_, at)| *at >= stale.last_asked);
                if let Some((host, _)) = answer {
                    self.alarm(Some(self.units[u].instance), Alarm::StaleHolder(host), true);
                }
                (since, if answer.is_some() { 0 } else { silences.saturating_add(1) })
            }
        };
        // The others wait at the same pace: the best one claims first.
        let enough = if self.first_in_line(u) { SILENCES } else { SILENCES * 2 };
        if silences >= enough || now >= self.stale_limit(u, since) {
            return None;
        }
        self.units[u].stale.waiting = Some((since, silences));
        self.ask_stale_holders(u);
        Some(now + ASK_EVERY)
    }

    /// The longest wait: nothing renewed the lease after the silence began.
    fn stale_limit(&self, u: UnitIx, since: Instant) -> Instant {
        let interval = self.units[u].vr.active_interval();
        let lease = self.instance(u).lease_secs(interval).unwrap_or(0);
        since + Duration::from_secs(u64::from(lease)) + KERNEL_LATE
    }

    /// Claimed, or the owner was heard.
    pub(super) fn stale_wait_over(&mut self, u: UnitIx) {
        if self.units[u].stale.waiting.take().is_some() {
            let instance = self.units[u].instance;
            self.clear_alarms(instance, |a| matches!(a, Alarm::StaleHolder(_)));
        }
    }

    /// How long a holder that stopped advertising may still serve the address: M, its lease, the kernel.
    pub(super) fn holder_gone_after(&self, u: UnitIx) -> Duration {
        let unit = &self.units[u];
        let interval = unit.vr.active_interval();
        let lease = self.instance(u).lease_secs(interval).unwrap_or(0);
        let params = unit.vr.params();
        timing::active_down(params.version, params.priority, interval)
            + Duration::from_secs(u64::from(lease))
            + KERNEL_LATE
    }
}
