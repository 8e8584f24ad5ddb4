//! Adverts of 10 ms while four programs want both processors: how regular are they, and does the other
//! host take a live owner for dead?

use crate::Effort;
use crate::capture::{Capture, What};
use crate::job::{Job, Sample, Task, Who, side_by_side};
use crate::results::{Results, Table, number};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use vipd_agent::lab::clock::{millis, now, sleep_until};
use vipd_agent::lab::stage::Stage;
use vipd_agent::lab::topology::{Net, host_v4};
use vipd_core::time::Instant;

const AGENTS: [Who; 2] = [Who::Vipd, Who::Keepalived];
const SPINNERS: usize = 4;
const INTERVAL_MS: u64 = 10;

/// Adverts of a calm pair for some time.
pub(crate) fn measure(job: &Job, real_time: bool, seconds: u64) -> anyhow::Result<Vec<Sample>> {
    let mut plan = job.who.plan(job.interval_ms);
    if job.who == Who::Keepalived && real_time {
        plan.file_extra = "global_defs {\n  vrrp_rt_priority 50\n}\n".into();
    }
    let mut stage = Stage::set(plan, &job.who.kind())?;
    if !real_time {
        for host in stage.room().hosts() {
            // The programs that are started there inherit it: not even root may then.
            host.ns()?.run(|| {
                Ok(caps::drop(None, caps::CapSet::Bounding, caps::Capability::CAP_SYS_NICE)?)
            })?;
        }
    }
    let capture = Capture::start(stage.room().client())?;
    stage.start_all()?;
    stage.wait_owner(Duration::from_secs(30))?;
    // Whoever began, the first host has it by now.
    sleep_until(now() + Duration::from_secs(3));
    Ok(listen(&stage, &capture, Duration::from_secs(seconds)))
}

/// The adverts of the first host from now on, and who else spoke.
pub(crate) fn listen(stage: &Stage, capture: &Capture, time: Duration) -> Vec<Sample> {
    let start = now();
    sleep_until(start + time);
    let end = now();
    let first = host_v4(0, Net::Service);
    let (mut gaps, mut false_owners) = (Vec::new(), 0_u32);
    let mut last: Option<Instant> = None;
    let mut other_speaks = false;
    for seen in capture.since(start).into_iter().filter(|s| s.at < end) {
        let What::Advert { from } = seen.what else { continue };
        if from == first {
            gaps.extend(last.map(|last| millis(seen.at.since(last))));
            last = Some(seen.at);
            other_speaks = false;
        } else if !other_speaks {
            false_owners += 1;
            other_speaks = true;
        }
    }
    let mut samples: Vec<_> = gaps.into_iter().map(|gap| Sample::new("gap", gap)).collect();
    samples.push(Sample::new("false takeovers", f64::from(false_owners)));
    samples.push(Sample::new("two owners", millis(stage.two_owners(start, end))));
    let outage = stage.outages(start, end).iter().map(|o| o.longest_gap).max();
    samples.push(Sample::new("outage", millis(outage.unwrap_or_default())));
    samples
}

/// Times between adverts of `from` in the given time, ms.
pub(crate) fn gaps(
    capture: &Capture,
    from: std::net::Ipv4Addr,
    start: Instant,
    end: Instant,
) -> Vec<f64> {
    let adverts = capture.since(start).into_iter().filter(|seen| seen.at < end);
    let adverts = adverts.filter(|seen| matches!(seen.what, What::Advert { from: f } if f == from));
    let at: Vec<Instant> = adverts.map(|seen| seen.at).collect();
    at.windows(2).map(|pair| millis(pair[1].since(pair[0]))).collect()
}

/// Programs that want a processor until dropped.
struct Spinners(Arc<AtomicBool>);

impl Spinners {
    fn start(count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..count {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(stop)
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs and tabulates.
pub(crate) fn section(effort: Effort) -> anyhow::Result<String> {
    let (calm, loaded) = match effort {
        Effort::Quick => (2, 3),
        Effort::Full(_) => (20, 60),
    };
    let mut text = format!(
        "## Regular adverts at {INTERVAL_MS} ms\n\nTime between adverts, ms; without spinners over {calm} s, with {SPINNERS} spinners on the \
         same processors over {loaded} s, both agents in the same minute. *False takeovers*: how often the other host began to advertise.\n\n"
    );
    let mut table = Table::new(&[
        "spinners",
        "real-time scheduling",
        "agent",
        "median",
        "p99",
        "max",
        "false takeovers",
        "two owners ms",
        "longest outage ms",
    ]);
    // The smoke test leaves out the calm half.
    let first = usize::from(effort == Effort::Quick);
    for (spinners, seconds) in [(0, calm), (SPINNERS, loaded)].into_iter().skip(first) {
        for real_time in [true, false] {
            let _load = Spinners::start(spinners);
            let task = Task::Spacing { real_time, seconds };
            let mut results = Results::default();
            let job = |who| Job { who, interval_ms: INTERVAL_MS, task: task.clone() };
            results.add(side_by_side(&AGENTS.map(job))?);
            for who in AGENTS {
                let of = |name| results.of(name, who, INTERVAL_MS);
                let part = |part| of("gap").quantile(part).map_or_else(|| "-".into(), number);
                table.row(&[
                    spinners.to_string(),
                    if real_time { "yes" } else { "no" }.to_owned(),
                    who.name().to_owned(),
                    part(0.5),
                    part(0.99),
                    part(1.0),
                    of("false takeovers").middle(),
                    of("two owners").middle(),
                    of("outage").middle(),
                ]);
            }
        }
    }
    text.push_str(&table.text());
    Ok(text)
}
