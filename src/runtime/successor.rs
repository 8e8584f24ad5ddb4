//! The program that goes on in the place of this one: the one that is installed now, with the arguments of this one.
//!
//! Used by the main thread at a planned restart (DESIGN 5.7): asked whether it would run at all before anything is
//! prepared, and become at the very end.

use super::agent::Options;
use super::{keys, load};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::execv;
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// A program that does not answer by then does not run.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who goes on.
#[derive(Clone, Debug)]
pub(super) struct Successor {
    program: PathBuf,
    args: Vec<OsString>,
    options: Options,
}

impl Successor {
    /// Of this process. To be called at start, while the file that it runs still has its name.
    pub(super) fn new(options: &Options) -> Self {
        let mut args = std::env::args_os();
        let named = args.next().map(PathBuf::from).filter(|name| name.components().count() > 1);
        // A name without a folder was looked up somewhere.
        let program = named.or_else(|| std::env::current_exe().ok());
        let program = program.unwrap_or_else(|| PathBuf::from("/usr/bin/vipd"));
        Self { program, args: args.collect(), options: options.clone() }
    }

    /// Would it run, with this configuration? Gives what it calls itself.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub(super) async fn check(&self) -> Result<String, String> {
        let version = self.ask(&["--version".into()]).await?;
        let Options { config, host, .. } = &self.options;
        let args = ["--host".into(), host.into(), "check".into(), config.clone().into_os_string()];
        self.ask(&args).await?;
        let Options { config, host, .. } = self.options.clone();
        let keys = tokio::task::spawn_blocking(move || {
            let loaded = load::for_host(&config, &host).map_err(|error| error.to_string())?;
            keys::secrets(&loaded.meaning).map(drop).map_err(|error| error.to_string())
        });
        keys.await.map_err(|error| error.to_string())??;
        Ok(version.trim().to_owned())
    }

    async fn ask(&self, args: &[OsString]) -> Result<String, String> {
        let program = self.program.display();
        let child = Command::new(&self.program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .output();
        let refused = |why: &str| format!("{program} cannot take over: {why}; mend it first");
        let output = match tokio::time::timeout(PATIENCE, child).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(refused(&error.to_string())),
            Err(_) => return Err(refused(&format!("it says nothing for {PATIENCE:?}"))),
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(refused(&format!("{}: {}", output.status, said.trim())))
    }

    /// Becomes it; returns only when that failed.
    pub(super) fn become_it(&self) -> io::Error {
        let word = |word: OsString| CString::new(word.into_vec());
        let words = std::iter::once(self.program.clone().into_os_string())
            .chain(self.args.iter().cloned())
            .map(word)
            .collect::<Result<Vec<_>, _>>();
        let words = match words {
            Ok(words) => words,
            Err(error) => return error.into(),
        };
        let Some(program) = words.first() else { return io::ErrorKind::InvalidInput.into() };
        // Not std's way, which would let waiting signals kill the new program before it listens.
        match execv(program, &words) {
            Ok(never) => match never {},
            Err(errno) => errno.into(),
        }
    }
}

/// What the main thread listens to.
fn awaited() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect()
}

/// Signals wait from here on, over exec as well; threads that this one starts inherit that.
pub(super) fn hold_signals() {
    // Fails for no set of signals.
    let _ = awaited().thread_block();
}

/// This thread listens now: what has waited, for this program or the one before it, is delivered.
pub(super) fn welcome_signals() {
    let _ = awaited().thread_unblock();
}
