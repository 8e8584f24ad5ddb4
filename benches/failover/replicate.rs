//! State files beside rsync over the same link, in one room: first copies, small changes, one very large file; how soon a
//! small change is on the other host; adverts of 10 ms while it replicates.
//!
//! Both copy the same tree of the first host, one after the other, to folders of the second. rsync (`-a --delete`, its
//! daemon on the second host, without compression or encryption) is started anew each time, as a timer would, and once more
//! with `--fsync`, which is what the replicator promises; the replicator runs all the time and is asked for nothing. A step of the replicator begins when the tree is complete, with the
//! appearance of a file that is made last and put in place last, and ends when that file is on the second host.

use crate::Effort;
use crate::capture::Capture;
use crate::job::{Job, Sample, Task, Who, side_by_side};
use crate::results::{Results, Table, number};
use crate::spacing;
use anyhow::{Context as _, bail};
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use vipd_agent::lab::clock::{millis, now, sleep_until};
use vipd_agent::lab::replicator::StateFiles;
use vipd_agent::lab::stage::Stage;
use vipd_agent::lab::topology::{Net, host_v4};
use vipd_core::time::Instant;

const MIB: u64 = 1 << 20;
/// No step takes longer.
const LIMIT: Duration = Duration::from_secs(1800);
/// Seeds from here on give octets that are nowhere in a tree as it was made.
const CHANGED: u64 = 1 << 32;
/// Port of rsync's daemon.
const PORT: u16 = 8730;

/// How large the trees are.
#[derive(Copy, Clone, Debug)]
struct Scale {
    /// Of the tree of large files, MiB in files of 16.
    large: u64,
    /// Small files of 1 to 4 KiB.
    small: u64,
    /// The one very large file, MiB.
    huge: u64,
}

const QUICK: Scale = Scale { large: 32, small: 1000, huge: 64 };
const USUAL: Scale = Scale { large: 256, small: 20_000, huge: 1024 };
/// What issue and documentation ask for: needs 40 GB.
const LONG: Scale = Scale { large: 1024, small: 100_000, huge: 10_240 };

/// Runs everything in one room.
pub(crate) fn measure(job: &Job, quick: bool, long: bool) -> anyhow::Result<Vec<Sample>> {
    let scale = if quick {
        QUICK
    } else if long {
        LONG
    } else {
        USUAL
    };
    let store = std::env::temp_dir().join(format!("vipd-bench-{}", std::process::id()));
    fs::create_dir_all(&store).context("no room for the trees")?;
    let _clean = Clean(store.clone());
    let lines = "debounce = \"10ms\"\nmax-delay = \"1s\"\ntrash-versions = 0\n";
    let mut plan = job.who.plan(job.interval_ms);
    plan.state_files = Some(StateFiles { lines: lines.into(), store: store.clone() });
    let mut stage = Stage::set(plan, &job.who.kind())?;
    let capture = Capture::start(stage.room().client())?;
    stage.start_all()?;
    stage.wait_owner(Duration::from_secs(30))?;
    sleep_until(now() + Duration::from_secs(3));
    let play = Play::new(&stage, &store)?;
    let mut samples = play.latency(if quick { 5 } else { 50 })?;
    for (name, tree) in [("large", Tree::Large(scale.large)), ("small", Tree::Small(scale.small))] {
        let (first, change) = (format!("{name} first"), format!("{name} change"));
        let octets = tree.octets();
        samples.extend(play.step((&first, octets), |aside| tree.make(aside), appear)?);
        let change_it = |at: &Path, _: &Path| tree.change(at);
        samples.extend(play.step((&change, octets), nothing, change_it)?);
        play.clear()?;
    }
    let huge = |aside: &Path| write_huge(aside, scale.huge);
    samples.extend(play.step(("huge first", scale.huge * MIB), huge, appear)?);
    let change = |tree: &Path, _: &Path| overwrite(&tree.join("huge"), scale.huge);
    samples.extend(play.step(("huge changed", scale.huge * MIB), nothing, change)?);
    let source = play.source.join("tree/huge");
    let insertion = |aside: &Path| insert(&source, &aside.join("huge"), scale.huge);
    let replace =
        |tree: &Path, aside: &Path| Ok(fs::rename(aside.join("huge"), tree.join("huge"))?);
    samples.extend(play.step(("huge inserted", scale.huge * MIB), insertion, replace)?);
    // The grid of the adverts, while either copies; not while this program prepares gigabytes, which holds a processor in the
    // kernel for tens of milliseconds where that cannot be preempted.
    for (way, from, until) in play.spans.take() {
        let gaps = spacing::gaps(&capture, host_v4(0, Net::Service), from, until);
        samples.extend(gaps.into_iter().map(|gap| Sample::new(format!("gap {way}"), gap)));
    }
    play.clear()?;
    Ok(samples)
}

/// Removes the trees, whatever happened.
struct Clean(PathBuf);

impl Drop for Clean {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Copy, Clone)]
enum Tree {
    /// So many MiB in files of 16.
    Large(u64),
    /// So many files.
    Small(u64),
}

impl Tree {
    fn make(self, folder: &Path) -> anyhow::Result<()> {
        match self {
            Self::Large(mib) => {
                for n in 0..mib / 16 {
                    fs::write(folder.join(format!("large{n}")), noise(n, 16 * MIB))?;
                }
            }
            Self::Small(files) => {
                for n in 0..files {
                    if n % 1000 == 0 {
                        fs::create_dir_all(folder.join(format!("folder{}", n / 1000)))?;
                    }
                    fs::write(small(folder, n), noise(n, 1024 + n * 37 % 3072))?;
                }
            }
        }
        Ok(())
    }

    /// About so many.
    const fn octets(self) -> u64 {
        match self {
            Self::Large(mib) => mib * MIB,
            Self::Small(files) => files * 2560,
        }
    }

    /// One percent: of the large files a piece each, of the small ones one in a hundred.
    fn change(self, folder: &Path) -> anyhow::Result<()> {
        match self {
            Self::Large(mib) => {
                for n in 0..mib / 16 {
                    let mut file =
                        File::options().write(true).open(folder.join(format!("large{n}")))?;
                    file.seek(SeekFrom::Start(n * 7919 % (15 * MIB)))?;
                    file.write_all(&noise(n + CHANGED, 16 * MIB / 100))?;
                }
            }
            Self::Small(files) => {
                for n in (0..files).step_by(100) {
                    fs::write(small(folder, n), noise(n + CHANGED, 1024 + n * 37 % 3072))?;
                }
            }
        }
        Ok(())
    }
}

/// Nothing is prepared.
fn nothing(_: &Path) -> anyhow::Result<()> {
    Ok(())
}

/// What was prepared appears, all at once.
fn appear(tree: &Path, aside: &Path) -> anyhow::Result<()> {
    fs::rename(aside, tree)?;
    Ok(fs::create_dir_all(aside)?)
}

fn write_huge(folder: &Path, mib: u64) -> anyhow::Result<()> {
    let mut file = File::create(folder.join("huge"))?;
    for n in 0..mib {
        file.write_all(&noise(n, MIB))?;
    }
    Ok(())
}

fn small(folder: &Path, n: u64) -> PathBuf {
    folder.join(format!("folder{}", n / 1000)).join(format!("file{n}"))
}

/// 1 MiB of the middle becomes other.
fn overwrite(file: &Path, mib: u64) -> anyhow::Result<()> {
    let mut file = File::options().write(true).open(file)?;
    file.seek(SeekFrom::Start(mib / 2 * MIB + 12_345))?;
    Ok(file.write_all(&noise(CHANGED + 1, MIB))?)
}

/// A copy with 1 MiB more in the middle: programs replace a file by a new one.
fn insert(from: &Path, to: &Path, mib: u64) -> anyhow::Result<()> {
    let (mut old, mut new) = (File::open(from)?, File::create(to)?);
    std::io::copy(&mut (&mut old).take(mib / 2 * MIB + 4_321), &mut new)?;
    new.write_all(&noise(CHANGED + 2, MIB))?;
    std::io::copy(&mut old, &mut new)?;
    Ok(())
}

/// Octets that do not compress, the same for the same seed.
#[expect(clippy::cast_possible_truncation, reason = "lengths fit into memory")]
fn noise(seed: u64, length: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(length as usize + 8);
    while (out.len() as u64) < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend(state.to_le_bytes());
    }
    out.truncate(length as usize);
    out
}

struct Play<'s> {
    stage: &'s Stage,
    /// The files of the first host, and what each way brings to the second.
    source: PathBuf,
    replica: PathBuf,
    rsynced: PathBuf,
    /// Where a tree is put together.
    aside: PathBuf,
    daemon: std::process::Child,
    /// When which way copied.
    spans: RefCell<Vec<(&'static str, Instant, Instant)>>,
}

impl Drop for Play<'_> {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl<'s> Play<'s> {
    fn new(stage: &'s Stage, store: &Path) -> anyhow::Result<Self> {
        let (rsynced, aside) = (store.join("rsynced"), store.join("aside"));
        fs::create_dir_all(&rsynced)?;
        fs::create_dir_all(rsynced.with_file_name("rsynced-fsync"))?;
        fs::create_dir_all(&aside)?;
        let conf = store.join("rsyncd.conf");
        // Without the name of the caller: nobody answers in this room, and rsync would wait ten seconds for it each time.
        fs::write(
            &conf,
            format!(
                "use chroot = no\nreverse lookup = no\nuid = root\ngid = root\nread only = no\n[copy]\npath = {0}\n[fsynced]\npath = {0}-fsync\n",
                rsynced.display()
            ),
        )?;
        let mut daemon = Command::new("rsync");
        daemon.args(["--daemon", "--no-detach", &format!("--port={PORT}")]);
        daemon.arg(format!("--config={}", conf.display())).stdin(Stdio::null());
        let daemon = stage.room().host(1).ns()?.run(move || Ok(daemon.spawn()?));
        let daemon = daemon.context("rsync is not installed")?;
        sleep_until(now() + Duration::from_millis(300));
        Ok(Self {
            stage,
            source: stage.replicator(0).files().to_owned(),
            replica: stage.replicator(1).files().to_owned(),
            rsynced,
            aside,
            daemon,
            spans: RefCell::default(),
        })
    }

    /// What `prepare` makes beside the files, `act` brings into the tree: from there on each way is measured.
    fn step(
        &self,
        (name, octets): (&str, u64),
        prepare: impl Fn(&Path) -> anyhow::Result<()>,
        act: impl Fn(&Path, &Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<Sample>> {
        let tree = self.source.join("tree");
        prepare(&self.aside)?;
        let (pids, mut samples) = (self.pids()?, Vec::new());
        pids.iter().for_each(|pid| drop(fs::write(format!("/proc/{pid}/clear_refs"), "5")));
        settle(octets)?;
        let (sent, at) = (self.sent()?, now());
        act(&tree, &self.aside)?;
        // The last of all names: files are put in their places in the order of their names.
        let mark = format!("~{name}");
        fs::write(self.source.join(&mark), &mark)?;
        while !self.replica.join(&mark).exists() {
            if now().since(at) > LIMIT {
                bail!("{name}: not there after {LIMIT:?}\n{}", self.stage.logs(20));
            }
            sleep_until(now() + Duration::from_millis(2));
        }
        let took = millis(now().since(at));
        // Its record and the acknowledgement follow: they take memory as well.
        self.wait_acknowledged(at)?;
        self.spans.borrow_mut().push(("vipd", at, now()));
        samples.push(Sample::new(format!("{name}: vipd ms"), took));
        samples.push(Sample::new(format!("{name}: vipd octets"), self.sent()? - sent));
        let memory = pids.iter().map(|pid| peak_kb(*pid)).fold(0.0, f64::max);
        samples.push(Sample::new(format!("{name}: vipd kB"), memory));
        samples.extend(self.rsync((name, octets), "rsync", "copy", &[])?);
        samples.extend(self.rsync((name, octets), "fsync", "fsynced", &["--fsync"])?);
        fs::remove_file(self.source.join(&mark))?;
        Ok(samples)
    }

    /// Until the first host says that the second has everything.
    fn wait_acknowledged(&self, since: Instant) -> anyhow::Result<()> {
        loop {
            let said = self.stage.ask(0, &["replica", "status"])?;
            if said.contains("h2: in sync") {
                return Ok(());
            }
            anyhow::ensure!(now().since(since) < LIMIT, "not acknowledged\n{said}");
            sleep_until(now() + Duration::from_millis(20));
        }
    }

    /// As `way` in the samples, to that module of the daemon.
    fn rsync(
        &self,
        (name, octets): (&str, u64),
        way: &'static str,
        module: &str,
        options: &[&str],
    ) -> anyhow::Result<Vec<Sample>> {
        let to = format!("rsync://{}:{PORT}/{module}/", host_v4(1, Net::Beat));
        let mut command = Command::new("rsync");
        command.args(["-a", "--delete", "--exclude=.vipd"]).args(options);
        command.arg(format!("{}/", self.source.display())).arg(to);
        command.stdin(Stdio::null());
        settle(octets)?;
        let (sent, at) = (self.sent()?, now());
        let mut child = self.stage.room().host(0).ns()?.run(move || Ok(command.spawn()?))?;
        let mut memory = 0.0_f64;
        let status = loop {
            for pid in rsyncs() {
                memory = memory.max(peak_kb(pid));
            }
            if let Some(status) = child.try_wait()? {
                break status;
            }
            sleep_until(now() + Duration::from_millis(2));
        };
        anyhow::ensure!(status.success(), "rsync: {status}");
        let ended = now();
        self.spans.borrow_mut().push((way, at, ended));
        Ok(vec![
            Sample::new(format!("{name}: {way} ms"), millis(ended.since(at))),
            Sample::new(format!("{name}: {way} octets"), self.sent()? - sent),
            Sample::new(format!("{name}: {way} kB"), memory),
        ])
    }

    /// Everything away, on both hosts.
    fn clear(&self) -> anyhow::Result<()> {
        fs::remove_dir_all(self.source.join("tree"))?;
        fs::remove_dir_all(&self.aside)?;
        fs::create_dir_all(&self.aside)?;
        for folder in [self.rsynced.clone(), self.rsynced.with_file_name("rsynced-fsync")] {
            for entry in fs::read_dir(folder)?.flatten() {
                if entry.path().is_dir() {
                    fs::remove_dir_all(entry.path())?;
                }
            }
        }
        // The guard asks before it deletes everything.
        let limit = now() + LIMIT;
        while self.replica.join("tree").exists() {
            for ix in 0..2 {
                let _ = self.stage.ask(ix, &["replica", "ack", "state"]);
            }
            anyhow::ensure!(now() < limit, "the replica is not cleared\n{}", self.stage.logs(20));
            sleep_until(now() + Duration::from_millis(100));
        }
        Ok(())
    }

    /// From the change of a small file to its appearance on the second host.
    fn latency(&self, times: usize) -> anyhow::Result<Vec<Sample>> {
        let mut samples = Vec::new();
        for n in 0..times {
            let name = format!("small{n}");
            let at = now();
            fs::write(self.source.join(&name), &name)?;
            while !self.replica.join(&name).exists() {
                anyhow::ensure!(now().since(at) < LIMIT, "not there\n{}", self.stage.logs(20));
                sleep_until(now() + Duration::from_micros(200));
            }
            samples.push(Sample::new("latency", millis(now().since(at))));
            sleep_until(now() + Duration::from_millis(50));
        }
        Ok(samples)
    }

    /// Octets that left either host so far.
    fn sent(&self) -> anyhow::Result<f64> {
        let of = |line: &str| {
            let (name, figures) = line.split_once(':')?;
            let eth = name.trim().starts_with("eth");
            eth.then(|| figures.split_ascii_whitespace().nth(8)?.parse::<f64>().ok()).flatten()
        };
        let mut sum = 0.0;
        for host in 0..2 {
            let ns = self.stage.room().host(host).ns()?;
            let table = ns.run(|| Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
            sum += table.lines().filter_map(of).sum::<f64>();
        }
        Ok(sum)
    }

    fn pids(&self) -> anyhow::Result<Vec<i32>> {
        let each = (0..2).map(|ix| self.stage.replicator(ix).pid().context("no replicator"));
        each.collect()
    }
}

/// Most memory that is touched before a copy, octets.
const TOUCHED: u64 = 2 << 30;

/// Before each copy of `octets`, so that all find the same: what others wrote is on the disk, and nobody pays for it who asks for his
/// own to be there; and as much memory was touched, up to [`TOUCHED`]. A machine that gives free memory back to its host pays for the first touch, and
/// what an earlier copy has freed would spare the later ones that.
fn settle(octets: u64) -> anyhow::Result<()> {
    anyhow::ensure!(Command::new("sync").status()?.success(), "sync failed");
    let touched = usize::try_from(octets.min(TOUCHED)).context("more than there can be")?;
    drop(std::hint::black_box(vec![1_u8; touched]));
    Ok(())
}

fn peak_kb(pid: i32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let figure = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
    figure.unwrap_or(0.0)
}

fn rsyncs() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let is = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "rsync")
    };
    pids.filter(is).collect()
}

/// Runs and tabulates.
pub(crate) fn section(effort: Effort) -> anyhow::Result<String> {
    let (quick, long) =
        (effort == Effort::Quick, std::env::var_os("VIPD_LONG").is_some_and(|v| v == "1"));
    let scale = if quick {
        QUICK
    } else if long {
        LONG
    } else {
        USUAL
    };
    let task = Task::Replicate { quick, long };
    let mut results = Results::default();
    results.add(side_by_side(&[Job { who: Who::Vipd, interval_ms: 10, task }])?);
    let of = |name: &str| results.of(name, Who::Vipd, 10);
    let mut text = String::from(
        "## State files beside rsync\n\nThe same trees over the same link, in turn, both ends on the processors of this machine; rsync without \
         encryption, vipd with it, with `fsync` of every file and hashes of all. Time ends with the last name; the record of the tree \
         and the acknowledgement follow. *rsync --fsync*: the same command with that option. MiB sent: both ways. *Ratio*: vipd / rsync.\n\n",
    );
    let mut table = Table::new(&[
        "what",
        "vipd s",
        "rsync s",
        "ratio",
        "rsync --fsync s",
        "ratio",
        "vipd MiB sent",
        "rsync MiB sent",
        "ratio",
        "vipd peak MiB",
        "rsync peak MiB",
    ]);
    let (large, small, huge) = (scale.large, scale.small, scale.huge);
    for (name, what) in [
        ("large first", format!("{large} MiB in files of 16 MiB, first copy")),
        ("large change", "1 % of each changed".to_owned()),
        ("small first", format!("{small} files of 1 to 4 KiB, first copy")),
        ("small change", "1 % of them changed".to_owned()),
        ("huge first", format!("one file of {huge} MiB, first copy")),
        ("huge changed", "1 MiB of it changed".to_owned()),
        ("huge inserted", "1 MiB inserted in the middle".to_owned()),
    ] {
        let value = |kind: &str| of(&format!("{name}: {kind}")).median().unwrap_or(f64::NAN);
        let mut row = vec![what];
        for (unit, divisor, ratio) in
            [("ms", 1e3, true), ("octets", 1_048_576.0, true), ("kB", 1024.0, false)]
        {
            let (vipd, rsync) = (value(&format!("vipd {unit}")), value(&format!("rsync {unit}")));
            row.extend([number(vipd / divisor), number(rsync / divisor)]);
            if ratio {
                row.push(number(vipd / rsync));
            }
            if unit == "ms" {
                let fsync = value("fsync ms");
                row.extend([number(fsync / divisor), number(vipd / fsync)]);
            }
        }
        table.row(&row);
    }
    text.push_str(&table.text());
    let part = |name, part| of(name).quantile(part).map_or_else(|| "-".into(), number);
    text.push_str(&format!(
        "\nA new small file is on the other host after {} ms (median; p99 {}, with `debounce = \"10ms\"`). Gaps between adverts of 10 ms, in \
         all rows together:\n\n",
        part("latency", 0.5),
        part("latency", 0.99),
    ));
    let mut table = Table::new(&["while", "adverts", "median ms", "p99 ms", "p99.9 ms", "max ms"]);
    for (name, what) in [
        ("gap vipd", "vipd copies"),
        ("gap rsync", "rsync copies"),
        ("gap fsync", "rsync --fsync copies"),
    ] {
        let mut row = vec![what.to_owned(), of(name).count().to_string()];
        row.extend([0.5, 0.99, 0.999, 1.0].map(|at| part(name, at)));
        table.row(&row);
    }
    text.push_str(&table.text());
    Ok(text)
}
