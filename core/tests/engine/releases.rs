//! Hosts of two releases in one group: what older releases put on the wire is understood as it was meant.
//!
//! `tests/vectors/heartbeats` holds what their engines said, one file for each format and role, in the group of
//! [`beating`]: lb1 owns, lb2 stands by. A new format gets files of its own before it is released; files are never
//! changed.

use crate::bench::{Bench, beating, ip, mac, ms};
use std::net::SocketAddr;
use vipd_core::engine::io::{HeartbeatIn, Input};
use vipd_core::time::Duration;
use vipd_core::types::{Class, HostIx, PathIx, State};

const OWNERS: [(u8, &str); 2] = [
    (1, include_str!("../vectors/heartbeats/format-1-owner.hex")),
    (2, include_str!("../vectors/heartbeats/format-2-owner.hex")),
];
const BACKUPS: [(u8, &str); 2] = [
    (1, include_str!("../vectors/heartbeats/format-1-backup.hex")),
    (2, include_str!("../vectors/heartbeats/format-2-backup.hex")),
];

fn octets(hex: &str) -> Vec<u8> {
    let hex = hex.trim();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Host `n` said this on the first path.
fn says(bench: &mut Bench, n: u8, payload: &[u8]) {
    let src = SocketAddr::new(ip(&format!("192.0.2.1{n}")), 7112);
    bench.give(Input::Heartbeat(HeartbeatIn {
        path: PathIx(0),
        src,
        payload,
        age: Duration::ZERO,
    }));
}

#[test]
fn an_owner_of_an_older_release_is_known_and_replaced_in_time() {
    for (format, hex) in OWNERS {
        let payload = octets(hex);
        assert_eq!(payload[4], format, "the format of the sender");
        let mut lb2 = Bench::up(&beating(""), 2);
        lb2.hear(1, 150);
        says(&mut lb2, 1, &payload);
        let peers = lb2.snapshot().peers;
        assert!(peers[0].alive && peers[0].version == "0.1.0", "{peers:?}");
        let unit = lb2.unit();
        assert_eq!((unit.state, unit.owner_host), (State::Backup, Some(HostIx(0))));
        let best = &unit.why.order[0];
        assert_eq!(
            (best.host, best.state, best.class, best.priority),
            (HostIx(0), Some(State::Active), Class::Healthy, 150)
        );
        // It falls silent: its kernel is asked by the hardware address that it told, and then this host claims.
        lb2.run(ms(3605));
        assert_eq!(lb2.state(), State::Backup);
        let asked: Vec<_> = lb2.probes().into_iter().filter_map(|(_, p)| p.to).collect();
        assert!(asked.contains(&mac(1)), "{asked:?}");
        lb2.run(ms(10));
        assert_eq!(lb2.state(), State::Active);
    }
}

#[test]
fn a_backup_of_an_older_release_is_counted_on() {
    for (format, hex) in BACKUPS {
        let mut lb1 = Bench::owner(&beating(""), 1);
        assert_eq!(lb1.unit().redundant, Some(false));
        says(&mut lb1, 2, &octets(hex));
        let unit = lb1.unit();
        assert_eq!(unit.redundant, Some(true), "format {format}");
        assert_eq!(unit.why.successor.map(|next| next.host), Some(HostIx(1)));
    }
}
