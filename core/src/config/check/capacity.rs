//! Can the hosts that are left carry the whole load when one fails? By the numbers that the file gives.

use crate::config::diagnostic::Findings;
use crate::config::model::StandbyKind;
use crate::config::schema::{File, HostDecl};

pub(super) fn check(file: &File, findings: &mut Findings<'_>) {
    let load =
        file.views.iter().flatten().find_map(|decl| decl.load.as_ref().filter(|l| l.value > 0));
    let capacity = file.hosts.iter().find_map(|host| host.capacity.as_ref());
    match (load, capacity) {
        (None, None) => return,
        (Some(load), None) => {
            findings.warning(
                &load.span,
                "load has no effect: no host has a capacity",
                "add capacity to [hosts.NAME], in the same unit",
            );
            return;
        }
        (None, Some(capacity)) => {
            findings.warning(
                &capacity.span,
                "capacity has no effect: no instance has a load",
                "add load to the instances, in the same unit",
            );
            return;
        }
        (Some(_), Some(_)) => {}
    }
    let all = loads(file, None);
    let without: Vec<(&HostDecl, Vec<u64>)> =
        file.hosts.iter().enumerate().map(|(at, host)| (host, loads(file, Some(at)))).collect();
    for (at, host) in file.hosts.iter().enumerate() {
        let Some(capacity) = &host.capacity else { continue };
        let (name, most) = (&host.name.value, u64::from(capacity.value));
        if all[at] > most {
            findings.warning(
                &capacity.span,
                format!("{name} owns a load of {} when all hosts are well, above its capacity of {most}", all[at]),
                "spread the priorities, or give the host more",
            );
            continue;
        }
        // Of the failures that are too much for this host, the worst one; its own leaves it nothing.
        let worst = without.iter().max_by_key(|(_, loads)| loads[at]);
        if let Some((failed, loads)) = worst
            && loads[at] > most
        {
            findings.warning(
                &capacity.span,
                format!("when {} fails, {name} owns a load of {}, above its capacity of {most}", failed.name.value, loads[at]),
                "one host less must carry everything: spread the priorities, or give the hosts more",
            );
        }
    }
}

/// The load of each host, by position, while the one at `failed` is away: every instance is where its best
/// host is that claims by itself, else at its best one.
fn loads(file: &File, failed: Option<usize>) -> Vec<u64> {
    let mut loads = vec![0; file.hosts.len()];
    for name in &file.instance_names {
        let views = file.views_at(&name.value);
        let owner = views
            .into_iter()
            .filter(|(at, _)| Some(*at) != failed)
            .max_by_key(|(_, decl)| (decl.standby.value != StandbyKind::Cold, decl.priority.value));
        if let Some((at, decl)) = owner {
            loads[at] += decl.load.as_ref().map_or(0, |load| u64::from(load.value));
        }
    }
    loads
}
