//! keepalived.conf -> vipd.toml: files after what people publish, each with the file and the report that come of it.
//!
//! `UPDATE=1 cargo test -p vipd-core --test import` writes them anew; the difference is then reviewed like code.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "import/golden.rs"]
mod golden;
#[path = "import/keywords.rs"]
mod keywords;
#[path = "import/lines.rs"]
mod lines;
