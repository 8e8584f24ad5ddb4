//! What would happen: a copy of the running engine and stand-ins for its peers play one event in virtual time.
//!
//! The protocol thread makes the [`Picture`], which costs one copy; [`Picture::play`] runs wherever there is time. Peers
//! are what their heartbeats say of them, or without heartbeats what adverts and the configuration say. What they do not
//! say is supposed, and the answer names it ([`Supposed`]). It is the engine that decides, here as in production: nothing
//! in this room may come to a verdict of its own, and nothing leaves it but the answer.
//!
//! Rooms: `group` the players and their kernels; `copies` their state files; `network` what is between them; `stand_in` a peer out of its last word;
//! `story` what was seen, told by instance.

mod copies;
mod group;
mod network;
mod stand_in;
mod story;

use super::Engine;
use super::io::{Alarm, Cause, OperatorOrder};
use super::snapshot::UnitView;
use crate::config::model::{Instance, Model, Probe};
use crate::time::{Duration, Instant, Now};
use crate::types::{CheckIx, Family, HostIx, InstanceIx, LinkIx, State, Verdict};
use crate::wire::heartbeat::HeartbeatKey;
use group::Group;
use std::fmt;
use std::sync::Arc;

/// An engine at one moment, without its keys: nothing that it says can be taken for the real one's word.
#[derive(Clone)]
pub struct Picture(Box<Engine>);

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Picture(..)")
    }
}

/// What is supposed to happen.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum WhatIf {
    /// That host loses its power right after an advert: the longest way to its successor.
    PeerDead(HostIx),
    /// This host does, right after an advert.
    PowerOff,
    /// This service interface of this host loses its carrier.
    LinkDown(LinkIx),
    /// Nothing passes between this host and the others any more: on this service interface, or with `None` nowhere.
    Partition(Option<LinkIx>),
    /// From its next run on this check says so.
    Check(CheckIx, Verdict),
    /// The agent of this host is stopped.
    Stop,
    /// An operator orders this of an instance, or with `None` of this host.
    Order(Option<InstanceIx>, OperatorOrder),
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// Why it would not be carried out, for an order: then nothing is played.
    pub refused: Option<String>,
    /// How the ordered operation ends: done or not, in its own words, and after how long.
    pub operation: Option<(bool, Arc<str>, Duration)>,
    /// So much time was played after the event; nothing more was to come, unless `cut_short`.
    pub played: Duration,
    /// More was to come, but not within the limit of time or work.
    pub cut_short: bool,
    /// Who played: this host first.
    pub players: Vec<Player>,
    /// One for each virtual router of this host.
    pub outcomes: Vec<Outcome>,
    /// Alarms that were raised: by which player, of which of its instances, and after how long.
    pub alarms: Vec<(usize, Option<InstanceIx>, Alarm, Duration)>,
    /// What the answer rests on beside what hosts say of themselves.
    pub supposed: Vec<Supposed>,
}

/// A host of the play.
#[derive(Clone, Debug)]
pub struct Player {
    /// Its name; of a host that the configuration does not name its address.
    pub name: Arc<str>,
    /// What its causes and alarms refer to.
    pub model: Arc<Model>,
}

/// What becomes of one virtual router.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its instance.
    pub instance: InstanceIx,
    /// Its families.
    pub families: Vec<Family>,
    /// Players that own it when the event comes.
    pub before: Vec<usize>,
    /// Players that own it at the end.
    pub after: Vec<usize>,
    /// What happens to it, in order.
    pub steps: Vec<Step>,
    /// What clients lose, for each side of the network on which they may be.
    pub clients: Vec<Client>,
    /// The decision at the end: of the player that owns, else of this host; and its time.
    pub view: (usize, Instant, Box<UnitView>),
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// After the event.
    pub after: Duration,
    /// On which player.
    pub player: usize,
    /// From.
    pub from: State,
    /// To.
    pub to: State,
    /// Why.
    pub cause: Cause,
}

/// Clients on one side of the network.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// On which side; where nothing is cut there is only one.
    pub side: Side,
    /// For so long nobody served the address where they sent their packets.
    pub lost: Duration,
    /// Nobody does at the end.
    pub to_the_end: bool,
}

/// Where clients are.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// Everybody reaches everybody.
    Whole,
    /// On the side of this host.
    Here,
    /// On the other one.
    There,
}

/// What the answer rests on that no host has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Supposed {
    /// Without heartbeats this host is taken to be up, healthy and as configured.
    AsConfigured(Arc<str>),
    /// Without heartbeats: the owner is heard, and taken to be this host.
    TakenFor(Arc<str>),
    /// It was not heard when the picture was made, and does not play.
    Silent(Arc<str>),
    /// Its configuration differs: it is taken to be that of this host's file.
    OtherConfiguration(Arc<str>),
    /// Its preempt delay is taken to begin now: it outranks the owner, and does not say since when it is healthy.
    DelayBeginsNow(Arc<str>),
    /// Its activation succeeds at once.
    Activates(Arc<str>),
    /// Its hooks agree to a move, and what they and the replicator have to do for it is done at once.
    Agrees(Arc<str>),
    /// Copies of state files that are good enough now stay so while an owner is heard.
    CopiesFollow,
    /// Each side still reaches the targets that it reaches now.
    TargetsOnBothSides,
    /// Checks of the other hosts go on saying what they say now.
    ChecksElsewhere,
}

impl Engine {
    /// This engine at this moment, for [`Picture::play`]. Costs a copy, which grows with the number of instances: 0.6 ms
    /// for a thousand of them.
    pub fn picture(&self) -> Picture {
        let mut copy = Box::new(self.clone());
        copy.outputs.clear();
        for voice in copy.units.iter_mut().flat_map(|unit| &mut unit.voices) {
            voice.signer = None;
            voice.receiver.verifier = None;
        }
        if let Some(peers) = &mut copy.peers {
            peers.key = stage_key(&copy.model);
        }
        Picture(copy)
    }
}

/// The key of every play: what is said there is worth nothing anywhere else.
fn stage_key(model: &Model) -> HeartbeatKey {
    HeartbeatKey::derive(STAGE_SECRET, &model.cluster)
}

const STAGE_SECRET: &[u8] = b"a play, and no host of it is real";

impl Picture {
    /// Plays `what` from `now` on, the moment of the picture or later. `models`: the configuration in use, as each of its
    /// hosts sees it.
    ///
    /// # Errors
    /// When the event makes no sense on this host: a sentence that says why.
    pub fn play(self, models: &[Model], what: &WhatIf, now: Now) -> Result<Prediction, String> {
        self.refuse_nonsense(what)?;
        if let WhatIf::Order(instance, order) = what
            && let Err(why) = self.0.judge(*instance, order)
        {
            return Ok(Prediction::refused(&self.0.model, why));
        }
        Ok(Group::new(*self.0, models, now).play(what))
    }

    fn refuse_nonsense(&self, what: &WhatIf) -> Result<(), String> {
        let engine = &self.0;
        let model = &engine.model;
        if engine.stopping {
            return Err("the agent is stopping: what would happen is happening".into());
        }
        let link = match what {
            WhatIf::LinkDown(link) => Some(*link),
            WhatIf::Partition(link) => *link,
            _ => None,
        };
        if link.is_some_and(|link| usize::from(link.0) >= model.links.len()) {
            return Err("there is no such service interface on this host".into());
        }
        match what {
            WhatIf::PeerDead(host) if *host == model.host => {
                Err(format!("{} is this host: its own death is power-off", model.host_name(*host)))
            }
            WhatIf::PeerDead(host) => match model.hosts.get(usize::from(host.0)) {
                None => Err(format!("there is no host number {}", host.0)),
                Some(host_of) => {
                    let takes_part = |i: &Instance| {
                        i.priorities.get(usize::from(host.0)).is_some_and(Option::is_some)
                    };
                    if !model.instances.iter().any(takes_part) {
                        let name = &host_of.name;
                        return Err(format!("{name} takes no part in an instance of this host"));
                    }
                    let peers = engine.peers.as_ref();
                    let silent =
                        peers.is_some_and(|p| !p.iter().any(|p| p.host == *host && p.alive));
                    match silent {
                        true => Err(format!(
                            "{} is not heard now: what its silence means has happened already, see `vipd why`",
                            host_of.name
                        )),
                        false => Ok(()),
                    }
                }
            },
            WhatIf::LinkDown(link) if !engine.links[usize::from(link.0)].usable() => Err(format!(
                "{} is down or missing already: see `vipd why`",
                model.links[usize::from(link.0)].name
            )),
            WhatIf::Check(check, _) => match model.checks.get(usize::from(check.0)) {
                None => Err(format!("there is no check number {}", check.0)),
                Some(config) => match config.probe {
                    Probe::Instance { .. } => Err(format!(
                        "{} looks at an instance of this host: suppose what happens to that one",
                        config.name
                    )),
                    _ => Ok(()),
                },
            },
            _ => Ok(()),
        }
    }
}

impl Prediction {
    fn refused(model: &Arc<Model>, why: String) -> Self {
        let name = Arc::clone(model.host_name(model.host));
        Self {
            refused: Some(why),
            operation: None,
            played: Duration::ZERO,
            cut_short: false,
            players: vec![Player { name, model: Arc::clone(model) }],
            outcomes: Vec::new(),
            alarms: Vec::new(),
            supposed: Vec::new(),
        }
    }
}
