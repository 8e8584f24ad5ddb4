//! The agent and its command line: thin edges around `vipd_core` (DESIGN sections 3 and 4).

pub mod lab;
