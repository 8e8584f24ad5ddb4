//! When hooks bring state to the other hosts: by the clock, and when something they watch has changed.
//!
//! Started by the agent on the main thread, which asks [`Syncs::next`] and tells `hooks`; whether the role of the host
//! fits is decided there. It never runs a program, and nothing waits for it.

mod watch;

use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use vipd_core::config::model::{Hook, Model, Moment};

/// Ticks that wait for a main loop that is busy; two of one hook are one.
const WAITING: usize = 256;
/// A change waits at most this many times as long as the quiet that is asked for.
const LONGEST: u32 = 10;

/// A hook that is to run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// Its position.
    pub hook: usize,
    /// Why.
    pub moment: Moment,
}

/// Clocks and watchers of all hooks; they end with it.
#[derive(Debug)]
pub(super) struct Syncs {
    due: mpsc::Receiver<Due>,
    _tasks: JoinSet<()>,
}

impl Syncs {
    /// For the hooks of `model`. Inside a tokio runtime.
    pub(super) fn start(model: &Model) -> Self {
        let (tell, due) = mpsc::channel(WAITING);
        let mut tasks = JoinSet::new();
        for (at, hook) in model.hooks.iter().enumerate() {
            for moment in [Moment::SyncInterval, Moment::Verify] {
                if let Some(pace) = moment.pace().filter(|_| hook.on.contains(&moment)) {
                    let due = Due { hook: at, moment };
                    tasks.spawn(tick(hook.interval.unwrap_or(pace), due, tell.clone()));
                }
            }
            if hook.on.contains(&Moment::SyncChange) {
                tasks.spawn(follow(Watched::of(hook), at, tell.clone()));
            }
        }
        Self { due, _tasks: tasks }
    }

    /// The next hook that is to run; never, where none is.
    pub(super) async fn next(&mut self) -> Due {
        match self.due.recv().await {
            Some(due) => due,
            None => std::future::pending().await,
        }
    }
}

async fn tick(interval: Duration, due: Due, tell: mpsc::Sender<Due>) {
    loop {
        tokio::time::sleep(interval).await;
        if tell.send(due).await.is_err() {
            return;
        }
    }
}

/// What a hook watches.
struct Watched {
    name: String,
    paths: Vec<PathBuf>,
    quiet: Duration,
}

impl Watched {
    fn of(hook: &Hook) -> Self {
        let name = hook.name.to_string();
        Self { name, paths: hook.watch.clone(), quiet: hook.debounce }
    }
}

/// Tells once for each burst of changes.
async fn follow(watched: Watched, hook: usize, tell: mpsc::Sender<Due>) {
    let Watched { name, paths, quiet } = watched;
    let mut changes = match watch::start(&name, paths) {
        Ok(changes) => changes,
        Err(error) => {
            tracing::error!("hook {name} watches nothing: {error}");
            return;
        }
    };
    while changes.recv().await.is_some() {
        let latest = Instant::now() + quiet * LONGEST;
        loop {
            let until = (Instant::now() + quiet).min(latest);
            match timeout_at(until, changes.recv()).await {
                Ok(Some(())) if Instant::now() < latest => {}
                Ok(None) => return,
                _ => break,
            }
        }
        if tell.send(Due { hook, moment: Moment::SyncChange }).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const CONFIG: &str = "[cluster]\nname = \"shop\"\n[hosts.lb1]\n[hosts.lb2]\n[instance.web]\nvrid = 51\n\
        interface = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\n[hook.push]\nrun = [\"/bin/true\"]\n";

    fn model(text: &str) -> Model {
        vipd_core::config::load(&format!("{CONFIG}{text}"), "vipd.toml", "lb1").unwrap().0
    }

    #[tokio::test(flavor = "current_thread")]
    async fn ticks_come_at_their_pace() {
        let text = "on = [\"sync-interval\", \"verify\"]\ninterval = \"1s\"\n";
        let mut syncs = Syncs::start(&model(text));
        let began = Instant::now();
        for pace in 1..=2 {
            let mut seen = [syncs.next().await, syncs.next().await].map(|due| due.moment);
            seen.sort();
            assert_eq!(seen, [Moment::SyncInterval, Moment::Verify]);
            assert!(began.elapsed().as_secs() >= pace, "{:?}", began.elapsed());
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_burst_of_changes_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut syncs = Syncs::start(&model(&format!(
            "on = [\"sync-change\"]\nwatch = [\"{}\"]\ndebounce = \"200ms\"\n",
            folder.path().display()
        )));
        // The first look at what is watched is a change.
        let due = Due { hook: 0, moment: Moment::SyncChange };
        assert_eq!(syncs.next().await, due);
        let file = folder.path().join("state");
        let writer = tokio::spawn(async move {
            for n in 0..10 {
                std::fs::write(&file, n.to_string()).unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert_eq!(syncs.next().await, due);
        writer.await.unwrap();
        assert!(timeout_at(Instant::now() + Duration::from_secs(1), syncs.next()).await.is_err());
    }
}
