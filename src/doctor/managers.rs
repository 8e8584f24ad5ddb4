//! Network managers that take off addresses that they did not put on.

use super::{Finding, Patient};
use vipd_core::config::model::{Claim, Instance};

/// The drop-in that lets systemd-networkd leave foreign addresses alone.
const NETWORKD: &str = "[Network]\nKeepConfiguration=yes";

/// The drop-in that lets it leave foreign routes and rules alone.
const NETWORKD_ROUTES: &str =
    "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no";
/// Where its own configuration is.
const NETWORKD_CONF: [&str; 3] = ["usr/lib/systemd", "run/systemd", "etc/systemd"];

/// Looks who manages the service interfaces.
pub(super) fn probe(patient: &Patient) -> Vec<Finding> {
    let mut found = Vec::new();
    for link in patient.links() {
        let Some(index) = patient.read(&format!("sys/class/net/{link}/ifindex")) else { continue };
        found.extend(networkd(patient, link, &index));
        found.extend(network_manager(patient, link, &index));
    }
    found.extend(networkd_routes(patient));
    found
}

fn networkd(patient: &Patient, link: &str, index: &str) -> Option<Finding> {
    let state = patient.read(&format!("run/systemd/netif/links/{index}"))?;
    let value = |key: &str| {
        let line = state.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(str::to_owned)
    };
    if !matches!(value("ADMIN_STATE")?.as_str(), "configured" | "configuring") {
        return None;
    }
    let file = value("NETWORK_FILE")?;
    let name = file.rsplit('/').next().unwrap_or(&file).to_owned();
    let below = |path: &str| path.trim_start_matches('/').to_owned();
    let mut texts: Vec<String> = patient.read(&below(&file)).into_iter().collect();
    for folder in [format!("{file}.d"), format!("/etc/systemd/network/{name}.d")] {
        let Ok(entries) = std::fs::read_dir(patient.root.join(below(&folder))) else { continue };
        texts.extend(entries.flatten().filter_map(|e| std::fs::read_to_string(e.path()).ok()));
    }
    let keeps = texts.iter().flat_map(|text| text.lines()).any(|line| {
        let line = line.replace(' ', "");
        line == "KeepConfiguration=yes" || line == "KeepConfiguration=true"
    });
    if keeps {
        return None;
    }
    Some(
        Finding::problem(
            "managers",
            format!("systemd-networkd strips claimed addresses from {link} when it is restarted"),
        )
        .seen(format!("{link} is configured by {file}, without KeepConfiguration=yes"))
        .fix(format!(
            "write /etc/systemd/network/{name}.d/vipd.conf, then `networkctl reload`:\n{NETWORKD}"
        )),
    )
}

/// Routes and rules that an instance brings go when systemd-networkd starts, unless it was told to leave them.
fn networkd_routes(patient: &Patient) -> Option<Finding> {
    let brings =
        |i: &&Instance| !i.routes.is_empty() || !i.rules.is_empty() || i.claim == Claim::Route;
    let instance = patient.model()?.instances.iter().find(brings)?;
    patient.read("run/systemd/netif/state")?;
    let files = NETWORKD_CONF.iter().flat_map(|folder| {
        let drop_ins = patient.root.join(folder).join("networkd.conf.d");
        let entries = std::fs::read_dir(drop_ins).into_iter().flatten().flatten();
        entries.map(|e| e.path()).chain([patient.root.join(folder).join("networkd.conf")])
    });
    let text: String = files.filter_map(|file| std::fs::read_to_string(file).ok()).collect();
    let leaves = |key: &str| {
        let said = text.lines().filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
        said.into_iter().any(|value| ["no", "false", "0", "off"].contains(&value.trim()))
    };
    if leaves("ManageForeignRoutes") && leaves("ManageForeignRoutingPolicyRules") {
        return None;
    }
    Some(
        Finding::problem(
            "managers",
            format!(
                "systemd-networkd removes the routes and rules of {} when it is restarted",
                instance.name
            ),
        )
        .seen("it runs, and networkd.conf does not say that foreign ones are not its own")
        .fix(format!(
            "write /etc/systemd/networkd.conf.d/vipd.conf, then `systemctl restart systemd-networkd` on a drained host:\n{NETWORKD_ROUTES}"
        )),
    )
}

fn network_manager(patient: &Patient, link: &str, index: &str) -> Option<Finding> {
    let state = patient.read(&format!("run/NetworkManager/devices/{index}"))?;
    let managed = state
        .lines()
        .any(|line| matches!(line.trim(), "managed=1" | "managed=true" | "managed=full"));
    managed.then(|| {
        Finding::problem("managers", format!("NetworkManager manages {link}: it strips claimed addresses when a connection is brought up again"))
            .seen(format!("/run/NetworkManager/devices/{index} says managed"))
            .fix(format!(
                "configure {link} by other means and write /etc/NetworkManager/conf.d/vipd.conf, then `nmcli general \
                 reload`:\n[keyfile]\nunmanaged-devices=interface-name:{link}"
            ))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::fs;

    #[test]
    fn managers_are_seen_by_what_they_leave_in_run() {
        let room = tempfile::tempdir().unwrap();
        let root = room.path();
        let put = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("sys/class/net/eth0/ifindex", "2\n");
        put(
            "run/systemd/netif/links/2",
            "ADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/10-eth0.network\n",
        );
        put("etc/systemd/network/10-eth0.network", "[Match]\nName=eth0\n[Network]\nDHCP=yes\n");
        put("run/NetworkManager/devices/2", "[device]\nmanaged=1\n");
        let text = "[hosts.lb1]\n[instance.web]\nvrid = 51\ninterface = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\n";
        let model = vipd_core::config::load(text, "vipd.toml", "lb1").map(|(model, _)| model);
        let patient = Patient {
            model: model.map_err(|e| format!("{e:?}")),
            status: Err(String::new()),
            keys: None,
            root: root.into(),
            scan: None,
        };
        let what: Vec<String> = probe(&patient).into_iter().map(|f| f.what).collect();
        assert_eq!(what.len(), 2, "{what:?} {:?}", patient.model);
        put("etc/systemd/network/10-eth0.network.d/vipd.conf", NETWORKD);
        put("run/NetworkManager/devices/2", "[device]\nmanaged=0\n");
        assert_eq!(probe(&patient), []);
        // Routes that an instance brings are another matter.
        let text =
            format!("{text}[[instance.web.route]]\nto = \"0.0.0.0/0\"\nvia = \"192.0.2.1\"\n");
        let model = vipd_core::config::load(&text, "vipd.toml", "lb1").map(|(model, _)| model);
        let patient = Patient { model: model.map_err(|e| format!("{e:?}")), ..patient };
        assert_eq!(probe(&patient), [], "{:?}: networkd does not run", patient.model);
        put("run/systemd/netif/state", "OPER_STATE=routable\n");
        let found = probe(&patient);
        assert!(found.len() == 1 && found[0].fix.contains("ManageForeignRoutes=no"), "{found:?}");
        put("etc/systemd/networkd.conf.d/vipd.conf", NETWORKD_ROUTES);
        assert_eq!(probe(&patient), []);
    }
}
