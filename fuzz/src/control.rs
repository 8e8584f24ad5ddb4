//! The control socket: a request as the agent reads it, and an answer as a client does.
//!
//! Called by the fuzz target, and with the committed corpus by the tests of `vipd`.

use vipd_agent::control::client::{ClientError, understood};
use vipd_agent::control::protocol::{Body, Code, LONGEST_REASON, parse};

/// A line.
pub fn control(data: &[u8]) {
    match parse(data) {
        Ok(request) => {
            let line = serde_json::to_vec(&request).expect("requests are JSON");
            // Numbers may lose their last bit on the way.
            let again = parse(&line).map(|again| (again.verb.word(), again.how.reason));
            assert_eq!(again, Ok((request.verb.word(), request.how.reason.clone())));
            assert!(request.verb.changes() || request.how == Default::default());
            let reason = request.how.reason.unwrap_or_default();
            assert!(reason.chars().count() <= LONGEST_REASON && !reason.contains('\n'));
        }
        Err(answer) => {
            let line = String::from_utf8(answer.line()).expect("answers are text");
            assert_eq!(line.matches('\n').count(), 1);
            let Err(ClientError::Refused(complaint)) = understood(&line) else {
                panic!("a complaint that no client understands: {line}");
            };
            assert!(matches!(complaint.code, Code::Malformed | Code::Version));
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(answer) = understood(text) {
        assert!(!matches!(answer.body, Body::Error(_)));
        let line = String::from_utf8(answer.line()).expect("answers are text");
        assert!(understood(&line).is_ok(), "{line}");
    }
}
