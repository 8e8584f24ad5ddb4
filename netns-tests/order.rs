//! What an operator types on a host, and what came of it.

use crate::arena::Arena;
use serde_json::Value;
use std::process::{Child, Stdio};

/// An answer of the command line.
#[derive(Debug)]
pub(crate) struct Told {
    /// Exit code.
    pub(crate) code: i32,
    /// Both outputs.
    pub(crate) text: String,
}

impl Arena {
    /// Types a command of vipd on a host and reads to its end.
    pub(crate) fn order(&self, ix: usize, words: &[&str]) -> Told {
        end(self.begin(ix, words))
    }

    /// The same; it must end with 0.
    pub(crate) fn done(&self, ix: usize, words: &[&str]) -> String {
        let Told { code, text } = self.order(ix, words);
        assert_eq!(code, 0, "{words:?} on h{}: {text}\n{}", ix + 1, self.stage.logs(20));
        text
    }

    /// Types a command of vipd on a host and does not wait.
    pub(crate) fn begin(&self, ix: usize, words: &[&str]) -> Child {
        let mut command = self.stage.agent(ix).vipd(words).expect("an agent that is vipd");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = self.stage.room().host(ix).ns().unwrap().run(move || Ok(command.spawn()?));
        started.unwrap()
    }

    /// The documents of `vipd history --json` on a host.
    pub(crate) fn history(&self, ix: usize) -> Vec<Value> {
        documents(&self.done(ix, &["history", "--json"]))
    }
}

/// What came of a command that was begun; -1: it was killed, or ended with the power of its host.
pub(crate) fn end(child: Child) -> Told {
    let output = match child.wait_with_output() {
        Ok(output) => output,
        // Who cuts the power waits for all that ran there.
        Err(e) if e.raw_os_error() == Some(nix::libc::ECHILD) => {
            return Told { code: -1, text: String::new() };
        }
        Err(e) => panic!("{e}"),
    };
    let text = [output.stdout, output.stderr].concat();
    let code = output.status.code().unwrap_or(-1);
    Told { code, text: String::from_utf8_lossy(&text).into_owned() }
}

/// One document a line.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}
