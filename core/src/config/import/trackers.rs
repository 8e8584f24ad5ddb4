//! `vrrp_script`, `vrrp_track_process`, `vrrp_track_file` and tracked interfaces -> checks.
//!
//! Called by `translate`: it declares what the file defines, then asks for a check where an instance or a group
//! tracks something.

use super::blocks::Node;
use super::draft::{Keys, Named};
use super::report::{Fate, Notes};
use super::{probe, text};
use std::collections::BTreeMap;

/// keepalived's default of `interval`, milliseconds.
const INTERVAL: u64 = 1000;
/// What vipd takes as interval of a check, milliseconds.
const INTERVALS: std::ops::RangeInclusive<u64> = 100..=3_600_000;
/// vipd's default of `timeout`, milliseconds.
const TIMEOUT: u64 = 1000;
/// Most priority that a check may cost.
const WEIGHT_MAX: i64 = 253;

/// What an instance can track by name.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    Script,
    Process,
    File,
}

impl Kind {
    /// Of the block that defines one.
    pub(super) fn of_block(keyword: &str) -> Option<Self> {
        match keyword {
            "vrrp_script" => Some(Self::Script),
            "vrrp_track_process" => Some(Self::Process),
            "vrrp_track_file" | "track_file" => Some(Self::File),
            _ => None,
        }
    }

    /// Of the block that uses some.
    pub(super) fn of_use(keyword: &str) -> Option<Self> {
        match keyword {
            "track_script" => Some(Self::Script),
            "track_process" => Some(Self::Process),
            "track_file" => Some(Self::File),
            _ => None,
        }
    }
}

/// What a file defines, and the checks that came of it.
#[derive(Default)]
pub(super) struct Trackers<'n> {
    defined: BTreeMap<(Kind, &'n str), Tracker<'n>>,
    /// The checks that somebody uses.
    pub(super) checks: Vec<Named>,
}

struct Tracker<'n> {
    node: &'n Node,
    /// What is looked at, how often, how soon it counts; `None`: nothing that vipd could look at.
    keys: Option<Keys>,
    weight: i64,
    is_used: bool,
}

/// What a tracked thing costs.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Cost {
    /// The address.
    Everything,
    /// Priority, while it fails.
    Less(i64),
    /// Priority that it gives while it does not fail.
    More(i64),
}

impl Cost {
    fn of(weight: i64) -> Self {
        match weight {
            0 => Self::Everything,
            less if less < 0 => Self::Less(-less),
            more => Self::More(more),
        }
    }
}

impl<'n> Trackers<'n> {
    /// Takes a defining block. `user`: as whom scripts run that do not say it.
    pub(super) fn define(
        &mut self,
        node: &'n Node,
        kind: Kind,
        user: Option<&str>,
        notes: &mut Notes,
    ) {
        let (keys, weight) = match kind {
            Kind::Script => script(node, user, notes),
            Kind::Process => process(node, notes),
            Kind::File => file(node, notes),
        };
        if node.arg().is_empty() {
            notes.dropped(node, "has no name: nothing can track it");
            return;
        }
        let tracker = Tracker { node, keys, weight, is_used: false };
        if self.defined.insert((kind, node.arg()), tracker).is_some() {
            notes.dropped(node, "the name is defined twice: the last one counts here");
        }
    }

    /// A line of `track_script`, `track_process` or `track_file`: the check for it and its cost.
    /// `ignored`: weights do not count here, and why.
    pub(super) fn track(
        &mut self,
        line: &'n Node,
        kind: Kind,
        ignored: Option<&str>,
        notes: &mut Notes,
    ) -> Option<(String, Cost)> {
        let Some(tracker) = self.defined.get_mut(&(kind, line.keyword())) else {
            notes.dropped(line, "is not defined in the file, and keepalived ignores it as well");
            return None;
        };
        tracker.is_used = true;
        let weight = weight(line, tracker.weight, notes)?;
        let Some(keys) = tracker.keys.clone() else {
            notes.dropped(line, "what it looks at could not be carried over, see there");
            return None;
        };
        if let Some(why) = ignored.filter(|_| weight != 0) {
            notes.dropped(line, why);
            return None;
        }
        Some(self.check(line, line.keyword(), keys, weight, notes))
    }

    /// A line of `track_interface`.
    pub(super) fn track_interface(
        &mut self,
        line: &Node,
        own: &str,
        ignored: Option<&str>,
        notes: &mut Notes,
    ) -> Option<(String, Cost)> {
        let weight = weight(line, 0, notes)?;
        let interface = line.keyword();
        if interface == own && weight == 0 {
            notes.exact(line, "vipd always watches the service interface");
            return None;
        }
        if let Some(why) = ignored.filter(|_| weight != 0) {
            notes.dropped(line, why);
            return None;
        }
        let mut keys = Keys::default();
        keys.set("link", text::string(interface));
        timing(&mut keys, INTERVAL, 1, 1);
        let name = format!("link-{interface}");
        Some(self.check(line, &name, keys, weight, notes))
    }

    /// The check that an address is on the host.
    pub(super) fn address(&mut self, addr: std::net::IpAddr) -> String {
        let mut keys = Keys::default();
        keys.set("address", text::string(&addr.to_string()));
        timing(&mut keys, INTERVAL, 1, 1);
        keys.set("severity", "\"fatal\"");
        if let Some(known) = self.checks.iter().find(|check| check.keys == keys) {
            return known.name.clone();
        }
        let name = text::unused("source", |n| self.checks.iter().any(|c| c.name == n));
        self.checks.push(Named { name: name.clone(), keys });
        name
    }

    /// The check with these keys and this weight, which may be there already.
    fn check(
        &mut self,
        line: &Node,
        wanted: &str,
        mut keys: Keys,
        weight: i64,
        notes: &mut Notes,
    ) -> (String, Cost) {
        let cost = Cost::of(weight);
        match cost {
            Cost::Everything => keys.set("severity", "\"fatal\""),
            Cost::Less(weight) | Cost::More(weight) => {
                keys.set("severity", "\"degrade\"");
                keys.set("weight", weight.min(WEIGHT_MAX).to_string());
            }
        }
        let known = self
            .checks
            .iter()
            .find(|check| check.keys == keys && check.name.starts_with(&text::name(wanted)));
        let name = known.map(|check| check.name.clone()).unwrap_or_else(|| {
            let name =
                text::unused(&text::name(wanted), |n| self.checks.iter().any(|c| c.name == n));
            self.checks.push(Named { name: name.clone(), keys });
            name
        });
        let place = format!("[check.{name}]");
        match cost {
            Cost::Everything => notes.exact(
                line,
                format!("{place}, severity \"fatal\": the address goes even if nobody takes over. \"fail\" would keep it then"),
            ),
            Cost::Less(weight) => notes.exact(line, format!("{place}, weight {weight}")),
            Cost::More(weight) => notes.exact(
                line,
                format!("{place}: what keepalived adds while it is well is in the priority, and the check takes {weight} off"),
            ),
        }
        (name, cost)
    }

    /// Does the check of that name cost priority?
    pub(super) fn weighs(&self, name: &str) -> bool {
        self.checks.iter().any(|check| check.name == name && check.keys.get("weight").is_some())
    }

    /// Says which definitions nobody uses.
    pub(super) fn finish(&self, notes: &mut Notes) {
        for tracker in self.defined.values().filter(|tracker| !tracker.is_used) {
            notes.dropped(tracker.node, "no instance tracks it");
        }
    }
}

/// The weight of a tracking line, else that of the definition; `None`: one that turns around.
fn weight(line: &Node, default: i64, notes: &mut Notes) -> Option<i64> {
    let mut weight = default;
    let mut words = line.args().iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "weight" => match words.next().and_then(|w| w.parse::<i64>().ok()) {
                Some(number) if (-254..=254).contains(&number) => weight = number,
                _ => notes.dropped(line, "the weight is no number from -253 to 253"),
            },
            "reverse" => {
                notes.dropped(
                    line,
                    "a check cannot count the other way round: let it fail when it should cost",
                );
                return None;
            }
            "no_reverse" => {}
            other => notes.dropped(line, format!("\"{other}\" is not understood here")),
        }
    }
    Some(weight)
}

fn timing(keys: &mut Keys, interval: u64, fall: u64, rise: u64) {
    keys.set("interval", text::duration(interval));
    keys.set("fall", fall.to_string());
    keys.set("rise", rise.to_string());
}

/// A whole number of a line, in `range`.
fn number(line: &Node, range: std::ops::RangeInclusive<i64>, notes: &mut Notes) -> Option<i64> {
    let found = line.arg().parse::<i64>().ok().filter(|n| range.contains(n));
    if found.is_none() {
        notes.dropped(line, format!("is no number from {} to {}", range.start(), range.end()));
    }
    found
}

/// The weight that a defining block gives.
fn default_weight(line: &Node, notes: &mut Notes) -> i64 {
    if line.args().iter().any(|word| word == "reverse") {
        notes.dropped(
            line,
            "a check cannot count the other way round: let it fail when it should cost",
        );
        return 0;
    }
    let found = number(line, -254..=254, notes);
    if found.is_some() {
        notes.exact(line, "where it is tracked without a weight of its own");
    }
    found.unwrap_or(0)
}

fn script(node: &Node, user: Option<&str>, notes: &mut Notes) -> (Option<Keys>, i64) {
    let (mut interval, mut timeout, mut fall, mut rise, mut weight) = (INTERVAL, None, 1, 1, 0);
    let mut user = user.map(str::to_owned);
    let mut command = None;
    for line in &node.children {
        match line.keyword() {
            "script" => command = Some(line),
            "interval" => match text::millis(line.arg()) {
                Some(ms) if INTERVALS.contains(&ms) => {
                    interval = ms;
                    notes.exact(line, "interval");
                }
                _ => notes.approximated(line, "an interval is 100ms to 1h: 1s is written"),
            },
            "timeout" => match text::millis(line.arg()).filter(|ms| *ms >= 10) {
                Some(ms) => timeout = Some((line, ms)),
                None => notes.approximated(
                    line,
                    "is no time that vipd knows: that of the interval is taken",
                ),
            },
            "fall" => {
                if let Some(n) = number(line, 1..=100, notes) {
                    fall = n.unsigned_abs();
                    notes.exact(line, "fall");
                }
            }
            "rise" => {
                if let Some(n) = number(line, 1..=100, notes) {
                    rise = n.unsigned_abs();
                    notes.exact(line, "rise");
                }
            }
            "weight" => weight = default_weight(line, notes),
            "user" => {
                user = Some(line.arg().to_owned());
                match line.args().get(1) {
                    None => notes.exact(line, "user"),
                    Some(group) => notes
                        .approximated(line, format!("user; it has its own groups, not {group}")),
                }
            }
            "init_fail" => notes.approximated(
                line,
                "until a check said something first, its host takes no address from others",
            ),
            _ => {}
        }
    }
    notes.exact(node, "a check; see where it is tracked");
    let Some(line) = command else {
        notes.dropped(node, "has no script");
        return (None, weight);
    };
    let mut keys = probe::of_script(line, user.as_deref(), notes);
    timing(&mut keys, interval, fall, rise);
    // Without one keepalived takes the interval, and vipd the shorter of that and a second.
    let wanted = timeout.map_or(interval, |(_, ms)| ms);
    if let Some((line, ms)) = timeout {
        if ms > interval {
            notes.approximated(
                line,
                "a run ends before the next one begins: the timeout is the interval",
            );
        } else {
            notes.exact(line, "timeout");
        }
    }
    let wanted = wanted.min(interval).min(600_000);
    if wanted != TIMEOUT.min(interval) {
        keys.set("timeout", text::duration(wanted));
    }
    (Some(keys), weight)
}

fn process(node: &Node, notes: &mut Notes) -> (Option<Keys>, i64) {
    let (mut weight, mut quorum, mut fall, mut rise) = (0, 1, 1, 1);
    let (mut keys, mut most) = (None, None);
    // A delay in whole seconds is as many readings, one each second.
    let readings = |line: &Node, notes: &mut Notes| {
        let ms = text::millis(line.arg())?;
        notes.approximated(line, "as readings, one each second");
        Some(ms.div_ceil(INTERVAL).clamp(1, 100))
    };
    for line in &node.children {
        match line.keyword() {
            "process" => {
                let mut words = line.args().iter().flat_map(|arg| text::command(arg));
                if let Some(program) = words.next() {
                    let mut found = Keys::default();
                    probe::process(&program, &mut found, line, notes);
                    if words.next().is_some() {
                        notes.approximated(
                            line,
                            "parameters do not count: any process of that name does",
                        );
                    }
                    keys = Some(found);
                }
            }
            "weight" => weight = default_weight(line, notes),
            "quorum" => {
                if let Some(n) = number(line, 1..=10_000, notes) {
                    quorum = n;
                    notes.exact(line, "at-least");
                }
            }
            "quorum_max" => {
                if let Some(n) = number(line, 0..=10_000, notes) {
                    most = Some(n);
                    notes.exact(line, "at-most");
                }
            }
            "delay" => {
                let n = readings(line, notes).unwrap_or(1);
                (fall, rise) = (n, n);
            }
            "terminate_delay" => fall = readings(line, notes).unwrap_or(1),
            "fork_delay" => rise = readings(line, notes).unwrap_or(1),
            "param_match" => {
                notes.dropped(line, "parameters do not count: any process of that name does")
            }
            "full_command" => notes.approximated(
                line,
                "the name of the process counts (/proc/PID/comm), not its path",
            ),
            _ => {}
        }
    }
    match &mut keys {
        Some(keys) => {
            timing(keys, INTERVAL, fall, rise);
            if quorum != 1 {
                keys.set("at-least", quorum.to_string());
            }
            if let Some(most) = most {
                keys.set("at-most", most.to_string());
            }
            notes.exact(node, "a check; see where it is tracked");
        }
        None => notes.dropped(node, "has no process"),
    }
    (keys, weight)
}

fn file(node: &Node, notes: &mut Notes) -> (Option<Keys>, i64) {
    let mut keys = None;
    // keepalived's default: the number in the file is what it costs.
    let mut weight = (1, None);
    for line in &node.children {
        match line.keyword() {
            "file" => {
                if !line.arg().starts_with('/') {
                    notes.dropped(line, "is no absolute path");
                    continue;
                }
                let mut found = Keys::default();
                found.set("file", text::string(line.arg()));
                timing(&mut found, INTERVAL, 1, 1);
                keys = Some(found);
                notes.exact(line, "file");
            }
            "weight" => weight = (default_weight(line, notes), Some(line)),
            "init_file" => notes.dropped(line, "vipd creates no file: let systemd-tmpfiles do it"),
            _ => {}
        }
    }
    if keys.is_none() {
        notes.dropped(node, "has no file");
        return (None, 0);
    }
    match weight {
        (0, _) => {
            notes.exact(node, "a check; any number but 0 costs the address");
            (keys, 0)
        }
        (1 | -1, _) => {
            let text = "the number in the file is no weight in vipd: any but 0 costs the address; \
                        for less write severity = \"degrade\" and a weight";
            notes.approximated(node, text);
            (keys, 0)
        }
        (factor, _) => {
            let text =
                "the number in the file does not multiply the weight: any but 0 costs it once";
            notes.note(node, Fate::Approximated, text);
            (keys, -factor.abs())
        }
    }
}
