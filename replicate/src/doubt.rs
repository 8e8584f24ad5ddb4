//! Files of the owner that no longer read as they were sealed, though their times say that nobody touched them: the disk
//! has forgotten, or somebody wrote past the kernel's stamps.
//!
//! A scan believes the times and does not read such a file again, so a standby that lacks it would wait for ever. When a
//! session has failed with a file [`FAILURES`] times it is read here. If it is rotten its content is read from a twin, another
//! file of the tree that has the same; where there is none it is withheld from whoever lacks it. Everything else goes on, and
//! an alarm names it, until somebody puts another file in its place. Must never make what is read into the next tree:
//! standbys still have what was sealed.

use crate::disk::Dir;
use crate::halt::halted;
use crate::hashing;
use crate::manifest::{Entry, Hash};
use crate::path::RelPath;
use crate::plan::hash_of;
use crate::state::{Peer, Shared, State, some_of};
use crate::tree::Mark;
use std::collections::{BTreeMap, HashMap};
use std::io;

/// A session that failed so often with a file does not meet a writer every time.
const FAILURES: u32 = 5;
/// Files whose failures are counted at once.
const COUNTED: usize = 1000;

/// What is known of files that do not read as they should.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    /// How often each was not what was sealed with this hash.
    failures: HashMap<RelPath, (Hash, u32)>,
    /// Those that are not, as they were sealed.
    rotten: BTreeMap<RelPath, Rotten>,
}

/// A file that is rotten.
#[derive(Debug)]
struct Rotten {
    hash: Hash,
    mark: Mark,
    /// What is wrong with it.
    what: String,
}

impl Shared {
    /// A session found that the file at `path`, from which it read, is not what was sealed; reads it when that happens again
    /// and again.
    pub(crate) fn doubt(&self, path: &RelPath) {
        let (entry, mark) = {
            let mut state = self.state();
            let Some((entry, mark)) = state.tree.get(path) else { return };
            let (entry, Some(hash)) = (entry.clone(), hash_of(entry).copied()) else { return };
            let failures = &mut state.doubts.failures;
            if failures.len() >= COUNTED {
                failures.clear();
            }
            let (of, count) = failures.entry(path.clone()).or_insert((hash, 0));
            // Sealed anew since: not the same failure.
            *count = if *of == hash { *count + 1 } else { 1 };
            *of = hash;
            if *count < FAILURES {
                return;
            }
            failures.remove(path);
            (entry, mark)
        };
        let Some(what) = self.rot(&entry, mark) else { return };
        let Some(hash) = hash_of(&entry).copied() else { return };
        let mut state = self.state();
        state.count("rotten");
        state.doubts.rotten.insert(path.clone(), Rotten { hash, mark, what });
        state.tell_doubts(&self.config.name);
    }

    /// What is wrong with a file that nobody touched since it was sealed; `None`: nothing, or it was touched, and the next
    /// scan reads it by itself.
    fn rot(&self, entry: &Entry, mark: Mark) -> Option<String> {
        let dir = Dir::open(self.config.paths.get(usize::from(entry.path.root()))?).ok()?;
        let path = entry.path.as_path();
        let untouched =
            || dir.see(path).ok().flatten().is_some_and(|seen| mark.proves(entry, &seen));
        if !untouched() {
            return None;
        }
        let look = self.halt.any();
        let read = || hashing::hash(&mut dir.file(path)?, &mut Vec::new(), look);
        let what = match read() {
            Err(error) if halted(&error) => return None,
            Ok((_, hash)) if hash_of(entry) == Some(&hash) => return None,
            Ok(_) => "its content is another, its times are not".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => format!("cannot be read: {error}"),
        };
        untouched().then_some(what)
    }
}

impl State {
    /// Where the content of the file at `path` of the newest tree is to be read; `None`: it is known to be gone.
    pub(crate) fn readable(&self, path: &RelPath) -> Option<RelPath> {
        match self.doubts.rotten.get(path) {
            Some(rotten) if self.is_still(path, rotten) => self.twin(&rotten.hash).cloned(),
            _ => Some(path.clone()),
        }
    }

    /// A file of the newest tree with this content that is not known to be rotten.
    fn twin(&self, hash: &Hash) -> Option<&RelPath> {
        let rotten =
            |path: &RelPath| self.doubts.rotten.get(path).is_some_and(|r| self.is_still(path, r));
        let same = self.tree.iter().filter(|(entry, _)| hash_of(entry) == Some(hash));
        same.map(|(entry, _)| &entry.path).find(|path| !rotten(path))
    }

    /// Of what `peer` acknowledged last it does not have the file that was sealed with this hash.
    fn lacks(&self, peer: &Peer, path: &RelPath, hash: &Hash) -> bool {
        // One file stands for all of the same content.
        let same = |lost: &RelPath| self.tree.get(lost).and_then(|(e, _)| hash_of(e)) == Some(hash);
        peer.lacks.iter().any(|lost| lost == path || same(lost))
    }

    /// No scan has found another file there since.
    fn is_still(&self, path: &RelPath, rotten: &Rotten) -> bool {
        self.owns
            && self.tree.get(path).is_some_and(|(entry, mark)| {
                let same = (mark.ino, mark.ctime_ns) == (rotten.mark.ino, rotten.mark.ctime_ns);
                same && hash_of(entry) == Some(&rotten.hash)
            })
    }

    /// Forgets what was put right.
    pub(crate) fn look_at_doubts(&mut self, set: &str) {
        let over = |path: &RelPath, rotten: &Rotten| !self.is_still(path, rotten);
        let rotten = self.doubts.rotten.iter();
        let mended: Vec<_> =
            rotten.filter(|(path, of)| over(path, of)).map(|(path, _)| path.clone()).collect();
        if mended.is_empty() {
            return;
        }
        for path in &mended {
            self.doubts.rotten.remove(path);
        }
        self.tell_doubts(set);
    }

    /// The alarm says which files are rotten, and where they are as they were sealed.
    pub(crate) fn tell_doubts(&mut self, set: &str) {
        if self.doubts.rotten.is_empty() {
            return self.clear("rotten");
        }
        let files: Vec<_> = self
            .doubts
            .rotten
            .iter()
            .map(|(path, rotten)| {
                let born = self.tree.get(path).map(|(_, mark)| mark.born).unwrap_or_default();
                let has = self.peers.iter().filter(|(_, peer)| {
                    peer.acknowledged.is_some_and(|had| had >= born)
                        && !self.lacks(peer, path, &rotten.hash)
                });
                let twin = self.twin(&rotten.hash).map(|twin| format!("{twin} here"));
                let has = twin.into_iter().chain(has.map(|(host, _)| host.clone()));
                let has: Vec<String> = has.collect();
                let has =
                    if has.is_empty() { "no host known".to_owned() } else { has.join(" and ") };
                format!("{path} ({}; as it was sealed: {has})", rotten.what)
            })
            .collect();
        let text = format!(
            "[replicate.{set}] rotten on this host, and not sent to standbys that lack it unless another file here has \
             the same content: {}; put a good copy in its place, or touch it if what it holds is right",
            some_of(&files)
        );
        self.alarm("rotten", text);
    }
}
