//! `vipd move` towards keepalived, and back: the client loses nothing on the way there, and the address stays there
//! until `vipd failback`.
//!
//! Where a probe is lost all the same, it is told what both hosts sent around it and when their kernels had the address.

use crate::mode::{MODES, Mode, Role};
use crate::play::alone;
use crate::wire::Capture;
use anyhow::{Context as _, ensure};
use libtest_mimic::Trial;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use vipd_agent::lab::clock::{millis, now, sleep_until};
use vipd_agent::lab::outage::Outage;
use vipd_agent::lab::plan::Families;
use vipd_agent::lab::stage::Stage;
use vipd_agent::lab::topology::Net;
use vipd_core::time::Instant;

/// vipd, stronger.
const VIPD: usize = 0;
/// keepalived.
const PEER: usize = 1;
/// An agent has started, read its file and found its interface after this.
const START: Duration = Duration::from_secs(8);
/// A client that stood still so long was starved, and what it lost is told and not judged.
const STARVED: Duration = Duration::from_millis(50);
/// keepalived announces an IPv6 address about a millisecond before its kernel serves it, and vipd, on its way back, tells
/// keepalived before its own does: that moment, and more where other rooms of the machine come and go (docs/interop.md).
const BEFORE_IT_SERVES: usize = 20;
/// What is told of the time before and after a loss.
const AROUND_MS: f64 = 120.0;

/// With what the modes call them.
const PLAYED: [&str; 3] = ["keepalived-v3-ipv4", "keepalived-v3-ipv6", "frr-v3-ipv4"];

pub(crate) fn trials() -> Vec<Trial> {
    let modes = MODES.iter().filter(|mode| PLAYED.contains(&mode.name));
    let trial = |mode: &'static Mode| {
        Trial::test(format!("{}/moves-lose-nothing", mode.name), move || crate::told(moves(mode)))
    };
    modes.map(trial).collect()
}

fn moves(mode: &'static Mode) -> anyhow::Result<()> {
    let plan = mode.plan(vec![150, 100]);
    let mut stage = Stage::cast(plan.clone(), &mode.cast(Role::VipdFirst, &plan))?;
    stage.start_all()?;
    alone(&stage, VIPD, plan.detection() + START).context("election")?;
    // keepalived needs a moment from its start to its first look at the network.
    sleep_until(now() + Duration::from_secs(1));
    let heard = [VIPD, PEER].map(|ix| {
        Capture::start(stage.room().switches(), &Net::Service.port(stage.room().host(ix).name()))
    });
    let [first, second] = heard;
    let heard = [first?, second?];
    for round in 1..=if std::env::var_os("VIPD_LONG").is_some() { 20 } else { 3 } {
        let at = now();
        let said = stage.ask(VIPD, &["move", "web", "--wait", "--reason", "trial"])?;
        ensure!(said.contains("web is on"), "{said}");
        // It stays: `alone` looks for more than the time in which the stronger one would preempt.
        alone(&stage, PEER, plan.detection()).with_context(|| format!("move {round}"))?;
        let there = stage.outages(at, now()).remove(0);
        told_if_lost(&stage, &heard, at, &there)?;
        let at = now();
        stage.ask(VIPD, &["failback", "web", "--wait"])?;
        alone(&stage, VIPD, plan.detection() + START).with_context(|| format!("back {round}"))?;
        let back = stage.outages(at, now()).remove(0);
        told_if_lost(&stage, &heard, at, &back)?;
        eprintln!(
            "  {round}: {} of {} lost, {} on the way back",
            there.lost, there.sent, back.lost
        );
        let clean = mode.families == Families::V4 && mode.name.starts_with("keepalived");
        let there_allowed = if clean { 0 } else { BEFORE_IT_SERVES };
        for (way, seen, allowed) in
            [("move", &there, there_allowed), ("back", &back, BEFORE_IT_SERVES)]
        {
            ensure!(lost(seen) <= allowed, "{way} {round}: {seen:?}\n{}", stage.logs(20));
        }
    }
    Ok(())
}

/// Lost probes that count: all, unless the machine was starved.
fn lost(seen: &Outage) -> usize {
    if seen.stalled > STARVED { 0 } else { seen.lost }
}

/// Prints what happened around the longest loss since `at`, if there was one; times are milliseconds after `at`.
fn told_if_lost(
    stage: &Stage,
    heard: &[Capture],
    at: Instant,
    seen: &Outage,
) -> anyhow::Result<()> {
    let Some(start) = seen.start else { return Ok(()) };
    let after =
        |then: Instant| if then < at { -millis(at.since(then)) } else { millis(then.since(at)) };
    let mut tale = format!(
        "  {} lost from {:.1} for {:.1} ms",
        seen.lost,
        after(start),
        millis(seen.longest_gap)
    );
    for (then, mac) in &seen.path {
        write!(tale, "\n    {:9.2} {mac} answers", after(*then))?;
    }
    for holding in stage.eyes().seen().holdings() {
        if holding.to.is_none_or(|to| to >= at) {
            let to = holding.to.map_or_else(|| "now".to_owned(), |to| format!("{:.2}", after(to)));
            write!(
                tale,
                "\n    {:9.2} h{} has the address, to {to}",
                after(holding.from),
                holding.host + 1
            )?;
        }
    }
    let wall = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    let begin = wall - now().since(at).as_secs_f64();
    let window = after(start) - AROUND_MS..after(start) + millis(seen.longest_gap) + AROUND_MS;
    for (ix, capture) in heard.iter().enumerate() {
        for (stamp, frame) in capture.frames()? {
            let then = (stamp - begin) * 1000.0;
            if window.contains(&then) {
                write!(tale, "\n    {then:9.2} h{} sends {frame}", ix + 1)?;
            }
        }
    }
    eprintln!("{tale}");
    Ok(())
}
