//! `vipd status --watch`: the screen again each second, in place, until a signal ends it.

use crate::cli::{Exit, Failure, screen};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use terminal_size::{Height, terminal_size};

/// Between two frames, in milliseconds.
const FRAME: u16 = 1000;
/// The alternate screen, without cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Back to what was there before.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Where a frame begins.
const HOME: &str = "\x1b[H";
/// Rest of the line, rest of the screen.
const REST_OF_LINE: &str = "\x1b[K";
const REST: &str = "\x1b[J";

/// Shows what `frame` gives until SIGINT, SIGTERM, or until nobody reads any more. Where no terminal reads, frames
/// follow each other, separated by an empty line.
pub(super) fn watch(mut frame: impl FnMut() -> String) -> Result<Exit, Failure> {
    let failed =
        |error: Errno| Failure::new(Exit::Failed, format!("cannot wait for signals: {error}"));
    let mut ends = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        ends.add(signal);
    }
    // Blocked, so that the terminal is always put right again.
    ends.thread_block().map_err(failed)?;
    let signals = SignalFd::with_flags(&ends, SfdFlags::SFD_CLOEXEC).map_err(failed)?;
    let in_place = std::io::stdout().is_terminal();
    if in_place && !put(ENTER) {
        return Ok(Exit::Done);
    }
    loop {
        let text = screen::for_stdout(&frame());
        let reads = if in_place { put(&drawn(&text)) } else { put(&format!("{text}\n")) };
        if !reads {
            break;
        }
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(FRAME)) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => break,
            Err(error) => {
                if in_place {
                    put(LEAVE);
                }
                return Err(failed(error));
            }
        }
    }
    if in_place {
        put(LEAVE);
    }
    Ok(Exit::Done)
}

/// In one write, so that nothing flickers. False: nobody reads any more.
fn put(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// The frame over the last one. What does not fit on this terminal is counted instead of scrolled.
fn drawn(text: &str) -> String {
    let rows = terminal_size().map_or(usize::MAX, |(_, Height(rows))| usize::from(rows));
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let shown = if lines.len() < rows { lines.len() } else { rows.saturating_sub(2) };
    let mut frame = String::from(HOME);
    for line in &lines[..shown] {
        frame.push_str(line);
        frame.push_str(REST_OF_LINE);
        frame.push('\n');
    }
    if shown < lines.len() {
        frame.push_str(&format!("... {} lines more{REST_OF_LINE}", lines.len() - shown));
    }
    frame.push_str(REST);
    frame
}
