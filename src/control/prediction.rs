//! The answer to `simulate`: what `vipd simulate --json` prints. `schema` grows when a field changes its meaning or goes;
//! new fields do not change it. Times are seconds after the event.

use super::status::Why;
use serde::{Deserialize, Serialize};

/// Version of the document.
pub const SCHEMA: u32 = 1;

/// What would happen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The host that answers.
    pub host: String,
    /// What was supposed, as a sentence.
    pub event: String,
    /// An order that would not be carried out: why, and what to do. Nothing was played then.
    pub refused: Option<String>,
    /// How the ordered operation would end.
    pub operation: Option<Ended>,
    /// So much time after the event was looked at.
    pub played_s: f64,
    /// More was to come at the end of it.
    pub cut_short: bool,
    /// One entry for each instance of this host; where its families run by themselves, one for each family.
    pub instances: Vec<Outcome>,
    /// Alarms that would be raised.
    pub alarms: Vec<Raised>,
    /// What the answer rests on that no host has said: one sentence each.
    pub supposed: Vec<String>,
}

/// How an operation would end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// As ordered?
    pub done: bool,
    /// For people.
    pub message: String,
    /// When.
    pub after_s: f64,
}

/// What becomes of an instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// `[instance.NAME]`.
    pub name: String,
    /// `ipv4`, `ipv6`: the leading one first.
    pub families: Vec<String>,
    /// Hosts that own it before the event; more than one is a fault.
    pub before: Vec<String>,
    /// Hosts that own it at the end.
    pub after: Vec<String>,
    /// Its changes of state, in order.
    pub steps: Vec<Step>,
    /// What clients lose.
    pub clients: Vec<Clients>,
    /// The host whose decision `why` is: who owns it, else this one.
    pub seen_by: String,
    /// State of that host.
    pub state: String,
    /// The decision at the end.
    pub why: Why,
}

/// A change of state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub after_s: f64,
    /// On which host.
    pub host: String,
    /// From.
    pub from: String,
    /// To.
    pub to: String,
    /// Why, for programs.
    pub code: String,
    /// Why, for people.
    pub cause: String,
}

/// What clients lose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Clients {
    /// `all`, or where the network is cut `this-host` and `others`.
    pub side: String,
    /// For so long nobody serves the address where they send their packets.
    pub lost_s: f64,
    /// Nobody does at the end.
    pub to_the_end: bool,
}

/// An alarm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Raised {
    /// On which host.
    pub host: String,
    /// Of which instance; absent: of the host.
    pub instance: Option<String>,
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
    /// When.
    pub after_s: f64,
}
