//! What a host serves about itself: metrics, and whether it is alive and ready.

use std::net::SocketAddr;
use std::path::PathBuf;

/// `[telemetry]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telemetry {
    /// Where; `None`: nowhere.
    pub listen: Option<Listen>,
}

/// Where an HTTP client finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address of this host.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}
