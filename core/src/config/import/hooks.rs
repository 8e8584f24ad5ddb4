//! `notify*` and the notify FIFO -> hooks.
//!
//! Called by `translate` for the lines of instances and groups, and of `global_defs` about the FIFO.

use super::blocks::Node;
use super::draft::{Keys, Named};
use super::report::{Fate, Notes};
use super::text;
use crate::config::value;
use toml::de::DeValue;

/// All moments.
const ALWAYS: &str = "[\"active\", \"backup\", \"fault\", \"stop\"]";
/// keepalived waits for no script; vipd's default ends one after 30 s.
const TIMEOUT: &str = "\"60s\"";
/// Most hooks of a file.
const HOOKS_MAX: usize = 100;

/// As whom a program runs.
pub(super) struct Who {
    pub(super) name: String,
    /// What the report adds.
    pub(super) note: &'static str,
    pub(super) is_certain: bool,
}

/// The user of a program whose line or `script_user` says `named`.
pub(super) fn user(named: Option<&str>) -> Who {
    match named {
        Some(name) if value::user(&DeValue::String(name.into())).is_ok() => {
            Who { name: name.to_owned(), note: "", is_certain: true }
        }
        Some(_) => Who {
            name: "nobody".to_owned(),
            note: "; the user is no name that vipd takes: set user",
            is_certain: false,
        },
        None => Who {
            name: "root".to_owned(),
            note: "; run as root, as keepalived does without a user keepalived_script: \
                   better give it a user without rights",
            is_certain: false,
        },
    }
}

/// Whom a hook is about.
pub(super) enum Subject<'s> {
    Instance(&'s str),
    /// A group with its members.
    Group(&'s str, &'s [String]),
}

/// Is it a line of this room?
pub(super) fn is_notify(keyword: &str) -> bool {
    moment(keyword).is_some() || keyword == "notify"
}

fn moment(keyword: &str) -> Option<&'static str> {
    match keyword {
        "notify_master" => Some("active"),
        "notify_backup" => Some("backup"),
        "notify_fault" => Some("fault"),
        "notify_stop" => Some("stop"),
        _ => None,
    }
}

/// The hook of a `notify*` line.
pub(super) fn notify(
    line: &Node,
    subject: &Subject<'_>,
    script_user: Option<&str>,
    hooks: &mut Vec<Named>,
    notes: &mut Notes,
) {
    let argv = text::command(line.arg());
    let Some(program) = argv.first() else {
        notes.dropped(line, "names no program");
        return;
    };
    let mut keys = Keys::default();
    let (name, members): (&str, &[String]) = match subject {
        Subject::Instance(name) => (name, &[]),
        Subject::Group(name, members) => (name, members),
    };
    let (on, wanted) = match moment(line.keyword()) {
        Some(moment) => (format!("[{}]", text::string(moment)), format!("{name}-{moment}")),
        None => (ALWAYS.to_owned(), format!("{name}-notify")),
    };
    keys.set("on", on);
    let mut says = Vec::new();
    // keepalived looks along its search path, vipd does not.
    let found = if program.starts_with('/') { None } else { Some("/usr/bin/env") };
    keys.set("run", text::strings(found.into_iter().chain(argv.iter().map(String::as_str))));
    let specific = moment(line.keyword()).is_some();
    if specific {
        says.push("vipd adds two arguments, the moment and the instance");
    } else {
        keys.set("call", "\"keepalived\"");
    }
    keys.set(
        "instances",
        match subject {
            Subject::Instance(name) => text::strings([*name]),
            // A group moves as a whole: the first member speaks for all.
            Subject::Group(..) if specific => text::strings(members.first().map(String::as_str)),
            Subject::Group(..) => {
                says.push(
                    "it hears of the instances as well: its first argument is GROUP or INSTANCE",
                );
                text::strings(members.iter().map(String::as_str))
            }
        },
    );
    let who = user(line.args().get(1).map(String::as_str).or(script_user));
    keys.set("user", text::string(&who.name));
    keys.set("timeout", TIMEOUT);
    if line.args().len() > 2 {
        says.push("the program has the groups of its user");
    }
    if hooks.len() >= HOOKS_MAX {
        notes.dropped(line, "a file has at most 100 hooks: let several instances share one");
        return;
    }
    let name = text::unused(&text::name(&wanted), |n| hooks.iter().any(|hook| hook.name == n));
    let note = format!("[hook.{name}]{}{}", joined(&says), who.note);
    let fate = if who.is_certain && says.is_empty() { Fate::Exact } else { Fate::Approximated };
    notes.note(line, fate, note);
    hooks.push(Named { name, keys });
}

fn joined(says: &[&str]) -> String {
    says.iter().map(|text| format!("; {text}")).collect()
}

/// The hook of `notify_fifo` or `vrrp_notify_fifo`.
pub(super) fn fifo(line: &Node, hooks: &mut Vec<Named>, notes: &mut Notes) {
    if value::path(&DeValue::String(line.arg().into())).is_err() {
        notes.dropped(line, "is no absolute path");
        return;
    }
    let mut keys = Keys::default();
    keys.set("on", ALWAYS);
    keys.set("fifo", text::string(line.arg()));
    let name = text::unused("fifo", |n| hooks.iter().any(|hook| hook.name == n));
    if line.args().len() > 1 {
        notes.approximated(
            line,
            format!("[hook.{name}]; the FIFO belongs to the user of vipd exec"),
        );
    } else {
        notes.exact(line, format!("[hook.{name}]"));
    }
    hooks.push(Named { name, keys });
}
