//! What a command looks at -> the kind of check that looks at the same, or the command itself.
//!
//! Called by `trackers`. Commands that everybody uses become measurements without a process for each run.

use super::blocks::Node;
use super::draft::Keys;
use super::report::{Fate, Notes};
use super::text;
use std::net::{IpAddr, SocketAddr};

/// Longest name of a process in /proc/PID/comm, octets.
const COMM_MAX: usize = 15;

/// The kind and its keys for the `script` of a `vrrp_script`.
pub(super) fn of_script(line: &Node, user: Option<&str>, notes: &mut Notes) -> Keys {
    let mut keys = Keys::default();
    let argv: Vec<String> = match line.args() {
        [one] => text::command(one),
        several => several.to_vec(),
    };
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    let program = words.first().and_then(|path| path.rsplit('/').next()).unwrap_or("");
    match (program, words.get(1..).unwrap_or_default()) {
        ("killall", ["-0" | "-s0", name])
        | ("pidof" | "pgrep", [name])
        | ("pgrep", ["-x", name])
            if is_process(name) =>
        {
            process(name, &mut keys, line, notes);
        }
        (
            "systemctl",
            ["is-active", unit]
            | ["is-active", "-q" | "--quiet", unit]
            | ["-q" | "--quiet", "is-active", unit],
        ) if is_unit(unit) => {
            let unit =
                if unit.contains('.') { (*unit).to_owned() } else { format!("{unit}.service") };
            keys.set("unit", text::string(&unit));
            notes.exact(line, "unit: systemd is asked over its bus");
        }
        _ => match tcp(&argv) {
            Some(to) => {
                keys.set("tcp", text::string(&to.to_string()));
                notes.exact(line, "tcp");
            }
            None => shell(line, &argv, user, &mut keys, notes),
        },
    }
    keys
}

/// Letters that the name of a process has in practice; anything else may be a pattern.
fn is_process(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+/:@".contains(&b))
}

/// A name that a check of kind unit takes as it is.
fn is_unit(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_@:.".contains(&b);
    let ending = name.rsplit_once('.').is_none_or(|(_, ending)| ending == "service");
    !name.is_empty()
        && name.len() < 200
        && !name.starts_with('.')
        && name.bytes().all(legal)
        && ending
}

/// A check of kind process for a program given by name or path.
pub(super) fn process(program: &str, keys: &mut Keys, line: &Node, notes: &mut Notes) {
    let name = program.rsplit('/').next().unwrap_or(program);
    let comm: String = name
        .chars()
        .take_while({
            let mut octets = 0;
            move |c| {
                octets += c.len_utf8();
                octets <= COMM_MAX
            }
        })
        .collect();
    if comm.len() < name.len() {
        notes
            .approximated(line, format!("process: the kernel keeps {COMM_MAX} octets of the name"));
    } else {
        notes.exact(line, "process: no program is started for it");
    }
    keys.set("process", text::string(&comm));
}

/// Bash's way to try a connection: `</dev/tcp/127.0.0.1/80`.
fn tcp(argv: &[String]) -> Option<SocketAddr> {
    let [only] = argv else { return None };
    let (addr, port) = only.strip_prefix("</dev/tcp/")?.split_once('/')?;
    let addr = if addr == "localhost" { "127.0.0.1" } else { addr };
    let (addr, port) = (addr.parse::<IpAddr>().ok()?, port.parse::<u16>().ok()?);
    let legal = port != 0 && !addr.is_unspecified() && !addr.is_multicast();
    legal.then_some(SocketAddr::new(addr, port))
}

/// The command itself: keepalived takes any exit status but 0 as failed, vipd 1 as a warning and 3 as unknown.
fn shell(line: &Node, argv: &[String], user: Option<&str>, keys: &mut Keys, notes: &mut Notes) {
    // What keepalived gives to a shell as it is.
    let is_shell = argv.first().is_some_and(|word| word.starts_with(['<', '>']));
    let command = if is_shell {
        argv.join(" ")
    } else {
        argv.iter().map(|word| text::shell(word)).collect::<Vec<_>>().join(" ")
    };
    let program = if is_shell { "/bin/bash" } else { "/bin/sh" };
    keys.set("script", text::strings([program, "-c", &format!("{command} || exit 2")]));
    let who = super::hooks::user(user);
    keys.set("user", text::string(&who.name));
    let text =
        format!("script, run by a shell that turns any failure into exit status 2{}", who.note);
    notes.note(line, if who.is_certain { Fate::Exact } else { Fate::Approximated }, text);
}
