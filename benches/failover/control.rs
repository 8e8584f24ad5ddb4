//! Adverts of 10 ms while 1000 clients of the control socket ask one host over and over: does the grid stay?

use crate::Effort;
use crate::capture::Capture;
use crate::job::{Job, Sample, Task, Who, side_by_side};
use crate::results::{Results, Table, number};
use crate::spacing;
use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use vipd_agent::lab::clock::{now, sleep_until};
use vipd_agent::lab::stage::Stage;

/// Clients at a time.
const CLIENTS: usize = 1000;
const INTERVAL_MS: u64 = 10;
/// Each asks, reads, leaves and comes back after this time.
const PAUSE: Duration = Duration::from_millis(250);
/// One in so many stays and reads events instead.
const SUBSCRIBERS: usize = 50;
/// One in so many asks for a simulation instead, for which the protocol thread makes a copy of what it knows.
const SIMULATORS: usize = 25;

/// Adverts of a pair whose first host has so many clients.
pub(crate) fn measure(job: &Job, clients: usize, seconds: u64) -> anyhow::Result<Vec<Sample>> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("no right to many connections")?;
    let mut stage = Stage::set(job.who.plan(job.interval_ms), &job.who.kind())?;
    let capture = Capture::start(stage.room().client())?;
    stage.start_all()?;
    stage.wait_owner(Duration::from_secs(30))?;
    // Whoever began, the first host has it by now.
    sleep_until(now() + Duration::from_secs(3));
    let socket = vipd_agent::control::socket_path(&stage.agent(0).dir().join("run"));
    let crowd = Crowd::start(clients, &socket)?;
    sleep_until(now() + Duration::from_secs(1));
    crowd.counts();
    let mut samples = spacing::listen(&stage, &capture, Duration::from_secs(seconds));
    let (answered, busy) = crowd.counts();
    #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
    let a_second = |count: u32| f64::from(count) / seconds as f64;
    samples.push(Sample::new("answered", a_second(answered)));
    samples.push(Sample::new("busy", a_second(busy)));
    Ok(samples)
}

/// Clients, until dropped.
struct Crowd {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicU32,
    busy: AtomicU32,
}

impl Crowd {
    fn start(count: usize, socket: &Path) -> anyhow::Result<Self> {
        let mut crowd = Self { shared: Arc::default(), clients: Vec::new() };
        for n in 0..count {
            let (shared, socket) = (Arc::clone(&crowd.shared), socket.to_owned());
            let thread = std::thread::Builder::new().stack_size(128 * 1024);
            crowd.clients.push(thread.spawn(move || client(n, &shared, &socket))?);
        }
        Ok(crowd)
    }

    /// Answers and refusals since the last call.
    fn counts(&self) -> (u32, u32) {
        let take = |count: &AtomicU32| count.swap(0, Ordering::Relaxed);
        (take(&self.shared.answered), take(&self.shared.busy))
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

fn client(n: usize, shared: &Shared, socket: &PathBuf) {
    let verb = match n {
        _ if n.is_multiple_of(SUBSCRIBERS) => "\"subscribe\"",
        _ if n.is_multiple_of(SIMULATORS) => "\"simulate\",\"event\":{\"kind\":\"power-off\"}",
        _ => "\"status\"",
    };
    while !shared.stop.load(Ordering::Relaxed) {
        if let Ok(stream) = UnixStream::connect(socket) {
            talk(verb, shared, &stream);
        }
        std::thread::sleep(PAUSE);
    }
}

/// One answer; for a subscriber every line, until it is cut or has to end. `verb`: with its fields.
fn talk(verb: &str, shared: &Shared, stream: &UnixStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let mut writer = stream;
    // A busy agent closes without reading.
    let _ = writeln!(writer, "{{\"v\":1,\"verb\":{verb}}}");
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while !shared.stop.load(Ordering::Relaxed) {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(0) => return,
            Ok(_) if line.contains("\"busy\"") => {
                shared.busy.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Ok(_) => shared.answered.fetch_add(1, Ordering::Relaxed),
            // A subscriber may hear nothing for long.
            Err(_) if verb == "\"subscribe\"" => continue,
            Err(_) => return,
        };
        if verb != "\"subscribe\"" {
            return;
        }
    }
}

/// Runs and tabulates: without clients and with them.
pub(crate) fn section(effort: Effort) -> anyhow::Result<String> {
    let seconds = match effort {
        Effort::Quick => 3,
        Effort::Full(_) => 30,
    };
    let mut text = format!(
        "## Regular adverts at {INTERVAL_MS} ms beside clients of the control socket\n\nTime between adverts, ms, over {seconds} s; vipd with \
         heartbeats; the clients, threads on the same machine, ask the owner for its status, one in {SUBSCRIBERS} subscribes, as many ask for simulations; *turned away*: \
         told that the agent is busy.\n\n"
    );
    let heads = [
        "clients",
        "answered a second",
        "turned away a second",
        "median",
        "p99",
        "max",
        "false takeovers",
        "longest outage ms",
    ];
    let mut table = Table::new(&heads);
    for clients in [0, CLIENTS] {
        let mut results = Results::default();
        let task = Task::Control { clients, seconds };
        results.add(side_by_side(&[Job { who: Who::Vipd, interval_ms: INTERVAL_MS, task }])?);
        let of = |name| results.of(name, Who::Vipd, INTERVAL_MS);
        let part = |part| of("gap").quantile(part).map_or_else(|| "-".into(), number);
        table.row(&[
            clients.to_string(),
            of("answered").middle(),
            of("busy").middle(),
            part(0.5),
            part(0.99),
            part(1.0),
            of("false takeovers").middle(),
            of("outage").middle(),
        ]);
    }
    text.push_str(&table.text());
    Ok(text)
}
