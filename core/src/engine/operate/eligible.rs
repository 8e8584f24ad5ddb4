//! Who may take an instance over, and what speaks against it.

use super::super::Engine;
use crate::types::{Class, HostIx, InstanceIx, State};
use crate::wire::heartbeat::{InstanceRecord, Refusal};

/// What speaks against a host as the target of a move.
pub(super) struct Objection {
    /// Why, and what to do about it.
    pub(super) text: String,
    /// Can an operator insist?
    pub(super) overridable: bool,
    /// Does it pass by itself, and soon?
    pub(super) passes: bool,
}

impl Engine {
    /// Where the instance would go: a host of the group, or `None`: to whoever comes, as with foreign peers.
    pub(super) fn target(
        &self,
        ix: InstanceIx,
        to: Option<HostIx>,
        force: bool,
    ) -> Result<Option<HostIx>, String> {
        if self.peers.is_none() {
            return self.unheard_target(ix, to);
        }
        if let Some(host) = to {
            let objections = self.objections_of_group(ix, host);
            let stands = objections.into_iter().find(|o| !force || !o.overridable);
            return match stands {
                None => Ok(Some(host)),
                Some(Objection { text, overridable: true, .. }) => {
                    Err(format!("{text}; --force overrides this"))
                }
                Some(Objection { text, .. }) => Err(text),
            };
        }
        let hosts = || self.others_of(ix);
        let able = |host: &HostIx| {
            self.objections_of_group(ix, *host).is_empty()
                && self.together(ix).into_iter().all(|o| !self.is_cold(o, *host))
        };
        let best = hosts().filter(able).max_by(|a, b| {
            let standing = |host: HostIx| {
                let u = *self.units_of(ix).first()?;
                Some((u, host, self.record(host, u)?))
            };
            match (standing(*a), standing(*b)) {
                (Some((u, a, ra)), Some((_, b, rb))) => {
                    self.standing_of(u, a, &ra).compare(&self.standing_of(u, b, &rb))
                }
                _ => a.0.cmp(&b.0),
            }
        });
        if best.is_some() || force {
            return Ok(best);
        }
        let why: Vec<String> = hosts()
            .map(|host| match self.objections_of_group(ix, host).into_iter().next() {
                Some(objection) => objection.text,
                None => format!(
                    "{} is a cold standby of {}: name it with --to",
                    self.host_name(host),
                    self.name(ix)
                ),
            })
            .collect();
        Err(format!("nobody can take {} over: {}", self.name(ix), why.join("; ")))
    }

    /// Without heartbeats nobody is known; VRRP chooses.
    fn unheard_target(&self, ix: InstanceIx, to: Option<HostIx>) -> Result<Option<HostIx>, String> {
        let others: Vec<HostIx> = self.others_of(ix).collect();
        match to {
            None => Ok(None),
            Some(host) if others == [host] => Ok(None),
            Some(host) if host == self.model.host => {
                Err(format!("{} is on {} already", self.name(ix), self.host_name(host)))
            }
            Some(host) if !others.contains(&host) => Err(self.no_part(ix, host)),
            Some(_) => Err("without heartbeats VRRP chooses the successor: leave out --to, or give the hosts paths in \
                            the configuration"
                .into()),
        }
    }

    /// Hosts that take part in the instance.
    fn candidates(&self, ix: InstanceIx) -> impl Iterator<Item = HostIx> + '_ {
        let priorities = self.model.instance(ix).priorities.iter();
        (0u8..).map(HostIx).zip(priorities).filter(|(_, p)| p.is_some()).map(|(host, _)| host)
    }

    /// The same without this one.
    pub(super) fn others_of(&self, ix: InstanceIx) -> impl Iterator<Item = HostIx> + '_ {
        self.candidates(ix).filter(|host| *host != self.model.host)
    }

    fn no_part(&self, ix: InstanceIx, host: HostIx) -> String {
        let (name, host) = (self.name(ix), self.model.hosts.get(usize::from(host.0)));
        match host {
            Some(host) => {
                format!("{} takes no part in {name}: it has no priority there", host.name)
            }
            None => "there is no such host in the configuration".into(),
        }
    }

    /// The same for all that move together.
    pub(super) fn objections_of_group(&self, ix: InstanceIx, host: HostIx) -> Vec<Objection> {
        self.together(ix).into_iter().flat_map(|ix| self.objections(ix, host)).collect()
    }

    /// What speaks against `host`, as far as this host knows; that host judges again.
    fn objections(&self, ix: InstanceIx, host: HostIx) -> Vec<Objection> {
        let never = |text| vec![Objection { text, overridable: false, passes: false }];
        let name = self.name(ix);
        if !self.candidates(ix).any(|c| c == host) {
            return never(self.no_part(ix, host));
        }
        let who = self.host_name(host);
        if host == self.model.host {
            return never(format!("{name} is on {who} already"));
        }
        let Some(u) = self.units_of(ix).first().copied() else {
            return never(format!("{name} has no address on this host"));
        };
        let living = self.living_peers(u).find(|(peer, _)| *peer == host).map(|(_, r)| *r);
        let Some(record) = living else {
            return never(match self.record(host, u) {
                Some(_) => format!("{who} is silent on all heartbeat paths: is it up?"),
                None => format!(
                    "{who} has said nothing of {name}: is its agent running, with the same configuration?"
                ),
            });
        };
        if record.class == Class::Unable || record.state == State::Initialize {
            return never(format!(
                "{who} cannot own {name}: see `vipd status` there for what is missing"
            ));
        }
        if record.state == State::Active {
            return never(format!("{who} owns {name} as well: this has to be settled first"));
        }
        let doubts = [
            (record.class == Class::Failing, false, format!("a check of {name} fails on {who}")),
            (
                record.class == Class::Drained && !record.stale,
                false,
                format!("{who} is drained: undrain it there first"),
            ),
            (
                record.stale,
                true,
                format!(
                    "the copy of {name}'s state on {who} is old or unknown: see `vipd status` there"
                ),
            ),
            (
                !self.is_heard_by(u, host, &record),
                false,
                format!(
                    "{who} does not hear the adverts of this host: look at the service network and its firewall"
                ),
            ),
        ];
        let doubts = doubts.into_iter().filter(|(there, ..)| *there);
        doubts.map(|(_, passes, text)| Objection { text, overridable: true, passes }).collect()
    }

    fn is_heard_by(&self, u: usize, host: HostIx, record: &InstanceRecord) -> bool {
        let own = self.peers.as_ref().map(|p| p.own_hash);
        record.hears == own || self.reaches_host(u, host) == Some(true)
    }

    /// Why `host` said no.
    pub(super) fn refusal_text(&self, host: HostIx, ix: InstanceIx, why: Refusal) -> String {
        let (name, host) = (self.name(ix), self.host_name(host));
        let why = match why {
            Refusal::Unable => "cannot own it: see `vipd status` there",
            Refusal::Failing => "a check fails there; --force overrides this",
            Refusal::Drained => "it is drained: undrain it first, or --force",
            Refusal::Frozen => "moves are frozen: thaw first, or --force",
            Refusal::Starting => "it has just started and may not claim yet: try again in a minute",
            Refusal::Stale => {
                "its copy of the state is old or unknown: see `vipd status` there; --force overrides this"
            }
            Refusal::Stopping => "its agent is stopping",
            Refusal::Activation => "its activation failed: see its log",
            Refusal::Vetoed => {
                "a pre-promote hook said no: its log and `vipd history` there say why"
            }
            Refusal::Suppressed => {
                "it lost the address too often lately: `vipd ack` there, or --force"
            }
            Refusal::Deaf => {
                "it does not hear the adverts of this host: look at the service network; --force overrides this"
            }
            Refusal::Other => "for a reason that this release does not know: see its log",
        };
        format!("{name} stays here, {host} refused: {why}")
    }
}
