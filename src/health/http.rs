//! `http`: one request over a fresh connection, by hyper, and over TLS by rustls.
//!
//! A redirect is not followed: a status of 300 to 399 is judged like any other, so no server can send a check round for
//! ever. The body is read only where a text is looked for in it, 64 KiB at most. The timeout of the check bounds all of
//! it: a server that drips is dropped.

use super::aside::Aside;
use super::connect::connect;
use super::outcome::{Outcome, is_own_trouble, span, words};
use super::task::Measure;
use super::tls;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::pin;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use vipd_core::config::model::HttpProbe;
use vipd_core::engine::io::Verdict;
use vipd_core::time::Duration;

/// Octets of a body that are looked through.
const BODY: usize = 64 << 10;
/// Octets of a response's head.
const HEAD: usize = 64 << 10;

/// `http = "https://shop.example/healthz"`.
#[derive(Debug)]
pub(super) struct Http {
    probe: Arc<HttpProbe>,
    /// For name resolution and trust: half of it at most.
    limit: Duration,
    aside: Aside,
    trust: Option<Arc<ClientConfig>>,
}

impl Http {
    pub(super) fn new(probe: HttpProbe, limit: Duration) -> Self {
        Self { probe: Arc::new(probe), limit, aside: Aside::new(Verdict::Unknown), trust: None }
    }

    /// Addresses of the server, and whom to trust.
    async fn prepare(&mut self) -> Result<Vec<SocketAddr>, Outcome> {
        let known = self.probe.host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let needs_trust = self.probe.tls && self.trust.is_none();
        if let (Some(addr), false) = (known, needs_trust) {
            return Ok(vec![SocketAddr::new(addr, self.probe.port)]);
        }
        let probe = Arc::clone(&self.probe);
        let job = self.aside.run(move || {
            let addrs = match known {
                Some(addr) => Ok(vec![SocketAddr::new(addr, probe.port)]),
                None => (&*probe.host, probe.port).to_socket_addrs().map(Iterator::collect),
            };
            let trust = needs_trust.then(|| tls::config(probe.verify, probe.ca_file.as_deref()));
            (addrs, trust.transpose())
        });
        // A resolver that hangs is not the service: half of the time, then it is unknown.
        let (addrs, trust) = timeout(self.limit / 2, job).await.unwrap_or_else(|_| {
            let limit = span(self.limit / 2);
            Err(Outcome::unknown(format!(
                "cannot resolve {}: timeout after {limit}",
                self.probe.host
            )))
        })?;
        match trust {
            Ok(Some(trust)) => self.trust = Some(trust),
            Ok(None) => {}
            Err(e) => return Err(Outcome::unknown(words(&e))),
        }
        let addrs: Vec<_> = addrs.map_err(|e| {
            Outcome::unknown(format!("cannot resolve {}: {}", self.probe.host, words(&e)))
        })?;
        if addrs.is_empty() {
            return Err(Outcome::unknown(format!("{} has no address", self.probe.host)));
        }
        Ok(addrs)
    }

    async fn measure(&mut self) -> Result<Outcome, Outcome> {
        let addrs = self.prepare().await?;
        let stream = first_that_accepts(&addrs, self.limit).await?;
        let Some(trust) = self.trust.clone() else { return self.exchange(stream).await };
        let name = ServerName::try_from(self.probe.server_name.to_string()).map_err(|_| {
            Outcome::unknown(format!("{} is no server name", self.probe.server_name))
        })?;
        let tls = TlsConnector::from(trust).connect(name, stream).await.map_err(|e| {
            // The authorities may be others by now: they are read again for the next run.
            self.trust = None;
            let verdict = if is_own_trouble(&e) { Verdict::Unknown } else { Verdict::Fail };
            Outcome::new(verdict, format!("TLS: {}", words(&e)))
        })?;
        let certificate = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let ends = certificate.and_then(|c| tls::ends_in(c, SystemTime::now()));
        Ok(self.with_expiry(self.exchange(tls).await?, ends))
    }

    /// A certificate that ends soon turns a pass into a warning.
    fn with_expiry(&self, outcome: Outcome, ends: Option<Result<Duration, Duration>>) -> Outcome {
        let limit = self.probe.expiry;
        let says = match ends {
            Some(Ok(left)) if left >= limit => return outcome,
            Some(Ok(left)) => format!("certificate ends in {} < {}", span(left), span(limit)),
            Some(Err(past)) => format!("certificate ended {} ago", span(past)),
            None => "end of the certificate unreadable".to_owned(),
        };
        let verdict = match outcome.verdict {
            Verdict::Pass if ends.is_some() => Verdict::Warn,
            other => other,
        };
        Outcome::new(verdict, format!("{}, {says}", outcome.detail))
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Outcome, Outcome> {
        let probe = &self.probe;
        let request = Request::builder()
            .method(&*probe.method)
            .uri(&*probe.path)
            .header(header::HOST, &*probe.host_header)
            .header(header::USER_AGENT, concat!("vipd/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|e| Outcome::unknown(format!("not a request: {e}")))?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| failed(&e))?;
        // The connection is driven here, not by a task of its own: it ends with the run.
        let mut connection = pin!(connection);
        let mut judged = pin!(async {
            let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
            self.judge(response).await
        });
        tokio::select! {
            biased;
            outcome = &mut judged => outcome,
            // It is over once all is read, which may be before the judgement.
            _ = &mut connection => judged.await,
        }
    }

    async fn judge(&self, response: Response<Incoming>) -> Result<Outcome, Outcome> {
        let status = response.status().as_u16();
        let allowed = &self.probe.status;
        if !allowed.iter().any(|(from, to)| (*from..=*to).contains(&status)) {
            let ranges: Vec<_> = allowed.iter().map(|(from, to)| range(*from, *to)).collect();
            return Err(Outcome::fail(format!("status {status}, not {}", ranges.join(", "))));
        }
        let Some(text) = self.probe.body.as_deref() else {
            return Ok(Outcome::pass(format!("status {status}")));
        };
        let mut body = response.into_body();
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| failed(&e))?;
            let Some(data) = frame.data_ref() else { continue };
            let room = BODY - read.len();
            // What was looked through is not looked through again: a server that sends single octets costs no more.
            let new = (read.len() + 1).saturating_sub(text.len());
            read.extend_from_slice(data.get(..room).unwrap_or(data));
            if contains(read.get(new..).unwrap_or_default(), text) {
                return Ok(Outcome::pass(format!("status {status}, body has {text:?}")));
            }
            if read.len() >= BODY {
                break;
            }
        }
        Err(Outcome::fail(format!(
            "status {status}, {text:?} not in {} octets of body",
            read.len()
        )))
    }
}

impl Measure for Http {
    const LATE: Verdict = Verdict::Fail;

    async fn run(&mut self) -> Outcome {
        let outcome = self.measure().await.unwrap_or_else(|fault| fault);
        outcome.about(&self.probe.url)
    }
}

fn range(from: u16, to: u16) -> String {
    if from == to { from.to_string() } else { format!("{from}-{to}") }
}

fn contains(octets: &[u8], text: &str) -> bool {
    text.is_empty() || octets.windows(text.len()).any(|w| w == text.as_bytes())
}

/// The first of the addresses that accepts; each has its share of the time that is left.
async fn first_that_accepts(addrs: &[SocketAddr], limit: Duration) -> Result<TcpStream, Outcome> {
    let mut last = Outcome::unknown("no address");
    // As many as one run can try in earnest.
    let addrs = addrs.get(..4).unwrap_or(addrs);
    let share = limit / u32::try_from(addrs.len().max(1)).unwrap_or(1);
    for addr in addrs {
        let what = format!("connect to {addr}");
        match timeout(share, connect(*addr, None)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(e)) => last = Outcome::network(&what, &e),
            Err(_) => last = Outcome::fail(format!("{what}: timeout after {}", span(share))),
        }
    }
    Err(last)
}

/// What hyper makes of a bad server, and of an error below it.
fn failed(e: &hyper::Error) -> Outcome {
    let below = std::iter::successors(e.source(), |e| (*e).source())
        .find_map(|e| e.downcast_ref::<io::Error>());
    match below {
        Some(below) => Outcome::network("connection", below),
        None => Outcome::fail(format!("not HTTP as it should be: {e}")),
    }
}

#[cfg(test)]
mod tests;
