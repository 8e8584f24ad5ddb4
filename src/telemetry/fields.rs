//! The fields of an event in the journal: what a program reads instead of the sentence. `docs/events.md` lists them.

use super::message;
use super::text::{alarm_code, cause_code, check_name, host_name, operation_name, verdict_word};
use std::net::IpAddr;
use tracing::Level;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{Alarm, Cause, Event, EventKind, OperationStep};
use vipd_core::types::{CheckIx, HostIx};

/// The target of lines that bear these fields: `log` writes their names as they are.
pub(super) const TARGET: &str = "vipd::event";

/// What one event says; `None`: it says nothing of that.
#[derive(Debug, Default)]
pub(super) struct Fields<'m> {
    message_id: &'static str,
    event: &'static str,
    instance: Option<&'m str>,
    vrid: Option<u64>,
    interface: Option<&'m str>,
    family: Option<String>,
    from: Option<String>,
    to: Option<String>,
    cause: Option<&'static str>,
    peer: Option<String>,
    owner: Option<String>,
    address: Option<String>,
    priority: Option<u64>,
    epoch: Option<String>,
    class: Option<String>,
    check: Option<String>,
    alarm: Option<&'static str>,
    reason: Option<&'static str>,
    operation: Option<String>,
    step: Option<&'static str>,
    set: Option<&'m str>,
    took_us: Option<u64>,
    suppressed: Option<u64>,
}

impl<'m> Fields<'m> {
    /// Of `event`. `suppressed`: how many like it were not told.
    pub(super) fn of(model: &'m Model, event: &Event, suppressed: u64) -> Self {
        let message = message::of(&event.kind);
        let instance = event.instance.and_then(|ix| model.instances.get(usize::from(ix.0)));
        let link = instance.and_then(|i| model.links.get(usize::from(i.link.0)));
        let mut fields = Self {
            message_id: message.id,
            event: message.name,
            instance: instance.map(|i| &*i.name),
            vrid: instance.map(|i| i.vrid.get().into()),
            interface: link.map(|l| &*l.name),
            family: event.family.map(|f| f.to_string()),
            suppressed: (suppressed > 0).then_some(suppressed),
            ..Self::default()
        };
        fields.fill(model, &event.kind);
        fields
    }

    /// Of something that the replicator told about `set`.
    pub(super) fn of_replica(instance: Option<&'m str>, set: &'m str, suppressed: u64) -> Self {
        let message = message::replica();
        Self {
            message_id: message.id,
            event: message.name,
            instance,
            set: Some(set),
            suppressed: (suppressed > 0).then_some(suppressed),
            ..Self::default()
        }
    }

    /// Of the alarm `code`, which is none of the engine's.
    pub(super) fn of_alarm(
        code: &'static str,
        instance: Option<&'m str>,
        set: Option<&'m str>,
        on: bool,
    ) -> Self {
        let message = message::alarm(on);
        Self {
            message_id: message.id,
            event: message.name,
            instance,
            set,
            alarm: Some(code),
            ..Self::default()
        }
    }

    fn fill(&mut self, model: &Model, kind: &EventKind) {
        match kind {
            EventKind::Transition { from, to, cause, owner, priority, epoch } => {
                self.from = Some(from.to_string());
                self.to = Some(to.to_string());
                self.cause = Some(cause_code(cause));
                self.peer = peer_of_cause(cause).map(|host| host_name(model, host));
                self.check = check_of_cause(cause).map(|check| check_name(model, check));
                self.owner = owner.map(|owner| owner.to_string());
                self.priority = Some((*priority).into());
                self.epoch = Some(epoch.to_string());
            }
            EventKind::Claimed { took, .. } => {
                self.took_us = u64::try_from(took.as_micros()).ok();
            }
            EventKind::Released
            | EventKind::KernelFailed(_)
            | EventKind::Unsynced(_)
            | EventKind::Vetoed(_)
            | EventKind::Remember(_) => {}
            EventKind::Role(role) => {
                self.owner = role.owner.map(|host| host_name(model, host));
                self.epoch = Some(role.epoch.to_string());
            }
            EventKind::Repaired(vip) => self.address = Some(vip.to_string()),
            EventKind::Refused { src, reason, .. } => {
                self.address = Some(src.to_string());
                self.reason = Some(reason);
            }
            EventKind::Peer { host, alive } => {
                self.peer = Some(host_name(model, *host));
                self.to = Some(if *alive { "heard" } else { "silent" }.to_owned());
            }
            EventKind::Boot { told_by, .. } => self.peer = Some(host_name(model, *told_by)),
            EventKind::Alarm(alarm, _) => {
                self.alarm = Some(alarm_code(alarm));
                self.peer = peer_of_alarm(alarm).map(|host| host_name(model, host));
                self.address = address_of_alarm(alarm).map(|address| address.to_string());
                if let Alarm::CheckUnknown(check) = alarm {
                    self.check = Some(check_name(model, *check));
                }
            }
            EventKind::Check { check, from, to, .. } => {
                self.check = Some(check_name(model, *check));
                self.from = from.map(|verdict| verdict_word(verdict).to_owned());
                self.to = Some(verdict_word(*to).to_owned());
            }
            EventKind::Standing { class, priority, .. } => {
                self.class = Some(class.to_string());
                self.priority = Some((*priority).into());
            }
            EventKind::Operation { id, step } => {
                self.operation = Some(operation_name(*id));
                self.step = Some(match step {
                    OperationStep::Started => "started",
                    OperationStep::Progress(_) => "progress",
                    OperationStep::Done(_) => "done",
                    OperationStep::Aborted(_) => "aborted",
                });
            }
        }
    }

    /// Writes the line `text` with these fields.
    pub(super) fn log(&self, level: Level, text: &str) {
        // The level and the fields of a line are part of its declaration.
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    target: TARGET,
                    $level,
                    message_id = self.message_id,
                    vipd_event = self.event,
                    vipd_instance = self.instance,
                    vipd_vrid = self.vrid,
                    vipd_interface = self.interface,
                    vipd_family = self.family.as_deref(),
                    vipd_from = self.from.as_deref(),
                    vipd_to = self.to.as_deref(),
                    vipd_cause = self.cause,
                    vipd_peer = self.peer.as_deref(),
                    vipd_owner = self.owner.as_deref(),
                    vipd_address = self.address.as_deref(),
                    vipd_priority = self.priority,
                    vipd_epoch = self.epoch.as_deref(),
                    vipd_class = self.class.as_deref(),
                    vipd_check = self.check.as_deref(),
                    vipd_alarm = self.alarm,
                    vipd_reason = self.reason,
                    vipd_operation = self.operation.as_deref(),
                    vipd_step = self.step,
                    vipd_set = self.set,
                    vipd_took_us = self.took_us,
                    vipd_suppressed = self.suppressed,
                    "{text}"
                )
            };
        }
        match level {
            Level::ERROR => line!(Level::ERROR),
            Level::WARN => line!(Level::WARN),
            Level::INFO => line!(Level::INFO),
            _ => line!(Level::DEBUG),
        }
    }
}

const fn peer_of_cause(cause: &Cause) -> Option<HostIx> {
    match cause {
        Cause::PeerUnable(host) | Cause::Settled(host) | Cause::Offered(host) => Some(*host),
        _ => None,
    }
}

const fn check_of_cause(cause: &Cause) -> Option<CheckIx> {
    match cause {
        Cause::CheckFailed(check) => Some(*check),
        _ => None,
    }
}

const fn peer_of_alarm(alarm: &Alarm) -> Option<HostIx> {
    match alarm {
        Alarm::AdvertPathBroken(host)
        | Alarm::StaleHolder(host)
        | Alarm::ConfigMismatch(host)
        | Alarm::BootCounterBehind(host)
        | Alarm::NotBrought(host, _) => Some(*host),
        _ => None,
    }
}

const fn address_of_alarm(alarm: &Alarm) -> Option<IpAddr> {
    match alarm {
        Alarm::DualActive(address)
        | Alarm::Conflict(address, _)
        | Alarm::DuplicateVrid(address)
        | Alarm::DeafPeer(address)
        | Alarm::DuplicateOwner(address) => Some(*address),
        _ => None,
    }
}
