//! The texts that `vipd init` writes. Pure.

use super::Plan;
use super::answer::Host;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

/// vipd.toml for both hosts.
pub(super) fn vipd_toml(plan: &Plan) -> String {
    let Plan { this, peer, vrid, interface, .. } = plan;
    let (first, second) = (&this.name, &peer.name);
    let path = |host: &Host| {
        host.paths.iter().map(|ip| format!("\"{ip}\"")).collect::<Vec<_>>().join(", ")
    };
    let key = |name: &str| if name.contains('.') { format!("\"{name}\"") } else { name.to_owned() };
    let mut text = format!(
        "# Made by `vipd init`; the same file on both hosts. Every key: docs/configuration.md.\n\n\
         [cluster]\n\
         name = \"{first}-{second}\"\n\
         key-file = \"/etc/vipd/cluster.key\"      # vipd keygen; the same on both hosts\n\n"
    );
    if this.paths.len() == 1 {
        text.push_str(
            "# With a second network between the hosts, a cut of the first is told from a dead peer: add the addresses there.\n",
        );
    }
    for host in [this, peer] {
        // Writing to a String does not fail.
        let _ = writeln!(text, "[hosts.{}]\npaths = [{}]", key(&host.name), path(host));
    }
    let _ = write!(
        text,
        "\n[instance.main]\n\
         vrid = {vrid}\n\
         interface = \"{interface}\"{}\n\
         addresses = [{}]\n\
         priority = {{ {} = 150, {} = 100 }}     # the higher one is preferred\n",
        " ".repeat(20_usize.saturating_sub(interface.len()))
            + "# where it differs: { a = \"eth0\", b = \"ens3\" }",
        addresses(plan),
        key(first),
        key(second),
    );
    if !plan.units.is_empty() {
        let names: Vec<_> =
            plan.units.iter().map(|unit| format!("\"{}\"", check_name(unit))).collect();
        let _ = writeln!(text, "checks = [{}]", names.join(", "));
    }
    for unit in &plan.units {
        let name = check_name(unit);
        let _ = write!(
            text,
            "\n# While it fails, the address is on the other host if that one is well.\n\
             [check.{}]\n\
             unit = \"{unit}\"\n",
            key(&name)
        );
    }
    text
}

/// Of a unit: its name without what no name of a check has.
fn check_name(unit: &str) -> String {
    let bare = unit.strip_suffix(".service").unwrap_or(unit);
    let name: String = bare
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
        .collect();
    name.trim_start_matches(['-', '_', '.']).chars().take(64).collect()
}

/// The virtual addresses; IPv6 begins with a link-local one (RFC 9568 section 5.2.9).
fn addresses(plan: &Plan) -> String {
    let mut texts: Vec<String> = Vec::new();
    let is_v6 = |ip: &&IpAddr| ip.is_ipv6();
    let is_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let first_v6 = plan.addresses.iter().find(is_v6);
    for ip in &plan.addresses {
        if Some(ip) == first_v6 && !is_local(ip) {
            texts.push(format!("\"fe80::{:x}/64\"", plan.vrid));
        }
        texts.push(match plan.lengths.get(ip) {
            Some(length) => format!("\"{ip}/{length}\""),
            None => format!("\"{ip}\""),
        });
    }
    texts.join(", ")
}

/// Drop-in of vipd.service: systemd stops in the reverse order of starts.
pub(super) fn drop_in(units: &[String]) -> String {
    format!(
        "# Written by `vipd init`. systemd stops units in the reverse order: at a shutdown vipd hands the address over\n\
         # before these stop.\n\
         [Unit]\n\
         After={}\n",
        units.join(" ")
    )
}

/// What was written, and what to do now. `installed`: where the unit reads the drop-in.
pub(super) fn next_steps(plan: &Plan, output: &Path, drop_in: &Path, installed: &Path) -> String {
    let (peer, file) = (&plan.peer.name, output.display());
    let (units, is_installed) = (&plan.units, drop_in == installed);
    let mut written = vec![format!("{file}: written, for {} and {peer}", plan.this.name)];
    let mut copies = vec![file.to_string()];
    if !units.is_empty() {
        written.push(format!(
            "{}: written, vipd stops before {}",
            drop_in.display(),
            units.join(", ")
        ));
        copies.push(drop_in.display().to_string());
    }
    copies.push("/etc/vipd/cluster.key".to_owned());
    let mut steps = vec!["vipd keygen /etc/vipd/cluster.key".to_owned()];
    steps.push(format!(
        "copy to {peer}: {} (the key there: chown vipd, chmod 600)",
        copies.join(", ")
    ));
    if !units.is_empty() && !is_installed {
        steps.push(format!("on both hosts, {} becomes {}", drop_in.display(), installed.display()));
    }
    if output != Path::new("/etc/vipd/vipd.toml") {
        steps.push(format!("on both hosts, {file} becomes /etc/vipd/vipd.toml"));
    }
    steps.push(
        "let protocol 112 and UDP port 7112 pass between the hosts (docs/firewall.md)".to_owned(),
    );
    steps.push("on both hosts: vipd check".to_owned());
    steps.push("on both hosts: systemctl daemon-reload && systemctl enable --now vipd".to_owned());
    steps.push("vipd status".to_owned());
    let numbered = (1..).zip(&steps).map(|(n, step)| format!("  {n}. {step}"));
    let all: Vec<String> =
        written.into_iter().chain(["\nNext:".to_owned()]).chain(numbered).collect();
    all.join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::cli::init::answer;

    fn plan(addresses: &str, this: &str, peer: &str, units: &str) -> Plan {
        let this = answer::host(this).unwrap();
        let found = answer::addresses(addresses).unwrap();
        Plan {
            interface: "enp1s0f0np0".into(),
            lengths: found.iter().filter_map(|(ip, length)| Some((*ip, (*length)?))).collect(),
            addresses: found.into_iter().map(|(ip, _)| ip).collect(),
            peer: answer::peer(peer, &this).unwrap(),
            this,
            units: answer::units(units).unwrap(),
            vrid: 77,
        }
    }

    #[test]
    fn what_is_written_passes_vipd_check_without_a_warning() {
        for (addresses, this, peer, units) in [
            ("192.0.2.10/24", "lb1=192.0.2.11", "lb2=192.0.2.12", ""),
            ("192.0.2.10", "lb1=192.0.2.11,10.9.0.11", "lb2=192.0.2.12,10.9.0.12", "nginx"),
            (
                "2001:db8::10/64",
                "a.example=2001:db8::11",
                "b.example=2001:db8::12",
                "a@b.service x.socket",
            ),
            (
                "fe80::5/64 2001:db8::10/64 192.0.2.10/24",
                "a=192.0.2.11",
                "b=192.0.2.12",
                "haproxy,haproxy",
            ),
        ] {
            let text = vipd_toml(&plan(addresses, this, peer, units));
            let (models, warnings) = vipd_core::config::load_all_hosts(&text, "x")
                .unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"));
            assert_eq!(warnings, [], "{text}");
            assert_eq!(models.len(), 2);
            assert!(models[0].heartbeat.is_some());
            assert_eq!(models[0].instances[0].vrid.get(), 77);
        }
    }

    #[test]
    fn the_drop_in_orders_the_stop() {
        let units = answer::units("nginx haproxy.service").unwrap();
        assert!(drop_in(&units).ends_with("[Unit]\nAfter=nginx.service haproxy.service\n"));
        let plan = plan("192.0.2.10", "a=192.0.2.11", "b=192.0.2.12", "nginx");
        let installed = Path::new("/etc/systemd/system/vipd.service.d/fronts.conf");
        let steps =
            next_steps(&plan, Path::new("x/vipd.toml"), Path::new("x/fronts.conf"), installed);
        for part in
            ["keygen", "copy to b", "becomes /etc/vipd/vipd.toml", "vipd check", "enable --now"]
        {
            assert!(steps.contains(part), "{part} is missing:\n{steps}");
        }
    }

    #[test]
    fn wrong_answers_say_why() {
        let this = answer::host("a=192.0.2.1").unwrap();
        assert!(answer::peer("a=192.0.2.2", &this).unwrap_err().contains("this host"));
        assert!(answer::peer("b=192.0.2.2,10.0.0.2", &this).unwrap_err().contains("each network"));
        assert!(answer::host("192.0.2.1").is_err() && answer::host("-x=192.0.2.1").is_err());
        assert!(answer::addresses("").is_err() && answer::addresses("1.2.3").is_err());
        assert!(answer::units("a b/c").is_err());
        assert!(answer::interface("e\"th").is_err());
    }
}
