//! Configuration: TOML text -> schema (serde, with spans) -> check (what can be proved) -> [`model`].
//!
//! Called by `vipd run`, `vipd check` and the tests. It reads no files: the caller hands over the text.

pub mod model;
