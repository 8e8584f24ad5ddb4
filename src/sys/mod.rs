//! System calls: raw and packet sockets, epoll, timers, clock, scheduling, capabilities, the one-agent lock.
//!
//! The only `unsafe` code of vipd. Called by the protocol thread (sockets, poll, clock), at start
//! (scheduling, capabilities, lock) and by the kernel edge. It decides nothing: no protocol, no
//! configuration, no retry policy. Every socket is non-blocking and close-on-exec.
//!
//! | file | what |
//! |---|---|
//! | [`clock`] | monotonic and universal time; age of a received datagram |
//! | [`poll`] | [`Poller`] (epoll), [`DeadlineTimer`] (absolute timerfd), [`Waker`] (eventfd) |
//! | [`readable`] | [`Readable`]: a descriptor for the tokio runtime of the main thread |
//! | [`vrrp`] | [`VrrpSocket`]: protocol 112, one per interface and family |
//! | [`file`](mod@file) | files and sockets that are replaced as a whole |
//! | [`frame`] | [`FrameSocket`]: ARP and neighbour advertisements in, any Ethernet frame out |
//! | [`netlink`] | the messages in a datagram of rtnetlink |
//! | [`udp`] | [`HeartbeatSocket`]: one per heartbeat path |
//! | [`acl`] | a second group for a file |
//! | [`peer`] | who is at the other end of a unix socket |
//! | [`pidfd`] | processes as descriptors |
//! | [`sched`] | real-time scheduling, locked memory |
//! | [`capability`] | are the needed capabilities there? |
//! | [`lock`] | [`NamespaceLock`]: one agent per network namespace |
//! | [`inherit`] | descriptors that outlive exec |
//! | [`process`] | between fork and exec: session, user, descriptors; adopting orphans |
//! | [`watchdog`] | [`Watchdog`]: keep-alive to systemd without blocking |
//!
//! Sockets are bound to an interface *index*: when the kernel monitor reports another index for a
//! link, the owner of the sockets drops them and opens new ones.

pub mod acl;
pub mod capability;
pub mod clock;
pub mod file;
mod filter;
pub mod frame;
pub mod inherit;
pub mod lock;
pub mod netlink;
mod packet;
pub mod peer;
pub mod pidfd;
pub mod poll;
pub mod process;
pub mod readable;
pub mod sched;
pub mod udp;
pub mod vrrp;
pub mod watchdog;

pub use frame::FrameSocket;
pub use lock::{AlreadyRunning, NamespaceLock};
pub use poll::{DeadlineTimer, Poller, Waker};
pub use readable::Readable;
pub use udp::{Datagram, HeartbeatSocket};
pub use vrrp::{Delivery, Received, VrrpSocket};
pub use watchdog::Watchdog;
