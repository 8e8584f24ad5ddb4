#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
use super::super::client;
use super::super::protocol::{Body, How, Request, Verb, Word, parse};
use super::super::status::{SCHEMA, Scheduling, Status};
use super::*;
use std::io::{BufRead, BufReader as StdReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdStream;
use std::thread;
use tempfile::TempDir;

#[derive(Clone)]
struct Fixed;

impl Handler for Fixed {
    type Request = Request;

    fn parse(line: &[u8]) -> Result<Request, Answer> {
        parse(line)
    }

    async fn answer(
        &self,
        request: Request,
        caller: Caller,
        lines: &mut Lines,
    ) -> Result<Answer, Gone> {
        assert_eq!(caller.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(caller.pid, i32::try_from(std::process::id()).ok());
        let word = |message: &str| Word { operation: Some("1-1".into()), message: message.into() };
        Ok(match request.verb {
            Verb::Status {} => Answer::status(status()),
            Verb::Promote { instance, .. } => Answer::new(Body::Accepted(word(&instance))),
            Verb::Move { .. } => {
                lines.send(&Answer::new(Body::Accepted(word("begun")))).await?;
                lines.send(&Answer::new(Body::Progress(word("half of it")))).await?;
                Answer::new(Body::Done(word("all of it")))
            }
            // Says more than anybody takes.
            Verb::Subscribe { .. } => loop {
                lines.send(&Answer::status(status())).await?;
            },
            // Waits for what never comes.
            Verb::Thaw {} => std::future::pending().await,
            Verb::Undrain {} => Answer::error(Code::TooSlow, "missed 7"),
            _ => Answer::error(Code::Forbidden, "not by you"),
        })
    }
}

fn status() -> Status {
    Status {
        schema: SCHEMA,
        version: "0".into(),
        cluster: "shop".into(),
        host: "lb1".into(),
        config_hash: String::new(),
        uptime_s: 1.0,
        scheduling: Scheduling::default(),
        instances: vec![],
        checks: vec![],
        replicator: None,
        peers: vec![],
        interfaces: vec![],
        alarms: vec![],
        hooks: vec![],
        counters: [].into(),
    }
}

/// Runs `clients`, which blocks, against a server with `limits`.
fn with_server(limits: Limits, clients: impl FnOnce(&Path) + Send + 'static) {
    in_folder(&tempfile::tempdir().unwrap(), limits, clients);
}

/// The same in a folder that is there.
fn in_folder(folder: &TempDir, limits: Limits, clients: impl FnOnce(&Path) + Send + 'static) {
    let path = folder.path().join("control.sock");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::bind(&path, limits).unwrap();
        let served = tokio::spawn(server.serve(Fixed));
        let at = path.clone();
        tokio::task::spawn_blocking(move || clients(&at)).await.unwrap();
        served.abort();
        let _ = served.await;
    });
    assert!(!path.exists(), "the socket file goes with the server");
}

fn quick() -> Limits {
    Limits {
        request: Duration::from_millis(200),
        answer: Duration::from_millis(200),
        ..Limits::default()
    }
}

fn connect(path: &Path) -> StdStream {
    let stream = StdStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

fn read_answer(stream: &StdStream) -> Answer {
    let mut line = String::new();
    StdReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

fn code(answer: Answer) -> Code {
    match answer.body {
        Body::Error(complaint) => complaint.code,
        other => panic!("no error: {other:?}"),
    }
}

#[test]
fn the_client_understands_the_server() {
    with_server(Limits::default(), |path| {
        assert_eq!(client::status(path).unwrap(), status());
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o660);
    });
}

#[test]
fn a_malformed_request_is_answered_and_the_next_one_too() {
    with_server(Limits::default(), |path| {
        let mut stream = connect(path);
        stream.write_all(b"reboot now\n").unwrap();
        assert_eq!(code(read_answer(&stream)), Code::Malformed);
        stream.write_all(b"{\"v\":9,\"verb\":\"status\"}\n").unwrap();
        assert_eq!(code(read_answer(&stream)), Code::Version);
        stream.write_all(b"{\"v\":1,\"verb\":\"status\"}\n").unwrap();
        assert_eq!(read_answer(&stream), Answer::status(status()));
    });
}

#[test]
fn a_huge_request_is_told_why_and_ends_the_connection() {
    with_server(quick(), |path| {
        let mut stream = connect(path);
        // Far more than is read: the server may close while we write.
        let _ = stream.write_all(&vec![b'x'; 2 * 1024 * 1024]);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        assert_eq!(code(read_answer(&stream)), Code::TooLong);
        assert_eq!(client::status(path).unwrap(), status(), "others are served");
    });
}

#[test]
fn a_request_without_its_end_is_malformed() {
    with_server(quick(), |path| {
        let mut stream = connect(path);
        stream.write_all(b"{\"v\":1,\"verb\":\"sta").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(code(read_answer(&stream)), Code::Malformed);
    });
}

#[test]
fn a_slow_client_loses_its_seat_even_when_it_keeps_dribbling() {
    with_server(quick(), |path| {
        let mut stream = connect(path);
        for octet in b"{\"v\":1,\"verb\":" {
            thread::sleep(Duration::from_millis(30));
            if stream.write_all(&[*octet]).is_err() {
                break;
            }
        }
        assert_eq!(code(read_answer(&stream)), Code::TimedOut);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "closed");
    });
}

#[test]
fn a_client_that_never_reads_loses_its_seat() {
    let limits = Limits { connections: 1, reserve: 0, ..quick() };
    with_server(limits, |path| {
        let mut stream = connect(path);
        stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        // Until nobody takes them any more.
        while stream.write_all(b"{\"v\":1,\"verb\":\"status\"}\n").is_ok() {}
        thread::sleep(Duration::from_millis(600));
        assert_eq!(client::status(path).unwrap(), status());
    });
}

#[test]
fn too_many_clients_are_turned_away_and_seats_come_back() {
    let limits = Limits { connections: 4, reserve: 0, ..Limits::default() };
    with_server(limits, |path| {
        let seated: Vec<StdStream> = (0..4).map(|_| connect(path)).collect();
        for mut stream in &seated {
            stream.write_all(b"{\"v\":1,\"verb\":\"status\"}\n").unwrap();
            assert_eq!(read_answer(stream), Answer::status(status()));
        }
        for _ in 0..50 {
            assert_eq!(code(read_answer(&connect(path))), Code::Busy);
        }
        drop(seated);
        let again = (0..100).any(|_| {
            thread::sleep(Duration::from_millis(10));
            client::status(path).is_ok()
        });
        assert!(again, "no seat came back");
    });
}

#[test]
fn what_a_dead_agent_left_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    drop(std::os::unix::net::UnixListener::bind(folder.path().join("control.sock")).unwrap());
    in_folder(&folder, Limits::default(), |path| {
        assert_eq!(client::status(path).unwrap(), status());
    });
}

fn ack() -> Verb {
    Verb::Ack { instance: "web".into() }
}

#[test]
fn orders_are_given_or_refused() {
    with_server(quick(), |path| {
        let verb = Verb::Promote { instance: "web".into(), accept_data_loss: false };
        let word = Word { operation: Some("1-1".into()), message: "web".into() };
        let given = client::change(path, verb, How::default(), |_| {}).unwrap();
        assert_eq!(given, client::Changed::Accepted(word));
        let refused = client::change(path, ack(), How::default(), |_| {}).unwrap_err();
        let client::ClientError::Refused(complaint) = refused else { panic!("{refused}") };
        assert_eq!(complaint.code, Code::Forbidden);
        let mut stream = connect(path);
        stream.write_all(b"{\"v\":1,\"verb\":\"ack\",\"instance\":\"web\"}\n").unwrap();
        assert_eq!(code(read_answer(&stream)), Code::Forbidden);
    });
}

#[test]
fn who_waits_hears_of_every_step() {
    with_server(quick(), |path| {
        let mut heard = Vec::new();
        let verb = Verb::Move { instance: "web".into(), to: None, force: false };
        let how = How { wait_s: Some(5.0), ..How::default() };
        let note = |body: &Body| match body {
            Body::Accepted(word) | Body::Progress(word) => heard.push(word.message.clone()),
            other => panic!("{other:?}"),
        };
        let changed = client::change(path, verb, how, note).unwrap();
        assert!(matches!(changed, client::Changed::Done(word) if word.message == "all of it"));
        assert_eq!(heard, ["begun", "half of it"]);
    });
}

#[test]
fn a_client_that_leaves_while_it_waits_gives_its_seat_back() {
    let limits = Limits { connections: 1, reserve: 0, ..Limits::default() };
    with_server(limits, |path| {
        let mut stream = connect(path);
        stream.write_all(b"{\"v\":1,\"verb\":\"thaw\"}\n").unwrap();
        // Nothing more to ask is not gone.
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        thread::sleep(Duration::from_millis(1500));
        assert_eq!(code(read_answer(&connect(path))), Code::Busy);
        drop(stream);
        thread::sleep(Duration::from_millis(1500));
        assert_eq!(client::status(path).unwrap(), status());
    });
}

#[test]
fn a_subscriber_that_does_not_read_is_cut() {
    let limits = Limits { connections: 1, reserve: 0, ..quick() };
    with_server(limits, |path| {
        let mut stream = connect(path);
        stream.write_all(b"{\"v\":1,\"verb\":\"subscribe\"}\n").unwrap();
        thread::sleep(Duration::from_millis(600));
        assert_eq!(client::status(path).unwrap(), status(), "its seat is free");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(!rest.is_empty(), "what it had not read is still there");
    });
}

#[test]
fn who_was_told_to_be_too_slow_is_cut() {
    with_server(quick(), |path| {
        let mut stream = connect(path);
        stream.write_all(b"{\"v\":1,\"verb\":\"undrain\"}\n").unwrap();
        assert_eq!(code(read_answer(&stream)), Code::TooSlow);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed");
    });
}
