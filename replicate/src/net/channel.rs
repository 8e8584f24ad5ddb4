//! What the two drivers see of a link, and tests of them in its place.

use super::error::NetError;
use super::wire::Message;
use std::time::Duration;

/// What drivers need: messages one after the other, and the time.
pub trait Channel {
    /// Sends `message`; small ones may wait for [`Channel::flush`] or for the next [`Channel::receive`].
    ///
    /// # Errors
    /// The connection has ended.
    fn send(&mut self, message: &Message) -> Result<(), NetError>;
    /// Lets everything go that waits.
    ///
    /// # Errors
    /// The connection has ended.
    fn flush(&mut self) -> Result<(), NetError>;
    /// The next message; `None`: none came within `wait`, or somebody woke this side. Pings are not shown.
    ///
    /// # Errors
    /// The connection has ended, and every message that came before was received.
    fn receive(&mut self, wait: Duration) -> Result<Option<Message>, NetError>;
    /// Monotonic, since any fixed moment.
    fn now(&self) -> Duration;
    /// Octets that went out, with all that encryption adds.
    fn sent_octets(&self) -> u64;
}
