//! Would a promotion succeed? A claim of an operator advertises 254 (DESIGN 5.6), and some owners do not yield to that:
//! tried all the same it would put a second owner beside the first for a moment, and end as it began.
//!
//! Asked by the judge of orders. It must never change anything.

use super::fitness::PIN;
use super::{Engine, UnitIx};
use crate::types::{HostIx, InstanceIx};
use std::net::IpAddr;

impl Engine {
    /// Why an owner that is known now would not yield if an operator promoted this host, and what to do about it;
    /// `None`: nothing is known against it. What moves together is looked at together.
    pub(super) fn promotion_refused(&self, instance: InstanceIx) -> Option<String> {
        let units = self.by_instance.get(usize::from(instance.0))?;
        let mut members = units.iter().flat_map(|u| self.others(*u).chain([*u]));
        members.find_map(|u| self.stays_against_promotion(u))
    }

    fn stays_against_promotion(&self, u: UnitIx) -> Option<String> {
        let unit = &self.units[u];
        if unit.is_active() {
            return None;
        }
        let now = self.now.mono;
        let heard = unit.vr.heard().filter(|h| now.since(h.at) < h.interval.duration() * 3);
        // Where its adverts are lost, its heartbeats tell.
        let told = self.living_owner(u).and_then(|host| {
            let record = self.record(host, u)?;
            Some((self.peer_addr(host, record.link, unit.voices[0].family)?, record.priority))
        });
        heard.map(|h| (h.src, h.priority)).into_iter().chain(told).find_map(|(src, priority)| {
            let stronger_address = unit.source().is_some_and(|own| src > own);
            let mine = if self.instance(u).priority.is_owner() { u8::MAX } else { PIN };
            let owner = self.owner_name(src);
            let name = &self.instance(u).name;
            match priority {
                u8::MAX if mine < u8::MAX => Some(format!(
                    "{owner} owns {name} with priority 255 and yields to nobody: stop vipd there, or give it a lower priority"
                )),
                u8::MAX if stronger_address => Some(format!(
                    "{owner} owns {name} with priority 255 as well and has the higher address: only one host may have 255"
                )),
                PIN if mine == PIN && stronger_address && self.may_be_its_own(u, src) => Some(format!(
                    "{owner} owns {name} with priority 254, as a promotion does, and has the higher address: give it a lower priority"
                )),
                _ => None,
            }
        })
    }

    /// May 254 be the priority that this owner is configured with? If it is that of a promotion, the newer one wins.
    fn may_be_its_own(&self, u: UnitIx, owner: IpAddr) -> bool {
        let priorities = &self.instance(u).priorities;
        let configured = |host: HostIx| {
            priorities.get(usize::from(host.0)).copied().flatten().is_some_and(|p| p.get() == PIN)
        };
        match (self.host_of(owner), &self.peers) {
            (Some(host), _) => configured(host),
            // Not of the group: it knows no promotions.
            (None, Some(_)) => true,
            (None, None) => {
                let all = (0u8..).map(HostIx).take(priorities.len());
                all.filter(|host| *host != self.model.host).any(configured)
            }
        }
    }

    fn owner_name(&self, addr: IpAddr) -> String {
        match self.host_of(addr) {
            Some(host) => self.model.host_name(host).to_string(),
            None => addr.to_string(),
        }
    }
}
