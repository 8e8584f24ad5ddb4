//! The engine's explanation as part of the status document: the words for `vipd why`.

use super::gate_text;
use crate::control::status::{Candidate, Gate, Successor, Why};
use crate::telemetry::seconds;
use vipd_core::config::model::{self as config, Model, StandbyKind};
use vipd_core::engine::explain::{self, GateView, OwnerView};
use vipd_core::engine::snapshot::{ActivationView, ReplicaView, UnitView};
use vipd_core::time::Instant;
use vipd_core::types::{Class, State};

/// The decision behind the state of `unit`.
pub(super) fn why(model: &Model, now: Instant, unit: &UnitView) -> Why {
    let why = &unit.why;
    let name = |host| model.host_name(host).to_string();
    let order = why.order.iter().map(|c| Candidate {
        host: name(c.host),
        this_host: c.host == model.host,
        alive: c.alive,
        state: c.state.map(|state| state.to_string()),
        class: c.class.to_string(),
        priority: c.priority,
        standby: c.standby.map(|kind| kind_word(kind).into()),
    });
    Why {
        gates: why.gates.iter().map(|view| gate(model, now, unit, view)).collect(),
        order: order.collect(),
        successor: why.successor.map(|s| Successor {
            host: name(s.host),
            this_host: s.host == model.host,
            after_s: s.after.as_secs_f64(),
            activates: s.activates,
        }),
        changes: changes(model, now, unit),
    }
}

/// How a host stands by, for programs.
pub(super) const fn kind_word(kind: StandbyKind) -> &'static str {
    match kind {
        StandbyKind::Hot => "hot",
        StandbyKind::Warm => "warm",
        StandbyKind::Cold => "cold",
    }
}

fn interface(model: &Model, unit: &UnitView) -> String {
    let link = model.links.get(usize::from(model.instance(unit.instance).link.0));
    link.map_or_else(String::new, |l| l.name.to_string())
}

fn gate(model: &Model, now: Instant, unit: &UnitView, view: &GateView) -> Gate {
    use explain::Gate as G;
    let on = interface(model, unit);
    let (name, detail) = match &view.gate {
        G::Link { exists: false, .. } => ("link", format!("{on} does not exist")),
        G::Link { running: true, .. } => ("link", format!("{on} is up, with carrier")),
        G::Link { .. } => ("link", format!("{on} is down or without carrier")),
        G::Source(Some(source)) => ("source", format!("adverts leave from {source}")),
        G::Source(None) => ("source", format!("{on} has no address to send adverts from")),
        G::Barred(None) => ("barred", "no fault of the kernel keeps it out".into()),
        G::Barred(Some(left)) => ("barred", format!("kept out for {} more", seconds(*left))),
        G::Settled(None) => ("settled", format!("{on} forwards")),
        G::Settled(Some(left)) => {
            ("settled", format!("{on} has heard nobody yet; waits {} at most", seconds(*left)))
        }
        G::Restart(None) => ("restart", "the agent did not crash again and again".into()),
        G::Restart(Some(left)) => {
            ("restart", format!("the agent kept crashing: backup for {} more", seconds(*left)))
        }
        G::Group(None) => ("group", "every member of the sync group is able to own".into()),
        G::Group(Some(member)) => {
            ("group", format!("{} of its sync group cannot own", model.instance(*member).name))
        }
        G::Class(class, culprit) => ("class", class_text(model, *class, *culprit)),
        G::Replica(replica) => ("replica", replica_text(replica)),
        G::ByItself if view.passed => ("standby", "an operator ordered it to claim".into()),
        G::ByItself => ("standby", "a cold standby claims only when promoted".into()),
        G::Activation(activation) => ("activation", activation_text(activation)),
        G::NoOwner(owner) => ("owner", owner_text(model, owner, view.passed)),
        G::Preempts { mine, theirs, closed } => {
            let against = format!("{mine} here against {theirs} of the owner");
            let closed = closed.as_ref().filter(|_| mine > theirs);
            (
                "priority",
                match closed {
                    Some(closed) => format!("{against}; {}", gate_text(model, now, closed)),
                    None => against,
                },
            )
        }
        G::StaleHolder => {
            ("stale-holder", "the kernel of a silent peer still serves the address".into())
        }
        G::Applied if view.passed => ("kernel", "the kernel confirmed every address".into()),
        G::Applied => ("kernel", "the kernel has not confirmed every address".into()),
    };
    Gate { name: name.into(), passed: view.passed, detail }
}

fn class_text(
    model: &Model,
    class: Class,
    culprit: Option<(vipd_core::types::CheckIx, vipd_core::types::Verdict)>,
) -> String {
    match culprit {
        Some((check, _)) if class > Class::Healthy => {
            format!("{class}, because of check {}", model.check(check).name)
        }
        _ => class.to_string(),
    }
}

fn replica_text(replica: &ReplicaView) -> String {
    let copy = match replica.age {
        None => "nobody knows how old the copy of the state is".to_owned(),
        Some(age) if replica.pending > 0 => {
            format!(
                "the copy of the state is {} old, {} octets were to come",
                seconds(age),
                replica.pending
            )
        }
        Some(age) => format!("the copy of the state is {} old", seconds(age)),
    };
    match (replica.stale, replica.gate) {
        (true, config::Gate::Require) => {
            format!("{copy}: it does not claim (promote-gate = \"require\")")
        }
        (true, _) => format!("{copy}: second choice"),
        (false, _) => copy,
    }
}

fn activation_text(view: &ActivationView) -> String {
    match view {
        ActivationView::Idle => "activates before it claims".into(),
        ActivationView::Running { since, .. } => {
            format!("the activation runs for {}", seconds(*since))
        }
        ActivationView::Ready(left) => format!("activated, for {} more", seconds(*left)),
        ActivationView::Failed { why, retry } => {
            format!("the activation failed: {why}; again in {}", seconds(*retry))
        }
    }
}

fn owner_text(model: &Model, owner: &OwnerView, gone: bool) -> String {
    let advert = match owner.advert {
        Some(ago) => format!("last advert {} ago", seconds(ago)),
        None => "no advert was ever heard".into(),
    };
    let beat = owner.says_so.map(|host| format!("{} says that it owns", model.host_name(host)));
    let reach = owner.reached.map(|reached| {
        if reached { "it answers on the segment" } else { "it does not answer on the segment" }
            .to_owned()
    });
    let end = (!gone).then(|| format!("gone after {} of silence", seconds(owner.patience)));
    let words: Vec<String> = [Some(advert), beat, reach, end].into_iter().flatten().collect();
    words.join(", ")
}

/// What would change the state, besides an order.
fn changes(model: &Model, now: Instant, unit: &UnitView) -> Vec<String> {
    let why = &unit.why;
    let mut changes = Vec::new();
    match unit.state {
        State::Active => {
            if let Some(next) = why.successor {
                let host = model.host_name(next.host);
                let first = if next.activates { ", after its activation" } else { "" };
                changes.push(format!(
                    "this host dies: {host} owns after {}{first}; a clean stop: at once",
                    seconds(next.after)
                ));
            } else {
                changes.push("this host dies: nobody is known to follow".into());
            }
            let better = why.order.iter().find(|c| {
                c.host != model.host
                    && c.alive
                    && c.class <= unit.class
                    && c.priority > unit.priority
            });
            if let Some((host, _)) = unit.asked_by {
                let host = model.host_name(host);
                changes.push(format!("{host} has everything of its state: then {host} claims"));
            } else if let Some(c) = better {
                changes.push(format!(
                    "{} has priority {} and takes the address when its gates open",
                    model.host_name(c.host),
                    c.priority
                ));
            }
            let checks = &model.instance(unit.instance).checks;
            if !checks.is_empty() && why.order.len() > 1 {
                changes.push("a check that fails makes it hand over to a fitter host".into());
            }
        }
        State::Backup | State::Initialize => {
            for view in why.gates.iter().filter(|view| !view.passed) {
                changes.extend(change(model, now, unit, view));
            }
            if changes.is_empty() && unit.state == State::Backup {
                changes.push("nothing: it claims when its timer ends".into());
            }
        }
    }
    changes
}

/// What would open a closed gate.
fn change(model: &Model, now: Instant, unit: &UnitView, view: &GateView) -> Option<String> {
    use explain::Gate as G;
    let on = interface(model, unit);
    Some(match &view.gate {
        G::Link { .. } => format!("{on} comes up, with carrier"),
        G::Source(_) => format!("{on} gets an address of its own"),
        G::Barred(left) | G::Settled(left) | G::Restart(left) => {
            format!("{} pass", seconds((*left)?))
        }
        G::Group(member) => {
            format!("{} is able to own again", model.instance((*member)?).name)
        }
        G::Class(_, Some((check, _))) => format!("check {} passes", model.check(*check).name),
        G::Class(class, None) => format!("this host is no longer {class}"),
        G::Replica(_) => {
            "the owner says that the copy is complete again; or `vipd promote --accept-data-loss`"
                .into()
        }
        G::ByItself => format!("`vipd promote {}`", model.instance(unit.instance).name),
        G::Activation(_) => "the activation succeeds".into(),
        G::NoOwner(owner) => {
            let next = unit.why.successor?;
            let (who, after) = (model.host_name(next.host), seconds(next.after));
            let died = owner.says_so.map_or("the owner", |host| model.host_name(host));
            if next.host == model.host {
                format!("{died} dies: this host owns after {after}")
            } else {
                format!("{died} dies: {who} owns after {after}, before this host")
            }
        }
        G::Preempts { mine, theirs, closed } => match closed {
            Some(closed) if mine > theirs => {
                format!("{}: then this host takes the address", gate_text(model, now, closed))
            }
            _ => format!("a priority above {theirs} here, or the owner's falls below {mine}"),
        },
        G::StaleHolder => "that kernel lets go, at the end of its lease at the latest".into(),
        G::Applied => return None,
    })
}
