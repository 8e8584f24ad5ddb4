//! The HMAC trailer on the wire, between two vipds.
//!
//! keepalived has it since 2.4.2, Debian ships 2.2.7: what keepalived sends is compared by the vectors of the
//! core, not here.

use crate::mode::vipd;
use crate::play::alone;
use crate::refusal::refuses;
use crate::told;
use crate::wire::{Capture, advert_lengths};
use anyhow::{Context as _, ensure};
use libtest_mimic::Trial;
use std::fs;
use std::path::Path;
use std::time::Duration;
use vipd_agent::lab::clock::{now, sleep_until};
use vipd_agent::lab::plan::{Families, Heartbeats, Plan, Preempt};
use vipd_agent::lab::room::FILES;
use vipd_agent::lab::stage::Stage;
use vipd_agent::lab::topology::Net;

/// By then an agent has started and owns.
const BOUND: Duration = Duration::from_secs(8);
/// Octets of the trailer.
const TRAILER: usize = 28;
/// Octets of an advert of version 3 with one address, by family.
const PLAIN: [(Families, usize); 2] = [(Families::V4, 12), (Families::V6, 24)];

/// All of them.
pub(crate) fn trials() -> Vec<Trial> {
    // The steps of a roll-out, host by host: what the first and the second host run.
    let steps = [
        ("none", "receive-only"),
        ("receive-only", "permissive"),
        ("permissive", "permissive"),
        ("permissive", "enforce"),
        ("enforce", "enforce"),
    ];
    let mut trials = Vec::new();
    for (family, plain) in PLAIN {
        for (first, second) in steps {
            let name = format!("trailer-{family:?}/{first}-with-{second}").to_lowercase();
            let play = move || told(hear_each_other(family, plain, [first, second]));
            trials.push(Trial::test(name, play));
        }
    }
    trials.push(Trial::test("trailer/wrong-key", || told(wrong_key())));
    trials.push(Trial::test("trailer/enforce-refuses-unsigned", || told(unsigned())));
    trials
}

/// One owner, and adverts as long as the mode says.
fn hear_each_other(family: Families, plain: usize, modes: [&'static str; 2]) -> anyhow::Result<()> {
    let mut stage = stage(family, [(modes[0], "a"), (modes[1], "a")])?;
    let port = Net::Service.port(stage.room().host(0).name());
    let capture = Capture::start(stage.room().switches(), &port)?;
    stage.start_all()?;
    alone(&stage, 0, BOUND)?;
    let lengths = advert_lengths(&capture.stop()?)?;
    let signs = matches!(modes[0], "permissive" | "enforce");
    let wanted = plain + if signs { TRAILER } else { 0 };
    ensure!(lengths == [wanted], "adverts of {lengths:?} octets, not {wanted}");
    Ok(())
}

/// Both refuse each other, and say so.
fn wrong_key() -> anyhow::Result<()> {
    let stage = two_owners([("enforce", "a"), ("enforce", "b")])?;
    for ix in 0..2 {
        refuses(stage.agent(ix), "bad-tag", "trailer-bad-tag")?;
    }
    Ok(())
}

/// Who requires the trailer refuses an advert without; the other one hears it.
fn unsigned() -> anyhow::Result<()> {
    let mut stage = stage(Families::V4, [("enforce", "a"), ("receive-only", "a")])?;
    stage.start_all()?;
    alone(&stage, 0, BOUND).context("the unsigned one hears the signed")?;
    stage.power_off(0)?;
    alone(&stage, 1, BOUND).context("the unsigned one takes over")?;
    stage.power_on(0)?;
    let vip = stage.plan().vips()[0];
    let again = stage.eyes().wait(BOUND, |seen| seen.holders(vip).contains(&0));
    again.with_context(|| format!("the first host comes back\n{}", stage.logs(12)))?;
    refuses(stage.agent(0), "missing", "trailer-missing")
}

fn two_owners(hosts: [(&'static str, &str); 2]) -> anyhow::Result<Stage> {
    let mut stage = stage(Families::V4, hosts)?;
    stage.start_all()?;
    let vip = stage.plan().vips()[0];
    let both = stage.eyes().wait_holders(vip, &[0, 1], BOUND);
    both.with_context(|| format!("both own, since they refuse each other\n{}", stage.logs(12)))?;
    sleep_until(now() + Duration::from_secs(1));
    Ok(stage)
}

/// Two vipds without heartbeats, each with a mode ("none": no trailer) and a key of that name.
fn stage(family: Families, hosts: [(&'static str, &str); 2]) -> anyhow::Result<Stage> {
    let plan = Plan {
        families: family,
        interval: Duration::from_millis(100),
        heartbeats: Heartbeats::Off,
        preempt: Preempt::After(Duration::ZERO),
        ..Plan::default()
    };
    let mut cast = Vec::new();
    for (mode, key) in hosts {
        let file = Path::new(FILES).join(format!("advert-{key}.key"));
        write_key(&file, key)?;
        let hmac =
            format!("hmac = {{ mode = \"{mode}\", keys = {{ \"1\" = \"{}\" }} }}", file.display());
        let instance_extra = if mode == "none" { String::new() } else { hmac };
        cast.push((vipd(), Plan { instance_extra, ..plan.clone() }));
    }
    Stage::cast(plan, &cast)
}

fn write_key(file: &Path, key: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(file, format!("{}\n", key.repeat(64)))?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600))?;
    Ok(())
}
