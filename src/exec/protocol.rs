//! JSON lines between agent and `vipd exec`: the agent asks by name, `vipd exec` says how it ended.
//!
//! Bounded on both sides: a longer line ends the connection. The agent's words reach a program as arguments,
//! environment and standard input, never as the name of what is started.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use vipd_core::config::model::Moment;

/// Version of the protocol; the first line of `vipd exec` names it.
pub const VERSION: u32 = 2;
/// Longest line in octets, its newline included: an occasion with tens of thousands of addresses.
pub const LONGEST: usize = 4 * 1024 * 1024;

/// A program of the configuration, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// `[hook.NAME]`.
    Hook(String),
    /// `[check.NAME]`, a script.
    Check(String),
    /// The activation of `[instance.NAME]`.
    Activation(String),
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hook(name) => write!(f, "hook {name}"),
            Self::Check(name) => write!(f, "check {name}"),
            Self::Activation(name) => write!(f, "activation of {name}"),
        }
    }
}

/// What is told of: an instance or a sync group.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// An instance.
    Instance,
    /// A sync group; in keepalived's words only.
    Group,
}

/// Why a program runs. The words are part of the interface of hooks.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The addresses are here.
    Active,
    /// Became Backup.
    Backup,
    /// Cannot own.
    Fault,
    /// The agent leaves.
    Stop,
    /// Make this host able to serve.
    Activate,
    /// Bring what changed to the others: it is time.
    SyncInterval,
    /// The same: something changed.
    SyncChange,
    /// The same, everything and now: the addresses move.
    SyncBarrier,
    /// This host is about to own.
    PrePromote,
    /// It owns, or goes on owning.
    PostPromote,
    /// It owns, and is about to hand over.
    PreDemote,
    /// It owned; the addresses are gone.
    PostDemote,
    /// Is what this standby has whole?
    Verify,
}

impl Event {
    /// In vipd's words.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Backup => "backup",
            Self::Fault => "fault",
            Self::Stop => "stop",
            Self::Activate => "activate",
            Self::SyncInterval => "sync-interval",
            Self::SyncChange => "sync-change",
            Self::SyncBarrier => "sync-barrier",
            Self::PrePromote => "pre-promote",
            Self::PostPromote => "post-promote",
            Self::PreDemote => "pre-demote",
            Self::PostDemote => "post-demote",
            Self::Verify => "verify",
        }
    }

    /// In keepalived's words; it knows no activation, which is what it calls becoming master. What else it does not
    /// know is refused in the configuration; here it is what the host is at that moment.
    pub const fn keepalived(self) -> &'static str {
        match self {
            Self::Active | Self::Activate | Self::PostPromote | Self::PreDemote => "MASTER",
            Self::SyncInterval | Self::SyncChange | Self::SyncBarrier => "MASTER",
            Self::Backup | Self::PrePromote | Self::PostDemote | Self::Verify => "BACKUP",
            Self::Fault => "FAULT",
            Self::Stop => "STOP",
        }
    }

    /// When a hook hears of it.
    pub const fn moment(self) -> Moment {
        match self {
            Self::Active | Self::Activate => Moment::Active,
            Self::Backup => Moment::Backup,
            Self::Fault => Moment::Fault,
            Self::Stop => Moment::Stop,
            Self::SyncInterval => Moment::SyncInterval,
            Self::SyncChange => Moment::SyncChange,
            Self::SyncBarrier => Moment::SyncBarrier,
            Self::PrePromote => Moment::PrePromote,
            Self::PostPromote => Moment::PostPromote,
            Self::PreDemote => Moment::PreDemote,
            Self::PostDemote => Moment::PostDemote,
            Self::Verify => Moment::Verify,
        }
    }
}

/// What a program is told: its arguments, its environment, and as it stands its standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occasion {
    /// Instance or group.
    pub subject: Subject,
    /// Its name.
    pub name: String,
    /// What happened.
    pub event: Event,
    /// Role now.
    pub role: String,
    /// Role before; empty at the start.
    pub prev_role: String,
    /// Why, in a sentence.
    pub reason: String,
    /// This host.
    pub host: String,
    /// Address of the owner, where known.
    pub owner: String,
    /// Epoch of the last claim here: `number.host`.
    pub epoch: String,
    /// Effective priority; 0 for a group, as with keepalived.
    pub priority: u8,
    /// Addresses with prefix lengths.
    pub vips: Vec<String>,
    /// Virtual router identifier.
    pub vrid: u8,
    /// Service interface.
    pub interface: String,
    /// Events of this subject that this hook did not get because it was late.
    pub skipped: u64,
    /// The other hosts that it is about: the target of a move, its source, else all of the instance.
    pub peers: Vec<Peer>,
    /// The operator's order that this is part of; empty: none that this host knows of.
    pub op_id: String,
    /// The program is ended after so many milliseconds; 0: as the configuration says.
    pub deadline_ms: u64,
}

/// Another host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub host: String,
    /// Its addresses for heartbeats, one for each network; none without heartbeats.
    pub addresses: Vec<String>,
}

/// From the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// Start a program; answered by [`Tell::Ended`].
    Run {
        /// Number of the run, unique in this connection.
        run: u64,
        /// Which one.
        program: Which,
        /// What it is told; checks are told nothing.
        occasion: Option<Occasion>,
    },
    /// Write a line into the FIFO of this hook. Not answered.
    Line {
        /// `[hook.NAME]`.
        hook: String,
        /// What the line says.
        occasion: Occasion,
    },
}

/// From `vipd exec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tell {
    /// The first line.
    Hello {
        /// [`VERSION`].
        v: u32,
        /// Its release.
        version: String,
    },
    /// A program ended, or was not started.
    Ended {
        /// Number of the run.
        run: u64,
        /// How.
        end: End,
        /// What it wrote, standard output and error as they came, at most 4 KiB.
        output: String,
        /// The last line of its standard output, at most 1 KiB.
        last: String,
        /// From start to end, milliseconds.
        took_ms: u64,
    },
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal, which vipd did not send.
    Killed(i32),
    /// By vipd: it took longer than it may.
    TimedOut,
    /// It could not be started: says nothing about what it would have found.
    NotStarted(String),
    /// It is not in the configuration, or somebody else could have changed it.
    Refused(String),
    /// Nobody knows: the connection broke. Never said by `vipd exec` itself.
    Unknown(String),
}

impl End {
    /// Exit code 0?
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Exited(0))
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "ended with code {code}"),
            Self::Killed(signal) => write!(f, "was killed by signal {signal}"),
            Self::TimedOut => f.write_str("took too long and was ended"),
            Self::NotStarted(error) => write!(f, "could not be started: {error}"),
            Self::Refused(reason) => write!(f, "was refused: {reason}"),
            Self::Unknown(reason) => write!(f, "ended nobody knows how: {reason}"),
        }
    }
}

/// `message` as a line with its newline.
///
/// # Errors
/// When the line would be longer than [`LONGEST`].
pub(super) fn line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    if line.len() > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the line is too long"));
    }
    Ok(line)
}

/// The next message; `None` at the end of the connection.
///
/// # Errors
/// When a line is too long, cut off or not such a message.
pub(super) async fn next<M: DeserializeOwned>(
    from: &mut (impl AsyncBufRead + Unpin),
) -> io::Result<Option<M>> {
    let mut line = Vec::new();
    if from.take(LONGEST as u64).read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    if !line.ends_with(b"\n") {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long or cut off"));
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use super::*;

    async fn read(bytes: &[u8]) -> io::Result<Option<Ask>> {
        next(&mut tokio::io::BufReader::new(bytes)).await
    }

    #[tokio::test(flavor = "current_thread")]
    async fn survives_the_line_and_refuses_rubbish() {
        let ask = Ask::Run { run: 7, program: Which::Check("disk".into()), occasion: None };
        assert_eq!(read(&line(&ask).unwrap()).await.unwrap(), Some(ask));
        assert_eq!(read(b"").await.unwrap(), None);
        for rubbish in [
            b"{}\n".as_slice(),
            b"\n",
            b"\xff\n",
            b"{\"run\":{\"run\":1,\"program\":{\"argv\":[\"/bin/sh\"]},\"occasion\":null}}\n",
            b"{\"run\":{\"run\":1,\"program\":{\"hook\":\"x\"},\"occasion\":null,\"user\":\"root\"}}\n",
            b"{\"run\":{\"run\":1",
            &[b'[' ; LONGEST + 1],
        ] {
            assert!(read(rubbish).await.is_err());
        }
    }
}
