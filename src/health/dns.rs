//! `dns`: one question over UDP, and over TCP when the answer did not fit.
//!
//! The messages are `domain`'s. Whatever else arrives (another number, another question, no DNS at all) is not the
//! answer and is waited past.

use super::connect::connect;
use super::outcome::Outcome;
use super::task::Measure;
use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Name, Rtype};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr as _;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use vipd_core::config::model::DnsRecord;
use vipd_core::engine::io::Verdict;

/// The longest answer over UDP: without EDNS a server sends at most 512 octets.
const DATAGRAM: usize = 4096;

/// `dns = "192.0.2.53"`.
#[derive(Debug)]
pub(super) struct Dns {
    pub(super) server: SocketAddr,
    pub(super) name: Arc<str>,
    pub(super) record: DnsRecord,
}

impl Measure for Dns {
    const LATE: Verdict = Verdict::Fail;

    async fn run(&mut self) -> Outcome {
        let what = format!("dns {} {} {}", self.server, self.name, rtype(self.record));
        let Ok(name) = Name::<Vec<u8>>::from_str(&self.name) else {
            return Outcome::unknown(format!("{what}: not a domain name"));
        };
        let question = match question(&name, rtype(self.record)) {
            Ok(question) => question,
            Err(e) => return Outcome::network(&what, &e),
        };
        match self.answer(&question).await {
            Ok(answer) => judge(&what, &answer, rtype(self.record)),
            Err(e) => Outcome::network(&what, &e),
        }
    }
}

impl Dns {
    async fn answer(&self, question: &Message<Vec<u8>>) -> io::Result<Message<Vec<u8>>> {
        let any: IpAddr = match self.server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
        socket.connect(self.server).await?;
        socket.send(question.as_slice()).await?;
        let mut buf = vec![0; DATAGRAM];
        loop {
            let len = socket.recv(&mut buf).await?;
            let octets = buf.get(..len).unwrap_or_default().to_vec();
            let Some(answer) = answers(question, octets) else { continue };
            if answer.header().tc() {
                return self.by_tcp(question).await;
            }
            return Ok(answer);
        }
    }

    async fn by_tcp(&self, question: &Message<Vec<u8>>) -> io::Result<Message<Vec<u8>>> {
        let mut stream = connect(self.server, None).await?;
        let octets = question.as_slice();
        // A question is some 300 octets at most.
        let len = u16::try_from(octets.len()).map_err(io::Error::other)?;
        stream.write_all(&[&len.to_be_bytes(), octets].concat()).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        answers(question, answer).ok_or_else(|| io::Error::other("what came by TCP is no answer"))
    }
}

fn rtype(record: DnsRecord) -> Rtype {
    match record {
        DnsRecord::A => Rtype::A,
        DnsRecord::Aaaa => Rtype::AAAA,
        DnsRecord::Soa => Rtype::SOA,
        DnsRecord::Ns => Rtype::NS,
        DnsRecord::Txt => Rtype::TXT,
    }
}

fn question(name: &Name<Vec<u8>>, record: Rtype) -> io::Result<Message<Vec<u8>>> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(u16::from_be_bytes(id));
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    builder.push((name, record)).map_err(|_| io::Error::other("the question is too long"))?;
    Ok(builder.into_message())
}

/// The message in `octets`, if it is an answer to this question.
fn answers(question: &Message<Vec<u8>>, octets: Vec<u8>) -> Option<Message<Vec<u8>>> {
    Message::from_octets(octets).ok().filter(|m| m.is_answer(question))
}

fn judge(what: &str, answer: &Message<Vec<u8>>, record: Rtype) -> Outcome {
    let rcode = answer.header().rcode();
    if rcode != Rcode::NOERROR {
        return Outcome::fail(format!("{what}: {rcode}"));
    }
    let records = answer
        .answer()
        .map(|section| section.filter_map(Result::ok).filter(|r| r.rtype() == record).count());
    match records {
        Ok(0) => Outcome::fail(format!("{what}: no such record in the answer")),
        Ok(n) => Outcome::pass(format!("{what}: {n} records")),
        Err(_) => Outcome::fail(format!("{what}: the answer is garbled")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use domain::base::Ttl;
    use domain::rdata::A;
    use std::time::Duration;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    type Answer = fn(&Message<Vec<u8>>) -> Vec<Vec<u8>>;

    /// A server that answers each datagram with these, and over TCP with a good answer.
    async fn ask(answers: Answer) -> Outcome {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = socket.local_addr().unwrap();
        let listener = TcpListener::bind(server).await.unwrap();
        let udp = tokio::spawn(async move {
            let mut buf = [0; 512];
            let (len, from) = socket.recv_from(&mut buf).await.unwrap();
            let question = Message::from_octets(buf[..len].to_vec()).unwrap();
            for answer in answers(&question) {
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        let tcp = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut question).await.unwrap();
            let answer = good(&Message::from_octets(question).unwrap(), Rcode::NOERROR, 2);
            stream.write_u16(answer.len() as u16).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        });
        let mut dns = Dns { server, name: "shop.example".into(), record: DnsRecord::A };
        let limit = Duration::from_millis(500);
        let outcome = timeout(limit, dns.run()).await.unwrap_or_else(|_| Outcome::fail("timeout"));
        udp.abort();
        tcp.abort();
        Outcome { detail: outcome.detail.replace(&format!("{server} "), ""), ..outcome }
    }

    fn good(question: &Message<Vec<u8>>, rcode: Rcode, records: u8) -> Vec<u8> {
        let mut m = MessageBuilder::new_vec().start_answer(question, rcode).unwrap();
        let name = Name::<Vec<u8>>::from_str("shop.example").unwrap();
        for n in 0..records {
            m.push((&name, Ttl::from_secs(60), A::from_octets(192, 0, 2, n))).unwrap();
        }
        m.finish()
    }

    #[tokio::test]
    async fn answers_are_judged() {
        let outcome = ask(|q| vec![good(q, Rcode::NOERROR, 1)]).await;
        assert_eq!(outcome, Outcome::pass("dns shop.example A: 1 records"));
        let outcome = ask(|q| vec![good(q, Rcode::NOERROR, 0)]).await;
        assert_eq!(outcome, Outcome::fail("dns shop.example A: no such record in the answer"));
        let outcome = ask(|q| vec![good(q, Rcode::NXDOMAIN, 0)]).await;
        assert_eq!(outcome, Outcome::fail("dns shop.example A: NXDOMAIN"));
        assert_eq!(ask(|q| vec![good(q, Rcode::SERVFAIL, 0)]).await.verdict, Verdict::Fail);
    }

    #[tokio::test]
    async fn what_is_no_answer_is_waited_past() {
        let outcome = ask(|q| {
            let mut other = good(q, Rcode::NOERROR, 1);
            other[0] ^= 1;
            let cut = good(q, Rcode::NOERROR, 1)[..15].to_vec();
            let echo = q.as_slice().to_vec();
            vec![other, Vec::new(), vec![0xff; 600], cut, echo, good(q, Rcode::NOERROR, 3)]
        });
        assert_eq!(outcome.await, Outcome::pass("dns shop.example A: 3 records"));
        assert_eq!(ask(|_| vec![vec![7; 40]]).await, Outcome::fail("timeout"));
    }

    #[tokio::test]
    async fn a_cut_answer_is_fetched_by_tcp() {
        let outcome = ask(|q| {
            let mut cut = good(q, Rcode::NOERROR, 0);
            // TC.
            cut[2] |= 2;
            vec![cut]
        });
        assert_eq!(outcome.await, Outcome::pass("dns shop.example A: 2 records"));
    }

    #[tokio::test]
    async fn a_garbled_answer_is_no_pass() {
        let outcome = ask(|q| {
            let mut m = good(q, Rcode::NOERROR, 1);
            let len = m.len();
            // Length of the last record's data.
            m[len - 5] = 0xff;
            vec![m]
        });
        assert_eq!(outcome.await.verdict, Verdict::Fail);
    }
}
