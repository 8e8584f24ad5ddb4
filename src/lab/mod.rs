//! Hosts, switches and a client in namespaces, with real agents and real faults.
//!
//! Three callers share these rooms: `vipd lab`, the namespace tests and the benches. The lab looks at
//! agents only from outside (their processes, the address tables of their hosts, the client's
//! packets) and never uses the agent's own modules.
//!
//! ```text
//! room        namespaces, nothing gets out        stage     everything together, and the journal
//! netns       one machine                         scene     the table of scenarios
//! topology    switches, hosts, client             play      plays them, one row each
//! faults      power, cables, switches             timeline  live lines
//! agent, frr  vipd or another on a host           screen    table and JSON
//! replicator  what keeps its state files in step
//! probe       what the client sees                args      options of `vipd lab`
//! observe     what the hosts' kernels say         visit     shell and --keep
//! health      what the agents look at             service   what the address is there for
//! ```

pub mod agent;
pub mod args;
pub mod clock;
mod echo;
pub mod faults;
mod frr;
pub mod health;
pub mod journal;
pub mod netlink;
pub mod netns;
pub mod observe;
pub mod outage;
pub mod ownership;
pub mod plan;
pub mod play;
pub mod probe;
pub mod processes;
pub mod replicator;
pub mod room;
pub mod scene;
pub mod screen;
pub mod service;
pub mod stage;
pub mod timeline;
pub mod topology;
mod visit;

pub use args::LabArgs;

use anyhow::Context as _;
use play::Player;
use room::Room;
use screen::Paint;
use stage::Stage;
use std::io::Write as _;
use std::process::ExitCode;
use timeline::Timeline;

/// `vipd lab`. Must be called while the process has one thread; it starts the program again with the
/// same arguments, which must lead here again.
///
/// The exit code is 0 when every scene came out as it must, 1 when one did not.
///
/// # Errors
/// When the room cannot be made (the text says what allows it), a scenario is unknown, or a scene
/// cannot be played.
pub fn run(args: &LabArgs) -> anyhow::Result<ExitCode> {
    let programme = scene::programme(&args.scenarios)?;
    if let Room::Done(code) = Room::enter()? {
        return Ok(code);
    }
    let mut stage = Stage::set(args.plan(), &args.kind()?)?;
    if let Some(host) = &args.shell {
        let ix = stage.host_named(host)?;
        stage.start_all()?;
        return visit::shell(&stage, ix);
    }
    let (paint, start) = (Paint::detect(), clock::now());
    let timeline = if args.json { None } else { Some(Timeline::follow(&stage, paint)?) };
    let mut player = Player::default();
    let mut rows = Vec::with_capacity(programme.len());
    for scene in programme {
        let row =
            player.play(&mut stage, scene).with_context(|| format!("scenario {}", scene.name));
        rows.push(row?);
    }
    drop(timeline);
    let events = if args.json { timeline::entries(&stage, start) } else { Vec::new() };
    let mut out = std::io::stdout().lock();
    if args.json {
        screen::json(&mut out, args, &rows, &events)?;
    } else {
        screen::table(&mut out, &rows, paint)?;
    }
    out.flush()?;
    let failed = !rows.iter().all(play::Row::is_as_expected);
    if failed && !args.json {
        writeln!(out, "\nthe agents said last:\n{}", stage.logs(10))?;
    }
    drop(out);
    if args.keep {
        visit::keep(&stage)?;
    }
    Ok(ExitCode::from(u8::from(failed)))
}
