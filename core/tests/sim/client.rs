//! The neighbour on the service segment: gateway of the hosts, client of the address.
//!
//! Its neighbour cache decides where packets go: what it holds in the end must be the owner's MAC.

use std::collections::BTreeMap;
use std::net::IpAddr;
use vipd_core::types::Mac;

/// The one machine on the segment that is not of the group.
#[derive(Default)]
pub(crate) struct Client {
    cache: BTreeMap<IpAddr, Mac>,
    /// Addresses that it has asked for and would create an entry for.
    asked: Vec<IpAddr>,
}

impl Client {
    /// The client is about to ask the whole segment who has `addr`.
    pub(crate) fn ask(&mut self, addr: IpAddr) {
        if !self.asked.contains(&addr) {
            self.asked.push(addr);
        }
    }

    /// An answer: the last one wins, as in Linux outside its lock time.
    pub(crate) fn answer(&mut self, addr: IpAddr, mac: Mac) {
        if self.asked.contains(&addr) {
            self.cache.insert(addr, mac);
        }
    }

    /// Gratuitous ARP or unsolicited NA: updates an entry, creates none (arp_accept = 0).
    pub(crate) fn announcement(&mut self, addr: IpAddr, mac: Mac) {
        if let Some(entry) = self.cache.get_mut(&addr) {
            *entry = mac;
        }
    }

    /// Where packets to `addr` go.
    pub(crate) fn entry(&self, addr: IpAddr) -> Option<Mac> {
        self.cache.get(&addr).copied()
    }
}
