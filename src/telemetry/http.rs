//! The HTTP endpoint for monitoring: `/metrics`, `/healthz`, `/readyz`, on a loopback address or a unix socket.
//!
//! Runs on the main thread of the agent. Every resource has a bound: connections, octets of a request, time of a
//! connection from its first to its last octet; one request per connection. A client can make itself wait or be cut
//! off, never the agent. What is answered is the runtime's: see [`Pages`].

use super::metrics::Format;
use crate::sys::file;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use vipd_core::config::model::Listen;

/// Owner and group of the agent may ask.
const MODE: u32 = 0o660;
/// An address that is not there yet, or in use, is tried again after this time.
const RETRY: Duration = Duration::from_secs(5);
const TEXT: &str = "text/plain; charset=utf-8";

/// Bounds of the server.
#[derive(Copy, Clone, Debug)]
pub struct Limits {
    /// Connections at a time; further ones are closed at once.
    pub connections: usize,
    /// From the connection to the last octet of the answer.
    pub connection: Duration,
    /// Octets of a request's head; also what is buffered of an answer at a time.
    pub head: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 16, connection: Duration::from_secs(10), head: 16 * 1024 }
    }
}

/// Yes, or no and why.
pub type Verdict = Result<String, String>;

/// What is served; the runtime implements it.
pub trait Pages: Clone + Send + Sync + 'static {
    /// The figures as text.
    fn metrics(&self, format: Format) -> impl Future<Output = Verdict> + Send;
    /// Does the agent do its work?
    fn health(&self) -> impl Future<Output = Verdict> + Send;
    /// Does this host own, or could it own, every instance of it?
    fn readiness(&self) -> impl Future<Output = Verdict> + Send;
}

/// Serves `pages` on `at` until dropped. An address that cannot be had is waited for: monitoring never stops the agent.
pub async fn serve(at: Listen, limits: Limits, pages: impl Pages) {
    let listener = listen(&at).await;
    tracing::info!("metrics are served on {at}");
    let seats = Arc::new(Semaphore::new(limits.connections));
    loop {
        let Ok(stream) = listener.accept().await else {
            // Out of file descriptors: the ones in use end by their own time limits.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        // Who finds no seat is cut off: a scraper comes again.
        let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else { continue };
        let pages = pages.clone();
        tokio::spawn(async move {
            // Late, or a client that went away: nobody is told.
            let _ = timeout(limits.connection, attend(stream, limits, pages)).await;
            drop(seat);
        });
    }
}

async fn listen(at: &Listen) -> Listener {
    let mut told = false;
    loop {
        match Listener::open(at).await {
            Ok(listener) => return listener,
            Err(error) if !told => {
                tracing::warn!(
                    "cannot serve metrics on {at}: {error}; trying again every {} s. Is the address one of this host, is \
                     the port free, may the agent write the folder?",
                    RETRY.as_secs()
                );
                told = true;
            }
            Err(_) => {}
        }
        sleep(RETRY).await;
    }
}

/// A stream of either kind.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

enum Listener {
    Tcp(TcpListener),
    /// Its file goes with it.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    async fn open(at: &Listen) -> io::Result<Self> {
        Ok(match at {
            Listen::Tcp(address) => Self::Tcp(TcpListener::bind(address).await?),
            Listen::Unix(path) => {
                let listener = UnixListener::from_std(file::listen(path, MODE)?)?;
                Self::Unix(listener, path.clone())
            }
        })
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener, _) => Box::new(listener.accept().await?.0),
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // Already gone: somebody cleaned the folder.
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn attend(stream: Box<dyn Stream>, limits: Limits, pages: impl Pages) -> hyper::Result<()> {
    let service = service_fn(|request: Request<Incoming>| {
        let pages = pages.clone();
        async move { Ok::<_, Infallible>(answer(&request, &pages).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.connection)
        .keep_alive(false)
        // Who has said all may close that direction.
        .half_close(true)
        .max_buf_size(limits.head)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(request: &Request<Incoming>, pages: &impl Pages) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".into());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match request.uri().path() {
        "/metrics" => {
            let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
            let format = Format::of(accept);
            match pages.metrics(format).await {
                Ok(text) => page(StatusCode::OK, format.content_type(), text),
                Err(why) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, why + "\n"),
            }
        }
        "/healthz" => verdict(pages.health().await),
        "/readyz" => verdict(pages.readiness().await),
        _ => page(StatusCode::NOT_FOUND, TEXT, "there are /metrics, /healthz and /readyz\n".into()),
    }
}

fn verdict(verdict: Verdict) -> Response<Full<Bytes>> {
    match verdict {
        Ok(text) => page(StatusCode::OK, TEXT, text + "\n"),
        Err(why) => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, why + "\n"),
    }
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
