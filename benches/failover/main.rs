//! `cargo bench`: vipd beside keepalived, in the same rooms, with the same intervals, in one run.
//!
//! Prints Markdown tables; `docs/benchmarks.md` holds the last ones. Options behind `--`:
//! `--quick` (a smoke test below a minute), `--only outage,takeover,scale,spacing,checks,control,replicate`, `--repeat N`.
//!
//! Every measurement is a job: this program started again in a room of its own (`vipd_agent::lab`),
//! which prints its samples as one line of JSON. Jobs that compare agents run side by side or in turn,
//! so that both meet the same machine.
//!
//! ```text
//! main      options, sections          outage    what the client misses, scene by scene
//! job       one room, one agent        takeover  1 to 5000 addresses
//! results   samples to tables          scale     CPU and memory of 1 to 1000 instances
//! capture   adverts and GARPs seen     spacing   adverts of 10 ms under load
//! watch     what a kernel answers for  usage     CPU and memory of processes
//! checks    adverts of 10 ms beside checks
//! control   adverts of 10 ms beside clients of the control socket
//! replicate state files beside rsync; VIPD_LONG=1: the sizes of the documentation, 40 GB
//! ```

mod capture;
mod checks;
mod control;
mod job;
mod outage;
mod replicate;
mod results;
mod scale;
mod spacing;
mod takeover;
mod usage;
mod watch;

use anyhow::{Context as _, bail};
use job::Job;
use std::io::Write as _;
use std::process::ExitCode;
use vipd_agent::lab::room::Room;

/// How much is measured.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Effort {
    /// Does everything work?
    Quick,
    /// What the documentation reports. The number replaces the repeats of each section.
    Full(Option<usize>),
}

/// Measures, and writes its tables.
type Section = fn(Effort) -> anyhow::Result<String>;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(e) => {
            eprintln!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    // Cargo says that this is a benchmark.
    args.retain(|a| a != "--bench");
    if let [word, job] = &args[..]
        && word == "job"
    {
        let job: Job = serde_json::from_str(job).context("not a job of this program")?;
        if let Room::Done(code) = Room::enter()? {
            return Ok(code);
        }
        let samples = job.run()?;
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&samples)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (effort, only) = options(&args)?;
    let sections: [(&str, Section); 7] = [
        ("outage", outage::section),
        ("takeover", takeover::section),
        ("scale", scale::section),
        ("spacing", spacing::section),
        ("checks", checks::section),
        ("control", control::section),
        ("replicate", replicate::section),
    ];
    if let Some(unknown) = only.iter().find(|o| sections.iter().all(|(name, _)| name != o)) {
        bail!(
            "there is no section {unknown}; there are outage, takeover, scale, spacing, checks, control and replicate"
        );
    }
    writeln!(std::io::stdout(), "{}", results::machine())?;
    for (name, section) in sections {
        if only.is_empty() || only.iter().any(|o| o == name) {
            let text = section(effort).with_context(|| format!("section {name}"))?;
            let mut out = std::io::stdout().lock();
            writeln!(
                out,
                "{text}\nLoad of the machine at the end of this section: {}.\n",
                results::load()
            )?;
            out.flush()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn options(args: &[String]) -> anyhow::Result<(Effort, Vec<String>)> {
    let (mut effort, mut only) = (Effort::Full(None), Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => effort = Effort::Quick,
            "--repeat" => {
                let n = args.next().and_then(|n| n.parse().ok());
                effort = Effort::Full(Some(n.context("--repeat wants a number")?));
            }
            "--only" => {
                let names = args.next().context("--only wants names of sections")?;
                only.extend(names.split(',').map(str::to_owned));
            }
            other => bail!("unknown option {other}; there are --quick, --only and --repeat"),
        }
    }
    Ok((effort, only))
}
