//! `replica.sock`: what an operator asks of the replicator, by the protocol of the agent's control socket.
//!
//! The socket is made again when the agent's runtime folder went and came. Work on files runs in threads of its own.

use super::inbound::Inbound;
use super::sets::Sets;
use super::worker::Worker;
use std::collections::{BTreeMap, VecDeque};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use vipd_agent::control::protocol::{Answer, Body, Code, VERSION};
use vipd_agent::control::rights::{self, ADMINISTRATORS};
use vipd_agent::control::server::{Caller, Gone, Handler, Limits, Lines, Server};
use vipd_core::replica::{Ask, Entry, Said, SetReport, Verified, Version};
use vipd_replicator::error::Error;

/// Its name in the runtime folder.
pub(super) const SOCKET: &str = vipd_core::replica::SOCKET;
/// Between two looks whether the socket is still there.
const LOOK: Duration = Duration::from_millis(500);
/// Lines that are kept of what happened since the start.
const KEPT: usize = 500;
/// Differing files that one answer names.
const NAMED: usize = 100;

/// Answers on the socket. A clone is the same.
#[derive(Clone, Default)]
pub(super) struct Answers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    workers: Mutex<Vec<Arc<Worker>>>,
    /// Sets that could not be opened.
    broken: Mutex<Vec<SetReport>>,
    inbound: Mutex<Option<Arc<Inbound>>>,
    events: Mutex<VecDeque<Entry>>,
    /// When each set was verified last.
    verified: Mutex<BTreeMap<String, u64>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Listens at `path`, again and again when the file goes.
pub(super) async fn serve(path: PathBuf, answers: Answers) {
    let mut told = false;
    loop {
        let server = match Server::bind(&path, Limits::default()) {
            Ok(server) => server,
            Err(error) => {
                if !told {
                    tracing::warn!("cannot listen on {}: {error}; trying again", path.display());
                    told = true;
                }
                tokio::time::sleep(LOOK).await;
                continue;
            }
        };
        told = false;
        let made = identity(&path);
        tokio::select! {
            () = server.serve(answers.clone()) => {}
            () = gone(&path, made) => {}
        }
    }
}

/// Which file is at `path`.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

async fn gone(path: &Path, made: Option<(u64, u64)>) {
    while identity(path) == made {
        tokio::time::sleep(LOOK).await;
    }
}

impl Answers {
    /// These are the sets.
    pub(super) fn show(&self, sets: &Sets) {
        *lock(&self.0.workers) = sets.workers.clone();
        *lock(&self.0.broken) = sets.broken_reports().collect();
        *lock(&self.0.inbound) = sets.inbound.clone();
    }

    /// Something happened.
    pub(super) fn note(&self, set: &str, text: &str, alarm: bool) {
        let mut events = lock(&self.0.events);
        if events.len() >= KEPT {
            events.pop_front();
        }
        events.push_back(Entry {
            at_s: now_s(),
            set: set.to_owned(),
            text: text.to_owned(),
            alarm,
        });
    }

    /// The sets that `name` means: one, or all.
    fn of(&self, name: Option<&str>) -> Result<Vec<Arc<Worker>>, Answer> {
        let all = lock(&self.0.workers).clone();
        let Some(name) = name else { return Ok(all) };
        let found: Vec<_> =
            all.iter().filter(|worker| *worker.shared.name == *name).cloned().collect();
        let broken = lock(&self.0.broken);
        if let Some(broken) = broken.iter().find(|broken| broken.set == name) {
            return Err(Answer::error(Code::Refused, broken.alarms.join("; ")));
        }
        if found.is_empty() {
            let names: Vec<_> = all.iter().map(|worker| worker.shared.name.to_string()).collect();
            let said = format!("no set {name} here; there are: {}", names.join(", "));
            return Err(Answer::error(Code::Refused, said));
        }
        Ok(found)
    }

    fn carry_out(&self, ask: Ask) -> Result<Said, Answer> {
        let workers = self.of(ask.set())?;
        match ask {
            Ask::Status {} => {
                let open = workers.iter().map(|worker| self.report(worker));
                Ok(Said::Sets(open.chain(lock(&self.0.broken).iter().cloned()).collect()))
            }
            Ask::Verify { .. } => {
                let each = workers.iter().map(|worker| self.verify(worker));
                Ok(Said::Verified(each.collect::<Result<_, _>>()?))
            }
            Ask::Log { set, last } => self.log(&workers, set.as_deref(), last),
            Ask::Restore { path, version, to, .. } => {
                let Some(worker) = workers.first() else { return Err(no_set()) };
                restore(worker, &path, version.as_deref(), to.as_deref())
            }
            Ask::Ack { .. } => {
                let Some(worker) = workers.first() else { return Err(no_set()) };
                let said = worker.acknowledge().map_err(failed)?;
                if let Some(inbound) = &*lock(&self.0.inbound) {
                    inbound.ask_again(&worker.shared.name);
                }
                Ok(Said::Done(said))
            }
        }
    }

    fn report(&self, worker: &Worker) -> SetReport {
        let mut report = worker.report();
        report.verified_s =
            report.verified_s.or_else(|| lock(&self.0.verified).get(&report.set).copied());
        report
    }

    fn verify(&self, worker: &Worker) -> Result<Verified, Answer> {
        let found = worker.set.verify(None, &AtomicBool::new(false)).map_err(failed)?;
        // An owner has no session that receives: nobody is asked there.
        if let (false, Some(inbound)) = (found.differing.is_empty(), &*lock(&self.0.inbound)) {
            inbound.ask_again(&worker.shared.name);
        }
        lock(&self.0.verified).insert(worker.shared.name.to_string(), now_s());
        let differs =
            found.differing.iter().take(NAMED).map(|(path, what)| format!("{path}: {what}"));
        Ok(Verified {
            set: worker.shared.name.to_string(),
            files: found.files,
            bytes: found.bytes,
            differs: differs.collect(),
            divergent: found.differing.len() as u64,
        })
    }

    /// Generations of the sets, and what was told since the start, by time.
    fn log(
        &self,
        workers: &[Arc<Worker>],
        set: Option<&str>,
        last: Option<usize>,
    ) -> Result<Said, Answer> {
        let mut entries: Vec<Entry> = lock(&self.0.events)
            .iter()
            .filter(|entry| set.is_none_or(|set| entry.set == set))
            .cloned()
            .collect();
        for worker in workers {
            for line in worker.set.log().map_err(failed)? {
                let (number, host, generation) = line.position;
                let from = line
                    .from
                    .map_or_else(|| "made here".to_owned(), |host| format!("taken from {host}"));
                let rescued = match line.rescued {
                    0 => String::new(),
                    n => format!(", {n} files rescued"),
                };
                let text = if line.unfinished {
                    format!(
                        "tree {number}.{host}.{generation} {from} is not in place as a whole, because this host became \
                         the owner: {} new or changed, {} gone, {} of its files in the rescue folder",
                        line.put, line.gone, line.rescued
                    )
                } else {
                    format!(
                        "tree {number}.{host}.{generation} {from}: {} new or changed, {} gone, {} octets{rescued}",
                        line.put, line.gone, line.bytes
                    )
                };
                entries.push(Entry {
                    at_s: line.at_s,
                    set: worker.shared.name.to_string(),
                    text,
                    alarm: line.rescued > 0 || line.unfinished,
                });
            }
        }
        entries.sort_by_key(|entry| entry.at_s);
        let skip = entries.len().saturating_sub(last.unwrap_or(usize::MAX));
        Ok(Said::Log(entries.split_off(skip)))
    }
}

fn restore(
    worker: &Worker,
    path: &str,
    version: Option<&str>,
    to: Option<&str>,
) -> Result<Said, Answer> {
    let name = worker.set.name(Path::new(path)).map_err(failed)?;
    let Some(version) = version else {
        let versions = worker.set.versions(&name).map_err(failed)?;
        return Ok(Said::Versions(
            versions
                .into_iter()
                .map(|v| Version { name: v.name, at_s: v.kept_s, size: v.size })
                .collect(),
        ));
    };
    let placed = worker.set.restore(&name, version, to.map(Path::new)).map_err(failed)?;
    Ok(Said::Done(format!("{version} of {path} is at {}", placed.display())))
}

/// This process may read and write everything, so whoever has it write a file elsewhere could do the same: only root.
fn names_a_place(ask: &Ask, caller: &Caller) -> Option<Answer> {
    let elsewhere = matches!(ask, Ask::Restore { to: Some(_), .. });
    (elsewhere && caller.uid != 0).then(|| {
        Answer::error(
            Code::Forbidden,
            "only root may restore to another place: run this as root, or restore it in its place on the owner",
        )
    })
}

fn no_set() -> Answer {
    Answer::error(Code::Refused, "no sets are configured here")
}

fn failed(error: Error) -> Answer {
    Answer::error(Code::Refused, error.to_string())
}

impl Handler for Answers {
    type Request = Ask;

    fn parse(line: &[u8]) -> Result<Ask, Answer> {
        let malformed =
            |error: serde_json::Error| Answer::error(Code::Malformed, error.to_string());
        let mut fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(line).map_err(malformed)?;
        let v = fields.remove("v").unwrap_or_default();
        if v != VERSION {
            let said =
                format!("version {v} was asked for, this replicator speaks version {VERSION}");
            return Err(Answer::error(Code::Version, said));
        }
        serde_json::from_value(fields.into()).map_err(malformed)
    }

    async fn answer(&self, ask: Ask, caller: Caller, _lines: &mut Lines) -> Result<Answer, Gone> {
        if ask.changes() {
            let standing = rights::standing(&caller).await;
            let who = standing.user.unwrap_or_else(|| format!("uid {}", caller.uid));
            if !standing.may_change {
                tracing::warn!("{ask:?} refused to {who}");
                let said =
                    format!("only root and members of the group {ADMINISTRATORS} may do this");
                return Ok(Answer::error(Code::Forbidden, said));
            }
            if let Some(refused) = names_a_place(&ask, &caller) {
                tracing::warn!("{ask:?} refused to {who}");
                return Ok(refused);
            }
            tracing::warn!("{ask:?} ordered by {who}, process {}", caller.pid.unwrap_or(0));
        }
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || this.carry_out(ask)).await;
        Ok(match done {
            Ok(Ok(said)) => Answer::new(Body::Replica(said)),
            Ok(Err(answer)) => answer,
            Err(_) => Answer::error(Code::Unavailable, "the replicator is stopping"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_names_another_place() {
        let ask = |to: Option<&str>| Ask::Restore {
            set: "web".to_owned(),
            path: "/srv/web/a".to_owned(),
            version: Some("trash/1.1.1".to_owned()),
            to: to.map(str::to_owned),
        };
        let caller = |uid| Caller { uid, gid: uid, groups: vec![0], pid: None };
        let refused = names_a_place(&ask(Some("/etc/cron.d/x")), &caller(1000));
        assert!(format!("{refused:?}").contains("Forbidden"), "{refused:?}");
        assert!(names_a_place(&ask(None), &caller(1000)).is_none());
        assert!(names_a_place(&ask(Some("/root/x")), &caller(0)).is_none());
    }
}
