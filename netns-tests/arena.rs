//! A fresh room for each trial: agents elected before it begins, and nothing left behind after it.

use crate::judge::{self, Snapshot};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use vipd_agent::lab::agent::{Condition, Kind};
use vipd_agent::lab::clock::{now, sleep_until};
use vipd_agent::lab::outage::Outage;
use vipd_agent::lab::plan::Plan;
use vipd_agent::lab::room::FILES;
use vipd_agent::lab::stage::Stage;
use vipd_core::time::Instant;

/// The host of highest priority, who owns when a trial begins.
pub(crate) const FIRST: usize = 0;
/// Who takes over.
pub(crate) const SECOND: usize = 1;

/// The program under test.
pub(crate) fn program() -> Kind {
    Kind::Vipd(env!("CARGO_BIN_EXE_vipd").into())
}

/// Plays everything that CI only samples?
pub(crate) fn is_long() -> bool {
    std::env::var_os("VIPD_LONG").is_some_and(|v| v == "1")
}

/// Sleeps.
pub(crate) fn wait(d: Duration) {
    sleep_until(now() + d);
}

/// A room, and what its hosts looked like before an agent touched them.
pub(crate) struct Arena {
    pub(crate) stage: Stage,
    before: Vec<Snapshot>,
}

impl Arena {
    /// A room with its agents configured, none of them started.
    ///
    /// Without hold-down: who loses the address to a fault takes it back when it can, and a trial sees both ways.
    pub(crate) fn open(plan: Plan) -> Self {
        let cast = vec![program(); plan.hosts];
        Self::cast(plan, &cast)
    }

    /// A room exactly as planned, none of its agents started.
    pub(crate) fn furnish(plan: Plan) -> Self {
        let cast = vec![program(); plan.hosts];
        Self::of(plan, &cast)
    }

    /// As [`Arena::open`], with a program for each host.
    pub(crate) fn cast(mut plan: Plan, cast: &[Kind]) -> Self {
        plan.instance_extra.push_str("\nhold-down = \"0s\"\n");
        Self::of(plan, cast)
    }

    fn of(plan: Plan, cast: &[Kind]) -> Self {
        for ix in 0..plan.hosts {
            // Configuration and state of the trial before; the first trial finds none.
            let _ = std::fs::remove_dir_all(format!("{FILES}/h{}", ix + 1));
        }
        let cast: Vec<_> = cast.iter().map(|kind| (kind.clone(), plan.clone())).collect();
        let stage = Stage::cast(plan, &cast).unwrap();
        let mut arena = Self { stage, before: Vec::new() };
        let hosts = 0..arena.stage.plan().hosts;
        // Without duplicate address detection, too, the kernel finishes an address of its own some time after it made
        // it, its route and its groups a moment later: what it becomes then is nothing that an agent left.
        let since = now();
        while hosts.clone().any(|ix| !arena.run(ix, "ip -o addr show tentative").is_empty()) {
            assert!(now().since(since) < Duration::from_secs(5), "addresses stay tentative");
            wait(Duration::from_millis(5));
        }
        arena.before = hosts.map(|ix| Snapshot::settled(&arena.stage, ix)).collect();
        arena
    }

    /// A room in which the first host owns, alone, and for some time.
    pub(crate) fn elected(plan: Plan) -> Self {
        let mut arena = Self::open(plan);
        arena.elect();
        arena
    }

    /// As [`Arena::elected`], exactly as planned.
    pub(crate) fn settled(plan: Plan) -> Self {
        let mut arena = Self::furnish(plan);
        arena.elect();
        arena
    }

    /// Starts every agent and waits until the first host owns and all others stand behind it.
    ///
    /// The first host starts alone: at 10 ms two agents that start at once are apart by less than a machine needs to
    /// start a process, and where preemption is delayed the wrong one would stay owner for that long.
    pub(crate) fn elect(&mut self) {
        if self.stage.agent(FIRST).condition() == Condition::Down {
            self.stage.start(FIRST).unwrap();
        }
        self.wait_owner(FIRST);
        self.stage.start_all().unwrap();
        let limit = now() + self.bound();
        for ix in 0..self.before.len() {
            while !self.is_ready(ix) {
                assert!(now() < limit, "h{} is not ready\n{}", ix + 1, self.stage.logs(12));
                wait(Duration::from_millis(20));
            }
        }
        self.calm();
    }

    /// Has the agent of a host decided what it is, and does it hear every peer? True of other makes, which do not say.
    fn is_ready(&self, ix: usize) -> bool {
        if self.stage.agent(ix).vipd(&[]).is_none() {
            return true;
        }
        let Ok(status) = try_status(&self.stage, ix) else { return false };
        let all = |list: &Value, is: fn(&Value) -> bool| list.as_array().unwrap().iter().all(is);
        all(&status["instances"], |i| i["state"] != "initialize")
            && all(&status["peers"], |p| p["alive"] == true)
    }

    /// Ten times the longest that a healthy group needs for anything, at least 5 s.
    pub(crate) fn bound(&self) -> Duration {
        let plan = self.stage.plan();
        (plan.detection() * 10).max(judge::let_go(plan) * 2).max(Duration::from_secs(5))
    }

    /// Waits until `ix` alone owns every address and answers; when that was.
    pub(crate) fn wait_owner(&self, ix: usize) -> Instant {
        let bound = self.bound();
        self.stage.wait(bound, |holders| holders == [ix]).unwrap_or_else(|| {
            let vips = self.stage.plan().vips();
            let now: Vec<_> = vips.iter().map(|vip| self.stage.eyes().holders(*vip)).collect();
            panic!("h{} does not own after {bound:?}, but {now:?}\n{}", ix + 1, self.stage.logs(12))
        })
    }

    /// Waits until something that breaks late would have been seen.
    pub(crate) fn calm(&self) {
        wait((self.stage.plan().interval * 2).max(Duration::from_millis(300)));
    }

    /// The worst that the client saw at one of the addresses since `from`.
    pub(crate) fn outage(&self, from: Instant) -> Outage {
        let seen = self.stage.outages(from, now());
        seen.into_iter().max_by_key(|o| (o.longest_gap, o.lost)).unwrap()
    }

    /// How often since `from` an address went to another host.
    pub(crate) fn moves(&self, from: Instant) -> usize {
        self.stage.moves(from, now())
    }

    /// Since `at`, when the first host owned, the address has gone to the second host, once, or stays where it was for
    /// longer than any delay of these plans; then it rests.
    pub(crate) fn expect_moves(&self, at: Instant, moves: usize) {
        let owner = match moves {
            0 => {
                wait(Duration::from_secs(8));
                FIRST
            }
            _ => {
                self.wait_owner(SECOND);
                self.calm();
                SECOND
            }
        };
        let seen = (self.moves(at), self.stage.owner());
        assert_eq!(seen, (moves, Some(owner)), "{}", self.stage.logs(30));
    }

    /// What status says of a check.
    pub(crate) fn check(&self, ix: usize, name: &str) -> Value {
        check(&self.stage, ix, name)
    }

    /// Waits until status says of a check what is wanted; what it said then.
    pub(crate) fn wait_check(&self, ix: usize, name: &str, wanted: &str, bound: Duration) -> Value {
        let limit = now() + bound;
        loop {
            let check = self.check(ix, name);
            if check["state"] == wanted {
                return check;
            }
            assert!(now() < limit, "check {name} of h{} is no {wanted}: {check:#}", ix + 1);
            wait(Duration::from_millis(100));
        }
    }

    /// Longest time since `from` in which one address had two owners.
    pub(crate) fn two_owners(&self, from: Instant) -> Duration {
        self.stage.two_owners(from, now())
    }

    /// What `vipd status --json` of a host prints.
    pub(crate) fn status(&self, ix: usize) -> Value {
        status(&self.stage, ix)
    }

    /// Runs a program on a host.
    pub(crate) fn try_run(&self, ix: usize, command: &str) -> Output {
        let mut words = command.split_ascii_whitespace();
        let mut run = Command::new(words.next().unwrap());
        run.args(words).stdin(Stdio::null());
        self.stage.room().host(ix).ns().unwrap().run(move || Ok(run.output()?)).unwrap()
    }

    /// Runs a program on a host; it must succeed.
    pub(crate) fn run(&self, ix: usize, command: &str) -> String {
        let out = self.try_run(ix, command);
        let error = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{command}: {error}");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Changes the written configuration of a host; a running agent is not told.
    pub(crate) fn edit_config(&self, ix: usize, edit: impl Fn(String) -> String) {
        let file = self.stage.agent(ix).config();
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, edit(text)).unwrap();
    }

    /// A folder of a host's agent.
    pub(crate) fn dir(&self, ix: usize) -> &Path {
        self.stage.agent(ix).dir()
    }

    /// Stops what still runs, cleanly and the owner last, and looks for leftovers on every host.
    pub(crate) fn close(mut self) {
        let owner = self.stage.owner();
        let mut order: Vec<_> = (0..self.before.len()).collect();
        order.sort_by_key(|ix| Some(*ix) == owner);
        for ix in order {
            if self.stage.agent(ix).condition() == Condition::Running {
                self.stage.stop(ix).unwrap();
            }
        }
        for (ix, before) in self.before.iter().enumerate() {
            let left = before.differences(&Snapshot::of(&self.stage, ix));
            assert!(
                left.is_empty(),
                "left behind on h{}: {left:#?}\n{}",
                ix + 1,
                self.stage.logs(8)
            );
        }
    }
}

/// What status of a host says of a check: the first object that bears its name, wherever it stands.
pub(crate) fn check(stage: &Stage, ix: usize, name: &str) -> Value {
    fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
        match value {
            Value::Object(map)
                if [map.get("check"), map.get("name")].contains(&Some(&name.into())) =>
            {
                Some(value)
            }
            Value::Object(map) => map.values().find_map(|v| find(v, name)),
            Value::Array(list) => list.iter().find_map(|v| find(v, name)),
            _ => None,
        }
    }
    let status = status(stage, ix);
    find(&status["checks"], name)
        .cloned()
        .unwrap_or_else(|| panic!("status of h{} has no check {name}: {status:#}", ix + 1))
}

/// What `vipd status --json` of a host prints, with whatever exit.
fn status(stage: &Stage, ix: usize) -> Value {
    try_status(stage, ix).unwrap_or_else(|e| panic!("status of h{}: {e}", ix + 1))
}

/// The same; the error is what it said instead, while it does not answer yet.
fn try_status(stage: &Stage, ix: usize) -> Result<Value, String> {
    let mut status = stage.agent(ix).vipd(&["status", "--json"]).unwrap();
    let out = stage.room().host(ix).ns().unwrap().run(move || Ok(status.output()?));
    let out = out.unwrap();
    serde_json::from_slice(&out.stdout)
        .map_err(|e| format!("{e}: {}", String::from_utf8_lossy(&out.stderr)))
}
