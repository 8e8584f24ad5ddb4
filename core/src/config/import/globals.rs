//! `global_defs`: defaults of instances and scripts; all else by the table of keywords.
//!
//! Called by `translate` before it reads anything that the defaults are for.

use super::blocks::Node;
use super::draft::Named;
use super::hooks;
use super::instance::is_on;
use super::keywords::{self, Scope};
use super::report::Notes;

/// Defaults.
pub(super) struct Globals {
    /// Of IPv4.
    pub(super) version: u8,
    pub(super) strict: bool,
    /// The checksum of version 3 without pseudo-header.
    pub(super) short_checksum: bool,
    /// As whom programs run.
    pub(super) script_user: Option<String>,
}

impl Default for Globals {
    fn default() -> Self {
        Self { version: 2, strict: false, short_checksum: false, script_user: None }
    }
}

impl Globals {
    /// Adds a block.
    pub(super) fn read(&mut self, block: &Node, hooks: &mut Vec<Named>, notes: &mut Notes) {
        notes.exact(block, "its lines below");
        for line in &block.children {
            self.read_line(line, hooks, notes);
        }
    }

    fn read_line(&mut self, line: &Node, hooks: &mut Vec<Named>, notes: &mut Notes) {
        match line.keyword() {
            "vrrp_version" => match line.arg() {
                "2" | "3" => {
                    self.version = if line.arg() == "2" { 2 } else { 3 };
                    notes.exact(line, "version of every instance that says no other");
                }
                _ => notes.dropped(line, "is no version: 2 or 3"),
            },
            "vrrp_strict" => {
                self.strict = is_on(line);
                let text = "vipd always checks what it receives; here strict mode means accept = false, \
                            no password, and IPv6 that begins with a link-local address. Most have it from a sample \
                            and want their addresses reachable: then remove accept";
                notes.approximated(line, text);
            }
            "v3_checksum_as_v2" => {
                self.short_checksum = is_on(line);
                notes.exact(line, "checksum");
            }
            "script_user" => {
                self.script_user = Some(line.arg().to_owned());
                if line.args().len() > 1 {
                    notes.approximated(line, "user of every program; it has its own groups");
                } else {
                    notes.exact(line, "user of every program that says no other");
                }
            }
            "vrrp_mcast_group4" | "vrrp_mcast_group6" => {
                if matches!(line.arg(), "224.0.0.18" | "ff02::12") {
                    notes.exact(line, "the group of VRRP");
                } else {
                    notes.dropped(
                        line,
                        "vipd speaks to the group of VRRP only, 224.0.0.18 and ff02::12",
                    );
                    notes.beside(format!(
                        "remove {} from keepalived, or use unicast",
                        line.keyword()
                    ));
                }
            }
            "vrrp_down_timer_adverts" => {
                if line.arg() == "3" {
                    notes.exact(line, "a silent owner is replaced after three adverts");
                } else {
                    notes.dropped(line, "vipd waits for three adverts, as RFC 9568 says: a shorter advert-interval finds out sooner");
                }
            }
            "notify_fifo" | "vrrp_notify_fifo" => hooks::fifo(line, hooks, notes),
            other => {
                if let Some((fate, why)) = keywords::fate(Scope::Global, other) {
                    notes.whole(line, fate, why);
                }
            }
        }
    }
}
