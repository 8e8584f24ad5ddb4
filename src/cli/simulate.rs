//! `vipd simulate`: what would happen, played on a copy of the agent's state.

use super::screen::{BAD, FAINT, GOOD, PLAIN, Screen, TITLE, WARN, show};
use super::{Exit, Failure, Place, status};
use crate::control::client;
use crate::control::prediction::{Clients, Outcome, Prediction};
use crate::control::protocol::WhatIf;
use crate::control::socket_path;
use crate::telemetry::seconds;
use clap::{Args, Subcommand, ValueEnum};
use std::time::Duration;
use vipd_core::types::Verdict;

#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Print the answer as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    event: EventArg,
}

/// What is supposed to happen.
#[derive(Debug, Subcommand)]
enum EventArg {
    /// Another host loses its power, right after an advert: the longest way to its successor
    PeerDead {
        /// Which host
        #[arg(value_name = "HOST")]
        peer: String,
    },
    /// This host loses its power, right after an advert
    PowerOff,
    /// A service interface of this host loses its carrier
    LinkDown {
        /// Which interface [default: the only one]
        interface: Option<String>,
    },
    /// Nothing passes between this host and the others, all of which live
    Partition {
        /// On this service interface alone [default: on no network]
        interface: Option<String>,
    },
    /// A check of this host says so from its next run on
    Check {
        /// Which check
        name: String,
        /// What it says
        verdict: VerdictArg,
    },
    /// The agent of this host is stopped
    Stop,
    /// An operator orders `vipd move`
    Move {
        /// Which instance
        instance: String,
        /// To this host [default: the best one]
        #[arg(long, value_name = "HOST")]
        to: Option<String>,
    },
    /// An operator orders `vipd drain`
    Drain,
}

#[derive(Copy, Clone, Debug, ValueEnum)]
enum VerdictArg {
    Pass,
    Warn,
    Fail,
    Unknown,
}

impl From<EventArg> for WhatIf {
    fn from(event: EventArg) -> Self {
        match event {
            EventArg::PeerDead { peer: host } => Self::PeerDead { host },
            EventArg::PowerOff => Self::PowerOff {},
            EventArg::LinkDown { interface } => Self::LinkDown { interface },
            EventArg::Partition { interface } => Self::Partition { interface },
            EventArg::Check { name: check, verdict } => Self::Check {
                check,
                verdict: match verdict {
                    VerdictArg::Pass => Verdict::Pass,
                    VerdictArg::Warn => Verdict::Warn,
                    VerdictArg::Fail => Verdict::Fail,
                    VerdictArg::Unknown => Verdict::Unknown,
                },
            },
            EventArg::Stop => Self::Stop {},
            EventArg::Move { instance, to } => Self::Move { instance, to },
            EventArg::Drain => Self::Drain {},
        }
    }
}

pub(super) fn run(place: &Place, args: SimulateArgs) -> Result<Exit, Failure> {
    let prediction = client::simulate(&socket_path(&place.runtime_dir), args.event.into())?;
    if args.json {
        status::say_json(&prediction)?;
    } else {
        show(&screen(&prediction));
    }
    Ok(if prediction.refused.is_some() { Exit::Refused } else { Exit::Done })
}

fn time(s: f64) -> String {
    seconds(Duration::try_from_secs_f64(s).unwrap_or_default())
}

fn screen(prediction: &Prediction) -> String {
    let mut screen = Screen::default();
    screen.entry("if ", &format!("{}:", prediction.event), TITLE);
    screen.line("Played on a copy of what the agent knows; nothing has happened.", FAINT);
    if let Some(why) = &prediction.refused {
        screen.gap();
        screen.entry("refused: ", why, BAD);
        return screen.into_text();
    }
    if let Some(ended) = &prediction.operation {
        screen.gap();
        let (word, style) = if ended.done { ("done", GOOD) } else { ("aborted", BAD) };
        let text = format!("{word} after {}: {}", time(ended.after_s), ended.message);
        screen.entry("operation  ", &text, style);
    }
    let several = |name: &str| prediction.instances.iter().filter(|i| i.name == name).count() > 1;
    for instance in &prediction.instances {
        screen.gap();
        let label = match several(&instance.name) {
            true => format!("{} ({})", instance.name, instance.families.join(", ")),
            false => instance.name.clone(),
        };
        tell(&label, instance, &mut screen);
    }
    if !prediction.alarms.is_empty() {
        screen.gap();
        screen.line("alarms", TITLE);
        for raised in &prediction.alarms {
            let of = raised.instance.as_ref().map(|i| format!(" {i}:")).unwrap_or_default();
            let text = format!("{}:{of} {}", raised.host, raised.message);
            screen.entry(&when(raised.after_s), &text, WARN);
        }
    }
    screen.gap();
    let end = if prediction.cut_short {
        "more was to come: ask again for less, or look at the first steps only"
    } else {
        "nothing more happens then"
    };
    screen.entry("", &format!("looked {} ahead; {end}", time(prediction.played_s)), FAINT);
    if !prediction.supposed.is_empty() {
        screen.line("supposed, because no host says it:", FAINT);
        for supposed in &prediction.supposed {
            screen.entry("  - ", supposed, FAINT);
        }
    }
    screen.into_text()
}

fn owners(of: &[String]) -> String {
    match of {
        [] => "nobody".into(),
        names => names.join(" and "),
    }
}

fn tell(label: &str, outcome: &Outcome, screen: &mut Screen) {
    let (before, after) = (owners(&outcome.before), owners(&outcome.after));
    let style = if outcome.after.len() == 1 { TITLE } else { BAD };
    let what = match before == after {
        true => format!("{label} stays on {after}"),
        false => format!("{label} goes from {before} to {after}"),
    };
    screen.line(&what, style);
    for step in &outcome.steps {
        let text = format!("{}: {} -> {}, {}", step.host, step.from, step.to, step.cause);
        screen.entry(&when(step.after_s), &text, PLAIN);
    }
    for clients in &outcome.clients {
        let (text, style) = lost(clients);
        screen.entry("  clients    ", &text, style);
    }
    match (&outcome.after[..], &outcome.why.successor) {
        ([], _) => {
            let closed = outcome.why.gates.iter().filter(|gate| !gate.passed);
            for gate in closed {
                let text = format!("{} on {}: {}", gate.name, outcome.seen_by, gate.detail);
                screen.entry("  --         ", &text, WARN);
            }
            for change in &outcome.why.changes {
                screen.entry("  until      ", change, PLAIN);
            }
        }
        ([owner], Some(next)) => {
            let text = format!("{} after {}, if {owner} dies then", next.host, time(next.after_s));
            screen.entry("  next       ", &text, PLAIN);
        }
        ([owner], None) => {
            let text = format!("nobody that {owner} knows of would follow");
            screen.entry("  next       ", &text, WARN);
        }
        _ => {}
    }
}

/// When something happens, in a column of its own.
fn when(s: f64) -> String {
    let text = if s < 0.001 { "at once".to_owned() } else { format!("+{}", time(s)) };
    format!("  {text:>9}  ")
}

fn lost(clients: &Clients) -> (String, anstyle::Style) {
    let place = match &*clients.side {
        "this-host" => "on the side of this host ",
        "others" => "on the other side ",
        _ => "",
    };
    match (clients.to_the_end, clients.lost_s) {
        (true, _) => (format!("{place}are not served any more"), BAD),
        (false, lost) if lost <= 0.0 => (format!("{place}lose nothing"), GOOD),
        (false, lost) => (format!("{place}are not served for {}", time(lost)), WARN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::prediction::Step;

    #[test]
    fn tells_who_owns_then_and_what_clients_lose() {
        let prediction = Prediction {
            event: "lb2 loses its power".into(),
            instances: vec![Outcome {
                name: "web".into(),
                before: vec!["lb2".into()],
                after: vec!["lb1".into()],
                steps: vec![Step {
                    after_s: 3.609,
                    host: "lb1".into(),
                    from: "backup".into(),
                    to: "active".into(),
                    cause: "no advert for 3.61 s".into(),
                    ..Step::default()
                }],
                clients: vec![Clients { side: "all".into(), lost_s: 3.61, to_the_end: false }],
                ..Outcome::default()
            }],
            supposed: vec!["without heartbeats lb2 says nothing of itself: ".repeat(3)],
            ..Prediction::default()
        };
        let text = anstream::adapter::strip_str(&screen(&prediction)).to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for wanted in [
            "web goes from lb2 to lb1",
            "    +3.61 s  lb1: backup -> active, no advert for 3.61 s",
            "  clients    are not served for 3.61 s",
        ] {
            assert!(text.contains(wanted), "{wanted}\n{text}");
        }
        let refused = Prediction { refused: Some("frozen".into()), ..prediction };
        assert!(screen(&refused).contains("refused: "), "{}", screen(&refused));
    }
}
