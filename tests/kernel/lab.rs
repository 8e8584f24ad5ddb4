//! Namespaces, wires and models for the tests of this folder.

use libtest_mimic::Trial;
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use vipd_agent::kernel::{Claims, Step, Worker};
use vipd_core::config::model::{
    Auth, ChecksumFlavour, Claim, FlapControl, Instance, Link, Model, OnConflict, Standby,
    Telemetry, Transport,
};
use vipd_core::engine::io::{Applied, KernelFault, Own, Renew, Renewed, Want};
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{HostIx, InstanceIx, Interval, LinkIx, Priority, Version, Vip, Vrid};

/// Becomes root of a user namespace where the caller is not root. Before the first thread exists.
fn enter() -> Result<(), String> {
    if Command::new("ip").arg("-V").output().is_err() {
        return Err("the `ip` program is missing (iproute2)".into());
    }
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if !uid.is_root() {
        unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| format!("no user namespace: {e}"))?;
        let map = |file: &str, text: String| {
            fs::write(format!("/proc/self/{file}"), text).map_err(|e| format!("{file}: {e}"))
        };
        map("setgroups", "deny".into())?;
        map("uid_map", format!("0 {uid} 1"))?;
        map("gid_map", format!("0 {gid} 1"))?;
    }
    // Threads started from here on share nothing with the machine's own network.
    unshare(CloneFlags::CLONE_NEWNET).map_err(|e| format!("no network namespace: {e}"))
}

/// The tests as trials in namespaces, ignored (and said so) where there can be none. Before the first thread exists.
pub(crate) fn trials(what: &str, tests: &[(&str, fn())]) -> Vec<Trial> {
    let skip = enter().err();
    if let Some(why) = &skip {
        eprintln!("SKIPPED: all {what} tests: {why}");
    }
    let trial = |(name, test): &(&str, fn())| {
        let test = *test;
        Trial::test(*name, move || {
            run_in_a_namespace(test);
            Ok(())
        })
        .with_ignored_flag(skip.is_some())
    };
    tests.iter().map(trial).collect()
}

/// Each test has a namespace of its own, on a thread of its own, with the wire `v0`-`v1`.
fn run_in_a_namespace(test: fn()) {
    let done = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        ip("link add v0 type veth peer name v1");
        for end in ["v0", "v1"] {
            // Link-local addresses usable at once.
            let _no_ipv6 = fs::write(format!("/proc/sys/net/ipv6/conf/{end}/accept_dad"), "0");
            ip(&format!("link set {end} up"));
        }
        ip("addr add 192.0.2.1/24 dev v0");
        ip("addr add 2001:db8::1/64 dev v0 nodad");
        test();
    })
    .join();
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip`, which has to succeed.
pub(crate) fn ip(args: &str) -> String {
    let out = Command::new("ip").args(args.split_whitespace()).output().unwrap();
    assert!(out.status.success(), "ip {args}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// One object of `ip -j`.
pub(crate) type Json = serde_json::Value;

/// Addresses on an interface as `ip` sees them.
pub(crate) fn addresses(dev: &str) -> Vec<Json> {
    let all: Json = serde_json::from_str(&ip(&format!("-j addr show dev {dev}"))).unwrap();
    all[0]["addr_info"].as_array().cloned().unwrap_or_default()
}

/// One address of an interface.
pub(crate) fn address(dev: &str, addr: &str) -> Option<Json> {
    addresses(dev).into_iter().find(|a| a["local"] == addr)
}

/// Where the folders of this run are.
pub(crate) fn scratch() -> PathBuf {
    std::env::temp_dir().join(format!("vipd-kernel-test-{}", std::process::id()))
}

/// A fresh runtime folder.
pub(crate) fn runtime_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = scratch().join(n.to_string());
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// An instance on `v0`.
pub(crate) fn instance(name: &str, vrid: u8, addresses: &[&str]) -> Instance {
    let vips = addresses.iter().map(|a| {
        let net: ipnet::IpNet =
            if a.contains('/') { a.parse().unwrap() } else { a.parse::<IpAddr>().unwrap().into() };
        Vip { addr: net.addr(), prefix_len: net.prefix_len() }
    });
    let priority = Priority::new(100).unwrap();
    Instance {
        name: name.into(),
        key: u64::from(vrid),
        vrid: Vrid::new(vrid).unwrap(),
        link: LinkIx(0),
        version: Version::V3,
        addresses: vips.collect(),
        unadvertised: Vec::new(),
        priorities: vec![Some(priority), Some(priority)],
        priority,
        interval: Interval::SECOND,
        preempt: true,
        preempt_delay: Duration::ZERO,
        hold_down: Duration::ZERO,
        accept: true,
        virtual_mac: false,
        claim: Claim::Address,
        transport: Transport::Multicast,
        source: [None, None],
        checksum: ChecksumFlavour::Rfc9568,
        auth: Auth::None,
        lease: true,
        stale_holder_wait: false,
        on_conflict: OnConflict::Alarm,
        shared_fate: false,
        prefix_route: false,
        targets: Vec::new(),
        routes: Vec::new(),
        rules: Vec::new(),
        strict: false,
        standby: Standby::Hot,
        standbys: Vec::new(),
        checks: Vec::new(),
        flap: FlapControl::OFF,
    }
}

/// A model with these instances on `v0`.
pub(crate) fn model(instances: Vec<Instance>) -> Arc<Model> {
    Arc::new(Model {
        cluster: "test".into(),
        host: HostIx(0),
        hosts: Vec::new(),
        heartbeat: None,
        links: vec![Link { name: "v0".into(), settle: Duration::from_secs(35) }],
        instances,
        sync_groups: Vec::new(),
        checks: Vec::new(),
        hooks: Vec::new(),
        replicates: Vec::new(),
        replicate_port: 7113,
        telemetry: Telemetry::default(),
        hash: 0,
    })
}

/// A worker with its folder.
pub(crate) fn worker(model: Arc<Model>) -> (Worker, PathBuf) {
    let dir = runtime_dir();
    let claims = Arc::new(Claims::open(&dir));
    (Worker::new(model, &dir, claims).unwrap(), dir)
}

/// Carries out everything, and gives the results.
pub(crate) fn finish(w: &mut Worker) -> (Vec<Applied>, Vec<Renewed>) {
    let (mut applied, mut renewed) = (Vec::new(), Vec::new());
    loop {
        match w.step() {
            Step::Idle => return (applied, renewed),
            Step::Busy => {}
            Step::Applied(a) => applied.push(a),
            Step::Renewed(r) => renewed.push(r),
        }
    }
}

/// An order to hold both families, never too late.
pub(crate) fn hold(instance: u16, lease_secs: Option<u32>) -> Own {
    let want = Want::Hold { lease_secs, not_after: Instant::MAX, families: [true, true] };
    Own { instance: InstanceIx(instance), order: 1, want }
}

/// An order to free.
pub(crate) fn free(instance: u16) -> Own {
    Own { instance: InstanceIx(instance), order: 2, want: Want::Free }
}

/// Carries out one order to own.
pub(crate) fn own(w: &mut Worker, order: Own) -> Result<(), KernelFault> {
    w.own(order);
    let (mut applied, _) = finish(w);
    assert_eq!(applied.len(), 1);
    applied.remove(0).result
}

/// Renews instance 0.
pub(crate) fn renew(w: &mut Worker, secs: u32, not_after: Instant) -> Renewed {
    w.renew(Renew { instances: vec![(InstanceIx(0), secs)], order: 1, not_after });
    finish(w).1.remove(0)
}

/// Work for the thread of a peer.
type Job = Box<dyn FnOnce() + Send>;

/// A second host at the far end of the wire: a thread in a namespace of its own.
pub(crate) struct Peer {
    jobs: Sender<Job>,
}

impl Peer {
    /// Takes `v1` there, with this address.
    pub(crate) fn new(address: &str) -> Self {
        let (jobs, work) = channel::<Job>();
        let (tell, told) = channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            tell.send(nix::unistd::gettid()).unwrap();
            for job in work {
                job();
            }
        });
        ip(&format!("link set v1 netns {}", told.recv().unwrap()));
        let peer = Self { jobs };
        let address = address.to_owned();
        peer.run(move || {
            ip("link set lo up");
            ip("link set v1 up");
            ip(&format!("addr add {address} dev v1"));
        });
        sleep(50);
        peer
    }

    /// Runs something there.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        self.jobs.send(Box::new(move || drop(tell.send(job())))).unwrap();
        told.recv().unwrap()
    }

    /// Does the other host answer for this address?
    pub(crate) fn reaches(&self, addr: &str) -> bool {
        let addr = addr.to_owned();
        self.run(move || {
            let args = ["-c1", "-W1", "-n", &addr];
            Command::new("ping").args(args).output().unwrap().status.success()
        })
    }
}

/// Sleeps.
pub(crate) fn sleep(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// A setting below `/proc/sys/net`.
pub(crate) fn sysctl(key: &str) -> String {
    fs::read_to_string(format!("/proc/sys/net/{key}")).unwrap().trim().to_owned()
}

/// Changes a setting below `/proc/sys/net`.
pub(crate) fn set_sysctl(key: &str, value: &str) {
    fs::write(format!("/proc/sys/net/{key}"), value).unwrap();
}
