//! Hosts, switches and a client in namespaces, with real agents and real faults.
//!
//! Three callers share these rooms: `vipd lab`, the namespace tests and the benches. The lab looks at
//! agents only from outside (their processes, the address tables of their hosts, the client's
//! packets) and never uses the agent's own modules.

pub mod agent;
pub mod clock;
mod echo;
pub mod faults;
pub mod netlink;
pub mod netns;
pub mod observe;
pub mod outage;
pub mod ownership;
pub mod plan;
pub mod play;
pub mod probe;
pub mod processes;
pub mod room;
pub mod scene;
pub mod stage;
pub mod topology;
