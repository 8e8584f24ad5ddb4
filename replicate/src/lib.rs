//! The replicator: the owner of an instance pushes its state files to all other hosts of the group (DESIGN P5, 5.13).
//!
//! A process of its own (`vipd-replicate`) with its own privileges; it learns roles and epochs from the agent's control
//! socket and decides nothing about addresses.
//!
//! Rooms: [`path`] and [`manifest`] what a tree is; [`ports`] what a session needs of the disk, on either side;
//! [`net`] everything between two hosts.

pub mod manifest;
pub mod net;
pub mod path;
pub mod ports;
