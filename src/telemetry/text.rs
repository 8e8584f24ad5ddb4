//! Events as sentences: one line per transition, its cause first (DESIGN 5.15).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use tracing::Level;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{
    Alarm, Cause, Event, EventKind, OperationStep, StandingReason, Verdict,
};
use vipd_core::engine::reload::Renumber;
use vipd_core::time::Duration;
use vipd_core::types::{CheckIx, Family, HostIx, InstanceIx, State};

/// Code of the alarm that stands while the configuration file cannot be used. It is the agent's, not the engine's.
pub const CONFIG_NOT_USED: &str = "config-not-used";

/// A length of time as people say it: `3.61 s`, `20 ms`, `140 us`.
pub fn seconds(d: Duration) -> String {
    if d >= Duration::from_secs(100) {
        format!("{:.0} s", d.as_secs_f64())
    } else if d >= Duration::from_secs(1) {
        format!("{:.2} s", d.as_secs_f64())
    } else if d >= Duration::from_millis(1) {
        format!("{:.0} ms", d.as_secs_f64() * 1e3)
    } else {
        format!("{:.0} us", d.as_secs_f64() * 1e6)
    }
}

/// Why a virtual router changed state.
pub fn cause_text(model: &Model, cause: &Cause) -> String {
    let name = |host: &HostIx| host_name(model, *host);
    match cause {
        Cause::Startup => "the agent started".into(),
        Cause::Adopted => "went on with the addresses that the last run of the agent held".into(),
        Cause::Silence(d) => format!("no advert for {}", seconds(*d)),
        Cause::Released => "the owner released the address (priority 0)".into(),
        Cause::Preempts(theirs) => format!("preempts an owner of priority {theirs}"),
        Cause::Outranked(theirs) => format!("outranked by priority {theirs}"),
        Cause::TieBreak => "same priority, the peer has the higher address".into(),
        Cause::PeerUnable(host) => format!("{} said that it cannot own", name(host)),
        Cause::Settled(host) => format!("two owners, settled over heartbeats with {}", name(host)),
        Cause::SyncGroup => "a member of the sync group moved".into(),
        Cause::LinkDown => "the interface is down, without carrier or gone".into(),
        Cause::LinkUp => "the interface is usable".into(),
        Cause::NoSource => "the interface has no address to send adverts from".into(),
        Cause::Overslept(d) => format!("the agent stood still for {}", seconds(*d)),
        Cause::LeaseEnded => "the kernel dropped the address at the end of its lease".into(),
        Cause::KernelFault => "the kernel could not hold the address".into(),
        Cause::Stop => "clean stop".into(),
        Cause::Isolated => "asked by the peer that reaches the service segment".into(),
        Cause::CheckFailed(check) => format!("check {} fails", check_name(model, *check)),
        Cause::Offered(host) => format!("{} let go: this host is fitter", name(host)),
        Cause::NobodyCame => "offered the address, and nobody came".into(),
        Cause::Promoted => "promoted by an operator".into(),
        Cause::MovedHere(host) => format!("planned move from {}", name(host)),
        Cause::MovedAway(Some(host)) => format!("planned move to {}", name(host)),
        Cause::MovedAway(None) => "released by an operator to whoever came".into(),
        Cause::Drained => "an operator drained this host".into(),
        Cause::Reload => "the configuration changed".into(),
    }
}

/// The name of a cause for programs: metrics, the journal.
pub fn cause_code(cause: &Cause) -> &'static str {
    match cause {
        Cause::Startup => "startup",
        Cause::Adopted => "adopted",
        Cause::Silence(_) => "silence",
        Cause::Released => "released",
        Cause::Preempts(_) => "preempts",
        Cause::Outranked(_) => "outranked",
        Cause::TieBreak => "tie-break",
        Cause::PeerUnable(_) => "peer-unable",
        Cause::Settled(_) => "settled",
        Cause::SyncGroup => "sync-group",
        Cause::LinkDown => "link-down",
        Cause::LinkUp => "link-up",
        Cause::NoSource => "no-source",
        Cause::Overslept(_) => "overslept",
        Cause::LeaseEnded => "lease-ended",
        Cause::KernelFault => "kernel-fault",
        Cause::Stop => "stop",
        Cause::Isolated => "isolated",
        Cause::CheckFailed(_) => "check-failed",
        Cause::Offered(_) => "offered",
        Cause::NobodyCame => "nobody-came",
        Cause::Promoted => "promoted",
        Cause::MovedHere(_) => "moved-here",
        Cause::MovedAway(_) => "moved-away",
        Cause::Drained => "drained",
        Cause::Reload => "reload",
    }
}

/// A condition to look at, with what it means.
pub fn alarm_text(model: &Model, alarm: &Alarm) -> String {
    let name = |host: &HostIx| host_name(model, *host);
    match alarm {
        Alarm::AdvertPathBroken(host) => format!(
            "adverts of {} do not arrive, its heartbeats do: multicast, protocol 112 or a snooping switch in the way",
            name(host)
        ),
        Alarm::DualActive(addr) => format!("two owners: {addr} advertises as well"),
        Alarm::Conflict(addr, mac) => {
            format!("{addr} is in use by {mac}, which is not of this group")
        }
        Alarm::DuplicateVrid(addr) => {
            format!(
                "{addr} uses this VRID for other addresses: give one of the two groups another VRID"
            )
        }
        Alarm::StaleHolder(host) => {
            format!(
                "the agent of {} is silent, but its kernel still serves the address",
                name(host)
            )
        }
        Alarm::DeafPeer(addr) => {
            format!("{addr} keeps advertising with a lower priority: it does not hear us")
        }
        Alarm::ConfigMismatch(host) => format!("{} runs with another configuration", name(host)),
        Alarm::DuplicateOwner(addr) => {
            format!("{addr} claims priority 255 as well: only the real owner of the address may")
        }
        Alarm::AddressFight => "somebody on this host keeps removing the address".into(),
        Alarm::FamilyDegraded(family) => format!("{family} has no source address on the interface"),
        Alarm::BootCounterBehind(host) => {
            format!(
                "{} came back with a boot counter already seen: was its state folder lost?",
                name(host)
            )
        }
        Alarm::Held => {
            "too many moves: held until `vipd ack` or a quiet hour; a dead owner is still replaced"
                .into()
        }
        Alarm::Suppressed => {
            "lost the address too often: this host is second choice for a while".into()
        }
        Alarm::CheckUnknown(check) => {
            format!("check {} cannot be run", check_name(model, *check))
        }
        Alarm::NoStandby => "nobody would take over by himself".into(),
        Alarm::ActivationFailed => "the activation of this standby failed".into(),
        Alarm::Drained => "this host is drained: it claims nothing until `vipd undrain`".into(),
        Alarm::Frozen => {
            "frozen in the whole group: no preemption and no voluntary move until `vipd thaw`"
                .into()
        }
        Alarm::ReplicaStale => {
            "the copy of the state here is old or unknown: second choice, or no claim at all with gate \"require\"; does \
             the replicator run, here and on the owner?"
                .into()
        }
        Alarm::StateUnwritable => {
            "the state folder takes no reservation of epochs: after a power cut only the peers remember them; make it \
             writable"
                .into()
        }
        Alarm::NotBrought(host, why) => format!(
            "{} is stronger and waits for the address: {why}; tried again by itself, by `vipd ack` at once, and `vipd move \
             --force` goes without what is missing there",
            name(host)
        ),
    }
}

/// The name of an alarm for programs: metrics, `status --json`, exit codes.
pub fn alarm_code(alarm: &Alarm) -> &'static str {
    match alarm {
        Alarm::AdvertPathBroken(_) => "advert-path-broken",
        Alarm::DualActive(_) => "dual-active",
        Alarm::Conflict(..) => "conflict",
        Alarm::DuplicateVrid(_) => "duplicate-vrid",
        Alarm::StaleHolder(_) => "stale-holder",
        Alarm::DeafPeer(_) => "deaf-peer",
        Alarm::ConfigMismatch(_) => "config-mismatch",
        Alarm::DuplicateOwner(_) => "duplicate-owner",
        Alarm::AddressFight => "address-fight",
        Alarm::FamilyDegraded(_) => "family-degraded",
        Alarm::BootCounterBehind(_) => "boot-counter-behind",
        Alarm::Held => "held",
        Alarm::Suppressed => "suppressed",
        Alarm::CheckUnknown(_) => "check-unknown",
        Alarm::NoStandby => "no-standby",
        Alarm::ActivationFailed => "activation-failed",
        Alarm::Drained => "drained",
        Alarm::Frozen => "frozen",
        Alarm::ReplicaStale => "replica-stale",
        Alarm::StateUnwritable => "state-unwritable",
        Alarm::NotBrought(..) => "not-brought",
    }
}

/// The name of `check`; its number when the model is younger than the event.
pub fn check_name(model: &Model, check: CheckIx) -> String {
    let check_at = model.checks.get(usize::from(check.0));
    check_at.map_or_else(|| format!("#{}", check.0), |c| c.name.to_string())
}

/// What a check said, for programs.
pub const fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
        Verdict::Unknown => "unknown",
    }
}

/// What a check said.
fn verdict_text(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "passes",
        Verdict::Warn => "warns",
        Verdict::Fail => "fails",
        Verdict::Unknown => "is unknown",
    }
}

/// Why class or effective priority changed.
pub fn reason_text(model: &Model, reason: &StandingReason) -> String {
    match reason {
        StandingReason::Check(check, verdict) => {
            format!("check {} {}", check_name(model, *check), verdict_text(*verdict))
        }
        StandingReason::Suppressed { penalty } => format!("suppressed, penalty {penalty}"),
        StandingReason::Reused => "no longer suppressed".into(),
        StandingReason::Held => "held: the move budget is spent".into(),
        StandingReason::HoldOver => "no longer held".into(),
        StandingReason::Settled => "the checks had their first word".into(),
        StandingReason::Drained => "an operator drained this host".into(),
        StandingReason::Undrained => "no longer drained".into(),
        StandingReason::Replica(true) => "the copy of its state is old or unknown".into(),
        StandingReason::Replica(false) => "the copy of its state is good again".into(),
        StandingReason::PriorityOrdered => "an operator's word on the priority".into(),
        StandingReason::Reload => "the configuration changed".into(),
    }
}

/// The name of `host`; its number when the model is younger than the event.
pub fn host_name(model: &Model, host: HostIx) -> String {
    model
        .hosts
        .get(usize::from(host.0))
        .map_or_else(|| format!("host {}", host.0), |h| h.name.to_string())
}

/// The name of an operation: the start of the agent that began it, and its number in that run.
pub fn operation_name(id: u64) -> String {
    format!("{}-{}", id >> 32, id & u64::from(u32::MAX))
}

/// One line of an ordered operation.
fn operation(id: u64, step: &OperationStep) -> (Level, String) {
    let id = operation_name(id);
    match step {
        OperationStep::Started => (Level::INFO, format!("operation {id} started")),
        OperationStep::Progress(text) => (Level::INFO, format!("operation {id}: {text}")),
        OperationStep::Done(text) => (Level::INFO, format!("operation {id} done: {text}")),
        OperationStep::Aborted(text) => (Level::WARN, format!("operation {id} aborted: {text}")),
    }
}

/// Tells events; remembers who owned what, which an event does not carry.
#[derive(Debug)]
pub(super) struct Narrator {
    model: Arc<Model>,
    owners: HashMap<(InstanceIx, Option<Family>), IpAddr>,
}

impl Narrator {
    /// For the instances and hosts of `model`.
    pub(super) fn new(model: Arc<Model>) -> Self {
        Self { model, owners: HashMap::new() }
    }

    /// For another configuration; owners are still known.
    pub(super) fn reload(&mut self, model: Arc<Model>, renumber: &Renumber) {
        let owners = std::mem::take(&mut self.owners).into_iter();
        self.owners = owners
            .filter_map(|((ix, family), owner)| Some(((renumber.instance(ix)?, family), owner)))
            .collect();
        self.model = model;
    }

    /// `event` as severity and one line.
    pub(super) fn tell(&mut self, event: &Event) -> (Level, String) {
        let subject = self.subject(event);
        let (level, text) = match &event.kind {
            EventKind::Transition { from, to, cause, owner, priority, epoch } => {
                let was =
                    event.instance.and_then(|ix| self.remember(ix, event.family, *to, *owner));
                let cause_text = cause_text(&self.model, cause);
                let mut text = if from == to {
                    format!("cannot take part on {}: {cause_text}", self.interface(event))
                } else {
                    format!("{from} -> {to}, cause: {cause_text}")
                };
                match (to, owner, was) {
                    (State::Active, _, Some(was)) => text.push_str(&format!(", owner was {was}")),
                    (State::Backup, Some(owner), _) => {
                        text.push_str(&format!(", owner is {owner}"))
                    }
                    _ => {}
                }
                text.push_str(&format!(", priority {priority}"));
                if *to == State::Active {
                    text.push_str(&format!(", epoch {epoch}"));
                }
                let fault = matches!(cause, Cause::KernelFault | Cause::LinkDown | Cause::NoSource);
                (if fault { Level::WARN } else { Level::INFO }, text)
            }
            EventKind::Claimed { took, addresses } => (
                Level::INFO,
                format!(
                    "claimed {} in {}",
                    count(*addresses, "address", "addresses"),
                    seconds(*took)
                ),
            ),
            EventKind::Released => (Level::INFO, "released".into()),
            EventKind::KernelFailed(fault) => (Level::ERROR, fault.to_string()),
            EventKind::Repaired(vip) => {
                (Level::WARN, format!("{vip} was removed by somebody; put back"))
            }
            EventKind::Refused { src, reason, suppressed } => {
                let more = if *suppressed > 0 {
                    format!(" (and {suppressed} before)")
                } else {
                    String::new()
                };
                // The one reason whose remedy its name does not tell.
                let fix = match *reason {
                    "heartbeat-bad-tag" => {
                        ": made with another cluster key or cluster name, or spoofed; compare key file and [cluster] \
                         of both hosts"
                    }
                    _ => "",
                };
                (Level::WARN, format!("refused a datagram of {src}: {reason}{fix}{more}"))
            }
            EventKind::Peer { host, alive } => {
                let host = host_name(&self.model, *host);
                if *alive {
                    (Level::INFO, format!("peer {host} is heard"))
                } else {
                    (Level::WARN, format!("peer {host} is silent on all paths"))
                }
            }
            EventKind::Boot { counter, told_by } => (
                Level::WARN,
                format!(
                    "{} remembers a later start of this host: the boot counter goes on at {counter}",
                    host_name(&self.model, *told_by)
                ),
            ),
            EventKind::Check { check, from: _, to, detail } => {
                let level = if *to == Verdict::Pass { Level::INFO } else { Level::WARN };
                let name = check_name(&self.model, *check);
                (level, format!("check {name} {}: {detail}", verdict_text(*to)))
            }
            EventKind::Standing { class, priority, reason } => {
                let reason = reason_text(&self.model, reason);
                (Level::INFO, format!("{class}, effective priority {priority}, cause: {reason}"))
            }
            EventKind::Remember(_) => (Level::DEBUG, "stored for the next start".into()),
            EventKind::Role(role) => {
                let owner = role.owner.map_or_else(
                    || "an unknown host".to_owned(),
                    |host| host_name(&self.model, host),
                );
                (Level::DEBUG, format!("{owner} owns, epoch {}", role.epoch))
            }
            EventKind::Unsynced(why) => (
                Level::WARN,
                format!("lets go, and what was written here last is on no other host: {why}"),
            ),
            EventKind::Vetoed(why) => (Level::WARN, format!("does not take over: {why}")),
            EventKind::Operation { id, step } => operation(*id, step),
            EventKind::Alarm(alarm, true) => {
                (Level::WARN, format!("alarm: {}", alarm_text(&self.model, alarm)))
            }
            EventKind::Alarm(alarm, false) => {
                (Level::INFO, format!("over: {}", alarm_text(&self.model, alarm)))
            }
        };
        (level, format!("{subject}{text}"))
    }

    /// What counts as a repeat of `event`: the same thing about the same instance, whatever the figures.
    pub(super) fn kind(event: &Event) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        (event.instance, event.family, std::mem::discriminant(&event.kind)).hash(&mut hasher);
        match &event.kind {
            EventKind::Transition { from, to, cause, .. } => {
                (from, to, std::mem::discriminant(cause)).hash(&mut hasher);
            }
            EventKind::KernelFailed(fault) => std::mem::discriminant(fault).hash(&mut hasher),
            EventKind::Repaired(vip) => vip.hash(&mut hasher),
            EventKind::Refused { src, reason, .. } => (src, reason).hash(&mut hasher),
            EventKind::Peer { host, alive } => (host, alive).hash(&mut hasher),
            EventKind::Alarm(alarm, on) => (alarm, on).hash(&mut hasher),
            EventKind::Check { check, to, .. } => {
                (check, std::mem::discriminant(to)).hash(&mut hasher);
            }
            EventKind::Claimed { .. }
            | EventKind::Released
            | EventKind::Boot { .. }
            | EventKind::Standing { .. }
            | EventKind::Role(_)
            | EventKind::Unsynced(_)
            | EventKind::Vetoed(_)
            | EventKind::Remember(_) => {}
            // Each is another one.
            EventKind::Operation { id, step } => {
                (id, std::mem::discriminant(step)).hash(&mut hasher)
            }
        }
        hasher.finish()
    }

    /// The service interface of the instance that `event` is about.
    fn interface(&self, event: &Event) -> &str {
        let instance = event.instance.and_then(|ix| self.model.instances.get(usize::from(ix.0)));
        let link = instance.and_then(|i| self.model.links.get(usize::from(i.link.0)));
        link.map_or("its interface", |l| &l.name)
    }

    fn subject(&self, event: &Event) -> String {
        let Some(ix) = event.instance else { return String::new() };
        let Some(instance) = self.model.instances.get(usize::from(ix.0)) else {
            return format!("instance {}: ", ix.0);
        };
        // The family says something only where there are two.
        match event.family {
            Some(family) if instance.families().count() > 1 => {
                format!("{}/{family}: ", instance.name)
            }
            _ => format!("{}: ", instance.name),
        }
    }

    /// Notes the owner after a transition; gives the one before.
    fn remember(
        &mut self,
        instance: InstanceIx,
        family: Option<Family>,
        to: State,
        owner: Option<IpAddr>,
    ) -> Option<IpAddr> {
        let key = (instance, family);
        match owner {
            // As active, the owner is this host: what counts later is who it was before.
            Some(owner) if to != State::Active => self.owners.insert(key, owner),
            _ if to == State::Active => self.owners.remove(&key),
            _ => self.owners.get(&key).copied(),
        }
    }
}

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests;
