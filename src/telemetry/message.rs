//! The message ids of the journal: one fixed number per kind of event, so that `journalctl MESSAGE_ID=...` and alerts
//! on the journal go by it and not by words. `docs/events.md` lists them; a number is never changed or used again.

use vipd_core::engine::io::EventKind;

/// A kind of event.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// How the documents call it, and the field `VIPD_EVENT`.
    pub(super) name: &'static str,
    /// 128 bits, as journald writes them.
    pub(super) id: &'static str,
}

macro_rules! messages {
    ($($constant:ident $name:literal $id:literal;)*) => {
        $(const $constant: Message = Message { name: $name, id: $id };)*
        /// All of them, in the order of the document.
        #[cfg(test)]
        const ALL: &[Message] = &[$($constant),*];
    };
}

messages! {
    TRANSITION "transition" "ab5e72e4931e497595b332f632186413";
    CLAIMED "claimed" "179cfb9945a64b098e87b54d4d7779c0";
    RELEASED "released" "b7fbfc4bdb2d4f2496371a825e315bc7";
    KERNEL_FAULT "kernel-fault" "6a9d2b76a0d144e4b454ea92b636f5ef";
    REPAIRED "repaired" "a68a2a6be85442e2b96ae8870b4347ad";
    REFUSED "refused" "e085f64378b5478b888eb5ad25b4a2fd";
    PEER "peer" "af5c383feb614e5ba85bcd04b78075a1";
    BOOT_COUNTER "boot-counter" "baa870fb1afe4ff8baa542ea6e01710b";
    ALARM "alarm" "3431df858b644615bdb0ef0295045b27";
    ALARM_OVER "alarm-over" "bc069046cbd04b93bf9078ee23a354d2";
    CHECK "check" "7def4ce2b777408092cdfc25ff00851a";
    STANDING "standing" "fca849750e334a4da72a22ab7a51dff5";
    REMEMBER "remember" "1879a4a9f0a74e568f6fef7767b73213";
    OPERATION "operation" "48442ce263504b9f9cf7276f68c5e5a2";
    ROLE "role" "650f7884936a479b81829f63914590b6";
    UNSYNCED "unsynced" "a788bf25866f430fae3713a89efc5cf6";
    REPLICA "replica" "5d1f0a7c3b6e4f0e9a2c8d4471be6035";
    VETOED "vetoed" "c4b1d7e25f0a4c6d8e3397ab1f52d08c";
}

/// What the replicator tells.
pub(super) const fn replica() -> Message {
    REPLICA
}

/// A condition that is none of the engine's began or ended.
pub(super) const fn alarm(on: bool) -> Message {
    if on { ALARM } else { ALARM_OVER }
}

/// What kind of event it is.
pub(super) const fn of(event: &EventKind) -> Message {
    match event {
        EventKind::Transition { .. } => TRANSITION,
        EventKind::Claimed { .. } => CLAIMED,
        EventKind::Released => RELEASED,
        EventKind::KernelFailed(_) => KERNEL_FAULT,
        EventKind::Repaired(_) => REPAIRED,
        EventKind::Refused { .. } => REFUSED,
        EventKind::Peer { .. } => PEER,
        EventKind::Boot { .. } => BOOT_COUNTER,
        EventKind::Alarm(_, true) => ALARM,
        EventKind::Alarm(_, false) => ALARM_OVER,
        EventKind::Check { .. } => CHECK,
        EventKind::Standing { .. } => STANDING,
        EventKind::Remember(_) => REMEMBER,
        EventKind::Operation { .. } => OPERATION,
        EventKind::Role(_) => ROLE,
        EventKind::Unsynced(_) => UNSYNCED,
        EventKind::Vetoed(_) => VETOED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn is_id(id: &str) -> bool {
        id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())
    }

    #[test]
    fn an_id_means_one_kind() {
        let ids: BTreeSet<_> = ALL.iter().map(|m| m.id).collect();
        let names: BTreeSet<_> = ALL.iter().map(|m| m.name).collect();
        assert_eq!((ids.len(), names.len()), (ALL.len(), ALL.len()));
        for id in ids {
            assert!(is_id(id));
        }
    }

    #[test]
    fn the_document_has_every_id_in_this_order() {
        let document = include_str!("../../docs/events.md");
        let rows = document.lines().filter_map(|line| {
            let mut cells =
                line.strip_prefix("| `")?.split('|').map(|c| c.trim().trim_matches('`'));
            let (name, id) = (cells.next()?, cells.next()?);
            is_id(id).then_some(Message { name, id })
        });
        assert_eq!(rows.collect::<Vec<_>>(), ALL);
    }
}
