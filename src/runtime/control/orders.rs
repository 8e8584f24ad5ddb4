//! Verbs as orders: names become what the engine knows.

use crate::control::protocol::Verb;
use crate::runtime::tasks::Task;
use crate::sys::clock;
use std::time::Duration;
use vipd_core::config::model::Model;
use vipd_core::engine::io::OperatorOrder;
use vipd_core::types::{HostIx, InstanceIx, Priority};

/// A freeze that nobody ends does.
const FREEZE: Duration = Duration::from_secs(2 * 3600);

/// Who carries it out.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// The engine.
    Engine(Option<InstanceIx>, OperatorOrder),
    /// The main thread.
    Main(Task),
}

/// `verb` as an order.
///
/// # Errors
/// Why it means nothing here, and what would.
pub(super) fn order(model: &Model, verb: &Verb) -> Result<Order, String> {
    let ix = verb.instance().map(|name| instance(model, name)).transpose()?;
    let until = verb.term().map(|term| clock::monotonic() + term);
    let order = match verb {
        Verb::Status {}
        | Verb::History { .. }
        | Verb::Subscribe { .. }
        | Verb::Simulate { .. }
        | Verb::Replicate {} => {
            return Err(format!("{} changes nothing", verb.word()));
        }
        Verb::Reload {} => return Ok(Order::Main(Task::Reload)),
        Verb::Reexec {} => return Ok(Order::Main(Task::Reexec)),
        Verb::Move { to, force, .. } => {
            let to = to.as_deref().map(|name| host(model, name)).transpose()?;
            OperatorOrder::Move { to, force: *force }
        }
        Verb::Drain { last_resort, allow_outage, .. } => {
            OperatorOrder::Drain { until, last_resort: *last_resort, allow_outage: *allow_outage }
        }
        Verb::Undrain {} => OperatorOrder::Undrain,
        Verb::Freeze { .. } => OperatorOrder::Freeze {
            until: Some(until.unwrap_or_else(|| clock::monotonic() + FREEZE)),
        },
        Verb::Thaw {} => OperatorOrder::Thaw,
        Verb::SetPriority { priority, .. } => OperatorOrder::SetPriority {
            priority: priority.map(runtime_priority).transpose()?,
            until,
        },
        Verb::Failback { .. } => OperatorOrder::Failback,
        Verb::Promote { accept_data_loss, .. } => {
            OperatorOrder::Promote { accept_data_loss: *accept_data_loss }
        }
        Verb::Release { .. } => OperatorOrder::Release,
        Verb::Ack { .. } => OperatorOrder::Acknowledge,
    };
    Ok(Order::Engine(ix, order))
}

pub(super) fn instance(model: &Model, name: &str) -> Result<InstanceIx, String> {
    let found = model.iter().find(|(_, instance)| *instance.name == *name);
    found.map(|(ix, _)| ix).ok_or_else(|| {
        let names: Vec<&str> = model.instances.iter().map(|i| &*i.name).collect();
        format!("there is no instance {name} on this host; there are: {}", names.join(", "))
    })
}

pub(super) fn host(model: &Model, name: &str) -> Result<HostIx, String> {
    let found = (0_u8..).zip(&model.hosts).find(|(_, host)| *host.name == *name);
    found.map(|(n, _)| HostIx(n)).ok_or_else(|| {
        let names: Vec<&str> = model.hosts.iter().map(|h| &*h.name).collect();
        format!("there is no host {name} in the configuration; there are: {}", names.join(", "))
    })
}

/// 255 is a property of the address's owner, 0 the word of one who leaves: neither is set by hand.
fn runtime_priority(value: u8) -> Result<Priority, String> {
    match Priority::new(value) {
        Ok(priority) if !priority.is_owner() => Ok(priority),
        _ => Err(format!("priority {value} cannot be set at run time; give one from 1 to 254")),
    }
}
