//! Visitors: a shell on a host, and a room that stays up.

use super::room;
use super::stage::Stage;
use super::topology::CLIENT;
use anyhow::Context as _;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io::Write as _;
use std::process::{Command, ExitCode};

/// Opens the user's shell on a host and waits for its end; the code is the shell's.
pub(super) fn shell(stage: &Stage, ix: usize) -> anyhow::Result<ExitCode> {
    let host = stage.room().host(ix);
    let mut out = std::io::stdout().lock();
    writeln!(out, "A shell on {}; the room ends with it.", host.name())?;
    if let Some(status) = stage.agent(ix).vipd(&["status"]) {
        let words: Vec<_> = std::iter::once(status.get_program())
            .chain(status.get_args())
            .map(|w| w.to_string_lossy())
            .collect();
        writeln!(out, "Try: {}", words.join(" "))?;
    }
    out.flush()?;
    drop(out);
    let program = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let mut command = Command::new(&program);
    command.env_remove(room::INSIDE).env("VIPD_LAB_HOST", host.name());
    let child = host.ns()?.run(move || Ok(command.spawn()?));
    let child = child.with_context(|| format!("cannot start {}", program.display()))?;
    let pid = Pid::from_raw(i32::try_from(child.id()).context("process id out of range")?);
    loop {
        match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(u8::try_from(code).unwrap_or(1).into()),
            Ok(WaitStatus::Signaled(..)) => return Ok(ExitCode::FAILURE),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e).context("cannot wait for the shell"),
        }
    }
}

/// Says how to enter, and stays until a signal ends the room.
pub(super) fn keep(stage: &Stage) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nThe room stays until Ctrl-C. To enter a machine, from another terminal:")?;
    let hosts = stage.room().hosts().iter().filter(|h| h.is_on());
    for name in hosts.map(super::topology::Host::name).chain([CLIENT]) {
        let Some((pid, tid)) = room::seen_from_outside(&format!("lab-{name}")) else { continue };
        let ns = format!("/proc/{pid}/task/{tid}/ns");
        let user = if room::is_unprivileged() { " -U --preserve-credentials" } else { "" };
        writeln!(out, "  {name}: nsenter -t {pid}{user} -m -p --net={ns}/net --uts={ns}/uts")?;
    }
    out.flush()?;
    drop(out);
    loop {
        std::thread::park();
    }
}
