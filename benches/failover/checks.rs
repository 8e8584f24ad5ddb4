//! Adverts of 10 ms beside 45 checks of one host, each every second: does the grid stay?

use crate::Effort;
use crate::capture::Capture;
use crate::job::{Job, Sample, Task, Who, side_by_side};
use crate::results::{Results, Table, number};
use crate::spacing;
use anyhow::Context as _;
use serde_json::Value;
use std::time::Duration;
use vipd_agent::lab::clock::{now, sleep_until};
use vipd_agent::lab::health::{Check, Health};
use vipd_agent::lab::plan::Plan;
use vipd_agent::lab::stage::Stage;

/// Checks of one host.
const CHECKS: usize = 45;
const INTERVAL_MS: u64 = 10;
/// What checks look at, in turn: a service by HTTP and by TCP, a program, a file system, a file.
const KINDS: [&str; 5] = [
    "http = \"http://127.0.0.1/\"",
    "tcp = \"127.0.0.1:80\"",
    "script = [\"/bin/true\"]",
    "disk = \"/\"",
    "absent = \"/run/vipd-lab/drain\"",
];

/// Adverts of a pair in which every host has so many checks.
pub(crate) fn measure(job: &Job, count: usize, seconds: u64) -> anyhow::Result<Vec<Sample>> {
    let check = |n: usize| {
        let lines = format!(
            "{}\nseverity = \"info\"\ninterval = \"1s\"\ntimeout = \"900ms\"",
            KINDS[n % KINDS.len()]
        );
        Check::new(&format!("c{n}"), &lines)
    };
    let health = Some(Health::of((0..count).map(check).collect()));
    let plan = Plan { health, ..job.who.plan(job.interval_ms) };
    let mut stage = Stage::set(plan, &job.who.kind())?;
    let capture = Capture::start(stage.room().client())?;
    stage.start_all()?;
    stage.wait_owner(Duration::from_secs(30))?;
    // Whoever began, the first host has it by now, and every check has run.
    sleep_until(now() + Duration::from_secs(5));
    let mut samples = spacing::listen(&stage, &capture, Duration::from_secs(seconds));
    samples.push(Sample::new("passing", passing(&stage)?));
    Ok(samples)
}

/// Checks of the first host that ran and passed, by its own word: adverts beside checks that do not run prove nothing.
fn passing(stage: &Stage) -> anyhow::Result<f64> {
    let mut status = stage.agent(0).vipd(&["status", "--json"]).context("only vipd has checks")?;
    // Its exit code says whether all is well, not whether it answered.
    let out = stage.room().host(0).ns()?.run(move || Ok(status.output()?))?;
    let status: Value = serde_json::from_slice(&out.stdout).context("no status")?;
    let checks = status["checks"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(checks.iter().filter(|check| check["state"] == "pass").map(|_| 1.0).sum())
}

/// Runs and tabulates: without checks and with them, in the same minute.
pub(crate) fn section(effort: Effort) -> anyhow::Result<String> {
    let seconds = match effort {
        Effort::Quick => 3,
        Effort::Full(_) => 30,
    };
    let mut text = format!(
        "## Regular adverts at {INTERVAL_MS} ms beside checks\n\nTime between adverts, ms, over {seconds} s; vipd with heartbeats; each check runs \
         once a second (HTTP, TCP, a program, a file system, a file, in turn), on both hosts.\n\n"
    );
    let heads =
        ["checks", "passing", "median", "p99", "max", "false takeovers", "longest outage ms"];
    let mut table = Table::new(&heads);
    for count in [0, CHECKS] {
        let mut results = Results::default();
        let task = Task::Checks { count, seconds };
        results.add(side_by_side(&[Job { who: Who::Vipd, interval_ms: INTERVAL_MS, task }])?);
        let of = |name| results.of(name, Who::Vipd, INTERVAL_MS);
        let part = |part| of("gap").quantile(part).map_or_else(|| "-".into(), number);
        table.row(&[
            count.to_string(),
            of("passing").middle(),
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
