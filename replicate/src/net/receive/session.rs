//! One session of a receiver: what it answers when.

use super::content::{Filling, Trouble};
use super::manifest::collect;
use super::*;
use crate::manifest::Manifest;
use crate::net::wire::{MAX_NEEDS, Needs, Offered};
use crate::ports::Offer;

/// How long one waits for a message before one looks whether there is something else to do; the link knows who is dead.
const LOOK_UP: Duration = Duration::from_secs(1);
/// How often contents are asked for again that did not come out as the manifest says.
const ROUNDS: u32 = 3;

/// Takes what `from` pushes over `channel`, whose hello was answered, into `target`, until the connection ends.
///
/// # Errors
/// Always: what ended it.
pub fn drive(
    channel: &mut dyn Channel,
    from: &str,
    target: &mut dyn Target,
    notes: &Notes,
) -> Result<(), NetError> {
    // Hashing a large manifest takes a moment.
    let mut known: Option<(Arc<Manifest>, Hash)> = None;
    loop {
        if notes.take_ask_again() {
            channel.send(&Message::AskAgain)?;
            channel.flush()?;
        }
        match channel.receive(LOOK_UP)? {
            None => {}
            Some(Message::Offer(offered)) => {
                notes.pushed_under(offered.position.epoch);
                let (_, manifest) = target.standing();
                let root = match known.take() {
                    Some((before, root)) if Arc::ptr_eq(&before, &manifest) => root,
                    _ => manifest.root(),
                };
                let offer = collect(channel, &offered, (&manifest, root))?;
                known = Some((manifest, root));
                match offer {
                    Some(manifest) => take(channel, from, target, offered, manifest)?,
                    None => channel.send(&Message::Baseless)?,
                }
            }
            Some(Message::Current(current)) => {
                let (position, _) = target.standing();
                if current.position == position {
                    target.current(from, position, current.behind);
                }
            }
            Some(Message::Bye(text)) => return Err(NetError::Bye(text)),
            Some(other) => return Err(NetError::protocol(other.name(), "nothing was offered")),
        }
    }
}

/// Puts an offer to the target, and carries it out.
fn take(
    channel: &mut dyn Channel,
    from: &str,
    target: &mut dyn Target,
    offered: Offered,
    manifest: Manifest,
) -> Result<(), NetError> {
    let Offered { position, lineage, root, .. } = offered;
    let manifest = Arc::new(manifest);
    let offer = Offer { position, lineage, manifest: Arc::clone(&manifest), root };
    let taken = target.take(from, &offer).and_then(|stage| Filling::new(stage, &manifest));
    let mut filling = match taken {
        Ok(filling) => filling,
        Err(refusal) => return channel.send(&Message::Refused(refusal)),
    };
    let (files, octets) = filling.lacking();
    target.pending(from, files, octets);
    for round in 0.. {
        ask(channel, &filling.needs())?;
        match fill(channel, &mut filling) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(Trouble::Net(error)) => return Err(error),
            Err(Trouble::Refused(refusal)) => {
                // What is open would stay so until the sender has heard it.
                drop(filling);
                return refuse(channel, refusal);
            }
        }
        if !filling.has_again() {
            break;
        }
        if round == ROUNDS {
            let text = "a file does not come out as its manifest says, again and again: \
                        check the disk of this host";
            return channel.send(&Message::Refused(Refusal::Disk(text.into())));
        }
    }
    channel.send(&match filling.commit() {
        Ok(()) => Message::Taken(position, root),
        Err(refusal) => Message::Refused(refusal),
    })
}

/// Tells which files are lacking.
fn ask(channel: &mut dyn Channel, needs: &[(u32, bool)]) -> Result<(), NetError> {
    let mut batches = needs.chunks(MAX_NEEDS).peekable();
    if batches.peek().is_none() {
        channel.send(&Message::Needs(Needs { files: Vec::new(), last: true }))?;
    }
    while let Some(batch) = batches.next() {
        let (files, last) = (batch.to_vec(), batches.peek().is_none());
        channel.send(&Message::Needs(Needs { files, last }))?;
    }
    channel.flush()
}

/// Takes contents until all have been sent (`true`), or the sender takes its offer back.
fn fill(channel: &mut dyn Channel, filling: &mut Filling<'_>) -> Result<bool, Trouble> {
    loop {
        match hear(channel)? {
            Message::Files(body) => filling.files(&body)?,
            Message::Outline(outline) => {
                let lacks = filling.outline(&outline)?;
                answer(channel, filling, lacks)?;
            }
            Message::Chunks(chunks) => {
                let lacks = filling.chunks(&chunks)?;
                answer(channel, filling, lacks)?;
            }
            Message::Data(octets) => filling.data(&octets)?,
            Message::Withheld(entries) => filling.withhold(&entries)?,
            Message::Sent => return filling.sent().map(|()| true),
            Message::Abort => {
                channel.send(&Message::Abort)?;
                return Ok(false);
            }
            other => return Err(NetError::protocol(other.name(), "contents must come here").into()),
        }
    }
}

/// Tells what is lacking; what is not can be copied now.
fn answer(
    channel: &mut dyn Channel,
    filling: &mut Filling<'_>,
    lacks: Vec<bool>,
) -> Result<(), Trouble> {
    channel.send(&Message::Lacks(lacks))?;
    channel.flush()?;
    filling.copy()
}

/// Refuses in the middle: what is underway is not looked at any more.
fn refuse(channel: &mut dyn Channel, refusal: Refusal) -> Result<(), NetError> {
    channel.send(&Message::Refused(refusal))?;
    channel.flush()?;
    loop {
        match hear(channel)? {
            Message::Files(_)
            | Message::Outline(_)
            | Message::Chunks(_)
            | Message::Data(_)
            | Message::Withheld(_) => {}
            Message::Sent => return Ok(()),
            Message::Abort => return channel.send(&Message::Abort),
            other => return Err(NetError::protocol(other.name(), "contents must come here")),
        }
    }
}

/// The next message, however long it takes: the link notices when the other host is dead.
pub(super) fn hear(channel: &mut dyn Channel) -> Result<Message, NetError> {
    loop {
        match channel.receive(LOOK_UP)? {
            None => {}
            Some(Message::Bye(text)) => return Err(NetError::Bye(text)),
            Some(message) => return Ok(message),
        }
    }
}
