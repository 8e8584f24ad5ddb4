//! Lines of `virtual_ipaddress` and `virtual_ipaddress_excluded`.
//!
//! Called by `instance`.

use super::blocks::Node;
use super::report::Notes;
use crate::config::value;
use std::net::IpAddr;
use toml::de::DeValue;

/// A virtual address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Address {
    pub(super) addr: IpAddr,
    /// As vipd.toml has it: with its prefix length where one was written.
    pub(super) written: String,
    /// The interface that the line names.
    pub(super) dev: Option<String>,
}

/// The address of a line; `None`: said to the report.
pub(super) fn read(line: &Node, notes: &mut Notes) -> Option<Address> {
    let written = line.keyword();
    let (bare, length) = match written.split_once('/') {
        Some((bare, length)) => (bare, Some(length)),
        None => (written, None),
    };
    let Ok(addr) = bare.parse::<IpAddr>() else {
        notes.dropped(line, "is no address");
        return None;
    };
    let legal = |text: &str| value::virtual_addresses(&DeValue::String(text.into())).is_ok();
    // IpAddr and its text: an address in another spelling is still the same.
    let plain = addr.to_string();
    let with_length = length.map(|length| format!("{plain}/{length}"));
    let kept = match &with_length {
        Some(text) if legal(text) => text.clone(),
        _ if !legal(&plain) => {
            notes.dropped(line, "no host can have that address");
            return None;
        }
        Some(_) => {
            notes.approximated(line, "without its prefix length, with which no host could have it");
            plain
        }
        None => plain,
    };
    let dev = options(line, notes);
    if dev.as_deref() == Some("lo") {
        notes.dropped(
            line,
            "an address on lo moves nothing: write it into the network configuration",
        );
        return None;
    }
    Some(Address { addr, written: kept, dev })
}

/// What follows the address; the interface, if there is one.
fn options(line: &Node, notes: &mut Notes) -> Option<String> {
    let mut dev = None;
    let mut words = line.args().iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "dev" => dev = words.next().map(str::to_owned),
            "brd" | "broadcast" => {
                words.next();
                notes.exact(line, "brd: an address that goes in as a host address needs none");
            }
            "scope" => {
                if words.next() != Some("global") {
                    notes.approximated(line, "scope: virtual addresses are global");
                }
            }
            "label" => {
                words.next();
                notes.dropped(line, "label: vipd marks its addresses otherwise (ip -d address)");
            }
            "peer" => {
                words.next();
                notes.dropped(line, "peer: vipd claims host addresses only");
            }
            "preferred_lft" => {
                words.next();
                notes.dropped(line, "preferred_lft: the lifetime of an address is its lease");
            }
            "-nodad" | "nodad" => {
                notes.exact(line, "nodad: vipd always claims without duplicate address detection")
            }
            "no_track" | "no-track" => {
                notes.approximated(line, "no_track: an address that somebody removes is put back")
            }
            "use_vmac" => notes.dropped(
                line,
                "use_vmac of one address: write virtual-mac = true for the instance",
            ),
            "home" | "mngtmpaddr" | "noprefixroute" | "autojoin" => {
                notes.dropped(line, format!("{word}: has no counterpart"));
            }
            other => notes.dropped(line, format!("\"{other}\" is not understood here")),
        }
    }
    dev
}
