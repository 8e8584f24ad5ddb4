//! Checks, standby and flap control of the snapshot, as parts of the status document.

use crate::control::status::{Check, Flap, Moves};
use crate::telemetry::{seconds, verdict_word};
use vipd_core::config::model::{Model, Severity};
use vipd_core::engine::snapshot::{ActivationView, CheckView, MoveView, UnitView};
use vipd_core::policy::Closed;

/// One check.
pub(super) fn check(model: &Model, view: &CheckView) -> Check {
    let configured = model.check(view.check);
    Check {
        name: configured.name.to_string(),
        state: view.settled.map(|verdict| verdict_word(verdict).into()),
        since_s: view.since.map(|since| since.as_secs_f64()),
        severity: severity(configured.severity).into(),
        detail: view.detail.to_string(),
        last: view.last.map(|(verdict, _)| verdict_word(verdict).into()),
        last_s: view.last.map(|(_, ago)| ago.as_secs_f64()),
        progress: view.progress.map(|progress| (progress.count, progress.of)),
        unknown: view.unknown,
    }
}

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Degrade => "degrade",
        Severity::Fail => "fail",
        Severity::Fatal => "fatal",
        Severity::Drain => "drain",
    }
}

/// Flap control of one instance.
pub(super) fn flap(unit: &UnitView) -> Flap {
    let moves = unit.flap.moves.iter().map(|(count, limit, within)| Moves {
        count: *count,
        limit: *limit,
        within_s: within.as_secs_f64(),
    });
    Flap {
        penalty: unit.flap.penalty,
        suppressed_s: unit.flap.suppressed.map(|left| left.as_secs_f64()),
        held_s: unit.flap.held.map(|left| left.as_secs_f64()),
        moves: moves.collect(),
    }
}

/// What the instance waits for: one sentence each, with the time that is left.
pub(super) fn waits(model: &Model, unit: &UnitView) -> Vec<String> {
    let mut waits = Vec::new();
    if let Some((check, verdict)) = unit.culprit {
        let name = &model.check(check).name;
        waits.push(format!("second choice while check {name} says {}", verdict_word(verdict)));
    }
    if let Some(left) = unit.awaits_checks {
        waits.push(format!("waits {} for the first word of its checks", seconds(left)));
    }
    if let Some(left) = unit.priority_change {
        waits.push(format!("priority follows the checks in {}", seconds(left)));
    }
    if let Some(left) = unit.next_offer {
        waits.push(if left.is_zero() {
            "hands over as soon as a fitter host is there".into()
        } else {
            format!("offers the address again in {}", seconds(left))
        });
    }
    match &unit.activation {
        ActivationView::Idle => {}
        ActivationView::Running { since, left } => waits.push(format!(
            "activation runs for {}, at most {} more",
            seconds(*since),
            seconds(*left)
        )),
        ActivationView::Ready(left) => {
            waits.push(format!("activated: ready to claim for {}", seconds(*left)));
        }
        ActivationView::Failed { retry, why } => {
            waits.push(format!("activation failed ({why}), tried again in {}", seconds(*retry)));
        }
    }
    if let Some(wait) = state(model, unit) {
        waits.push(wait);
    }
    if unit.ordered {
        waits.push("ordered to claim by an operator".into());
    }
    if unit.pinned {
        waits.push("owns because an operator promoted it".into());
    }
    if let Some(left) = unit.flap.suppressed {
        waits.push(format!("suppressed by penalties, at most {} more", seconds(left)));
    }
    if let Some(left) = unit.flap.held {
        waits.push(format!("held by the move budget: `vipd ack`, or {} of quiet", seconds(left)));
    }
    waits
}

/// What of its state files a preemption waits for, on either side.
fn state(model: &Model, unit: &UnitView) -> Option<String> {
    let name = |host| model.host_name(host);
    match (&unit.gate, unit.asked_by) {
        (Some(Closed::OwnerBrings(owner)), _) => Some(match unit.moving {
            Some(MoveView::From(host)) if host == *owner => {
                format!("{} brings its state here, then this host claims", name(*owner))
            }
            _ => format!("waits until {} brings its state here", name(*owner)),
        }),
        (None, Some((host, left))) => Some(match unit.moving {
            Some(MoveView::To(Some(to))) if to == host => {
                format!("brings its state to {}, which is stronger, then hands over", name(host))
            }
            _ if left.is_zero() => {
                format!("{} is stronger: brings its state there and hands over", name(host))
            }
            _ => format!(
                "{} is stronger: its state is brought there again in {}",
                name(host),
                seconds(left)
            ),
        }),
        _ => None,
    }
}
