//! `accept = false`: packets to the address are dropped, neighbour discovery is not.
//!
//! Called when a configuration comes into force and by clean-up. The filter does not depend on who owns
//! the address (a Backup must not accept such packets either), so that a claim need not wait for it.
//! It is made by the `nft` program, the interface that nftables keeps stable.

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use vipd_core::config::model::Model;

/// Name of the table, in family `inet`.
const TABLE: &str = "vipd";

/// The addresses to which packets are to be dropped.
pub(super) fn refused(model: &Model) -> Vec<IpAddr> {
    let refuses = model.instances.iter().filter(|i| !i.accept && !i.priority.is_owner());
    refuses.flat_map(|i| i.claimed().map(|v| v.addr)).collect()
}

/// Installs the filter for `refused`, in place of an older one; false when none is needed.
///
/// # Errors
/// As text with the fix, when `nft` is missing or refuses.
pub(super) fn install(refused: &[IpAddr]) -> Result<bool, String> {
    if refused.is_empty() {
        return Ok(false);
    }
    run(&ruleset(refused)).map(|()| true)
}

/// Removes the filter; true when there was one.
pub(super) fn remove() -> bool {
    present() && run(&format!("delete table inet {TABLE}\n")).is_ok()
}

/// Is the filter there? Asked first, so that clean-up on a host without it says nothing of nft.
fn present() -> bool {
    Command::new("nft")
        .args(["list", "table", "inet", TABLE])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// The whole table, replacing an older one in one transaction.
fn ruleset(addresses: &[IpAddr]) -> String {
    let set = |v6: bool| {
        let of: Vec<String> =
            addresses.iter().filter(|a| a.is_ipv6() == v6).map(IpAddr::to_string).collect();
        if of.is_empty() { String::new() } else { format!("elements = {{ {} }}", of.join(", ")) }
    };
    let rules = "ip daddr @v4 drop
  ip6 daddr @v6 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
  ip6 daddr @v6 drop";
    format!(
        "table inet {TABLE} {{ }}
delete table inet {TABLE}
table inet {TABLE} {{
 set v4 {{ type ipv4_addr; {} }}
 set v6 {{ type ipv6_addr; {} }}
 chain input {{
  type filter hook input priority -10; policy accept;
  {rules}
 }}
 chain forward {{
  type filter hook forward priority -10; policy accept;
  {rules}
 }}
}}
",
        set(false),
        set(true),
    )
}

fn run(script: &str) -> Result<(), String> {
    let missing =
        |e: std::io::Error| format!("cannot run nft ({e}): install nftables, or set accept = true");
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(missing)?;
    if let Some(mut stdin) = nft.stdin.take() {
        stdin.write_all(script.as_bytes()).map_err(missing)?;
    }
    let output = nft.wait_with_output().map_err(missing)?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(format!("nft refused: {}", words.lines().next().unwrap_or("no reason given")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_ruleset_names_each_address_in_its_set() {
        let text = ruleset(&["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]);
        assert!(text.contains("type ipv4_addr; elements = { 192.0.2.1 }"), "{text}");
        assert!(text.contains("type ipv6_addr; elements = { 2001:db8::1 }"), "{text}");
    }
}
