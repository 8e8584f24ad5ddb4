//! Figures of a trial: collected by event, printed as medians.

use std::collections::BTreeMap;
use std::time::Duration;
use vipd_agent::lab::clock::millis;
use vipd_agent::lab::outage::Outage;

/// What one event cost.
#[derive(Copy, Clone, Debug)]
struct Cost {
    /// From the event to the moment at which the expected host had the address.
    reached: Duration,
    /// The client's longest outage.
    outage: Duration,
    /// Lost probes.
    lost: usize,
    /// Two hosts had the address.
    overlap: Duration,
}

/// Figures of a trial, by event.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    events: BTreeMap<&'static str, Vec<Cost>>,
}

impl Figures {
    /// Adds one.
    pub(crate) fn add(
        &mut self,
        event: &'static str,
        reached: Duration,
        client: &Outage,
        overlap: Duration,
    ) {
        let cost = Cost { reached, outage: client.longest_gap, lost: client.lost, overlap };
        self.events.entry(event).or_default().push(cost);
    }

    /// One line for each event.
    pub(crate) fn print(&self, trial: &str) {
        for (event, costs) in &self.events {
            let ms = |of: fn(&Cost) -> Duration| median(costs.iter().map(of).collect());
            eprintln!(
                "{trial:48} {event:10} n={} reached {:8.1} ms  outage {:8.1} ms  lost {:4}..{:4}  two owners {:6.1} ms",
                costs.len(),
                ms(|c| c.reached),
                ms(|c| c.outage),
                costs.iter().map(|c| c.lost).min().unwrap_or_default(),
                costs.iter().map(|c| c.lost).max().unwrap_or_default(),
                ms(|c| c.overlap),
            );
        }
    }
}

fn median(mut of: Vec<Duration>) -> f64 {
    of.sort_unstable();
    of.get(of.len() / 2).copied().map_or(0.0, millis)
}
