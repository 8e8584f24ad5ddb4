//! The scenes: what is done to whom, and what must come of it. A table, played by `play`.

use super::clock::now;
use super::faults::Loss;
use super::netlink::LinkState;
use super::stage::Stage;
use super::topology::Net;
use anyhow::Context as _;
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
}

/// What must come of a scene.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Expect {
    /// One owner alone, and the client is answered.
    Owner,
    /// Another host than the one meant owns, and the client is answered.
    Successor,
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
    Scene { name, about, after, whom, act, expect }
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
        }
    }
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
