//! `vipd exec`: the process beside the agent that starts programs, with its log, signals and configuration.

use super::load;
use crate::exec::server::Executor;
use crate::exec::socket_path;
use crate::telemetry;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};

/// Serves the agents of `runtime_dir` until SIGTERM or SIGINT.
///
/// # Errors
/// When the process cannot be set up.
pub fn listen(config: &Path, host: &str, runtime_dir: &Path) -> io::Result<()> {
    with(config, host, async |executor| {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        executor.listen(&socket_path(runtime_dir), stop).await
    })
}

/// Serves the agent at the other end of standard input until it hangs up and every program has ended.
///
/// # Errors
/// When standard input is no such connection.
pub fn inherited(config: &Path, host: &str) -> io::Result<()> {
    with(config, host, async |executor| {
        let stream: std::os::unix::net::UnixStream =
            io::stdin().as_fd().try_clone_to_owned()?.into();
        // The copy is the only one: the end of this process is the end of the connection, and programs see neither.
        stream.set_nonblocking(true)?;
        stream.peer_addr().map_err(|error| {
            io::Error::other(format!("standard input is not a connection of the agent: {error}"))
        })?;
        executor.inherited(UnixStream::from_std(stream)?).await;
        Ok(())
    })
}

fn with(
    config: &Path,
    host: &str,
    serve: impl AsyncFnOnce(Executor) -> io::Result<()>,
) -> io::Result<()> {
    telemetry::init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (path, host) = (config.to_owned(), host.to_owned());
    let load = move || {
        let loaded = load::for_host(&path, &host).map_err(|error| error.to_string())?;
        Ok(loaded.meaning)
    };
    runtime.block_on(async {
        let executor = Executor::new(config, Arc::new(load))?;
        serve(executor).await
    })
}
