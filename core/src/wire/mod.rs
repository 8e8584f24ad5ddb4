//! Bytes <-> values. Never panics, whatever the octets; never allocates by a count field alone.
//!
//! Called by the engine (adverts, heartbeats) and by the socket edge (ARP and NDP frames). Decides nothing:
//! it says what is in a packet and which check of `protocol.md` 3.3 it fails.
