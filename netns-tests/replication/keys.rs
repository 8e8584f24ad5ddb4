//! A new cluster key, as the manual has it ("A new key"): on one host after the other, while a client asks and files follow.

use super::{SOON, elected, plan};
use crate::arena::{Arena, FIRST, SECOND, wait};
use crate::judge;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::room::FILES;

impl Arena {
    fn key(&self, ix: usize) -> PathBuf {
        self.dir(ix).join("cluster.key")
    }

    /// `content` in the place of the key of a host.
    fn put_key(&self, ix: usize, content: &str) {
        let new = self.key(ix).with_extension("new");
        fs::write(&new, content).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&new, self.key(ix)).unwrap();
    }

    /// The agent and the replicator of a host read it.
    fn take_key(&mut self, ix: usize) {
        self.done(ix, &["reload", "--wait"]);
        self.stage.replicator_mut(ix).stop().unwrap();
        self.stage.start_replicator(ix).unwrap();
    }

    /// Waits until every host hears every other one, or none does.
    fn wait_peers(&self, alive: bool) {
        let limit = now() + SOON;
        let all = |ix: usize| {
            let status = self.status(ix);
            status["peers"].as_array().unwrap().iter().all(|peer| peer["alive"] == alive)
        };
        while ![FIRST, SECOND].into_iter().all(all) {
            assert!(now() < limit, "peers alive: not {alive}\n{}", self.stage.logs(30));
            wait(Duration::from_millis(20));
        }
    }
}

pub(super) fn a_new_key_on_one_host_after_the_other() {
    let mut arena = elected(plan(""));
    let old = fs::read_to_string(format!("{FILES}/cluster.key")).unwrap();
    // Hosts of a room share one key file; here each has its own.
    for ix in [FIRST, SECOND] {
        arena.put_key(ix, &old);
        let own = arena.key(ix).display().to_string();
        arena.edit_config(ix, |text| text.replace(&format!("{FILES}/cluster.key"), &own));
        arena.take_key(ix);
    }
    arena.wait_sync(FIRST);
    let new = arena.dir(FIRST).join("made.key");
    arena.done(FIRST, &["keygen", new.to_str().unwrap()]);
    let new = fs::read_to_string(new).unwrap();
    assert_ne!(new, old);
    arena.calm();
    let since = now();
    arena.put_key(FIRST, &new);
    arena.take_key(FIRST);
    // Adverts go on, heartbeats do not; nothing moves for that.
    arena.wait_peers(false);
    wait(arena.stage.plan().detection() * 3);
    assert_eq!(arena.stage.owner(), Some(FIRST), "{}", arena.stage.logs(30));
    fs::write(arena.files(FIRST).join("meanwhile"), "meanwhile").unwrap();
    arena.put_key(SECOND, &new);
    arena.take_key(SECOND);
    arena.wait_peers(true);
    arena.wait_content(SECOND, "meanwhile", "meanwhile");
    arena.wait_sync(FIRST);
    assert_eq!(arena.moves(since), 0, "{}", arena.stage.logs(30));
    arena.done(FIRST, &["move", "web", "--wait"]);
    arena.wait_owner(SECOND);
    arena.calm();
    let lost = judge::lost(&arena.outage(since));
    assert_eq!(lost, 0, "{}", arena.stage.logs(30));
    arena.close();
}
