//! The live timeline: what was done, who took and lost the address, what the client missed.
//!
//! A thread of its own reads journal, eyes and probes a moment later, when late answers are in, so
//! that lines appear in the order in which things happened. It writes; it never acts.

use super::clock::{millis, now, sleep_until};
use super::journal::Journal;
use super::observe::Sight;
use super::probe::{DEADLINE, ProbeLog};
use super::screen::Paint;
use super::stage::Stage;
use serde::Serialize;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use vipd_core::time::Instant;

/// How far behind the lines are.
const LAG: Duration = DEADLINE.saturating_add(Duration::from_millis(50));
/// How often it looks.
const TICK: Duration = Duration::from_millis(50);

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Milliseconds since the beginning of the play.
    pub at_ms: f64,
    /// What it is about.
    pub kind: EntryKind,
    /// In words.
    pub text: String,
}

/// What an entry is about.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// Something was done to the room.
    Event,
    /// A host took or lost the address.
    Owner,
    /// Two hosts have it.
    TwoOwners,
    /// The client is served.
    Client,
    /// The client was not served.
    Outage,
}

impl EntryKind {
    const fn word(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Owner | Self::TwoOwners => "owner",
            Self::Client | Self::Outage => "client",
        }
    }
}

/// Everything that happened between `start` and now; waits until late answers are in.
#[must_use]
pub fn entries(stage: &Stage, start: Instant) -> Vec<Entry> {
    let end = now();
    sleep_until(end + LAG);
    Reader::new(stage, start).read_until(end)
}

/// Prints lines until dropped.
#[derive(Debug)]
pub struct Timeline {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Timeline {
    /// Begins to follow `stage` from now on; times count from here.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn follow(stage: &Stage, paint: Paint) -> anyhow::Result<Self> {
        let mut reader = Reader::new(stage, now());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("lab-timeline".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                print(&reader.read_until(now().before(LAG)), paint);
                sleep_until(now() + TICK);
            }
            sleep_until(now() + LAG);
            print(&reader.read_until(now().before(LAG)), paint);
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has printed why.
            let _ = thread.join();
        }
    }
}

/// Where the reading of one prober stands.
#[derive(Debug)]
struct Client {
    log: ProbeLog,
    next: usize,
    /// First probe of the current outage, and how many were lost so far.
    missing: Option<(Instant, usize)>,
    /// When the first answer came: before that, silence is no outage.
    met: Option<Instant>,
}

impl Client {
    const fn new(log: ProbeLog) -> Self {
        Self { log, next: 0, missing: None, met: None }
    }

    /// Outages that ended before `to`.
    fn read(&mut self, to: Instant, found: &mut Vec<Found>) {
        for probe in self.log.read(self.next, to) {
            self.next += 1;
            let Some(met) = self.met else {
                if let Some(answer) = probe.answer {
                    let at = probe.sent + answer.round_trip;
                    let text = format!("first answer from {}", self.log.target());
                    found.push((at, EntryKind::Client, text));
                    self.met = Some(at);
                }
                continue;
            };
            if probe.sent < met {
                continue;
            }
            if !probe.served() {
                let (_, lost) = self.missing.get_or_insert((probe.sent, 0));
                *lost += usize::from(probe.answer.is_none());
                continue;
            }
            if let Some((since, lost)) = self.missing.take() {
                let outage = millis(probe.sent.since(since));
                let from = self.log.target();
                let text = format!("no answer from {from} for {outage:.0} ms ({lost} lost)");
                found.push((probe.sent, EntryKind::Outage, text));
            }
        }
    }
}

type Found = (Instant, EntryKind, String);

struct Reader {
    start: Instant,
    mark: Instant,
    hosts: Vec<String>,
    journal: Journal,
    sight: Sight,
    clients: Vec<Client>,
    /// Found already, but later than what has been printed: the answer to an early probe.
    ahead: Vec<Found>,
}

impl Reader {
    fn new(stage: &Stage, start: Instant) -> Self {
        Self {
            start,
            mark: start,
            hosts: stage.room().hosts().iter().map(|h| h.name().to_owned()).collect(),
            journal: stage.journal().clone(),
            sight: stage.eyes().sight(),
            clients: stage.probers().iter().map(|p| Client::new(p.log())).collect(),
            ahead: Vec::new(),
        }
    }

    /// What happened between the last call and `to`, in order.
    fn read_until(&mut self, to: Instant) -> Vec<Entry> {
        if to <= self.mark {
            return Vec::new();
        }
        let window = self.mark..to;
        let mut found = std::mem::take(&mut self.ahead);
        let notes = self.journal.between(window.start, window.end).into_iter();
        found.extend(notes.map(|note| (note.at, EntryKind::Event, note.text)));
        let seen = self.sight.seen();
        for h in seen.holdings() {
            for (at, verb) in [(Some(h.from), "takes"), (h.to, "loses")] {
                let Some(at) = at.filter(|at| window.contains(at)) else { continue };
                let owners = seen.holders_at(h.addr, at);
                let kind = if owners.len() > 1 { EntryKind::TwoOwners } else { EntryKind::Owner };
                let names: Vec<_> = owners.into_iter().map(|ix| self.host(ix)).collect();
                let owners = if names.is_empty() { "nobody".into() } else { names.join(" and ") };
                let text = format!("{} {verb} {} -> {owners}", self.host(h.host), h.addr);
                found.push((at, kind, text));
            }
        }
        for client in &mut self.clients {
            client.read(to, &mut found);
        }
        self.mark = to;
        found.sort_by_key(|(at, ..)| *at);
        self.ahead = found.split_off(found.partition_point(|(at, ..)| *at < to));
        let entry =
            |(at, kind, text): Found| Entry { at_ms: millis(at.since(self.start)), kind, text };
        found.into_iter().map(entry).collect()
    }

    fn host(&self, ix: usize) -> &str {
        self.hosts.get(ix).map_or("?", String::as_str)
    }
}

fn print(entries: &[Entry], paint: Paint) {
    let mut out = std::io::stdout().lock();
    for entry in entries {
        let line = format!("{:<7} {}", entry.kind.word(), entry.text);
        let line = match entry.kind {
            EntryKind::Event => paint.strong(&line),
            EntryKind::Owner => line,
            EntryKind::Client => paint.good(&line),
            EntryKind::TwoOwners | EntryKind::Outage => paint.bad(&line),
        };
        // Nobody may be reading any more; the play goes on for its exit code.
        let _ = writeln!(out, "{:>9.3} s  {line}", entry.at_ms / 1000.0);
    }
    let _ = out.flush();
}
