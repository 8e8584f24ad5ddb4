//! Bytes <-> values. Never panics, whatever the octets; never allocates by a count field alone.
//!
//! Called by the engine (adverts, heartbeats) and by the socket edge (ARP and NDP frames). Decides nothing:
//! it says what is in a packet and which receive check of RFC 9568 section 7.1 it fails.

pub mod arp;
pub mod auth;
pub mod checksum;
pub mod counters;
pub mod heartbeat;
pub mod ip;
pub mod ndp;
pub mod receive;
pub mod vrrp;
