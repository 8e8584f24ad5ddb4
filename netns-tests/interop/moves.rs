//! `vipd move` towards keepalived, and back: the client loses nothing on the way there, and the address stays there
//! until `vipd failback`.

use crate::mode::{MODES, Mode, Role};
use crate::play::alone;
use anyhow::{Context as _, ensure};
use libtest_mimic::Trial;
use std::time::Duration;
use vipd_agent::lab::clock::{now, sleep_until};
use vipd_agent::lab::outage::Outage;
use vipd_agent::lab::plan::Families;
use vipd_agent::lab::stage::Stage;

/// vipd, stronger.
const VIPD: usize = 0;
/// keepalived.
const PEER: usize = 1;
/// An agent has started, read its file and found its interface after this.
const START: Duration = Duration::from_secs(8);
/// A client that stood still so long was starved, and what it lost is told and not judged.
const STARVED: Duration = Duration::from_millis(50);
/// keepalived announces an IPv6 address about a millisecond before its kernel serves it: that moment is its own.
const BEFORE_IT_SERVES: usize = 20;

/// With what the modes call them.
const PLAYED: [&str; 2] = ["keepalived-v3-ipv4", "keepalived-v3-ipv6"];

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
    for round in 1..=if std::env::var_os("VIPD_LONG").is_some() { 20 } else { 3 } {
        let at = now();
        let said = stage.ask(VIPD, &["move", "web", "--wait", "--reason", "trial"])?;
        ensure!(said.contains("web is on"), "{said}");
        // It stays: `alone` looks for more than the time in which the stronger one would preempt.
        alone(&stage, PEER, plan.detection()).with_context(|| format!("move {round}"))?;
        let there = stage.outages(at, now()).remove(0);
        let at = now();
        stage.ask(VIPD, &["failback", "web", "--wait"])?;
        alone(&stage, VIPD, plan.detection() + START).with_context(|| format!("back {round}"))?;
        let back = stage.outages(at, now()).remove(0);
        eprintln!(
            "  {round}: {} of {} lost, {} on the way back",
            there.lost, there.sent, back.lost
        );
        let allowed = if mode.families == Families::V4 { 0 } else { BEFORE_IT_SERVES };
        ensure!(lost(&there) <= allowed, "move {round}: {there:?}\n{}", stage.logs(20));
    }
    Ok(())
}

/// Lost probes that count: all, unless the machine was starved.
fn lost(seen: &Outage) -> usize {
    if seen.stalled > STARVED { 0 } else { seen.lost }
}
