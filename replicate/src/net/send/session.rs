//! One session of a sender: what it says when.

use super::content::{Content, Outcome};
use super::*;
use crate::manifest::{Delta, Entry, Kind};
use crate::net::link::Channel;
use crate::net::wire::{self, Current, Hello, Message, Needs, Offered, Welcome};
use crate::path::RelPath;
use crate::ports::Offer;

/// How often the other host is told how far it is behind, beside after each tree.
const CURRENT_EVERY: Duration = Duration::from_secs(1);
/// The other host may have to end an older session first.
const WELCOME_LIMIT: Duration = Duration::from_secs(20);
/// After a file changed underway: the next scan should have seen it by then.
const RESCAN: Duration = Duration::from_millis(200);
/// Between two offers that are refused.
const LEAST_HOLD: Duration = Duration::from_secs(1);

/// Pushes over `channel` until it ends, the service stops it or `source` has nothing to offer.
///
/// # Errors
/// What ended it otherwise.
pub fn drive(
    channel: &mut dyn Channel,
    pusher: &Pusher,
    source: &mut dyn Source,
    memory: &mut Memory,
) -> Result<Ended, NetError> {
    let Some(offer) = source.offer() else { return Ok(Ended::NotOwner) };
    let mut session = Session { channel, pusher, source, memory, told_octets: 0 };
    let Some(welcome) = session.hello(&offer)? else { return Ok(Ended::Stale) };
    // An owner that forgot what it had sent must learn of it before it offers.
    session.source.peer_stands(&pusher.peer, welcome.position, welcome.root);
    let mut there = There { root: welcome.root, has: None, hold: None };
    // Offered even if it has the same files: it has to know under which ownership.
    let mut current_at = session.channel.now();
    loop {
        if pusher.handle.stopped() {
            return Ok(Ended::Stopped);
        }
        let Some(offer) = session.source.offer() else { return Ok(Ended::NotOwner) };
        if pusher.handle.take_ask_again() {
            (there.hold, there.has) = (None, None);
        }
        let now = session.channel.now();
        let due = if there.has != Some((offer.position, offer.root)) {
            match there.held(&offer, now) {
                Some(until) => until,
                None => {
                    if session.push(&offer, &mut there)? == Some(Ended::Stale) {
                        return Ok(Ended::Stale);
                    }
                    current_at = session.channel.now();
                    // Before the next offer: where files change all the time there always is one.
                    if let Some((position, _)) = there.has {
                        session.say_current(position)?;
                        current_at += CURRENT_EVERY;
                    }
                    continue;
                }
            }
        } else if now >= current_at {
            session.say_current(offer.position)?;
            current_at = now + CURRENT_EVERY;
            current_at
        } else {
            current_at
        };
        match session.hear(due.saturating_sub(now).min(CURRENT_EVERY))? {
            None => {}
            // Also what it has: its files may have changed behind its back.
            Some(Message::AskAgain) => (there.hold, there.has) = (None, None),
            Some(other) => return Err(NetError::protocol(other.name(), "nothing was asked")),
        }
    }
}

/// What is known of the other host.
struct There {
    /// Root of the manifest that it has.
    root: Hash,
    /// What it acknowledged in this session.
    has: Option<(Position, Hash)>,
    /// No offer before this, as long as the offer has this root (`None`: whatever it has).
    hold: Option<(Duration, Option<Hash>)>,
}

impl There {
    fn held(&self, offer: &Offer, now: Duration) -> Option<Duration> {
        let (until, root) = self.hold?;
        (now < until && root.is_none_or(|root| root == offer.root)).then_some(until)
    }
}

struct Session<'a> {
    channel: &'a mut dyn Channel,
    pusher: &'a Pusher,
    source: &'a mut dyn Source,
    memory: &'a mut Memory,
    /// Octets of the channel that the handle knows of.
    told_octets: u64,
}

impl Session<'_> {
    /// Presents itself; `None`: refused, because a newer ownership is known there.
    fn hello(&mut self, offer: &Offer) -> Result<Option<Welcome>, NetError> {
        let Pusher { me, set, peer, .. } = self.pusher;
        self.channel.send(&Message::Hello(Hello {
            cluster: me.cluster.to_string(),
            host: me.host.to_string(),
            to: peer.to_string(),
            set: set.name.to_string(),
            digest: set.digest,
            epoch: offer.position.epoch,
        }))?;
        match self.hear(WELCOME_LIMIT)? {
            Some(Message::Welcome(welcome)) if welcome.host == **peer => Ok(Some(welcome)),
            Some(Message::Welcome(welcome)) => {
                let (asked, answered) = (peer.to_string(), welcome.host);
                Err(NetError::Host { asked, answered })
            }
            Some(Message::Refused(refusal)) => {
                self.note_refusal(&refusal);
                if matches!(refusal, Refusal::StaleEpoch(_)) {
                    self.memory.stale = Some(offer.position.epoch);
                    return Ok(None);
                }
                Err(NetError::Refused(refusal))
            }
            Some(other) => Err(NetError::protocol(other.name(), "welcome must come first")),
            None => Err(NetError::Slow(WELCOME_LIMIT.as_millis() as u64)),
        }
    }

    /// Offers a tree and sends what is lacking.
    fn push(&mut self, offer: &Offer, there: &mut There) -> Result<Option<Ended>, NetError> {
        let outcome = self.transfer(offer, there);
        self.pusher.handle.begin(0, 0);
        self.count_octets();
        let now = self.channel.now();
        match outcome? {
            Outcome::Complete => {
                self.taken(offer, there);
                self.pusher.handle.acknowledged(offer.position);
            }
            Outcome::Without(paths) => {
                self.taken(offer, there);
                self.source.lacks(&self.pusher.peer, &paths);
                let some: Vec<_> = paths.iter().take(3).map(ToString::to_string).collect();
                let text = format!(
                    "it lacks {} files that are rotten here ({})",
                    paths.len(),
                    some.join(", ")
                );
                self.pusher.handle.incomplete(offer.position, Refusal::Disk(text));
            }
            Outcome::Changed(path) => {
                self.source.changed_underway(&path);
                there.hold = Some((now + RESCAN, Some(offer.root)));
            }
            Outcome::Refused(refusal) => {
                self.note_refusal(&refusal);
                let seconds = Duration::from_secs;
                there.hold = Some(match refusal {
                    Refusal::StaleEpoch(_) => {
                        self.memory.stale = Some(offer.position.epoch);
                        return Ok(Some(Ended::Stale));
                    }
                    Refusal::Diverged(_) => (now + seconds(30), None),
                    // A tree with the files back in it needs no operator.
                    Refusal::Guard(_) => (now + seconds(30), Some(offer.root)),
                    Refusal::NotHere(_) => (now + LEAST_HOLD, None),
                    Refusal::Disk(_) => (now + seconds(10), None),
                });
            }
        }
        Ok(None)
    }

    /// The other host has the tree of `offer`.
    fn taken(&mut self, offer: &Offer, there: &mut There) {
        there.root = offer.root;
        there.has = Some((offer.position, offer.root));
        there.hold = None;
        self.memory.acknowledged = Some((offer.root, Arc::clone(&offer.manifest)));
        self.source.acknowledged(&self.pusher.peer, offer.position, offer.root);
    }

    fn transfer(&mut self, offer: &Offer, there: &There) -> Result<Outcome, NetError> {
        let needs = match self.offer(offer, there)? {
            Ok(needs) => needs,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        let mut round = needs;
        let mut without = Vec::new();
        let mut again = false;
        loop {
            self.withhold(offer, &mut round, &mut without)?;
            self.begin(offer, &round)?;
            let (source, handle) = (&*self.source, &self.pusher.handle);
            let content = Content::new(&mut *self.channel, source, &offer.manifest, handle, again);
            let outcome = content.send(&round)?;
            self.count_octets();
            if !matches!(outcome, Outcome::Complete) {
                self.abort()?;
                return Ok(outcome);
            }
            self.channel.send(&Message::Sent)?;
            match self.answer()? {
                Message::Taken(position, root)
                    if (position, root) == (offer.position, offer.root) =>
                {
                    if without.is_empty() {
                        return Ok(Outcome::Complete);
                    }
                    return Ok(Outcome::Without(without));
                }
                Message::Refused(refusal) => return Ok(Outcome::Refused(refusal)),
                // What it copied from its own version was not what that was before.
                // Nor may be what was sent without a look at its hash.
                Message::Needs(first) => (round, again) = (self.needs(first, offer)?, true),
                other => return Err(NetError::protocol(other.name(), "taken must come here")),
            }
        }
    }

    /// Takes out of `round` what the source does not have any more, and says so.
    fn withhold(
        &mut self,
        offer: &Offer,
        round: &mut Vec<(u32, bool)>,
        without: &mut Vec<RelPath>,
    ) -> Result<(), NetError> {
        let path = |entry: u32| offer.manifest.at(entry).map(|e| &e.path);
        let source = &*self.source;
        let gone = |entry: u32| path(entry).filter(|path| source.withholds(path));
        let entries: Vec<u32> =
            round.iter().map(|(entry, _)| *entry).filter(|e| gone(*e).is_some()).collect();
        for batch in entries.chunks(wire::MAX_NEEDS) {
            self.channel.send(&Message::Withheld(batch.to_vec()))?;
        }
        without.extend(entries.iter().filter_map(|entry| path(*entry).cloned()));
        round.retain(|(entry, _)| entries.binary_search(entry).is_err());
        Ok(())
    }

    /// Takes the offer back. Answers that were underway are not taken for those of the next offer.
    fn abort(&mut self) -> Result<(), NetError> {
        self.channel.send(&Message::Abort)?;
        loop {
            match self.answer()? {
                Message::Abort => return Ok(()),
                Message::Lacks(_) | Message::Refused(_) => {}
                other => return Err(NetError::protocol(other.name(), "abort must come here")),
            }
        }
    }

    /// Tells the manifest, and hears what is lacking.
    fn offer(
        &mut self,
        offer: &Offer,
        there: &There,
    ) -> Result<Result<Vec<(u32, bool)>, Refusal>, NetError> {
        let base = match &self.memory.acknowledged {
            Some((root, manifest)) if *root == there.root => Some(Arc::clone(manifest)),
            _ if offer.root == there.root => Some(Arc::clone(&offer.manifest)),
            _ => None,
        };
        let told = base.map(|base| base.delta(&offer.manifest));
        self.tell_manifest(offer, told.as_ref().map(|delta| (there.root, delta)))?;
        let mut answer = self.answer()?;
        if answer == Message::Baseless && told.is_some() {
            self.tell_manifest(offer, None)?;
            answer = self.answer()?;
        }
        match answer {
            Message::Needs(first) => self.needs(first, offer).map(Ok),
            Message::Refused(refusal) => Ok(Err(refusal)),
            other => Err(NetError::protocol(other.name(), "needs must come here")),
        }
    }

    fn tell_manifest(
        &mut self,
        offer: &Offer,
        delta: Option<(Hash, &Delta)>,
    ) -> Result<(), NetError> {
        let all = offer.manifest.entries();
        let entries = u32::try_from(all.len()).ok().filter(|n| *n <= wire::MAX_ENTRIES);
        let entries = entries.ok_or_else(|| NetError::Entry {
            path: format!("the set {}", self.pusher.set.name),
            what: "more than 4,000,000 files and folders",
        })?;
        let (put, gone) = match delta {
            Some((_, delta)) => (delta.put.as_slice(), delta.gone.as_slice()),
            None => (all, [].as_slice()),
        };
        self.channel.send(&Message::Offer(Offered {
            position: offer.position,
            lineage: offer.lineage.clone(),
            root: offer.root,
            base: delta.map(|(root, _)| root),
            entries,
            put: put.len() as u32,
            gone: gone.len() as u32,
        }))?;
        for batch in batches(put, |entry| entry_len(entry))? {
            self.channel.send(&Message::Entries(batch.to_vec()))?;
        }
        for batch in batches(gone, |path: &RelPath| Ok(4 + path.as_bytes().len()))? {
            self.channel.send(&Message::Gone(batch.to_vec()))?;
        }
        self.channel.flush()
    }

    /// All needs, of which `first` has come.
    fn needs(&mut self, first: Needs, offer: &Offer) -> Result<Vec<(u32, bool)>, NetError> {
        let mut all: Vec<(u32, bool)> = Vec::new();
        let mut batch = first;
        loop {
            for need in &batch.files {
                let wrong = |what| Err(NetError::protocol("needs", what));
                if all.last().is_some_and(|(before, _)| *before >= need.0) {
                    return wrong("files out of order");
                }
                match offer.manifest.at(need.0).and_then(|entry| entry.file()) {
                    Some(_) => all.push(*need),
                    None => return wrong("a file that the manifest does not have"),
                }
            }
            if batch.last {
                return Ok(all);
            }
            if batch.files.is_empty() {
                return Err(NetError::protocol("needs", "an empty batch that is not the last"));
            }
            batch = match self.answer()? {
                Message::Needs(next) => next,
                other => return Err(NetError::protocol(other.name(), "needs must come here")),
            };
        }
    }

    fn begin(&self, offer: &Offer, needs: &[(u32, bool)]) -> Result<(), NetError> {
        let file = |entry: u32| offer.manifest.at(entry).and_then(|entry| entry.file());
        let size = |(entry, _): &(u32, bool)| file(*entry).map_or(0, |(size, _)| size);
        let octets = needs.iter().map(size).fold(0, u64::saturating_add);
        self.pusher.handle.begin(needs.len() as u64, octets);
        Ok(())
    }

    fn say_current(&mut self, position: Position) -> Result<(), NetError> {
        let behind = self.source.behind(position);
        self.channel.send(&Message::Current(Current { position, behind }))?;
        self.count_octets();
        Ok(())
    }

    /// The answer to what was said, however long it takes: the link notices when the other host is dead.
    fn answer(&mut self) -> Result<Message, NetError> {
        loop {
            match self.hear(CURRENT_EVERY)? {
                // It crossed what was said.
                Some(Message::AskAgain) | None => {}
                Some(message) => return Ok(message),
            }
            if self.pusher.handle.stopped() {
                return Err(NetError::Stopped("it stops"));
            }
        }
    }

    fn hear(&mut self, wait: Duration) -> Result<Option<Message>, NetError> {
        match self.channel.receive(wait)? {
            Some(Message::Bye(text)) => Err(NetError::Bye(text)),
            other => Ok(other),
        }
    }

    fn note_refusal(&mut self, refusal: &Refusal) {
        self.source.refused(&self.pusher.peer, refusal);
        self.pusher.handle.refused(refusal);
    }

    fn count_octets(&mut self) {
        let now = self.channel.sent_octets();
        self.pusher.handle.on_link(now - self.told_octets);
        self.told_octets = now;
    }
}

/// Length of an entry on the link.
fn entry_len(entry: &Entry) -> Result<usize, NetError> {
    let wrong = |what| Err(NetError::Entry { path: entry.path.to_string(), what });
    let octets: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if octets > wire::MAX_XATTRS_LEN || entry.xattrs.len() > wire::MAX_XATTRS {
        return wrong("more than 96 KiB or 256 of extended attributes");
    }
    if matches!(&entry.kind, Kind::Link { target } if target.len() > wire::MAX_TARGET) {
        return wrong("a link with a target of more than 4095 octets");
    }
    Ok(wire::entry_len(entry))
}

/// `all` in parts of about [`wire::BATCH`] octets.
fn batches<T>(
    all: &[T],
    len: impl Fn(&T) -> Result<usize, NetError>,
) -> Result<Vec<&[T]>, NetError> {
    let (mut parts, mut from, mut octets) = (Vec::new(), 0, 0);
    for (at, one) in all.iter().enumerate() {
        octets += len(one)?;
        if octets >= wire::BATCH {
            parts.push(&all[from..=at]);
            (from, octets) = (at + 1, 0);
        }
    }
    if from < all.len() {
        parts.push(&all[from..]);
    }
    Ok(parts)
}
