//! What the agents of a room look at beside each other: the checks of a plan, as text of vipd's file.
//!
//! Pure. Filled in by scenes, tests and benches; written by `plan`, and read by `play` to know how long a
//! failure takes to be noticed. The lab states checks as an operator would and knows nothing of how they run.

use super::topology::{ROUTER_V4, host_name};
use std::fmt::Write as _;
use std::time::Duration;

/// From the start of one run to the start of the next, of every check of a room unless it says otherwise.
pub const INTERVAL: Duration = Duration::from_millis(500);
/// Failures in a row that count.
pub const FALL: u32 = 2;
/// Successes in a row that count.
pub const RISE: u32 = 2;
/// How long one run may take.
pub const TIMEOUT: Duration = Duration::from_millis(300);

/// One `[check.NAME]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// Its lines: what is looked at, severity, and whatever is not as in the constants of this file.
    pub lines: String,
    /// Positions of the hosts that use it; empty: all.
    pub hosts: Vec<usize>,
}

impl Check {
    /// A check that every host uses.
    #[must_use]
    pub fn new(name: &str, lines: &str) -> Self {
        Self { name: name.into(), lines: lines.into(), hosts: Vec::new() }
    }

    /// The same for one host alone.
    #[must_use]
    pub fn only(mut self, ix: usize) -> Self {
        self.hosts = vec![ix];
        self
    }

    fn is_used_by(&self, ix: usize) -> bool {
        self.hosts.is_empty() || self.hosts.contains(&ix)
    }

    /// Lines that the section needs and does not have.
    fn defaults(&self) -> String {
        let rows = [
            ("interval", format!("\"{}ms\"", INTERVAL.as_millis())),
            ("timeout", format!("\"{}ms\"", TIMEOUT.as_millis())),
            ("fall", FALL.to_string()),
            ("rise", RISE.to_string()),
        ];
        let has = |key: &str| {
            self.lines.lines().any(|l| l.split('=').next().is_some_and(|k| k.trim() == key))
        };
        let missing = rows.into_iter().filter(|(key, _)| !has(key));
        missing.fold(String::new(), |mut text, (key, value)| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{key} = {value}");
            text
        })
    }
}

/// The checks of a room. With it come a service on every host and a router on the service network.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Health {
    /// What is looked at.
    pub checks: Vec<Check>,
}

impl Health {
    /// The service of the host, by HTTP, and the router, by ARP; both make a host second choice.
    #[must_use]
    pub fn usual() -> Self {
        Self { checks: vec![service(), gateway()] }
    }

    /// Only these.
    #[must_use]
    pub const fn of(checks: Vec<Check>) -> Self {
        Self { checks }
    }

    /// From the failure of what is looked at to the moment at which the check must have fallen.
    #[must_use]
    pub fn falls_within() -> Duration {
        INTERVAL * (FALL + 1) + TIMEOUT
    }

    /// From its return to the moment at which the check must have risen. A host that comes back needs
    /// five in a row where the agent is stricter with what has failed before.
    #[must_use]
    pub fn rises_within() -> Duration {
        INTERVAL * (RISE.max(5) + 1) + TIMEOUT
    }

    /// Line of the instance: which host uses which checks.
    #[must_use]
    pub(super) fn instance_line(&self, hosts: usize) -> String {
        let names = |ix: usize| {
            let used = self.checks.iter().filter(|c| c.is_used_by(ix));
            used.map(|c| format!("\"{}\"", c.name)).collect::<Vec<_>>().join(", ")
        };
        if self.checks.iter().all(|c| c.hosts.is_empty()) {
            return format!("checks = [{}]\n", names(0));
        }
        let each = |ix| format!("{} = [{}]", host_name(ix), names(ix));
        format!("checks = {{ {} }}\n", (0..hosts).map(each).collect::<Vec<_>>().join(", "))
    }

    /// The sections of the checks.
    #[must_use]
    pub(super) fn sections(&self) -> String {
        self.checks.iter().fold(String::new(), |mut text, check| {
            // Writing to a String does not fail.
            let _ = write!(
                text,
                "\n[check.{}]\n{}\n{}",
                check.name,
                check.lines.trim_end(),
                check.defaults()
            );
            text
        })
    }
}

/// The service of the host itself, asked where it listens and not at the virtual address.
#[must_use]
pub fn service() -> Check {
    Check::new("service", "http = \"http://127.0.0.1/\"\nseverity = \"fail\"")
}

/// The router of the service network.
#[must_use]
pub fn gateway() -> Check {
    Check::new("gateway", &format!("gateway = \"{ROUTER_V4}\"\nseverity = \"fail\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_check_says_itself_is_not_said_twice() {
        let slow = Check::new("slow", "script = [\"/bin/true\"]\ninterval = \"9s\"");
        let text = Health::of(vec![slow]).sections();
        assert_eq!(text.matches("interval").count(), 1, "{text}");
        assert!(text.contains("\n[check.slow]\n") && text.contains("fall = 2\n"), "{text}");
    }

    #[test]
    fn a_check_of_one_host_is_a_table_by_host() {
        let health = Health::of(vec![service(), gateway().only(0)]);
        let line = health.instance_line(2);
        assert_eq!(line, "checks = { h1 = [\"service\", \"gateway\"], h2 = [\"service\"] }\n");
        assert_eq!(Health::usual().instance_line(2), "checks = [\"service\", \"gateway\"]\n");
    }
}
