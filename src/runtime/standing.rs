//! Which configuration is in force, what is wrong with the file if something is, and the copy of the last good one.
//!
//! The main thread writes, the control socket and monitoring read. The copy lets a restart with a bad file go on
//! (DESIGN 5.16); it is the operator's file word for word, so it names key files and holds no key.

use super::agent::Options;
use super::load::{self, LoadError, Loaded};
use crate::sys::file;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vipd_core::config::model::Model;
use vipd_core::types::InstanceIx;

/// The copy, in the state folder.
const FILE: &str = "last-good.toml";
/// How its first line begins; the path of the original follows.
const MARK: &str = "# The configuration that vipd used last, a copy of ";
/// No configuration is longer, octets.
const LONGEST: u64 = 16 << 20;

/// What is in force. A clone is the same.
#[derive(Clone, Debug)]
pub(super) struct InForce(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    model: Arc<Model>,
    /// The text that it was read from.
    text: Arc<str>,
    trouble: Option<String>,
}

impl InForce {
    /// `model`, read from `text`, is in force; `trouble`: why the file is not used.
    pub(super) fn new(model: Arc<Model>, text: Arc<str>, trouble: Option<String>) -> Self {
        Self(Arc::new(Mutex::new(State { model, text, trouble })))
    }

    /// What is in force now.
    pub(super) fn model(&self) -> Arc<Model> {
        Arc::clone(&self.lock().model)
    }

    /// The text of it: what the other hosts make of the file.
    pub(super) fn text(&self) -> Arc<str> {
        Arc::clone(&self.lock().text)
    }

    /// Where the instance called `name` is in it.
    pub(super) fn instance(&self, name: &str) -> Option<InstanceIx> {
        let model = self.model();
        model.iter().find(|(_, instance)| *instance.name == *name).map(|(ix, _)| ix)
    }

    /// Another one is in force.
    pub(super) fn replace(&self, model: Arc<Model>, text: Arc<str>) {
        let mut state = self.lock();
        (state.model, state.text) = (model, text);
    }

    /// Why the file is not used, in one line.
    pub(super) fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// The file is not used for this reason, or is used again; true: that is news.
    pub(super) fn set_trouble(&self, trouble: Option<String>) -> bool {
        let mut state = self.lock();
        let news = state.trouble != trouble;
        state.trouble = trouble;
        news
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the agent starts with: the file, or the copy of the last good one, and then why.
pub(super) struct Start {
    /// What it means.
    pub loaded: Loaded<Model>,
    /// Why the file is not used: in one line, and in full.
    pub trouble: Option<(String, String)>,
}

/// Reads the file, or where it cannot be used the copy that an earlier run kept of it.
///
/// # Errors
/// When there is no such copy either: those of the file.
pub(super) fn start(options: &Options) -> Result<Start, LoadError> {
    let Options { config, host, state_dir, .. } = options;
    let error = match load::for_host(config, host) {
        Ok(loaded) => return Ok(Start { loaded, trouble: None }),
        Err(error) => error,
    };
    let copy = last_good(state_dir, config);
    let Some(loaded) = copy.and_then(|text| load::of_text(text, config, host).ok()) else {
        return Err(error);
    };
    let trouble = Some((error.summary(), error.to_string()));
    Ok(Start { loaded, trouble })
}

/// The file that the last agent of `state_dir` used last, if that was the one called `config`.
pub fn last_good(state_dir: &Path, config: &Path) -> Option<String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(state_dir.join(FILE))
        .ok()?;
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    let (first, rest) = text.split_once('\n')?;
    (first.strip_prefix(MARK)? == identity(config)).then(|| rest.to_owned())
}

/// How the copy names its original.
fn identity(config: &Path) -> String {
    let path = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
    path.display().to_string().escape_debug().to_string()
}

/// Keeps `text` as the last good one, on the disk when it returns; nothing when it is there already. Blocks.
///
/// # Errors
/// When the folder cannot be written; the copy before stays.
pub(super) fn keep(state_dir: &Path, config: &Path, text: &str) -> io::Result<()> {
    if last_good(state_dir, config).as_deref() == Some(text) {
        return Ok(());
    }
    let content = format!("{MARK}{}\n{text}", identity(config));
    file::replace_durably(&state_dir.join(FILE), content, 0o600)
}

/// Keeps copies, one after the other, the newest last, and never waits for the disk.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    state_dir: PathBuf,
    config: PathBuf,
    newest: Arc<Mutex<Option<Arc<str>>>>,
    /// Held while one is written.
    turn: Arc<Mutex<()>>,
}

impl Keeper {
    /// For the file and the state folder of `options`.
    pub(super) fn new(options: &Options) -> Self {
        let Options { config, state_dir, .. } = options;
        let (state_dir, config) = (state_dir.clone(), config.clone());
        Self { state_dir, config, newest: Arc::default(), turn: Arc::default() }
    }

    /// Keeps `text`. Inside a tokio runtime.
    pub(super) fn keep(&self, text: Arc<str>) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            let _turn = this.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let newest = this.newest.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(text) = newest else { return };
            if let Err(error) = keep(&this.state_dir, &this.config, &text) {
                tracing::warn!(
                    "{}: {error}; a restart with a bad configuration file would not start: make the folder writable",
                    this.state_dir.join(FILE).display()
                );
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const GOOD: &str = "[hosts.lb1]\n[instance.web]\nvrid = 51\ninterface = \"eth0\"\n\
                        addresses = [\"192.0.2.10/24\"]\n";

    fn options(folder: &tempfile::TempDir) -> Options {
        let folder = folder.path();
        Options {
            config: folder.join("vipd.toml"),
            host: "lb1".into(),
            runtime_dir: folder.into(),
            state_dir: folder.into(),
        }
    }

    #[test]
    fn a_bad_file_starts_with_the_last_good_one_of_that_path() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(&folder);
        std::fs::write(&options.config, "vrid = ").unwrap();
        assert!(start(&options).is_err(), "there is none yet");
        keep(&options.state_dir, &options.config, GOOD).unwrap();
        let begun = start(&options).unwrap_or_else(|e| panic!("{e}"));
        let (line, full) = begun.trouble.unwrap();
        assert!(line.contains("vipd.toml:1") && full.contains("fix:"), "{line}\n{full}");
        assert_eq!(begun.loaded.meaning.instances.len(), 1);
        let mode = std::fs::metadata(options.state_dir.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = Options { config: "/nowhere/vipd.toml".into(), ..options };
        assert!(start(&other).is_err(), "the copy is of another file");
    }

    #[test]
    fn a_copy_that_makes_no_sense_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(&folder);
        std::fs::write(&options.config, "vrid = ").unwrap();
        keep(&options.state_dir, &options.config, "also = bad").unwrap();
        assert!(start(&options).is_err());
        std::fs::write(options.state_dir.join(FILE), [0xff, 0xfe]).unwrap();
        assert!(start(&options).is_err());
    }
}
