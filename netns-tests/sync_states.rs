//! State that is no file: connections that follow the address by conntrackd, and a service that only the owner runs. With
//! the hooks that the packages bring, and the real conntrackd.

use crate::arena::{Arena, FIRST, SECOND, wait};
use crate::programs::{notes, shipped};
use libtest_mimic::Trial;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::plan::Plan;
use vipd_agent::lab::room::FILES;
use vipd_agent::lab::topology::{BEAT_LINK, Net, host_name, host_v4};

pub(crate) fn trials() -> Vec<Trial> {
    let missing: Vec<&str> = ["conntrackd", "conntrack", "nft"]
        .into_iter()
        .filter(|program| Command::new(program).arg("--version").output().is_err())
        .collect();
    if !missing.is_empty() {
        println!("sync_states/connections SKIPPED: no {} on this machine", missing.join(", "));
    }
    vec![
        Trial::test("sync_states/connections_are_in_the_kernel_of_the_new_owner", || {
            connections();
            Ok(())
        })
        .with_ignored_flag(!missing.is_empty()),
        Trial::test("sync_states/a_service_runs_on_the_owner_alone", || {
            service();
            Ok(())
        }),
    ]
}

/// Long enough for any daemon to notice.
const BOUND: Duration = Duration::from_secs(20);
/// Where clients connect to.
const PORT: u16 = 7000;

fn until(what: &str, arena: &Arena, mut done: impl FnMut() -> bool) {
    let limit = now() + BOUND;
    while !done() {
        assert!(now() < limit, "in vain: {what}\n{}", arena.stage.logs(30));
        wait(Duration::from_millis(50));
    }
}

/// conntrackd on each host, and the rule that makes the kernel track.
struct Trackers(Vec<Child>);

fn tracker_file(ix: usize) -> PathBuf {
    Path::new(FILES).join(format!("conntrackd.{}", host_name(ix)))
}

impl Trackers {
    fn start(arena: &Arena) -> Self {
        let daemons = [FIRST, SECOND].map(|ix| {
            let (own, other) = (host_v4(ix, Net::Beat), host_v4(1 - ix, Net::Beat));
            let file = tracker_file(ix);
            let at = file.display();
            let text = format!(
                "Sync {{\n Mode FTFW {{\n  DisableExternalCache no\n }}\n UDP {{\n  IPv4_address {own}\n  \
                 IPv4_Destination_Address {other}\n  Port 3780\n  Interface {BEAT_LINK}\n  Checksum on\n }}\n}}\n\
                 General {{\n HashSize 1024\n HashLimit 4096\n Syslog off\n LogFile {at}.log\n LockFile {at}.lock\n \
                 UNIX {{\n  Path {at}.ctl\n }}\n NetlinkBufferSize 262144\n NetlinkBufferSizeMaxGrowth 1048576\n \
                 Filter From Userspace {{\n  Protocol Accept {{\n   TCP\n  }}\n  Address Ignore {{\n   \
                 IPv4_address 127.0.0.1\n   IPv4_address {own}\n   IPv4_address {other}\n  }}\n }}\n}}\n"
            );
            fs::write(&file, text).unwrap();
            for rule in [
                "add table inet track",
                "add chain inet track input { type filter hook input priority 0 ; }",
                "add rule inet track input ct state new,established accept",
            ] {
                arena.run(ix, &format!("nft {rule}"));
            }
            let mut daemon = Command::new("conntrackd");
            daemon.arg("-C").arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
            let ns = arena.stage.room().host(ix).ns().unwrap();
            ns.run(move || Ok(daemon.spawn()?)).unwrap()
        });
        let trackers = Self(daemons.into());
        for ix in [FIRST, SECOND] {
            until("conntrackd answers", arena, || {
                arena.try_run(ix, &tracker_words(ix, "-s")).status.success()
            });
        }
        trackers
    }

    fn stop(self, arena: &Arena) {
        drop(self);
        for ix in [FIRST, SECOND] {
            arena.run(ix, "nft delete table inet track");
        }
    }
}

impl Drop for Trackers {
    fn drop(&mut self) {
        for daemon in &mut self.0 {
            // One that has ended needs no end.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

fn tracker_words(ix: usize, word: &str) -> String {
    format!("conntrackd -C {} {word}", tracker_file(ix).display())
}

/// What the host knows of connections of the other one.
fn external(arena: &Arena, ix: usize) -> String {
    arena.run(ix, &tracker_words(ix, "-e"))
}

/// Connections to the service in the kernel of a host.
fn kernel(arena: &Arena, ix: usize) -> String {
    arena.run(ix, &format!("conntrack -L -p tcp --dport {PORT}"))
}

/// A service that answers each octet with itself, on a host.
fn echo(arena: &Arena, ix: usize) {
    let ns = arena.stage.room().host(ix).ns().unwrap();
    let listener = ns.run(|| Ok(TcpListener::bind(("0.0.0.0", PORT))?)).unwrap();
    // It ends with the program.
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut octet = [0];
            while matches!(stream.read(&mut octet), Ok(1)) {
                let _ = stream.write_all(&octet);
            }
        }
    });
}

fn connections() {
    let hook = shipped("conntrackd");
    let env = |ix: usize| {
        format!("{} = {{ CONNTRACKD_CONFIG = \"{}\" }}", host_name(ix), tracker_file(ix).display())
    };
    let extra = format!(
        "\n[hook.conntrackd]\non = [\"post-promote\", \"post-demote\", \"backup\", \"fault\"]\nrun = [\"{hook}\"]\n\
         user = \"root\"\nenv = {{ {}, {} }}\n",
        env(FIRST),
        env(SECOND)
    );
    let mut arena = Arena::open(Plan { file_extra: extra, ..Plan::default() });
    let trackers = Trackers::start(&arena);
    echo(&arena, FIRST);
    arena.elect();
    let to = SocketAddr::new(arena.stage.plan().vips()[0], PORT);
    let client = arena.stage.room().client().run(move || Ok(TcpStream::connect(to)?)).unwrap();
    let mut stream = client;
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    let port = format!("sport={}", stream.local_addr().unwrap().port());
    assert!(kernel(&arena, FIRST).contains(&port), "{}", kernel(&arena, FIRST));
    until("the standby knows of it", &arena, || external(&arena, SECOND).contains(&port));
    assert!(!kernel(&arena, SECOND).contains(&port), "nobody has committed it yet");
    let at = arena.stage.crash(FIRST).unwrap();
    arena.wait_owner(SECOND);
    until("the commit", &arena, || kernel(&arena, SECOND).contains(&port));
    let entry = kernel(&arena, SECOND);
    println!(
        "\n  in the kernel of the new owner {:?} after the crash: {}",
        now().since(at),
        entry.trim()
    );
    assert!(entry.contains("ESTABLISHED"), "{entry}");
    // The old owner comes back as standby, and asks for what the new one has.
    arena.stage.start(FIRST).unwrap();
    until("the old owner knows of it", &arena, || external(&arena, FIRST).contains(&port));
    trackers.stop(&arena);
    arena.close();
}

fn service() {
    let notes = notes();
    let (hook, here) = (shipped("service"), notes.display());
    let extra = format!(
        "\n[hook.app]\non = [\"pre-promote\", \"post-promote\", \"pre-demote\", \"post-demote\", \"backup\", \
         \"fault\", \"stop\"]\nrun = [\"{hook}\"]\nuser = \"root\"\n[hook.app.env]\n\
         SERVICE_START = \"touch {here}/run.$(hostname)\"\nSERVICE_STOP = \"rm -f {here}/run.$(hostname)\"\n\
         SERVICE_READY = \"[ ! -e {here}/unready ] || {{ echo its database is away; false; }}\"\n"
    );
    let plan = Plan {
        instance_extra: "standby = { h1 = \"hot\", h2 = \"cold\" }".into(),
        file_extra: extra,
        ..Plan::default()
    };
    let mut arena = Arena::elected(plan);
    let runs = |ix: usize| notes.join(format!("run.{}", host_name(ix))).exists();
    until("it runs on the owner", &arena, || runs(FIRST));
    assert!(!runs(SECOND));
    arena.stage.crash(FIRST).unwrap();
    wait(Duration::from_secs(5));
    assert!(!runs(SECOND), "cold");
    fs::write(notes.join("unready"), "").unwrap();
    let told = arena.order(SECOND, &["promote", "web", "--wait"]);
    assert!(told.code != 0 && told.text.contains("its database is away"), "{told:?}");
    fs::remove_file(notes.join("unready")).unwrap();
    arena.done(SECOND, &["promote", "web", "--wait"]);
    arena.wait_owner(SECOND);
    until("it is started on promotion", &arena, || runs(SECOND));
    // The crashed host does not know that it lost the address; as backup it stops what still runs.
    arena.stage.start(FIRST).unwrap();
    until("it is stopped on the old owner", &arena, || !runs(FIRST));
    assert!(runs(SECOND));
    arena.close();
}
