//! The replicator: the owner of an instance pushes its state files to all other hosts of the group (DESIGN P5, 5.13).
//!
//! A process of its own (`vipd-replicate`) with its own privileges; it learns roles and epochs from the agent's control
//! socket and decides nothing about addresses.
//!
//! Rooms: [`path`] and [`manifest`] what a tree is, [`segment`] what its files are made of; [`ports`] what a session needs of the disk, on either side; [`set`]
//! a set of files on this host: who owns it, its tree on disk, what it reports. Behind [`set`], on either side: `scan`
//! and [`watch`] (what is there, what changed), `take`, `stage` and `apply` (what comes in), `keep` (trash and rescue),
//! `store` (what must survive a restart). [`net`]: everything between two hosts.
//!
//! # How a service drives a set
//!
//! ```no_run
//! use std::sync::Arc;
//! use vipd_replicator::clock::Clock;
//! use vipd_replicator::set::{Scope, Set};
//! use vipd_replicator::watch::{Change, Watch};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = vipd_agent::runtime::load::for_host("/etc/vipd/vipd.toml".as_ref(), "h1")?.meaning;
//! let config = model.replicates.first().ok_or("no [replicate.NAME]")?.clone();
//!
//! // Once for each `[replicate.NAME]`, in any thread; cheap to clone. What a crash interrupted waits for the first role.
//! let set = Set::open(Arc::new(config), "/var/lib/vipd".as_ref(), Clock::system())?;
//!
//! // From the agent, at every change of roles: first that it is so, from whichever thread, then on the disk. Both return after the disk has it; the same again is no work.
//! let epoch = vipd_core::types::Epoch { number: 5, host: 1 };
//! set.announce(true); // a tree that is being put in place stops before its next step
//! set.claim(epoch)?; // this host owns the instance: it pushes from here on
//! set.seal(&Scope::Everything)?; // scans; a tree that is other than the last becomes the next generation
//! set.announce(false);
//! set.follow(epoch)?; // or: somebody else owns it, and this is the newest ownership that is known
//!
//! // As owner: changes arrive debounced; seal, then wake the sessions. `seal` blocks for as long as it hashes.
//! let (send, due) = std::sync::mpsc::channel();
//! let watch = Watch::start(&set, move |change| drop(send.send(change)))?;
//! for change in due {
//!     match change {
//!         Change::Due(scope) => println!("{:?}", set.seal(&scope)?),
//!         Change::Degraded(why) => println!("only full scans from here on: {why}"),
//!         Change::Whole => println!("everything is watched again"),
//!     }
//! }
//! drop(watch); // as a standby no watch is needed
//!
//! // For each connection, in a blocking thread of its own: sessions know only these two.
//! let _source: Box<dyn vipd_replicator::ports::Source> = set.source();
//! let _target: Box<dyn vipd_replicator::ports::Target> = set.target();
//!
//! // Each second, and after `seal` and `commit`.
//! let _report = set.report(); // `instance` and `connected`, `progress` of the peers are the service's to fill in
//! for notice in set.notices() {
//!     println!("{} (alarm: {})", notice.text, notice.alarm); // `Word::Event`
//! }
//!
//! // In the end: what goes on ends early, and the state folder is free for the next one.
//! set.stop();
//! assert!(set.close(std::time::Duration::from_secs(5)));
//! # Ok(())
//! # }
//! ```
//!
//! All calls block on the disk; none may be made on an asynchronous thread. [`set::Set::report`],
//! [`set::Set::notices`] and [`set::Set::position`] return at once, also while another thread scans or applies.
#![forbid(unsafe_code)]

mod apply;
pub mod clock;
mod codec;
mod disk;
mod doubt;
pub mod error;
pub mod fail;
mod halt;
mod hashing;
mod intent;
mod keep;
pub mod manifest;
mod meta;
pub mod net;
mod owner;
mod part;
pub mod path;
mod places;
mod plan;
pub mod ports;
mod reading;
mod record;
mod root;
mod rules;
mod scan;
pub mod segment;
pub mod set;
mod settle;
mod sound;
mod source;
mod stage;
mod state;
mod store;
mod swap;
mod sweep;
mod take;
pub mod testing;
mod thin;
mod tree;
mod unsealed;
mod verify;
pub mod watch;
