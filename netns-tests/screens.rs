//! What the operator reads: every screen fits 80 columns, `--watch` leaves the terminal as it was, and docs/screens.md
//! shows what the program prints.
//!
//! With `VIPD_SCREENS=FILE` (`just screens`) the file is written anew from this play.

use crate::arena::{Arena, FIRST, SECOND, wait};
use crate::health::with_checks;
use libtest_mimic::Trial;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::health::service;
use vipd_agent::lab::plan::{FlapControl, Plan};
use vipd_agent::lab::service::Mood;

pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::test("screens/fit_and_are_as_documented", || {
        screens();
        Ok(())
    })]
}

/// Widest line.
const WIDTH: usize = 80;

fn screens() {
    let mut arena =
        Arena::settled(Plan { flap_control: FlapControl::Usual, ..with_checks(vec![service()]) });
    let mut page = Page::default();
    page.chapter(
        "When all is well",
        "The owner, with a check that passes and a peer that would follow.",
    );
    let text = page.shot(&arena, FIRST, &["status"], 0);
    assert!(text.contains("healthy (exit 0)"), "{text}");
    page.chapter(
        "Why it is so",
        "The gates that a claim has to pass, asked by the same functions that decide.",
    );
    let text = page.shot(&arena, SECOND, &["why", "web"], 0);
    assert!(text.contains("-- owner") && text.contains("h1 dies: this host owns"), "{text}");

    page.chapter(
        "What would happen",
        "Played on a copy of the state; nothing happens. The owner would die right after an advert.",
    );
    let text = page.shot(&arena, SECOND, &["simulate", "peer-dead", "h1"], 0);
    assert!(text.contains("web goes from h1 to h2") && text.contains("3.61 s"), "{text}");
    page.chapter("What a drain would do", "");
    let text = page.shot(&arena, FIRST, &["simulate", "drain"], 0);
    assert!(text.contains("lose nothing"), "{text}");

    arena.stage.set_service(FIRST, Mood::Dead).unwrap();
    arena.wait_owner(SECOND);
    arena.calm();
    page.chapter(
        "A service died",
        "One frame of `vipd status --watch`, which draws in place each second until Ctrl-C. The service of the owner died,\n\
         and the peer took over.",
    );
    let frame = watch(&arena, FIRST);
    page.text("vipd status --watch", &frame);
    assert!(frame.contains("check service fail"), "{frame}");
    page.chapter("What happened", "");
    let text = page.shot(&arena, SECOND, &["history", "-n", "6"], 0);
    assert!(text.contains("active"), "{text}");

    for words in [
        "add table inet filter",
        "add chain inet filter input { type filter hook input priority 0 ; policy drop ; }",
        "add rule inet filter input ct state established,related accept",
    ] {
        arena.run(SECOND, &format!("nft {words}"));
    }
    wait(Duration::from_secs(1));
    page.chapter(
        "What works against it",
        "An ordinary closed firewall was loaded: adverts belong to no connection. Exit code 1.",
    );
    let text = page.shot(&arena, SECOND, &["doctor"], 1);
    assert!(text.contains("nftables drops adverts"), "{text}");
    arena.run(SECOND, "nft delete table inet filter");

    arena.edit_config(FIRST, |text| text.replacen("advert-interval", "advert-intervall", 1));
    page.chapter("A mistake in the file", "Place, reason and fix; exit code 3.");
    page.shot(&arena, FIRST, &["check"], 3);
    if let Some(file) = std::env::var_os("VIPD_SCREENS") {
        std::fs::write(&file, page.markdown).unwrap();
    }
    arena.stage.set_service(FIRST, Mood::Serves).unwrap();
    arena.close();
}

/// docs/screens.md as it grows.
struct Page {
    markdown: String,
}

impl Default for Page {
    fn default() -> Self {
        let head = "# Screens\n\nReal output on 80 columns, written by `just screens` from a play on two hosts that are \
                    namespaces. On a terminal it\nhas colours, unless `NO_COLOR` is set.\n";
        Self { markdown: head.into() }
    }
}

impl Page {
    fn chapter(&mut self, title: &str, text: &str) {
        self.markdown.push_str(&format!("\n## {title}\n"));
        if !text.is_empty() {
            self.markdown.push_str(&format!("\n{text}\n"));
        }
    }

    fn text(&mut self, command: &str, text: &str) {
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "wider than {WIDTH}: {line}\n{text}");
        }
        self.markdown.push_str(&format!("\n```console\n$ {command}\n{}\n```\n", text.trim_end()));
    }

    /// Runs vipd on a terminal of a host and keeps what it prints.
    fn shot(&mut self, arena: &Arena, ix: usize, verb: &[&str], code: i32) -> String {
        let (ended, drawn) = on_terminal(arena, ix, verb, None);
        assert_eq!(ended, Some(code), "{verb:?}: {drawn}");
        let dir = format!("{}/", arena.dir(ix).display());
        let text = anstream::adapter::strip_str(&drawn).to_string().replace(&dir, "/etc/vipd/");
        self.text(&format!("vipd {}", verb.join(" ")), &text);
        text
    }
}

/// Begins a frame of `--watch`.
const HOME: &str = "\x1b[H";
/// Frames come each second.
const FRAMES_BOUND: Duration = Duration::from_secs(20);

/// Runs vipd on a terminal of 80 columns, with Ctrl-C when that many frames were drawn; how it ends and what the
/// terminal gets.
fn on_terminal(
    arena: &Arena,
    ix: usize,
    verb: &[&str],
    interrupt: Option<usize>,
) -> (Option<i32>, String) {
    let vipd = arena.stage.agent(ix).vipd(verb).unwrap();
    let words = [vipd.get_program()].into_iter().chain(vipd.get_args());
    let line: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    // In place of the shell, which would take Ctrl-C as well.
    let line = format!("stty rows 40 cols 80; exec {}", line.join(" "));
    let ns = arena.stage.room().host(ix).ns().unwrap();
    ns.run(move || {
        let mut script = Command::new("script")
            .args(["-qefc", &line, "/dev/null"])
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (mut keys, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        let mut drawn = Vec::new();
        if let Some(frames) = interrupt {
            let limit = now() + FRAMES_BOUND;
            let mut part = [0; 4096];
            while String::from_utf8_lossy(&drawn).matches(HOME).count() < frames && now() < limit {
                match screen.read(&mut part)? {
                    0 => break,
                    read => drawn.extend_from_slice(&part[..read]),
                }
            }
            // Between two frames: a terminal throws away what was not read when Ctrl-C came.
            wait(Duration::from_millis(300));
            keys.write_all(b"\x03")?;
        }
        screen.read_to_end(&mut drawn)?;
        let drawn = String::from_utf8_lossy(&drawn);
        drop(keys);
        Ok((script.wait()?.code(), drawn.replace("\r\n", "\n").replace("^C", "")))
    })
    .unwrap()
}

/// The last frame of `status --watch` on a terminal that is ended by Ctrl-C.
fn watch(arena: &Arena, ix: usize) -> String {
    let (code, drawn) = on_terminal(arena, ix, &["status", "--watch"], Some(3));
    assert_eq!(code, Some(0), "{drawn:?}");
    // The alternate screen without cursor, frames from its corner, and back.
    let inside = drawn.split_once("\x1b[?1049h\x1b[?25l").unwrap().1;
    let (inside, rest) = inside.split_once("\x1b[?25h\x1b[?1049l").unwrap();
    assert_eq!(rest, "", "drawn after the end: {drawn:?}");
    let frames: Vec<&str> = inside.split(HOME).filter(|frame| !frame.is_empty()).collect();
    assert!(frames.len() >= 2, "not drawn again: {drawn:?}");
    assert!(drawn.contains("\x1b[1m"), "no colours on a terminal: {drawn:?}");
    anstream::adapter::strip_str(frames.last().unwrap()).to_string()
}
