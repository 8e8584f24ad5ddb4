//! Who may order something on the control socket: root, and members of one group. Readers may only read.
//!
//! Asked by the handler for each verb that changes something. The groups of a user are looked up where they may block,
//! never on the main loop; a name service that hangs grants nothing.

use super::server::Caller;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use std::ffi::CString;
use std::time::Duration;

/// Members may order what root may.
pub const ADMINISTRATORS: &str = "vipd-admin";

/// The client gives up a little later.
const PATIENCE: Duration = Duration::from_secs(3);

/// May `caller` change something? Not when that cannot be found out in time, which the log says.
pub async fn may_change(caller: Caller) -> bool {
    if caller.uid == 0 {
        return true;
    }
    let asked = tokio::task::spawn_blocking(move || is_administrator(caller));
    let Ok(found) = tokio::time::timeout(PATIENCE, asked).await else {
        tracing::warn!(
            "the groups of user {} could not be looked up within {PATIENCE:?}: is the name service alive?",
            caller.uid
        );
        return false;
    };
    found.unwrap_or(false)
}

fn is_administrator(caller: Caller) -> bool {
    let Ok(Some(group)) = Group::from_name(ADMINISTRATORS) else { return false };
    if caller.gid == group.gid.as_raw() {
        return true;
    }
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(caller.uid)) else { return false };
    let Ok(name) = CString::new(user.name) else { return false };
    let groups = getgrouplist(&name, Gid::from_raw(caller.gid)).unwrap_or_default();
    groups.contains(&group.gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_may_and_a_stranger_may_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let ask = |uid| async move { may_change(Caller { uid, gid: uid, pid: None }).await };
        if let Ok(runtime) = runtime {
            assert!(runtime.block_on(ask(0)));
            assert!(!runtime.block_on(ask(4_000_000)));
        }
    }
}
