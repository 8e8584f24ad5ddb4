//! Positions in one model -> positions of the same things, by name, in another.
//!
//! Made at a reload; used by the engine for what it carries over, and by the runtime for what it keeps beside it.

use super::super::io::{Alarm, Cause, StandingReason};
use crate::config::model::Model;
use crate::types::{CheckIx, HostIx, InstanceIx, LinkIx, SetIx};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where things of one model are in another; what is not there any more has no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renumber {
    instances: Vec<Option<usize>>,
    links: Vec<Option<usize>>,
    checks: Vec<Option<usize>>,
    hosts: Vec<Option<usize>>,
    sets: Vec<Option<usize>>,
}

impl Renumber {
    /// From `old` to `new`.
    pub fn between(old: &Model, new: &Model) -> Self {
        Self {
            instances: places(&old.instances, &new.instances, |i| &i.name),
            links: places(&old.links, &new.links, |l| &l.name),
            checks: places(&old.checks, &new.checks, |c| &c.name),
            hosts: places(&old.hosts, &new.hosts, |h| &h.name),
            sets: places(&old.replicates, &new.replicates, |r| &r.name),
        }
    }

    /// The instance of the same name.
    pub fn instance(&self, ix: InstanceIx) -> Option<InstanceIx> {
        place(&self.instances, usize::from(ix.0)).map(InstanceIx)
    }

    /// The interface of the same name.
    pub fn link(&self, ix: LinkIx) -> Option<LinkIx> {
        place(&self.links, usize::from(ix.0)).map(LinkIx)
    }

    /// The check of the same name.
    pub fn check(&self, ix: CheckIx) -> Option<CheckIx> {
        place(&self.checks, usize::from(ix.0)).map(CheckIx)
    }

    /// The host of the same name.
    pub fn host(&self, ix: HostIx) -> Option<HostIx> {
        place(&self.hosts, usize::from(ix.0)).map(HostIx)
    }

    /// The set of state files of the same name.
    pub fn set(&self, ix: SetIx) -> Option<SetIx> {
        place(&self.sets, usize::from(ix.0)).map(SetIx)
    }

    /// The same cause; where it speaks of what is gone, that is why: the configuration changed.
    pub fn cause(&self, cause: &Cause) -> Cause {
        let known = match cause {
            Cause::PeerUnable(host) => self.host(*host).map(Cause::PeerUnable),
            Cause::Settled(host) => self.host(*host).map(Cause::Settled),
            Cause::Offered(host) => self.host(*host).map(Cause::Offered),
            Cause::MovedHere(host) => self.host(*host).map(Cause::MovedHere),
            Cause::MovedAway(Some(host)) => self.host(*host).map(|h| Cause::MovedAway(Some(h))),
            Cause::CheckFailed(check) => self.check(*check).map(Cause::CheckFailed),
            other => Some(other.clone()),
        };
        known.unwrap_or(Cause::Reload)
    }

    /// The same alarm; `None`: it speaks of what is gone.
    pub fn alarm(&self, alarm: &Alarm) -> Option<Alarm> {
        match alarm {
            Alarm::AdvertPathBroken(host) => self.host(*host).map(Alarm::AdvertPathBroken),
            Alarm::StaleHolder(host) => self.host(*host).map(Alarm::StaleHolder),
            Alarm::ConfigMismatch(host) => self.host(*host).map(Alarm::ConfigMismatch),
            Alarm::BootCounterBehind(host) => self.host(*host).map(Alarm::BootCounterBehind),
            Alarm::NotBrought(host, why) => {
                self.host(*host).map(|host| Alarm::NotBrought(host, Arc::clone(why)))
            }
            Alarm::CheckUnknown(check) => self.check(*check).map(Alarm::CheckUnknown),
            other => Some(other.clone()),
        }
    }

    /// The same reason; `None`: it speaks of what is gone.
    pub(in crate::engine) fn reason(&self, reason: StandingReason) -> Option<StandingReason> {
        match reason {
            StandingReason::Check(check, verdict) => {
                self.check(check).map(|check| StandingReason::Check(check, verdict))
            }
            other => Some(other),
        }
    }
}

fn places<T>(old: &[T], new: &[T], name: impl Fn(&T) -> &Arc<str>) -> Vec<Option<usize>> {
    let known: BTreeMap<&Arc<str>, usize> = new.iter().map(&name).zip(0..).collect();
    old.iter().map(|o| known.get(name(o)).copied()).collect()
}

fn place<T: TryFrom<usize>>(places: &[Option<usize>], at: usize) -> Option<T> {
    places.get(at).copied().flatten().and_then(|at| T::try_from(at).ok())
}
