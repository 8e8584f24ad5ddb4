//! What is done to a room: services, the router, agents, power, cables and packets, and the end of it all.
//!
//! Every fault goes through here, so that it is in the journal with its moment and the eyes know who lost power.

use super::Stage;
use crate::lab::agent::Condition;
use crate::lab::clock::now;
use crate::lab::faults::Loss;
use crate::lab::netlink::LinkState;
use crate::lab::service::Mood;
use crate::lab::topology::Net;
use anyhow::Context as _;
use std::time::Duration;
use vipd_core::time::Instant;

/// How long an agent may take to end after SIGTERM.
const STOP_BOUND: Duration = Duration::from_secs(10);

impl Stage {
    /// Makes the service of a host die, hang or serve.
    ///
    /// # Errors
    /// When the room has no services, the host is off, or its port cannot be had.
    pub fn set_service(&mut self, ix: usize, mood: Mood) -> anyhow::Result<Instant> {
        let at = self.note(
            ix,
            match mood {
                Mood::Serves => "service serves",
                Mood::Hangs => "service hangs",
                Mood::Dead => "service dies",
            },
        );
        let service = self.services.get_mut(ix);
        let service =
            service.context("this room has no services: its plan has no health section")?;
        service.set(self.room.host(ix).ns()?, mood)?;
        Ok(at)
    }

    /// Takes the router off its switch, or puts it back.
    ///
    /// # Errors
    /// When the room has no router, or the switch refuses.
    pub fn set_router(&mut self, state: LinkState) -> anyhow::Result<Instant> {
        let at = now();
        self.journal.note(
            at,
            match state {
                LinkState::Down => "router lost",
                LinkState::Up => "router back",
            },
        );
        self.room.set_router(state)?;
        self.router_lost = state == LinkState::Down;
        Ok(at)
    }

    /// Starts the agent of a host.
    ///
    /// # Errors
    /// When it is up already, or its host is off.
    pub fn start(&mut self, ix: usize) -> anyhow::Result<Instant> {
        let at = self.note(ix, "agent started");
        self.agents[ix].start(self.room.host(ix).ns()?)?;
        self.start_replicator(ix)?;
        Ok(at)
    }

    /// Starts every agent that is down.
    ///
    /// # Errors
    /// As [`Stage::start`].
    pub fn start_all(&mut self) -> anyhow::Result<Instant> {
        let at = now();
        for ix in 0..self.agents.len() {
            if self.agents[ix].condition() == Condition::Down {
                self.start(ix)?;
            }
        }
        Ok(at)
    }

    /// Kills the agent of a host with all its processes.
    ///
    /// # Errors
    /// When it is not up.
    pub fn crash(&mut self, ix: usize) -> anyhow::Result<Instant> {
        self.note(ix, "agent killed (SIGKILL)");
        self.agents[ix].crash(self.room.host(ix).ns()?)
    }

    /// Stops the agent of a host in its tracks.
    ///
    /// # Errors
    /// When it is not up.
    pub fn hang(&mut self, ix: usize) -> anyhow::Result<Instant> {
        self.note(ix, "agent hangs (SIGSTOP)");
        self.agents[ix].hang(self.room.host(ix).ns()?)
    }

    /// Lets a hung agent go on.
    ///
    /// # Errors
    /// When it is not up.
    pub fn resume(&mut self, ix: usize) -> anyhow::Result<Instant> {
        self.note(ix, "agent goes on (SIGCONT)");
        self.agents[ix].resume(self.room.host(ix).ns()?)
    }

    /// Stops the agent of a host cleanly and waits for its end.
    ///
    /// # Errors
    /// When it is not up or does not end within 10 s.
    pub fn stop(&mut self, ix: usize) -> anyhow::Result<Instant> {
        self.note(ix, "agent stopped (SIGTERM)");
        self.agents[ix].stop(self.room.host(ix).ns()?, STOP_BOUND)
    }

    /// Cuts the power of a host.
    ///
    /// # Errors
    /// When it is off already.
    pub fn power_off(&mut self, ix: usize) -> anyhow::Result<Instant> {
        let at = self.note(ix, "power cut");
        self.room.power_off(ix)?;
        if let Some(service) = self.services.get_mut(ix) {
            service.end();
        }
        self.eyes.close(ix, at);
        self.agents[ix].lost();
        if let Some(replicator) = self.replicators.get_mut(ix) {
            replicator.lost();
        }
        // The folder of a running system is in memory and goes with the power.
        let _not_there = std::fs::remove_dir_all(self.agents[ix].dir().join("run"));
        Ok(at)
    }

    /// Gives a host its power back, and starts its agent as a boot would.
    ///
    /// # Errors
    /// When it is on already.
    pub fn power_on(&mut self, ix: usize) -> anyhow::Result<Instant> {
        let at = self.note(ix, "power on");
        self.room.power_on(ix)?;
        self.eyes.watch(&self.room, ix)?;
        if let Some(service) = self.services.get_mut(ix) {
            service.set(self.room.host(ix).ns()?, Mood::Serves)?;
        }
        self.start(ix)?;
        Ok(at)
    }

    /// Pulls or plugs the cable of a host; pulled, its carrier is lost.
    ///
    /// # Errors
    /// When the host is off.
    pub fn set_cable(&mut self, ix: usize, net: Net, state: LinkState) -> anyhow::Result<Instant> {
        let what = match state {
            LinkState::Down => "pulled",
            LinkState::Up => "plugged in",
        };
        let at = self.note(ix, format!("cable of {} {what}", net.link()));
        self.room.set_cable(ix, net, state)?;
        Ok(at)
    }

    /// Cuts a host off on some networks, with its carrier left.
    ///
    /// # Errors
    /// When a switch refuses.
    pub fn partition(&mut self, island: &[usize], nets: &[Net]) -> anyhow::Result<Instant> {
        let at = now();
        let links: Vec<_> = nets.iter().map(|n| n.link()).collect();
        for ix in island {
            self.note(*ix, format!("cut off on {}, carrier stays", links.join(" and ")));
        }
        self.split = true;
        for net in nets {
            self.room.partition(island, *net)?;
        }
        Ok(at)
    }

    /// Joins both networks again.
    ///
    /// # Errors
    /// When a switch refuses.
    pub fn heal(&mut self) -> anyhow::Result<Instant> {
        let at = now();
        self.journal.note(at, "networks joined");
        for net in Net::ALL {
            self.room.heal(net)?;
        }
        self.split = false;
        Ok(at)
    }

    /// Begins to swallow some packets of a host.
    ///
    /// # Errors
    /// When the program `nft` is missing or refuses.
    pub fn lose(&mut self, ix: usize, loss: Loss) -> anyhow::Result<Instant> {
        let at = self.note(ix, loss.to_string());
        self.room.lose(ix, loss)?;
        self.losses.push((ix, loss));
        Ok(at)
    }

    /// Ends [`Stage::lose`].
    ///
    /// # Errors
    /// When it was not begun, or as there.
    pub fn lose_no_more(&mut self, ix: usize, loss: Loss) -> anyhow::Result<Instant> {
        let at = self.note(ix, format!("no more: {loss}"));
        self.room.lose_no_more(ix, loss)?;
        self.losses.retain(|l| *l != (ix, loss));
        Ok(at)
    }

    /// Undoes every fault that this stage made and waits for a single owner.
    ///
    /// # Errors
    /// When nobody owns within `bound`.
    pub fn restore(&mut self, bound: Duration) -> anyhow::Result<usize> {
        if self.split {
            self.heal()?;
        }
        for (ix, loss) in self.losses.clone() {
            // A host that lost its power meanwhile took its filter with it.
            if self.room.host(ix).is_on() {
                self.lose_no_more(ix, loss)?;
            }
        }
        self.losses.clear();
        if self.router_lost {
            self.set_router(LinkState::Up)?;
        }
        for ix in 0..self.agents.len() {
            if !self.room.host(ix).is_on() {
                self.power_on(ix)?;
            }
            for net in Net::ALL {
                self.room.set_cable(ix, net, LinkState::Up)?;
            }
            if !self.services.is_empty() && self.service(ix) != Mood::Serves {
                self.set_service(ix, Mood::Serves)?;
            }
            if self.agents[ix].condition() == Condition::Hung {
                self.resume(ix)?;
            }
            if self.agents[ix].has_ended() {
                self.note(ix, "agent had ended by itself");
            }
        }
        self.start_all()?;
        self.wait_owner(bound)
    }

    /// Lets every agent that is up begin anew, without what it remembers of earlier scenes.
    ///
    /// # Errors
    /// When one does not stop, or its state cannot be removed.
    pub fn forget(&mut self) -> anyhow::Result<()> {
        for ix in 0..self.agents.len() {
            if self.agents[ix].condition() == Condition::Running {
                self.stop(ix)?;
            }
            let state = self.agents[ix].dir().join("state");
            if state.exists() {
                std::fs::remove_dir_all(&state)
                    .with_context(|| format!("cannot remove {}", state.display()))?;
            }
        }
        Ok(())
    }

    /// Writes down what is about to be done to a host; the moment.
    fn note(&self, ix: usize, what: impl AsRef<str>) -> Instant {
        let at = now();
        self.journal.note(at, format!("{}: {}", self.room.host(ix).name(), what.as_ref()));
        at
    }
}
