#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
use super::*;
use crate::control::protocol::{Request, Verb, parse};
use crate::control::server::{Handler, Limits, Lines, Server};
use crate::runtime::chronicle::Entry;
use crate::runtime::queue;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

const CONFIG: &str = "[cluster]\nname = \"shop\"\nkey-file = \"/k\"\n[hosts.lb1]\npaths = [\"192.0.2.1\"]\n\
    [hosts.lb2]\npaths = [\"192.0.2.2\"]\n[instance.web]\nvrid = 51\ninterface = \"eth0\"\n\
    addresses = [\"192.0.2.10/24\"]\n[replicate.leases]\ninstance = \"web\"\npaths = [\"/srv/leases\"]\n";
const ATTACH: &[u8] = b"{\"v\":1,\"verb\":\"replicate\"}\n";

/// The agent's end alone, on a socket of its own.
struct Place {
    replication: Replication,
    /// What the engine is told; it never answers.
    engine: queue::Inbox,
    /// Goes last: what the chronicle still writes must not bring it back.
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let model = Arc::new(vipd_core::config::load(CONFIG, "vipd.toml", "lb1").unwrap().0);
        let (chronicle, _) = Chronicle::open(dir.path(), Arc::clone(&model)).unwrap();
        let (sender, engine) = queue::queue().unwrap();
        Self {
            dir,
            replication: Replication::new(InForce::new(model, "".into(), None), sender, chronicle),
            engine,
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    /// Serves while `work`, which blocks, is done.
    fn serve<T: Send + 'static>(
        &self,
        work: impl FnOnce(PathBuf, Replication) -> T + Send + 'static,
    ) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::bind(&self.socket(), Limits::default()).unwrap();
            let served = tokio::spawn(server.serve(Door(self.replication.clone())));
            let (socket, replication) = (self.socket(), self.replication.clone());
            let done = tokio::task::spawn_blocking(move || work(socket, replication)).await;
            served.abort();
            done.unwrap()
        })
    }
}

#[derive(Clone)]
struct Door(Replication);

impl Handler for Door {
    type Request = Request;

    fn parse(line: &[u8]) -> Result<Request, Answer> {
        parse(line)
    }

    async fn answer(&self, _: Request, _: Caller, _: &mut Lines) -> Result<Answer, Gone> {
        Ok(Answer::error(Code::Unavailable, "only the replicator is served"))
    }

    fn takes_over(request: &Request) -> bool {
        matches!(request.verb, Verb::Replicate {})
    }

    async fn converse(&self, caller: Caller, wire: Wire) {
        self.0.converse(caller, wire).await;
    }
}

/// A replicator: what it hears, and a way to say something.
struct Other(BufReader<UnixStream>);

impl Other {
    fn attach(socket: &PathBuf) -> Self {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(ATTACH).unwrap();
        let mut other = Self(BufReader::new(stream));
        assert!(other.hear().contains("accepted"));
        other
    }

    /// The next line; empty: the connection ended.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    fn say(&mut self, word: &Word) {
        let mut line = serde_json::to_vec(word).unwrap();
        line.push(b'\n');
        self.0.get_mut().write_all(&line).unwrap();
    }
}

/// Waits until `done`.
fn until(mut done: impl FnMut() -> bool) {
    let limit = clock::monotonic() + Duration::from_secs(10);
    while !done() {
        assert!(clock::monotonic() < limit, "not in time");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn report(set: &str) -> SetReport {
    SetReport { set: set.into(), instance: "web".into(), age_ms: Some(100), ..SetReport::default() }
}

#[test]
fn a_newer_replicator_takes_the_place_of_an_older() {
    let place = Place::new();
    place.serve(|socket, replication| {
        let mut older = Other::attach(&socket);
        let newer = Other::attach(&socket);
        assert_eq!(older.hear(), "", "its connection ends");
        assert!(replication.standing().replicator.unwrap().connected);
        drop(newer);
        until(|| !replication.standing().replicator.unwrap().connected);
    });
}

#[test]
fn reports_are_shown_and_grow_old_and_unknown_sets_are_not() {
    let place = Place::new();
    place.serve(|socket, replication| {
        let mut other = Other::attach(&socket);
        let bad = SetReport { alarms: vec!["two\nlines".into()], ..report("leases") };
        other.say(&Word::Report(vec![bad, report("of another configuration")]));
        until(|| replication.standing().sets.len() == 1);
        let first = replication.standing().sets.remove(0);
        assert_eq!(first.alarms, ["two lines"], "it goes into the log");
        until(|| replication.standing().sets[0].age_ms > first.age_ms);
        let text = |entry: &Entry| entry.document().message;
        let history: Vec<String> =
            replication.0.chronicle.history().iter().map(|entry| text(entry)).collect();
        assert!(history.iter().any(|line| line.contains("alarm: two lines")), "{history:?}");
        other.say(&Word::Report(vec![report("leases")]));
        until(|| replication.standing().sets[0].alarms.is_empty());
        let over = |line: &String| line == "web: replica leases: over: two lines";
        until(|| replication.0.chronicle.history().iter().any(|entry| over(&text(entry))));
    });
}

#[test]
fn the_engine_hears_of_what_changes_and_not_of_every_report() {
    let place = Place::new();
    place.serve(|socket, replication| {
        let mut other = Other::attach(&socket);
        let owner = SetReport { owns: true, age_ms: Some(0), ..report("leases") };
        for rpo_ms in 0..40 {
            other.say(&Word::Report(vec![SetReport { rpo_ms: Some(rpo_ms), ..owner.clone() }]));
        }
        other.say(&Word::Report(vec![report("leases")]));
        // The same again: when it is shown the engine has heard of the one before.
        other.say(&Word::Report(vec![SetReport { generation: 5, ..report("leases") }]));
        until(|| replication.standing().sets.first().is_some_and(|set| set.generation == 5));
        reloaded(&replication, CONFIG);
        replication.reload();
        other.say(&Word::Report(vec![SetReport { generation: 7, ..report("leases") }]));
        until(|| replication.standing().sets[0].generation == 7);
    });
    let told = std::iter::from_fn(|| place.engine.next()).filter_map(|message| match message {
        Message::Replica(set, state) => Some((set, state.map(|state| state.pending))),
        _ => None,
    });
    // As owner, as standby, and by its new number after a reload.
    assert_eq!(told.collect::<Vec<_>>(), [(SetIx(0), Some(0)); 3]);
}

/// The sets of `old` are those of `new` from now on.
fn reloaded(replication: &Replication, new: &str) {
    let model = Arc::new(vipd_core::config::load(new, "vipd.toml", "lb1").unwrap().0);
    replication.0.in_force.replace(model, "".into());
}

#[test]
fn alarms_of_a_set_that_a_reload_removes_are_over_under_the_name_of_its_instance() {
    let bare = CONFIG.split("[replicate").next().unwrap().to_owned();
    let renamed = CONFIG.replace("leases", "maps");
    for (name, next) in [("bare", bare), ("renamed", renamed)] {
        let place = Place::new();
        place.serve(move |socket, replication| {
            let mut other = Other::attach(&socket);
            let bad = SetReport { alarms: vec!["the disk is full".into()], ..report("leases") };
            other.say(&Word::Report(vec![bad]));
            until(|| replication.standing().sets.len() == 1);
            reloaded(&replication, &next);
            let mut over =
                vec![(Some("web".into()), "web: replica leases: over: the disk is full")];
            if name == "bare" {
                replication.lock().missing = true;
                replication.none_configured();
                over.push((None, "over: no sets of state files are configured any more"));
            }
            replication.reload();
            let history = replication.0.chronicle.history();
            let told: Vec<_> = history
                .iter()
                .map(|entry| entry.document())
                .filter(|event| event.message.contains("over: "))
                .map(|event| (event.instance, event.message))
                .collect();
            let told: Vec<_> = told.iter().map(|(of, line)| (of.clone(), &**line)).collect();
            assert_eq!(told, over, "{name}");
        });
    }
}

#[test]
fn a_replicator_that_is_silent_is_an_alarm_until_it_speaks() {
    let place = Place::new();
    place.serve(|socket, replication| {
        replication.look();
        assert!(!replication.standing().missing, "it may take a moment to come");
        replication.lock().heard = clock::monotonic().before(SILENCE);
        replication.look();
        assert!(replication.standing().missing);
        let mut other = Other::attach(&socket);
        other.say(&Word::Report(vec![report("leases")]));
        until(|| !replication.standing().missing);
    });
}

#[test]
fn a_barrier_ends_with_the_answer_or_with_the_replicator() {
    let place = Place::new();
    place.serve(|socket, replication| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ask = |order| {
            let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
            replication.barrier(order, "web".into(), "lb2".into(), deadline)
        };
        let nobody = runtime.block_on(ask(1)).unwrap_err();
        assert!(nobody.contains("systemctl status vipd-replicate"), "{nobody}");
        let mut other = Other::attach(&socket);
        until(|| replication.standing().replicator.is_some_and(|r| r.connected));
        let answers = std::thread::spawn(move || {
            for failed in [None, Some("the disk is full".to_owned())] {
                let Order::Barrier(barrier) = serde_json::from_str(&other.hear()).unwrap() else {
                    panic!("not a barrier");
                };
                assert_eq!((&*barrier.instance, &*barrier.to), ("web", "lb2"));
                other.say(&Word::Barrier { id: barrier.id, failed });
            }
            // Goes without an answer.
            other.hear()
        });
        assert_eq!(runtime.block_on(ask(2)), Ok(()));
        assert_eq!(runtime.block_on(ask(3)), Err("the disk is full".to_owned()));
        assert_eq!(runtime.block_on(ask(4)), Err("the replicator has gone".to_owned()));
        answers.join().unwrap();
    });
}

#[test]
fn more_barriers_at_once_than_orders_wait_all_come_to_their_end() {
    let place = Place::new();
    place.serve(|socket, replication| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let many = u64::try_from(ORDERS * 3).unwrap();
        let mut other = Other::attach(&socket);
        until(|| replication.standing().replicator.unwrap().connected);
        let reads = std::thread::spawn(move || {
            let (mut begun, mut over) = (0, 0);
            while begun < many || over < many {
                match serde_json::from_str(&other.hear()).unwrap() {
                    Order::Barrier(barrier) => {
                        begun += 1;
                        other.say(&Word::Barrier { id: barrier.id, failed: None });
                    }
                    Order::BarrierOver { .. } => over += 1,
                    _ => {}
                }
            }
        });
        runtime.block_on(async {
            let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
            let asked: Vec<_> = (0..many)
                .map(|order| {
                    let replication = replication.clone();
                    tokio::spawn(async move {
                        replication.barrier(order, "web".into(), "lb2".into(), deadline).await
                    })
                })
                .collect();
            for asked in asked {
                assert_eq!(asked.await.unwrap(), Ok(()));
            }
            (0..many).for_each(|order| replication.over(order));
            tokio::task::spawn_blocking(|| reads.join().unwrap()).await.unwrap();
        });
    });
}

#[test]
fn an_instance_without_sets_has_no_barrier() {
    let place = Place::new();
    let bare = CONFIG.split("[replicate").next().unwrap();
    let model = Arc::new(vipd_core::config::load(bare, "vipd.toml", "lb1").unwrap().0);
    let (engine, _) = queue::queue().unwrap();
    let chronicle = place.replication.0.chronicle.clone();
    let replication = Replication::new(InForce::new(model, "".into(), None), engine, chronicle);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
    let _context = runtime.enter();
    assert_eq!(
        runtime.block_on(replication.barrier(1, "web".into(), "lb2".into(), deadline)),
        Ok(())
    );
}

#[test]
fn a_host_is_judged_by_its_own_copy_and_not_by_what_it_pushes() {
    let behind = vipd_core::replica::PeerReport {
        host: "lb2".into(),
        rpo_ms: Some(90_000),
        pending_bytes: 1 << 30,
        ..Default::default()
    };
    let owner = SetReport {
        owns: true,
        age_ms: Some(0),
        rpo_ms: Some(90_000),
        pending_bytes: 1 << 30,
        peers: vec![behind],
        ..report("leases")
    };
    let complete = ReplicaState { age: Some(Duration::ZERO), pending: 0 };
    assert_eq!(copy_of(&owner), complete, "what lb2 lacks is not missing here");
    let standby = SetReport { pending_bytes: 7, ..report("leases") };
    let own = ReplicaState { age: Some(Duration::from_millis(100)), pending: 7 };
    assert_eq!(copy_of(&standby), own);
    // What it lacks it still lacks, as far as is known; what it does not lack it has.
    let later = aged(&owner, Duration::from_millis(40));
    assert_eq!((later.rpo_ms, later.peers[0].rpo_ms), (Some(90_040), Some(90_040)));
    let whole = SetReport { rpo_ms: Some(0), peers: Vec::new(), ..owner.clone() };
    assert_eq!(aged(&whole, Duration::from_millis(40)).rpo_ms, Some(0));
    // Nobody looks at the files of an owner whose replicator is silent.
    let old = aged(&owner, SILENCE);
    assert_eq!((old.rpo_ms, old.peers[0].rpo_ms), (None, None));
}
