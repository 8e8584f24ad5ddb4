//! keepalived's notify FIFO, byte for byte: `INSTANCE "web" MASTER 150`.
//!
//! Opened for reading and writing, as keepalived does, so that lines wait in the pipe while nobody reads. When the
//! pipe is full too, a bounded backlog waits here. Nothing ever blocks.

use super::protocol::{Occasion, Subject};
use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};
use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Lines that wait beside those in the pipe; then the oldest goes.
const BACKLOG: usize = 1024;
/// Between two attempts to write what waits.
pub(super) const RETRY: Duration = Duration::from_millis(100);

/// keepalived's four words, priority last; a group always has 0.
pub(super) fn words(occasion: &Occasion) -> [String; 4] {
    let subject = match occasion.subject {
        Subject::Instance => "INSTANCE",
        Subject::Group => "GROUP",
    };
    let state = occasion.event.keepalived();
    [subject.into(), occasion.name.clone(), state.into(), occasion.priority.to_string()]
}

/// The line that keepalived writes.
pub(super) fn line(occasion: &Occasion) -> String {
    let [subject, name, state, priority] = words(occasion);
    format!("{subject} \"{name}\" {state} {priority}\n")
}

/// All FIFOs of this process.
#[derive(Debug, Default)]
pub(super) struct Fifos {
    pipes: HashMap<PathBuf, Pipe>,
    /// Connections of agents: as a rule one, and for a moment two when an agent connects again.
    agents: usize,
    /// Does somebody try again what waits?
    tended: bool,
}

#[derive(Debug, Default)]
struct Pipe {
    file: Option<File>,
    backlog: VecDeque<String>,
    lost: u64,
}

impl Fifos {
    /// Writes `line` into the FIFO at `path`, now or when there is room.
    ///
    /// # Errors
    /// When the FIFO cannot be made or opened: the line is lost.
    pub(super) fn write(&mut self, path: &Path, line: String) -> io::Result<()> {
        let pipe = self.pipes.entry(path.to_owned()).or_default();
        if pipe.file.is_none() {
            pipe.file = Some(open(path)?);
        }
        if pipe.backlog.len() >= BACKLOG {
            pipe.backlog.pop_front();
            pipe.lost += 1;
            if pipe.lost.is_power_of_two() {
                tracing::warn!("{}: nobody reads, {} lines lost", path.display(), pipe.lost);
            }
        }
        pipe.backlog.push_back(line);
        pipe.flush();
        Ok(())
    }

    /// Writes what waits; true when nothing waits any more.
    fn flush(&mut self) -> bool {
        self.pipes.values_mut().for_each(Pipe::flush);
        self.pipes.values().all(|pipe| pipe.backlog.is_empty())
    }

    /// True for the first who asks while something waits: he tries again, every [`RETRY`], until nothing does.
    pub(super) fn tend(&mut self) -> bool {
        !self.flush() && !std::mem::replace(&mut self.tended, true)
    }

    /// True when nothing waits any more; then he who tended may go.
    pub(super) fn tended(&mut self) -> bool {
        let done = self.flush();
        self.tended = !done;
        done
    }

    /// An agent has connected.
    pub(super) fn join(&mut self) {
        self.agents += 1;
    }

    /// An agent is gone. After the last one readers see the end of the file; lines that still wait have had their time.
    pub(super) fn leave(&mut self) {
        self.flush();
        self.agents = self.agents.saturating_sub(1);
        if self.agents == 0 {
            self.pipes.clear();
        }
    }
}

impl Pipe {
    fn flush(&mut self) {
        let Some(file) = &mut self.file else { return };
        while let Some(line) = self.backlog.front_mut() {
            // A line is shorter than PIPE_BUF: written whole or not at all, unless a name is endless.
            match file.write(line.as_bytes()) {
                Ok(written) if written >= line.len() => drop(self.backlog.pop_front()),
                Ok(written) => *line = line.split_off(written),
                Err(_) => return,
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    match mkfifo(path, Mode::from_bits_truncate(0o644)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(path)?;
    let meta = file.metadata()?;
    if !meta.file_type().is_fifo() {
        return Err(io::Error::other("is not a FIFO: remove it"));
    }
    if meta.uid() != geteuid().as_raw() && meta.uid() != 0 {
        return Err(io::Error::other("belongs to somebody else: remove it, vipd makes its own"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::io::Read;

    #[test]
    fn readers_see_the_end_when_the_last_agent_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        let mut fifos = Fifos::default();
        fifos.join();
        fifos.join();
        fifos.write(&path, "one\n".into()).unwrap();
        let mut reader =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        fifos.leave();
        let mut heard = [0; 16];
        assert_eq!(reader.read(&mut heard).unwrap(), 4);
        let nothing_yet = reader.read(&mut heard).unwrap_err();
        assert_eq!(nothing_yet.kind(), io::ErrorKind::WouldBlock);
        fifos.leave();
        assert_eq!(reader.read(&mut heard).unwrap(), 0);
    }
}
