//! What it costs to run: CPU time and memory of 1 to 1000 instances, and of many addresses.

use crate::Effort;
use crate::job::{Job, Sample, Task, Who, side_by_side};
use crate::results::{Results, Table};
use crate::{takeover, usage};
use anyhow::{Context as _, bail};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd as _;
use std::time::Duration;
use vipd_agent::lab::clock::{now, sleep_until};
use vipd_agent::lab::netlink::{LinkState, Rtnl, VethEnd};
use vipd_agent::lab::stage::Stage;
use vipd_core::types::Mac;

const AGENTS: [Who; 3] = [Who::Vipd, Who::VipdPlain, Who::Keepalived];
const CLAIMS: [Who; 3] = [Who::Vipd, Who::VipdRoute, Who::Keepalived];
/// Instances on one link: fewer than there are identifiers.
const PER_LINK: usize = 250;
/// Until every agent has made its late announcements (the latest: 15 s after the claim).
const CALM: Duration = Duration::from_secs(17);
/// The same where these announcements are spread over seconds.
const CALM_OF_MANY: Duration = Duration::from_secs(27);
/// For 1000 instances or 5000 addresses to be claimed on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

/// An instance beside that of the plan: link, identifier, address.
struct More {
    link: usize,
    vrid: usize,
    addr: Ipv4Addr,
}

impl More {
    /// All that make `count` with that of the plan, which has identifier 51 on the first link.
    fn all(count: usize) -> Vec<Self> {
        let slots = (0..).map(|n| (n / PER_LINK, n % PER_LINK + 1)).filter(|slot| *slot != (0, 51));
        slots
            .take(count.saturating_sub(1))
            .map(|(link, vrid)| {
                let octet = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
                Self { link, vrid, addr: Ipv4Addr::new(10, 10 + octet(link), 0, octet(vrid)) }
            })
            .collect()
    }

    fn interface(&self) -> String {
        interface(self.link)
    }
}

/// eth0 is the lab's, and so is eth1.
fn interface(link: usize) -> String {
    if link == 0 { "eth0".into() } else { format!("eth{}", link + 1) }
}

/// CPU time and memory of `count` instances.
pub(crate) fn instances(job: &Job, count: usize, seconds: u64) -> anyhow::Result<Vec<Sample>> {
    let mut plan = job.who.plan(job.interval_ms);
    let more = More::all(count);
    for (ix, m) in more.iter().enumerate() {
        let (link, vrid, addr) = (m.interface(), m.vrid, m.addr);
        if job.who == Who::Keepalived {
            let seconds = plan.interval.as_secs_f64();
            write!(
                plan.file_extra,
                "vrrp_instance i{ix} {{\n  state BACKUP\n  interface {link}\n  virtual_router_id {vrid}\n  \
                 priority @P@\n  advert_int {seconds}\n  virtual_ipaddress {{\n    {addr}/32\n  }}\n}}\n"
            )?;
        } else {
            write!(
                plan.file_extra,
                "[instance.i{ix}]\nvrid = {vrid}\ninterface = \"{link}\"\naddresses = [\"{addr}/32\"]\n\
                 priority = {{ h1 = 150, h2 = 100 }}\nadvert-interval = \"{}ms\"\npreempt-delay = \"0s\"\nsettle = \"off\"\n",
                plan.interval.as_millis()
            )?;
        }
    }
    if job.who != Who::Keepalived {
        // Between the two hosts of the other links nobody else is heard.
        plan.instance_extra = "settle = \"off\"".into();
    }
    let mut stage = Stage::set(plan, &job.who.kind())?;
    let links = more.iter().map(|m| m.link).max().unwrap_or(0);
    for link in 1..=links {
        cable(&stage, link)?;
    }
    if job.who == Who::Keepalived {
        for ix in 0..2 {
            let priority = stage.plan().priority(ix).to_string();
            let file = stage.agent(ix).config();
            std::fs::write(&file, std::fs::read_to_string(&file)?.replace("@P@", &priority))?;
        }
    }
    measure(&mut stage, count + links, CALM.min(Duration::from_secs(seconds)), seconds)
}

/// CPU time and memory of one instance with `count` addresses.
pub(crate) fn addresses(job: &Job, count: usize, seconds: u64) -> anyhow::Result<Vec<Sample>> {
    let mut stage = Stage::set(takeover::plan(job, count)?, &job.who.kind())?;
    let held = if job.who == Who::VipdRoute { 1 } else { count };
    measure(&mut stage, held, CALM_OF_MANY.min(Duration::from_secs(seconds * 2)), seconds)
}

/// Starts both hosts, waits until the first has `held` addresses beside those of the room and is calm,
/// and looks.
fn measure(
    stage: &mut Stage,
    held: usize,
    calm: Duration,
    seconds: u64,
) -> anyhow::Result<Vec<Sample>> {
    let count = |stage: &Stage| -> anyhow::Result<usize> {
        let all = stage.room().host(0).ns()?.run(|| Ok(Rtnl::open()?.addresses()?))?;
        Ok(all.iter().filter(|(_, a)| a.is_ipv4()).count())
    };
    // Those of the room: lo, eth0, eth1.
    let wanted = 3 + held;
    stage.start_all()?;
    let limit = now() + BOUND;
    while count(stage)? < wanted {
        if now() > limit {
            bail!("h1 has {} of {wanted} addresses:\n{}", count(stage)?, stage.logs(10));
        }
        sleep_until(now() + Duration::from_millis(200));
    }
    sleep_until(now() + calm);
    let hosts = [("Active", stage.room().host(0).ns()?), ("Backup", stage.room().host(1).ns()?)];
    let start = now();
    let before = [usage::cpu(hosts[0].1)?, usage::cpu(hosts[1].1)?];
    sleep_until(start + Duration::from_secs(seconds));
    let mut samples = Vec::new();
    for ((name, ns), before) in hosts.into_iter().zip(before) {
        let used = usage::cpu(ns)?.saturating_sub(before);
        let per_minute = used.as_secs_f64() * 60.0 / now().since(start).as_secs_f64();
        samples.push(Sample::new(format!("{name} CPU"), per_minute));
        samples.push(Sample::new(format!("{name} memory"), usage::memory_kb(ns)? / 1000.0));
    }
    let held_to_the_end = count(stage)? >= wanted;
    samples.push(Sample::new("unsettled", f64::from(u8::from(!held_to_the_end))));
    Ok(samples)
}

/// Another link between both hosts, a cable of their own.
fn cable(stage: &Stage, link: usize) -> anyhow::Result<()> {
    let name = interface(link);
    let octet = u8::try_from(link).context("too many links")?;
    let far = stage.room().host(1).ns()?.as_fd().try_clone_to_owned()?;
    let (here, there) = (name.clone(), name.clone());
    stage.room().host(0).ns()?.run(move || {
        let here = VethEnd { name: &here, mac: Mac([2, 0, 0, 1, octet, 11]) };
        let there = VethEnd { name: &there, mac: Mac([2, 0, 0, 1, octet, 12]) };
        Ok(Rtnl::open()?.add_veth(&here, &there, far.as_fd())?)
    })?;
    for (ix, last) in [(0, 11), (1, 12)] {
        let name = name.clone();
        stage.room().host(ix).ns()?.run(move || {
            let mut rtnl = Rtnl::open()?;
            rtnl.set_state(&name, LinkState::Up)?;
            let addr = IpAddr::from(Ipv4Addr::new(198, 18, octet, last));
            Ok(rtnl.add_address(&name, addr, 24)?)
        })?;
    }
    Ok(())
}

/// Runs and tabulates.
pub(crate) fn section(effort: Effort) -> anyhow::Result<String> {
    let (sizes, intervals, seconds): (&[usize], &[u64], u64) = match effort {
        Effort::Quick => (&[1, 50], &[100], 3),
        Effort::Full(_) => (&[1, 50, 200, 1000], &[1000, 100], 20),
    };
    let many = if effort == Effort::Quick { 100 } else { 5000 };
    let job = |who, interval_ms, count| Job {
        who,
        interval_ms,
        task: Task::Instances { count, seconds },
    };
    let mut results = Results::default();
    for interval_ms in intervals {
        let (small, large): (Vec<usize>, Vec<usize>) = sizes.iter().partition(|n| **n < 1000);
        let jobs = |counts: Vec<usize>| -> Vec<Job> {
            counts.into_iter().flat_map(|n| AGENTS.map(|who| job(who, *interval_ms, n))).collect()
        };
        results.add(side_by_side(&jobs(small))?);
        // In turn: all together would want more than two processors.
        for alone in jobs(large) {
            results.add(side_by_side(&[alone])?);
        }
    }
    let steady =
        |who| Job { who, interval_ms: 1000, task: Task::Addresses { count: many, seconds } };
    results.add(side_by_side(&CLAIMS.map(steady))?);
    let mut text = format!(
        "## CPU and memory\n\nTwo hosts, steady, over {seconds} s. CPU: seconds of a processor per minute. Memory: what the agent alone would \
         take (PSS without sharing beyond its own processes), MB. 1000 instances are on four links.\n\n"
    );
    let mut table = Table::new(&[
        "instances",
        "T",
        "agent",
        "CPU Active",
        "/ keepalived",
        "CPU Backup",
        "/ keepalived",
        "MB Active",
        "/ keepalived",
        "not settled",
    ]);
    let lines = intervals.iter().flat_map(|t| sizes.iter().map(move |n| (*t, *n)));
    for (interval_ms, count) in lines {
        for who in AGENTS {
            let task = Task::Instances { count, seconds };
            let cells = cells(&results, who, interval_ms, &task);
            table.row(
                &[vec![count.to_string(), format!("{interval_ms} ms"), who.name().into()], cells]
                    .concat(),
            );
        }
    }
    for who in CLAIMS {
        let task = Task::Addresses { count: many, seconds };
        let first = vec![format!("1 with {many} addresses"), "1000 ms".into(), who.name().into()];
        table.row(&[first, cells(&results, who, 1000, &task)].concat());
    }
    text.push_str(&table.text());
    Ok(text)
}

fn cells(results: &Results, who: Who, interval_ms: u64, task: &Task) -> Vec<String> {
    let of = |name: &str, who: Who| {
        results.values(name, |job| {
            job.who == who && job.interval_ms == interval_ms && job.task == *task
        })
    };
    let names = ["Active CPU", "Backup CPU", "Active memory"];
    let pair = |name| [of(name, who).middle(), of(name, who).ratio(&of(name, Who::Keepalived))];
    let unsettled = of("unsettled", who).set().to_string();
    names.into_iter().flat_map(pair).chain([unsettled]).collect()
}
