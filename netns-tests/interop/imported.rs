//! What `vipd import` makes of a pair of keepalived.conf behaves as that pair: the same owners in the same order, at
//! election, power cut, return, clean stop and a check that fails.
//!
//! keepalived plays its files first; then vipd plays the file that was made of them, alone and with either host still
//! on keepalived, as they stand while a group migrates. The files are those of `core/tests/import`, but for programs
//! and users that this machine has not. `VIPD_LONG=1` plays all of them, otherwise three.

use crate::mode::vipd;
use crate::{long, told};
use anyhow::{Context as _, bail, ensure};
use libtest_mimic::Trial;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vipd_agent::lab::agent::Kind;
use vipd_agent::lab::clock::{now, sleep_until};
use vipd_agent::lab::plan::{Families, Plan, Pool};
use vipd_agent::lab::room::FILES;
use vipd_agent::lab::stage::Stage;
use vipd_core::config::import::{Source, import};

/// What nobody has disturbed for so long stays: longer than a takeover and a start.
const STAYS: Duration = Duration::from_secs(8);
/// The same where it is known what has to come, and it was not there before.
const HOLDS: Duration = Duration::from_secs(3);
/// By then everything has moved that will.
const BOUND: Duration = Duration::from_secs(40);

/// A pair of files.
struct Pair {
    name: &'static str,
    families: Families,
    /// It has `track_script`: one more step.
    checked: bool,
    /// keepalived advertises all of its addresses, so that both may run beside each other.
    mixes: bool,
    /// Played without `VIPD_LONG` too.
    in_ci: bool,
}

const PAIR: Pair =
    Pair { name: "", families: Families::V4, checked: false, mixes: true, in_ci: false };

/// All but `includes`: keepalived would look for its conditions under this machine's name.
const PAIRS: [Pair; 15] = [
    Pair { name: "single-pair", in_ci: true, ..PAIR },
    Pair { name: "nopreempt", in_ci: true, ..PAIR },
    Pair { name: "script-weights", checked: true, in_ci: true, ..PAIR },
    Pair { name: "router-vmac", ..PAIR },
    Pair { name: "unicast-cloud", ..PAIR },
    Pair { name: "ipv6-v3", families: Families::V6, ..PAIR },
    Pair { name: "dual-stack", families: Families::Dual, ..PAIR },
    Pair { name: "auth-v2", ..PAIR },
    Pair { name: "notify-fifo", ..PAIR },
    Pair { name: "active-active", ..PAIR },
    Pair { name: "routes-rules", mixes: false, ..PAIR },
    Pair { name: "lvs-director", ..PAIR },
    Pair { name: "haproxy", checked: true, ..PAIR },
    Pair { name: "kubernetes-api", ..PAIR },
    Pair { name: "database", checked: true, ..PAIR },
];

/// Who plays on the two hosts.
const MIXES: [(&str, [bool; 2]); 2] =
    [("keepalived-first", [false, true]), ("keepalived-second", [true, false])];

pub(crate) fn trials() -> Vec<Trial> {
    let played = PAIRS.iter().filter(|pair| pair.in_ci || long());
    let trial = |pair: &'static Pair| {
        Trial::test(format!("import/{}", pair.name), move || told(play(pair)))
    };
    let scan = Trial::test("import/init-hears-used-vrids", || told(scan()));
    played.map(trial).chain([scan]).collect()
}

/// `vipd init` on a segment where keepalived uses VRID 51: proposes another one, and refuses that one.
fn scan() -> anyhow::Result<()> {
    let plan = Plan::default();
    let mut stage =
        Stage::cast(plan.clone(), &[(Kind::Keepalived, plan.clone()), (vipd(), plan.clone())])?;
    stage.start(0)?;
    let limit = now() + BOUND;
    while stage.eyes().holders(plan.vips()[0]) != [0] {
        ensure!(now() < limit, "keepalived does not own\n{}", stage.logs(8));
        sleep_until(now() + Duration::from_millis(50));
    }
    let file = folder(1).join("made.toml");
    let file = file.display().to_string();
    let flags = ["init", "--yes", "--scan", "3", "--interface", "eth0", "--peer", "h1=192.0.2.11"];
    let rest = ["--address", "192.0.2.200", "-o", &file];
    let refused = stage.ask(1, &[&flags[..], &rest, &["--vrid", "51"]].concat());
    let why = refused.err().context("VRID 51 is taken, and was not refused")?;
    ensure!(format!("{why:#}").contains("52 is free"), "{why:#}");
    let said = stage.ask(1, &[&flags[..], &rest].concat())?;
    ensure!(said.contains("VRID 51: 192.0.2.11"), "{said}");
    let made = std::fs::read_to_string(&file)?;
    // The length of the network is that of the host's own address, the name of this host its hostname.
    for part in
        ["vrid = 52", "addresses = [\"192.0.2.200/24\"]", "[hosts.h2]\npaths = [\"192.0.2.12\"]"]
    {
        ensure!(made.contains(part), "{part} is missing:\n{made}");
    }
    stage.ask(1, &["check", &file]).map(|_| ())
}

fn play(pair: &'static Pair) -> anyhow::Result<()> {
    let texts = [text(pair.name, 0)?, text(pair.name, 1)?];
    let sources = [0, 1].map(|ix| Source::new(&host(ix), "keepalived.conf", &texts[ix]));
    let made = import(&sources).map_err(|e| anyhow::anyhow!("{e}"))?;
    let cast = |is_vipd: [bool; 2]| Cast { is_vipd, texts: &texts, toml: &made.toml };
    let expected = sequence(pair, &cast([false, false]), None).context("keepalived alone")?;
    eprintln!("import/{}: {}", pair.name, shown(&expected));
    sequence(pair, &cast([true, true]), Some(&expected)).context("vipd alone")?;
    if pair.mixes && (long() || pair.name == "single-pair") {
        for (name, is_vipd) in MIXES {
            sequence(pair, &cast(is_vipd), Some(&expected)).context(name)?;
        }
    }
    Ok(())
}

/// Who has each address after a step.
type Owners = Vec<Vec<usize>>;
type Steps = Vec<(&'static str, Owners)>;

fn shown(steps: &Steps) -> String {
    let mut text = String::new();
    for (step, owners) in steps {
        // Writing to a String does not fail.
        let _ = write!(text, "{step} {owners:?}, ");
    }
    text
}

struct Cast<'t> {
    is_vipd: [bool; 2],
    texts: &'t [String; 2],
    toml: &'t str,
}

impl Cast<'_> {
    /// The room, with the files of the pair in place of those that the lab writes.
    fn stage(&self, pair: &Pair) -> anyhow::Result<Stage> {
        let two = pair.name == "active-active";
        let plan = Plan {
            families: pair.families,
            pool: two.then_some(Pool { addresses: 2 }),
            ..Plan::default()
        };
        let plain = Plan { pool: None, ..plan.clone() };
        let kinds = self.is_vipd.map(|is_vipd| if is_vipd { vipd() } else { Kind::Keepalived });
        let cast: Vec<_> = kinds.into_iter().map(|kind| (kind, plain.clone())).collect();
        let stage = Stage::cast(plan, &cast)?;
        for ix in 0..2 {
            let text = if self.is_vipd[ix] { tireless(self.toml) } else { self.texts[ix].clone() };
            std::fs::write(stage.agent(ix).config(), text)?;
            std::fs::write(folder(ix).join("maintenance"), "0\n")?;
        }
        Ok(stage)
    }
}

/// Plays the steps; `expected`: what has to come of each.
fn sequence(pair: &Pair, cast: &Cast<'_>, expected: Option<&Steps>) -> anyhow::Result<Steps> {
    let mut stage = cast.stage(pair)?;
    let mut steps = Steps::new();
    let mut step = |name: &'static str, stage: &Stage| -> anyhow::Result<()> {
        let wanted = expected.and_then(|all| all.get(steps.len())).map(|(_, owners)| owners);
        let owners =
            settled(stage, wanted).with_context(|| format!("{name}\n{}", stage.logs(12)))?;
        steps.push((name, owners));
        Ok(())
    };
    // One after the other: who starts first owns where nobody preempts, and the agents start at different speeds.
    stage.start(0)?;
    step("first alone", &stage)?;
    stage.start(1)?;
    step("election", &stage)?;
    stage.power_off(0)?;
    step("power cut", &stage)?;
    stage.power_on(0)?;
    step("return", &stage)?;
    if pair.checked {
        let owner = stage.eyes().holders(stage.plan().vips()[0]);
        let [owner] = owner[..] else { bail!("nobody owns before the check fails") };
        let sick = folder(owner).join("sick");
        std::fs::write(&sick, "")?;
        step("check fails", &stage)?;
        std::fs::remove_file(&sick)?;
        step("check passes", &stage)?;
    }
    if long() {
        stage.stop(0)?;
        step("stop", &stage)?;
        stage.start(0)?;
        step("start", &stage)?;
    }
    Ok(steps)
}

/// Who has the addresses when nothing moves any more: `wanted`, if something is.
fn settled(stage: &Stage, wanted: Option<&Owners>) -> anyhow::Result<Owners> {
    let vips = stage.plan().vips();
    let owners = || -> Owners { vips.iter().map(|vip| stage.eyes().holders(*vip)).collect() };
    let limit = now() + BOUND;
    let mut last = owners();
    let quiet = if wanted.is_some_and(|wanted| *wanted != last) { HOLDS } else { STAYS };
    let mut since = now();
    loop {
        sleep_until(now() + Duration::from_millis(50));
        let seen = owners();
        if seen != last {
            last = seen;
            since = now();
        }
        let single = last.iter().all(|hosts| hosts.len() == 1);
        if single && now().since(since) >= quiet && wanted.is_none_or(|w| *w == last) {
            return Ok(last);
        }
        ensure!(
            now() < limit,
            "the owners are {last:?} after {BOUND:?}{}",
            wanted.map_or_else(String::new, |w| format!(", keepalived had {w:?}"))
        );
    }
}

fn host(ix: usize) -> String {
    format!("h{}", ix + 1)
}

fn folder(ix: usize) -> PathBuf {
    Path::new(FILES).join(host(ix))
}

/// The file of a host, without what this machine has not.
fn text(name: &str, ix: usize) -> anyhow::Result<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("core/tests/import");
    let file = folder.join(format!("{name}.lb{}.conf", ix + 1));
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(playable(&text, ix))
}

/// vipd's file without its limits on moves, which keepalived has not: a bad month's failures come in two minutes here.
fn tireless(toml: &str) -> String {
    let mut out = String::new();
    for line in toml.lines() {
        out.push_str(line);
        out.push('\n');
        if line.starts_with("vrid = ") {
            out.push_str("move-budget = \"off\"\ndamping = \"off\"\n");
        }
    }
    out
}

/// Programs become one that looks for a file of the host, users become root; what needs IPVS, postgres or a reader is
/// left out, and mail, for which keepalived asks a name service before it starts.
fn playable(text: &str, ix: usize) -> String {
    let folder = folder(ix);
    let folder = folder.display();
    let mut out = String::new();
    let mut skipped = 0_i32;
    for line in text.lines() {
        let word = line.split_whitespace().next().unwrap_or("");
        let depth = i32::from(line.trim_end().ends_with('{')) - i32::from(word == "}");
        let left_out =
            ["vrrp_track_process", "track_process", "virtual_server", "notification_email"];
        if skipped > 0 || left_out.contains(&word) {
            skipped += depth;
            continue;
        }
        let changed = match word {
            "script" => format!("script \"/usr/bin/test ! -e {folder}/sick\""),
            "script_user" | "user" => format!("{word} root"),
            "file" => format!("file {folder}/maintenance"),
            "vrrp_notify_fifo" => format!("{word} {folder}/events"),
            notify if notify.starts_with("notify") && !notify.starts_with("notification") => {
                format!("{notify} /bin/true")
            }
            "vrrp_notify_fifo_script" | "lvs_sync_daemon" | "lvs_sync_daemon_interface" => continue,
            mail if mail.starts_with("smtp_") || mail == "notification_email_from" => continue,
            _ => line.to_owned(),
        };
        out.push_str(&changed);
        out.push('\n');
    }
    out
}
