//! Events of the engine -> what hooks hear: the role of an instance, and of a sync group, when it changes.
//!
//! Active counts when the kernel has confirmed the addresses. A group is Active when all members are, in fault when one
//! is, Backup when none owns; in between it keeps its role. At the start a group speaks first, then its members; later
//! the members speak first (keepalived's order, which notify scripts know).

use crate::telemetry::cause_text;
use std::collections::BTreeMap;
use std::sync::Arc;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{Cause, Event, EventKind};
use vipd_core::engine::reload::Renumber;
use vipd_core::types::{Class, Family, HostIx, InstanceIx, State};

/// What an instance or a group is for hooks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The addresses are here.
    Active,
    /// Could own.
    Backup,
    /// Cannot own.
    Fault,
}

impl Role {
    /// As hooks call it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Backup => "backup",
            Self::Fault => "fault",
        }
    }
}

/// Who changed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Whom {
    /// An instance.
    Instance(InstanceIx),
    /// A sync group, by position in the model.
    Group(usize),
}

/// A role that changed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Whose.
    pub whom: Whom,
    /// Before; `None` at the start.
    pub from: Option<Role>,
    /// Now.
    pub to: Role,
}

/// What is known of an instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    states: BTreeMap<Option<Family>, State>,
    claimed: bool,
    unable: bool,
    /// What hooks were told last.
    pub role: Option<Role>,
    /// And before that.
    pub before: Option<Role>,
    /// The host that it came from, or went to, with the last change of state; `None`: nobody handed over.
    pub with: Option<HostIx>,
    /// Why it is what it is.
    pub reason: String,
    /// Owner, where known.
    pub owner: String,
    /// Epoch of the last claim here.
    pub epoch: String,
    /// Effective priority.
    pub priority: u8,
}

impl Known {
    /// The role by what is known; `None` while it is neither here nor there.
    fn judge(&self) -> Option<Role> {
        let any = |state: State| self.states.values().any(|s| *s == state);
        if any(State::Active) {
            return self.claimed.then_some(Role::Active);
        }
        if self.states.is_empty() {
            return None;
        }
        Some(if !any(State::Backup) || self.unable { Role::Fault } else { Role::Backup })
    }
}

/// The roles of all instances and groups.
#[derive(Debug)]
pub(super) struct Roles {
    model: Arc<Model>,
    instances: Vec<Known>,
    groups: Vec<Option<Role>>,
}

impl Roles {
    /// Nothing known yet.
    pub(super) fn new(model: Arc<Model>) -> Self {
        let instances = vec![Known::default(); model.instances.len()];
        let groups = vec![None; model.sync_groups.len()];
        Self { model, instances, groups }
    }

    /// Another configuration: roles go on by name.
    pub(super) fn reload(&mut self, model: Arc<Model>, renumber: &Renumber) {
        let before = std::mem::replace(self, Self::new(Arc::clone(&model)));
        for (was, known) in (0u16..).map(InstanceIx).zip(before.instances) {
            let now =
                renumber.instance(was).and_then(|ix| self.instances.get_mut(usize::from(ix.0)));
            if let Some(mine) = now {
                *mine = known;
            }
        }
        for (was, role) in before.model.sync_groups.iter().zip(before.groups) {
            let now = model.sync_groups.iter().position(|group| group.name == was.name);
            if let Some(mine) = now.and_then(|at| self.groups.get_mut(at)) {
                *mine = role;
            }
        }
    }

    /// What is known of `ix`.
    pub(super) fn known(&self, ix: InstanceIx) -> Option<&Known> {
        self.instances.get(usize::from(ix.0))
    }

    /// What hooks were told last of a group.
    pub(super) fn group(&self, at: usize) -> Option<Role> {
        self.groups.get(at).copied().flatten()
    }

    /// Takes `event`; gives the roles that changed, in the order in which hooks hear of them.
    pub(super) fn observe(&mut self, event: &Event) -> Vec<Change> {
        let Some(ix) = event.instance else { return Vec::new() };
        let Some(known) = self.instances.get_mut(usize::from(ix.0)) else { return Vec::new() };
        match &event.kind {
            // What a clean stop does is told once, when it is done. An instance that begins anew because of a reload is
            // Backup a moment later, and one that is gone is told as stopped.
            EventKind::Transition { cause: Cause::Stop | Cause::Reload, .. } => return Vec::new(),
            EventKind::Transition { to, cause, owner, priority, epoch, .. } => {
                known.states.insert(event.family, *to);
                if !known.states.values().any(|s| *s == State::Active) {
                    known.claimed = false;
                }
                known.reason = cause_text(&self.model, cause);
                known.with = match cause {
                    Cause::MovedHere(host) | Cause::MovedAway(Some(host)) => Some(*host),
                    _ => None,
                };
                known.owner = owner.map(|owner| owner.to_string()).unwrap_or_default();
                known.priority = *priority;
                if *to == State::Active {
                    known.epoch = epoch.to_string();
                }
            }
            EventKind::Claimed { .. } => known.claimed = true,
            EventKind::Standing { class, priority, .. } => {
                known.unable = *class == Class::Unable;
                known.priority = *priority;
            }
            _ => return Vec::new(),
        }
        self.changed(ix)
    }

    fn changed(&mut self, ix: InstanceIx) -> Vec<Change> {
        let group = self.model.sync_groups.iter().position(|g| g.members.contains(&ix));
        let waits = group.is_some_and(|g| self.groups.get(g).is_some_and(Option::is_none));
        if let (true, Some(group)) = (waits, group) {
            return self.first_of_group(group);
        }
        let mut changes: Vec<Change> = self.settle(ix).into_iter().collect();
        changes.extend(group.and_then(|group| self.settle_group(group)));
        changes
    }

    /// Once each member has a role: the group, then the members.
    fn first_of_group(&mut self, group: usize) -> Vec<Change> {
        let Some(members) = self.model.sync_groups.get(group).map(|g| g.members.clone()) else {
            return Vec::new();
        };
        if members.iter().any(|ix| self.known(*ix).and_then(Known::judge).is_none()) {
            return Vec::new();
        }
        let of_members: Vec<Change> = members.iter().filter_map(|ix| self.settle(*ix)).collect();
        self.settle_group(group).into_iter().chain(of_members).collect()
    }

    fn settle(&mut self, ix: InstanceIx) -> Option<Change> {
        let known = self.instances.get_mut(usize::from(ix.0))?;
        let (from, to) = (known.role, known.judge()?);
        known.role = Some(to);
        if from != Some(to) {
            known.before = from;
        }
        (from != Some(to)).then_some(Change { whom: Whom::Instance(ix), from, to })
    }

    fn settle_group(&mut self, group: usize) -> Option<Change> {
        let members = &self.model.sync_groups.get(group)?.members;
        let roles: Vec<Role> = members.iter().filter_map(|ix| self.known(*ix)?.role).collect();
        let any = |role: Role| roles.contains(&role);
        let to = match () {
            () if any(Role::Fault) => Role::Fault,
            () if !any(Role::Backup) => Role::Active,
            () if !any(Role::Active) => Role::Backup,
            () => self.group(group).unwrap_or(Role::Backup),
        };
        let from = self.groups.get_mut(group)?.replace(to);
        (from != Some(to)).then_some(Change { whom: Whom::Group(group), from, to })
    }
}
