//! A notify script and a FIFO reader as keepalived's users write them, under keepalived and under vipd in the same
//! scenario: they must see the same lines, byte for byte.

use crate::arena::{FIRST, SECOND, program, wait};
use crate::programs::{lines, notes, script};
use libtest_mimic::Trial;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use vipd_agent::lab::agent::Kind;
use vipd_agent::lab::netlink::LinkState;
use vipd_agent::lab::plan::{Heartbeats, Plan, Preempt};
use vipd_agent::lab::stage::Stage;
use vipd_agent::lab::topology::Net;

/// The name of the instance in both files.
const INSTANCE: &str = "web4";
/// Stands for the name of the host in what both hosts' files have.
const HOST: &str = "@HOST@";
/// Stands for its priority.
const PRIORITY: &str = "@PRIORITY@";
/// keepalived and vipd do not take the same time to settle; what matters is the order.
const BOUND: Duration = Duration::from_secs(60);

pub(crate) fn trials() -> Vec<Trial> {
    let missing = Command::new("keepalived").arg("--version").output().is_err();
    let kinds = [("an_instance", Members::One), ("a_sync_group", Members::Two)];
    kinds
        .into_iter()
        .map(|(word, members)| {
            let name = format!("hooks/notify_script_and_fifo_see_keepalived_s_lines/{word}");
            let trial = Trial::test(name, move || {
                same_lines(members);
                Ok(())
            });
            trial.with_ignored_flag(missing)
        })
        .collect()
}

/// What moves.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Members {
    /// One instance.
    One,
    /// Two instances that move together.
    Two,
}

/// The second instance.
const OTHER: &str = "other4";
/// The sync group of both.
const GROUP: &str = "pair";

/// What each file of notes says of each instance and group, in order. Between two members the order is nobody's.
type Seen = BTreeMap<String, Vec<String>>;

fn same_lines(members: Members) {
    let keepalived = seen_under(&Kind::Keepalived, |n, f| keepalived_plan(members, n, f));
    for (of, theirs) in &keepalived {
        println!("\n  {of}: {theirs:?}");
    }
    assert!(
        keepalived.len() >= 4 && keepalived.values().all(|l| l.len() >= 3),
        "keepalived told too little: {keepalived:?}"
    );
    let vipd = seen_under(&program(), |n, f| vipd_plan(members, n, f));
    let all: BTreeSet<_> = vipd.keys().chain(keepalived.keys()).collect();
    let other: Vec<_> = all
        .into_iter()
        .filter(|of| vipd.get(*of) != keepalived.get(*of))
        .map(|of| {
            format!("{of}:\n  vipd       {:?}\n  keepalived {:?}", vipd.get(of), keepalived.get(of))
        })
        .collect();
    assert!(other.is_empty(), "other lines than keepalived's:\n{}", other.join("\n"));
}

fn common() -> Plan {
    Plan { heartbeats: Heartbeats::Off, preempt: Preempt::After(Duration::ZERO), ..Plan::default() }
}

fn keepalived_plan(members: Members, notify: &str, fifo: &str) -> Plan {
    let mut extra = format!(
        "global_defs {{\n  script_user root\n  enable_script_security\n  vrrp_notify_fifo {fifo}\n}}\n"
    );
    if members == Members::Two {
        extra.push_str(&format!(
            "vrrp_instance {OTHER} {{\n  state BACKUP\n  interface eth0\n  virtual_router_id 52\n  \
             priority {PRIORITY}\n  advert_int 1\n  notify {notify}\n  \
             virtual_ipaddress {{\n    192.0.2.101/32\n  }}\n}}\n\
             vrrp_sync_group {GROUP} {{\n  group {{\n    {INSTANCE}\n    {OTHER}\n  }}\n  notify {notify}\n}}\n"
        ));
    }
    Plan { instance_extra: format!("notify {notify}"), file_extra: extra, ..common() }
}

fn vipd_plan(members: Members, notify: &str, fifo: &str) -> Plan {
    let on = "on = [\"active\", \"backup\", \"fault\", \"stop\"]";
    let mut extra = format!(
        "\n[hook.notify]\n{on}\nrun = [\"{notify}\"]\ncall = \"keepalived\"\nuser = \"root\"\n\
         \n[hook.fifo]\n{on}\nfifo = \"{fifo}\"\n"
    );
    if members == Members::Two {
        extra.push_str(&format!(
            "\n[instance.{OTHER}]\nvrid = 52\ninterface = \"eth0\"\naddresses = [\"192.0.2.101/24\"]\n\
             priority = {PRIORITY}\npreempt-delay = \"0s\"\nhold-down = \"0s\"\n\
             \n[sync.{GROUP}]\ninstances = [\"{INSTANCE}\", \"{OTHER}\"]\n"
        ));
    }
    Plan { instance_extra: "hold-down = \"0s\"".into(), file_extra: extra, ..common() }
}

/// Start, a cable pulled and plugged, a clean stop and a start: every state on both hosts.
fn seen_under(kind: &Kind, plan: impl Fn(&str, &str) -> Plan) -> Seen {
    let notes = notes();
    let here = notes.display();
    let notify = script("notify", &format!("echo \"$@\" >> {here}/$(hostname).script"));
    let plan = plan(&notify, &format!("{here}/{HOST}.fifo"));
    let mut stage = Stage::set(plan, kind).unwrap();
    let mut readers = Vec::new();
    for ix in [FIRST, SECOND] {
        let host = stage.room().host(ix).name().to_owned();
        let file = stage.agent(ix).config();
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("[instance.web]", &format!("[instance.{INSTANCE}]"));
        let text = text.replace(PRIORITY, &stage.plan().priority(ix).to_string());
        std::fs::write(&file, text.replace(HOST, &host)).unwrap();
        readers.push(Reader::start(&notes, &host));
    }
    stage.start(FIRST).unwrap();
    owner(&stage, FIRST);
    stage.start(SECOND).unwrap();
    wait(Duration::from_secs(6));
    stage.set_cable(FIRST, Net::Service, LinkState::Down).unwrap();
    owner(&stage, SECOND);
    wait(Duration::from_secs(2));
    stage.set_cable(FIRST, Net::Service, LinkState::Up).unwrap();
    owner(&stage, FIRST);
    wait(Duration::from_secs(2));
    stage.stop(FIRST).unwrap();
    owner(&stage, SECOND);
    wait(Duration::from_secs(1));
    stage.stop(SECOND).unwrap();
    wait(Duration::from_secs(1));
    drop(readers);
    let mut seen = Seen::new();
    for host in ["h1", "h2"] {
        for kind in ["script", "lines"] {
            let file = format!("{host}.{kind}");
            for line in lines(&notes.join(&file)) {
                let whom = line.split_ascii_whitespace().take(2).collect::<Vec<_>>().join(" ");
                seen.entry(format!("{file} of {whom}")).or_default().push(line);
            }
        }
    }
    seen
}

fn owner(stage: &Stage, ix: usize) {
    let owns = stage.wait(BOUND, |holders| holders == [ix]);
    assert!(owns.is_some(), "h{} does not own\n{}", ix + 1, stage.logs(20));
}

/// A program that reads a FIFO and writes down what it read.
struct Reader(Child);

impl Reader {
    fn start(notes: &Path, host: &str) -> Self {
        let read = format!(
            "mkfifo -m 622 {host}.fifo; exec 3<>{host}.fifo; \
             while read -r line <&3; do printf '%s\\n' \"$line\" >> {host}.lines; done"
        );
        let mut command = Command::new("sh");
        command.args(["-c", &read]).current_dir(notes).stdin(Stdio::null());
        let reader = Self(command.spawn().unwrap());
        let fifo = crate::programs::wait_file(&notes.join(format!("{host}.fifo")), BOUND);
        assert!(fifo.is_some(), "no FIFO");
        reader
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // One that has ended needs no end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
