//! Would an order be carried out, and what would it do? Looks and changes nothing: it answers refusals, `--dry-run` and
//! `vipd simulate`.

use super::super::Engine;
use super::super::io::OperatorOrder;
use crate::policy::replica::Staleness;
use crate::time::Instant;
use crate::types::{HostIx, InstanceIx, Priority, State};

type Judgement = Result<String, String>;

impl Engine {
    /// What `order` would do now, for `instance` or, with `None`, for all of this host.
    ///
    /// # Errors
    /// Why it is refused, and what to do about it.
    pub fn judge(&self, instance: Option<InstanceIx>, order: &OperatorOrder) -> Judgement {
        let known = |ix: &InstanceIx| usize::from(ix.0) < self.model.instances.len();
        if let Some(ix) = instance.filter(|ix| !known(ix)) {
            return Err(format!("there is no instance number {}", ix.0));
        }
        if self.stopping || self.closing.is_some() {
            return Err("the agent is stopping".into());
        }
        match order {
            OperatorOrder::Promote { accept_data_loss } => {
                self.judge_promote(instance, *accept_data_loss)
            }
            OperatorOrder::Acknowledge => Ok("what is held may move again".into()),
            OperatorOrder::Move { to, force } => self.judge_move(instance, *to, *force),
            OperatorOrder::Failback => self.judge_failback(instance),
            OperatorOrder::Release => self.judge_release(instance),
            OperatorOrder::SetPriority { priority, until } => {
                self.judge_priority(instance, *priority, *until)
            }
            OperatorOrder::Drain { until, last_resort, allow_outage } => {
                self.judge_drain(instance, *until, *last_resort, *allow_outage)
            }
            OperatorOrder::Undrain => self.judge_undrain(instance),
            OperatorOrder::Freeze { until } => {
                let names = self.names(self.meant_groups(instance));
                self.in_time(*until)?;
                Ok(format!(
                    "{names}: no preemption and no voluntary move on any host of the group; a dead owner is replaced"
                ))
            }
            OperatorOrder::Thaw => {
                let meant = self.meant_groups(instance);
                let frozen = meant.iter().any(|ix| self.frozen_instance(*ix).is_some());
                let names = self.names(meant);
                if frozen {
                    Ok(format!("{names}: moves as the configuration says"))
                } else {
                    Err(format!("{names}: not frozen, nothing to thaw"))
                }
            }
        }
    }

    fn in_time(&self, until: Option<Instant>) -> Result<(), String> {
        match until {
            Some(at) if at <= self.now.mono => Err("its end has passed already".into()),
            _ => Ok(()),
        }
    }

    /// Nothing else is under way for these.
    fn at_rest(&self, instances: &[InstanceIx]) -> Result<(), String> {
        match instances.iter().find(|ix| self.busy(**ix)) {
            None => Ok(()),
            Some(ix) => Err(format!(
                "another operation is under way for {}: wait for its end",
                self.name(*ix)
            )),
        }
    }

    fn thawed(&self, instances: &[InstanceIx], way_out: &str) -> Result<(), String> {
        match instances.iter().find(|ix| self.frozen_instance(**ix).is_some()) {
            None => Ok(()),
            Some(ix) => Err(format!("{} is frozen: `vipd thaw` first{way_out}", self.name(*ix))),
        }
    }

    /// The instances of the order that this host owns, all at rest.
    fn to_move(&self, instance: Option<InstanceIx>) -> Result<Vec<InstanceIx>, String> {
        let owned = self.owned(self.meant_groups(instance));
        self.at_rest(&owned)?;
        let leaving = |ix: &&InstanceIx| {
            self.units_of(**ix).into_iter().any(|u| self.units[u].leaving.is_some())
        };
        if let Some(ix) = owned.iter().find(leaving) {
            return Err(format!("{} is being handed over already", self.name(*ix)));
        }
        if !owned.is_empty() {
            return Ok(owned);
        }
        let Some(ix) = instance else {
            return Err("this host owns nothing that could be moved".into());
        };
        let owner = self.units_of(ix).first().and_then(|u| self.living_owner(*u));
        Err(match owner {
            Some(owner) => format!(
                "{} is on {}: give the order there, or `vipd promote` to have it here",
                self.name(ix),
                self.host_name(owner)
            ),
            None => format!("{} is not on this host: give the order where it is", self.name(ix)),
        })
    }

    fn judge_move(
        &self,
        instance: Option<InstanceIx>,
        to: Option<HostIx>,
        force: bool,
    ) -> Judgement {
        if let Some(host) = to.filter(|host| usize::from(host.0) >= self.model.hosts.len()) {
            return Err(format!("there is no host number {} in the configuration", host.0));
        }
        let owned = self.to_move(instance)?;
        if !force {
            self.thawed(&owned, ", or --force")?;
        }
        let mut told = Vec::new();
        for ix in owned {
            let name = self.name(ix);
            told.push(match self.target(ix, to, force)? {
                Some(host) => {
                    let overridden = self.overridden(ix, host);
                    let host = self.host_name(host);
                    format!("{name} moves to {host} and stays there until failback{overridden}")
                }
                None => format!(
                    "{name} is offered to whoever comes and does not come back before failback; it stays where nobody \
                     comes"
                ),
            });
        }
        Ok(told.join("; "))
    }

    /// What force overrides for this move.
    fn overridden(&self, ix: InstanceIx, host: HostIx) -> String {
        let objections = self.objections_of_group(ix, host).into_iter().map(|o| o.text);
        let frozen = self.frozen_instance(ix).map(|_| "moves are frozen".to_owned());
        let all: Vec<String> = objections.chain(frozen).collect();
        if all.is_empty() { String::new() } else { format!(", overriding: {}", all.join("; ")) }
    }

    fn judge_release(&self, instance: Option<InstanceIx>) -> Judgement {
        let owned = self.to_move(instance)?;
        self.thawed(&owned, "")?;
        for ix in &owned {
            self.target(*ix, None, false)?;
        }
        Ok(format!("{}: released to whoever comes first", self.names(owned)))
    }

    fn judge_promote(&self, instance: Option<InstanceIx>, accept_data_loss: bool) -> Judgement {
        let Some(ix) = instance else {
            return Err("say which instance is to be promoted".into());
        };
        let name = self.name(ix);
        let is = |state: State| move |u: &usize| self.units[*u].state() == state;
        let units = self.units_of(ix);
        self.at_rest(&[ix])?;
        if units.iter().all(is(State::Active)) {
            return Err(format!("{name} is active on this host already"));
        }
        if !units.iter().any(is(State::Backup)) {
            return Err(format!(
                "{name} cannot be active on this host: see `vipd status` for the reason"
            ));
        }
        if let Some(why) = self.promotion_refused(ix) {
            return Err(why);
        }
        if units.iter().any(|u| self.owner_speaks(*u)) {
            // Where nobody owns a promotion is no preemption.
            self.thawed(&[ix], "")?;
        }
        let stale = units.iter().map(|u| self.group_staleness(*u)).max().unwrap_or_default();
        let owned = units.iter().any(|u| self.owner_speaks(*u));
        let loses = stale == Staleness::Forbids || (stale > Staleness::Fresh && owned);
        if loses && !accept_data_loss {
            let way_out = if owned { "give `vipd move` where it is, or " } else { "" };
            return Err(format!(
                "the copy of {name}'s state here is {}: {way_out}--accept-data-loss claims all the same, and what is \
                 missing is lost",
                self.age_text(ix)
            ));
        }
        let lost = if loses { ", and what its copy of the state lacks is lost" } else { "" };
        Ok(format!("{name} is told to claim{lost}"))
    }

    fn judge_failback(&self, instance: Option<InstanceIx>) -> Judgement {
        let meant = self.meant_groups(instance);
        self.at_rest(&meant)?;
        let kept = |ix: &InstanceIx| {
            self.ordered_of(*ix).away.is_some()
                || self.units_of(*ix).into_iter().any(|u| {
                    self.units[u].pinned || self.living_peers(u).any(|(_, r)| r.orders.pinned)
                })
        };
        let kept: Vec<InstanceIx> = meant.into_iter().filter(kept).collect();
        if kept.is_empty() {
            return Err("nothing was moved that could fail back: no host is pinned, and none was told to leave the \
                        address where it is"
                .into());
        }
        Ok(format!("{}: goes where priorities and checks say", self.names(kept)))
    }

    fn judge_priority(
        &self,
        instance: Option<InstanceIx>,
        priority: Option<Priority>,
        until: Option<Instant>,
    ) -> Judgement {
        self.in_time(until)?;
        let meant = self.meant(instance);
        let Some(priority) = priority else {
            let changed = meant.into_iter().filter(|ix| self.priority_order(*ix).is_some());
            let names = self.names(changed);
            return if names.is_empty() {
                Err("the priority is the configured one already".into())
            } else {
                Ok(format!("{names}: the configured priority again"))
            };
        };
        if priority.is_owner() {
            return Err(
                "255 is for the owner of the address, by configuration: give 1 to 254".into()
            );
        }
        let owner = meant.iter().find(|ix| self.model.instance(**ix).priority.is_owner());
        if let Some(ix) = owner {
            return Err(format!(
                "{} has priority 255 here, which must not change: drain or move it instead",
                self.name(*ix)
            ));
        }
        Ok(format!("{}: priority {priority} until it is taken back", self.names(meant)))
    }

    fn judge_drain(
        &self,
        instance: Option<InstanceIx>,
        until: Option<Instant>,
        last_resort: bool,
        allow_outage: bool,
    ) -> Judgement {
        self.in_time(until)?;
        let meant = self.meant_groups(instance);
        self.at_rest(&meant)?;
        let owned = self.owned(meant);
        if !owned.is_empty() {
            self.to_move(instance)?;
            self.thawed(&owned, "")?;
        }
        let host = self.host_name(self.model.host);
        let mut told = Vec::new();
        for ix in owned {
            let name = self.name(ix);
            told.push(match self.target(ix, None, false) {
                Ok(Some(host)) => format!("{name} moves to {}", self.host_name(host)),
                Ok(None) => format!("{name} is offered to whoever comes"),
                Err(why) if allow_outage => format!("{name} is released, an outage: {why}"),
                Err(_) if last_resort => format!("{name} stays here as the last resort"),
                Err(why) => {
                    return Err(format!(
                        "{why}; --last-resort keeps it here, --allow-outage releases it all the same"
                    ));
                }
            });
        }
        told.push(format!("{host} claims nothing until undrained"));
        Ok(told.join("; "))
    }

    fn judge_undrain(&self, instance: Option<InstanceIx>) -> Judgement {
        let host = self.host_name(self.model.host);
        let meant = self.meant_groups(instance);
        self.at_rest(&meant)?;
        if instance.is_some() && self.orders.host.is_some() {
            return Err(format!("the whole of {host} is drained: undrain the host"));
        }
        let drained: Vec<InstanceIx> =
            meant.into_iter().filter(|ix| self.drain_of(*ix).is_some()).collect();
        if drained.is_empty() {
            return Err(format!("nothing of this is drained on {host}"));
        }
        Ok(format!("{}: {host} takes part again", self.names(drained)))
    }
}
