//! What may be asked: the verbs with their fields.

use super::what_if::WhatIf;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Longest time for which something may be set: what is meant for longer belongs into the configuration.
const LONGEST_TERM: Duration = Duration::from_secs(30 * 86_400);
/// Longest name of an instance or host, in octets: it is repeated in answers and in the log.
const LONGEST_NAME: usize = 256;

/// What may be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Verb {
    /// The status document.
    Status {},
    /// What happened: transitions, operations, changes, alarms.
    History {
        /// The newest so many; left out: all that is kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<usize>,
        /// Of this instance, and of the host.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<String>,
    },
    /// The status document, then events as they happen, until the client leaves.
    Subscribe {
        /// So many of the history between the two.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<usize>,
        /// Of this instance, and of the host.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<String>,
    },
    /// What would happen; nothing does.
    Simulate {
        /// If this happened.
        event: WhatIf,
    },
    /// Hand the instance to another host without a gap; the new owner keeps it.
    Move {
        /// Which instance.
        instance: String,
        /// To this host; left out: to the best one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
        /// Override what can be overridden; the answer names it.
        #[serde(default)]
        force: bool,
    },
    /// Hand everything to other hosts and claim nothing any more, until undrained.
    Drain {
        /// Ends by itself after so many seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_s: Option<f64>,
        /// Claim all the same when nobody else can.
        #[serde(default)]
        last_resort: bool,
        /// Release even what nobody takes over.
        #[serde(default)]
        allow_outage: bool,
    },
    /// Take part again.
    Undrain {},
    /// No preemption and no voluntary move in the whole group.
    Freeze {
        /// Ends by itself after so many seconds; left out: two hours.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_s: Option<f64>,
    },
    /// End of the freeze.
    Thaw {},
    /// Another priority than the configured one.
    SetPriority {
        /// Which instance.
        instance: String,
        /// 1 to 254; `null`: the configured one again. It must be given: a slip must not clear anything.
        #[serde(deserialize_with = "Option::deserialize")]
        priority: Option<u8>,
        /// Ends by itself after so many seconds; left out: holds until cleared.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_s: Option<f64>,
    },
    /// Give the instance back to the host that configuration and checks prefer.
    Failback {
        /// Which instance.
        instance: String,
    },
    /// Claim: a standby that does not do so by itself, or one that is held.
    Promote {
        /// Which instance.
        instance: String,
        /// Also with a copy of its state that is old or unknown: what it lacks is lost.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        accept_data_loss: bool,
    },
    /// Let go of the instance, whoever takes it.
    Release {
        /// Which instance.
        instance: String,
    },
    /// The reason why moves were held was looked at.
    Ack {
        /// Which instance.
        instance: String,
    },
    /// Read the configuration anew.
    Reload {},
    /// Go on as the program that is installed now, without letting go of anything.
    Reexec {},
    /// From here on this connection is that of the replicator ([`vipd_core::replica`]).
    Replicate {},
}

impl Verb {
    /// As it is written.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Status {} => "status",
            Self::History { .. } => "history",
            Self::Subscribe { .. } => "subscribe",
            Self::Simulate { .. } => "simulate",
            Self::Move { .. } => "move",
            Self::Drain { .. } => "drain",
            Self::Undrain {} => "undrain",
            Self::Freeze { .. } => "freeze",
            Self::Thaw {} => "thaw",
            Self::SetPriority { .. } => "set-priority",
            Self::Failback { .. } => "failback",
            Self::Promote { .. } => "promote",
            Self::Release { .. } => "release",
            Self::Ack { .. } => "ack",
            Self::Reload {} => "reload",
            Self::Reexec {} => "reexec",
            Self::Replicate {} => "replicate",
        }
    }

    /// Does it change anything? Then only root and the group of administrators may.
    pub const fn changes(&self) -> bool {
        match self {
            Self::Status {}
            | Self::History { .. }
            | Self::Subscribe { .. }
            | Self::Replicate {}
            | Self::Simulate { .. } => false,
            Self::Move { .. }
            | Self::Drain { .. }
            | Self::Undrain {}
            | Self::Freeze { .. }
            | Self::Thaw {}
            | Self::SetPriority { .. }
            | Self::Failback { .. }
            | Self::Promote { .. }
            | Self::Release { .. }
            | Self::Ack { .. }
            | Self::Reload {}
            | Self::Reexec {} => true,
        }
    }

    /// The instance that it is about.
    pub fn instance(&self) -> Option<&str> {
        match self {
            Self::History { instance, .. } | Self::Subscribe { instance, .. } => {
                instance.as_deref()
            }
            Self::Move { instance, .. }
            | Self::SetPriority { instance, .. }
            | Self::Failback { instance }
            | Self::Promote { instance, .. }
            | Self::Release { instance }
            | Self::Ack { instance } => Some(instance),
            Self::Status {}
            | Self::Simulate { .. }
            | Self::Drain { .. }
            | Self::Undrain {}
            | Self::Freeze { .. }
            | Self::Thaw {}
            | Self::Reload {}
            | Self::Reexec {}
            | Self::Replicate {} => None,
        }
    }

    /// For how long it is meant.
    const fn term_s(&self) -> Option<f64> {
        match self {
            Self::Drain { for_s, .. }
            | Self::Freeze { for_s }
            | Self::SetPriority { for_s, .. } => *for_s,
            _ => None,
        }
    }

    /// For how long it is meant.
    pub fn term(&self) -> Option<Duration> {
        self.term_s().map(|s| Duration::try_from_secs_f64(s).unwrap_or(LONGEST_TERM))
    }

    /// Are its fields within their bounds? Whether they make sense here is the handler's to say.
    pub(super) fn check(&self) -> Result<(), String> {
        let host = match self {
            Self::Move { to, .. } => to.as_deref(),
            _ => None,
        };
        for (field, name) in [("instance", self.instance()), ("to", host)] {
            let Some(name) = name else { continue };
            check_name(field, name)?;
        }
        if let Self::Simulate { event } = self {
            event.check()?;
        }
        check_seconds("for_s", self.term_s(), LONGEST_TERM)
    }
}

/// May `name` be that of an instance or host?
pub(super) fn check_name(field: &str, name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err(format!("field `{field}`: not a name"));
    }
    Ok(())
}

/// Is `seconds` a length of time of at most `longest`?
pub(super) fn check_seconds(
    field: &str,
    seconds: Option<f64>,
    longest: Duration,
) -> Result<(), String> {
    match seconds {
        Some(s) if !(s > 0.0 && s <= longest.as_secs_f64()) => {
            Err(format!("field `{field}`: more than 0 and at most {} seconds", longest.as_secs()))
        }
        _ => Ok(()),
    }
}
