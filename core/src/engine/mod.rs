//! All instances of this host: one call in, data out, ONE deadline.
//!
//! Contract: [`Engine::handle`] with one [`io::Input`], then [`Engine::poll_output`] until `None`, then sleep
//! until [`Engine::deadline`]. The engine never blocks, never looks at a clock and never forgets an input.

pub mod io;
