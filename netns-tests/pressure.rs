//! Processors, memory and disks under pressure: seen by the check, shown in status, and the address moves or stays
//! exactly as the weight says.
//!
//! Pressure is made for real where this machine shows it. Where it does not (too much load by others, no memory
//! cgroup), a file in the place of the kernel's says it, and the same is judged. Without the kernel's file there is
//! no trial: it counts as ignored.

use crate::arena::{Arena, FIRST, wait};
use crate::health::with_checks;
use libtest_mimic::Trial;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::health::Check;
use vipd_agent::lab::plan::Plan;
use vipd_agent::lab::room::FILES;

/// The distance of the priorities is 50: this weight cannot move the address, and this one must.
const WEIGHTS: [(u8, usize); 2] = [(20, 0), (80, 1)];
/// Per cent of time that an idle machine loses.
const CALM: f64 = 1.0;

/// Trials that press this machine: nothing may run beside them.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (weight, moves) in WEIGHTS {
        for resource in [Resource::Cpu, Resource::Memory, Resource::Io] {
            let name = format!("pressure/{}/weight_{weight}", resource.name());
            let trial = Trial::test(name, move || {
                pressed(resource, weight, moves);
                Ok(())
            });
            trials.push(trial.with_ignored_flag(!resource.file().exists()));
        }
    }
    trials
}

/// Trials of disks: small ones in memory, whose fullness nobody else sees.
pub(crate) fn disks() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (fault, word) in
        [(Fault::Full, "full"), (Fault::Inodes, "no_inodes"), (Fault::ReadOnly, "read_only")]
    {
        for (severity, moves) in [("fail", 1), ("info", 0)] {
            trials.push(Trial::test(format!("pressure/disk/{word}/{severity}"), move || {
                disk(fault, severity, moves);
                Ok(())
            }));
        }
    }
    trials
}

/// What the kernel measures the pressure of.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Resource {
    Cpu,
    Memory,
    Io,
}

impl Resource {
    const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io",
        }
    }

    /// Where the kernel tells.
    fn file(self) -> PathBuf {
        Path::new("/proc/pressure").join(self.name())
    }

    /// Share of lost time in the last ten seconds: of the line that the check reads.
    fn avg10(self) -> f64 {
        let text = std::fs::read_to_string(self.file());
        let line = if self == Self::Cpu { "some" } else { "full" };
        let text = text.unwrap_or_default();
        let found = text.lines().find(|l| l.starts_with(line));
        let number = found.and_then(|l| l.split("avg10=").nth(1)?.split(' ').next()?.parse().ok());
        number.unwrap_or(f64::NAN)
    }

    fn press(self) -> Result<Load, String> {
        match self {
            Self::Cpu => Ok(Load::of(16, "while :; do :; done", None, None)),
            // Past the cache of the kernel, so that every read waits.
            Self::Io => {
                let body =
                    "while :; do dd if=$FILE of=/dev/null bs=8M iflag=direct 2>/dev/null; done";
                Ok(Load::of(6, body, BigFile::new(), None))
            }
            Self::Memory => {
                let group = Group::limited(16 << 20)?;
                let body = "while :; do cat $FILE > /dev/null; done";
                Ok(Load::of(6, body, BigFile::new(), Some(group)))
            }
        }
    }
}

/// A file that is in no cache when it is made.
struct BigFile(PathBuf);

impl BigFile {
    fn new() -> Option<Self> {
        let file = std::env::current_exe().unwrap().with_extension("pressure");
        let mut write = Command::new("dd");
        write.args(["if=/dev/zero", "bs=1M", "count=128", "oflag=direct"]);
        write.arg(format!("of={}", file.display())).stderr(Stdio::null());
        let written = write.status().unwrap();
        assert!(written.success(), "no file that bypasses the cache at {}", file.display());
        Some(Self(file))
    }
}

impl Drop for BigFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A memory cgroup too small for what its processes read again and again.
struct Group(PathBuf);

impl Group {
    fn limited(bytes: u64) -> Result<Self, String> {
        let name = format!("vipd-netns-{}", std::process::id());
        // The first has version 1, the second version 2.
        let places =
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        let mut wrong = Vec::new();
        for (place, limit) in places {
            let group = Self(Path::new(place).join(&name));
            let made = std::fs::create_dir(&group.0)
                .and_then(|()| std::fs::write(group.0.join(limit), bytes.to_string()));
            match made {
                Ok(()) => return Ok(group),
                Err(e) => wrong.push(format!("{place}: {e}")),
            }
        }
        Err(wrong.join(", "))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its processes have been waited for; the kernel may need a moment more.
        for _ in 0..50 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            wait(Duration::from_millis(20));
        }
    }
}

/// Processes that press, ended when dropped; then what they used goes.
struct Load {
    children: Vec<Child>,
    _file: Option<BigFile>,
    _group: Option<Group>,
}

impl Load {
    /// Each a shell of its own process group; `FILE` is the big file.
    fn of(count: usize, body: &str, file: Option<BigFile>, group: Option<Group>) -> Self {
        let enter = group.as_ref().map_or_else(String::new, |group| {
            format!("echo $$ > {}/cgroup.procs; ", group.0.display())
        });
        let path = file.as_ref().map_or_else(PathBuf::new, |file| file.0.clone());
        let start = |_| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("{enter}{body}")]).stdin(Stdio::null());
            command.env("FILE", &path).process_group(0).spawn().unwrap()
        };
        Self { children: (0..count).map(start).collect(), _file: file, _group: group }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.children {
            let group = Pid::from_raw(i32::try_from(child.id()).unwrap());
            // One that has ended needs no end.
            let _ = killpg(group, Signal::SIGKILL);
            let _ = child.wait();
        }
    }
}

/// A file in the place of the kernel's, which says what it is told.
struct Told {
    kernels: PathBuf,
    ours: PathBuf,
}

impl Told {
    fn new(resource: Resource) -> Self {
        let ours = Path::new(FILES).join(format!("pressure-{}", resource.name()));
        let told = Self { kernels: resource.file(), ours };
        told.says("00.00");
        mount(Some(&told.ours), &told.kernels, NONE, MsFlags::MS_BIND, NONE).unwrap();
        told
    }

    /// `avg10` in five characters: no reader finds a shorter file than before.
    fn says(&self, avg10: &str) {
        let line = |what| format!("{what} avg10={avg10} avg60=0.00 avg300=0.00 total=0\n");
        std::fs::write(&self.ours, line("some") + &line("full")).unwrap();
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = umount2(&self.kernels, MntFlags::MNT_DETACH);
    }
}

fn pressed(resource: Resource, weight: u8, moves: usize) {
    match limit(resource) {
        Ok(limit) => judged(resource, limit, weight, moves, || resource.press().unwrap()),
        Err(why) => {
            println!("\n  told, not made: {why}");
            let told = Told::new(resource);
            judged(resource, 50.0, weight, moves, || told.says("90.00"));
        }
    }
}

/// A share that is exceeded while this machine is pressed, and only then; or why there is none.
fn limit(resource: Resource) -> Result<f64, String> {
    // The trial before may have pressed it: an average over ten seconds forgets most of that in 25, a sixth every two
    // seconds, which is how often the kernel makes it. What falls no more is made by others.
    let until = now() + Duration::from_secs(25);
    let mut least = resource.avg10();
    while least > CALM && now() < until {
        wait(Duration::from_secs(2));
        let before = std::mem::replace(&mut least, resource.avg10());
        if least > before * 0.95 {
            break;
        }
    }
    let load = resource.press()?;
    // Two thirds of what it would come to.
    wait(Duration::from_secs(11));
    let most = resource.avg10();
    drop(load);
    let measured = format!("{least} % by others, {most} % when made");
    println!("\n  {} pressure: {measured}", resource.name());
    // A number that is not there is not over it either.
    let enough = most > least * 1.4 + 1.0;
    if enough { Ok((least + (most - least) * 0.6).min(99.0)) } else { Err(measured) }
}

/// The address moves so often from where pressure above `limit` begins, and lasts as long as what `press` gives.
fn judged<L>(resource: Resource, limit: f64, weight: u8, moves: usize, press: impl FnOnce() -> L) {
    let lines = format!(
        "pressure = \"{}\"\nwarn = {limit:.2}\nfail = {limit:.2}\nseverity = \"degrade\"\nweight = {weight}",
        resource.name()
    );
    let mut plan = with_checks(vec![Check::new("load", &lines).only(FIRST)]);
    plan.instance_extra.push_str("\npriority-hold = \"1s\"\n");
    let arena = Arena::settled(plan);
    arena.wait_check(FIRST, "load", "pass", Duration::from_secs(30));
    let at = now();
    let load = press();
    let shown = arena.wait_check(FIRST, "load", "fail", Duration::from_secs(60));
    println!("  shown as {shown}");
    arena.expect_moves(at, moves);
    drop(load);
    arena.close();
}

/// What a disk suffers.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Fault {
    Full,
    Inodes,
    ReadOnly,
}

/// A small file system in memory.
struct Disk(PathBuf);

const NONE: Option<&str> = None;

impl Disk {
    fn new() -> Self {
        let path = Path::new(FILES).join("disk");
        std::fs::create_dir_all(&path).unwrap();
        let options = Some("size=4m,nr_inodes=64,mode=777");
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), options).unwrap();
        Self(path)
    }

    fn suffer(&self, fault: Fault) {
        match fault {
            Fault::Full => drop(std::fs::write(self.0.join("big"), vec![1; 8 << 20])),
            Fault::Inodes => {
                for n in 0..100 {
                    let _ = std::fs::write(self.0.join(n.to_string()), "");
                }
            }
            Fault::ReadOnly => {
                let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                mount(NONE, &self.0, NONE, flags, NONE).unwrap();
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn disk(fault: Fault, severity: &str, moves: usize) {
    let disk = Disk::new();
    let lines = format!(
        "disk = \"{}\"\nwarn = 20.0\nfail = 5.0\nseverity = \"{severity}\"",
        disk.0.display()
    );
    let plan: Plan = with_checks(vec![Check::new("disk", &lines).only(FIRST)]);
    let arena = Arena::settled(plan);
    arena.wait_check(FIRST, "disk", "pass", Duration::from_secs(15));
    let at = now();
    disk.suffer(fault);
    let shown = arena.wait_check(FIRST, "disk", "fail", Duration::from_secs(15));
    println!("\n  {fault:?}, {severity}: shown as {shown}");
    arena.expect_moves(at, moves);
    arena.close();
}
