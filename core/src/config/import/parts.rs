//! The addresses of a `vrrp_instance` by interface and family: each of them becomes an instance of vipd.
//!
//! Called by `complete`. keepalived claims addresses of other interfaces and of the other family along with those that
//! it advertises; an instance of vipd has one interface, and advertises each family that it has.

use super::address::Address;
use super::instance::Written;
use super::report::Notes;
use super::text;

/// Most addresses of an advert.
const ADVERTISED_MAX: usize = 255;
/// The same for IPv6, with room for a trailer.
const ADVERTISED_V6_MAX: usize = 89;

/// Addresses of one interface and family.
pub(super) struct Part {
    /// Of its instance.
    pub(super) name: String,
    pub(super) interface: String,
    pub(super) is_v4: bool,
    pub(super) addresses: Vec<Address>,
    pub(super) unadvertised: Vec<Address>,
}

/// The addresses of `it` by interface and family; those of the advert first.
///
/// The first one bears `name`, others names made from it that are not `taken`.
pub(super) fn split(
    it: &Written<'_>,
    interface: &str,
    name: &str,
    taken: impl Fn(&str) -> bool,
    notes: &mut Notes,
) -> Vec<Part> {
    let advertised = it.addresses.iter().map(|a| (true, a));
    let excluded = it.excluded.iter().map(|a| (false, a));
    // The first address says which family the instance has.
    let main_v4 =
        it.addresses.first().or_else(|| it.excluded.first()).is_none_or(|(_, a)| a.addr.is_ipv4());
    let mut parts = vec![Part {
        name: String::new(),
        interface: interface.to_owned(),
        is_v4: main_v4,
        addresses: Vec::new(),
        unadvertised: Vec::new(),
    }];
    for (is_advertised, (line, address)) in advertised.chain(excluded) {
        let device = address.dev.as_deref().unwrap_or(interface);
        let is_v4 = address.addr.is_ipv4();
        let most = if is_v4 { ADVERTISED_MAX } else { ADVERTISED_V6_MAX };
        let at = parts
            .iter()
            .position(|p| p.interface == device && p.is_v4 == is_v4)
            .unwrap_or_else(|| {
                let interface = device.to_owned();
                parts.push(Part {
                    name: String::new(),
                    interface,
                    is_v4,
                    addresses: Vec::new(),
                    unadvertised: Vec::new(),
                });
                parts.len() - 1
            });
        let part = &mut parts[at];
        let all = part.addresses.iter().chain(&part.unadvertised);
        if all.clone().any(|other| other.addr == address.addr) {
            continue;
        }
        // A part that keepalived does not advertise advertises itself.
        let full = part.addresses.len() >= most;
        if full && is_advertised {
            notes.approximated(line, "unadvertised: the advert is full");
        }
        if (is_advertised || at > 0) && !full {
            part.addresses.push(address.clone());
        } else {
            part.unadvertised.push(address.clone());
        }
    }
    if parts[0].addresses.is_empty() {
        // All of them elsewhere, or excluded.
        let first = &mut parts[0];
        first.addresses = std::mem::take(&mut first.unadvertised);
        if first.addresses.is_empty() {
            parts.remove(0);
        }
        notes.approximated(it.node, "an instance of vipd advertises its addresses");
    }
    for at in 0..parts.len() {
        let wanted = match (at, &parts[at]) {
            (0, _) => name.to_owned(),
            (_, part) if part.interface == interface => format!("{name}-{}", family(part.is_v4)),
            // One instance on that interface, or one for each family.
            (_, part) if parts[..at].iter().any(|p| p.interface == part.interface) => {
                format!("{name}-{}-{}", part.interface, family(part.is_v4))
            }
            (_, part) => format!("{name}-{}", part.interface),
        };
        parts[at].name = text::unused(&text::name(&wanted), |n| {
            parts.iter().any(|part| part.name == n) || (at > 0 && taken(n))
        });
    }
    parts
}

fn family(is_v4: bool) -> &'static str {
    if is_v4 { "ipv4" } else { "ipv6" }
}

/// Says what became of the addresses of a part that is not the first one.
pub(super) fn tell_satellite(it: &Written<'_>, part: &Part, notes: &mut Notes) {
    let name = &part.name;
    let all = part.addresses.iter().chain(&part.unadvertised);
    let of_part: Vec<_> = all.map(|a| a.addr).collect();
    for (line, address) in it.addresses.iter().chain(&it.excluded) {
        if of_part.contains(&address.addr) {
            let where_ = if part.is_v4 { "IPv4" } else { "IPv6" };
            notes.approximated(line, format!(
                "[instance.{name}]: on {} and for {where_} it advertises by itself, and moves with {}; \
                 the interface needs an address of its own in that family",
                part.interface, it.node.arg()
            ));
        }
    }
    notes.beside(format!(
        "[instance.{name}] has addresses that keepalived does not advertise: leave that section and the sync group out \
         until the last host of the group runs vipd"
    ));
}
