//! How fast many addresses move: the owner loses its power, and the successor takes 1 to 5000.

use crate::Effort;
use crate::capture::{Capture, What};
use crate::job::{Job, Sample, Task, Who, side_by_side};
use crate::results::{Results, Table};
use crate::watch::Watch;
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;
use vipd_agent::lab::clock::{millis, now, sleep_until};
use vipd_agent::lab::plan::Plan;
use vipd_agent::lab::stage::Stage;
use vipd_agent::lab::topology::{Net, host_mac, host_v4};
use vipd_core::time::Instant;

const AGENTS: [Who; 3] = [Who::Vipd, Who::VipdRoute, Who::Keepalived];
const INTERVAL_MS: u64 = 100;
/// How long the successor may take for everything.
const BOUND: Duration = Duration::from_secs(10);
/// The first address beside that of the client.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

/// The plan of one instance with so many addresses, one of them in its adverts.
pub(crate) fn plan(job: &Job, addresses: usize) -> anyhow::Result<Plan> {
    let mut plan = job.who.plan(job.interval_ms);
    let more = u32::try_from(addresses)?.saturating_sub(1);
    let at = |n: u32| Ipv4Addr::from(u32::from(FIRST) + n);
    let extra = &mut plan.instance_extra;
    if job.who == Who::Keepalived {
        let all: String = (0..more).map(|n| format!("    {}/32\n", at(n))).collect();
        if more > 0 {
            write!(extra, "virtual_ipaddress_excluded {{\n{all}  }}")?;
        }
        return Ok(plan);
    }
    if more > 0 {
        writeln!(extra, "unadvertised = [\"{FIRST}-{}\"]", at(more - 1))?;
    }
    if job.who == Who::VipdRoute {
        writeln!(extra, "claim = \"route\"")?;
    }
    Ok(plan)
}

/// One takeover.
pub(crate) fn measure(job: &Job, addresses: usize) -> anyhow::Result<Vec<Sample>> {
    let mut stage = Stage::set(plan(job, addresses)?, &job.who.kind())?;
    let capture = Capture::start(stage.room().client())?;
    let watch = Watch::start(stage.room().host(1).ns()?)?;
    stage.start_all()?;
    let all_at = |stage: &Stage, host: usize, bound: Duration| {
        stage.wait(bound, |holders| holders == [host]).with_context(|| {
            format!("h{} does not become the owner:\n{}", host + 1, stage.logs(10))
        })
    };
    all_at(&stage, 0, Duration::from_secs(30))?;
    // Until the first owner has everything and its first announcements are out.
    sleep_until(
        now() + Duration::from_secs(2) + Duration::from_millis(1) * u32::try_from(addresses)? / 2,
    );
    let cut = stage.power_off(0)?;
    let mac = host_mac(1, Net::Service);
    let announced = || {
        let mut first: BTreeMap<Ipv4Addr, Instant> = BTreeMap::new();
        for seen in capture.since(cut) {
            if let What::Garp { mac: m, addr } = seen.what
                && m == mac
            {
                first.entry(addr).or_insert(seen.at);
            }
        }
        first
    };
    let served = || watch.served(cut).iter().map(|(_, _, n)| n).sum::<usize>();
    let limit = now() + BOUND;
    while now() < limit && (announced().len() < addresses || served() < addresses) {
        sleep_until(now() + Duration::from_millis(100));
    }
    let from = host_v4(1, Net::Service);
    let adverts = capture.since(cut);
    let start = adverts.iter().find(|s| s.what == What::Advert { from }).map(|s| s.at);
    let start = start.context("the second host sends no advert")?;
    let mut samples = Vec::new();
    let mut add = |name: &str, at: Option<Instant>| {
        samples.extend(at.map(|at| Sample::new(name, millis(at.since(start)))));
    };
    let answering: Vec<_> = watch.served(cut).iter().map(|(at, ..)| *at).collect();
    add("first served", answering.first().copied());
    add("last served", answering.last().copied());
    let garps = announced();
    add("first GARP", garps.values().min().copied());
    add("last GARP", garps.values().max().copied());
    let missing = |have: usize| addresses.saturating_sub(have);
    #[expect(clippy::cast_precision_loss, reason = "at most 5000")]
    samples.push(Sample::new("missing", (missing(garps.len()) + missing(served())) as f64));
    Ok(samples)
}

/// Runs and tabulates.
pub(crate) fn section(effort: Effort) -> anyhow::Result<String> {
    let (sizes, repeats): (&[usize], usize) = match effort {
        Effort::Quick => (&[100], 1),
        Effort::Full(n) => (&[1, 100, 1000, 5000], n.unwrap_or(3)),
    };
    let mut results = Results::default();
    for _ in 0..repeats {
        for addresses in sizes {
            for who in AGENTS {
                let task = Task::Takeover { addresses: *addresses };
                results.add(side_by_side(&[Job { who, interval_ms: INTERVAL_MS, task }])?);
            }
        }
    }
    let mut text = format!(
        "## Takeover of many addresses\n\nThe owner loses its power, T = {INTERVAL_MS} ms, {repeats} runs each; milliseconds after the \
         successor's first advert, median (range). *Served*: the kernel answers for it. *GARP*: the first of each address.\n\n"
    );
    let mut table = Table::new(&[
        "addresses",
        "agent",
        "first served",
        "last served",
        "first GARP",
        "last GARP",
        "last served / keepalived",
        "last GARP / keepalived",
        "missing",
    ]);
    for addresses in sizes {
        let of = |name: &str, who: Who| {
            let task = Task::Takeover { addresses: *addresses };
            results.values(name, |job| job.who == who && job.task == task)
        };
        for who in AGENTS {
            let ratio = |name| of(name, who).ratio(&of(name, Who::Keepalived));
            table.row(&[
                addresses.to_string(),
                who.name().to_owned(),
                of("first served", who).text(),
                of("last served", who).text(),
                of("first GARP", who).text(),
                of("last GARP", who).text(),
                ratio("last served"),
                ratio("last GARP"),
                of("missing", who).max().map_or_else(|| "-".into(), |m| m.to_string()),
            ]);
        }
    }
    text.push_str(&table.text());
    Ok(text)
}
