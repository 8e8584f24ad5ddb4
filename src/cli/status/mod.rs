//! `vipd status`: the status document of the running agent, for people, for monitoring or as JSON, and its verdict as
//! exit code.

pub(super) mod screen;
mod verdict;
mod watch;

use super::screen::{BAD, Screen, show};
use super::{Exit, Failure, Place, say};
use crate::control::client;
use crate::control::socket_path;
use crate::control::status::Status;
use clap::Args;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Draw the screen again each second, in place, until Ctrl-C
    #[arg(long, conflicts_with_all = ["json", "nagios"])]
    watch: bool,
    /// Print the document as JSON
    #[arg(long, conflicts_with = "nagios")]
    json: bool,
    /// Print one line with figures and end with 0, 1, 2 or 3, as monitoring plug-ins do
    #[arg(long)]
    nagios: bool,
}

/// The status document of the agent of `place`.
pub(super) fn ask(place: &Place) -> Result<Status, Failure> {
    Ok(client::status(&socket_path(&place.runtime_dir))?)
}

/// Prints `document` for programs.
pub(super) fn say_json(document: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document).map_err(|e| Failure::new(Exit::Failed, e))?;
    say(text);
    Ok(())
}

/// `vipd status`, with an exit code of its own or of a monitoring plug-in.
///
/// # Errors
/// When there is no status to be had.
pub(super) fn run(place: &Place, args: &StatusArgs) -> Result<ExitCode, Failure> {
    if args.nagios {
        return Ok(nagios(place));
    }
    if args.watch {
        let frame = || match ask(place) {
            Ok(status) => screen::screen(&status),
            Err(failure) => unreachable(&failure),
        };
        return watch::watch(frame).map(ExitCode::from);
    }
    let status = ask(place)?;
    if args.json {
        say_json(&status)?;
    } else {
        show(&screen::screen(&status));
    }
    Ok(verdict::verdict(&status).exit.into())
}

/// A plug-in has one line and says "unknown" itself.
fn nagios(place: &Place) -> ExitCode {
    match ask(place) {
        Ok(status) => {
            let (line, code) = verdict::nagios(&status);
            say(line);
            code
        }
        Err(failure) => {
            say(format!("VIPD UNKNOWN - {}", failure.message.replace('|', "/")));
            ExitCode::from(3)
        }
    }
}

/// The frame while nobody answers: the next one may be better.
fn unreachable(failure: &Failure) -> String {
    let mut screen = Screen::default();
    screen.entry("", &failure.message, BAD);
    screen.into_text()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::control::status::{
        Alarm, Candidate, Check, Family, Flap, Hook, Instance, Moves, Owner, Path, Peer, SCHEMA,
        Scheduling, Successor, Why,
    };

    fn status() -> Status {
        let family = Family {
            family: "ipv4".into(),
            source: Some("192.0.2.12".into()),
            ..Family::default()
        };
        let web = Instance {
            name: "web".into(),
            vrid: 51,
            interface: "eth0".into(),
            state: "backup".into(),
            since_s: 273_600.0,
            cause: "the agent started".into(),
            priority: 80,
            configured_priority: 100,
            owner: Some(Owner {
                host: Some("lb2".into()),
                address: Some("192.0.2.11".into()),
                this_host: false,
            }),
            next: Some("claims in 3.61 s if no advert comes".into()),
            addresses: vec!["192.0.2.10/24".into()],
            families: vec![family],
            flap: Flap {
                penalty: Some(1200),
                moves: vec![Moves { count: 1, limit: 3, within_s: 600.0 }],
                ..Flap::default()
            },
            checks: vec!["nginx".into(), "disk".into()],
            why: Why {
                order: vec![Candidate {
                    host: "lb2".into(),
                    alive: true,
                    state: Some("active".into()),
                    class: "healthy".into(),
                    priority: 150,
                    ..Candidate::default()
                }],
                successor: Some(Successor {
                    host: "lb1".into(),
                    this_host: true,
                    after_s: 3.61,
                    activates: false,
                }),
                ..Why::default()
            },
            ..Instance::default()
        };
        let path = Path { address: "10.9.0.12".into(), heard_s: Some(0.42), hears_me: true };
        Status {
            schema: SCHEMA,
            version: "0.1.0".into(),
            cluster: "shop".into(),
            host: "lb1".into(),
            config_hash: "9f3a12bc00000000".into(),
            uptime_s: 42.0,
            scheduling: Scheduling { real_time: true, memory_locked: true, refused: None },
            instances: vec![web],
            checks: vec![
                Check {
                    name: "nginx".into(),
                    state: Some("pass".into()),
                    since_s: Some(12.0),
                    severity: "fail".into(),
                    detail: "http 127.0.0.1:80: status 503, and a body that is much longer than the line".into(),
                    last: Some("fail".into()),
                    last_s: Some(0.4),
                    progress: Some((2, 3)),
                    unknown: false,
                },
                Check { name: "disk".into(), severity: "degrade".into(), ..Check::default() },
            ],
            replicator: None,
            peers: vec![Peer {
                host: "lb2".into(),
                alive: true,
                version: "0.1.0".into(),
                paths: vec![path],
            }],
            interfaces: vec![],
            alarms: vec![],
            hooks: vec![Hook {
                name: "push".into(),
                instance: "web".into(),
                event: "sync-change".into(),
                outcome: "failed".into(),
                told: "ended with code 12: connection refused".into(),
                age_s: 2.0,
                failures: 3,
                rpo_s: Some(4.25),
                generation: Some("g7".into()),
                ..Hook::default()
            }],
            counters: [].into(),
        }
    }

    #[test]
    fn reads_well_on_80_columns() {
        let coloured = screen::screen(&status());
        let text = anstream::adapter::strip_str(&coloured).to_string();
        assert!(coloured.len() > text.len(), "no colours");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for wanted in [
            "web       BACKUP  3d04h  80/100    lb2    this host in 3.6s",
            "others  lb2 active 150 healthy",
            "checks  nginx pass (fail 2/3), disk not yet",
            "! check nginx fail for 12s (fail): http 127.0.0.1:80",
            "pushes  push at most 4.2s behind, generation g7",
            "! hook push on sync-change ended with code 12: connection refused (3 times),",
            "moves   1 of 3 in 10m00s, penalty 1200",
            "peer lb2  alive: 10.9.0.12 heard 0.4s ago, hears us",
            "next    claims in 3.61 s",
            "LAST  3d04h ago, web became backup: the agent started",
            "STATE healthy (exit 0)",
        ] {
            assert!(text.contains(wanted), "{wanted}\n{text}");
        }
    }

    #[test]
    fn verdict_is_the_worst_and_says_why() {
        let verdict = |s: &Status| verdict::verdict(s).exit;
        let mut s = status();
        assert_eq!(verdict(&s), Exit::Done);
        s.peers[0].paths[0].hears_me = false;
        assert_eq!(verdict(&s), Exit::Degraded);
        s.instances[0].owner = None;
        assert_eq!(verdict(&s), Exit::NobodyActive);
        assert_eq!(
            verdict::verdict(&s).reasons,
            ["nobody owns web", "the path to lb2 over 10.9.0.12 is cut"]
        );
        s.instances[0].alarms.push(Alarm { code: "dual-active".into(), message: "two".into() });
        assert_eq!(verdict(&s), Exit::DualActive);
    }

    #[test]
    fn monitoring_gets_one_line_with_figures() {
        let mut s = status();
        let (line, code) = verdict::nagios(&s);
        assert_eq!(
            line,
            "VIPD OK - web backup | 'web_ipv4_active'=0;;;0;1 'web_ipv4_priority'=80;;;0;255 \
             'web_ipv4_since'=273600s;;;0 peers=1;;;0;1 uptime=42s;;;0"
        );
        assert_eq!(code, ExitCode::from(0));
        s.peers[0].alive = false;
        assert_eq!(verdict::nagios(&s).1, ExitCode::from(1));
        s.instances[0].owner = None;
        let (line, code) = verdict::nagios(&s);
        assert!(
            line.starts_with("VIPD CRITICAL - nobody owns web, peer lb2 is silent |"),
            "{line}"
        );
        assert_eq!(code, ExitCode::from(2));
    }
}
