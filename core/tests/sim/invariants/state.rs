//! What must come of state that follows the address (DESIGN 5.13): whose epochs may be pushed under, which copies may be
//! served, and when everybody has to have what the owner has.

use super::{Rule, SLACK, Watch};
use crate::host::Agent;
use crate::replica::disk::{Position, Refusal};
use crate::scenario::host_name;
use std::collections::BTreeMap;
use vipd_core::config::model::{Gate, Replicate};
use vipd_core::engine::io::OperatorOrder;
use vipd_core::time::{Duration, Instant};
use vipd_core::types::Epoch;

/// After a claim the kernel has the address within this.
const CLAIM: Duration = Duration::from_secs(1);
/// An operator's word, or a barrier, counts for a claim for so long.
const COUNTS: Duration = Duration::from_secs(60);
/// What is said each second was said, and a connection that broke was tried again.
const HEARD: Duration = Duration::from_secs(10);

/// What an observer knows of the set on one host.
#[derive(Clone, Debug, Default)]
struct SetView {
    /// Age of the copy as the agent was told, and when; `None`: nothing, or that nobody knows.
    age: Option<(Instant, Duration)>,
    /// When the copy became fresh or stale by such a word.
    flipped: Instant,
    /// Does its replicator run?
    runs: bool,
    /// It pushes under this ownership, since then.
    owning: Option<(Epoch, Instant)>,
    /// The last one, and whether the kernel has had the address ever since.
    last: Option<(Epoch, bool)>,
    /// The newest that this run of its agent spoke of.
    newest: Epoch,
    /// The newest under which a tree was made or taken there.
    tree: Epoch,
    /// An operator, or a planned move, wants it to own, whatever it lacks.
    allowed: Option<Instant>,
    /// Its agent's disk took nothing for a while.
    unwritable: bool,
    /// All that was written there is on that host since then, which may claim.
    brought: Option<(usize, Instant)>,
    /// That stronger host waits for it in vain.
    waiting: Option<usize>,
    /// This run of its agent let go then, and no kernel has had the address since: nobody wrote what it lacks.
    left: Option<Instant>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Sets {
    hosts: Vec<SetView>,
    /// Which host epochs mean by a number.
    numbers: BTreeMap<u8, usize>,
    /// What was made of each position.
    sealed: BTreeMap<Position, u64>,
    /// A role or a replicator changed.
    changed: Instant,
}

impl Sets {
    pub(super) fn new(hosts: usize) -> Self {
        Self { hosts: vec![SetView::default(); hosts], ..Self::default() }
    }
}

impl Watch {
    fn gate(&self) -> Gate {
        self.scenario.replica.as_ref().map_or(Gate::Ignore, |set| set.gate)
    }

    fn max_age(&self) -> Duration {
        self.scenario.replica.as_ref().map_or(Duration::ZERO, |set| set.max_age)
    }

    /// What a stop may wait until the state of an instance is elsewhere.
    pub(super) fn barrier(&self) -> Duration {
        match self.scenario.replica {
            Some(_) => Replicate::STOP + Duration::from_secs(3),
            None => Duration::ZERO,
        }
    }

    /// Is the copy of the host good enough, by its own figures?
    pub(super) fn is_fresh(&self, now: Instant, host: usize) -> bool {
        let age = self.sets.hosts[host].age.map(|(at, age)| age + (now - at));
        self.gate() == Gate::Ignore || age.is_some_and(|age| age < self.max_age())
    }

    /// Since when it is what it is now, fresh or stale.
    fn standing_since(&self, now: Instant, host: usize) -> Instant {
        if self.gate() == Gate::Ignore {
            return Instant::ZERO;
        }
        let view = &self.sets.hosts[host];
        let ends = view.age.map(|(at, age)| at.before(age) + self.max_age());
        ends.filter(|end| *end <= now).map_or(view.flipped, |end| view.flipped.max(end))
    }

    /// When the copy of any host became fresh or stale, or a replicator came or went, the last time.
    pub(super) fn copies_changed(&self, now: Instant) -> Instant {
        let all = (0..self.sets.hosts.len()).map(|host| self.standing_since(now, host));
        match self.scenario.replica {
            Some(_) => all.fold(Instant::ZERO, Instant::max),
            None => Instant::ZERO,
        }
    }

    /// May the host claim by itself, as far as its copy and its disk go?
    pub(super) fn may_serve(&self, now: Instant, host: usize) -> bool {
        let require = self.gate() == Gate::Require;
        !require || self.is_fresh(now, host) && !self.sets.hosts[host].unwritable
    }

    /// Could it take over from a host that leaves, now as a while ago?
    pub(super) fn heir(&self, now: Instant, host: usize) -> bool {
        let long = now - self.standing_since(now, host) > self.longest_down * 2;
        self.gate() == Gate::Ignore || self.is_fresh(now, host) && long && self.may_serve(now, host)
    }

    fn age_is(&mut self, now: Instant, host: usize, age: Option<Duration>) {
        let before = self.is_fresh(now, host);
        let flipped = self.standing_since(now, host);
        let view = &mut self.sets.hosts[host];
        view.age = age.map(|age| (now, age));
        view.flipped = flipped;
        if self.is_fresh(now, host) != before {
            self.sets.hosts[host].flipped = now;
        }
    }

    pub(super) fn figures(&mut self, now: Instant, host: usize, age: Option<Duration>) {
        self.age_is(now, host, age);
    }

    pub(super) fn set_agent(&mut self, now: Instant, host: usize, agent: Agent, started: bool) {
        if started {
            self.age_is(now, host, None);
        }
        if matches!(agent, Agent::Dead | Agent::Off) {
            let view = &mut self.sets.hosts[host];
            (view.owning, view.newest) = (None, Epoch::default());
            (view.brought, view.waiting, view.left) = (None, None, None);
        }
    }

    pub(super) fn replicator(&mut self, now: Instant, host: usize, runs: bool) {
        self.sets.hosts[host].runs = runs;
        self.sets.changed = now;
    }

    pub(super) fn disk_full(&mut self, host: usize) {
        self.sets.hosts[host].unwritable = true;
    }

    /// Whatever it lacks, it may own.
    pub(super) fn allow(&mut self, now: Instant, host: usize, order: OperatorOrder) {
        match order {
            OperatorOrder::Promote { accept_data_loss: true } => self.allowed(now, host),
            OperatorOrder::Move { to: Some(to), force: true } => {
                self.allowed(now, usize::from(to.0));
            }
            OperatorOrder::Move { to: None, force: true } => {
                (0..self.hosts.len()).for_each(|host| self.allowed(now, host));
            }
            _ => {}
        }
    }

    pub(super) fn allowed(&mut self, now: Instant, host: usize) {
        self.sets.hosts[host].allowed = Some(now);
    }

    pub(super) fn barrier_passed(&mut self, now: Instant, host: usize, to: usize) {
        self.sets.hosts[host].brought = Some((to, now));
    }

    pub(super) fn barrier_over(&mut self, host: usize) {
        self.sets.hosts[host].brought = None;
    }

    pub(super) fn not_brought(&mut self, host: usize, to: usize, on: bool) {
        let waiting = &mut self.sets.hosts[host].waiting;
        if on {
            *waiting = Some(to);
        } else {
            waiting.take_if(|waits| *waits == to);
        }
    }

    /// Since when all that was written on this host is on the one that takes over.
    pub(super) fn brought_since(&self, host: usize) -> Option<Instant> {
        self.sets.hosts[host].brought.map(|(_, since)| since)
    }

    /// Is this host brought everything, by a weaker owner or by one that leaves, for another configuration too (DESIGN
    /// 5.16)? Either brings it when it can, long after there was a reason to.
    pub(super) fn is_brought(&self, to: usize) -> bool {
        let rank = |host: usize| self.scenario.priorities[host];
        let brings = |host: &usize| {
            let leaves = self.hosts[*host].agent == Agent::Leaving;
            let goes = leaves || rank(*host) < rank(to);
            self.sets.hosts[*host].brought.is_some_and(|(t, _)| t == to) && goes
        };
        (0..self.hosts.len()).any(|host| brings(&host))
    }

    /// Does `host` wait in vain for the state of this owner?
    pub(super) fn waits_in_vain(&self, owner: usize, host: usize) -> bool {
        self.sets.hosts[owner].waiting == Some(host)
    }

    /// The owner from which `host` takes the address, where nothing explains that but its priority: the owner has served
    /// for a while, everybody hears everybody, and no operator has spoken.
    pub(crate) fn calm_owner(&self, now: Instant, host: usize) -> Option<usize> {
        let view = self.addrs.first()?;
        let (owner, owned) = view.settled.filter(|(owner, _)| *owner != host)?;
        let orders = self.orders.last.max(self.orders.spoken);
        let last = [owned, self.whole?, self.agents_changed, view.tampered, orders];
        let since = last.into_iter().fold(Instant::ZERO, Instant::max);
        let calm = now - since > self.longest_down;
        let ordered = self.orders.moving(None) || self.orders.promoting(host);
        (calm && !ordered && self.hosts[owner].agent == Agent::Running).then_some(owner)
    }

    /// Who owns, as its agent says.
    pub(super) fn role(&mut self, now: Instant, host: usize, owns: bool, epoch: Epoch) {
        self.sets.changed = now;
        let view = self.sets.hosts[host].clone();
        let name = host_name(host);
        let newest = view.newest.max(epoch);
        self.sets.hosts[host].newest = newest;
        if !owns {
            self.sets.hosts[host].owning = None;
            return;
        }
        let goes_on = view.owning.is_some_and(|(last, _)| last == epoch);
        if goes_on {
            return;
        }
        if *self.sets.numbers.entry(epoch.host).or_insert(host) != host {
            let what = format!("{name} owns under {epoch}, which another host took");
            self.fail(now, Rule::EpochReused, what);
        }
        match view.last {
            Some((last, kept)) if epoch < last || epoch == last && !kept => {
                let what = format!("{name} owns under {epoch}, its last ownership was {last}");
                self.fail(now, Rule::EpochReused, what);
            }
            _ => {}
        }
        if epoch < newest {
            let what = format!("{name} owns under {epoch}, and knew of {newest}");
            self.fail(now, Rule::EpochReused, what);
        }
        let view = &mut self.sets.hosts[host];
        view.owning = Some((epoch, now));
        view.last = Some((epoch, true));
    }

    /// The kernel of the host let go, not by a hand.
    pub(super) fn state_let_go(&mut self, now: Instant, host: usize) {
        if self.scenario.replica.is_none() {
            return;
        }
        let others = self.addrs.iter().flat_map(|view| view.held.iter().enumerate());
        let last = others.filter(|(h, _)| *h != host).all(|(_, held)| held.is_none());
        let view = &mut self.sets.hosts[host];
        view.left = (last && self.hosts[host].agent.runs()).then_some(now);
        if let Some((_, kept)) = &mut view.last {
            *kept = false;
        }
        // Who owned had what there was.
        self.age_is(now, host, Some(Duration::ZERO));
    }

    /// The kernel of the host has an address: who let go before it may lack what is written there.
    pub(super) fn state_taken(&mut self, host: usize) {
        let others = self.sets.hosts.iter_mut().enumerate().filter(|(other, _)| *other != host);
        others.for_each(|(_, view)| view.left = None);
    }

    /// A tree was made.
    pub(super) fn sealed(&mut self, now: Instant, host: usize, position: Position, tree: u64) {
        let name = host_name(host);
        let before = self.sets.sealed.insert(position, tree);
        if before.is_some_and(|before| before != tree) {
            let what = format!("{name} makes another tree {position:?} than was made before");
            self.fail(now, Rule::EpochReused, what);
        }
        let view = &mut self.sets.hosts[host];
        view.tree = view.tree.max(position.epoch);
    }

    /// A tree was taken.
    pub(super) fn took(&mut self, now: Instant, host: usize, from: usize, position: Position) {
        let newest = self.sets.hosts[host].tree;
        if position.epoch < newest {
            let (host, from, epoch) = (host_name(host), host_name(from), position.epoch);
            let what =
                format!("{host} takes a tree of {from} under {epoch} over one under {newest}");
            self.fail(now, Rule::EpochBack, what);
        }
        self.sets.hosts[host].tree = newest.max(position.epoch);
    }

    /// Nothing happened to any agent, replicator, net or role since; all of them run.
    fn undisturbed(&self) -> Option<Instant> {
        let all_run = self.hosts.iter().all(|host| host.agent == Agent::Running)
            && self.sets.hosts.iter().all(|view| view.runs);
        let since = self.whole?.max(self.second?).max(self.agents_changed).max(self.sets.changed);
        let since = since.max(self.orders.spoken).max(self.orders.last);
        all_run.then_some(since)
    }

    /// A refusal that nothing explains any more; what waits for an operator may be said again.
    pub(super) fn tree_refused(&mut self, now: Instant, by: usize, from: usize, refusal: Refusal) {
        let calm = self.undisturbed().is_some_and(|since| now - since > HEARD);
        if calm && refusal != Refusal::Diverged {
            let what = format!(
                "{} refuses {} again and again: {refusal:?}",
                host_name(by),
                host_name(from)
            );
            self.fail(now, Rule::RefusalLoop, what);
        }
    }

    /// The one owner of a group in which nothing has happened for long.
    pub(crate) fn settled_owner(&self, now: Instant) -> Option<usize> {
        let since = self.undisturbed()?;
        let (owner, owned) = self.addrs.first()?.settled?;
        (now - since.max(owned) > HEARD + self.scenario.t() * 4).then_some(owner)
    }

    /// Has the target of a move of this host, begun at `since`, to wait for the state?
    pub(crate) fn must_wait(&self, from: usize, since: Instant) -> bool {
        let before = |at: Instant| at < since;
        !self.orders.forced(from)
            && self.whole.is_some_and(before)
            && before(self.agents_changed)
            && self.hosts[from].agent == Agent::Running
    }

    /// The kernel of the host takes an address: may it serve what it has?
    pub(super) fn judge_copy(&mut self, now: Instant, host: usize, at: usize) {
        if self.gate() == Gate::Ignore {
            return;
        }
        let view = &self.sets.hosts[host];
        let repairs = view.owning.is_some_and(|(_, since)| now - since > CLAIM);
        let allowed = view.allowed.is_some_and(|at| now - at < COUNTS);
        let stale = !self.is_fresh(now.before(SLACK), host) && !self.is_fresh(now, host);
        // What its replicator knows it has from owners: of what this host wrote itself nobody tells it. As any copy, it
        // counts for a while.
        let stale = stale && view.left.is_none_or(|at| now - at >= self.max_age());
        if repairs || allowed || !stale {
            return;
        }
        let name = host_name(host);
        if self.gate() == Gate::Require {
            let what = format!("{name} claims with a copy that is old or unknown");
            self.fail(now, Rule::StalePromoted, what);
            return;
        }
        // Long enough to be told, to be known, and for every timer to have run with it.
        let told = self.longest_down + self.scenario.t() * 4;
        let long = |since: Instant| now - since > told;
        let Some(whole) = self.whole else { return };
        let held = &self.addrs[at].held;
        let better = (0..self.hosts.len()).find(|h| {
            *h != host
                && held[*h].is_none()
                && self.hosts[*h].agent == Agent::Running
                && long(self.hosts[*h].since)
                && self.is_fresh(now, *h)
                && long(self.standing_since(now, *h))
                && self.addrs[at].dropped[*h].is_none_or(long)
        });
        if let Some(better) = better
            && !self.scenario.operators
            && long(whole)
            && long(self.hosts[host].since)
            && long(self.standing_since(now, host))
        {
            let what = format!(
                "{name} claims with a copy that is old or unknown, and {} has everything",
                host_name(better)
            );
            self.fail(now, Rule::StaleChosen, what);
        }
    }
}
