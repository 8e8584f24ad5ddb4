//! A busy machine: four spinners on its cores while adverts run every 10 ms.

use crate::arena::{Arena, FIRST, SECOND, is_long, wait};
use libtest_mimic::Trial;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::plan::Plan;

/// Spinning processes, ended when dropped.
struct Spinners(Vec<Child>);

impl Spinners {
    fn start(count: usize) -> Self {
        let spin =
            || Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn();
        Self((0..count).map(|_| spin().unwrap()).collect())
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended needs no end.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::test("load/10ms_with_four_spinners_no_false_takeover", || {
        no_false_takeover();
        Ok(())
    })]
}

fn no_false_takeover() {
    let interval = Duration::from_millis(10);
    let arena = Arena::elected(Plan { interval, ..Plan::default() });
    let real_time = [FIRST, SECOND].map(|ix| arena.status(ix)["scheduling"].clone());
    let from = now();
    let spinners = Spinners::start(4);
    wait(Duration::from_secs(if is_long() { 60 } else { 10 }));
    drop(spinners);
    let vip = arena.stage.plan().vips()[0];
    let seen = arena.stage.eyes().seen();
    let claims = seen.holdings().iter().filter(|h| h.addr == vip && h.from > from).count();
    let still = arena.stage.owner();
    println!("\n  claims under load {claims}, owner {still:?}, scheduling {real_time:?}");
    if real_time.iter().all(|s| s["real_time"] == true) {
        assert_eq!((claims, still), (0, Some(FIRST)), "\n{}", arena.stage.logs(20));
    } else {
        println!("  SKIPPED the bound of 0: no real-time scheduling ({real_time:?})");
        arena.wait_owner(FIRST);
    }
    arena.close();
}
