//! What the virtual address is there for: a small web server on every host that answers with its host's name.
//!
//! Called by the stage. It listens in the host's namespace, and dies, hangs and comes back when told; whether an
//! agent notices is the agent's affair.

use super::netns::Netns;
use anyhow::Context as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where it listens, on every address of the host.
pub const PORT: u16 = 80;
/// How long it waits before it looks whether it was told something.
const IDLE_MS: u16 = 20;
/// How long it waits for a request, and who asks for an answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// More of a request than this is not read.
const REQUEST: usize = 4096;

/// What a service does.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Mood {
    /// Answers.
    Serves,
    /// Connections are accepted by the kernel, and nobody answers: a stopped or deadlocked program.
    Hangs,
    /// Connections are refused: a program that has ended.
    Dead,
}

/// The service of one host.
#[derive(Debug)]
pub struct Service {
    name: String,
    hung: Arc<AtomicBool>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Service {
    /// A service that is dead.
    #[must_use]
    pub fn new(host: &str) -> Self {
        Self { name: host.into(), hung: Arc::default(), running: None }
    }

    /// What it does.
    #[must_use]
    pub fn mood(&self) -> Mood {
        match (&self.running, self.hung.load(Ordering::Relaxed)) {
            (None, _) => Mood::Dead,
            (Some(_), true) => Mood::Hangs,
            (Some(_), false) => Mood::Serves,
        }
    }

    /// Makes it do something else; `ns` is its host.
    ///
    /// # Errors
    /// When the port cannot be had, or no thread.
    pub fn set(&mut self, ns: &Netns, mood: Mood) -> anyhow::Result<()> {
        self.hung.store(mood == Mood::Hangs, Ordering::Relaxed);
        match (mood, &self.running) {
            (Mood::Dead, _) => self.end(),
            (_, Some(_)) => {}
            (_, None) => {
                let name = &self.name;
                let listener = ns.run(|| Ok(listen()?));
                let listener =
                    listener.with_context(|| format!("the service of {name} has no port"))?;
                let stop = Arc::new(AtomicBool::new(false));
                let page = page(&self.name);
                let (stopped, hung) = (Arc::clone(&stop), Arc::clone(&self.hung));
                let thread = std::thread::Builder::new()
                    .name(format!("lab-web-{name}"))
                    .spawn(move || serve(&listener, &page, &stopped, &hung))?;
                self.running = Some(Running { stop, thread });
            }
        }
        Ok(())
    }

    /// Ends it, and with it its port.
    pub fn end(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop.store(true, Ordering::Relaxed);
            // A thread that panicked has printed why.
            let _ = running.thread.join();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
    }
}

/// Asks for the page at `addr` from a machine: the name of the host that served it, or `None` without an answer.
#[must_use]
pub fn ask(ns: &Netns, addr: IpAddr) -> Option<String> {
    ns.run(move || Ok(get(addr)?)).ok()
}

fn get(addr: IpAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(addr, PORT), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned());
    body.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// On the host: both families where the kernel has both.
fn listen() -> io::Result<TcpListener> {
    let at = |ip: IpAddr| TcpListener::bind(SocketAddr::new(ip, PORT));
    let listener =
        at(Ipv6Addr::UNSPECIFIED.into()).or_else(|_| at(Ipv4Addr::UNSPECIFIED.into()))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn page(name: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{name}\n",
        name.len() + 1
    )
}

fn serve(listener: &TcpListener, page: &str, stop: &AtomicBool, hung: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        if hung.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(IDLE_MS.into()));
            continue;
        }
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, PollTimeout::from(IDLE_MS));
        if let Ok((client, _)) = listener.accept() {
            // A client that went away is no concern of the service.
            let _ = answer(client, page);
        }
    }
}

fn answer(mut client: TcpStream, page: &str) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(PATIENCE))?;
    let (mut request, mut filled) = ([0_u8; REQUEST], 0);
    while !request[..filled].windows(4).any(|w| w == b"\r\n\r\n") {
        let read = client.read(&mut request[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
    }
    client.write_all(page.as_bytes())
}
