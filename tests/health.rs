//! The checks against a real kernel and real peers, in network namespaces of their own, and starved of descriptors.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "measurements")]

#[allow(dead_code, reason = "the tests of the kernel edge use the rest")]
#[path = "kernel/lab.rs"]
mod lab;

use lab::ip;
use libtest_mimic::{Arguments, Trial};
use nix::sys::resource::{Resource as Limit, setrlimit};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use vipd_agent::health::{Checks, ScriptEnd, ScriptError, Scripts};
use vipd_agent::sys::{FrameSocket, clock};
use vipd_core::config::model::{
    Account, Check, DnsRecord, HttpProbe, Model, Probe, Process, Program, Resource, Severity,
};
use vipd_core::engine::io::{Reading, Verdict};
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{CheckIx, Family, IfIndex, LinkIx, Mac};
use vipd_core::wire::{arp, ndp};

/// The folder of the process that is to starve.
const STARVE: &str = "VIPD_TEST_STARVE";
const LONG: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    if let Some(folder) = std::env::var_os(STARVE) {
        starved(Path::new(&folder));
        return ExitCode::SUCCESS;
    }
    let args = Arguments::from_args();
    let tests: &[(&str, fn())] = &[
        ("neighbours_and_services_answer_or_not", neighbours_and_services_answer_or_not),
        ("only_the_neighbour_that_was_asked_is_heard", only_the_neighbour_that_was_asked_is_heard),
        ("a_change_of_the_network_is_seen_at_once", a_change_of_the_network_is_seen_at_once),
        ("forty_five_checks_keep_their_grid", forty_five_checks_keep_their_grid),
        ("a_run_that_takes_too_long_is_ended", a_run_that_takes_too_long_is_ended),
    ];
    let mut trials = lab::trials("health", tests);
    trials.push(Trial::test("without_descriptors_nothing_is_known_and_nothing_fails", || {
        let this = std::env::current_exe().unwrap();
        let out = Command::new(this).env(STARVE, lab::runtime_dir()).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Ok(())
    }));
    let conclusion = libtest_mimic::run(&args, trials);
    let _none_made = std::fs::remove_dir_all(lab::scratch());
    conclusion.exit_code()
}

/// Scripts that all end like this.
#[derive(Clone)]
struct Fake(Result<ScriptEnd, ScriptError>, Duration);

impl Scripts for Fake {
    async fn run(&self, _: CheckIx) -> Result<ScriptEnd, ScriptError> {
        tokio::time::sleep(self.1).await;
        self.0.clone()
    }
}

fn no_scripts() -> Fake {
    Fake(Err(ScriptError::NotStarted("none in this test".into())), Duration::ZERO)
}

fn check(n: usize, probe: Probe, interval: Duration) -> Check {
    Check {
        name: format!("check{n}").into(),
        probe,
        interval,
        timeout: Duration::from_millis(700),
        fall: 3,
        rise: 2,
        severity: Severity::Fail,
        weight: 0,
    }
}

fn model(probes: Vec<Probe>, interval: Duration) -> Arc<Model> {
    let mut model = Arc::unwrap_or_clone(lab::model(Vec::new()));
    model.checks =
        probes.into_iter().enumerate().map(|(n, probe)| check(n, probe, interval)).collect();
    Arc::new(model)
}

/// Readings as they come, with their time.
struct Running {
    _checks: Checks,
    readings: UnboundedReceiver<(CheckIx, Reading, Instant)>,
}

fn start(model: &Arc<Model>, scripts: Fake) -> Running {
    let (to, readings) = unbounded_channel();
    let report = move |ix, reading| drop(to.send((ix, reading, clock::monotonic())));
    Running { _checks: Checks::start(model, report, scripts), readings }
}

impl Running {
    async fn next(&mut self) -> (CheckIx, Reading, Instant) {
        let next = tokio::time::timeout(Duration::from_secs(10), self.readings.recv());
        next.await.expect("no reading within ten seconds").unwrap()
    }

    /// One reading of each of the first `n` checks.
    async fn first(&mut self, n: usize) -> Vec<Reading> {
        let mut first = BTreeMap::new();
        while first.len() < n {
            let (ix, reading, _) = self.next().await;
            first.entry(ix).or_insert(reading);
        }
        first.into_values().collect()
    }
}

fn in_tokio<F: Future<Output = ()>>(test: F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// Another machine at the far end of the wire, until dropped.
struct Neighbour(Child);

impl Neighbour {
    fn new() -> Self {
        let child = Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap();
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let theirs = format!("/proc/{}/ns/net", child.id());
        while std::fs::read_link(&theirs).unwrap() == own {
            std::thread::sleep(Duration::from_millis(5));
        }
        let this = Self(child);
        ip(&format!("link set v1 netns {}", this.0.id()));
        this.run("sysctl -qw net.ipv6.conf.v1.accept_dad=0");
        this.run("ip link set lo up");
        this.run("ip link set v1 up");
        this.run("ip addr add 192.0.2.254/24 dev v1");
        this.run("ip addr add 2001:db8::fe/64 dev v1 nodad");
        this
    }

    fn run(&self, command: &str) {
        let pid = self.0.id().to_string();
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["-t", &pid, "-n"]).args(command.split(' '));
        assert!(nsenter.status().unwrap().success(), "{command}");
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn neighbours_and_services_answer_or_not() {
    let _neighbour = Neighbour::new();
    // Somebody who takes every packet and says nothing.
    ip("neigh add 192.0.2.66 lladdr 02:00:00:00:00:66 dev v0");
    let gateway = |addr: &str| Probe::Gateway { addr: addr.parse().unwrap(), link: LinkIx(0) };
    let ping = |addrs: &[&str], at_least: usize| Probe::Ping {
        addrs: addrs.iter().map(|addr| addr.parse().unwrap()).collect(),
        at_least,
        source: None,
    };
    let tcp = |to: &str| Probe::Tcp { to: to.parse().unwrap(), source: None };
    let cases = [
        (gateway("192.0.2.254"), Verdict::Pass, "gateway 192.0.2.254 on v0: answers from "),
        (gateway("2001:db8::fe"), Verdict::Pass, "gateway 2001:db8::fe on v0: answers from "),
        (gateway("192.0.2.66"), Verdict::Fail, "timeout after 700 ms"),
        (gateway("2001:db8::66"), Verdict::Fail, "timeout after 700 ms"),
        (ping(&["192.0.2.254"], 1), Verdict::Pass, "ping 192.0.2.254: answers"),
        (ping(&["2001:db8::fe"], 1), Verdict::Pass, "ping 2001:db8::fe: answers"),
        (ping(&["192.0.2.66"], 1), Verdict::Fail, "timeout after 700 ms"),
        (ping(&["198.51.100.1"], 1), Verdict::Fail, "ping 198.51.100.1: network is unreachable"),
        (
            ping(&["192.0.2.66", "192.0.2.254"], 1),
            Verdict::Pass,
            "1 of 2 answer, 1 wanted; ping 192.0.2.254: answers",
        ),
        (ping(&["192.0.2.66", "192.0.2.254"], 2), Verdict::Fail, "timeout after 700 ms"),
        (
            ping(&["198.51.100.1", "192.0.2.254"], 2),
            Verdict::Fail,
            "0 of 2 answer, 2 wanted; ping 198.51.100.1: network is unreachable",
        ),
        (tcp("192.0.2.254:9"), Verdict::Fail, "tcp 192.0.2.254:9: connection refused"),
        (tcp("192.0.2.66:9"), Verdict::Fail, "timeout after 700 ms"),
        (tcp("[2001:db8:5::1]:9"), Verdict::Fail, "tcp [2001:db8:5::1]:9: network is unreachable"),
    ];
    in_tokio(async {
        let probes = cases.iter().map(|(probe, ..)| probe.clone()).collect();
        let mut running = start(&model(probes, SECOND), no_scripts());
        let first = running.first(cases.len()).await;
        for ((_, verdict, detail), reading) in cases.iter().zip(first) {
            assert_eq!(reading.verdict, *verdict, "{}", reading.detail);
            assert!(reading.detail.starts_with(detail), "{}", reading.detail);
        }
        // The kept sockets of the gateway checks hear the second answer as well; a cut link is a reason of its own.
        while running.next().await.0 != CheckIx(1) {}
        ip("link set v0 down");
        loop {
            let (ix, reading, _) = running.next().await;
            if ix == CheckIx(0) && reading.verdict != Verdict::Pass {
                assert_eq!(&*reading.detail, "gateway 192.0.2.254 on v0: link v0: down");
                break;
            }
        }
        ip("link set v0 up");
        while !matches!(
            running.next().await,
            (CheckIx(0), Reading { verdict: Verdict::Pass, .. }, _)
        ) {}
    });
}

fn only_the_neighbour_that_was_asked_is_heard() {
    let neighbour = Neighbour::new();
    neighbour.run("ip addr add 192.0.2.253/24 dev v1");
    neighbour.run("ip addr add 2001:db8::fd/64 dev v1 nodad");
    let link: serde_json::Value = serde_json::from_str(&ip("-j link show dev v0")).unwrap();
    let index = IfIndex::new(link[0]["ifindex"].as_u64().unwrap() as u32).unwrap();
    let text = link[0]["address"].as_str().unwrap();
    let octets: Vec<u8> = text.split(':').map(|o| u8::from_str_radix(o, 16).unwrap()).collect();
    let mac = Mac(octets.try_into().unwrap());
    let source = "2001:db8::1".parse().unwrap();
    let v4 = |last: u8| arp::probe(mac, Mac::BROADCAST, [192, 0, 2, last].into()).to_vec();
    let v6 = |addr: &str| ndp::solicitation(mac, source, None, addr.parse().unwrap()).to_vec();
    for (family, heard, question, other) in [
        (Family::V4, "192.0.2.254", v4(254), v4(253)),
        (Family::V6, "2001:db8::fe", v6("2001:db8::fe"), v6("2001:db8::fd")),
    ] {
        let mut socket = FrameSocket::open(index, family).unwrap();
        socket.hear_only(heard.parse().unwrap()).unwrap();
        let mut buf = [0; 256];
        let mut answers = |question: &[u8]| {
            socket.send_frame(question).unwrap();
            std::thread::sleep(Duration::from_millis(300));
            socket.recv_frame(&mut buf).unwrap().is_some()
        };
        assert!(!answers(&other), "{family:?}");
        assert!(answers(&question), "{family:?}");
    }
}

fn a_change_of_the_network_is_seen_at_once() {
    ip("route add 10.0.0.0/8 via 192.0.2.254");
    ip("route add unreachable 10.1.0.0/16");
    ip("-6 route add default via 2001:db8::fe");
    let route = |to: &str| Probe::Route { to: to.parse().unwrap() };
    let address = |addr: &str| Probe::Address { addr: addr.parse().unwrap() };
    let link = |interface: &str| Probe::Link {
        interface: interface.into(),
        min_speed: None,
        min_slaves: None,
    };
    let cases = [
        (link("v0"), Verdict::Pass),
        (link("nope"), Verdict::Fail),
        (address("192.0.2.1"), Verdict::Pass),
        (address("192.0.2.2"), Verdict::Fail),
        (address("2001:db8::1"), Verdict::Pass),
        (route("10.0.0.0/8"), Verdict::Pass),
        (route("10.0.0.0/9"), Verdict::Fail),
        (route("10.1.0.0/16"), Verdict::Fail),
        (route("::/0"), Verdict::Pass),
        (route("0.0.0.0/0"), Verdict::Fail),
    ];
    in_tokio(async {
        let probes = cases.iter().map(|(probe, _)| probe.clone()).collect();
        let mut running = start(&model(probes, LONG), no_scripts());
        let first = running.first(cases.len()).await;
        for ((_, verdict), reading) in cases.iter().zip(first) {
            assert_eq!(reading.verdict, *verdict, "{}", reading.detail);
        }
        // Their intervals are a minute: what comes now comes by events.
        for (command, changed) in [
            ("addr add 192.0.2.2/24 dev v0", &[(3, Verdict::Pass)][..]),
            ("addr del 192.0.2.2/24 dev v0", &[(3, Verdict::Fail)]),
            ("route add default via 192.0.2.254", &[(9, Verdict::Pass)]),
            ("route del 10.0.0.0/8", &[(5, Verdict::Fail)]),
            ("route add 10.0.0.0/8 via 192.0.2.254", &[(5, Verdict::Pass)]),
            ("link set v1 name nope", &[]),
            ("link set nope up", &[(1, Verdict::Pass)]),
            (
                "link set v0 down",
                &[
                    (0, Verdict::Fail),
                    (1, Verdict::Fail),
                    // The kernel goes on delivering for IPv4 addresses of an interface that is down.
                    (4, Verdict::Fail),
                    (5, Verdict::Fail),
                    (8, Verdict::Fail),
                    (9, Verdict::Fail),
                ],
            ),
        ] {
            // The checks are quiet for a moment after each event.
            tokio::time::sleep(Duration::from_millis(120)).await;
            ip(command);
            let at = clock::monotonic();
            let mut wanted: BTreeMap<_, _> = changed.iter().copied().collect();
            while !wanted.is_empty() {
                let (ix, reading, seen) = running.next().await;
                assert_eq!(wanted.remove(&ix.0), Some(reading.verdict), "{}", reading.detail);
                println!("{command}: {} after {:?}", reading.detail, seen - at);
                assert!(seen - at < SECOND * 3, "{command}: {}", reading.detail);
            }
        }
    });
}

fn forty_five_checks_keep_their_grid() {
    in_tokio(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let accept = tokio::net::TcpListener::from_std({
            listener.set_nonblocking(true).unwrap();
            listener
        })
        .unwrap();
        tokio::spawn(async move { while accept.accept().await.is_ok() {} });
        let mut probes = vec![Probe::Tcp { to, source: None }; 40];
        probes.extend([
            Probe::Pressure { resource: Resource::Cpu, warn: 100.0, fail: 100.0 },
            Probe::Disk { path: "/".into(), warn: 0.0, fail: 0.0, write: false },
            Probe::Process(Process::Name {
                name: "no-such-thing".into(),
                at_least: 1,
                at_most: None,
            }),
            Probe::Absent { path: "/nowhere/drain".into() },
            Probe::Address { addr: [192, 0, 2, 1].into() },
        ]);
        let mut running = start(&model(probes, SECOND), no_scripts());
        let began = clock::monotonic();
        let mut starts: BTreeMap<u16, Vec<Instant>> = BTreeMap::new();
        while clock::monotonic() - began < Duration::from_millis(3900) {
            let (ix, reading, at) = running.next().await;
            starts.entry(ix.0).or_default().push(at.before(reading.took));
        }
        assert_eq!(starts.len(), 45);
        for (ix, starts) in starts {
            assert!((3..=4).contains(&starts.len()), "check {ix}: {} runs", starts.len());
            for pair in starts.windows(2) {
                let apart = pair[1] - pair[0];
                assert!(apart.abs_diff(SECOND) < Duration::from_millis(400), "{ix}: {apart:?}");
            }
        }
    });
}

fn a_run_that_takes_too_long_is_ended() {
    let program = |name: &str| {
        Probe::Script(Program {
            argv: vec![name.into()],
            account: Account::Default,
            env: Vec::new(),
            timeout: Duration::from_millis(300),
        })
    };
    in_tokio(async {
        let slow = Fake(Err(ScriptError::TimedOut(SECOND)), SECOND);
        let mut running = start(&model(vec![program("/x/slow")], SECOND / 2), slow);
        let (_, reading, first) = running.next().await;
        assert_eq!(reading.verdict, Verdict::Fail);
        assert_eq!(&*reading.detail, "slow: timeout after 1 s");
        assert!(reading.took >= SECOND, "{:?}", reading.took);
        // One run at a time: the starts that it covered are left out.
        let (_, _, second) = running.next().await;
        assert!(second - first >= SECOND, "{:?}", second - first);
        drop(running);
        // An executor that never answers.
        let dead = Fake(Err(ScriptError::Signal(9)), LONG);
        let mut running = start(&model(vec![program("/x/dead")], SECOND / 2), dead);
        let (_, reading, _) = running.next().await;
        assert_eq!(reading.verdict, Verdict::Unknown, "{}", reading.detail);
    });
}

/// In a process of its own: its last descriptors are taken while the checks run.
fn starved(folder: &Path) {
    in_tokio(async {
        let (socket, number) = (folder.join("s"), folder.join("n"));
        std::fs::write(&number, "0").unwrap();
        let _unix = UnixListener::bind(&socket).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let pid = folder.join("p");
        std::fs::write(&pid, std::process::id().to_string()).unwrap();
        let http = HttpProbe {
            url: "http://x".into(),
            tls: false,
            host: "127.0.0.1".into(),
            port: to.port(),
            path: "/".into(),
            method: "GET".into(),
            host_header: "x".into(),
            server_name: "x".into(),
            status: vec![(200, 399)],
            body: None,
            verify: true,
            ca_file: None,
            expiry: LONG,
        };
        let probes = vec![
            Probe::Tcp { to, source: None },
            Probe::Unix { path: socket },
            Probe::Http(http),
            Probe::Dns { server: to, name: "x".into(), record: DnsRecord::A },
            Probe::Ping { addrs: vec![[127, 0, 0, 1].into()], at_least: 1, source: None },
            Probe::Gateway { addr: [127, 0, 0, 1].into(), link: LinkIx(0) },
            Probe::Address { addr: [127, 0, 0, 1].into() },
            Probe::Route { to: "0.0.0.0/0".parse().unwrap() },
            Probe::Link { interface: "lo".into(), min_speed: None, min_slaves: None },
            Probe::File { path: number, max_age: None },
            Probe::Process(Process::Name { name: "x".into(), at_least: 1, at_most: None }),
            Probe::Process(Process::PidFile(pid)),
            Probe::Unit { name: "x.service".into() },
            Probe::Pressure { resource: Resource::Cpu, warn: 0.0, fail: 0.0 },
        ];
        let count = probes.len();
        let mut model = Arc::unwrap_or_clone(model(probes, Duration::from_millis(100)));
        for check in &mut model.checks {
            check.timeout = SECOND * 5;
        }
        let mut running = start(&Arc::new(model), no_scripts());
        // Nothing ran yet: this runtime has not been left alone since.
        setrlimit(Limit::RLIMIT_NOFILE, 3, 3).unwrap();
        for (n, reading) in running.first(count).await.into_iter().enumerate() {
            assert_eq!(reading.verdict, Verdict::Unknown, "{n}: {}", reading.detail);
            eprintln!("{}", reading.detail);
        }
    });
}
