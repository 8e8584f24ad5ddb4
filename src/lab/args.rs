//! The options of `vipd lab`.

use super::agent::Kind;
use super::plan::{Adverts, Families, Heartbeats, MacMode, Plan};
use super::scene::{self, Needs, SCENES};
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::time::Duration;

/// Play failures in namespaces on this machine and watch what a client sees
#[derive(Clone, Debug, Args)]
pub struct LabArgs {
    /// How many hosts (2 to 16); h1 has the highest priority
    #[arg(long, value_name = "N", default_value = "2", value_parser = hosts)]
    pub hosts: usize,
    /// Advertisement interval: 10ms to 40.95s
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    /// Scenario to play, with those that must come before it; may be repeated [default: all usual ones]
    #[arg(long = "scenario", value_name = "NAME", value_delimiter = ',',
        value_parser = PossibleValuesParser::new(SCENES.iter().map(|s| PossibleValue::new(s.name).help(s.about))))]
    pub scenarios: Vec<String>,
    /// Address families of the virtual addresses
    #[arg(long, value_name = "FAMILY", default_value = "4")]
    pub family: Families,
    /// Which agent runs on the hosts
    #[arg(long, value_name = "AGENT", default_value = "vipd")]
    pub agent: AgentName,
    /// Plain VRRP, without heartbeats (vipd)
    #[arg(long)]
    pub no_heartbeats: bool,
    /// Use the virtual router MAC
    #[arg(long)]
    pub virtual_mac: bool,
    /// Send adverts to the peers instead of the multicast group
    #[arg(long)]
    pub unicast: bool,
    /// Start the agents and open a shell on this host instead of playing
    #[arg(long, value_name = "HOST", conflicts_with_all = ["scenarios", "json", "keep"])]
    pub shell: Option<String>,
    /// Leave the room up after the play until Ctrl-C, and say how to enter it
    #[arg(long, conflicts_with = "json")]
    pub keep: bool,
    /// Print one JSON document instead of timeline and table
    #[arg(long)]
    pub json: bool,
}

/// Agents by name.
#[derive(Copy, Clone, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentName {
    /// This program.
    Vipd,
    /// keepalived, for comparison; must be installed.
    Keepalived,
}

impl LabArgs {
    /// The plan that these options mean.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan {
            hosts: self.hosts,
            interval: self.interval,
            families: self.family,
            heartbeats: if self.no_heartbeats { Heartbeats::Off } else { Heartbeats::TwoPaths },
            mac: if self.virtual_mac { MacMode::Virtual } else { MacMode::Interface },
            adverts: if self.unicast { Adverts::Unicast } else { Adverts::Multicast },
            ..self.furniture()
        }
    }

    /// A room with services and checks where a scene needs them: then a return takes its time, and is seen to.
    fn furniture(&self) -> Plan {
        let mut scenes = self.scenarios.iter().filter_map(|name| scene::named(name));
        if scenes.any(|s| s.needs == Needs::Health) { Plan::healthy() } else { Plan::default() }
    }

    /// The agent that these options mean.
    ///
    /// # Errors
    /// When this program's file cannot be found.
    pub fn kind(&self) -> anyhow::Result<Kind> {
        match self.agent {
            AgentName::Vipd => Kind::this(),
            AgentName::Keepalived => Ok(Kind::Keepalived),
        }
    }
}

fn hosts(text: &str) -> Result<usize, String> {
    let most = super::topology::MAX_HOSTS;
    let n = text.parse().ok().filter(|n| (2..=most).contains(n));
    n.ok_or_else(|| format!("a play needs 2 to {most} hosts"))
}

fn interval(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("{text:?} is no interval: 10ms to 40.95s in steps of 10ms, as 100ms or 1s");
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 0.001),
        (None, Some(number)) => (number, 1.0),
        _ => return Err(wrong()),
    };
    let seconds = number.trim().parse::<f64>().map_err(|_| wrong())? * unit;
    let centis = (seconds * 100.0).round();
    let exact = (centis - seconds * 100.0).abs() < 1e-6 && (1.0..=4095.0).contains(&centis);
    if exact { Ok(Duration::from_secs_f64(centis / 100.0)) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_whole_centiseconds() {
        assert_eq!(interval("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(interval("40.95s"), Ok(Duration::from_millis(40950)));
        assert_eq!(interval("10ms"), Ok(Duration::from_millis(10)));
        for wrong in ["", "1", "5ms", "15ms", "41s", "-1s", "NaNs", "1m"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
