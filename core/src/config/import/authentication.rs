//! `authentication` and `auth_hmac` of a `vrrp_instance`.
//!
//! Called by `complete`. Passwords and keys never go into the report.

use super::blocks::Node;
use super::draft::Keys;
use super::instance::Written;
use super::report::{Fate, Notes};
use super::text;

/// Longest password of version 2, octets (RFC 2338 section 5.3.10).
const PASSWORD_MAX: usize = 8;

/// `simple-text` or `hmac`.
pub(super) fn keys(
    it: &Written<'_>,
    version: u8,
    is_strict: bool,
    name: &str,
    notes: &mut Notes,
) -> Keys {
    let mut keys = Keys::default();
    if let Some(block) = it.authentication {
        simple_text(block, it, version, is_strict, &mut keys, notes);
    }
    if let Some(block) = it.hmac {
        hmac(block, name, &mut keys, notes);
    }
    keys
}

fn simple_text(
    block: &Node,
    it: &Written<'_>,
    version: u8,
    is_strict: bool,
    keys: &mut Keys,
    notes: &mut Notes,
) {
    if version == 3 || is_strict {
        let why = if version == 3 {
            "version 3 has no passwords"
        } else {
            "strict mode has no passwords"
        };
        for node in std::iter::once(block).chain(&block.children) {
            notes.exact(node, format!("{why}: keepalived ignores it as well"));
        }
        return;
    }
    let (mut kind, mut password) = (None, None);
    for line in &block.children {
        // A block on one line is a line of several words.
        let mut words = line.words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "auth_type" => kind = words.next().map(|kind| (line, kind)),
                "auth_pass" => password = words.next().map(|password| (line, password)),
                _ => {}
            }
        }
    }
    if let Some((line, "AH")) = kind {
        notes.whole(block, Fate::Dropped, "vipd speaks no IPsec AH");
        notes.dropped(line, "vipd speaks no IPsec AH: sign adverts with hmac, or go without");
        let who = it.node.arg();
        notes.beside(format!(
            "{who}: remove auth_type AH from every keepalived first: vipd would not hear them"
        ));
        return;
    }
    notes.exact(block, "its lines below");
    if let Some((line, _)) = kind {
        notes.exact(line, "simple-text");
    }
    let Some((line, password)) = password else {
        notes.dropped(block, "has no password");
        return;
    };
    let cut = password.as_bytes().get(..PASSWORD_MAX).unwrap_or(password.as_bytes());
    let printable = !cut.is_empty() && cut.iter().all(|b| (0x20..0x7f).contains(b));
    let Some(cut) = std::str::from_utf8(cut).ok().filter(|_| printable) else {
        notes.dropped(line, "has other characters than printable ASCII: choose another password on every host first");
        return;
    };
    keys.set("simple-text", text::string(cut));
    if cut.len() < password.len() {
        notes.exact(line, "simple-text: the first 8 octets, which are all that keepalived sends");
    } else {
        notes.exact(line, "simple-text; it travels readable and protects nothing");
    }
}

fn hmac(block: &Node, name: &str, keys: &mut Keys, notes: &mut Notes) {
    notes.exact(block, "hmac");
    let mut table = Keys::default();
    let mut files = Vec::new();
    let (mut active, mut mode, mut window) = (None, None, None);
    for line in &block.children {
        match line.keyword() {
            "key" => match line.arg().parse::<u8>() {
                Ok(id) if id > 0 => {
                    let file = format!("/etc/vipd/{name}-{id}.key");
                    notes.approximated(line, format!("keys are files: write the key, 32 to 64 octets, into {file}, mode 0600, owner vipd"));
                    files.push(format!("\"{id}\" = {}", text::string(&file)));
                }
                _ => notes.dropped(line, "the id is no number from 1 to 255"),
            },
            "active_key" => match line.arg().parse::<u8>() {
                Ok(id) if id > 0 => {
                    notes.exact(line, "active-key");
                    active = Some(id);
                }
                _ => notes.dropped(line, "is no number from 1 to 255"),
            },
            "mode" => {
                let word = line.arg().replace('_', "-");
                if matches!(word.as_str(), "receive-only" | "permissive" | "enforce") {
                    notes.exact(line, "mode");
                    mode = Some(word);
                } else {
                    notes.dropped(line, "is no mode: receive-only, permissive or enforce");
                }
            }
            "time_window" => {
                match text::millis(line.arg()).filter(|ms| (1000..=300_000).contains(ms)) {
                    Some(ms) => {
                        notes.exact(line, "window");
                        window = Some(text::duration(ms));
                    }
                    None => notes.dropped(line, "a window is 1 to 300 seconds"),
                }
            }
            "anti_replay" => {
                if super::instance::is_on(line) {
                    notes.exact(line, "vipd always refuses what was sent before");
                } else {
                    notes.approximated(line, "vipd always refuses what was sent before");
                }
            }
            _ => {}
        }
    }
    if files.is_empty() {
        notes.dropped(block, "has no key");
        return;
    }
    if let Some(mode) = mode {
        table.set("mode", text::string(&mode));
    }
    table.set("keys", format!("{{ {} }}", files.join(", ")));
    if let Some(active) = active {
        table.set("active-key", active.to_string());
    }
    if let Some(window) = window {
        table.set("window", window);
    }
    keys.set("hmac", table.inline());
    notes.beside(
        "signed adverts are understood between vipd and keepalived 2.4.2 or later".to_owned(),
    );
}
