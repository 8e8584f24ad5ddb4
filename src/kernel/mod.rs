//! The kernel's network configuration, by rtnetlink: what vipd puts on the host, and what it watches.
//!
//! Two halves that share nothing but the record of [`Claims`]:
//!
//! * [`Worker`], on the `kernel` thread, blocking: carries out the engine's [`Own`] and [`Renew`]
//!   orders. Hand orders in with [`Worker::own`] and [`Worker::renew`] as they come, and call
//!   [`Worker::step`] until it says [`Step::Idle`], looking for newer orders after each step.
//! * [`Monitor`], on the `main` thread: [`Monitor::next`] gives [`MonitorEvent`]s, one to one the
//!   engine's link and address inputs.
//!
//! ```text
//! let claims = Arc::new(Claims::open(runtime_dir));
//! let mut worker = Worker::new(model.clone(), runtime_dir, claims.clone())?;   // thread `kernel`
//! loop {
//!     while let Ok(order) = orders.try_recv() { worker.own(order) }            // newest of an instance wins
//!     match worker.step() {
//!         Step::Idle => wait for the next order,
//!         Step::Busy => {}                                                     // look at newer orders, go on
//!         Step::Applied(a) => engine <- Input::Applied(a),
//!         Step::Renewed(r) => engine <- Input::Renewed(r),
//!     }
//! }
//! let mut monitor = Monitor::open(&model, claims)?;                             // thread `main`, in tokio
//! loop { match monitor.next().await? { .. } }
//! ```
//!
//! The edge decides nothing: it never claims, releases or repairs on its own. What does not bear the
//! tag is never changed or removed. An address that is on the interface without the tag refuses the
//! claim ([`KernelFault::Foreign`]), except for the owner at 255, whose address it is: it stays as is.
//!
//! [`Own`]: vipd_core::engine::io::Own
//! [`Renew`]: vipd_core::engine::io::Renew
//! [`KernelFault::Foreign`]: vipd_core::engine::io::KernelFault::Foreign

mod address;
mod claim;
mod claims;
mod cleanup;
mod device;
mod filter;
mod host;
mod link;
mod monitor;
mod netlink;
mod route;
mod sysctl;
mod table;
mod worker;

pub use claims::Claims;
pub use cleanup::{Cleaned, cleanup};
pub use monitor::{Monitor, MonitorEvent};
pub use netlink::Refusal;
pub use worker::{Step, Worker};

/// `IFA_PROTO` of addresses, `rtm_protocol` of routes and `FRA_PROTOCOL` of rules that vipd puts on:
/// 118, the letter v. Free in iproute2's `rt_addrprotos` and `rt_protos`.
pub const OUR_TAG: u8 = b'v';
