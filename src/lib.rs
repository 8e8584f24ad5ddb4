//! The agent and its command line: thin edges around `vipd_core` (DESIGN sections 3 and 4).
//!
//! The core decides and can do nothing; the rooms here do and decide nothing. Edges know the core's types,
//! not each other; `runtime` knows all of them.
//!
//! | room | what it does |
//! |---|---|
//! | `cli` | one file per verb: what the operator typed becomes calls and an exit code |
//! | `runtime` | threads, start and stop order, signals; carries core outputs to the edges and back |
//! | `control` | unix socket of the running agent: protocol, server, client, the status document |
//! | `doctor` | what on this host or its networks works against vipd; looks and changes nothing |
//! | `exec` | `vipd exec`: the process that runs the operator's programs, and the agent's way to it |
//! | `health` | measures: links, services, processes, files, pressure, disks; decides nothing |
//! | `telemetry` | events become log lines |
//! | `sys` | the only `unsafe` code: raw and packet sockets, epoll, timerfd, clock, scheduling, capabilities |
//! | `kernel` | netlink: addresses, links, routes, macvlan, sysctls; the monitor |
//! | `lab` | hosts as network namespaces, faults, a client that counts what it loses |
//!
//! ```text
//! NIC > raw socket (sys) > Input::Packet > engine.handle(now, ..)            thread `protocol`
//!   Output::Send        -> sendmsg at once, Input::Sent back                  thread `protocol`
//!   Output::Announce    -> ARP/NA frames at once                              thread `protocol`
//!   Output::Own, Renew  -> one slot per instance, newest wins -> netlink      thread `kernel`
//!                          -> Input::Applied, Input::Renewed
//!   Output::Event       -> bounded queue -> log, status                       thread `main`
//! netlink monitor, signals, control verbs -> bounded queue -> Input::*        thread `main` -> `protocol`
//! timerfd(absolute, engine.deadline()) -> Input::Timeout, after every socket was drained
//! ```

pub mod cli;
pub mod control;
pub mod doctor;
pub mod exec;
pub mod health;
pub mod kernel;
pub mod lab;
pub mod runtime;
pub mod sys;
pub mod telemetry;
