//! The scenes: what is done to whom, and what must come of it. A table, played by `play`.

use super::clock::{now, sleep_until};
use super::faults::Loss;
use super::health::Health;
use super::netlink::LinkState;
use super::service::Mood;
use super::stage::Stage;
use super::topology::Net;
use anyhow::Context as _;
use std::time::Duration;
use vipd_core::time::Instant;

/// One scene.
#[derive(Copy, Clone, Debug)]
pub struct Scene {
    /// How it is called on the command line.
    pub name: &'static str,
    /// What happens, in words.
    pub about: &'static str,
    /// The scene that must have been played right before.
    pub after: Option<&'static str>,
    /// Who is meant.
    pub whom: Whom,
    /// What is done to that host.
    pub act: Act,
    /// What must come of it.
    pub expect: Expect,
    /// What the room must have.
    pub needs: Needs,
    /// How often the address may go to another host from the act to the end; `None`: that is not judged.
    pub moves: Option<usize>,
}

/// What a room must have for a scene.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Needs {
    /// Hosts with agents.
    Agents,
    /// Services, a router, and agents that look at them.
    Health,
}

/// Who is meant by a scene.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Whom {
    /// Who owns the address when the scene begins.
    Owner,
    /// Whom the scene before was about.
    SameAsBefore,
}

/// What is done.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// Every agent is started.
    StartAll,
    /// The agent is killed.
    Crash,
    /// The agent is killed and started again at once, as systemd does.
    CrashRestart,
    /// The agent is stopped in its tracks.
    Hang,
    /// It goes on.
    Resume,
    /// The host loses its power.
    PowerOff,
    /// It boots.
    PowerOn,
    /// Its service cable is pulled.
    LinkCut,
    /// It is plugged in again.
    LinkBack,
    /// The host is cut off from client and peers on the service network; its carrier stays.
    Partition,
    /// The host is cut off on both networks.
    Isolate,
    /// The networks are joined again.
    Heal,
    /// Every other host hears no adverts; heartbeats and clients get through. Needs `nft`.
    AdvertLoss,
    /// They hear them again.
    AdvertsBack,
    /// The agent is stopped cleanly.
    Stop,
    /// The agent is started.
    Start,
    /// Its service dies.
    ServiceDies,
    /// Its service comes back.
    ServiceBack,
    /// The services of all others die, and when that must have been noticed, its own.
    ServicesDie,
    /// Its service cable is pulled and plugged in again, [`FLAPS`] times in as many half seconds.
    LinkFlaps,
    /// It loses its power soon after each of [`BOOTS`] boots, and stays on after the last.
    RebootLoop,
    /// Nobody reaches the router; clients and peers are reached.
    RouterLost,
    /// It alone does not reach the router. Needs `nft`.
    RouterLostHere,
}

/// How often a cable flaps.
pub const FLAPS: u32 = 20;
/// From one flap to the next.
const FLAP: Duration = Duration::from_millis(500);
/// How often a host boots in a loop.
pub const BOOTS: u32 = 5;
/// How long it lives, and then is off.
const BOOT: Duration = Duration::from_secs(3);

/// What must come of a scene.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Expect {
    /// One owner alone, and the client is answered.
    Owner,
    /// Another host than the one meant owns, and the client is answered.
    Successor,
    /// Who owned it keeps it for longer than anything takes to be noticed.
    Stays,
    /// The host that is meant gets it back, and not before its preempt delay.
    Returns,
}

impl Expect {
    /// What is said when it did not come.
    #[must_use]
    pub const fn missed(self) -> &'static str {
        match self {
            Self::Owner | Self::Successor => "nobody else took the address",
            Self::Stays => "the address did not stay where it was",
            Self::Returns => "the address did not come back when it should",
        }
    }
}

/// All scenes, in the order in which they are played when none is named; those that stand behind
/// [`DEFAULT`] are played by name only.
pub const SCENES: &[Scene] = &[
    scene("elect", "all agents start", None, Act::StartAll, Expect::Owner),
    scene(
        "crash",
        "the owner's agent is killed and stays dead",
        None,
        Act::Crash,
        Expect::Successor,
    ),
    scene("return", "the killed agent is started", Some("crash"), Act::Start, Expect::Owner),
    scene("crash-restart", "killed and restarted at once", None, Act::CrashRestart, Expect::Owner),
    scene("hang", "the owner's agent hangs", None, Act::Hang, Expect::Successor),
    scene("resume", "the hung agent goes on", Some("hang"), Act::Resume, Expect::Owner),
    scene("power-off", "the owner loses its power", None, Act::PowerOff, Expect::Successor),
    scene("power-on", "it boots", Some("power-off"), Act::PowerOn, Expect::Owner),
    scene("link-cut", "the owner's cable is pulled", None, Act::LinkCut, Expect::Successor),
    scene("link-back", "the cable is plugged in", Some("link-cut"), Act::LinkBack, Expect::Owner),
    scene(
        "partition",
        "the owner is cut off, its carrier stays",
        None,
        Act::Partition,
        Expect::Successor,
    ),
    scene("heal", "the networks are joined", Some("partition"), Act::Heal, Expect::Owner),
    scene("stop", "the owner's agent is stopped cleanly", None, Act::Stop, Expect::Successor),
    scene("failback", "the stopped agent is started", Some("stop"), Act::Start, Expect::Owner),
    scene(
        "isolate",
        "the owner is cut off on both networks",
        None,
        Act::Isolate,
        Expect::Successor,
    ),
    scene("rejoin", "the networks are joined", Some("isolate"), Act::Heal, Expect::Owner),
    scene(
        "advert-loss",
        "peers hear no adverts, all else works",
        None,
        Act::AdvertLoss,
        Expect::Owner,
    ),
    scene(
        "advert-back",
        "adverts get through",
        Some("advert-loss"),
        Act::AdvertsBack,
        Expect::Owner,
    ),
    scene("service", "the owner's service dies", None, Act::ServiceDies, Expect::Successor)
        .with_health(1),
    scene(
        "service-back",
        "it serves again, healthy for preempt-delay",
        Some("service"),
        Act::ServiceBack,
        Expect::Returns,
    )
    .with_health(1),
    scene(
        "service-both",
        "every service dies, the owner's last",
        None,
        Act::ServicesDie,
        Expect::Stays,
    )
    .with_health(0),
    scene(
        "link-flaps",
        "the owner's cable flaps 20 times at 2 Hz",
        None,
        Act::LinkFlaps,
        Expect::Owner,
    )
    .with_health(3),
    scene("reboot-loop", "the owner boots and dies 5 times", None, Act::RebootLoop, Expect::Owner)
        .with_health(2),
    scene("gateway-lost", "nobody reaches the gateway", None, Act::RouterLost, Expect::Stays)
        .with_health(0),
    scene(
        "gateway-one",
        "the owner does not reach the gateway",
        None,
        Act::RouterLostHere,
        Expect::Successor,
    )
    .with_health(1),
];

/// How many of [`SCENES`] are played when none is named.
pub const DEFAULT: usize = 14;

const fn scene(
    name: &'static str,
    about: &'static str,
    after: Option<&'static str>,
    act: Act,
    expect: Expect,
) -> Scene {
    let whom = if after.is_some() { Whom::SameAsBefore } else { Whom::Owner };
    Scene { name, about, after, whom, act, expect, needs: Needs::Agents, moves: None }
}

impl Scene {
    /// In a room with services and checks, and with at most so many moves.
    const fn with_health(mut self, moves: usize) -> Self {
        self.needs = Needs::Health;
        self.moves = Some(moves);
        self
    }
}

/// The scene called `name`.
#[must_use]
pub fn named(name: &str) -> Option<&'static Scene> {
    SCENES.iter().find(|s| s.name == name)
}

/// The scenes to play for these names, with those that must come before; all defaults for none.
///
/// # Errors
/// When a name is unknown, with the known ones.
pub fn programme(names: &[String]) -> anyhow::Result<Vec<&'static Scene>> {
    if names.is_empty() {
        return Ok(SCENES.iter().take(DEFAULT).collect());
    }
    let mut played: Vec<&'static Scene> = vec![&SCENES[0]];
    for name in names {
        let scene = named(name).with_context(|| {
            let all: Vec<_> = SCENES.iter().map(|s| s.name).collect();
            format!("there is no scenario {name}; there are {}", all.join(", "))
        })?;
        let last = played.last().map(|s| s.name);
        if let Some(before) = scene.after.filter(|before| Some(*before) != last) {
            played.extend(named(before));
        }
        if scene.name != SCENES[0].name {
            played.push(scene);
        }
    }
    Ok(played)
}

impl Act {
    /// Does it to the host `ix`; returns the moment from which the client may have noticed.
    ///
    /// # Errors
    /// Those of the stage.
    pub fn on(self, stage: &mut Stage, ix: usize) -> anyhow::Result<Instant> {
        match self {
            Self::StartAll => stage.start_all(),
            Self::Crash => stage.crash(ix),
            Self::CrashRestart => {
                let at = stage.crash(ix)?;
                stage.start(ix)?;
                Ok(at)
            }
            Self::Hang => stage.hang(ix),
            Self::Resume => stage.resume(ix),
            Self::PowerOff => stage.power_off(ix),
            Self::PowerOn => stage.power_on(ix),
            Self::LinkCut => stage.set_cable(ix, Net::Service, LinkState::Down),
            Self::LinkBack => stage.set_cable(ix, Net::Service, LinkState::Up),
            Self::Partition => stage.partition(&[ix], &[Net::Service]),
            Self::Isolate => stage.partition(&[ix], &Net::ALL),
            Self::Heal => stage.heal(),
            Self::AdvertLoss => {
                others(stage, ix, |stage, other| stage.lose(other, Loss::NoAdverts))
            }
            Self::AdvertsBack => {
                others(stage, ix, |stage, other| stage.lose_no_more(other, Loss::NoAdverts))
            }
            Self::Stop => stage.stop(ix),
            Self::Start => stage.start(ix),
            Self::ServiceDies => stage.set_service(ix, Mood::Dead),
            Self::ServiceBack => stage.set_service(ix, Mood::Serves),
            Self::ServicesDie => {
                let at = others(stage, ix, |stage, other| stage.set_service(other, Mood::Dead))?;
                sleep_until(now() + Health::falls_within());
                stage.set_service(ix, Mood::Dead)?;
                Ok(at)
            }
            Self::LinkFlaps => link_flaps(stage, ix),
            Self::RebootLoop => reboot_loop(stage, ix),
            Self::RouterLost => stage.set_router(LinkState::Down),
            Self::RouterLostHere => stage.lose(ix, Loss::NoRouter),
        }
    }
}

fn link_flaps(stage: &mut Stage, ix: usize) -> anyhow::Result<Instant> {
    let at = now();
    for n in 0..FLAPS {
        for (state, half) in [(LinkState::Down, 0), (LinkState::Up, 1)] {
            sleep_until(at + FLAP * n + FLAP / 2 * half);
            stage.set_cable(ix, Net::Service, state)?;
        }
    }
    Ok(at)
}

fn reboot_loop(stage: &mut Stage, ix: usize) -> anyhow::Result<Instant> {
    let at = now();
    for _ in 0..BOOTS {
        stage.power_off(ix)?;
        sleep_until(now() + BOOT);
        stage.power_on(ix)?;
        sleep_until(now() + BOOT);
    }
    Ok(at)
}

/// Does something to every host but `ix`; the moment before the first.
fn others<F>(stage: &mut Stage, ix: usize, act: F) -> anyhow::Result<Instant>
where
    F: Fn(&mut Stage, usize) -> anyhow::Result<Instant>,
{
    let at = now();
    for other in (0..stage.plan().hosts).filter(|other| *other != ix) {
        act(stage, other)?;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use super::*;

    fn names(of: &[&str]) -> Vec<&'static str> {
        let of: Vec<_> = of.iter().map(|n| (*n).to_owned()).collect();
        programme(&of).unwrap().into_iter().map(|s| s.name).collect()
    }

    #[test]
    fn what_must_come_before_is_played_too() {
        assert_eq!(names(&["resume"]), ["elect", "hang", "resume"]);
        assert_eq!(names(&["stop", "failback"]), ["elect", "stop", "failback"]);
        assert_eq!(names(&["elect"]), ["elect"]);
        assert_eq!(names(&[]).len(), DEFAULT);
    }

    #[test]
    fn an_unknown_scenario_is_told_the_known_ones() {
        let said = programme(&["explode".to_owned()]).unwrap_err().to_string();
        assert!(said.contains("explode") && said.contains("power-off"), "{said}");
    }

    #[test]
    fn scenes_that_follow_others_stand_right_behind_them() {
        for pair in SCENES.windows(2) {
            assert!(pair[1].after.is_none_or(|before| before == pair[0].name), "{}", pair[1].name);
        }
    }
}
