//! What was seen of the play, told by virtual router: who owned when, and what clients lost.

use super::super::io::{Alarm, Cause};
use super::group::{Actor, Group, ME};
use super::network::Cut;
use super::{Client, Outcome, Side, Step};
use crate::time::{Duration, Instant};
use crate::types::{Family, InstanceIx, LinkIx, State};
use std::sync::Arc;

/// Something worth remembering.
pub(super) enum Fact {
    Transition {
        player: usize,
        key: u64,
        /// `None`: both, in shared fate.
        family: Option<Family>,
        from: State,
        to: State,
        cause: Cause,
    },
    /// The kernel of that player has the instance in these families.
    Holds { player: usize, key: u64, families: [bool; 2] },
    /// The neighbours send to that player from now on.
    Announced { player: usize, key: u64, family: Family },
    /// That player has no power any more.
    Off(usize),
    /// This service interface of this host has no carrier any more.
    Unplugged(LinkIx),
    /// The operation ended.
    Ended { done: bool, text: Arc<str> },
    /// A check of this host settled on another verdict.
    Checked,
}

/// Everything that was seen since the event.
#[derive(Default)]
pub(super) struct Story {
    begun: Instant,
    last: Instant,
    facts: Vec<(Instant, Fact)>,
    /// An operation was ordered and has not ended.
    operates: bool,
    pub(super) alarms: Vec<(usize, Option<InstanceIx>, Alarm, Duration)>,
    /// Who held what when the event came: player, instance and families.
    held: Vec<(usize, u64, [bool; 2])>,
    /// Who owned what then.
    owned: Vec<(usize, u64, Vec<Family>)>,
}

impl Story {
    /// What is when the event comes, at `at`; what was noted before is forgotten.
    pub(super) fn begin(&mut self, at: Instant, actors: &[Actor]) {
        let mut story = Self { begun: at, last: at, ..Self::default() };
        for (player, actor) in actors.iter().enumerate() {
            let model = &actor.engine.model;
            for (ix, families) in &actor.held {
                story.held.push((player, model.instance(*ix).key, *families));
            }
            for unit in actor.engine.units.iter().filter(|unit| unit.is_active()) {
                let families = unit.voices.iter().map(|v| v.family).collect();
                story.owned.push((player, model.instance(unit.instance).key, families));
            }
        }
        *self = story;
    }

    /// The event comes now; between the beginning and this moment only what leads to it has happened.
    pub(super) fn begins_again(&mut self, at: Instant) {
        self.begun = at;
        self.last = at;
    }

    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// When something happened last.
    pub(super) fn last(&self) -> Instant {
        self.last
    }

    pub(super) fn operation_started(&mut self) {
        self.operates = true;
    }

    pub(super) fn operates(&self) -> bool {
        self.operates
    }

    pub(super) fn note(&mut self, at: Instant, fact: Fact) {
        if matches!(fact, Fact::Ended { .. }) {
            self.operates = false;
        }
        // Announcements are repeated long after there is nothing new in them.
        if !matches!(fact, Fact::Announced { .. }) {
            self.last = at;
        }
        self.facts.push((at, fact));
    }

    pub(super) fn alarm(
        &mut self,
        at: Instant,
        player: usize,
        instance: Option<InstanceIx>,
        alarm: Alarm,
    ) {
        self.alarms.push((player, instance, alarm, at.since(self.begun)));
    }

    /// How the operation ended, and when.
    pub(super) fn operation(&self) -> Option<(bool, Arc<str>, Duration)> {
        self.facts.iter().find_map(|(at, fact)| match fact {
            Fact::Ended { done, text } => Some((*done, Arc::clone(text), at.since(self.begun))),
            _ => None,
        })
    }

    /// The changes of state of the virtual routers of the instance `key` in one of `families`.
    fn steps(&self, key: u64, families: &[Family]) -> Vec<Step> {
        let mut steps = Vec::new();
        for (at, fact) in &self.facts {
            if let Fact::Transition { player, key: of, family, from, to, cause } = fact
                && *of == key
                && family.is_none_or(|f| families.contains(&f))
            {
                steps.push(Step {
                    after: at.since(self.begun),
                    player: *player,
                    from: *from,
                    to: *to,
                    cause: cause.clone(),
                });
            }
        }
        steps
    }

    fn owners_before(&self, key: u64, families: &[Family]) -> Vec<usize> {
        let owns = |(_, of, theirs): &&(usize, u64, Vec<Family>)| {
            *of == key && theirs.iter().any(|f| families.contains(f))
        };
        self.owned.iter().filter(owns).map(|(player, ..)| *player).collect()
    }

    /// What clients on one side lose of the instance `key` in `family`, on link `link` of this host, until `end`.
    fn client(&self, key: u64, family: Family, link: LinkIx, side: Side, end: Instant) -> Client {
        let on_side = |player: usize| match side {
            Side::Whole => true,
            Side::Here => player == ME,
            Side::There => player != ME,
        };
        let mut holds: Vec<usize> = Vec::new();
        for (player, _, _) in
            self.held.iter().filter(|(_, of, families)| *of == key && families[family as usize])
        {
            holds.push(*player);
        }
        // Who owns is who announced last.
        let owners = self.owners_before(key, &[family]);
        let mut sends_to = owners.first().or_else(|| holds.first()).copied();
        let mut gone: Vec<usize> = Vec::new();
        let (mut lost, mut since) = (Duration::ZERO, None);
        let mut look = |at: Instant, sends_to: Option<usize>, holds: &[usize], gone: &[usize]| {
            let served =
                sends_to.is_some_and(|p| holds.contains(&p) && on_side(p) && !gone.contains(&p));
            match (served, since) {
                (false, None) => since = Some(at),
                (true, Some(from)) => {
                    lost += at.since(from);
                    since = None;
                }
                _ => {}
            }
        };
        look(self.begun, sends_to, &holds, &gone);
        for (at, fact) in &self.facts {
            match fact {
                Fact::Holds { player, key: of, families } if *of == key => {
                    holds.retain(|p| p != player);
                    if families[family as usize] {
                        holds.push(*player);
                    }
                }
                Fact::Announced { player, key: of, family: in_family }
                    if *of == key && *in_family == family && on_side(*player) =>
                {
                    sends_to = Some(*player);
                }
                Fact::Off(player) => gone.push(*player),
                Fact::Unplugged(cut) if *cut == link => gone.push(ME),
                _ => continue,
            }
            look(*at, sends_to, &holds, &gone);
        }
        let to_the_end = since.is_some();
        lost += since.map_or(Duration::ZERO, |from| end.since(from));
        Client { side, lost, to_the_end }
    }
}

impl Group {
    /// What becomes of each virtual router of this host.
    pub(super) fn outcomes(&self) -> Vec<Outcome> {
        let me = &self.actors[ME].engine;
        let end = self.now();
        let mut outcomes = Vec::new();
        for unit in &me.units {
            let instance = me.model.instance(unit.instance);
            let families: Vec<Family> = unit.voices.iter().map(|v| v.family).collect();
            let after: Vec<usize> = (0..self.actors.len())
                .filter(|n| self.owner_unit(*n, instance.key, &families).is_some())
                .collect();
            let teller = after.first().copied().filter(|n| self.running(*n)).unwrap_or(ME);
            let view = self
                .owner_unit(teller, instance.key, &families)
                .or_else(|| self.unit_of(teller, instance.key, &families))
                .map(|u| self.actors[teller].engine.unit_view(u, end));
            let Some(view) = view else { continue };
            let split = match self.wires.cut {
                Some(Cut::Everything) => true,
                Some(Cut::Link(link)) => link == unit.link,
                None => false,
            };
            let sides = if split { &[Side::Here, Side::There][..] } else { &[Side::Whole] };
            let client = |side: &Side| {
                let each = families
                    .iter()
                    .map(|f| self.story.client(instance.key, *f, unit.link, *side, end));
                each.max_by_key(|c| c.lost)
            };
            outcomes.push(Outcome {
                instance: unit.instance,
                before: self.story.owners_before(instance.key, &families),
                after,
                steps: self.story.steps(instance.key, &families),
                clients: sides.iter().filter_map(client).collect(),
                view: (teller, end, Box::new(view)),
                families,
            });
        }
        outcomes
    }

    /// The unit of player `n` that speaks for the instance in one of `families`.
    fn unit_of(&self, n: usize, key: u64, families: &[Family]) -> Option<usize> {
        let engine = &self.actors[n].engine;
        (0..engine.units.len()).find(|u| {
            let unit = &engine.units[*u];
            engine.model.instance(unit.instance).key == key
                && families.iter().any(|f| unit.speaks(*f))
        })
    }

    /// The same, if that player owns it.
    fn owner_unit(&self, n: usize, key: u64, families: &[Family]) -> Option<usize> {
        let u = self.unit_of(n, key, families)?;
        (self.running(n) && self.actors[n].engine.units[u].is_active()).then_some(u)
    }
}
