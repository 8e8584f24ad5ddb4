//! The built program on a veth pair in a network namespace of its own: claim, stop, crash, clean up, restart.
//!
//! What the kernel holds is read with `ip`, not with vipd's own netlink code. Every test has its own namespace, so
//! that they run side by side; a user without rights becomes root of a user namespace first, which only a process of
//! one thread can: hence the own main.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "agent/control.rs"]
mod control;
#[path = "agent/journal.rs"]
mod journal;
#[path = "agent/monitoring.rs"]
mod monitoring;

use libtest_mimic::{Arguments, Trial};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getegid, geteuid};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use vipd_agent::sys::{Delivery, VrrpSocket, clock};
use vipd_core::types::{Family, IfIndex};

const VIP: &str = "192.0.2.10";
const VIP6: &str = "2001:db8::10";

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    if !geteuid().is_root() {
        become_root();
    }
    let trial = |name: &str, test: fn()| {
        Trial::test(name, move || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|e| format!("no network namespace: {e}"))?;
            test();
            Ok(())
        })
    };
    let trials = vec![
        trial("a_lone_agent_claims_and_a_clean_stop_releases", lone),
        trial("a_killed_agent_loses_its_addresses_by_the_lease", killed),
        trial("a_restarted_agent_goes_on_without_a_gap", restarted),
        trial("a_second_agent_is_refused", second),
        trial("cleanup_tells_the_peers_and_removes", cleaned),
        trial("an_interface_may_come_later_and_come_back", late_interface),
        trial("a_readable_key_is_refused", readable_key),
        trial("a_configuration_that_is_not_there_is_3", no_configuration),
        trial("the_service_manager_is_told", service_manager),
        trial("orders_are_refused_with_a_reason", control::orders),
        trial("what_happened_is_told_and_kept", control::history),
        trial("readers_read_and_administrators_change", control::groups),
        trial("a_thousand_clients_disturb_nothing", control::crowd),
        trial("monitoring_is_told", monitoring::pages),
        trial("rules_dashboard_and_manual_name_what_is_served", monitoring::names),
        trial("hostile_monitoring_disturbs_nothing", monitoring::hostile),
        trial("events_go_to_the_journal_with_fields", journal::events),
        trial("sighup_and_a_second_sigterm_do_no_harm", signals),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn become_root() {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).expect("no user namespace: run as root");
    fs::write("/proc/self/setgroups", "deny").unwrap();
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).unwrap();
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).unwrap();
}

/// A host: its folder, its options, and eth0 - peer0 when asked for.
struct Host {
    dir: PathBuf,
}

impl Host {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vipd-agent-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        ip("link set lo up");
        Self { dir }
    }

    fn with_link(name: &str) -> Self {
        let host = Self::new(name);
        add_link();
        host
    }

    fn configure(&self, more: &str) {
        let text = format!(
            "[cluster]\nname = \"shop\"\n[hosts.lb1]\n[hosts.lb2]\n[instance.web]\nvrid = 51\ninterface = \"eth0\"\n\
             addresses = [\"{VIP}/24\", \"{VIP6}/64\"]\npriority = {{ lb1 = 150, lb2 = 100 }}\nsettle = \"0s\"\n\
             advert-interval = \"300ms\"\n{more}"
        );
        fs::write(self.dir.join("vipd.toml"), text).unwrap();
    }

    fn vipd(&self, verb: &str) -> Command {
        self.vipd_in("run", verb)
    }

    fn vipd_in(&self, runtime_dir: &str, verb: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vipd"));
        command
            .arg("--config")
            .arg(self.dir.join("vipd.toml"))
            .args(["--host", "lb1"])
            .arg("--runtime-dir")
            .arg(self.dir.join(runtime_dir))
            .arg("--state-dir")
            .arg(self.dir.join("state"))
            .arg(verb);
        command
    }

    fn start(&self) -> Agent {
        let log = fs::File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let child = self.vipd("run").stderr(log).stdout(Stdio::null()).spawn().unwrap();
        Agent { child }
    }

    /// Starts it and waits until both families own.
    fn start_active(&self) -> Agent {
        let agent = self.start();
        wait("both families active", Duration::from_secs(10), || {
            self.states().is_some_and(|s| s.len() == 2 && s.iter().all(|state| state == "active"))
        });
        wait("both addresses on eth0", Duration::from_secs(2), || holds(VIP) && holds(VIP6));
        agent
    }

    fn status(&self) -> Option<serde_json::Value> {
        let output = self.vipd("status").arg("--json").output().unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }

    fn states(&self) -> Option<Vec<String>> {
        let status = self.status()?;
        let instances = status["instances"].as_array()?;
        Some(instances.iter().map(|i| i["state"].as_str().unwrap_or_default().to_owned()).collect())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}\n{}", self.log(), ip("-d addr show"));
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A running agent; killed when the test ends early.
struct Agent {
    child: Child,
}

impl Agent {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Kills it and waits for its end.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it; gives its exit code.
    fn stop(mut self) -> i32 {
        self.signal(Signal::SIGTERM);
        self.ended().expect("ends after SIGTERM")
    }

    fn ended(&mut self) -> Option<i32> {
        let until = clock::monotonic() + Duration::from_secs(10);
        while clock::monotonic() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status.code().expect("an exit code"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn add_link() {
    ip("link add eth0 type veth peer name peer0");
    // Without duplicate detection the link-local address is usable at once.
    for name in ["eth0", "peer0"] {
        fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_dad"), "0").unwrap();
    }
    ip("addr add 192.0.2.1/24 dev eth0");
    ip("link set eth0 up");
    ip("link set peer0 up");
}

/// What `ip` says of an address on eth0.
fn address(addr: &str) -> Option<serde_json::Value> {
    let output =
        Command::new("ip").args(["-j", "-d", "addr", "show", "dev", "eth0"]).output().unwrap();
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let infos = links.get(0)?["addr_info"].as_array()?.clone();
    infos.into_iter().find(|info| info["local"] == addr)
}

fn holds(addr: &str) -> bool {
    address(addr).is_some()
}

#[track_caller]
fn wait(what: &str, bound: Duration, mut test: impl FnMut() -> bool) {
    let until = clock::monotonic() + bound;
    while !test() {
        assert!(clock::monotonic() < until, "not within {bound:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit code")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn lone() {
    let host = Host::with_link("lone");
    host.configure("");
    let agent = host.start_active();
    for (addr, prefix) in [(VIP, 32), (VIP6, 128)] {
        let info = address(addr).unwrap();
        assert_eq!(info["prefixlen"], prefix);
        assert_eq!(info["valid_life_time"], 1, "the lease of 300 ms adverts: {info}");
    }
    assert_eq!(fs::read_to_string(host.dir.join("state/boot")).unwrap(), "1\n");
    // Renewed, not only once.
    std::thread::sleep(Duration::from_millis(2500));
    assert!(holds(VIP) && holds(VIP6));
    let table = host.vipd("status").output().unwrap();
    assert_eq!(code(&table), 0, "{}", stderr(&table));
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(text.contains("ACTIVE") && text.contains("this host"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");

    assert_eq!(agent.stop(), 0);
    assert!(!holds(VIP) && !holds(VIP6));
    assert!(!host.dir.join("run/control.sock").exists());
    let log = host.log();
    assert!(log.contains("web/ipv4: backup -> active, cause: no advert for"), "{log}");
    assert!(log.contains("stopped; nothing is owned by this host"), "{log}");
    assert_eq!(code(&host.vipd("status").output().unwrap()), 6);
}

fn killed() {
    let host = Host::with_link("killed");
    host.configure("");
    let agent = host.start_active();
    agent.kill();
    assert!(holds(VIP), "nobody took it off: the lease does");
    // A lease of 1 s, and the kernel's lateness beside other leased addresses.
    wait("the lease ends", Duration::from_millis(1000 + 1300), || !holds(VIP) && !holds(VIP6));
}

fn restarted() {
    let host = Host::with_link("restarted");
    host.configure("");
    let agent = host.start_active();
    agent.kill();
    let agent = host.start();
    let until = clock::monotonic() + Duration::from_secs(3);
    while clock::monotonic() < until {
        assert!(holds(VIP) && holds(VIP6), "a gap");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(host.states().unwrap(), ["active", "active"]);
    assert!(host.log().contains("the last run of the agent"), "{}", host.log());
    assert_eq!(fs::read_to_string(host.dir.join("state/boot")).unwrap(), "2\n");
    assert_eq!(agent.stop(), 0);
}

fn second() {
    let host = Host::with_link("second");
    host.configure("");
    let agent = host.start_active();
    let same_folder = host.vipd("run").output().unwrap();
    assert_eq!(code(&same_folder), 4);
    let pid = agent.child.id();
    assert!(stderr(&same_folder).contains(&format!("process {pid}")), "{}", stderr(&same_folder));
    let same_network = host.vipd_in("run2", "run").output().unwrap();
    assert_eq!(code(&same_network), 4, "{}", stderr(&same_network));
    assert!(holds(VIP), "the first one goes on");
    assert_eq!(agent.stop(), 0);
}

fn cleaned() {
    let host = Host::with_link("cleaned");
    // Without leases the addresses stay for ever.
    host.configure("lease = \"off\"\n");
    let agent = host.start_active();
    let beside = host.vipd("cleanup").output().unwrap();
    assert_eq!(code(&beside), 4, "{}", stderr(&beside));
    assert!(holds(VIP));
    agent.kill();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(holds(VIP) && holds(VIP6));
    ip("addr add 192.0.2.77/32 dev eth0");

    // The sender is of this host as well: the peer would drop it as a martian.
    fs::write("/proc/sys/net/ipv4/conf/peer0/accept_local", "1").unwrap();
    fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0").unwrap();
    fs::write("/proc/sys/net/ipv4/conf/peer0/rp_filter", "0").unwrap();
    let index = nix::net::if_::if_nametoindex("peer0").unwrap();
    let delivery = Delivery { multicast: true, unicast: false };
    let mut peer =
        VrrpSocket::open("peer0", IfIndex::new(index).unwrap(), Family::V4, delivery).unwrap();
    let output = host.vipd("cleanup").output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("removed: 2 addresses"), "{text}");
    assert!(!holds(VIP) && !holds(VIP6));
    assert!(holds("192.0.2.77") && holds("192.0.2.1"), "foreign addresses stay");
    let mut buffer = [0; 2048];
    let advert = peer.recv(&mut buffer).unwrap().expect("an advert at the peer");
    let message = &buffer[advert.payload];
    assert_eq!(
        (message[0], message[1], message[2]),
        (0x31, 51, 0),
        "version 3, VRID 51, priority 0"
    );

    let again = host.vipd("cleanup").output().unwrap();
    assert_eq!(code(&again), 0);
    assert!(String::from_utf8(again.stdout).unwrap().contains("nothing of vipd"));
}

fn late_interface() {
    let host = Host::new("late");
    host.configure("");
    let agent = host.start();
    wait("the agent answers", Duration::from_secs(5), || host.states().is_some());
    assert_eq!(host.states().unwrap(), ["initialize", "initialize"]);
    assert_eq!(code(&host.vipd("status").output().unwrap()), 11, "nobody owns");
    for _ in 0..2 {
        add_link();
        wait("claims on the new interface", Duration::from_secs(10), || holds(VIP) && holds(VIP6));
        ip("link del eth0");
        wait("notices", Duration::from_secs(2), || {
            host.states().unwrap() == ["initialize", "initialize"]
        });
    }
    assert_eq!(agent.stop(), 0);
}

fn readable_key() {
    let host = Host::with_link("key");
    let key = host.dir.join("cluster.key");
    fs::write(&key, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let text = format!(
        "[cluster]\nname = \"shop\"\nkey-file = \"{}\"\n[hosts.lb1]\npaths = [\"192.0.2.1\"]\n[hosts.lb2]\n\
         paths = [\"192.0.2.2\"]\n[instance.web]\nvrid = 51\ninterface = \"eth0\"\naddresses = [\"{VIP}\"]\n\
         priority = {{ lb1 = 150, lb2 = 100 }}\n",
        key.display()
    );
    fs::write(host.dir.join("vipd.toml"), text).unwrap();
    let output = host.vipd("run").output().unwrap();
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    assert!(
        stderr(&output).contains(&format!("chmod 600 {}", key.display())),
        "{}",
        stderr(&output)
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let agent = host.start();
    wait("runs with a private key", Duration::from_secs(5), || host.states().is_some());
    assert_eq!(agent.stop(), 0);
}

fn no_configuration() {
    let host = Host::with_link("noconfig");
    let output = host.vipd("run").output().unwrap();
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    assert!(stderr(&output).contains("vipd.toml"), "{}", stderr(&output));
}

fn service_manager() {
    let host = Host::with_link("notify");
    host.configure("");
    let path = host.dir.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut told = Vec::new();
    let mut listen = |bound: Duration| {
        let until = clock::monotonic() + bound;
        let mut buffer = [0; 4096];
        while clock::monotonic() < until {
            if let Ok(len) = socket.recv(&mut buffer) {
                told.extend(String::from_utf8_lossy(&buffer[..len]).lines().map(str::to_owned));
            }
        }
        told.clone()
    };
    let child = host.vipd("run").env("NOTIFY_SOCKET", &path).stderr(Stdio::null()).spawn().unwrap();
    let agent = Agent { child };
    let said = listen(Duration::from_millis(2500));
    assert!(said.contains(&"READY=1".to_owned()), "{said:?}");
    // A lease of 1 s leaves less than the shortest interval.
    assert!(said.contains(&"WATCHDOG_USEC=500000".to_owned()), "{said:?}");
    assert!(said.contains(&"STATUS=web active".to_owned()), "{said:?}");
    let pings = said.iter().filter(|line| *line == "WATCHDOG=1").count();
    assert!((15..=25).contains(&pings), "every 125 ms for 2.5 s: {pings}");

    agent.signal(Signal::SIGSTOP);
    let before = listen(Duration::from_millis(100)).len();
    assert_eq!(listen(Duration::from_millis(500)).len(), before, "a hung agent does not ping");
    agent.signal(Signal::SIGCONT);
    agent.signal(Signal::SIGTERM);
    let said = listen(Duration::from_millis(1000));
    assert!(said.contains(&"STOPPING=1".to_owned()), "{said:?}");
    assert_eq!(agent.stop(), 0);
}

fn signals() {
    let host = Host::with_link("signals");
    host.configure("");
    let mut agent = host.start_active();
    agent.signal(Signal::SIGHUP);
    wait("says so", Duration::from_secs(2), || {
        host.log().contains("is in force: nothing changed on this host")
    });
    assert!(holds(VIP));
    agent.signal(Signal::SIGTERM);
    agent.signal(Signal::SIGINT);
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.ended(), Some(0));
    assert!(!holds(VIP));
}
