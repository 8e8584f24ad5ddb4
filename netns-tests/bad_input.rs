//! What nobody should send, write or forget: a clear error or counter, nothing claimed wrongly, nothing left behind.

use crate::arena::{Arena, FIRST, SECOND, is_long, wait};
use libtest_mimic::Trial;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use vipd_agent::lab::clock::{millis, now, sleep_until};
use vipd_agent::lab::plan::{Heartbeats, Plan};
use vipd_agent::lab::room::FILES;
use vipd_agent::lab::topology::{CLIENT_V4, Net, host_v4};
use vipd_agent::sys::sched;
use vipd_core::config::model::ChecksumFlavour;
use vipd_core::time::Instant;
use vipd_core::types::{Interval, Version, Vrid};
use vipd_core::wire::ip::ipv4_header;
use vipd_core::wire::vrrp::Advert;

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const VRID: u8 = 51;
/// Packets of the flood, one burst each millisecond.
const BURST: usize = 50;
const BURSTS: usize = 2000;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_foreign_vrid_is_counted", foreign_vrid),
        trial("the_same_vrid_with_other_addresses_is_counted", other_addresses),
        trial("own_packets_looped_back_change_nothing", looped_back),
        trial("two_hosts_at_255_leave_one_owner", two_at_255),
        trial("without_rights_the_error_names_them", without_rights),
        trial("a_second_agent_is_refused", second_agent),
        trial("a_readable_key_is_refused", readable_key),
    ]
}

/// What keeps every processor of the machine busy.
pub(crate) fn floods() -> Vec<Trial> {
    vec![
        trial("a_flood_of_adverts_moves_nothing", flood),
        trial("a_flood_that_takes_a_processor_moves_nothing", flood_without_pause),
    ]
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(format!("bad_input/{name}"), move || {
        test();
        Ok(())
    })
}

fn plan() -> Plan {
    Plan { interval: Duration::from_millis(100), ..Plan::default() }
}

/// An IPv4 packet with an advert in it.
fn advert(src: Ipv4Addr, vrid: u8, priority: u8, addresses: &[Ipv4Addr]) -> Vec<u8> {
    let advert = Advert {
        version: Version::V3,
        vrid: Vrid::new(vrid).unwrap(),
        priority,
        interval: Interval::from_centis(10).unwrap(),
        addresses: addresses.iter().map(|a| IpAddr::V4(*a)).collect(),
        simple_text: None,
    };
    packet(src, &advert.encode(src.into(), GROUP.into(), ChecksumFlavour::Rfc5798))
}

fn packet(src: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let header = ipv4_header(src, GROUP, u16::try_from(message.len()).unwrap());
    [&header[..], message].concat()
}

/// Sends whole packets from the client, `burst` each millisecond.
fn send(arena: &Arena, packets: Vec<Vec<u8>>, burst: usize) {
    let job = move || {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?;
        socket.set_multicast_if_v4(&CLIENT_V4)?;
        let to = SocketAddr::new(GROUP.into(), 0).into();
        let mut due = now();
        for burst in packets.chunks(burst) {
            for packet in burst {
                socket.send_to(packet, &to)?;
            }
            due += Duration::from_millis(1);
            sleep_until(due);
        }
        Ok(())
    };
    arena.stage.room().client().run(job).unwrap();
}

/// How often one of the addresses was put on a host since `from`.
fn claims(arena: &Arena, from: Instant) -> usize {
    arena.stage.eyes().seen().holdings().iter().filter(|h| h.from > from).count()
}

/// A counter of the host or, by the same name, of its instances.
fn counter(arena: &Arena, name: &str) -> u64 {
    fn sum(value: &Value, name: &str) -> u64 {
        match value {
            Value::Object(map) => {
                let here = map.get(name).and_then(Value::as_u64).unwrap_or(0);
                here + map.values().map(|v| sum(v, name)).sum::<u64>()
            }
            Value::Array(list) => list.iter().map(|v| sum(v, name)).sum(),
            _ => 0,
        }
    }
    sum(&arena.status(FIRST), name)
}

/// The owner is the first host, as it was at `from`, and the client lost nothing.
fn nothing_moved(arena: &Arena, from: Instant) {
    let seen = arena.outage(from);
    let state = (arena.stage.owner(), claims(arena, from), seen.lost);
    assert_eq!(state, (Some(FIRST), 0, 0), "{seen:?}\n{}", arena.stage.logs(20));
}

/// Adverts that are wrong in all ways.
fn wrong() -> Vec<Vec<u8>> {
    let good = advert(CLIENT_V4, VRID, 254, &[Ipv4Addr::new(192, 0, 2, 100)]);
    let broken = |at: usize, with: u8| {
        let mut packet = good.clone();
        packet[at] ^= with;
        packet
    };
    // Checksum, version, type, count, and a TTL that says it came from elsewhere.
    let mut kinds = vec![broken(26, 0x55), broken(20, 0x70), broken(20, 0x03), broken(23, 0x08)];
    kinds.push(broken(8, 0x0f));
    kinds.push(packet(CLIENT_V4, &[0x31, VRID, 255]));
    kinds.push(advert(CLIENT_V4, 52, 254, &[Ipv4Addr::new(192, 0, 2, 100)]));
    kinds
}

fn flood() {
    let arena = Arena::elected(plan());
    let from = now();
    send(&arena, wrong().into_iter().cycle().take(BURST * BURSTS).collect(), BURST);
    let took = now().since(from);
    wait(Duration::from_millis(500));
    let counted: Vec<_> = [
        "checksum-errors",
        "version-errors",
        "vrid-errors",
        "ip-ttl-errors",
        "packet-length-errors",
    ]
    .map(|name| (name, counter(&arena, name)))
    .into();
    println!("\n  {} packets in {:.0} ms, counted {counted:?}", BURST * BURSTS, millis(took));
    assert!(counted.iter().all(|(_, n)| *n > 0), "not counted: {counted:?}");
    let claims = claims(&arena, from);
    assert_eq!((arena.stage.owner(), claims), (Some(FIRST), 0), "{}", arena.stage.logs(20));
    arena.close();
}

/// An owner on one processor, and on another one a sender that nothing there interrupts: the thread that reads adverts must
/// leave room for the one that renews leases.
fn flood_without_pause() {
    let (mut arena, packets) =
        (Arena::elected(plan()), if is_long() { 3_000_000 } else { 300_000 });
    let real_time = arena.status(FIRST)["scheduling"]["real_time"] == true;
    if !real_time || std::thread::available_parallelism().unwrap().get() < 2 {
        println!("\n  SKIPPED: needs real-time scheduling and two processors");
        return;
    }
    arena.stage.stop(SECOND).unwrap();
    let pid = arena.stage.agent(FIRST).pid().unwrap();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        stay_on(0, task.unwrap().file_name().to_str().unwrap().parse().unwrap());
    }
    let from = now();
    let kinds = wrong();
    let job = move || {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?;
        socket.set_multicast_if_v4(&CLIENT_V4)?;
        stay_on(1, 0);
        sched::real_time(30, Duration::from_secs(600)).map_err(anyhow::Error::msg)?;
        for packet in kinds.iter().cycle().take(packets) {
            socket.send_to(packet, &SocketAddr::new(GROUP.into(), 0).into())?;
        }
        Ok(())
    };
    arena.stage.room().client().run(job).unwrap();
    println!("\n  {packets} packets in {:.0} ms", millis(now().since(from)));
    wait(Duration::from_millis(500));
    let claims = claims(&arena, from);
    assert_eq!((arena.stage.owner(), claims), (Some(FIRST), 0), "{}", arena.stage.logs(20));
    arena.close();
}

/// Keeps a thread (0: this one) on one processor.
fn stay_on(processor: usize, thread: i32) {
    let mut set = CpuSet::new();
    set.set(processor).unwrap();
    sched_setaffinity(Pid::from_raw(thread), &set).unwrap();
}

fn foreign_vrid() {
    let arena = Arena::elected(plan());
    let from = now();
    let packet = advert(CLIENT_V4, 77, 254, &[Ipv4Addr::new(192, 0, 2, 177)]);
    send(&arena, vec![packet; 100], 1);
    wait(Duration::from_millis(500));
    assert!(counter(&arena, "vrid-errors") >= 90, "{:#}", arena.status(FIRST));
    nothing_moved(&arena, from);
    arena.close();
}

/// Two groups that took the same VRID by mistake: the weaker stranger is told of, and changes nothing.
fn other_addresses() {
    let arena = Arena::elected(plan());
    let from = now();
    let packet = advert(CLIENT_V4, VRID, 50, &[Ipv4Addr::new(192, 0, 2, 177)]);
    send(&arena, vec![packet; 100], 1);
    wait(Duration::from_millis(500));
    let status = arena.status(FIRST);
    let counted = counter(&arena, "address-list-errors");
    println!("\n  counted {counted}, alarms {}", status["instances"][0]["alarms"]);
    assert!(counted >= 90, "{status:#}");
    nothing_moved(&arena, from);
    arena.close();
}

/// A loop in the fabric returns what a host sent: neither stronger nor weaker than itself.
fn looped_back() {
    let arena = Arena::elected(plan());
    let from = now();
    for (ix, priority) in [(FIRST, 150), (FIRST, 200), (SECOND, 0)] {
        let own = host_v4(ix, Net::Service);
        send(&arena, vec![advert(own, VRID, priority, &[Ipv4Addr::new(192, 0, 2, 100)]); 50], 1);
    }
    wait(Duration::from_millis(500));
    nothing_moved(&arena, from);
    arena.close();
}

/// One file refuses it; two files that contradict each other are what an operator can still do.
fn two_at_255() {
    let arena = Arena::open(plan());
    arena.edit_config(FIRST, |text| {
        text.replace("h2 = 100", "h2 = 255").replace("h1 = 150", "h1 = 255")
    });
    let (code, said) = run_refused(&arena, "", &arena.dir(FIRST).join("run"));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("255 is for the one host"), "{said}");
    arena.close();
    for heartbeats in [Heartbeats::TwoPaths, Heartbeats::Off] {
        let mut arena = Arena::open(Plan { heartbeats, ..plan() });
        arena.edit_config(FIRST, |text| text.replace("h1 = 150", "h1 = 255"));
        arena.edit_config(SECOND, |text| text.replace("h2 = 100", "h2 = 255"));
        arena.stage.start_all().unwrap();
        let one = arena.stage.wait(arena.bound(), |holders| holders.len() == 1);
        assert!(one.is_some(), "{}", arena.stage.logs(20));
        wait(Duration::from_secs(2));
        let from = now();
        wait(Duration::from_secs(2));
        let owner = arena.stage.owner();
        println!("\n  {heartbeats:?}: owner {owner:?}");
        assert!(
            owner.is_some() && claims(&arena, from) == 0,
            "they fight\n{}",
            arena.stage.logs(20)
        );
        arena.close();
    }
}

/// Runs an agent on the first host that must not start; a running one is ended after 5 s with code 124.
fn run_refused(arena: &Arena, wrapper: &str, runtime_dir: &Path) -> (Option<i32>, String) {
    let agent = arena.stage.agent(FIRST);
    let mut command = Command::new("timeout");
    command.arg("5").args(wrapper.split_ascii_whitespace()).arg(env!("CARGO_BIN_EXE_vipd"));
    command.arg("--config").arg(agent.config()).args(["--host", "h1"]);
    command.arg("--runtime-dir").arg(runtime_dir);
    command.arg("--state-dir").arg(agent.dir().join("state")).arg("run");
    let run = move || Ok::<Output, _>(command.output()?);
    let out = arena.stage.room().host(FIRST).ns().unwrap().run(run).unwrap();
    let said = [out.stdout, out.stderr].concat();
    (out.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn without_rights() {
    for (dropped, missing) in
        [("-all", "CAP_NET_ADMIN"), ("-net_admin", "CAP_NET_ADMIN"), ("-net_raw", "CAP_NET_RAW")]
    {
        let arena = Arena::open(plan());
        let wrapper = format!("setpriv --bounding-set {dropped} --inh-caps {dropped} --");
        let (code, said) = run_refused(&arena, &wrapper, &arena.dir(FIRST).join("run"));
        assert_eq!(code, Some(7), "{dropped}: {said}");
        assert!(said.contains(missing) && said.contains("setcap"), "{dropped}: {said}");
        assert_eq!(arena.stage.eyes().seen().holdings(), []);
        arena.close();
    }
}

fn second_agent() {
    let arena = Arena::elected(plan());
    let from = now();
    let (code, said) = run_refused(&arena, "", &arena.dir(FIRST).join("run"));
    println!("\n  same folder: {code:?} {}", said.trim());
    assert!(code != Some(0) && code != Some(124), "{code:?}: {said}");
    assert!(said.contains("another agent"), "{said}");
    let elsewhere = arena.dir(FIRST).join("elsewhere");
    let (code, said) = run_refused(&arena, "", &elsewhere);
    println!("  other folder: {code:?} {}", said.trim());
    nothing_moved(&arena, from);
    assert!(code != Some(0) && code != Some(124), "two agents in one namespace: {said}");
    arena.close();
}

fn readable_key() {
    let arena = Arena::open(plan());
    let key = format!("{FILES}/cluster.key");
    let mode =
        |mode| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o640);
    let (code, said) = run_refused(&arena, "", &arena.dir(FIRST).join("run"));
    mode(0o600);
    println!("\n  {code:?} {}", said.trim());
    assert!(code != Some(0) && code != Some(124), "{code:?}: {said}");
    assert!(said.contains(&key) && said.contains("chmod 600"), "{said}");
    assert_eq!(arena.stage.eyes().seen().holdings(), []);
    arena.close();
}
