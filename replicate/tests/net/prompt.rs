//! One side of a session, and in place of the other a function: what it says is there before the next message goes out.

use std::collections::VecDeque;
use std::time::Duration;
use vipd_replicator::net::error::NetError;
use vipd_replicator::net::link::Channel;
use vipd_replicator::net::wire::Message;

/// Somebody who waits this long, in virtual time, waits for what never comes.
const PATIENCE: Duration = Duration::from_secs(3600);

pub(crate) struct Prompt<F> {
    answer: F,
    heard: VecDeque<Message>,
    now: Duration,
    /// Names of the messages that were said, in their order.
    pub(crate) said: Vec<&'static str>,
}

impl<F: FnMut(&Message) -> Vec<Message>> Prompt<F> {
    pub(crate) const fn new(answer: F) -> Self {
        Self { answer, heard: VecDeque::new(), now: Duration::ZERO, said: Vec::new() }
    }

    /// Says something without having been asked.
    pub(crate) fn first(mut self, messages: impl IntoIterator<Item = Message>) -> Self {
        self.heard.extend(messages);
        self
    }

    /// How often it was said.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.said.iter().filter(|said| **said == name).count()
    }
}

impl<F: FnMut(&Message) -> Vec<Message>> Channel for Prompt<F> {
    fn send(&mut self, message: &Message) -> Result<(), NetError> {
        self.said.push(message.name());
        self.heard.extend((self.answer)(message));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), NetError> {
        Ok(())
    }

    fn receive(&mut self, wait: Duration) -> Result<Option<Message>, NetError> {
        let message = self.heard.pop_front();
        if message.is_none() {
            self.now += wait;
        }
        if self.now > PATIENCE { Err(NetError::Closed) } else { Ok(message) }
    }

    fn now(&self) -> Duration {
        self.now
    }

    fn sent_octets(&self) -> u64 {
        0
    }
}
