//! Two hosts and nothing else: sessions over channels in memory and in virtual time, links over socket pairs, listeners
//! over loopback. Trees are in memory, or made up as they are read.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what was measured is shown")]

mod delta;
mod hostile;
mod link;
mod listen;
mod memory;
mod middle;
mod pipe;
mod prompt;
mod sessions;
mod trees;
