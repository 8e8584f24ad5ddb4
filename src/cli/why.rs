//! `vipd why`: the decision behind the state of each instance, what it looked at, and what would change it.

use super::screen::{
    BAD, Cell, GOOD, PLAIN, Screen, TITLE, WARN, age, cell, plain, show, state_style,
};
use super::status::{self, screen::label, screen::owner};
use super::{Exit, Failure, Place};
use crate::control::status::{Instance, Status};
use clap::Args;

#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The instance, as in `[instance.NAME]` [default: all]
    instance: Option<String>,
    /// Print the instances of the status document as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(place: &Place, args: &WhyArgs) -> Result<Exit, Failure> {
    let status = status::ask(place)?;
    let meant = |i: &&Instance| args.instance.as_ref().is_none_or(|name| *name == i.name);
    let instances: Vec<&Instance> = status.instances.iter().filter(meant).collect();
    if let (Some(name), true) = (&args.instance, instances.is_empty()) {
        let known: Vec<&str> = status.instances.iter().map(|i| &*i.name).collect();
        let message =
            format!("there is no instance {name} on this host; there are: {}", known.join(", "));
        return Err(Failure::new(Exit::Usage, message));
    }
    if args.json {
        status::say_json(&instances)?;
        return Ok(Exit::Done);
    }
    show(&screen(&status, &instances));
    Ok(Exit::Done)
}

fn screen(status: &Status, instances: &[&Instance]) -> String {
    let mut screen = Screen::default();
    for (n, i) in instances.iter().enumerate() {
        if n > 0 {
            screen.gap();
        }
        explain(status, i, &mut screen);
    }
    screen.into_text()
}

fn explain(status: &Status, i: &Instance, screen: &mut Screen) {
    let condition = i.condition.as_ref().map(|c| format!(", {c}")).unwrap_or_default();
    screen.line(
        &format!(
            "{} is {}{condition} on {}, for {}",
            label(status, i),
            i.state.to_uppercase(),
            status.host,
            age(i.since_s)
        ),
        TITLE,
    );
    screen.entry("  because    ", &i.cause, PLAIN);
    let raised = if i.priority == i.configured_priority {
        i.priority.to_string()
    } else {
        format!("{} (configured: {})", i.priority, i.configured_priority)
    };
    screen.entry("  priority   ", &raised, PLAIN);
    screen.entry("  owner      ", &owner(i), PLAIN);
    if let Some(next) = &i.next {
        screen.entry("  next       ", next, PLAIN);
    }
    for wait in &i.waits {
        screen.entry("  waits      ", wait, PLAIN);
    }
    screen.gap();
    screen.line("  gates, in the order in which they are asked", TITLE);
    for gate in &i.why.gates {
        let (mark, style) = if gate.passed { ("ok", GOOD) } else { ("--", WARN) };
        screen.entry(
            &format!("  {mark} {:<13}", gate.name),
            &gate.detail,
            if gate.passed { PLAIN } else { style },
        );
    }
    screen.gap();
    screen.line("  order of eligibility: class, priority, address", TITLE);
    let rows: Vec<Vec<Cell>> = (1..)
        .zip(&i.why.order)
        .map(|(n, c)| {
            let state = c.state.as_deref().unwrap_or("not heard");
            let word = if c.alive { state.to_owned() } else { format!("silent, was {state}") };
            let style = if c.alive { state_style(state, None) } else { BAD };
            let here = if c.this_host { " (this host)" } else { "" };
            vec![
                plain(format!("  {n}")),
                plain(format!("{}{here}", c.host)),
                cell(word, style),
                plain(&*c.class),
                plain(c.priority.to_string()),
                plain(c.standby.as_deref().unwrap_or("-")),
            ]
        })
        .collect();
    screen.table(&["   ", "HOST", "STATE", "CLASS", "PRIORITY", "STANDBY"], &rows);
    screen.gap();
    screen.line("  what would change it", TITLE);
    for change in &i.why.changes {
        screen.entry("  - ", change, PLAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::{Candidate, Gate, Owner, SCHEMA, Scheduling, Why};

    #[test]
    fn tells_gates_order_and_what_would_change_it() {
        let gate = |name: &str, passed, detail: &str| Gate {
            name: name.into(),
            passed,
            detail: detail.into(),
        };
        let candidate = |host: &str, state: &str, priority| Candidate {
            host: host.into(),
            this_host: host == "lb1",
            alive: true,
            state: Some(state.into()),
            class: "healthy".into(),
            priority,
            standby: Some("hot".into()),
        };
        let web = Instance {
            name: "web".into(),
            state: "backup".into(),
            since_s: 273_600.0,
            cause: "outranked by priority 150".into(),
            priority: 100,
            configured_priority: 100,
            owner: Some(Owner { host: Some("lb2".into()), address: None, this_host: false }),
            why: Why {
                gates: vec![
                    gate("link", true, "eth0 is up, with carrier"),
                    gate(
                        "owner",
                        false,
                        "last advert 400 ms ago, lb2 says that it owns, it answers on the segment, gone after 3.61 s of silence",
                    ),
                ],
                order: vec![candidate("lb2", "active", 150), candidate("lb1", "backup", 100)],
                successor: None,
                changes: vec!["lb2 dies: this host owns after 3.61 s".into()],
            },
            ..Instance::default()
        };
        let status = Status {
            schema: SCHEMA,
            version: "0.1.0".into(),
            cluster: "shop".into(),
            host: "lb1".into(),
            config_hash: String::new(),
            uptime_s: 1.0,
            scheduling: Scheduling::default(),
            instances: vec![web],
            checks: vec![],
            replicator: None,
            peers: vec![],
            interfaces: vec![],
            alarms: vec![],
            hooks: vec![],
            counters: [].into(),
        };
        let text = screen(&status, &[&status.instances[0]]);
        let text = anstream::adapter::strip_str(&text).to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for wanted in [
            "web is BACKUP on lb1, for 3d04h",
            "  ok link         eth0 is up",
            "  -- owner        last advert 400 ms ago, lb2 says",
            "lb1 (this host)  backup  healthy  100",
            "  - lb2 dies: this host owns after 3.61 s",
        ] {
            assert!(text.contains(wanted), "{wanted}\n{text}");
        }
    }
}
