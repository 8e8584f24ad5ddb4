//! The live timeline: what was done, who took and lost the address, what the client missed.
//!
//! A thread of its own reads journal, eyes and probes a moment later, when late answers are in, so
//! that lines appear in the order in which things happened. It writes; it never acts.

use super::clock::{millis, now, sleep_until};
use super::observe::Sight;
use super::probe::{DEADLINE, ProbeLog};
use super::screen::Paint;
use super::stage::{Journal, Stage};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use vipd_core::time::Instant;

/// How far behind the lines are.
const LAG: Duration = Duration::from_millis(250);
/// How often it looks.
const TICK: Duration = Duration::from_millis(50);

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
        let start = now();
        let mut reader = Reader {
            start,
            mark: start,
            paint,
            hosts: stage.room().hosts().iter().map(|h| h.name().to_owned()).collect(),
            journal: stage.journal().clone(),
            sight: stage.eyes().sight(),
            clients: stage.probers().iter().map(|p| Client::new(p.log())).collect(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("lab-timeline".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                reader.print_until(now().before(LAG + DEADLINE));
                sleep_until(now() + TICK);
            }
            sleep_until(now() + DEADLINE);
            reader.print_until(now().before(DEADLINE));
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
    /// Answered at least once: before that, silence is no outage.
    met: bool,
}

impl Client {
    const fn new(log: ProbeLog) -> Self {
        Self { log, next: 0, missing: None, met: false }
    }

    /// Outages that ended before `to`.
    fn read(&mut self, to: Instant, paint: Paint, lines: &mut Vec<(Instant, String)>) {
        for probe in self.log.read(self.next, to) {
            self.next += 1;
            if !probe.served() {
                let (_, lost) = self.missing.get_or_insert((probe.sent, 0));
                *lost += usize::from(probe.answer.is_none());
                continue;
            }
            let ended = self.missing.take();
            if let Some((since, lost)) = ended.filter(|_| self.met) {
                let outage = millis(probe.sent.since(since));
                let text = format!(
                    "client  no answer from {} for {outage:.0} ms ({lost} lost)",
                    self.log.target()
                );
                lines.push((probe.sent, paint.bad(&text)));
            } else if !self.met {
                let text = format!("client  first answer from {}", self.log.target());
                lines.push((probe.sent, paint.good(&text)));
            }
            self.met = true;
        }
    }
}

struct Reader {
    start: Instant,
    mark: Instant,
    paint: Paint,
    hosts: Vec<String>,
    journal: Journal,
    sight: Sight,
    clients: Vec<Client>,
}

impl Reader {
    /// Prints what happened between the last call and `to`.
    fn print_until(&mut self, to: Instant) {
        if to <= self.mark {
            return;
        }
        let window = self.mark..to;
        let mut lines: Vec<(Instant, String)> = Vec::new();
        for note in self.journal.between(window.start, window.end) {
            lines.push((note.at, self.paint.strong(&format!("event   {}", note.text))));
        }
        let seen = self.sight.seen();
        for h in seen.holdings() {
            let changes = [(Some(h.from), "takes"), (h.to, "loses")];
            for (at, verb) in changes {
                let Some(at) = at.filter(|at| window.contains(at)) else { continue };
                let owners: Vec<_> = seen
                    .holders_at(h.addr, at)
                    .into_iter()
                    .filter_map(|ix| self.hosts.get(ix).map(String::as_str))
                    .collect();
                let owners = if owners.is_empty() { "nobody".into() } else { owners.join(" and ") };
                let host = self.hosts.get(h.host).map_or("?", String::as_str);
                let text = format!("owner   {host} {verb} {} -> {owners}", h.addr);
                lines.push((
                    at,
                    if owners.contains(" and ") { self.paint.bad(&text) } else { text },
                ));
            }
        }
        for client in &mut self.clients {
            client.read(to, self.paint, &mut lines);
        }
        lines.sort_by_key(|(at, _)| *at);
        let mut out = std::io::stdout().lock();
        for (at, text) in lines {
            let since = at.since(self.start).as_secs_f64();
            // Nobody may be reading any more; the play goes on for its exit code.
            let _ = writeln!(out, "{since:>9.3} s  {text}");
        }
        let _ = out.flush();
        self.mark = to;
    }
}
