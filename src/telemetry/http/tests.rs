#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
use super::*;
use crate::sys::clock;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::thread;

#[derive(Clone)]
struct Fixed;

impl Pages for Fixed {
    async fn metrics(&self, format: Format) -> Verdict {
        // More than fits into the buffers of a socket.
        Ok(format!("{format:?}\n{}", "figure 1\n".repeat(200_000)))
    }

    async fn health(&self) -> Verdict {
        Ok("ok".into())
    }

    async fn readiness(&self) -> Verdict {
        Err("web: drained".into())
    }
}

/// A server on a socket of its own; it runs until the test program ends.
struct Served(tempfile::TempDir);

impl Served {
    fn with(limits: Limits) -> Self {
        let served = Self(tempfile::tempdir().unwrap());
        let at = Listen::Unix(served.path());
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(at, limits, Fixed));
        });
        while UnixStream::connect(served.path()).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
        // That was a client as well; its seat is free once the server has seen its end.
        thread::sleep(Duration::from_millis(20));
        served
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("metrics.sock")
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// What is answered to `octets`; empty: nothing.
    fn said(&self, octets: &[u8]) -> String {
        let mut stream = self.connect();
        // Refused before all was read: the answer counts.
        let _ = stream.write_all(octets);
        rest(&mut stream)
    }

    fn get(&self, path: &str) -> String {
        self.said(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
    }
}

/// Everything until the end; a reset is an end.
fn rest(stream: &mut impl Read) -> String {
    let mut text = Vec::new();
    let mut part = [0; 8192];
    loop {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&part[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("no end: {error}"),
        }
    }
    String::from_utf8(text).unwrap()
}

fn quick() -> Limits {
    Limits { connections: 4, connection: Duration::from_millis(300), head: 8 * 1024 }
}

#[test]
fn three_pages_and_nothing_else() {
    let served = Served::with(Limits::default());
    let mode = std::fs::metadata(served.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, MODE);
    let metrics = served.get("/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{:.200}", metrics);
    assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(metrics.ends_with("figure 1\n") && metrics.len() > 9 * 200_000, "{}", metrics.len());
    let plain = "GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nAccept: text/plain;version=0.0.4\r\n\r\n";
    assert!(served.said(plain.as_bytes()).contains("\r\n\r\nPlain\nfigure 1\n"));
    assert!(served.get("/healthz").ends_with("\r\n\r\nok\n"));
    let ready = served.get("/readyz");
    assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
    assert!(ready.ends_with("\r\n\r\nweb: drained\n"), "{ready}");
    assert!(served.get("/").starts_with("HTTP/1.1 404 "));
    assert!(served.get("/metrics/../../etc/passwd").starts_with("HTTP/1.1 404 "));
    let head = served.said(b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    let post = served.said(b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD"), "{post}");
}

#[test]
fn what_is_no_request_is_refused() {
    let served = Served::with(quick());
    let long_path = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(10_000));
    for octets in [
        b"\0\xff\x16\x03\x01\r\n\r\n".as_slice(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        long_path.as_bytes(),
        many.as_bytes(),
    ] {
        let said = served.said(octets);
        assert!(!said.contains(" 200 "), "{:.60}: {said}", String::from_utf8_lossy(octets));
    }
    // A request behind the first one is not read; a body is not waited for.
    let two = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(served.said(two).matches("HTTP/1.1 ").count(), 1);
    let body = b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\nxxx";
    assert!(served.said(body).contains(" 200 "));
    assert!(served.get("/healthz").contains(" 200 "));
}

#[test]
fn who_is_slow_is_cut_off() {
    let served = Served::with(quick());
    let from = clock::monotonic();
    let mut dumb = served.connect();
    // An octet at a time never makes a request.
    let mut drop_by_drop = served.connect();
    let writer = {
        let mut stream = drop_by_drop.try_clone().unwrap();
        thread::spawn(move || {
            for octet in b"GET /healthz HTTP/1.1\r\nHost: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
                if stream.write_all(&[*octet]).is_err() {
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
        })
    };
    // Asks and does not read.
    let mut lazy = served.connect();
    lazy.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(!rest(&mut dumb).contains(" 200 "));
    assert!(!rest(&mut drop_by_drop).contains(" 200 "));
    let took = clock::monotonic().since(from);
    assert!(took < Duration::from_secs(3), "{took:?}");
    thread::sleep(quick().connection);
    assert!(rest(&mut lazy).len() < 9 * 200_000, "the answer was not taken in time");
    writer.join().unwrap();
    assert!(served.get("/healthz").contains(" 200 "));
}

#[test]
fn seats_are_few_and_come_free_again() {
    let limits = Limits { connection: Duration::from_secs(5), ..quick() };
    let served = Served::with(limits);
    let seated: Vec<_> = (0..limits.connections).map(|_| served.connect()).collect();
    assert_eq!(served.get("/healthz"), "", "no seat, no answer");
    for _ in 0..500 {
        drop(served.connect());
    }
    drop(seated);
    let until = clock::monotonic() + Duration::from_secs(3);
    while !served.get("/healthz").contains(" 200 ") {
        assert!(clock::monotonic() < until, "the seats are not free");
        thread::sleep(Duration::from_millis(10));
    }
}
