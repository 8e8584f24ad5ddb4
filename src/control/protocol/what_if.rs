//! What may be supposed: the events of [`Verb::Simulate`](super::Verb::Simulate) with their fields.

use super::verb::check_name;
use serde::{Deserialize, Serialize};
use vipd_core::types::Verdict;

/// An event that has not happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum WhatIf {
    /// Another host loses its power.
    PeerDead {
        /// Which one.
        host: String,
    },
    /// This host loses its power.
    PowerOff {},
    /// A service interface of this host loses its carrier.
    LinkDown {
        /// Which one; may be left out where there is only one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interface: Option<String>,
    },
    /// Nothing passes between this host and the others.
    Partition {
        /// On this service interface; left out: on no network.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interface: Option<String>,
    },
    /// A check of this host says so from its next run on.
    Check {
        /// Which one.
        check: String,
        /// What it says.
        verdict: Verdict,
    },
    /// The agent of this host is stopped.
    Stop {},
    /// As the verb `move`.
    Move {
        /// Which instance.
        instance: String,
        /// To this host; left out: to the best one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
    },
    /// As the verb `drain`.
    Drain {},
}

impl WhatIf {
    /// Are its fields within their bounds? Whether they make sense here is the handler's to say.
    pub(super) fn check(&self) -> Result<(), String> {
        let named = |field: &'static str, name: &Option<String>| {
            name.as_deref().map_or(Ok(()), |name| check_name(field, name))
        };
        match self {
            Self::PeerDead { host } => check_name("host", host),
            Self::LinkDown { interface } | Self::Partition { interface } => {
                named("interface", interface)
            }
            Self::Check { check, .. } => check_name("check", check),
            Self::Move { instance, to } => {
                check_name("instance", instance).and_then(|()| named("to", to))
            }
            Self::PowerOff {} | Self::Stop {} | Self::Drain {} => Ok(()),
        }
    }
}
