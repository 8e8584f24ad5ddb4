//! What the client misses: every scene of the lab, with each agent, at three intervals. From the same
//! plays: how long after the time that the protocol allows the new owner speaks and announces.

use crate::Effort;
use crate::capture::{Capture, Seen, What};
use crate::job::{Job, Sample, Task, Who, side_by_side};
use crate::results::{Results, Table};
use std::fmt::Write as _;
use std::time::Duration;
use vipd_agent::lab::clock::millis;
use vipd_agent::lab::plan::Plan;
use vipd_agent::lab::play::{Player, Row};
use vipd_agent::lab::scene;
use vipd_agent::lab::stage::Stage;
use vipd_agent::lab::topology::{Net, host_mac, host_name, host_v4};
use vipd_core::time::Instant;

/// The scenes, in the order of the table.
const SCENES: [&str; 8] =
    ["crash", "hang", "power-off", "link-cut", "partition", "heal", "stop", "failback"];
/// Those in which nothing but silence tells of the fault.
const SILENT: [&str; 2] = ["power-off", "partition"];
const AGENTS: [Who; 2] = [Who::Vipd, Who::Keepalived];

/// Plays every scene once.
pub(crate) fn measure(job: &Job) -> anyhow::Result<Vec<Sample>> {
    let mut plan = job.who.plan(job.interval_ms);
    if job.who != Who::Keepalived {
        // Every scene begins with the first host as owner, as keepalived does it.
        plan.instance_extra = "hold-down = \"0s\"".into();
    }
    let mut stage = Stage::set(plan, &job.who.kind())?;
    let capture = Capture::start(stage.room().client())?;
    let mut player = Player::default();
    let mut samples = Vec::new();
    let names: Vec<_> = SCENES.iter().map(|s| (*s).to_owned()).collect();
    for scene in scene::programme(&names)? {
        if scene.after.is_none() && scene.name != "elect" {
            let bound = stage.plan().detection() + Duration::from_secs(10);
            stage.restore(bound)?;
            // Who is there instead, if not the first, is then named in the row.
            let _ = stage.wait(bound, |holders| holders == [0]);
        }
        let row = player.play(&mut stage, scene)?;
        if !SCENES.contains(&scene.name) {
            continue;
        }
        let name = scene.name;
        samples.push(Sample::new(format!("{name} outage"), row.client.outage_ms));
        samples.push(Sample::new(format!("{name} two owners"), row.two_owners_ms));
        samples.push(Sample::new(format!("{name} failed"), f64::from(u8::from(!row.reached))));
        if SILENT.contains(&name) {
            let before = row.at.before(stage.plan().interval * 2);
            samples.extend(succession(stage.plan(), &row, &capture.since(before)));
        }
    }
    Ok(samples)
}

/// Of a takeover after silence: how much later than the protocol allows the new owner's first advert
/// comes (last advert + 3 T + skew), and its first announcement after that advert.
fn succession(plan: &Plan, row: &Row, heard: &[Seen]) -> Vec<Sample> {
    let Some(old) = (0..plan.hosts).find(|ix| row.host == host_name(*ix)) else {
        return Vec::new();
    };
    let new = 1 - old;
    let advert = |of: usize| {
        let from = host_v4(of, Net::Service);
        heard.iter().filter(move |s| s.what == What::Advert { from }).map(|s| s.at)
    };
    let Some(first) = advert(new).find(|at| *at >= row.at) else { return Vec::new() };
    let mac = host_mac(new, Net::Service);
    let announced =
        |s: &&Seen| s.at >= row.at && matches!(s.what, What::Garp { mac: m, .. } if m == mac);
    let garp = heard.iter().find(announced).map(|s| s.at);
    let skew = plan.interval * u32::from(256 - u16::from(plan.priority(new))) / 256;
    let due = advert(old).rfind(|at| *at < first).map(|last| last + plan.interval * 3 + skew);
    let samples = [
        due.map(|due| Sample::new("due to advert", signed(due, first))),
        due.zip(garp).map(|(due, garp)| Sample::new("due to GARP", signed(due, garp))),
        garp.map(|garp| Sample::new("advert to GARP", signed(first, garp))),
    ];
    samples.into_iter().flatten().collect()
}

/// Milliseconds from one to the other, also when it goes back.
fn signed(from: Instant, to: Instant) -> f64 {
    if to >= from { millis(to.since(from)) } else { -millis(from.since(to)) }
}

/// Runs and tabulates.
pub(crate) fn section(effort: Effort) -> anyhow::Result<String> {
    // Interval, repeats, and how many of these play at the same time.
    let series: Vec<(u64, usize, usize)> = match effort {
        Effort::Quick => vec![(10, 1, 1)],
        Effort::Full(None) => vec![(1000, 3, 3), (100, 10, 2), (10, 10, 2)],
        Effort::Full(Some(n)) => vec![(1000, n, 3), (100, n, 2), (10, n, 2)],
    };
    let mut results = Results::default();
    for (interval_ms, repeats, at_once) in &series {
        let mut left = *repeats;
        while left > 0 {
            let now = left.min(*at_once);
            // One agent after the other: rooms of the same agent play the same scene at the same time. Beside rooms of
            // the other one, which lose their power then, a partition at 10 ms took up to ten times as long.
            for who in AGENTS {
                let job = Job { who, interval_ms: *interval_ms, task: Task::Outage };
                results.add(side_by_side(&vec![job; now])?);
            }
            left -= now;
        }
    }
    let mut text = String::from(
        "## Outage as the client sees it\n\nLongest time without an answer to a probe sent each millisecond, median (range) in ms; \
         *two owners*: time in which both hosts had the address, median in ms, at most the watched time.\n\n",
    );
    for (interval_ms, ..) in &series {
        text.push_str(&outages(&results, *interval_ms)?);
    }
    text.push_str(
        "## From the end of detection to the announcement\n\nTakeovers after silence (power-off, partition), seen from the client's cable, \
         ms, median (range). *Due*: last advert of the old owner + 3 T + skew.\n\n",
    );
    let mut table = Table::new(&[
        "T",
        "agent",
        "due to first advert",
        "due to first GARP",
        "first advert to first GARP",
        "takeovers",
    ]);
    for (interval_ms, ..) in &series {
        for who in AGENTS {
            let of = |name| results.of(name, who, *interval_ms);
            table.row(&[
                format!("{interval_ms} ms"),
                who.name().to_owned(),
                of("due to advert").text(),
                of("due to GARP").text(),
                of("advert to GARP").text(),
                of("due to advert").count().to_string(),
            ]);
        }
    }
    text.push_str(&table.text());
    Ok(text)
}

/// The table of one interval.
fn outages(results: &Results, interval_ms: u64) -> anyhow::Result<String> {
    let mut text = String::new();
    let runs = AGENTS.map(|who| results.of("crash outage", who, interval_ms).count());
    writeln!(text, "### T = {interval_ms} ms ({} and {} runs)\n", runs[0], runs[1])?;
    let mut table = Table::new(&[
        "scene",
        "vipd",
        "keepalived",
        "vipd / keepalived",
        "two owners: vipd",
        "two owners: keepalived",
        "without the expected owner",
    ]);
    for scene in SCENES {
        let of =
            |what: &str| AGENTS.map(|who| results.of(&format!("{scene} {what}"), who, interval_ms));
        let ([ours, theirs], both, failed) = (of("outage"), of("two owners"), of("failed"));
        table.row(&[
            scene.to_owned(),
            ours.text(),
            theirs.text(),
            ours.ratio(&theirs),
            both[0].middle(),
            both[1].middle(),
            format!("vipd {}, keepalived {}", failed[0].set(), failed[1].set()),
        ]);
    }
    writeln!(text, "{}", table.text())?;
    Ok(text)
}
