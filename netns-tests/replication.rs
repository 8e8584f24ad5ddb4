//! State files that follow the address, judged by what lies on the hosts' own disks and by what a client was answered.
//!
//! A writer appends numbered records with fsync on whoever owns; what another host has of them later is counted. Of the
//! replicator only what it says it would lose (RPO), its alarms and its process are looked at.

mod crashes;
mod files;
mod follows;
mod keys;
mod links;
mod moves;
mod partition;
mod untimely;

use crate::arena::{Arena, FIRST, wait};
use libtest_mimic::Trial;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::plan::Plan;
use vipd_agent::lab::replicator::StateFiles;
use vipd_core::time::Instant;

/// Lines of the set in all trials: as quick as it gets.
const QUICK: &str = "debounce = \"20ms\"\nmax-delay = \"200ms\"\n";
/// Time for a change to be everywhere on a machine that does other things, too.
const SOON: Duration = Duration::from_secs(15);

pub(crate) fn trials() -> Vec<Trial> {
    let trials: [(&str, fn()); 13] = [
        ("follows", follows::a_file_is_on_the_standby_soon),
        ("many", follows::many_small_files_take_little_memory),
        ("moves", moves::moves_lose_nothing),
        ("preempts", moves::a_preemption_loses_nothing),
        ("crashes", crashes::a_crash_loses_no_more_than_the_gauge_said),
        ("partition", partition::after_a_partition_nothing_is_lost),
        ("links", links::a_cut_and_a_slow_link),
        ("strangers", links::strangers_get_nothing_and_disturb_nothing),
        ("gate", crashes::a_stale_host_does_not_claim),
        ("killed", crashes::replicators_that_die_at_any_moment),
        ("claims", untimely::a_claim_while_a_tree_is_put_in_place),
        ("reloads", untimely::a_bad_set_changes_nothing),
        ("keys", keys::a_new_key_on_one_host_after_the_other),
    ];
    let trial = |(name, play): (&str, fn())| {
        Trial::test(format!("replication/{name}"), move || {
            play();
            Ok(())
        })
    };
    trials.into_iter().map(trial).collect()
}

fn plan(more: &str) -> Plan {
    let state_files = Some(StateFiles::with(&format!("{QUICK}{more}")));
    Plan { interval: Duration::from_millis(100), state_files, ..Plan::default() }
}

/// No files of the trial before.
fn without_files(plan: &Plan) {
    if let Some(sets) = &plan.state_files {
        for ix in 0..plan.hosts {
            let _ = fs::remove_dir_all(sets.store.join(format!("h{}", ix + 1)));
        }
    }
}

/// An elected room.
fn elected(plan: Plan) -> Arena {
    without_files(&plan);
    let arena = Arena::elected(plan);
    arena.wait_sync(FIRST);
    arena
}

impl Arena {
    /// The state files of a host, from outside.
    fn files(&self, ix: usize) -> PathBuf {
        self.stage.replicator(ix).files().to_owned()
    }

    /// What status of a host says of the set.
    fn set(&self, ix: usize) -> Value {
        self.status(ix)["instances"][0]["replicas"][0].clone()
    }

    /// Waits until the owner `ix` says that every other host has everything.
    fn wait_sync(&self, ix: usize) {
        let limit = now() + SOON;
        loop {
            let set = self.set(ix);
            let peers = set["peers"].as_array().cloned().unwrap_or_default();
            let all = self.stage.plan().hosts - 1;
            let in_sync = peers.iter().filter(|peer| peer["in_sync"] == true).count();
            let others = (0..=all).filter(|other| *other != ix);
            let known = || others.clone().all(|other| self.set(other)["age_ms"].is_u64());
            if set["owns"] == true && in_sync == all && set["rpo_ms"] == 0 && known() {
                return;
            }
            assert!(now() < limit, "not in sync: {set:#}\n{}", self.stage.logs(30));
            wait(Duration::from_millis(20));
        }
    }

    /// Waits until `wanted` is true of the set on a host.
    fn wait_set(&self, ix: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let limit = now() + SOON;
        loop {
            let set = self.set(ix);
            if wanted(&set) {
                return set;
            }
            assert!(now() < limit, "h{}: {what}: {set:#}\n{}", ix + 1, self.stage.logs(30));
            wait(Duration::from_millis(20));
        }
    }

    /// Waits until a file of a host holds `content`.
    fn wait_content(&self, ix: usize, name: &str, content: &str) -> Instant {
        let (limit, path) = (now() + SOON, self.files(ix).join(name));
        loop {
            let found = fs::read_to_string(&path);
            if found.as_ref().is_ok_and(|text| text == content) {
                return now();
            }
            assert!(
                now() < limit,
                "{name} of h{} is {found:?}, not {content:?}\n{}",
                ix + 1,
                self.stage.logs(30)
            );
            wait(Duration::from_millis(2));
        }
    }
}
