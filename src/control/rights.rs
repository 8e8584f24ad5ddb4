//! Who may order something on the control socket: root, and members of one group. Readers may only read.
//!
//! Asked by the handler for each verb that changes something. The groups of a caller are the kernel's word; the number
//! of the one group and the name of the user are looked up where that may block, and not for long; a name service that
//! hangs grants nothing.

use super::server::Caller;
use crate::sys::acl;
use nix::unistd::{Group, Uid, User};
use std::path::Path;
use std::time::Duration;

/// Members may order what root may.
pub const ADMINISTRATORS: &str = "vipd-admin";
/// The user of the shipped unit of the replicator.
pub const REPLICATOR: &str = "vipd-replicate";
/// A directory of users that does not answer must not keep root waiting.
const PATIENCE: Duration = Duration::from_secs(2);

/// Lets members of [`ADMINISTRATORS`] who are not in the group of readers reach the socket at `socket`. Where there is no
/// such group, nothing is done. Blocks as long as the name service does.
pub fn open_to_administrators(socket: &Path) {
    let Ok(Some(group)) = Group::from_name(ADMINISTRATORS) else { return };
    if let Err(error) = acl::share_with_group(socket, group.gid.as_raw()) {
        tracing::warn!(
            "{}: {error}; members of {ADMINISTRATORS} reach the control socket only as members of its own group as well",
            socket.display()
        );
    }
}

/// Who asks for a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The user's name, where it is known.
    pub user: Option<String>,
    /// May he change something?
    pub may_change: bool,
}

/// Looks `caller` up.
pub async fn standing(caller: &Caller) -> Standing {
    let (uid, root) = (caller.uid, caller.uid == 0);
    let caller = caller.clone();
    let asked = tokio::task::spawn_blocking(move || Standing {
        may_change: root || is_administrator(&caller),
        user: User::from_uid(Uid::from_raw(caller.uid)).ok().flatten().map(|user| user.name),
    });
    let nobody = Standing { user: None, may_change: root };
    let Ok(found) = tokio::time::timeout(PATIENCE, asked).await else {
        tracing::warn!(
            "user {uid} could not be looked up within {PATIENCE:?}: is the name service alive?"
        );
        return nobody;
    };
    found.unwrap_or(nobody)
}

/// May `caller` speak as the replicator? Root may, and the user of its unit.
pub async fn is_replicator(caller: &Caller) -> bool {
    if caller.uid == 0 {
        return true;
    }
    let uid = caller.uid;
    let asked = tokio::task::spawn_blocking(
        move || matches!(User::from_name(REPLICATOR), Ok(Some(user)) if user.uid.as_raw() == uid),
    );
    matches!(tokio::time::timeout(PATIENCE, asked).await, Ok(Ok(true)))
}

fn is_administrator(caller: &Caller) -> bool {
    let Ok(Some(group)) = Group::from_name(ADMINISTRATORS) else { return false };
    let wanted = group.gid.as_raw();
    caller.gid == wanted || caller.groups.contains(&wanted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn root_may_and_a_stranger_may_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let ask = |uid| {
            let caller = Caller { uid, gid: uid, groups: vec![uid], pid: None };
            runtime.block_on(standing(&caller))
        };
        assert_eq!(ask(0), Standing { user: Some("root".into()), may_change: true });
        assert_eq!(ask(4_000_000), Standing { user: None, may_change: false });
    }
}
