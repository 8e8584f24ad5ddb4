//! Joins the rooms: threads, start and stop order, signals (DESIGN sections 4 and 5.7).
//!
//! | file | what |
//! |---|---|
//! | `agent` | `vipd run`: start order, the main thread, stop order |
//! | `threads` | the main loop and the two threads beside it |
//! | `protocol` | the protocol thread: epoll loop around the engine |
//! | `sockets`, `neighbours` | its sockets, and the frames of neighbours |
//! | `pulse` | its watchdog ping |
//! | `worker` | the kernel thread |
//! | `slots`, `queue` | orders to the kernel thread, inputs to the protocol thread |
//! | `load`, `keys`, `boot`, `lock` | what is read and taken at start |
//! | `report` | the engine's snapshot as status document |
//! | `roles`, `hooks`, `activation` | what `vipd exec` is asked to run, and when |
//! | `scripts` | script checks, by way of `vipd exec` |
//! | `flaps` | what flap control remembers over a restart |
//! | `exec` | `vipd exec` |
//! | `cleanup` | `vipd cleanup` |

mod activation;
pub mod agent;
mod boot;
pub mod cleanup;
mod crashes;
pub mod exec;
mod flaps;
mod hooks;
pub mod keys;
pub mod load;
mod lock;
mod neighbours;
mod observe;
mod protocol;
mod pulse;
mod queue;
mod report;
mod roles;
mod scripts;
mod slots;
mod sockets;
mod threads;
mod worker;
