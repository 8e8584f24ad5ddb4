//! `tcp` and `unix`: does it accept a connection?

use super::outcome::{Outcome, words};
use super::task::Measure;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use vipd_core::engine::io::Verdict;

/// `tcp = "127.0.0.1:443"`.
#[derive(Debug)]
pub(super) struct Tcp {
    pub(super) to: SocketAddr,
    pub(super) source: Option<IpAddr>,
}

impl Measure for Tcp {
    const LATE: Verdict = Verdict::Fail;

    async fn run(&mut self) -> Outcome {
        let what = format!("tcp {}", self.to);
        match connect(self.to, self.source).await {
            Ok(_closed_again) => Outcome::pass(format!("{what}: accepts")),
            Err(e) => Outcome::network(&what, &e),
        }
    }
}

/// A connection from `source`, or from where the kernel wants.
pub(super) async fn connect(to: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(to).await?;
    if is_loop(&stream) {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// Is it connected with itself? Where nobody listens on a port of this host that the kernel also gives out to clients,
/// it may give just that port to us, and then both ends are ours: nobody is there.
fn is_loop(stream: &TcpStream) -> bool {
    stream.local_addr().ok().is_some_and(|own| stream.peer_addr().is_ok_and(|peer| peer == own))
}

/// `unix = "/run/app.sock"`.
#[derive(Debug)]
pub(super) struct Unix {
    pub(super) path: PathBuf,
}

impl Measure for Unix {
    const LATE: Verdict = Verdict::Fail;

    async fn run(&mut self) -> Outcome {
        let what = format!("unix {}", self.path.display());
        match UnixStream::connect(&self.path).await {
            Ok(_closed_again) => Outcome::pass(format!("{what}: accepts")),
            // Of a connect to a unix socket alone: the listener accepts nobody.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                Outcome::fail(format!("{what}: its queue of connections is full"))
            }
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Outcome::unknown(format!(
                "{what}: {}: the user of vipd needs the right to write to it",
                words(&e)
            )),
            Err(e) => Outcome::network(&what, &e),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::net::TcpListener;

    #[tokio::test]
    async fn a_listener_accepts_and_a_closed_port_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let mut tcp = Tcp { to, source: Some([127, 0, 0, 1].into()) };
        assert_eq!(tcp.run().await, Outcome::pass(format!("tcp {to}: accepts")));
        drop(listener);
        assert_eq!(tcp.run().await, Outcome::fail(format!("tcp {to}: connection refused")));
    }

    #[tokio::test]
    async fn who_met_himself_found_nobody() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        assert!(is_loop(&socket.connect(own).await.unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!is_loop(&connect(listener.local_addr().unwrap(), None).await.unwrap()));
    }

    #[tokio::test]
    async fn a_source_that_is_not_here_is_no_fault_of_the_target() {
        let to = "127.0.0.1:9".parse().unwrap();
        let mut tcp = Tcp { to, source: Some([192, 0, 2, 213].into()) };
        assert_eq!(tcp.run().await.verdict, Verdict::Unknown);
    }

    #[tokio::test]
    async fn unix_sockets() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("app.sock");
        let mut unix = Unix { path: path.clone() };
        let gone = unix.run().await;
        assert_eq!(gone.verdict, Verdict::Fail);
        assert!(gone.detail.ends_with("app.sock: no such file or directory"), "{}", gone.detail);
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(unix.run().await.verdict, Verdict::Pass);
        drop(listener);
        assert_eq!(unix.run().await.verdict, Verdict::Fail, "a socket without listener");
    }
}
