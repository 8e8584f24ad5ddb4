//! A set of files on this host: one handle for the service, the sessions and the operator's verbs.
//!
//! Made by the service once for each `[replicate.NAME]`; shared by all threads.

use crate::clock::Clock;
use crate::error::Error;
use crate::halt::Halt;
use crate::intent::Intent;
use crate::manifest::Hash;
use crate::path::RelPath;
use crate::ports::{Position, Source, Target};
use crate::rules::Rules;
use crate::source::SetSource;
use crate::state::{Shared, State, Work};
use crate::store::Store;
use crate::take::SetTarget;
use crate::thin::Shelf;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use vipd_core::config::model::Replicate;
use vipd_core::replica::SetReport;
use vipd_core::types::Epoch;

pub use crate::thin::Thinned;

/// What a scan looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All roots.
    Everything,
    /// These names, and nothing else.
    Places(Vec<Place>),
}

/// A name that changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which.
    pub path: RelPath,
    /// A folder with all that is in it; otherwise the name alone.
    pub deep: bool,
}

/// What [`Set::seal`] made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Where the set stands now.
    pub position: Position,
    /// There is a new generation.
    pub new: bool,
    /// Files that kept changing while they were read: their last good version stays in the tree; the next scan tries again.
    pub deferred: Vec<RelPath>,
    /// What is not part of the set, and why: devices, sockets, FIFOs, links that lead out, other file systems.
    pub skipped: Vec<String>,
}

/// Something worth telling happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// One line for people.
    pub text: String,
    /// An operator has to look at it.
    pub alarm: bool,
}

/// What [`Set::verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Files whose content was hashed.
    pub files: u64,
    /// Octets of them.
    pub bytes: u64,
    /// Files that are other than the committed tree says, with what is other.
    pub differing: Vec<(RelPath, String)>,
}

/// A version of a file that is kept aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Names it for [`Set::restore`]: `trash/5.1.8`, `rescue/6.2.4-20261129T140000Z`.
    pub name: String,
    /// Octets.
    pub size: u64,
    /// Seconds since 1970: when it was put aside.
    pub kept_s: u64,
}

/// A generation that this host made or took.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogLine {
    /// Seconds since 1970.
    pub at_s: u64,
    /// Number of the ownership, its host, and the generation within it.
    pub position: (u64, u8, u64),
    /// The beginning of the hash over the tree.
    pub root: String,
    /// Where it came from; left out: made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Files, folders and links that are new or other than before, and that are gone.
    pub put: u64,
    /// See above.
    pub gone: u64,
    /// Octets of the files that are new or other.
    pub bytes: u64,
    /// Files that were kept aside because this host had changed them; of a tree that is `unfinished`: files of it.
    pub rescued: u64,
    /// It was being put in place when this host became the owner, and is in place in part: `put` and `gone` are what was done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unfinished: bool,
}

/// A set of files on this host. Clones are the same set.
#[derive(Clone, Debug)]
pub struct Set(pub(crate) Arc<Shared>);

impl Set {
    /// Opens what `state_dir`/replicate/NAME knows of the set. What a crash interrupted stays as it is until the role of this
    /// host is known ([`Set::claim`], [`Set::follow`]): the files may be a service's by now. A root that is missing is no error
    /// here, but one of [`Set::seal`] and of sessions.
    ///
    /// # Errors
    /// The state folder cannot be read or written; a file in it is corrupt: [`Error::Corrupt`] says what to do; somebody else
    /// has it open: [`Error::InUse`].
    pub fn open(config: Arc<Replicate>, state_dir: &Path, clock: Clock) -> Result<Self, Error> {
        let rules = Rules::new(&config)?;
        let (store, record, tree) = Store::open(state_dir, &config.name)?;
        let root = tree.manifest().root();
        let unsettled = Intent::read(store.folder())?.is_some();
        let mut state = State { record, tree, root, unsettled, ..State::default() };
        if let Some(text) = state.record.torn.clone() {
            state.alarm("torn", text);
        }
        let shared = Shared {
            config,
            rules,
            clock,
            halt: Halt::default(),
            stage: Arc::default(),
            work: Mutex::new(Work { store, shelf: Shelf::default() }),
            state: Mutex::new(state),
        };
        let set = Self(Arc::new(shared));
        set.0.count_rescued();
        Ok(set)
    }

    /// The hosts to which the set is pushed while this one owns: each of them may take over, also one that never spoke.
    pub fn standbys(&self, hosts: impl IntoIterator<Item = String>) {
        let mut state = self.0.state();
        for host in hosts {
            state.peers.entry(host).or_default();
        }
    }

    /// As configured.
    pub fn config(&self) -> &Replicate {
        &self.0.config
    }

    /// The agent says whether this host owns; before [`Set::claim`] or [`Set::follow`], which wait for what goes on. Returns
    /// at once. `true`: a tree that is being put in place stops before its next step, and none is taken, because the service
    /// writes from here on.
    pub fn announce(&self, owns: bool) {
        self.0.halt.claiming(owns);
    }

    /// This host owns the instance under `epoch`: from the next [`Set::seal`] on [`Set::source`] has an offer. A tree that is
    /// in place in part stays so: nothing of it replaces what the service wrote. The same again does nothing.
    ///
    /// # Errors
    /// A newer ownership is known; or the disk, and then nothing is offered.
    pub fn claim(&self, epoch: Epoch) -> Result<(), Error> {
        self.0.claim(epoch)
    }

    /// This host does not own the instance (any more); `epoch` is the newest ownership that is known. Offers of older ones
    /// are refused from here on. A tree that is in place in part is finished.
    ///
    /// # Errors
    /// The disk; the role has changed all the same.
    pub fn follow(&self, epoch: Epoch) -> Result<(), Error> {
        self.0.follow(epoch)
    }

    /// Something in the roots changed at `at_ms` of [`Clock::steady_ms`]: what is lost if this host dies now counts from there.
    pub fn dirty(&self, at_ms: u64) {
        let mut state = self.0.state();
        state.unsealed.add(at_ms);
    }

    /// Scans, and makes the next generation if the tree is other than the last, durably. Blocks while it hashes what changed.
    /// Files that a session found changed are looked at in any case.
    ///
    /// # Errors
    /// [`Error::Root`], [`Error::Guard`], [`Error::Refused`] (not the owner), the disk. The last generation stays offered.
    pub fn seal(&self, scope: &Scope) -> Result<Sealed, Error> {
        self.0.seal(scope)
    }

    /// Where the set stands.
    pub fn position(&self) -> Position {
        self.0.state().record.position
    }

    /// Whatever goes on ends early, with [`Error::Interrupted`]; nothing begins any more. Returns at once.
    pub fn stop(&self) {
        self.0.halt.stop();
    }

    /// After [`Set::stop`]: waits until what went on has ended, at most `limit`, and gives the state folder free for another
    /// `Set`. `false`: somebody still works, and the folder is not free.
    #[must_use]
    pub fn close(&self, limit: std::time::Duration) -> bool {
        self.0.close(limit)
    }

    /// For a session that sends.
    pub fn source(&self) -> Box<dyn Source> {
        Box::new(SetSource(self.0.clone()))
    }

    /// For a session that receives.
    pub fn target(&self) -> Box<dyn Target> {
        Box::new(SetTarget(self.0.clone()))
    }

    /// How it stands. `instance` is empty, and `connected`, `in_sync` of peers come from acknowledgements alone: the service
    /// knows more.
    pub fn report(&self) -> SetReport {
        self.0.report()
    }

    /// What happened since the last call, at most a thousand.
    pub fn notices(&self) -> Vec<Notice> {
        std::mem::take(&mut self.0.state().notices)
    }

    /// The operator accepts what the guard or the lineage refused last, here as owner or as receiver: the next tree of
    /// that ownership is taken. Also accepts roots that were replaced. Says in one line what was accepted.
    ///
    /// # Errors
    /// Nothing was refused; the disk.
    pub fn ack(&self) -> Result<String, Error> {
        self.0.ack()
    }

    /// Reads every file again, at most `pace` octets a second, and compares with the committed tree. Ends early when `stop`
    /// becomes true.
    ///
    /// # Errors
    /// [`Error::Root`], [`Error::Interrupted`], the disk.
    pub fn verify(&self, pace: Option<u64>, stop: &AtomicBool) -> Result<Verified, Error> {
        self.0.verify(pace, stop)
    }

    /// As a standby, at `scan_interval`: what was changed here behind the replicator's back. Compares times and sizes, hashes
    /// what they show. What is found is an alarm, and is rescued and replaced with the next tree that is taken.
    ///
    /// # Errors
    /// [`Error::Root`], the disk.
    pub fn drift(&self) -> Result<Vec<RelPath>, Error> {
        self.0.drift()
    }

    /// Versions of a file in trash and rescue, newest first.
    ///
    /// # Errors
    /// [`Error::Root`], the disk.
    pub fn versions(&self, path: &RelPath) -> Result<Vec<Version>, Error> {
        self.0.versions(path)
    }

    /// A name of the set for an absolute path.
    ///
    /// # Errors
    /// It is in none of the roots.
    pub fn name(&self, path: &Path) -> Result<RelPath, Error> {
        self.0.name(path)
    }

    /// Puts `version` back in its place, or to `to`, which must not exist and which only root may name. What is in its place goes to the trash.
    ///
    /// # Errors
    /// No such version; something is at `to`; this host is a standby and `to` is not given; the disk.
    pub fn restore(
        &self,
        path: &RelPath,
        version: &str,
        to: Option<&Path>,
    ) -> Result<PathBuf, Error> {
        self.0.restore(path, version, to)
    }

    /// Generations that were made or taken here, newest last, bounded.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn log(&self) -> Result<Vec<LogLine>, Error> {
        self.0.work().store.log()
    }

    /// Removes from the trash the versions that are more than `trash_versions` of their file, as far as trees that were taken
    /// since the last call have brought them. Called by the service each second; does nothing while somebody works.
    ///
    /// # Errors
    /// [`Error::Root`], the disk.
    pub fn thin(&self) -> Result<Thinned, Error> {
        self.0.thin()
    }

    /// Removes from the trash a part of what `trash_age` is over for; does nothing while somebody works. `true`: call again
    /// soon, there is more. Called by the service once an hour.
    ///
    /// # Errors
    /// [`Error::Root`], [`Error::Interrupted`] (this host becomes the owner, or the set is closed), the disk.
    pub fn prune(&self) -> Result<bool, Error> {
        self.0.prune()
    }

    /// The hash over the committed tree.
    pub fn root(&self) -> Hash {
        self.0.state().root
    }
}
