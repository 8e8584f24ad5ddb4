//! What is about to be done to the roots, on disk before the first step of it: so that a crash in the middle is finished.

use crate::codec::{In, Malformed, Out, Sink};
use crate::error::Error;
use crate::keep::{Keep, Rescued};
use crate::manifest::{Delta, Hash};
use crate::path::RelPath;
use crate::plan::{Act, Expect};
use crate::ports::Position;
use crate::record::Folder;
use std::io;
use std::sync::Arc;

/// Its file.
const NAME: &str = "intent";

/// A tree that is being put in place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Intent {
    /// The tree before.
    pub(crate) based: Position,
    /// The tree after.
    pub(crate) to: Position,
    pub(crate) lineage: Vec<Position>,
    pub(crate) root: Hash,
    /// Who sent it.
    pub(crate) from: String,
    /// Seconds since 1970.
    pub(crate) at_s: u64,
    /// Where versions are kept: [`crate::keep`].
    pub(crate) trash: String,
    pub(crate) rescue: String,
    /// From the committed tree to the new one.
    pub(crate) delta: Delta,
    pub(crate) acts: Vec<Act>,
    pub(crate) rescued: Vec<Rescued>,
    /// Roots that are swapped as a whole, and the inode of the new one.
    pub(crate) swap: Vec<(u16, u64)>,
}

impl Intent {
    pub(crate) fn write(&self, folder: &Folder) -> Result<(), Error> {
        folder.seal(NAME, |sink| self.encode(sink))
    }

    pub(crate) fn read(folder: &Folder) -> Result<Option<Self>, Error> {
        let Some(body) = folder.unseal(NAME)? else { return Ok(None) };
        Self::decode(&mut In(&body))
            .map(Some)
            .map_err(|Malformed| folder.corrupt(NAME, "it does not decode"))
    }

    pub(crate) fn remove(folder: &Folder) -> Result<(), Error> {
        let removed = folder.dir.unlink(NAME.as_ref()).and_then(|()| folder.dir.sync());
        removed.map_err(|error| folder.error(NAME, error))
    }

    fn encode(&self, sink: Sink<'_>) -> io::Result<()> {
        let mut out = Out::default();
        out.position(self.based);
        out.position(self.to);
        out.u32(u32::try_from(self.lineage.len()).unwrap_or(u32::MAX));
        self.lineage.iter().for_each(|position| out.position(*position));
        out.0.extend(self.root);
        out.bytes(self.from.as_bytes());
        out.u64(self.at_s);
        out.bytes(self.trash.as_bytes());
        out.bytes(self.rescue.as_bytes());
        out.u64(self.delta.put.len() as u64);
        for entry in &self.delta.put {
            out.entry(entry);
            out.hand_on(sink)?;
        }
        out.u64(self.delta.gone.len() as u64);
        for path in &self.delta.gone {
            out.path(path);
            out.hand_on(sink)?;
        }
        out.u64(self.acts.len() as u64);
        for act in &self.acts {
            encode_act(&mut out, act);
            out.hand_on(sink)?;
        }
        out.u64(self.rescued.len() as u64);
        for line in &self.rescued {
            out.u32(u32::from(line.root));
            out.bytes(&serde_json::to_vec(line).unwrap_or_default());
            out.hand_on(sink)?;
        }
        out.u64(self.swap.len() as u64);
        for (root, ino) in &self.swap {
            out.u32(u32::from(*root));
            out.u64(*ino);
        }
        out.hand_on_rest(sink)
    }

    fn decode(octets: &mut In<'_>) -> Result<Self, Malformed> {
        let text = |octets: &mut In<'_>| {
            String::from_utf8(octets.bytes()?.to_vec()).map_err(|_| Malformed)
        };
        let mut intent =
            Self { based: octets.position()?, to: octets.position()?, ..Self::default() };
        for _ in 0..octets.u32()? {
            intent.lineage.push(octets.position()?);
        }
        intent.root = octets.hash()?;
        intent.from = text(octets)?;
        intent.at_s = octets.u64()?;
        intent.trash = text(octets)?;
        intent.rescue = text(octets)?;
        for _ in 0..octets.u64()? {
            intent.delta.put.push(octets.entry()?);
        }
        for _ in 0..octets.u64()? {
            intent.delta.gone.push(octets.path()?);
        }
        for _ in 0..octets.u64()? {
            let act = decode_act(octets)?.sharing(&intent.delta);
            intent.acts.push(act);
        }
        for _ in 0..octets.u64()? {
            let root = u16::try_from(octets.u32()?).map_err(|_| Malformed)?;
            let line: Rescued = serde_json::from_slice(octets.bytes()?).map_err(|_| Malformed)?;
            intent.rescued.push(Rescued { root, ..line });
        }
        for _ in 0..octets.u64()? {
            let root = u16::try_from(octets.u32()?).map_err(|_| Malformed)?;
            intent.swap.push((root, octets.u64()?));
        }
        Ok(intent)
    }
}

impl Act {
    /// The same with the very entry that `delta` puts, where that is like its own: each is in memory once.
    fn sharing(mut self, delta: &Delta) -> Self {
        if let Self::Folder { entry } | Self::Place { entry, .. } | Self::Adjust { entry } =
            &mut self
            && let Ok(at) = delta.put.binary_search_by(|put| put.path.cmp(&entry.path))
            && let Some(put) = delta.put.get(at)
            && put == entry
        {
            *entry = Arc::clone(put);
        }
        self
    }
}

fn encode_act(out: &mut Out, act: &Act) {
    match act {
        Act::Aside { path, keep, expect } => {
            out.u8(0);
            out.path(path);
            encode_keep(out, *keep, *expect);
        }
        Act::Rmdir { path } => {
            out.u8(1);
            out.path(path);
        }
        Act::Folder { entry } => {
            out.u8(2);
            out.entry(entry);
        }
        Act::Place { number, entry, keep, expect } => {
            out.u8(3);
            out.u32(*number);
            out.entry(entry);
            encode_keep(out, *keep, *expect);
        }
        Act::Adjust { entry } => {
            out.u8(4);
            out.entry(entry);
        }
    }
}

fn encode_keep(out: &mut Out, keep: Keep, expect: Option<Expect>) {
    out.u8(match keep {
        Keep::Nothing => 0,
        Keep::Trash => 1,
        Keep::Rescue => 2,
    });
    out.u8(u8::from(expect.is_some()));
    if let Some(expect) = expect {
        out.u64(expect.ino);
        out.u64(expect.size);
        out.i64(expect.mtime_ns);
    }
}

fn decode_act(octets: &mut In<'_>) -> Result<Act, Malformed> {
    Ok(match octets.u8()? {
        0 => {
            let path: RelPath = octets.path()?;
            let (keep, expect) = decode_keep(octets)?;
            Act::Aside { path, keep, expect }
        }
        1 => Act::Rmdir { path: octets.path()? },
        2 => Act::Folder { entry: octets.entry()? },
        3 => {
            let (number, entry) = (octets.u32()?, octets.entry()?);
            let (keep, expect) = decode_keep(octets)?;
            Act::Place { number, entry, keep, expect }
        }
        4 => Act::Adjust { entry: octets.entry()? },
        _ => return Err(Malformed),
    })
}

fn decode_keep(octets: &mut In<'_>) -> Result<(Keep, Option<Expect>), Malformed> {
    let keep = match octets.u8()? {
        0 => Keep::Nothing,
        1 => Keep::Trash,
        2 => Keep::Rescue,
        _ => return Err(Malformed),
    };
    let expect = match octets.u8()? {
        0 => None,
        _ => Some(Expect { ino: octets.u64()?, size: octets.u64()?, mtime_ns: octets.i64()? }),
    };
    Ok((keep, expect))
}
