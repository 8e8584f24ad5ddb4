//! Where log lines go: standard error, or the journal with fields when systemd connected us to it.

use super::fields;
use std::os::unix::fs::MetadataExt;
use tracing::Metadata;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// What to log: `VIPD_LOG`, in the syntax of tracing-subscriber.
const VARIABLE: &str = "VIPD_LOG";
/// The netlink crates tell about each message at their default.
const DEFAULT: &str = "info,netlink_proto=warn,rtnetlink=warn";

/// Which way the log went.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Journal {
    /// Straight to the journal: events carry their fields.
    Fields,
    /// Lines on standard error.
    Lines,
}

/// Starts the log of this process. Called once, by the verb that runs the agent; a second call changes nothing.
pub fn init() -> Journal {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let registry = tracing_subscriber::registry().with(filter);
    if connected_to_journal()
        && let (Ok(journal), Ok(others)) = (tracing_journald::layer(), tracing_journald::layer())
    {
        // Events name their fields themselves, because MESSAGE_ID has no prefix. What other lines call `priority` must
        // not become the priority of the line.
        let events = journal.with_field_prefix(None);
        let is_event = |metadata: &Metadata<'_>| metadata.target() == fields::TARGET;
        let events = events.with_filter(filter_fn(is_event));
        let others = others.with_field_prefix(Some("VIPD".to_owned()));
        let others = others.with_filter(filter_fn(move |metadata| !is_event(metadata)));
        // Fails only when a log runs already.
        let _ = registry.with(events).with(others).try_init();
        return Journal::Fields;
    }
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        // The fields repeat what the sentence says; the journal has them.
        .fmt_fields(debug_fn(|writer, field, value| match field.name() {
            "message" => write!(writer, "{value:?}"),
            _ => Ok(()),
        }))
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let _ = registry.with(lines).try_init();
    Journal::Lines
}

/// `JOURNAL_STREAM` is inherited by everything that a service starts; it counts only when it names the very
/// stream that standard error is (systemd.exec(5)).
fn connected_to_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}
