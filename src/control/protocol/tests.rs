#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
use super::*;

fn code(line: &[u8]) -> Code {
    match parse(line).unwrap_err().body {
        Body::Error(complaint) => complaint.code,
        other => panic!("no error: {other:?}"),
    }
}

fn reads(line: &str, verb: Verb, how: How) {
    let want = Request { v: 1, verb, how };
    assert_eq!(parse(line.as_bytes()).unwrap(), want, "{line}");
    assert_eq!(parse(&serde_json::to_vec(&want).unwrap()).unwrap(), want, "written and read");
}

#[test]
fn understands_every_verb() {
    let how = How::default;
    let web = || "web".to_owned();
    reads(r#"{"v":1,"verb":"status"}"#, Verb::Status {}, how());
    reads(r#"{"v":1,"verb":"history"}"#, Verb::History { last: None, instance: None }, how());
    let line = r#"{"v":1,"verb":"subscribe","last":5,"instance":"web"}"#;
    reads(line, Verb::Subscribe { last: Some(5), instance: Some(web()) }, how());
    let line = r#"{"v":1,"verb":"move","instance":"web","to":"lb2","reason":"kernel","wait_s":30}"#;
    let moved = Verb::Move { instance: web(), to: Some("lb2".into()), force: false };
    let with = How { reason: Some("kernel".into()), dry_run: false, wait_s: Some(30.0) };
    assert_eq!(with.wait(), Some(Duration::from_secs(30)));
    reads(line, moved, with);
    let line = r#"{"v":1,"verb":"drain","for_s":7200,"last_resort":true,"dry_run":true}"#;
    let drain = Verb::Drain { for_s: Some(7200.0), last_resort: true, allow_outage: false };
    assert_eq!(drain.term(), Some(Duration::from_secs(7200)));
    reads(line, drain, How { dry_run: true, ..how() });
    let line = r#"{"v":1,"verb":"set-priority","instance":"web","priority":null}"#;
    reads(line, Verb::SetPriority { instance: web(), priority: None, for_s: None }, how());
    let host = || "lb2".to_owned();
    for (event, what) in [
        (r#"{"kind":"peer-dead","host":"lb2"}"#, WhatIf::PeerDead { host: host() }),
        (r#"{"kind":"power-off"}"#, WhatIf::PowerOff {}),
        (r#"{"kind":"link-down"}"#, WhatIf::LinkDown { interface: None }),
        (
            r#"{"kind":"partition","interface":"eth0"}"#,
            WhatIf::Partition { interface: Some("eth0".into()) },
        ),
        (
            r#"{"kind":"check","check":"nginx","verdict":"fail"}"#,
            WhatIf::Check { check: "nginx".into(), verdict: vipd_core::types::Verdict::Fail },
        ),
        (r#"{"kind":"stop"}"#, WhatIf::Stop {}),
        (
            r#"{"kind":"move","instance":"web","to":"lb2"}"#,
            WhatIf::Move { instance: web(), to: Some(host()) },
        ),
        (r#"{"kind":"drain"}"#, WhatIf::Drain {}),
    ] {
        let verb = Verb::Simulate { event: what };
        assert!(!verb.changes(), "whoever may read may ask");
        reads(&format!(r#"{{"v":1,"verb":"simulate","event":{event}}}"#), verb, how());
    }
    reads(r#"{"v":1,"verb":"freeze"}"#, Verb::Freeze { for_s: None }, how());
    for verb in [Verb::Undrain {}, Verb::Thaw {}, Verb::Reload {}, Verb::Reexec {}] {
        assert!(verb.changes());
        reads(&format!(r#"{{"v":1,"verb":"{}"}}"#, verb.word()), verb, how());
    }
    let line = r#"{"v":1,"verb":"promote","instance":"web","accept_data_loss":true}"#;
    reads(line, Verb::Promote { instance: web(), accept_data_loss: true }, how());
    for verb in [
        Verb::Failback { instance: web() },
        Verb::Promote { instance: web(), accept_data_loss: false },
        Verb::Release { instance: web() },
        Verb::Ack { instance: web() },
    ] {
        assert_eq!((verb.changes(), verb.instance()), (true, Some("web")));
        reads(&format!(r#"{{"v":1,"verb":"{}","instance":"web"}}"#, verb.word()), verb, how());
    }
}

#[test]
fn says_what_is_wrong() {
    let long = format!(r#"{{"v":1,"verb":"ack","instance":"{}"}}"#, "x".repeat(300));
    let reason = format!(r#"{{"v":1,"verb":"thaw","reason":"{}"}}"#, "x".repeat(201));
    for line in [
        "",
        "hello",
        "[]",
        "{}",
        r#"{"v":"1","verb":"status"}"#,
        r#"{"v":1}"#,
        r#"{"v":1,"verb":"reboot"}"#,
        r#"{"v":1,"verb":"promote"}"#,
        r#"{"v":1,"verb":"ack","instance":["web"]}"#,
        r#"{"v":1,"verb":"ack","instance":""}"#,
        r#"{"v":1,"verb":"ack","instance":"a\nb"}"#,
        &long,
        r#"{"v":1,"verb":"status","instance":"web"}"#,
        r#"{"v":1,"verb":"status","sudo":true}"#,
        r#"{"v":1,"verb":"status"} {}"#,
        "\u{0}",
        r#"{"v":-1,"verb":"status"}"#,
        // What only changes take.
        r#"{"v":1,"verb":"status","dry_run":true}"#,
        r#"{"v":1,"verb":"history","wait_s":1}"#,
        r#"{"v":1,"verb":"subscribe","reason":"why not"}"#,
        r#"{"v":1,"verb":"simulate","event":{"kind":"stop"},"dry_run":true}"#,
        // Events that there are not, or not so.
        r#"{"v":1,"verb":"simulate"}"#,
        r#"{"v":1,"verb":"simulate","event":"stop"}"#,
        r#"{"v":1,"verb":"simulate","event":{"kind":"rain"}}"#,
        r#"{"v":1,"verb":"simulate","event":{"kind":"stop","host":"lb2"}}"#,
        r#"{"v":1,"verb":"simulate","event":{"kind":"peer-dead"}}"#,
        r#"{"v":1,"verb":"simulate","event":{"kind":"peer-dead","host":""}}"#,
        r#"{"v":1,"verb":"simulate","event":{"kind":"link-down","interface":"a\nb"}}"#,
        r#"{"v":1,"verb":"simulate","event":{"kind":"check","check":"a","verdict":"bad"}}"#,
        // Clearing wants to be said.
        r#"{"v":1,"verb":"set-priority","instance":"web"}"#,
        r#"{"v":1,"verb":"set-priority","instance":"web","priority":256}"#,
        // Times.
        r#"{"v":1,"verb":"drain","for_s":0}"#,
        r#"{"v":1,"verb":"drain","for_s":-1}"#,
        r#"{"v":1,"verb":"drain","for_s":1e300}"#,
        r#"{"v":1,"verb":"drain","for_s":"2h"}"#,
        r#"{"v":1,"verb":"undrain","for_s":5}"#,
        r#"{"v":1,"verb":"thaw","wait_s":3601}"#,
        // The reason becomes part of a log line.
        &reason,
        r#"{"v":1,"verb":"thaw","reason":"one\ntwo"}"#,
        r#"{"v":1,"verb":"thaw","reason":7}"#,
        r#"{"v":1,"verb":"thaw","dry_run":"yes"}"#,
    ] {
        assert_eq!(code(line.as_bytes()), Code::Malformed, "{line}");
    }
    assert_eq!(code(b"\xff\xfe\x00"), Code::Malformed);
    assert_eq!(code(br#"{"v":2,"word":"later"}"#), Code::Version);
}

#[test]
fn deep_nesting_is_an_error_not_an_overflow() {
    let line = [b"{\"v\":".as_slice(), &b"[".repeat(60_000)].concat();
    assert_eq!(code(&line), Code::Malformed);
}
