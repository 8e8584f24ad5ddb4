//! Routes and rules of a `vrrp_instance`, given to the instance of vipd that they go with.
//!
//! Called by `complete`.

use super::address::Address;
use super::draft::{Keys, Side};
use super::instance::Written;
use super::parts::Part;
use super::report::Notes;
use super::route;

/// First preference of rules that have none.
const PREFERENCE: u32 = 1000;

/// Routes go with the part that has their interface and family.
pub(super) fn routes(it: &Written<'_>, parts: &[Part], side: &mut Side, notes: &mut Notes) {
    for line in &it.routes {
        let is_v6 = parts.first().is_some_and(|part| !part.is_v4);
        let Some(mut route) = route::read(line, is_v6, notes) else { continue };
        let is_v4 = route.to.addr().is_ipv4();
        let fits = |part: &&Part| {
            part.is_v4 == is_v4 && route.dev.as_ref().is_none_or(|dev| *dev == part.interface)
        };
        let on_link = |part: &&Part| {
            let all = || part.addresses.iter().chain(&part.unadvertised);
            let net = |a: &Address| a.written.parse::<ipnet::IpNet>().ok();
            route.via.is_some_and(|via| all().filter_map(net).any(|net| net.contains(&via)))
        };
        let part = parts.iter().filter(fits).find(on_link).or_else(|| parts.iter().find(fits));
        let Some(part) = part else {
            notes.dropped(line, "no address of this instance is on that interface and of that family: move it to an instance that has one");
            continue;
        };
        let claimed =
            |addr| part.addresses.iter().chain(&part.unadvertised).any(|a| a.addr == addr);
        match route.src {
            Some(src) if is_v4 && !claimed(src) => {
                route.src = None;
                notes.approximated(
                    line,
                    "route; its source must be an address of the instance: the first of them",
                );
            }
            None if is_v4 => notes.approximated(
                line,
                "route; its source is the first virtual address, so that it goes when that goes",
            ),
            _ => notes.exact(line, "route"),
        }
        let keys = route.keys();
        let slot =
            |keys: &Keys| ["to", "table", "metric"].map(|key| keys.get(key).map(str::to_owned));
        let taken =
            side.instances.iter().flat_map(|i| &i.routes).any(|other| slot(other) == slot(&keys));
        if taken {
            notes.dropped(line, "another instance has that route already: give it another metric");
            continue;
        }
        if let Some(instance) = side.instances.iter_mut().find(|i| i.name == part.name) {
            instance.routes.push(keys);
        }
    }
}

/// Rules go with the part of their family.
pub(super) fn rules(it: &Written<'_>, parts: &[Part], side: &mut Side, notes: &mut Notes) {
    for line in &it.rules {
        let is_v6 = parts.first().is_some_and(|part| !part.is_v4);
        let Some((is_v4, mut keys, written)) = route::rule(line, is_v6, notes) else { continue };
        let Some(part) = parts.iter().find(|part| part.is_v4 == is_v4) else {
            notes.dropped(line, "no address of this instance is of that family");
            continue;
        };
        let taken: Vec<String> = side
            .instances
            .iter()
            .flat_map(|i| i.rules.iter())
            .filter_map(|rule| rule.get("preference").map(str::to_owned))
            .collect();
        let free = (PREFERENCE..=32_765).map(|n| n.to_string()).find(|n| !taken.contains(n));
        let preference = written.map(|n| n.to_string()).filter(|n| !taken.contains(n));
        match (&preference, written) {
            (Some(_), _) => notes.exact(line, "rule"),
            (None, Some(_)) => {
                notes.approximated(line, "rule; its preference is taken, so it has another")
            }
            (None, None) => notes.approximated(
                line,
                "rule; without a preference the kernel chooses, vipd wants it written",
            ),
        }
        keys.set("preference", preference.or(free).unwrap_or_default());
        if let Some(instance) = side.instances.iter_mut().find(|i| i.name == part.name) {
            instance.rules.push(keys);
        }
    }
}
