//! The monitor.

use crate::lab::*;
use std::sync::Arc;
use vipd_agent::kernel::{Claims, Monitor, MonitorEvent, Worker};
use vipd_core::engine::io::LinkState;
use vipd_core::time::{Duration, Instant};
use vipd_core::types::LinkIx;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// All events until nothing comes for 150 ms.
async fn settle(m: &mut Monitor) -> Vec<MonitorEvent> {
    let mut found = Vec::new();
    while let Ok(e) = tokio::time::timeout(Duration::from_millis(150), m.next()).await {
        found.push(e.unwrap());
    }
    found
}

fn last_state(events: &[MonitorEvent]) -> LinkState {
    let mut states = events.iter().filter_map(|e| match e {
        MonitorEvent::Link { state, .. } => Some(state.clone()),
        _ => None,
    });
    states.next_back().unwrap()
}

pub(crate) fn monitor_follows_the_kernel() {
    let m = model(vec![instance("web", 51, &["192.0.2.10"])]);
    ip("route add default via 192.0.2.254");
    runtime().block_on(async {
        let claims = Arc::new(Claims::open(&runtime_dir()));
        let mut monitor = Monitor::open(&m, claims).unwrap();
        let first = settle(&mut monitor).await;
        let s = last_state(&first);
        assert!(s.running && s.mtu == 1500, "{s:?}");
        assert!(s.addrs.contains(&"192.0.2.1".parse().unwrap()), "{s:?}");
        assert!(s.addrs.iter().any(|a| a.to_string().starts_with("fe80::")), "{s:?}");
        assert_eq!(s.gateways, ["192.0.2.254".parse::<std::net::IpAddr>().unwrap()]);
        assert!(first.iter().any(|e| matches!(e, MonitorEvent::Addresses { .. })));

        ip("addr add 192.0.2.77/24 dev v0");
        let e = settle(&mut monitor).await;
        assert!(
            e.iter().any(|e| matches!(e, MonitorEvent::AddressAdded { addr, .. }
                if addr.addr.to_string() == "192.0.2.77" && !addr.ours)),
            "{e:?}"
        );
        ip("addr del 192.0.2.77/24 dev v0");
        let e = settle(&mut monitor).await;
        let removed =
            MonitorEvent::AddressRemoved { link: LinkIx(0), addr: "192.0.2.77".parse().unwrap() };
        assert!(e.contains(&removed), "{e:?}");

        ip("link set v1 down");
        assert!(!last_state(&settle(&mut monitor).await).running);
        ip("link set v1 up");
        let e = settle(&mut monitor).await;
        assert!(last_state(&e).running);
        ip("link set v0 down");
        let s = last_state(&settle(&mut monitor).await);
        assert!(s.gateways.is_empty(), "routes go with the interface: {s:?}");
        ip("link set v0 address 02:00:00:00:00:77");
        let mac = last_state(&settle(&mut monitor).await).mac;
        assert_eq!(mac.to_string(), "02:00:00:00:00:77");
        let old = last_state_index(&mut monitor, "link set v0 name z").await;
        assert_eq!(old, None);
        let back = last_state_index(&mut monitor, "link set z name v0").await;
        assert!(back.is_some());
        assert_eq!(last_state_index(&mut monitor, "link del v0").await, None);
        let again = last_state_index(&mut monitor, "link add v0 type veth peer name v1").await;
        assert!(again.is_some() && again != back);

        ip("link set v0 up");
        ip("link set v1 up");
        ip("addr add 192.0.2.2/24 dev v1");
        let heard = settle(&mut monitor).await;
        // The other end speaks on its own (neighbour discovery).
        let frame = MonitorEvent::FrameSeen(LinkIx(0));
        assert!(heard.contains(&frame) || settle(&mut monitor).await.contains(&frame));
    });
}

async fn last_state_index(m: &mut Monitor, command: &str) -> Option<vipd_core::types::IfIndex> {
    ip(command);
    last_state(&settle(m).await).index
}

pub(crate) fn monitor_survives_an_overrun() {
    let m = model(vec![instance("web", 51, &["192.0.2.10"])]);
    runtime().block_on(async {
        let claims = Arc::new(Claims::open(&runtime_dir()));
        let mut monitor = Monitor::with_queue(&m, claims, 4096).unwrap();
        settle(&mut monitor).await;
        for n in 1..250 {
            ip(&format!("addr add 198.18.0.{n}/32 dev v0"));
        }
        let events = settle(&mut monitor).await;
        assert!(monitor.overruns() > 0);
        let present = events.iter().rev().find_map(|e| match e {
            MonitorEvent::Addresses { present, .. } => Some(present.len()),
            _ => None,
        });
        assert!(present.is_some_and(|n| n >= 250), "{present:?}");
        assert!(last_state(&events).addrs.len() >= 250);
    });
}

pub(crate) fn monitor_is_silent_about_our_renewals() {
    let mut i = instance("web", 51, &["192.0.2.10", "2001:db8::10"]);
    i.virtual_mac = true;
    let m = model(vec![i]);
    let dir = runtime_dir();
    let claims = Arc::new(Claims::open(&dir));
    runtime().block_on(async {
        let mut monitor = Monitor::open(&m, claims.clone()).unwrap();
        settle(&mut monitor).await;
        let mut w = Worker::new(m.clone(), &dir, claims).unwrap();
        own(&mut w, hold(0, Some(3))).unwrap();
        settle(&mut monitor).await;
        for _ in 0..3 {
            assert!(renew(&mut w, 3, Instant::MAX).failed.is_empty());
        }
        let mut events = settle(&mut monitor).await;
        // Somebody's frame may arrive at any time.
        events.retain(|e| !matches!(e, MonitorEvent::FrameSeen(_)));
        assert!(events.is_empty(), "{events:?}");
        own(&mut w, free(0)).unwrap();
        let events = settle(&mut monitor).await;
        for addr in ["192.0.2.10", "2001:db8::10"] {
            let gone =
                MonitorEvent::AddressRemoved { link: LinkIx(0), addr: addr.parse().unwrap() };
            assert!(events.contains(&gone), "reported under the service interface: {events:?}");
        }
    });
}
