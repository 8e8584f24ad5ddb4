//! Settings that do not fit: both hosts own, and both logs say why.
//!
//! No host can do better: without heartbeats an advert that is refused is one that was never sent. What is
//! tried here is that the refusal is told, and the figures stand in `docs/interop.md`.

use crate::mode::{MODES, Mode, Peer, RFC9568, Role};
use crate::play::alone;
use crate::told;
use crate::wire::{Capture, Expected};
use anyhow::{Context as _, ensure};
use libtest_mimic::Trial;
use std::collections::BTreeMap;
use std::time::Duration;
use vipd_agent::lab::agent::Agent;
use vipd_agent::lab::clock::{now, sleep_until};
use vipd_agent::lab::stage::Stage;
use vipd_agent::lab::topology::Net;

const PRIORITIES: [u8; 2] = [150, 100];

/// A setting of vipd or the peer that the other one does not share.
struct Misfit {
    name: &'static str,
    /// The mode that it spoils.
    mode: &'static str,
    /// Who must be heard to be obeyed is the stronger one.
    role: Role,
    vipd: &'static str,
    keepalived: &'static str,
    /// What vipd's log and its counters say; `None`: it hears the peer well.
    vipd_says: Option<(&'static str, &'static str)>,
    /// What the peer's log says.
    peer_says: Option<&'static str>,
}

const MISFITS: [Misfit; 3] = [
    Misfit {
        name: "keepalived-refuses-checksum-of-rfc9568",
        mode: "keepalived-v3-ipv4",
        role: Role::VipdFirst,
        vipd: "",
        keepalived: "",
        vipd_says: None,
        peer_says: Some("Invalid VRRPv3 checksum"),
    },
    Misfit {
        name: "vipd-refuses-hop-limit-64",
        mode: "keepalived-v3-ipv6-unicast",
        role: Role::PeerFirst,
        vipd: "",
        keepalived: "",
        vipd_says: Some(("ip-ttl", "ip-ttl-errors")),
        peer_says: None,
    },
    Misfit {
        name: "both-refuse-another-password",
        mode: "keepalived-v2-simple-text",
        role: Role::VipdFirst,
        vipd: "simple-text = \"another\"",
        keepalived: "authentication {\n    auth_type PASS\n    auth_pass secret\n  }",
        vipd_says: Some(("auth-failure", "auth-failures")),
        peer_says: Some("passwd"),
    },
];

/// All of them.
pub(crate) fn trials() -> Vec<Trial> {
    let misfit = |m: &'static Misfit| Trial::test(m.name, move || told(play(m)));
    let mut trials: Vec<_> = MISFITS.iter().map(misfit).collect();
    trials.push(Trial::test("vipd-accepts-either-checksum", || told(either_checksum())));
    trials.push(Trial::test("rfc9568-checksum-on-the-wire", || told(rfc9568_on_the_wire())));
    trials
}

/// tshark finds nothing wrong with the adverts that keepalived refuses.
fn rfc9568_on_the_wire() -> anyhow::Result<()> {
    let plan = RFC9568.plan(PRIORITIES.to_vec());
    let mut stage = Stage::cast(plan.clone(), &RFC9568.cast(Role::VipdFirst, &plan))?;
    let port = Net::Service.port(stage.room().host(0).name());
    let capture = Capture::start(stage.room().switches(), &port)?;
    stage.start(0)?;
    alone(&stage, 0, Duration::from_secs(8))?;
    stage.stop(0)?;
    Expected { mode: &RFC9568, role: Role::VipdFirst, priority: PRIORITIES[0] }
        .check(&capture.stop()?)
        .with_context(|| stage.logs(12))
}

fn play(misfit: &'static Misfit) -> anyhow::Result<()> {
    let mode = mode(misfit.mode)?;
    let plan = mode.plan(PRIORITIES.to_vec());
    let (ours, theirs) = (misfit.role.vipd(), 1 - misfit.role.vipd());
    let mut cast = mode.cast(misfit.role, &plan);
    misfit.vipd.clone_into(&mut cast[ours].1.instance_extra);
    misfit.keepalived.clone_into(&mut cast[theirs].1.instance_extra);
    let mut stage = Stage::cast(plan, &cast)?;
    stage.start_all()?;
    let vip = stage.plan().vips()[0];
    let both = stage.eyes().wait_holders(vip, &[0, 1], Duration::from_secs(12));
    both.with_context(|| format!("both own, since they refuse each other\n{}", stage.logs(12)))?;
    sleep_until(now() + mode.interval() * 5);
    ensure!(stage.eyes().holders(vip) == [0, 1], "one yielded\n{}", stage.logs(12));
    let (ours, theirs) = (stage.agent(ours), stage.agent(theirs).log_tail(100));
    if let Some(words) = misfit.peer_says {
        ensure!(theirs.contains(words), "the peer does not say {words:?}:\n{theirs}");
    }
    match misfit.vipd_says {
        Some((words, counter)) => refuses(ours, words, counter),
        None => {
            // Ten times what it takes: the log is written by a thread that other programs hold up.
            let limit = now() + mode.interval() * 50;
            while !ours.log_tail(100).contains("alarm") {
                let log = || ours.log_tail(100);
                ensure!(now() < limit, "vipd hears a weaker owner, and no alarm:\n{}", log());
                sleep_until(now() + mode.interval());
            }
            Ok(())
        }
    }
}

/// vipd sends the checksum of RFC 9568 and hears that of RFC 5798: as the weaker one it yields.
fn either_checksum() -> anyhow::Result<()> {
    let mode = mode("keepalived-v3-ipv4")?;
    let plan = mode.plan(PRIORITIES.to_vec());
    let mut cast = mode.cast(Role::PeerFirst, &plan);
    cast[1].1.instance_extra.clear();
    let mut stage = Stage::cast(plan, &cast)?;
    stage.start_all()?;
    let bound = mode.interval() * 4 + Duration::from_secs(8);
    alone(&stage, 0, bound).context("vipd hears keepalived")
}

fn mode(name: &str) -> anyhow::Result<&'static Mode> {
    let mut all = MODES.iter().filter(|m| m.peer == Peer::Keepalived);
    all.find(|m| m.name == name).with_context(|| format!("no mode {name}"))
}

/// The log of a vipd names the reason, and its counter of that reason has moved.
pub(crate) fn refuses(agent: &Agent, words: &str, counter: &str) -> anyhow::Result<()> {
    let log = agent.log_tail(100);
    let told = log.lines().any(|l| l.contains("refused a datagram of") && l.contains(words));
    ensure!(told, "vipd does not say that it refuses for {words:?}:\n{log}");
    let counters = counters(agent)?;
    let moved = counters.get(counter).is_some_and(|n| *n > 0);
    ensure!(moved, "{counter} does not move: {counters:?}");
    Ok(())
}

/// All counters of a vipd, of the host and of its first instance.
fn counters(agent: &Agent) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut status = agent.vipd(&["status", "--json"]).context("the agent is no vipd")?;
    let out = status.output()?;
    let status: serde_json::Value = serde_json::from_slice(&out.stdout)
        .with_context(|| String::from_utf8_lossy(&out.stderr).into_owned())?;
    let families = status.pointer("/instances/0/families").and_then(serde_json::Value::as_array);
    let tables = families.into_iter().flatten().chain([&status]).filter_map(|t| t.get("counters"));
    let mut all = BTreeMap::new();
    for (name, value) in tables.filter_map(serde_json::Value::as_object).flatten() {
        *all.entry(name.clone()).or_default() += value.as_u64().unwrap_or_default();
    }
    Ok(all)
}
