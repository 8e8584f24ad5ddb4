//! Servers that one would not want.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use rcgen::{CertificateParams, KeyPair};
use std::path::PathBuf;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

const DAY: Duration = Duration::from_secs(86_400);

fn probe(port: u16) -> HttpProbe {
    HttpProbe {
        url: "http://shop".into(),
        tls: false,
        host: "127.0.0.1".into(),
        port,
        path: "/healthz?x=1".into(),
        method: "GET".into(),
        host_header: "shop.example".into(),
        server_name: "shop.example".into(),
        status: vec![(200, 399)],
        body: None,
        verify: true,
        ca_file: None,
        expiry: DAY * 14,
    }
}

async fn run(probe: HttpProbe, limit: Duration) -> Outcome {
    let mut http = Http::new(probe, limit);
    timeout(limit, http.run()).await.unwrap_or_else(|_| Outcome::fail("timeout"))
}

/// How long a check waits for a server.
const LIMIT: Duration = Duration::from_secs(2);

/// What a check says within `limit` about a server that writes these pieces, a pause before each, after it has read the
/// request.
async fn against(
    pieces: Vec<Vec<u8>>,
    pause: Duration,
    limit: Duration,
    change: impl FnOnce(&mut HttpProbe),
) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut probe = probe(listener.local_addr().unwrap().port());
    change(&mut probe);
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let len = stream.read(&mut request).await.unwrap();
        let request = String::from_utf8_lossy(&request[..len]).to_lowercase();
        assert!(request.contains(" /healthz?x=1 http/1.1\r\nhost: shop.example\r\n"), "{request}");
        for piece in pieces {
            tokio::time::sleep(pause).await;
            if stream.write_all(&piece).await.is_err() {
                break;
            }
        }
    });
    let outcome = run(probe, limit).await;
    server.abort();
    outcome
}

async fn answering(text: &str, change: impl FnOnce(&mut HttpProbe)) -> Outcome {
    against(vec![text.as_bytes().to_vec()], Duration::ZERO, LIMIT, change).await
}

#[tokio::test]
async fn status_and_body_are_judged() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nready";
    assert_eq!(answering(ok, |_| ()).await, Outcome::pass("http://shop: status 200"));
    let found = answering(ok, |p| p.body = Some("read".into())).await;
    assert_eq!(found, Outcome::pass("http://shop: status 200, body has \"read\""));
    let missing = answering(ok, |p| p.body = Some("live".into())).await;
    assert_eq!(missing, Outcome::fail("http://shop: status 200, \"live\" not in 5 octets of body"));
    let down = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    let outcome = answering(down, |p| p.status = vec![(200, 299), (401, 401)]).await;
    assert_eq!(outcome, Outcome::fail("http://shop: status 503, not 200-299, 401"));
    // No length: the body ends with the connection.
    let to_the_end = "HTTP/1.0 200 OK\r\n\r\nall ready";
    let outcome = answering(to_the_end, |p| p.body = Some("ready".into())).await;
    assert_eq!(outcome.verdict, Verdict::Pass, "{}", outcome.detail);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let round = "HTTP/1.1 302 Found\r\nlocation: /healthz?x=1\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(answering(round, |_| ()).await, Outcome::pass("http://shop: status 302"));
    let strict = answering(round, |p| p.status = vec![(200, 299)]).await;
    assert_eq!(strict.verdict, Verdict::Fail);
}

#[tokio::test]
async fn a_server_that_drips_is_dropped() {
    let drops: Vec<_> =
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nready".iter().map(|b| vec![*b]).collect();
    let outcome = against(drops, Duration::from_secs(1), LIMIT, |_| ()).await;
    assert_eq!(outcome, Outcome::fail("timeout"));
    let mut body = vec![b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n".to_vec()];
    body.extend(vec![b"x".to_vec(); 500]);
    let outcome =
        against(body, Duration::from_millis(100), LIMIT, |p| p.body = Some("y".into())).await;
    assert_eq!(outcome, Outcome::fail("timeout"));
}

#[tokio::test]
async fn no_more_than_the_first_64_kib_are_read() {
    let mut pieces = vec![b"HTTP/1.1 200 OK\r\n\r\n".to_vec()];
    pieces.extend(vec![vec![b'x'; 60 << 10]; 40]);
    pieces.push(b"ready".to_vec());
    let outcome = against(pieces, Duration::ZERO, LIMIT, |p| p.body = Some("ready".into())).await;
    let detail = "http://shop: status 200, \"ready\" not in 65536 octets of body";
    assert_eq!(outcome, Outcome::fail(detail));
}

#[tokio::test]
async fn what_is_no_http_fails() {
    for bad in
        ["", "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "\0\0\0\0", "HTTP/1.1 200"]
    {
        let outcome = answering(bad, |_| ()).await;
        assert_eq!(outcome.verdict, Verdict::Fail, "{bad:?}: {}", outcome.detail);
    }
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(1 << 20));
    let outcome = answering(&endless, |_| ()).await;
    assert_eq!(outcome.verdict, Verdict::Fail, "{}", outcome.detail);
}

#[tokio::test]
async fn who_refuses_fails_and_a_name_that_nobody_knows_is_unknown() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let outcome = run(probe(port), Duration::from_secs(1)).await;
    let detail = format!("http://shop: connect to 127.0.0.1:{port}: connection refused");
    assert_eq!(outcome, Outcome::fail(detail));
    let mut nobody = probe(80);
    // A label longer than DNS has: no server is asked.
    nobody.host = "x".repeat(70).into();
    let outcome = run(nobody, Duration::from_secs(5)).await;
    assert_eq!(outcome.verdict, Verdict::Unknown, "{}", outcome.detail);
}

/// Takes minutes of the main loop where every octet makes the whole body be looked through again. The time of the
/// processor counts, not that of the wall: other programs may have it meanwhile.
#[tokio::test]
async fn a_body_in_single_octets_is_cheap() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    let body = "1\r\nx\r\n".repeat(BODY - 4) + "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n";
    let pieces = vec![(head + &body).into_bytes()];
    let limit = Duration::from_secs(60);
    let found = against(pieces, Duration::ZERO, limit, |p| p.body = Some("abc".into())).await;
    assert_eq!(found, Outcome::pass("http://shop: status 200, body has \"abc\""));
    // All of it ran on this thread.
    let spent = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    assert!(Duration::from(spent) < Duration::from_secs(5), "{spent:?}");
}

/// A TLS server with a certificate of its own that ends so many days from now; and what a check says about it.
async fn tls(days: i64, change: impl FnOnce(&mut HttpProbe)) -> Outcome {
    let scratch = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(vec!["shop.example".to_owned()]).unwrap();
    let now = SystemTime::now();
    params.not_before = (now - DAY * 400).into();
    let away = DAY * u32::try_from(days.abs()).unwrap() + DAY / 2;
    params.not_after = if days < 0 { now - away } else { now + away }.into();
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let ca: PathBuf = scratch.path().join("ca.pem");
    std::fs::write(&ca, certificate.pem()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut probe = probe(listener.local_addr().unwrap().port());
    (probe.tls, probe.ca_file) = (true, Some(ca));
    change(&mut probe);
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await {
            let mut request = [0; 1024];
            let _len = stream.read(&mut request).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            let _close = stream.shutdown().await;
        }
    });
    let outcome = run(probe, Duration::from_secs(10)).await;
    server.abort();
    outcome
}

#[tokio::test]
async fn certificates_are_judged() {
    assert_eq!(tls(90, |_| ()).await, Outcome::pass("http://shop: status 200"));
    let soon = tls(3, |_| ()).await;
    assert_eq!(soon, Outcome::warn("http://shop: status 200, certificate ends in 3 d < 14 d"));
    let expired = tls(-2, |_| ()).await;
    assert_eq!(expired.verdict, Verdict::Fail);
    assert!(expired.detail.contains("expired"), "{}", expired.detail);
    let other = tls(90, |p| p.server_name = "other.example".into()).await;
    assert_eq!(other.verdict, Verdict::Fail, "{}", other.detail);
}

#[tokio::test]
async fn without_verify_only_the_end_of_the_certificate_is_told() {
    let lax = |p: &mut HttpProbe| {
        (p.verify, p.ca_file, p.server_name) = (false, None, "other.example".into());
    };
    assert_eq!(tls(90, lax).await, Outcome::pass("http://shop: status 200"));
    let expired = tls(-2, lax).await;
    assert_eq!(expired, Outcome::warn("http://shop: status 200, certificate ended 2 d ago"));
}

#[tokio::test]
async fn nothing_to_trust_is_unknown() {
    let none = tls(90, |p| p.ca_file = Some("/nowhere/ca.pem".into())).await;
    assert_eq!(none.verdict, Verdict::Unknown, "{}", none.detail);
    let scratch = tempfile::tempdir().unwrap();
    let garbage = scratch.path().join("ca.pem");
    std::fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nxxxx\n").unwrap();
    let outcome = tls(90, |p| p.ca_file = Some(garbage)).await;
    assert_eq!(outcome.verdict, Verdict::Unknown, "{}", outcome.detail);
}

#[test]
fn the_end_of_garbage_is_not_known() {
    for der in [&b""[..], &[0x30], &[0x30, 0x80], &[0xff; 64], &[0x30, 2, 0x30, 0]] {
        assert_eq!(tls::ends_in(der, SystemTime::now()), None);
    }
}
