//! What the play of an event came to, as document: the words for `vipd simulate`.

use super::why::why;
use crate::control::prediction::{Clients, Ended, Outcome, Prediction, Raised, SCHEMA, Step};
use crate::telemetry::{alarm_code, alarm_text, cause_code, cause_text};
use vipd_core::config::model::Model;
use vipd_core::engine::io::OperatorOrder;
use vipd_core::engine::simulate::{self, Player, Side, Supposed, WhatIf};
use vipd_core::types::Verdict;

/// The document. `model`: that of this host.
pub(in crate::runtime) fn prediction(
    model: &Model,
    what: &WhatIf,
    played: &simulate::Prediction,
) -> Prediction {
    let players = &played.players;
    let alarms = played.alarms.iter().map(|(player, instance, alarm, after)| {
        let player = &players[*player];
        Raised {
            host: player.name.to_string(),
            instance: instance.map(|ix| player.model.instance(ix).name.to_string()),
            code: alarm_code(alarm).into(),
            message: alarm_text(&player.model, alarm),
            after_s: after.as_secs_f64(),
        }
    });
    Prediction {
        schema: SCHEMA,
        host: model.host_name(model.host).to_string(),
        event: event(model, what),
        refused: played.refused.clone(),
        operation: played.operation.as_ref().map(|(done, message, after)| Ended {
            done: *done,
            message: message.to_string(),
            after_s: after.as_secs_f64(),
        }),
        played_s: played.played.as_secs_f64(),
        cut_short: played.cut_short,
        instances: played.outcomes.iter().map(|o| outcome(players, o)).collect(),
        alarms: alarms.collect(),
        supposed: played.supposed.iter().map(supposed).collect(),
    }
}

fn outcome(players: &[Player], outcome: &simulate::Outcome) -> Outcome {
    let names = |of: &[usize]| of.iter().map(|p| players[*p].name.to_string()).collect();
    let (teller, at, view) = &outcome.view;
    let steps = outcome.steps.iter().map(|step| {
        let player = &players[step.player];
        Step {
            after_s: step.after.as_secs_f64(),
            host: player.name.to_string(),
            from: step.from.to_string(),
            to: step.to.to_string(),
            code: cause_code(&step.cause).into(),
            cause: cause_text(&player.model, &step.cause),
        }
    });
    let clients = outcome.clients.iter().map(|client| Clients {
        side: match client.side {
            Side::Whole => "all",
            Side::Here => "this-host",
            Side::There => "others",
        }
        .into(),
        lost_s: client.lost.as_secs_f64(),
        to_the_end: client.to_the_end,
    });
    Outcome {
        name: players[0].model.instance(outcome.instance).name.to_string(),
        families: outcome.families.iter().map(ToString::to_string).collect(),
        before: names(&outcome.before),
        after: names(&outcome.after),
        steps: steps.collect(),
        clients: clients.collect(),
        seen_by: players[*teller].name.to_string(),
        state: view.state.to_string(),
        why: why(&players[*teller].model, *at, view),
    }
}

/// What was supposed, as a sentence.
fn event(model: &Model, what: &WhatIf) -> String {
    let here = model.host_name(model.host);
    let link = |ix: vipd_core::types::LinkIx| {
        model.links.get(usize::from(ix.0)).map_or_else(String::new, |l| l.name.to_string())
    };
    let host = |ix| super::host_name(model, ix);
    match what {
        WhatIf::PeerDead(peer) => format!("{} loses its power", host(*peer)),
        WhatIf::PowerOff => format!("{here}, this host, loses its power"),
        WhatIf::LinkDown(ix) => format!("{} of {here} loses its carrier", link(*ix)),
        WhatIf::Partition(Some(ix)) => {
            format!("nothing passes between {here} and the others on {}", link(*ix))
        }
        WhatIf::Partition(None) => format!("nothing passes between {here} and the others"),
        WhatIf::Check(check, verdict) => {
            let says = match verdict {
                Verdict::Pass => "passes",
                Verdict::Warn => "warns",
                Verdict::Fail => "fails",
                Verdict::Unknown => "cannot be run",
            };
            format!("check {} {says} on {here} from its next run on", model.check(*check).name)
        }
        WhatIf::Stop => format!("the agent of {here} is stopped"),
        WhatIf::Order(instance, order) => {
            let name = instance.map_or("everything", |ix| &*model.instance(ix).name);
            match order {
                OperatorOrder::Move { to: Some(to), .. } => {
                    format!("an operator moves {name} from {here} to {}", host(*to))
                }
                OperatorOrder::Move { .. } => format!("an operator moves {name} away from {here}"),
                OperatorOrder::Drain { .. } => format!("an operator drains {here}"),
                other => format!("an operator orders {other:?} of {name}"),
            }
        }
    }
}

fn supposed(what: &Supposed) -> String {
    match what {
        Supposed::AsConfigured(host) => format!(
            "without heartbeats {host} says nothing of itself: taken to be up, healthy and as configured"
        ),
        Supposed::TakenFor(host) => format!("the owner that is heard is taken to be {host}"),
        Supposed::Silent(host) => format!("{host} is not heard: taken to be off"),
        Supposed::OtherConfiguration(host) => {
            format!("the configuration of {host} differs: taken to be the one of this host")
        }
        Supposed::DelayBeginsNow(host) => format!(
            "{host} outranks the owner and waits: it does not say for how long yet, its preempt-delay is taken to begin \
             now"
        ),
        Supposed::Activates(host) => {
            format!("the activation on {host} succeeds, and takes no time")
        }
        Supposed::Agrees(host) => {
            format!("hooks and replicas on {host} agree to the move, and take no time")
        }
        Supposed::CopiesFollow => {
            "copies of state files that are good enough now stay so while an owner is heard".into()
        }
        Supposed::TargetsOnBothSides => {
            "each side of the cut still reaches the targets that it reaches now".into()
        }
        Supposed::ChecksElsewhere => {
            "the checks of the other hosts go on saying what they say now".into()
        }
    }
}
