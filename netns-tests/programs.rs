//! Programs of the operator for trials: shell scripts that hosts run, and what these wrote.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::room::FILES;
use vipd_core::time::Instant;

/// A shell script that only its owner may change, and whose folder as well.
pub(crate) fn script(name: &str, body: &str) -> String {
    let folder = Path::new(FILES).join("programs");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join(name);
    std::fs::write(&file, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    file.to_str().unwrap().to_owned()
}

/// A hook that the packages bring, where only its owner may change it.
pub(crate) fn shipped(name: &str) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/hooks").join(name);
    let text = std::fs::read_to_string(&source).unwrap();
    script(name, text.strip_prefix("#!/bin/sh\n").unwrap())
}

/// An empty folder in which every user may write.
pub(crate) fn notes() -> PathBuf {
    let folder = Path::new(FILES).join("notes");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o1777)).unwrap();
    folder
}

/// The lines of a file; none when it is not there.
pub(crate) fn lines(file: &Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Waits until a file is there; when it was.
pub(crate) fn wait_file(file: &Path, bound: Duration) -> Option<Instant> {
    let limit = now() + bound;
    while !file.exists() {
        if now() > limit {
            return None;
        }
        crate::arena::wait(Duration::from_millis(5));
    }
    Some(now())
}
