//! Desired against actual addresses (DESIGN 5.8).
//!
//! Called by the engine after a dump of an interface. It never touches what is not ours: a foreign address
//! is neither missing nor stray.

use crate::engine::io::KernelAddr;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What differs between the kernel and the wish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Wanted, but not on the interface.
    pub missing: Vec<IpAddr>,
    /// Bears our tag, but is not wanted.
    pub stray: Vec<IpAddr>,
}

/// Compares the addresses wanted on one interface with those that are there.
pub fn difference(wanted: &BTreeSet<IpAddr>, present: &[KernelAddr]) -> Difference {
    let there: BTreeSet<IpAddr> = present.iter().map(|a| a.addr).collect();
    Difference {
        missing: wanted.difference(&there).copied().collect(),
        stray: present
            .iter()
            .filter(|a| a.ours && !wanted.contains(&a.addr))
            .map(|a| a.addr)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn foreign_addresses_are_left_alone() {
        let ip = |n| IpAddr::from([10, 0, 0, n]);
        let present = [(1, true), (2, false), (3, true)].map(|(n, ours)| KernelAddr {
            addr: ip(n),
            prefix_len: 32,
            ours,
            age: Duration::ZERO,
            valid_for: None,
        });
        let d = difference(&BTreeSet::from([ip(1), ip(4)]), &present);
        assert_eq!(d, Difference { missing: vec![ip(4)], stray: vec![ip(3)] });
    }
}
