//! Joins the rooms: threads, start and stop order, signals (DESIGN sections 4 and 5.7).
//!
//! | file | what |
//! |---|---|
//! | `agent` | `vipd run`: start order, the main thread (`agent/serving`, `agent/duties`, `agent/reloading`), stop order |
//! | `ending`, `manager`, `successor` | how the process ends: clean stop, or another program in its place |
//! | `handover` | what the agent after this one reads at its start |
//! | `threads` | the main loop and the two threads beside it |
//! | `protocol` | the protocol thread: epoll loop around the engine |
//! | `sockets`, `neighbours` | its sockets, and the frames of neighbours |
//! | `pulse` | its watchdog ping |
//! | `worker` | the kernel thread |
//! | `slots`, `queue`, `told` | orders to the kernel thread, inputs to the protocol thread, what that one tells the main thread |
//! | `load`, `keys`, `boot`, `lock` | what is read and taken at start |
//! | `standing`, `reload` | which configuration is in force, the last good one; how another one comes into force |
//! | `control` | the handler of the control socket: reads, changes, subscriptions |
//! | `replica` | the way to the replicator: roles and barriers there, reports back |
//! | `report` | the engine's snapshot as status document |
//! | `chronicle` | what happened: history, subscribers, who waits for an operation |
//! | `tasks` | what an operator asks of the main thread |
//! | `roles`, `hooks`, `activation` | what `vipd exec` is asked to run, and when |
//! | `sync` | when hooks bring state to the other hosts: clocks and watchers |
//! | `moving` | programs in a planned move: who may refuse it, and the barrier |
//! | `scripts` | script checks, by way of `vipd exec` |
//! | `memory` | what flap control and operators' orders leave over a restart |
//! | `exec` | `vipd exec` |
//! | `cleanup` | `vipd cleanup` |

mod activation;
pub mod agent;
mod boot;
mod chronicle;
pub mod cleanup;
mod control;
mod crashes;
mod ending;
pub mod exec;
mod handover;
mod hooks;
pub mod keys;
pub mod load;
mod lock;
mod manager;
mod memory;
mod moving;
mod neighbours;
mod observe;
mod protocol;
mod pulse;
mod queue;
pub mod reload;
mod replica;
mod report;
mod rest;
mod roles;
mod scripts;
mod slots;
mod sockets;
pub mod standing;
mod successor;
mod sync;
mod tasks;
mod threads;
mod told;
mod worker;
