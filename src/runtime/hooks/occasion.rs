//! What a program is told: made from the model and from what is known of the instance at that moment.

use super::super::roles::{Role, Roles, Whom};
use crate::exec::protocol::{Event as Word, Occasion, Peer, Subject};
use crate::telemetry::operation_name;
use vipd_core::config::model::Model;
use vipd_core::types::{HostIx, InstanceIx};

/// `word` of `whom`, whose role was `from` before; part of the order `operation`, where one is known.
pub(super) fn of(
    model: &Model,
    roles: &Roles,
    whom: Whom,
    from: Option<Role>,
    word: Word,
    operation: Option<u64>,
) -> Occasion {
    let mut occasion = Occasion {
        subject: Subject::Group,
        name: String::new(),
        event: word,
        role: role(roles, whom, from, word).to_owned(),
        prev_role: from.map_or("", Role::word).to_owned(),
        reason: String::new(),
        host: model.host_name(model.host).to_string(),
        owner: String::new(),
        epoch: String::new(),
        priority: 0,
        vips: Vec::new(),
        vrid: 0,
        interface: String::new(),
        skipped: 0,
        peers: Vec::new(),
        op_id: operation.map(operation_name).unwrap_or_default(),
        deadline_ms: 0,
    };
    match whom {
        Whom::Group(at) => {
            occasion.name =
                model.sync_groups.get(at).map(|g| g.name.to_string()).unwrap_or_default();
        }
        Whom::Instance(ix) => of_instance(model, roles, ix, &mut occasion),
    }
    occasion
}

fn of_instance(model: &Model, roles: &Roles, ix: InstanceIx, occasion: &mut Occasion) {
    let instance = model.instance(ix);
    occasion.subject = Subject::Instance;
    occasion.name = instance.name.to_string();
    occasion.vips = instance.claimed().map(ToString::to_string).collect();
    occasion.vrid = instance.vrid.get();
    occasion.interface = model
        .links
        .get(usize::from(instance.link.0))
        .map(|link| link.name.to_string())
        .unwrap_or_default();
    occasion.priority = instance.priority.get();
    let others = (0u8..).map(HostIx).zip(&instance.priorities);
    let others = others.filter(|(host, part)| part.is_some() && *host != model.host);
    occasion.peers = others.map(|(host, _)| peer(model, host)).collect();
    let Some(known) = roles.known(ix) else { return };
    occasion.reason.clone_from(&known.reason);
    occasion.owner.clone_from(&known.owner);
    occasion.epoch.clone_from(&known.epoch);
    if known.priority > 0 {
        occasion.priority = known.priority;
    }
    if let (Some(host), Word::PostPromote | Word::PostDemote) = (known.with, occasion.event) {
        occasion.peers = vec![peer(model, host)];
    }
}

/// Another host, as programs reach it.
pub(super) fn peer(model: &Model, host: HostIx) -> Peer {
    let paths = model.hosts.get(usize::from(host.0)).map(|h| h.paths.as_slice());
    Peer {
        host: model.host_name(host).to_string(),
        addresses: paths.unwrap_or_default().iter().map(ToString::to_string).collect(),
    }
}

/// The word for the role at that moment; of the older events what they announce.
fn role(roles: &Roles, whom: Whom, from: Option<Role>, word: Word) -> &'static str {
    match (word, whom) {
        (Word::Active, _) => "active",
        (Word::Backup, _) => "backup",
        (Word::Fault, _) => "fault",
        (Word::Stop, _) => "stop",
        (Word::Activate, _) | (_, Whom::Group(_)) => from.map_or("", Role::word),
        (_, Whom::Instance(ix)) => {
            roles.known(ix).and_then(|known| known.role).map_or("", Role::word)
        }
    }
}
