//! What goes into the engine and what comes out: the whole boundary between deciding and doing.
//!
//! Used by the runtime, the simulation and the tests as `engine::io::X`, whichever file holds it.

mod event;
mod handover;
mod input;
mod memory;
mod order;
mod output;

pub use crate::types::{Reading, Verdict};
pub use event::*;
pub use handover::*;
pub use input::*;
pub use memory::*;
pub use order::*;
pub use output::*;
