//! The text of `/metrics`: a snapshot of the engine, what the loop counted, and the tally of the past, as OpenMetrics.
//!
//! Called for each scrape on the main thread. It asks nobody: what it needs is handed in. A state is a value, never a
//! label, so that a series does not come and go with it; labels are names from the configuration, and nothing that a
//! packet brings becomes one.

mod hooks;
mod host;
mod instance;
mod replica;

use super::process;
use super::tally::Tally;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::Arc;
use vipd_core::config::model::Model;
use vipd_core::engine::snapshot::Snapshot;
use vipd_core::histogram::Histogram;
use vipd_core::replica::SetReport;

/// Content type of [`Format::OpenMetrics`].
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Content type of [`Format::Plain`].
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// In which format a scraper wants the figures.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The older text format of Prometheus.
    Plain,
}

impl Format {
    /// What `accept`, the value of that header, asks for: OpenMetrics unless plain text is named and it is not.
    pub fn of(accept: Option<&str>) -> Self {
        match accept {
            Some(a) if a.contains("text/plain") && !a.contains("application/openmetrics-text") => {
                Self::Plain
            }
            _ => Self::OpenMetrics,
        }
    }

    /// Value of the header `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => OPEN_METRICS,
            Self::Plain => PLAIN,
        }
    }
}

/// What the protocol thread says of itself.
#[derive(Clone, Debug)]
pub struct Loop {
    /// Turns.
    pub wakeups: u64,
    /// From deadlines to their handling.
    pub lateness: Histogram,
    /// Times that not everything could be told.
    pub untold: u64,
    /// Datagrams and frames that could not be read or sent.
    pub socket_errors: u64,
    /// ARP and ND announcements, by instance.
    pub announced: Vec<u64>,
    /// Was real-time scheduling granted?
    pub real_time: bool,
    /// Was locking memory granted?
    pub memory_locked: bool,
}

/// Everything that a scrape shows.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The configuration.
    pub model: Arc<Model>,
    /// What happened until now.
    pub tally: Tally,
    /// Is the configuration file the one in force, as far as the agent has looked?
    pub config_used: bool,
    /// What the protocol thread answered; `None`: it did not.
    pub now: Option<(Snapshot, Loop)>,
    /// What the replicator says; `None`: no sets are configured.
    pub replicas: Option<Replicas>,
}

/// What the replicator says.
#[derive(Clone, Debug, Default)]
pub struct Replicas {
    /// Is it attached?
    pub connected: bool,
    /// Has it said nothing for too long?
    pub missing: bool,
    /// Its sets, by name.
    pub sets: Vec<SetReport>,
}

impl Figures {
    /// The figures as text.
    ///
    /// # Errors
    /// None that is known: a `String` takes everything.
    pub fn text(self, format: Format) -> Result<String, fmt::Error> {
        let cluster = self.model.cluster.to_string();
        let mut registry =
            Registry::with_labels([("vipd_cluster".into(), cluster.into())].into_iter());
        registry.register_collector(Box::new(self));
        let mut out = String::new();
        text::encode(&mut out, &registry)?;
        Ok(match format {
            Format::OpenMetrics => out,
            Format::Plain => plain(&out),
        })
    }
}

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut out = Out(encoder);
        host::agent(&mut out, self)?;
        if let Some((snapshot, counted)) = &self.now {
            host::peers(&mut out, &self.model, snapshot)?;
            host::checks(&mut out, &self.model, snapshot, &self.tally)?;
            instance::routers(&mut out, &self.model, snapshot)?;
            instance::instances(&mut out, self, snapshot, counted)?;
            hooks::encode(&mut out, self, snapshot.at)?;
        }
        if let Some(replicas) = &self.replicas {
            replica::replicas(&mut out, replicas)?;
        }
        process::encode(&mut out)
    }
}

/// Labels of a series, in order.
pub(super) type Labels = Vec<(&'static str, String)>;

/// No labels: the one series of its family.
const ALONE: [(&str, &str); 0] = [];

/// Writes families of metrics, those without a series not at all.
pub(super) struct Out<'e>(DescriptorEncoder<'e>);

/// How a family is called, what it means, and in what it is counted: the unit is part of the name.
pub(super) struct Family(pub(super) &'static str, pub(super) &'static str, pub(super) Option<Unit>);

/// A family without a unit.
pub(super) const fn plainly(name: &'static str, help: &'static str) -> Family {
    Family(name, help, None)
}

/// A family in seconds.
pub(super) const fn in_seconds(name: &'static str, help: &'static str) -> Family {
    Family(name, help, Some(Unit::Seconds))
}

/// A family in bytes.
pub(super) const fn in_bytes(name: &'static str, help: &'static str) -> Family {
    Family(name, help, Some(Unit::Bytes))
}

impl Out<'_> {
    /// A family of values that go up and down.
    pub(super) fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        Family(name, help, unit): Family,
        rows: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in rows {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// One value that goes up and down.
    pub(super) fn gauge(&mut self, family: Family, value: impl EncodeGaugeValue) -> fmt::Result {
        self.gauges(family, [(ALONE, value)])
    }

    /// A family of values that only grow.
    pub(super) fn counters<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        Family(name, help, unit): Family,
        rows: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut family =
            self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in rows {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, V, f64>(&value, None)?;
        }
        Ok(())
    }

    /// One value that only grows.
    pub(super) fn counter(
        &mut self,
        family: Family,
        value: impl EncodeCounterValue,
    ) -> fmt::Result {
        self.counters(family, [(ALONE, value)])
    }

    /// A family of histograms of seconds.
    pub(super) fn histograms<L: EncodeLabelSet>(
        &mut self,
        Family(name, help, unit): Family,
        rows: impl IntoIterator<Item = (L, Histogram)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut family =
            self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Histogram)?;
        for (labels, histogram) in rows {
            // The encoder knows the bucket without a bound by this value.
            let bound =
                |b: Option<vipd_core::time::Duration>| b.map_or(f64::INFINITY, |b| b.as_secs_f64());
            let buckets: Vec<(f64, u64)> =
                histogram.buckets().map(|(b, count)| (bound(b), count)).collect();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                histogram.sum().as_secs_f64(),
                histogram.count(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }

    /// A fact in labels.
    pub(super) fn info(&mut self, family: Family, labels: &Labels) -> fmt::Result {
        let Family(name, help, _) = family;
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(labels)
    }
}

/// OpenMetrics as the older text format: there a counter is called with its suffix, an info is a gauge, and units and
/// the end are not marked.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut help = ("", "");
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), Some(text)) => help = (name, text),
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", kind),
                    "info" => ("_info", "gauge"),
                    _ => ("", kind),
                };
                if help.0 == name {
                    out.push_str(&format!("# HELP {name}{suffix} {}\n", help.1));
                }
                out.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
            }
            (Some("#"), ..) => {}
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
